//! The parts of the page, from the one sentence down to the fine print.

use super::html::Html;
use super::sparkline::sparkline;
use super::{blame_word, clock_time, level_class, level_word, symbol, title};
use crate::admin::status::{
    BreakerState, CallerStatus, ErrorStatus, FailureLine, LimitStatus, ScopeStatus, Status,
};
use crate::admin::verdict::{Finding, Level};
use crate::admin::words::{amount, duration, shared_by, short};

/// Scopes, callers and failures that the page shows; `/status` has all.
const MOST_SCOPES: usize = 24;
const MOST_CALLERS: usize = 100;
const MOST_FAILURES: usize = 20;
/// A limit used to this share is marked.
const NEAR_LIMIT: f64 = 0.9;

pub(super) fn all(status: &Status, html: &mut Html) {
    verdict(status, html);
    tiles(status, html);
    limits(&status.scopes, html);
    queue(&status.callers, html);
    errors(&status.errors, html);
    failures(&status.failures, html);
    fine_print(status, html);
}

fn verdict(status: &Status, html: &mut Html) {
    let Some((first, more)) = status.findings.split_first() else { return };
    html.raw("<section class=\"verdict ")
        .raw(level_class(first.level))
        .raw("\" aria-labelledby=\"verdict\" data-title=\"")
        .text(&title(status))
        .raw("\"><p class=\"kicker\"><span class=\"symbol\" aria-hidden=\"true\">")
        .raw(symbol(first.level))
        .raw("</span> ")
        .raw(level_word(first.level));
    if first.level != Level::Ok {
        html.raw(" · ").raw(blame_word(first.blame));
    }
    html.raw("</p><h1 id=\"verdict\">").text(&first.sentence).raw("</h1>");
    if !first.advice.is_empty() {
        html.raw("<p class=\"advice\">").text(&first.advice).raw("</p>");
    }
    if !more.is_empty() {
        html.raw("<ul class=\"also\" aria-label=\"Also\">");
        for finding in more {
            also(finding, html);
        }
        html.raw("</ul>");
    }
    html.raw("</section>");
}

fn also(finding: &Finding, html: &mut Html) {
    html.raw("<li class=\"")
        .raw(level_class(finding.level))
        .raw("\"><span class=\"symbol\" aria-hidden=\"true\">")
        .raw(symbol(finding.level))
        .raw("</span><span><span class=\"word\">")
        .raw(level_word(finding.level))
        .raw("</span> ")
        .text(&finding.sentence);
    if !finding.advice.is_empty() {
        html.raw(" <span class=\"muted\">").text(&finding.advice).raw("</span>");
    }
    html.raw("</span></li>");
}

fn tiles(status: &Status, html: &mut Html) {
    let longest = status.callers.iter().map(|caller| caller.longest_wait_seconds).fold(0.0, f64::max);
    let waiting = status.waiting();
    let wait_note =
        if waiting > 0 { format!("the longest for {}", duration(longest)) } else { "nobody".to_owned() };
    let failed: u64 = status.errors.iter().map(|error| error.attempts).sum();
    let overhead = status.overhead;
    let (adds, adds_note) = if overhead.count == 0 {
        ("–".to_owned(), "no request measured yet".to_owned())
    } else {
        (
            duration(overhead.p50_seconds),
            format!("half of all; 99 % under {}", duration(overhead.p99_seconds)),
        )
    };
    html.raw("<dl class=\"tiles\">");
    tile("Waiting", &short(waiting as f64), &wait_note, html);
    tile("Under way", &short(status.in_flight() as f64), &last_minute(status), html);
    tile(
        "Errors callers saw",
        &short(status.errors_seen() as f64),
        &format!("in the last hour; {} failed", attempts(failed)),
        html,
    );
    tile("Weir itself adds", &adds, &adds_note, html);
    html.raw("</dl>");
}

fn last_minute(status: &Status) -> String {
    status.requests_last_minute.map_or_else(
        || "waiting ones included".to_owned(),
        |count| format!("{} ended in the last minute", short(count as f64)),
    )
}

fn attempts(count: u64) -> String {
    if count == 1 { "1 attempt".to_owned() } else { format!("{} attempts", short(count as f64)) }
}

