//! Tests of the visible page, and of hostile text in it.

use crate::admin::status::Status;
use crate::admin::{page, samples, table};

#[test]
fn the_page_says_that_a_limit_was_found() {
    let (mut status, found) = (samples::rate_limited(), "found by what was refused");
    assert!(!page::main(&status.clone().judged()).contains(found));
    status.scopes[0].limits[0].source = "found".to_owned();
    assert!(page::main(&status.judged()).contains(found));
}

#[test]
fn the_page_says_what_a_person_needs() {
    for (status, words) in [
        (
            samples::healthy(),
            &[
                "✓</span> Healthy",
                "412 ended in the last minute",
                "median; p99 190 µs",
                "Answering; breaker closed",
                "on weir-7d9f",
                "Time to the first event, and its usual value: gpt-5 480 ms (412 ms)",
            ][..],
        ),
        (
            samples::rate_limited(),
            &[
                "Others use 31 % of tokens per minute of acme · gpt-5",
                "It is us",
                "nightly-batch",
                "<b>1,998,004</b> of 2,000,000 · at the limit",
                "background lane",
                "others use 31 %",
                "Sets its picture of the limit from the message",
            ],
        ),
        (
            samples::quota_spent(),
            &[
                "The quota is spent",
                "It is our quota",
                "✖</span> Critical",
                "Add credit, or raise the spend limit",
                "next probe in 3 min 48 s",
            ],
        ),
        (
            samples::outage(),
            &[
                "The upstream has been failing since 03:02:11 UTC",
                "It is them: the upstream",
                "href=\"/reports/w-000067\"",
                "breaker open; next probe in 3.2 s",
                "38 requests are waiting for it to recover",
                "href=\"/runbook#overloaded\"",
                "last at 03:06:29 UTC",
                "upstream req_0123",
            ],
        ),
        (
            samples::pool(),
            &[
                "azure-us and openai get no requests since 03:02:11 UTC (overloaded); the other upstreams serve.",
                "✓</span> Serving",
                "Out since 03:02:11 UTC, failing: overloaded; next probe in 3.2 s",
                "Out since 03:02:11 UTC, refusing: insufficient_quota; next probe in 3.2 s",
                "Failing in part",
            ],
        ),
        (
            Status::default(),
            &["no request has come yet", "No request has named a model yet", "No caller has sent"],
        ),
    ] {
        let page = page::main(&status.judged());
        for words in words {
            assert!(page.contains(words), "{words}: {page}");
        }
    }
}

/// A browser's tab shows the first clause; the colons of a time must not end it.
#[test]
fn the_title_is_not_cut_within_a_time() {
    for (status, title) in [
        (samples::outage(), "✖ The upstream has been failing since 03:02:11 UTC (4 min 20 s) · Weir"),
        (
            samples::quota_spent(),
            "✖ The quota is spent for acme · gpt-5 since 02:58:40 UTC (insufficient_quota) · Weir",
        ),
        (samples::healthy(), "✓ Healthy · Weir"),
    ] {
        let page = page::document(&status.judged(), "n");
        assert!(page.contains(&format!("<title>{title}</title>")), "{title}: {page}");
    }
}

/// A screen reader speaks changes of a live region: the clock is in none, and the script announces
/// the verdict.
#[test]
fn the_clock_is_in_no_live_region() {
    let page = page::document(&samples::healthy().judged(), "n");
    assert_eq!(page.matches("role=\"status\"").count(), 1);
    assert!(page.contains("<p class=\"unseen\" id=\"said\" role=\"status\" data-key="), "{page}");
}

/// The targets of links and of alerts' `runbook_url`.
#[test]
fn the_runbook_has_a_section_for_each_class() {
    let runbook = page::runbook("n");
    for class in crate::classify::ErrorClass::ALL {
        assert!(runbook.contains(&format!("<a id=\"{}\"></a>", class.as_str())), "{class:?}");
    }
}

#[test]
fn hostile_text_stays_text() {
    let status = samples::hostile().judged();
    let page = page::document(&status, "n");
    assert_eq!(page.matches("<script").count(), 1, "only the page's own");
    assert!(!page.contains("<img") && !page.contains("\"><script>alert"));
    assert!(!page.contains(['\u{202e}', '\u{0}', '\u{1b}']));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    let text = table(&status, 100);
    assert!(!text.contains(['\u{0}', '\u{1b}']));
}

/// Tags open and close in pairs in every state, so that browsers need not repair the page.
#[test]
fn markup_is_balanced() {
    let states = [
        Status::default(),
        samples::healthy(),
        samples::rate_limited(),
        samples::quota_spent(),
        samples::outage(),
        samples::hostile(),
        many(),
    ];
    for status in states {
        let page = page::main(&status.judged());
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let name: &str = tag.split([' ', '>']).next().unwrap();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{page}"),
                None if tag.split('>').next().unwrap().ends_with('/') => {}
                None => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}

/// The maximum of everything.
fn many() -> Status {
    let mut status = samples::outage();
    status.scopes = (0..1_000).flat_map(|_| status.scopes.clone()).collect();
    status.callers = (0..1_000).flat_map(|_| status.callers.clone()).collect();
    status.failures = (0..256).map(|_| status.failures[0].clone()).collect();
    status
}

#[test]
fn the_page_is_bounded() {
    let page = page::main(&many().judged());
    assert!(page.len() < 200_000, "{}", page.len());
    assert!(page.contains("and 1976 more scopes"));
}
