//! The exporter's HTTP client: hyper, with a new connection for each message.
//!
//! Messages are seconds apart; a kept connection would usually be closed by then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::exporter::EXPORT_TIMEOUT;
use crate::{clock, http_client};

/// The maximum size of a collector's response, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) struct Client {
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    pub(super) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        // Only HTTP/1.1 is supported.
        let tls = tls.map(|tls| {
            let mut tls = ClientConfig::clone(&tls);
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(tls)
        });
        Self { tls }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        let host = uri.host().ok_or("the endpoint has no host")?;
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await?;
        if !secure {
            return http_client::exchange(stream, request, MAX_ANSWER).await;
        }
        let tls = self.tls.clone().ok_or("https is not set up")?;
        let name = ServerName::try_from(bare.to_owned())?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        http_client::exchange(stream, request, MAX_ANSWER).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("tls", &self.tls.is_some()).finish()
    }
}

/// Written like the expansion of `async_trait`, to avoid that dependency.
impl HttpClient for Client {
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        Box::pin(async move {
            let until = clock::now() + EXPORT_TIMEOUT;
            clock::timeout_at(until, self.send(request)).await.map_err(|_| "no response in time")?
        })
    }
}