fn tile(name: &'static str, figure: &str, note: &str, html: &mut Html) {
    html.raw("<div><dt>").raw(name).raw("</dt><dd class=\"figure\">").text(figure);
    html.raw("</dd><dd class=\"muted\">").text(note).raw("</dd></div>");
}

fn limits(scopes: &[ScopeStatus], html: &mut Html) {
    heading("limits", "Limits and breakers", html);
    if scopes.is_empty() {
        nothing("No request has named a model yet, so no limit is known.", html);
        return;
    }
    html.raw("<div class=\"scopes\">");
    for scope in scopes.iter().take(MOST_SCOPES) {
        one_scope(scope, html);
    }
    html.raw("</div>");
    the_rest(scopes.len(), MOST_SCOPES, "scopes", html);
    html.raw("</section>");
}

fn one_scope(scope: &ScopeStatus, html: &mut Html) {
    html.raw("<article class=\"card\"><h3>").text(&scope.name).raw("</h3>");
    let (level, words) = breaker(scope);
    html.raw("<p class=\"state ")
        .raw(level_class(level))
        .raw("\"><span class=\"symbol\" aria-hidden=\"true\">")
        .raw(symbol(level))
        .raw("</span> ")
        .text(&words)
        .raw("</p>");
    if scope.limits.is_empty() {
        html.raw("<p class=\"muted\">No limit is known yet: the upstream has not named one.</p>");
    }
    for limit in &scope.limits {
        gauge(limit, html);
    }
    html.raw("<p class=\"muted\">").text(&amount(scope.in_flight as f64)).raw(" under way · ");
    html.text(&amount(scope.waiting as f64)).raw(" waiting");
    if let Some(limit) = scope.held_by.as_ref().filter(|_| scope.waiting > 0) {
        html.raw(" for ").text(limit);
    }
    html.raw(" · ");
    html.text(&format!("retries left {:.0} of {:.0}", scope.retry_budget, scope.retry_budget_capacity));
    html.raw("</p></article>");
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
            // Whether it answers is not known of one that has named no limit.
            None if scope.limits.is_empty() => (Level::Ok, "Breaker closed".to_owned()),
            None => (Level::Ok, "Answering; breaker closed".to_owned()),
        },
        BreakerState::Thinning => {
            (Level::Warning, format!("Failing in part{since}{class}; attempts are thinned out"))
        }
        BreakerState::Open => {
            let next = breaker.next_probe_seconds.map(|next| format!("; next probe in {}", duration(next)));
            (Level::Critical, format!("Failing{since}{class}; breaker open{}", next.unwrap_or_default()))
        }
        BreakerState::Releasing => {
            (Level::Notice, "A probe succeeded; requests are let go at a rising pace".to_owned())
        }
    }
}

