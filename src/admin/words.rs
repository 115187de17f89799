//! Formats numbers and lists for people.

use super::status::{LimitStatus, ReplicasStatus};

/// `1 request`, `12 requests`; with a comma for thousands.
pub(super) fn plural(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", amount(count as f64))
}

/// `1 request waits`, `12 requests wait`.
pub(super) fn waits(count: u64, whose: &str) -> String {
    format!("{}{whose} {}", plural(count, "request"), if count == 1 { "waits" } else { "wait" })
}

/// `limits shared by 3 replicas`, followed by any problem.
pub(super) fn shared_by(replicas: &ReplicasStatus) -> String {
    let trouble = replicas.trouble.as_deref().unwrap_or("unreachable").replace('_', " ");
    let state = match (replicas.agreed, replicas.redis_up) {
        (true, true) if replicas.learning => ", each telling its part anew".to_owned(),
        (true, true) => String::new(),
        (true, false) => format!(", Redis: {trouble}"),
        (false, _) => format!(", evenly; Redis: {trouble}"),
    };
    format!("limits shared by {}{state}", plural(replicas.replicas, "replica"))
}

/// The used fraction of a limit, 0 to 1: the part admitted in the last minute if its window is a
/// minute, else the level.
pub(super) fn fill(limit: &LimitStatus) -> f64 {
    let figure = limit.admitted_last_minute.unwrap_or(limit.used);
    if limit.limit > 0.0 { (figure / limit.limit).clamp(0.0, 1.0) } else { 0.0 }
}

/// A whole number with commas: `2,000,000`; a dash if it is not finite.
pub(super) fn amount(figure: f64) -> String {
    if !figure.is_finite() {
        return "–".to_owned();
    }
    let digits = format!("{:.0}", figure.abs());
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 1);
    if figure <= -0.5 {
        grouped.push('−');
    }
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A short form for tiles: `950`, `12.3k`, `2.0M`.
pub(super) fn short(figure: f64) -> String {
    match figure {
        figure if figure >= 999_500.0 => format!("{:.1}M", figure / 1e6),
        figure if figure >= 9_999.5 => format!("{:.1}k", figure / 1e3),
        figure => amount(figure),
    }
}

/// A duration with two significant units or figures: `42 µs`, `1.5 ms`, `2.4 s`, `3 min 20 s`, `2 h
/// 5 min`, `3 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds <= 0.0 {
        return "0 s".to_owned();
    }
    // Each bound is where rounding reaches the next unit, so that it never shows `1000 µs`.
    if seconds < 0.000_999_5 {
        return format!("{:.0} µs", seconds * 1e6);
    }
    if seconds < 0.999_5 {
        let millis = seconds * 1e3;
        return if millis < 9.95 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") };
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "finite, positive and shown only"
    )]
    let whole = seconds.round() as u64;
    let parts = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = parts.iter().position(|(size, _)| whole >= *size).unwrap_or(3);
    let (size, unit) = parts[first];
    let mut text = format!("{} {unit}", whole / size);
    if let Some((size_below, unit)) = parts.get(first + 1)
        && whole % size / size_below > 0
    {
        text = format!("{text} {} {unit}", whole % size / size_below);
    }
    text
}

/// `a`, `a and b`, `a, b and c`, `a, b and 3 more`.
pub(super) fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [one, two, three] => format!("{one}, {two} and {three}"),
        [one, two, more @ ..] => format!("{one}, {two} and {} more", more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        for (figure, expected) in
            [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (2e6, "2,000,000"), (-1_234.0, "−1,234")]
        {
            assert_eq!(amount(figure), expected);
        }
        for (figure, expected) in
            [(950.0, "950"), (9_999.0, "9,999"), (12_345.0, "12.3k"), (1_999_999.0, "2.0M")]
        {
            assert_eq!(short(figure), expected);
        }
        assert_eq!(plural(1, "request"), "1 request");
        assert_eq!(plural(1_200, "request"), "1,200 requests");
    }

    #[test]
    fn replicas() {
        let with = |agreed, redis_up: bool| {
            let trouble = (!redis_up).then(|| "read_only".to_owned());
            shared_by(&ReplicasStatus { replicas: 3, redis_up, agreed, trouble, ..ReplicasStatus::default() })
        };
        assert_eq!(with(true, true), "limits shared by 3 replicas");
        assert_eq!(with(true, false), "limits shared by 3 replicas, Redis: read only");
        assert_eq!(with(false, false), "limits shared by 3 replicas, evenly; Redis: read only");
    }

    #[test]
    fn durations() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.000_042, "42 µs"),
            (0.001_5, "1.5 ms"),
            (0.25, "250 ms"),
            (0.999_7, "1.0 s"),
            (2.44, "2.4 s"),
            (12.0, "12 s"),
            (59.7, "1 min"),
            (200.0, "3 min 20 s"),
            (7_500.0, "2 h 5 min"),
            (273_600.0, "3 d 4 h"),
            (f64::NAN, "0 s"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn lists() {
        for (names, expected) in [
            (&["a"][..], "a"),
            (&["a", "b"], "a and b"),
            (&["a", "b", "c"], "a, b and c"),
            (&["a", "b", "c", "d"], "a, b and 2 more"),
        ] {
            assert_eq!(join(names.iter().copied()), expected);
        }
    }
}
