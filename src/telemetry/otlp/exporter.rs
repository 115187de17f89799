//! Sends batches of spans as OTLP in protobuf.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::SpanExporter as _;

use super::{ExportError, Settings, client, convert};
use crate::telemetry::span::Span;

/// Timeout of one message, including retries.
pub(super) const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Exporter(SpanExporter);

impl Exporter {
    pub(super) fn new(settings: &Settings) -> Result<Self, ExportError> {
        let authorization = settings.authorization.clone();
        let headers = authorization.map(|value| ("authorization".to_owned(), value.into_inner()));
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client::Client::new(settings.tls.clone()))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", settings.endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .with_headers(headers.into_iter().collect::<HashMap<_, _>>())
            .build()
            .map_err(|error| ExportError::Exporter(error.to_string()))?;
        exporter.set_resource(&convert::resource(settings.service_name.clone()));
        Ok(Self(exporter))
    }

    /// Sends the spans, and empties the vector.
    pub(super) async fn export(&self, spans: &mut Vec<Span>) -> Result<(), impl Display + use<>> {
        self.0.export(spans.drain(..).map(convert::span).collect()).await
    }
}
