//! The configured retry policy, checked for contradictions.

use std::time::Duration;

use super::{Backoff, Operation};

/// The retry settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most attempts of one request, the first included. With six, 2.4 of 10,000 requests fail when
    /// a quarter of all attempts fail.
    pub max_attempts: u32,
    /// The ceiling of the first backoff.
    pub base: Duration,
    /// The highest ceiling of a backoff.
    pub cap: Duration,
    /// The shortest backoff.
    pub floor: Duration,
    /// Whether an attempt without a response in time is repeated, if that is safe.
    pub response_timeouts: bool,
    /// Repeatable operations in addition to the built-in table.
    pub repeatable: Vec<Operation>,
}

impl Default for Settings {
    fn default() -> Self {
        let Backoff { base, cap, floor } = Backoff::default();
        Self { max_attempts: 6, base, cap, floor, response_timeouts: false, repeatable: Vec::new() }
    }
}

/// A setting that is invalid, or contradicts another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Contradiction {
    /// The setting's key within its section, such as `base`.
    pub key: &'static str,
    /// The problem, and how to correct it.
    pub message: String,
}

/// A valid policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Most attempts of one request, at least 1.
    pub max_attempts: u32,
    /// The delays.
    pub backoff: Backoff,
    /// Whether an attempt without a response in time is repeated, if that is safe.
    pub response_timeouts: bool,
    /// Repeatable operations in addition to the built-in table.
    pub repeatable: Vec<Operation>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::unchecked(Settings::default())
    }
}

/// Largest configurable number of attempts: beyond it, one request alone is a retry storm.
const MAX_ATTEMPTS: u32 = 20;
/// The longest configurable backoff.
const MAX_CAP: Duration = Duration::from_mins(10);

impl Policy {
    /// Checks settings and converts them to a policy.
    ///
    /// # Errors
    /// All contradictions, not only the first.
    pub fn new(settings: Settings) -> Result<Self, Vec<Contradiction>> {
        let problems: Vec<Contradiction> = [
            (settings.max_attempts == 0).then(|| {
                ("max_attempts", "0 attempts would answer nothing; write 1 for no retries".to_owned())
            }),
            (settings.max_attempts > MAX_ATTEMPTS).then(|| {
                (
                    "max_attempts",
                    format!("{} attempts are too many; write at most {MAX_ATTEMPTS}", settings.max_attempts),
                )
            }),
            settings
                .base
                .is_zero()
                .then(|| ("base", "a backoff of 0 would retry at once; write 500ms or so".to_owned())),
            (settings.base > settings.cap).then(|| {
                (
                    "base",
                    format!(
                        "{:?} is longer than the cap of {:?}; write a shorter base or a longer cap",
                        settings.base, settings.cap
                    ),
                )
            }),
            (settings.floor > settings.base).then(|| {
                (
                    "floor",
                    format!(
                        "{:?} is longer than the base of {:?}; write a shorter floor",
                        settings.floor, settings.base
                    ),
                )
            }),
            (settings.cap > MAX_CAP)
                .then(|| ("cap", format!("{:?} is too long; write at most {MAX_CAP:?}", settings.cap))),
        ]
        .into_iter()
        .flatten()
        .map(|(key, message)| Contradiction { key, message })
        .collect();
        if problems.is_empty() { Ok(Self::unchecked(settings)) } else { Err(problems) }
    }

    fn unchecked(settings: Settings) -> Self {
        Self {
            max_attempts: settings.max_attempts,
            backoff: Backoff { base: settings.base, cap: settings.cap, floor: settings.floor },
            response_timeouts: settings.response_timeouts,
            repeatable: settings.repeatable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(Policy::new(Settings::default()), Ok(Policy::default()));
    }

    #[test]
    fn every_contradiction_is_told() {
        let second = Duration::from_secs(1);
        for (settings, keys) in [
            (Settings { max_attempts: 0, ..Settings::default() }, &["max_attempts"][..]),
            (Settings { max_attempts: 100, ..Settings::default() }, &["max_attempts"]),
            (Settings { base: second * 9, ..Settings::default() }, &["base"]),
            (Settings { base: Duration::ZERO, ..Settings::default() }, &["base", "floor"]),
            (Settings { floor: second, ..Settings::default() }, &["floor"]),
            (Settings { cap: Duration::MAX, ..Settings::default() }, &["cap"]),
            (
                Settings { max_attempts: 0, base: second * 9, floor: second * 10, ..Settings::default() },
                &["max_attempts", "base", "floor"],
            ),
        ] {
            let problems = Policy::new(settings.clone()).unwrap_err();
            assert_eq!(problems.iter().map(|problem| problem.key).collect::<Vec<_>>(), keys, "{settings:?}");
        }
    }
}
