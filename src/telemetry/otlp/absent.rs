//! The placeholder for the exporter in a build without the feature `otlp`; it can't be created.

use std::convert::Infallible;

use super::{ExportError, Settings};
use crate::telemetry::span::Span;

pub(super) enum Exporter {}

impl Exporter {
    pub(super) fn new(_: &Settings) -> Result<Self, ExportError> {
        Err(ExportError::NotBuilt)
    }

    #[expect(clippy::unused_async, reason = "the real one awaits")]
    pub(super) async fn export(&self, _: &mut Vec<Span>) -> Result<(), Infallible> {
        match *self {}
    }
}
