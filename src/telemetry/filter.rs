//! The log filter, which can change while the process runs.

use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer};

use super::ACCESS_LOG;

/// The log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The lowest severity that is logged.
    pub least: Level,
    /// Whether the access log is written.
    pub access: bool,
}

impl Default for Levels {
    fn default() -> Self {
        Self { least: Level::INFO, access: true }
    }
}

/// Levels by target that take precedence over [`Levels::least`], from `RUST_LOG`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directives(Targets);

/// The reason why `RUST_LOG` is invalid.
#[derive(Debug, Error)]
pub enum DirectiveError {
    /// The syntax is wrong.
    #[error("RUST_LOG: {0}. Write levels and targets, such as \"info\" or \"info,weir::proxy=debug\"")]
    Malformed(String),
    /// The level would log keys.
    #[error(
        "RUST_LOG: {target} may not be more verbose than \"{most}\", because libraries write headers with keys in their lines"
    )]
    ShowsKeys {
        /// The target.
        target: String,
        /// The most verbose level allowed for it.
        most: LevelFilter,
    },
}

impl FromStr for Directives {
    type Err = DirectiveError;

    /// Parses comma-separated levels or `target=level`. Empty text has no directives.
    fn from_str(text: &str) -> Result<Self, DirectiveError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let asked: Targets = text.parse().map_err(|error| DirectiveError::Malformed(format!("{error}")))?;
        for (target, level) in &asked {
            let most = most_verbose(target);
            if level > most {
                return Err(DirectiveError::ShowsKeys { target: target.to_owned(), most });
            }
        }
        Ok(Self(asked))
    }
}

/// Levels and directives combined.
#[derive(Debug)]
struct Rules {
    targets: Targets,
    access: bool,
}

impl Rules {
    fn new(levels: Levels, Directives(directives): &Directives) -> Self {
        let least = directives.default_level().unwrap_or(LevelFilter::from_level(levels.least));
        Self { targets: directives.clone().with_default(least), access: levels.access }
    }

    /// Whether lines with this target and level are logged.
    fn allow(&self, target: &str, level: Level) -> bool {
        if target == ACCESS_LOG {
            return self.access && level <= Level::INFO;
        }
        level <= most_verbose(target) && self.targets.would_enable(target, &level)
    }

    /// The most verbose level of any target.
    fn most(&self) -> LevelFilter {
        let targets = self.targets.iter().map(|(_, level)| level).chain(self.targets.default_level()).max();
        let access = if self.access { LevelFilter::INFO } else { LevelFilter::OFF };
        targets.unwrap_or(LevelFilter::OFF).max(access)
    }
}

/// The most verbose level allowed for a target.
///
/// Libraries log headers at trace level, so they are limited to "info". Those that parse client
/// input also warn for each frame, which would let any client fill the log.
fn most_verbose(target: &str) -> LevelFilter {
    match target.split("::").next() {
        Some("weir") => LevelFilter::TRACE,
        Some("h2" | "hyper" | "hyper_util") => LevelFilter::ERROR,
        Some(_) | None => LevelFilter::INFO,
    }
}

/// A handle to change the [`Levels`] of a running log; clones share them.
///
/// tracing caches for each call site whether it is enabled, and the cache is rebuilt after a
/// change. So the lock is taken once per call site, and not, as by `tracing_subscriber::reload`,
/// for each line.
#[derive(Clone, Debug)]
pub struct LogFilter {
    rules: Arc<RwLock<Rules>>,
    directives: Arc<Directives>,
}

impl LogFilter {
    pub(super) fn new(levels: Levels, directives: Directives) -> Self {
        let rules = Arc::new(RwLock::new(Rules::new(levels, &directives)));
        Self { rules, directives: Arc::new(directives) }
    }

    /// Changes the levels; the directives stay.
    pub fn change(&self, levels: Levels) {
        let rules = Rules::new(levels, &self.directives);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        tracing::callsite::rebuild_interest_cache();
    }

    fn allow(&self, metadata: &Metadata<'_>) -> bool {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.allow(metadata.target(), *metadata.level())
    }
}

impl<S: Subscriber> Layer<S> for LogFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.allow(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.allow(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.rules.read().unwrap_or_else(PoisonError::into_inner).most())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(least: Level, access: bool, directives: &str) -> Rules {
        Rules::new(Levels { least, access }, &directives.parse().unwrap())
    }

    #[test]
    fn what_a_client_can_make_a_library_say_is_not_written() {
        let all = rules(Level::TRACE, true, "");
        for (target, level, written) in [
            ("weir::server", Level::TRACE, true),
            ("weird", Level::DEBUG, false),
            ("rustls", Level::WARN, true),
            ("h2::proto::ping_pong", Level::WARN, false),
            ("hyper::proto::h1", Level::INFO, false),
            ("h2::codec", Level::ERROR, true),
            (ACCESS_LOG, Level::INFO, true),
        ] {
            assert_eq!(all.allow(target, level), written, "{target} {level}");
        }
        let quiet = rules(Level::ERROR, false, "");
        assert!(!quiet.allow("rustls", Level::WARN) && !quiet.allow(ACCESS_LOG, Level::INFO));
    }

    #[test]
    fn directives_overrule_the_configured_level() {
        let proxy = rules(Level::WARN, true, "weir::proxy=debug");
        assert!(proxy.allow("weir::proxy::conversation", Level::DEBUG));
        assert!(proxy.allow("weir::app", Level::WARN) && !proxy.allow("weir::app", Level::INFO));
        assert_eq!(proxy.most(), LevelFilter::DEBUG);
        let all = rules(Level::WARN, true, "trace,weir::admin=off");
        assert!(all.allow("weir::app", Level::TRACE) && !all.allow("weir::admin", Level::ERROR));
        assert!(!all.allow("hyper::proto", Level::WARN), "a level for all is none for libraries");
    }

    #[test]
    fn directives_that_would_show_keys_are_refused() {
        let refused = |directives: &str| {
            directives.parse::<Directives>().expect_err("a directive is refused").to_string()
        };
        let h2 = refused("h2=trace");
        assert!(h2.contains("h2 may not be more verbose than \"error\""), "{h2}");
        assert!(refused("rustls=debug").contains("\"info\""));
        assert!(refused("weir=loud").contains("RUST_LOG: "));
    }
}
