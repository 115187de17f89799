//! The sections of the page, from the verdict to the details.

use maud::{Markup, html};

use super::errors::{errors, failures};
use super::tables::queue;
use super::upstreams::upstreams;
use super::{announced, blame_word, clock_time, level_class, level_word, symbol, title};
use crate::admin::status::{BreakerState, LimitStatus, ScopeStatus, Status};
use crate::admin::verdict::{Finding, Level};
use crate::admin::words::{amount, duration, fill, shared_by, short};
use crate::classify::ErrorClass;
use crate::metrics::Slowness;

/// The most scopes on the page; `/status` has all.
const MOST_SCOPES: usize = 24;
/// The used fraction from which a limit is marked.
const NEAR_LIMIT: f64 = 0.9;

pub(super) fn all(status: &Status) -> Markup {
    html! {
        (verdict(status))
        (tiles(status))
        (limits(&status.scopes, &status.paces))
        (queue(&status.callers))
        (errors(&status.errors))
        (failures(&status.failures))
        (fine_print(status))
    }
}

fn verdict(status: &Status) -> Markup {
    let Some((first, more)) = status.findings.split_first() else { return html! {} };
    html! {
        section.verdict.(level_class(first.level)) aria-labelledby="verdict" data-title=(title(status)) data-key=(announced(first)) {
            p.kicker {
                span.symbol aria-hidden="true" { (symbol(first.level)) } " " (level_word(first.level))
                @if first.level != Level::Ok { " · " (blame_word(first.blame)) }
            }
            h1 #verdict { (first.sentence) }
            @if !first.advice.is_empty() { p.advice { (first.advice) (runbook_link(first)) } }
            @if !more.is_empty() {
                ul.also aria-label="Also" { @for finding in more { (also(finding)) } }
            }
        }
    }
}

fn also(finding: &Finding) -> Markup {
    html! {
        li.(level_class(finding.level)) {
            span.symbol aria-hidden="true" { (symbol(finding.level)) }
            span {
                span.word { (level_word(finding.level)) @if finding.level != Level::Ok { " · " (blame_word(finding.blame)) } }
                " " (finding.sentence)
                @if !finding.advice.is_empty() { " " span.muted { (finding.advice) (runbook_link(finding)) } }
            }
        }
    }
}

/// A link to the class's section, if this version knows the class.
fn runbook_link(finding: &Finding) -> Markup {
    let class = finding.class.as_deref().and_then(ErrorClass::named);
    html! {
        @if let Some(class) = class { " " a href={ "/runbook#" (class.as_str()) } { "Runbook: " (class.as_str()) } }
    }
}

fn tiles(status: &Status) -> Markup {
    let longest = status.callers.iter().map(|caller| caller.longest_wait_seconds).fold(0.0, f64::max);
    let waiting = status.waiting();
    let wait_note =
        if waiting > 0 { format!("the longest for {}", duration(longest)) } else { "none".to_owned() };
    let failed: u64 = status.errors.iter().map(|error| error.attempts).sum();
    let overhead = status.overhead;
    let (adds, adds_note) = if overhead.count == 0 {
        ("–".to_owned(), "no request measured yet".to_owned())
    } else {
        (duration(overhead.p50_seconds), format!("median; p99 {}", duration(overhead.p99_seconds)))
    };
    let ended = status.requests_last_minute.map_or_else(
        || "without those that wait".to_owned(),
        |count| format!("{} ended in the last minute", short(count as f64)),
    );
    let attempts =
        if failed == 1 { "1 attempt".to_owned() } else { format!("{} attempts", short(failed as f64)) };
    html! {
        dl.tiles {
            (tile("Waiting", &short(waiting as f64), &wait_note))
            (tile("Under way", &short(status.under_way() as f64), &ended))
            (tile("Errors callers saw", &short(status.errors_seen() as f64), &format!("in the last hour; {attempts} failed")))
            (tile("Weir itself adds", &adds, &adds_note))
        }
    }
}

fn tile(name: &str, figure: &str, note: &str) -> Markup {
    html! { div { dt { (name) } dd.figure { (figure) } dd.muted { (note) } } }
}

fn limits(scopes: &[ScopeStatus], paces: &[Slowness]) -> Markup {
    section(
        "limits",
        "Limits and breakers",
        &html! {
            @if scopes.is_empty() {
                p.card.muted { "No request has named a model yet, so no limit is known." }
            } @else {
                div.scopes { @for scope in scopes.iter().take(MOST_SCOPES) { (one_scope(scope)) } }
                @if !paces.is_empty() {
                    p.muted {
                        "Time to the first event, and its usual value: "
                        @for (at, pace) in paces.iter().take(MOST_SCOPES).enumerate() {
                            @if at > 0 { " · " }
                            (pace.model) " " (duration(pace.now_seconds)) " (" (duration(pace.usual_seconds)) ")"
                        }
                    }
                }
                @if scopes.iter().any(|scope| scope.name.contains('#') || scope.name.starts_with('-')) {
                    p.muted { "A number after # tells callers’ own keys apart, in the order in which they were seen; - stands for requests that name no model." }
                }
                (the_rest(scopes.len(), MOST_SCOPES, "scopes"))
            }
        },
    )
}

