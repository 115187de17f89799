//! The upstreams of a pool in a scope's card: which ones get requests, and why others get none.

use maud::{Markup, html};

use super::sections::the_rest;
use super::tables::{figure, heads};
use super::{clock_time, level_class, symbol};
use crate::admin::status::{LimitStatus, UpstreamState, UpstreamStatus};
use crate::admin::verdict::Level;
use crate::admin::words::{amount, duration};

/// The most upstreams on a card, those that are out first; `/status` has all.
const MOST: usize = 16;

pub(super) fn upstreams(upstreams: &[UpstreamStatus]) -> Markup {
    let mut shown: Vec<&UpstreamStatus> = upstreams.iter().collect();
    shown.sort_by_key(|upstream| (upstream.state == UpstreamState::Serving, upstream.priority));
    html! {
        @if !upstreams.is_empty() {
            table.stack role="table" {
                (heads(&[("Upstream", false), ("State", false), ("Limits", false), ("Under way", true), ("Attempts", true)]))
                tbody role="rowgroup" { @for upstream in shown.iter().take(MOST) { (row(upstream)) } }
            }
            (the_rest(upstreams.len(), MOST, "upstreams"))
        }
    }
}

fn row(upstream: &UpstreamStatus) -> Markup {
    let (level, words) = state(upstream);
    let limits: Vec<String> = upstream.limits.iter().map(limit).collect();
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                (upstream.name) " " span.muted { "priority " (upstream.priority) }
            }
            td role="cell" data-name="State" {
                span.(level_class(level)) { span.symbol aria-hidden="true" { (symbol(level)) } " " (words) }
            }
            td role="cell" data-name="Limits" { (if limits.is_empty() { "none known yet".to_owned() } else { limits.join(", ") }) }
            (figure("Under way", &amount(upstream.in_flight as f64)))
            (figure("Attempts", &amount(upstream.attempts as f64)))
        }
    }
}

fn limit(limit: &LimitStatus) -> String {
    format!("{} of {} {}", amount(limit.used), amount(limit.limit), limit.name)
}

fn state(upstream: &UpstreamStatus) -> (Level, String) {
    let since =
        upstream.since.as_deref().map(|since| format!(" since {}", clock_time(since))).unwrap_or_default();
    let because = upstream.because.as_deref().map(|because| format!(": {because}")).unwrap_or_default();
    let next = upstream.next_probe_seconds.map(|next| format!("; next probe in {}", duration(next)));
    let next = next.unwrap_or_default();
    match upstream.state {
        UpstreamState::Serving => (Level::Ok, "Serving".to_owned()),
        UpstreamState::Thinning => (Level::Warning, format!("Failing in part{because}")),
        UpstreamState::Failing => (Level::Warning, format!("Out{since}, failing{because}{next}")),
        UpstreamState::Refused => (Level::Warning, format!("Out{since}, refusing{because}{next}")),
    }
}