/// The bar is drawn, because browsers style meters each in their own way; the meter itself is for who cannot see it.
fn gauge(limit: &LimitStatus, html: &mut Html) {
    let share = if limit.limit > 0.0 { (limit.used / limit.limit).clamp(0.0, 1.0) } else { 0.0 };
    let near = if share >= NEAR_LIMIT { "bar near" } else { "bar" };
    html.raw("<div class=\"gauge\"><p><span>").text(&limit.name).raw("</span><span><b>");
    html.text(&amount(limit.used)).raw("</b> of ").text(&amount(limit.limit));
    html.text(&format!(" · {:.0} %", share * 100.0));
    html.raw("</span></p><svg class=\"")
        .raw(near)
        .raw("\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" ");
    html.raw("aria-hidden=\"true\"><rect height=\"1\" width=\"").text(&format!("{:.2}", share * 100.0));
    html.raw("\"/></svg><meter class=\"unseen\" value=\"")
        .text(&format!("{share:.4}"))
        .raw("\" aria-label=\"");
    html.text(&limit.name)
        .raw("\">")
        .text(&format!("{:.0} % used", share * 100.0))
        .raw("</meter><p class=\"muted\">");
    if limit.source == "found" {
        html.raw("found by what was refused: the upstream names no such limit");
    } else {
        html.text(&limit.source);
    }
    if limit.window_seconds > 0.0 {
        html.raw(" · refills in ").text(&duration(limit.window_seconds));
    }
    html.raw(" · bursts of ").text(&amount(limit.burst));
    if limit.foreign_use_ratio >= 0.005 {
        html.text(&format!(" · others use {:.0} %", limit.foreign_use_ratio * 100.0));
    }
    html.raw("</p></div>");
}

fn queue(callers: &[CallerStatus], html: &mut Html) {
    heading("queue", "Queue by caller", html);
    if callers.is_empty() {
        nothing("No caller has sent a request yet.", html);
        return;
    }
    html.raw("<table class=\"stack\" role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\">");
    for (head, class) in [
        ("Caller", ""),
        ("Waiting", "n"),
        ("In background", "n"),
        ("Longest wait", "n"),
        ("Predicted wait", "n"),
        ("Under way", "n"),
        ("Weight", "n"),
    ] {
        html.raw("<th role=\"columnheader\" scope=\"col\" class=\"")
            .raw(class)
            .raw("\">")
            .raw(head)
            .raw("</th>");
    }
    html.raw("</tr></thead><tbody role=\"rowgroup\">");
    for caller in callers.iter().take(MOST_CALLERS) {
        html.raw("<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">").text(&caller.name);
        if let Some(mode) = &caller.mode {
            html.raw(" <span class=\"muted\">(").text(mode).raw(")</span>");
        }
        html.raw("</th>");
        let longest =
            if caller.waiting() > 0 { duration(caller.longest_wait_seconds) } else { "–".to_owned() };
        cell("Waiting", &amount(caller.waiting_interactive as f64), html);
        cell("In background", &amount(caller.waiting_background as f64), html);
        cell("Longest wait", &longest, html);
        cell("Predicted wait", &caller.predicted_wait_seconds.map_or_else(|| "–".to_owned(), duration), html);
        cell("Under way", &amount(caller.in_flight as f64), html);
        cell("Weight", &caller.weight.to_string(), html);
        html.raw("</tr>");
    }
    html.raw("</tbody></table>");
    the_rest(callers.len(), MOST_CALLERS, "callers", html);
    html.raw("</section>");
}

fn cell(name: &'static str, figure: &str, html: &mut Html) {
    let class = if matches!(figure, "0" | "–") { "n zero" } else { "n" };
    html.raw("<td role=\"cell\" class=\"")
        .raw(class)
        .raw("\" data-name=\"")
        .raw(name)
        .raw("\">")
        .text(figure)
        .raw("</td>");
}

fn errors(errors: &[ErrorStatus], html: &mut Html) {
    heading("errors", "Errors of the last hour", html);
    if errors.is_empty() {
        nothing("None.", html);
        return;
    }
    html.raw("<table class=\"stack errors\" role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\">");
    for (head, class) in [
        ("Class", ""),
        ("Upstream said", "n"),
        ("Callers saw", "n"),
        ("Last 60 minutes", ""),
        ("Cause and what to do", ""),
    ] {
        html.raw("<th role=\"columnheader\" scope=\"col\" class=\"")
            .raw(class)
            .raw("\">")
            .raw(head)
            .raw("</th>");
    }
    html.raw("</tr></thead><tbody role=\"rowgroup\">");
    for error in errors {
        html.raw("<tr role=\"row\"><th role=\"rowheader\" scope=\"row\"><code>")
            .text(&error.class)
            .raw("</code></th>");
        cell("Upstream said", &amount(error.attempts as f64), html);
        cell("Callers saw", &amount(error.requests as f64), html);
        html.raw("<td role=\"cell\" class=\"hour\">");
        sparkline(&error.minutes, html);
        html.raw("<span class=\"muted\">").text(&last_seen(error.last_seen_minutes)).raw("</span></td>");
        html.raw("<td role=\"cell\" class=\"words\"><p>").text(&error.cause);
        html.raw("</p><p><b>What to do:</b> ").text(&error.solution);
        html.raw("</p><p class=\"muted\"><b>Weir:</b> ").text(&error.weir_does).raw("</p></td></tr>");
    }
    html.raw("</tbody></table></section>");
}

fn last_seen(minutes: u64) -> String {
    match minutes {
        0 => "seen this minute".to_owned(),
        1 => "seen a minute ago".to_owned(),
        minutes => format!("seen {minutes} min ago"),
    }
}

fn failures(failures: &[FailureLine], html: &mut Html) {
    heading("failures", "Recent failures", html);
    if failures.is_empty() {
        nothing("No error has reached a caller.", html);
        return;
    }
    html.raw("<table class=\"stack failures\" role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\">");
    for head in ["Report", "Time", "Caller", "Error", "Model", "Message"] {
        html.raw("<th role=\"columnheader\" scope=\"col\">").raw(head).raw("</th>");
    }
    html.raw("</tr></thead><tbody role=\"rowgroup\">");
    for failure in failures.iter().take(MOST_FAILURES) {
        failure_row(failure, html);
    }
    html.raw("</tbody></table>");
    html.raw(
        "<p class=\"muted\">A report holds what OpenAI’s support asks for, ready to paste.</p></section>",
    );
}

fn failure_row(failure: &FailureLine, html: &mut Html) {
    html.raw("<tr role=\"row\"><th role=\"rowheader\" scope=\"row\"><a href=\"/reports/")
        .text(&failure.id)
        .raw("\">");
    html.text(&failure.id)
        .raw("</a></th><td role=\"cell\" data-name=\"Time\"><time datetime=\"")
        .text(&failure.time);
    html.raw("\">").text(&clock_time(&failure.time)).raw("</time></td>");
    html.raw("<td role=\"cell\" data-name=\"Caller\">").text(&failure.caller);
    html.raw("</td><td role=\"cell\" data-name=\"Error\"><code>").text(&failure.class).raw("</code>");
    if let Some(status) = failure.status {
        html.raw(" <span class=\"muted\">").text(&status.to_string()).raw("</span>");
    }
    if failure.occurrences > 1 {
        html.raw(" <span class=\"muted\">×").text(&amount(failure.occurrences as f64)).raw("</span>");
    }
    html.raw("</td><td role=\"cell\" data-name=\"Model\">").text(failure.model.as_deref().unwrap_or("–"));
    html.raw("</td><td role=\"cell\" class=\"words\" data-name=\"Message\">")
        .text(&failure.message)
        .raw("</td></tr>");
}

fn fine_print(status: &Status, html: &mut Html) {
    html.raw("<footer class=\"fine\"><p>Weir ").text(&status.build.version);
    if !status.build.revision.is_empty() {
        html.raw(" (revision ").text(&status.build.revision).raw(")");
    }
    html.raw(" · up ").text(&duration(status.uptime_seconds as f64)).raw(" · mode ").text(&status.mode);
    if !status.reload.time.is_empty() {
        html.raw(" · configuration of ").text(&status.reload.time);
    }
    if let Some(replicas) = &status.replicas {
        html.raw(" · ").text(&shared_by(replicas));
    }
    html.raw(" · as of ").text(&status.time).raw("</p><nav aria-label=\"The same for programs\">");
    for (path, name) in
        [("/status", "JSON"), ("/metrics", "metrics"), ("/reports", "reports"), ("/config", "configuration")]
    {
        html.raw("<a href=\"").raw(path).raw("\">").raw(name).raw("</a> ");
    }
    html.raw("</nav></footer>");
}

/// Opens a section; who calls closes it, or [`nothing`] does.
fn heading(id: &'static str, name: &'static str, html: &mut Html) {
    html.raw("<section aria-labelledby=\"")
        .raw(id)
        .raw("\"><h2 id=\"")
        .raw(id)
        .raw("\">")
        .raw(name)
        .raw("</h2>");
}

fn nothing(words: &'static str, html: &mut Html) {
    html.raw("<p class=\"card muted\">").raw(words).raw("</p></section>");
}

fn the_rest(count: usize, shown: usize, what: &'static str, html: &mut Html) {
    if count > shown {
        html.raw("<p class=\"muted\">and ").text(&(count - shown).to_string()).raw(" more ").raw(what);
        html.raw(": see <a href=\"/status\">/status</a></p>");
    }
}
