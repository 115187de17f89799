//! The status as plain text for a terminal.

use std::fmt::Write as _;

use super::page::symbol;
use super::status::{BreakerState, LimitStatus, ScopeStatus, Status};
use super::words::{amount, duration, fill, plural, shared_by};

/// The status as text, about `width` columns wide at most. Control characters in untrusted text are
/// escaped.
pub fn table(status: &Status, width: usize) -> String {
    let mut text = Text { out: String::new(), width: width.max(40) };
    for finding in &status.findings {
        text.line(format_args!("{} {}", symbol(finding.level), finding.sentence));
        if !finding.advice.is_empty() {
            text.line(format_args!("  → {}", finding.advice));
        }
    }
    text.line(format_args!(
        "  {} waiting · {} under way · {} in the last hour · Weir adds {} (p50), {} (p99)",
        amount(status.waiting() as f64),
        amount(status.under_way() as f64),
        plural(status.errors_seen(), "error"),
        duration(status.overhead.p50_seconds),
        duration(status.overhead.p99_seconds),
    ));
    limits(status, &mut text);
    callers(status, &mut text);
    errors(status, &mut text);
    failures(status, &mut text);
    text.line(format_args!(""));
    text.line(format_args!(
        "Weir {} on {} · up {} · mode {} · upstream {}{}",
        status.build.version,
        status.host,
        duration(status.uptime_seconds as f64),
        status.mode,
        status.upstream,
        status.replicas.as_ref().map(|replicas| format!(" · {}", shared_by(replicas))).unwrap_or_default()
    ));
    text.out
}

fn limits(status: &Status, text: &mut Text) {
    let mut rows = Vec::new();
    for scope in &status.scopes {
        let breaker = breaker(scope);
        if scope.limits.is_empty() {
            rows.push(vec![
                scope.name.clone(),
                "no limit known yet".to_owned(),
                String::new(),
                String::new(),
                breaker,
            ]);
            continue;
        }
        for (index, limit) in scope.limits.iter().enumerate() {
            let first = index == 0;
            rows.push(vec![
                if first { scope.name.clone() } else { String::new() },
                limit.name.clone(),
                format!(
                    "{} of {}",
                    amount(limit.admitted_last_minute.unwrap_or(limit.used)),
                    amount(limit.limit)
                ),
                bar(limit, scope.waiting > 0 && limit.holds),
                if first { breaker.clone() } else { String::new() },
            ]);
        }
    }
    text.rows("Limits", &["scope", "limit", "last minute", "", "breaker"], &rows);
}

fn callers(status: &Status, text: &mut Text) {
    let rows: Vec<Vec<String>> = status
        .callers
        .iter()
        .map(|caller| {
            vec![
                caller.name.clone(),
                caller.weight.to_string(),
                caller.lane.clone(),
                amount(caller.recent_requests as f64),
                amount(caller.recent_errors as f64),
                caller.top_class.clone().unwrap_or_else(|| "–".to_owned()),
                amount(caller.under_way() as f64),
                amount(caller.waiting() as f64),
                if caller.waiting() > 0 { duration(caller.longest_wait_seconds) } else { "–".to_owned() },
            ]
        })
        .collect();
    let heads = ["caller", "weight", "lane", "5 min", "errors", "mostly", "under way", "waiting", "longest"];
    text.rows("Callers", &heads, &rows);
}

fn errors(status: &Status, text: &mut Text) {
    let rows: Vec<Vec<String>> = status
        .errors
        .iter()
        .map(|error| {
            vec![
                error.class.clone(),
                amount(error.attempts as f64),
                amount(error.requests as f64),
                blocks(&error.minutes),
                error.solution.clone(),
            ]
        })
        .collect();
    text.rows(
        "Errors of the last hour",
        &["class", "upstream", "callers", "last 60 min", "what to do"],
        &rows,
    );
}

fn failures(status: &Status, text: &mut Text) {
    let rows: Vec<Vec<String>> = status
        .failures
        .iter()
        .take(10)
        .map(|failure| {
            vec![
                failure.id.clone(),
                failure.time.get(11..19).unwrap_or(&failure.time).to_owned(),
                failure.caller.clone(),
                failure.class.clone(),
                failure.model.clone().unwrap_or_else(|| "–".to_owned()),
                format!("{}×", failure.occurrences),
                failure.message.clone(),
            ]
        })
        .collect();
    text.rows(
        "Last failure of each kind (weir report ID)",
        &["id", "time", "caller", "class", "model", "seen", "message"],
        &rows,
    );
}

fn breaker(scope: &ScopeStatus) -> String {
    if let Some(quota) = &scope.quota_spent {
        return format!("quota spent ({})", quota.code);
    }
    let next = scope.breaker.next_probe_seconds.map(|next| format!(", probe in {}", duration(next)));
    match scope.breaker.state {
        BreakerState::Closed if scope.paused_seconds.is_some() => "paused".to_owned(),
        BreakerState::Closed => "closed".to_owned(),
        BreakerState::Thinning => "partly open".to_owned(),
        BreakerState::Open => format!("open{}", next.unwrap_or_default()),
        BreakerState::Releasing => "ramping up".to_owned(),
    }
}

/// A bar of ten cells: the admitted fraction of a limit.
fn bar(limit: &LimitStatus, holds: bool) -> String {
    if holds {
        return format!("{} at the limit", "█".repeat(10));
    }
    let share = fill(limit);
    let filled = (0..10).filter(|cell| share * 10.0 > f64::from(*cell) + 0.5).count();
    format!("{}{} {:.0} %", "█".repeat(filled), "░".repeat(10 - filled), share * 100.0)
}

/// A sparkline with one block for two minutes.
fn blocks(minutes: &[u32]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let pairs: Vec<u32> = minutes.chunks(2).map(|pair| pair.iter().sum()).collect();
    let highest = pairs.iter().copied().max().unwrap_or(0).max(1);
    let block = |count: &u32| match count {
        0 => '·',
        count => BLOCKS[((count * 8).div_ceil(highest) as usize).clamp(1, 8) - 1],
    };
    pairs.iter().map(block).collect()
}

struct Text {
    out: String,
    width: usize,
}

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let line = line.to_string();
        let written = writeln!(self.out, "{}", plain(&line));
        debug_assert!(written.is_ok(), "a String takes everything");
    }

    /// Writes columns as wide as their widest cell, cut at the total width.
    fn rows(&mut self, title: &str, heads: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
        let wide = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(heads[column].chars().count())
        };
        let widths: Vec<usize> = (0..heads.len()).map(wide).collect();
        self.line(format_args!(""));
        self.line(format_args!("{title}"));
        let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        for row in std::iter::once(&heads).chain(&rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            self.line(format_args!("  {}", cut(line.trim_end(), self.width - 2)));
        }
    }
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width - 1).chain(['…']).collect()
}

/// Escapes untrusted text, so that it can't control the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|part| if part.is_control() { '\u{fffd}' } else { part }).collect()
}
