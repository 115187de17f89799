//! The status page: one HTML document, rendered on the server, that shows the state at a glance.
//!
//! Without JavaScript it reloads itself. With it, a small script replaces the `main` part every two
//! seconds, rendered by the same code, so that tests of it cover what people see. Color is never
//! the only sign.

mod errors;
mod runbook;
mod sections;
mod sparkline;
mod tables;
mod upstreams;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::status::Status;
use super::verdict::{Blame, Finding, Level, clock_time};

pub(super) use runbook::runbook;

/// The whole document. Its style and script have the nonce that the content security policy allows.
pub(super) fn document(status: &Status, nonce: &str) -> String {
    let key = status.findings.first().map(announced).unwrap_or_default();
    finish(&html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head(&title(status), nonce))
                noscript { meta http-equiv="refresh" content="10"; }
            }
            body {
                header.top {
                    span.brand { "Weir" @if !status.host.is_empty() { " on " (status.host) } }
                    span.to { "to " (status.upstream) }
                    span #live .live { "as of " time { (clock_time(&status.time)) } }
                }
                p #said .unseen role="status" data-key=(key) {}
                main #main { (sections::all(status)) }
                script nonce=(nonce) { (PreEscaped(include_str!("refresh.js"))) }
            }
        }
    })
}

/// The contents of `main`, which the script replaces.
pub(super) fn main(status: &Status) -> String {
    finish(&sections::all(status))
}

/// The head of every document.
fn head(title: &str, nonce: &str) -> Markup {
    html! {
        meta charset="utf-8";
        title { (title) }
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        meta name="robots" content="noindex";
        link rel="icon" href=(PreEscaped(ICON));
        style nonce=(nonce) { (PreEscaped(include_str!("style.css"))) }
    }
}

/// The text of a document. maud has escaped HTML in untrusted text; this removes control
/// characters, and those that reorder text and so can make one text look like another.
fn finish(markup: &Markup) -> String {
    let turns = |part: char| matches!(part, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let shown = |part: char| {
        if turns(part) || (part.is_control() && part != '\n') { '\u{fffd}' } else { part }
    };
    markup.0.chars().map(shown).collect()
}

/// An unpredictable nonce: the standard library's keyed hash, with random keys from the system.
pub(super) fn nonce() -> String {
    let keys = RandomState::new();
    format!("{:016x}{:016x}", keys.hash_one(0), keys.hash_one(1))
}

/// The sign next to each word of urgency.
pub(super) const fn symbol(level: Level) -> &'static str {
    match level {
        Level::Ok => "✓",
        Level::Notice => "●",
        Level::Warning => "▲",
        Level::Critical => "✖",
    }
}

/// A dam: three lines of water over a bar.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
%3Crect width='16' height='16' rx='3' fill='%231f6feb'/%3E\
%3Cpath d='M2 5h7c2 0 2 6 5 6M2 8h5c2 0 2 5 4 5' stroke='%23fff' stroke-width='1.6' fill='none'/%3E%3C/svg%3E";

fn title(status: &Status) -> String {
    match status.findings.first() {
        Some(first) => format!("{} {} · Weir", symbol(first.level), short_sentence(first)),
        None => "Weir".to_owned(),
    }
}

/// A finding's first clause, for the narrow tab of a browser.
fn short_sentence(finding: &Finding) -> &str {
    let sentence = finding.sentence.as_str();
    let ends = [": ", "; ", ". "].into_iter().filter_map(|end| sentence.find(end));
    sentence[..ends.min().unwrap_or(sentence.len())].trim_end_matches('.')
}

/// The text that a screen reader announces when it changes: the matter without its numbers.
fn announced(finding: &Finding) -> String {
    format!("{:?} {:?} {}", finding.level, finding.blame, finding.class.as_deref().unwrap_or_default())
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Ok => "Healthy",
        Level::Notice => "Notice",
        Level::Warning => "Warning",
        Level::Critical => "Critical",
    }
}

const fn level_class(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Notice => "notice",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}

const fn blame_word(blame: Blame) -> &'static str {
    match blame {
        Blame::Nobody => "Nobody’s fault",
        Blame::Us => "It is us",
        Blame::Limits => "It is our limits",
        Blame::Quota => "It is our quota",
        Blame::Network => "It is the way to the upstream",
        Blame::Upstream => "It is them: the upstream",
        Blame::Weir => "It is Weir",
    }
}
