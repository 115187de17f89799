//! Formats log events.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{Compact, DefaultFields, Format as Plain, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::ACCESS_LOG;

/// Formats access lines unchanged, and all others as `tracing-subscriber` does.
pub(super) struct Format {
    text: Plain<Compact>,
    json: Option<Plain<Json>>,
}

impl Format {
    pub(super) fn new(json: bool, color: bool) -> Self {
        let plain = Plain::default().with_ansi(color);
        let json = json.then(|| plain.clone().json().flatten_event(true));
        Self { text: plain.compact(), json }
    }
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() == ACCESS_LOG {
            let mut line = Line { writer: &mut writer, result: Ok(()) };
            event.record(&mut line);
            line.result?;
            return writeln!(writer);
        }
        match &self.json {
            Some(json) => json.format_event(context, writer, event),
            None => self.text.format_event(context, writer, event),
        }
    }
}

/// The fields of a span, formatted for the lines inside it.
pub(super) enum Fields {
    Json(JsonFields),
    Text(DefaultFields),
}

impl Fields {
    pub(super) fn new(json: bool) -> Self {
        if json { Self::Json(JsonFields::new()) } else { Self::Text(DefaultFields::new()) }
    }
}

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        match self {
            Self::Json(json) => json.format_fields(writer, fields),
            Self::Text(text) => text.format_fields(writer, fields),
        }
    }
}

/// Writes an event's message and nothing else.
struct Line<'a, 'writer> {
    writer: &'a mut Writer<'writer>,
    result: fmt::Result,
}

impl Visit for Line<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" && self.result.is_ok() {
            self.result = write!(self.writer, "{value:?}");
        }
    }
}
