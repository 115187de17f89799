//! Errors by class with their explanation, and the last failure of each kind with its report.

use maud::{Markup, html};

use super::clock_time;
use super::sections::section;
use super::sparkline::sparkline;
use super::tables::{figure, heads};
use crate::admin::status::{ErrorStatus, FailureLine};
use crate::admin::words::{amount, join};

/// The most failures on the page; `/reports` has all.
const MOST_FAILURES: usize = 20;

pub(super) fn errors(errors: &[ErrorStatus]) -> Markup {
    section(
        "errors",
        "Errors of the last hour",
        &html! {
            @if errors.is_empty() {
                p.card.muted { "None." }
            } @else {
                table.stack.errors role="table" {
                    (heads(&[
                        ("Class", false), ("Upstream said", true), ("Callers saw", true), ("Last 60 minutes", false),
                        ("Cause and what to do", false),
                    ]))
                    tbody role="rowgroup" { @for error in errors { (error_row(error)) } }
                }
            }
        },
    )
}

fn error_row(error: &ErrorStatus) -> Markup {
    let who = join(error.callers.iter().map(|met| met.name.as_str()));
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                code { (error.class) }
                @if !who.is_empty() { " " span.muted { "5 min: " (who) } }
            }
            (figure("Upstream said", &amount(error.attempts as f64)))
            (figure("Callers saw", &amount(error.requests as f64)))
            td.hour role="cell" { (sparkline(&error.minutes)) span.muted { (last_seen(error)) } }
            td.words role="cell" {
                p { (error.cause) }
                p { b { "What to do:" } " " (error.solution) }
                p.muted { b { "Weir:" } " " (error.weir_does) }
            }
        }
    }
}

fn last_seen(error: &ErrorStatus) -> String {
    let exact = error.callers.iter().min_by(|one, two| one.last_seconds.total_cmp(&two.last_seconds));
    match (exact, error.last_seen_minutes) {
        (Some(met), _) => format!("last at {}", clock_time(&met.last)),
        (None, 1) => "last seen a minute ago".to_owned(),
        (None, minutes) => format!("last seen {minutes} min ago"),
    }
}

pub(super) fn failures(failures: &[FailureLine]) -> Markup {
    section(
        "failures",
        "Last failure of each kind",
        &html! {
            @if failures.is_empty() {
                p.card.muted { "No error has reached a caller." }
            } @else {
                table.stack.failures role="table" {
                    (heads(&[
                        ("Error", false), ("Caller", false), ("Times", true), ("Last", false), ("Model", false), ("Request", false),
                        ("Message", false),
                    ]))
                    tbody role="rowgroup" { @for failure in failures.iter().take(MOST_FAILURES) { (failure_row(failure)) } }
                }
                p.muted { "A request’s report has its attempts with the upstream’s x-request-id, ready to paste for OpenAI’s support." }
            }
        },
    )
}

fn failure_row(failure: &FailureLine) -> Markup {
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                code { (failure.class) }
                @if let Some(status) = failure.status { " " span.muted { (status) } }
            }
            td role="cell" data-name="Caller" { (failure.caller) }
            (figure("Times", &amount(failure.occurrences as f64)))
            td role="cell" data-name="Last" { time datetime=(failure.time) { (clock_time(&failure.time)) } }
            td role="cell" data-name="Model" { (failure.model.as_deref().unwrap_or("–")) }
            td role="cell" data-name="Request" {
                a href={ "/reports/" (failure.id) } { (failure.request_id) }
                @if let Some(id) = &failure.upstream_request_id { " " span.muted { "upstream " (id) } }
            }
            td.words role="cell" data-name="Message" { (failure.message) }
        }
    }
}
