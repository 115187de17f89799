//! The status page: one document, rendered here, that answers in one look.
//!
//! It works without JavaScript (it reloads itself); with it, a small script swaps in the `main` part every two seconds, as
//! rendered here too: there is one rendering, and a test of it is a test of what people see. Colour never stands alone.

mod html;
mod sections;
mod sparkline;

use std::hash::{BuildHasher, RandomState};

use html::Html;

use super::status::Status;
use super::verdict::{Blame, Finding, Level};

/// The whole document. Style and script carry the nonce that the content security policy names.
pub(super) fn document(status: &Status, nonce: &str) -> String {
    let mut html = Html::with_capacity(64 * 1024);
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>")
        .text(&title(status));
    html.raw("</title>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
        .raw("<meta name=\"color-scheme\" content=\"light dark\">\n")
        .raw("<meta name=\"robots\" content=\"noindex\">\n")
        .raw("<link rel=\"icon\" href=\"")
        .raw(ICON)
        .raw("\">\n<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n<style nonce=\"")
        .text(nonce)
        .raw("\">")
        .raw(include_str!("style.css"))
        .raw("</style>\n</head>\n<body>\n");
    html.raw("<header class=\"top\"><span class=\"brand\">Weir</span><span class=\"to\">to ")
        .text(&status.upstream)
        .raw("</span><span id=\"live\" class=\"live\" role=\"status\">as of <time>")
        .text(&clock_time(&status.time))
        .raw("</time></span></header>\n<main id=\"main\">");
    sections::all(status, &mut html);
    html.raw("</main>\n<script nonce=\"")
        .text(nonce)
        .raw("\">")
        .raw(include_str!("refresh.js"))
        .raw("</script>\n</body>\n</html>\n");
    html.finish()
}

/// What the script swaps in: the contents of `main`.
pub(super) fn main(status: &Status) -> String {
    let mut html = Html::with_capacity(64 * 1024);
    sections::all(status, &mut html);
    html.finish()
}

/// Guessed by nobody: the standard library's keyed hash, its keys from the system's randomness.
pub(super) fn nonce() -> String {
    let keys = RandomState::new();
    format!("{:016x}{:016x}", keys.hash_one(0), keys.hash_one(1))
}

/// The sign that stands beside every word of urgency.
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

/// A finding's first clause: a browser's tab shows no more.
fn short_sentence(finding: &Finding) -> &str {
    finding.sentence.split([':', '.']).next().unwrap_or(&finding.sentence)
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
        Blame::Quota => "It is our quota",
        Blame::Upstream => "It is them: the upstream",
        Blame::Weir => "It is Weir",
    }
}

/// `03:04:05 UTC` of an RFC 3339 time; the whole text if it is none.
fn clock_time(time: &str) -> String {
    match (time.get(11..19), time.ends_with('Z')) {
        (Some(clock), true) => format!("{clock} UTC"),
        _ => time.to_owned(),
    }
}
