//! The runbook as a page: the target of an alert's `runbook_url` and of the status page's links.

use maud::{DOCTYPE, PreEscaped, html};

/// The whole runbook; each section has the same id as in `docs/runbook.md`.
pub(in crate::admin) fn runbook(nonce: &str) -> String {
    let options = pulldown_cmark::Options::ENABLE_TABLES;
    let source = include_str!("../../../docs/runbook.md");
    let mut body = String::with_capacity(2 * source.len());
    pulldown_cmark::html::push_html(&mut body, pulldown_cmark::Parser::new_ext(source, options));
    super::finish(&html! {
        (DOCTYPE)
        html lang="en" {
            head { (super::head("Runbook · Weir", nonce)) }
            body {
                header.top { span.brand { "Weir" } a href="/" { "Status" } }
                main.document { (PreEscaped(body)) }
            }
        }
    })
}
