//! What is logged, and how that is changed while the process runs.

use std::sync::{Arc, PoisonError, RwLock};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::ACCESS_LOG;

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The least severe line that is written.
    pub least: Level,
    /// Whether the access log is.
    pub access: bool,
}

impl Default for Levels {
    fn default() -> Self {
        Self { least: Level::INFO, access: true }
    }
}

impl Levels {
    /// Whether lines of this target and level are written.
    fn allow(self, target: &str, level: Level) -> bool {
        if target == ACCESS_LOG {
            return self.access && level <= Level::INFO;
        }
        let of = |name: &str| {
            target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        // The libraries below show headers where they trace: at most what they say at "info" is
        // told. Those that read what clients send warn of it for each frame: whoever reaches the
        // port could fill the log.
        let most = if of("weir") {
            Level::TRACE
        } else if of("h2") || of("hyper") || of("hyper_util") {
            Level::ERROR
        } else {
            Level::INFO
        };
        level <= self.least.min(most)
    }
}

/// The [`Levels`] of a log that runs; clones share them.
///
/// tracing remembers of each place in the code whether anybody listens, and is told to ask again
/// after a change: so the lock is taken once for each place, and not, as by
/// `tracing_subscriber::reload`, for each line.
#[derive(Clone, Debug)]
pub struct LogFilter(Arc<RwLock<Levels>>);

impl LogFilter {
    pub(super) fn new(levels: Levels) -> Self {
        Self(Arc::new(RwLock::new(levels)))
    }

    /// Other levels from now on.
    pub fn change(&self, levels: Levels) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = levels;
        tracing::callsite::rebuild_interest_cache();
    }

    fn levels(&self) -> Levels {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for LogFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.levels().allow(metadata.target(), *metadata.level()) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.levels().allow(metadata.target(), *metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let Levels { least, access } = self.levels();
        Some(LevelFilter::from_level(if access { least.max(Level::INFO) } else { least }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_can_make_a_library_say_is_not_written() {
        let levels = Levels { least: Level::TRACE, access: true };
        for (target, level, written) in [
            ("weir::server", Level::TRACE, true),
            ("weird", Level::DEBUG, false),
            ("rustls", Level::WARN, true),
            ("h2::proto::ping_pong", Level::WARN, false),
            ("hyper::proto::h1", Level::INFO, false),
            ("h2::codec", Level::ERROR, true),
            (ACCESS_LOG, Level::INFO, true),
        ] {
            assert_eq!(levels.allow(target, level), written, "{target} {level}");
        }
        let quiet = Levels { least: Level::ERROR, access: false };
        assert!(!quiet.allow("rustls", Level::WARN) && !quiet.allow(ACCESS_LOG, Level::INFO));
    }
}
