//! Tables that become cards on a phone, and the table of callers.

use maud::{Markup, html};

use super::sections::{section, the_rest};
use crate::admin::status::CallerStatus;
use crate::admin::words::{amount, duration};

/// The most callers on the page; `/status` has all.
const MOST_CALLERS: usize = 100;

/// A table's head: names, and whether the columns contain numbers.
pub(super) fn heads(names: &[(&str, bool)]) -> Markup {
    html! {
        thead role="rowgroup" {
            tr role="row" {
                @for (name, figures) in names { th.n[*figures] role="columnheader" scope="col" { (name) } }
            }
        }
    }
}

/// A cell with a number; on a phone the column's name is next to it.
pub(super) fn figure(name: &str, figure: &str) -> Markup {
    html! { td.n.zero[matches!(figure, "0" | "–")] role="cell" data-name=(name) { (figure) } }
}

pub(super) fn queue(callers: &[CallerStatus]) -> Markup {
    section(
        "queue",
        "Callers",
        &html! {
            @if callers.is_empty() {
                p.card.muted { "No caller has sent a request yet." }
            } @else {
                table.stack role="table" {
                    (heads(&[
                        ("Caller", false), ("Requests, 5 min", true), ("Errors, 5 min", true), ("Most frequent error", false),
                        ("Waiting", true), ("Longest wait", true), ("Predicted wait", true), ("Under way", true), ("Weight", true),
                    ]))
                    tbody role="rowgroup" { @for caller in callers.iter().take(MOST_CALLERS) { (row(caller)) } }
                }
                (the_rest(callers.len(), MOST_CALLERS, "callers"))
            }
        },
    )
}

fn row(caller: &CallerStatus) -> Markup {
    let dash = || "–".to_owned();
    let longest = if caller.waiting() > 0 { duration(caller.longest_wait_seconds) } else { dash() };
    let predicted = caller.predicted_wait_seconds.map_or_else(dash, duration);
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                (caller.name)
                @if caller.lane == "background" { " " span.muted { "background lane" } }
                @if let Some(mode) = &caller.mode { " " span.muted { "(" (mode) ")" } }
                @for ceiling in &caller.ceilings { " " span.muted { "ceiling " (ceiling.allows) @if ceiling.waiting > 0 { ": " (amount(ceiling.waiting as f64)) " wait" } } }
                @for budget in &caller.budgets {
                    " " span.muted {
                        (format!("{:.0} % of {} tokens a {}", budget.ratio() * 100.0, amount(budget.tokens as f64), budget.period))
                        @if let Some(family) = &budget.family { " for " (family) }
                    }
                }
            }
            (figure("Requests, 5 min", &amount(caller.recent_requests as f64)))
            (figure("Errors, 5 min", &amount(caller.recent_errors as f64)))
            td role="cell" data-name="Most frequent error" {
                @match &caller.top_class { Some(class) => code { (class) }, None => span.muted { "–" } }
            }
            (figure("Waiting", &amount(caller.waiting() as f64)))
            (figure("Longest wait", &longest))
            (figure("Predicted wait", &predicted))
            (figure("Under way", &amount(caller.under_way() as f64)))
            (figure("Weight", &caller.weight.to_string()))
        }
    }
}