fn one_scope(scope: &ScopeStatus) -> Markup {
    let (level, words) = breaker(scope);
    let most = scope.in_flight_limit.map(|most| format!(" of at most {most}")).unwrap_or_default();
    html! {
        article.card {
            h3 { (scope.name) }
            p.state.(level_class(level)) { span.symbol aria-hidden="true" { (symbol(level)) } " " (words) }
            @if scope.limits.is_empty() {
                p.muted { "No limit is known yet: the upstream has not named one." }
            }
            @for limit in &scope.limits { (gauge(limit, scope.waiting > 0 && limit.holds)) }
            p.muted {
                (amount(scope.in_flight as f64)) (most) " under way · " (amount(scope.waiting as f64)) " waiting"
                @if let Some(limit) = scope.held_by.as_ref().filter(|_| scope.waiting > 0) { " for " (limit) }
                " · " (format!("retries left {:.0} of {:.0}", scope.retry_budget, scope.retry_budget_capacity))
            }
            (upstreams(&scope.upstreams))
        }
    }
}

fn breaker(scope: &ScopeStatus) -> (Level, String) {
    if let Some(quota) = &scope.quota_spent {
        let next = quota.next_probe_seconds.map(|next| format!("; next probe in {}", duration(next)));
        let since = clock_time(&quota.since);
        let words = format!("Quota spent since {since}: {}{}", quota.code, next.unwrap_or_default());
        return (Level::Critical, words);
    }
    let breaker = &scope.breaker;
    let since = breaker.failing_since.as_deref().map(|since| format!(" since {}", clock_time(since)));
    let since = since.unwrap_or_default();
    let class = breaker.last_class.as_deref().map(|class| format!(": {class}")).unwrap_or_default();
    match breaker.state {
        BreakerState::Closed => match scope.paused_seconds {
            Some(left) => (Level::Notice, format!("Paused by a 429 for {} more", duration(left))),
            // The upstream has stated no limit yet, so it is unknown whether it answers.
            None if scope.limits.is_empty() => (Level::Ok, "Breaker closed".to_owned()),
            None => (Level::Ok, "Answering; breaker closed".to_owned()),
        },
        BreakerState::Thinning => {
            (Level::Warning, format!("Failing in part{since}{class}; only part of the traffic is sent"))
        }
        BreakerState::Open => {
            let next = breaker.next_probe_seconds.map(|next| format!("; next probe in {}", duration(next)));
            (Level::Critical, format!("Failing{since}{class}; breaker open{}", next.unwrap_or_default()))
        }
        BreakerState::Releasing => {
            (Level::Notice, "A probe succeeded; requests are sent at a rising rate".to_owned())
        }
    }
}

/// A limit's gauge. The bar is drawn, because browsers style `meter` differently; the `meter`
/// itself is for screen readers.
fn gauge(limit: &LimitStatus, holds: bool) -> Markup {
    let share = if holds { 1.0 } else { fill(limit) };
    let figure = limit.admitted_last_minute.unwrap_or(limit.used);
    let state = if holds { "at the limit".to_owned() } else { format!("{:.0} %", share * 100.0) };
    html! {
        div.gauge {
            p {
                span { (limit.name) }
                span { b { (amount(figure)) } " of " (amount(limit.limit)) " · " (state) }
            }
            svg.bar.near[share >= NEAR_LIMIT] viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true" {
                rect height="1" width=(format!("{:.2}", share * 100.0)) {}
            }
            meter.unseen value=(format!("{share:.4}")) aria-label=(limit.name) { (state) }
            p.muted {
                @if limit.admitted_last_minute.is_some() { "admitted in the last minute · " } @else { "used · " }
                (source(limit))
                @if limit.window_seconds > 0.0 { " · refills in " (duration(limit.window_seconds)) }
                " · bursts of " (amount(limit.burst))
                @if limit.foreign_use_ratio >= 0.005 { (format!(" · others use {:.0} %", limit.foreign_use_ratio * 100.0)) }
            }
        }
    }
}

/// The origin of the limit, and the configured value if it differs.
fn source(limit: &LimitStatus) -> String {
    let from = match limit.source.as_str() {
        "found" => "found by what was refused: the upstream names no such limit".to_owned(),
        "learned" => "told by the upstream".to_owned(),
        other => other.to_owned(),
    };
    match limit.configured.filter(|_| limit.source != "configured") {
        Some(stated) => format!("{from} (the configuration states {})", amount(stated)),
        None => from,
    }
}

fn fine_print(status: &Status) -> Markup {
    let links = [
        ("/status", "JSON"),
        ("/metrics", "metrics"),
        ("/reports", "reports"),
        ("/config", "configuration"),
        ("/runbook", "runbook"),
    ];
    html! {
        footer.fine {
            p {
                "Weir " (status.build.version)
                @if !status.build.revision.is_empty() { " (revision " (status.build.revision) ")" }
                @if !status.host.is_empty() { " on " (status.host) }
                " · up " (duration(status.uptime_seconds as f64)) " · mode " (status.mode)
                @if !status.reload.time.is_empty() { " · configuration of " (status.reload.time) }
                @if let Some(replicas) = &status.replicas { " · " (shared_by(replicas)) }
                @for credential in &status.credentials {
                    " · token of " (credential.name)
                    @if credential.expires_in_seconds > 0.0 { " ends in " (duration(credential.expires_in_seconds)) } @else { " is over" }
                }
                " · as of " (status.time)
            }
            nav aria-label="The same for programs" { @for (path, name) in links { a href=(path) { (name) } " " } }
        }
    }
}

pub(super) fn section(id: &str, name: &str, content: &Markup) -> Markup {
    html! {
        section aria-labelledby=(id) { h2 id=(id) { (name) } (content) }
    }
}

pub(super) fn the_rest(count: usize, shown: usize, what: &str) -> Markup {
    html! {
        @if count > shown {
            p.muted { "and " (count - shown) " more " (what) ": see " a href="/status" { "/status" } }
        }
    }
}
