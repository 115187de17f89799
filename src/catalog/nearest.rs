//! Finds the known names nearest to an unknown one.

use strsim::osa_distance;

/// At most `most` known names nearest to `name`, the nearest first; the edit distance is at most a
/// third of its length.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let name = name.to_ascii_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .filter_map(|candidate| {
            let lower = candidate.to_ascii_lowercase();
            let distance =
                if name.len() > 3 && lower.contains(&name) { 1 } else { osa_distance(&name, &lower) };
            (distance <= candidate.len().div_ceil(3)).then_some((distance, candidate))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(most).map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["slow_down", "rate_limit_tokens", "rate_limit_requests", "overloaded"];
        let nearest = |name| nearest(name, known.into_iter(), 2);
        assert_eq!(nearest("slowdown"), ["slow_down"]);
        assert_eq!(nearest("rate_limit"), ["rate_limit_requests", "rate_limit_tokens"]);
        assert_eq!(nearest("Overlaoded"), ["overloaded"]);
        assert!(nearest("xyzzy").is_empty());
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (from, to, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("é", "e", 1)]
        {
            assert_eq!(osa_distance(from, to), expected, "{from} {to}");
        }
    }
}
