//! An hour of counts as sixty bars, with a text for screen readers.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::admin::words::plural;

/// The drawing's height in its own units; a minute is one unit wide.
const HEIGHT: u32 = 20;

pub(super) fn sparkline(minutes: &[u32]) -> Markup {
    let highest = minutes.iter().copied().max().unwrap_or(0).max(1);
    let mut path = String::new();
    for (minute, count) in minutes.iter().enumerate().filter(|(_, count)| **count > 0) {
        // At least one unit, so that a single error beside a thousand is visible.
        let height = (u64::from(*count) * u64::from(HEIGHT)).div_ceil(u64::from(highest)).max(1);
        let written = write!(path, "M{minute} {HEIGHT}v-{height}h.8v{height}z");
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    html! {
        svg.spark viewBox={ "0 0 " (minutes.len().max(1)) " 20" } preserveAspectRatio="none" role="img" aria-label=(in_words(minutes)) {
            path d=(path) {}
        }
    }
}

fn in_words(minutes: &[u32]) -> String {
    let Some((at, highest)) = minutes.iter().copied().enumerate().max_by_key(|(_, count)| *count) else {
        return "no minutes yet".to_owned();
    };
    let ago = minutes.len() - 1 - at;
    let when =
        if ago == 0 { "this minute".to_owned() } else { format!("{} ago", plural(ago as u64, "minute")) };
    format!("the last {} minutes: at most {highest} a minute, {when}", minutes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_it_says() {
        let mut minutes = vec![0; 60];
        minutes[10] = 1_000_000;
        minutes[59] = 1;
        let drawn = sparkline(&minutes).0;
        assert!(
            drawn.contains("aria-label=\"the last 60 minutes: at most 1000000 a minute, 49 minutes ago\"")
        );
        assert!(drawn.contains("d=\"M10 20v-20h.8v20zM59 20v-1h.8v1z\""), "{drawn}");
        assert!(sparkline(&[]).0.contains("no minutes yet"));
    }
}
