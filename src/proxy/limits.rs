//! From the upstream's words about its limits to what admission understands.

use crate::admission::{LimitReport, LimitReports, RefusalNumbers, Slot};
use crate::openai::{Dimension, DimensionHeaders, LimitHeaders, LimitRefusal};

/// What the limit headers say of requests and tokens. A project's token limit counts where it is the tighter one.
pub(super) fn reports(headers: &LimitHeaders) -> LimitReports {
    let tokens = match (headers.tokens, headers.project_tokens) {
        (Some(organization), Some(project)) if project.remaining < organization.remaining => Some(project),
        (organization, project) => organization.or(project),
    };
    LimitReports { requests: headers.requests.map(report), tokens: tokens.map(report) }
}

/// The numbers of a refusal, if it names a limit that admission keeps.
pub(super) fn numbers(refusal: &LimitRefusal) -> Option<RefusalNumbers> {
    let slot = match refusal.dimension {
        Dimension::RequestsPerMinute => Slot::RequestsPerMinute,
        Dimension::TokensPerMinute => Slot::TokensPerMinute,
        Dimension::RequestsPerDay => Slot::RequestsPerDay,
        Dimension::TokensPerDay => Slot::TokensPerDay,
        Dimension::ImagesPerMinute | Dimension::AudioPerMinute | Dimension::Other => return None,
    };
    Some(RefusalNumbers {
        slot,
        limit: refusal.limit?,
        used: refusal.used,
        requested: refusal.requested,
        wait: refusal.wait,
        apart: refusal.long_context,
    })
}

fn report(headers: DimensionHeaders) -> LimitReport {
    LimitReport { limit: headers.limit, remaining: headers.remaining, reset: headers.reset }
}
