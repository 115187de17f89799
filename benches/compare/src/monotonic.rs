//! The clock that all processes of a run share: nanoseconds of `CLOCK_MONOTONIC`, and a timer
//! precise to microseconds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since the machine started; comparable between processes.
pub(crate) fn nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * SECOND + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A one-shot timer that wakes a poll at an instant; a poll's own timeout counts in milliseconds,
/// which is too coarse here.
pub(crate) struct PreciseTimer {
    descriptor: OwnedFd,
}

impl PreciseTimer {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let descriptor =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&descriptor.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { descriptor })
    }

    /// Wakes the poll at `at`, at once if that has passed. Replaces what was armed before, so the
    /// timer is never read.
    pub(crate) fn arm(&self, at: u64) -> io::Result<()> {
        let value = Timespec {
            tv_sec: i64::try_from(at / SECOND).unwrap_or(i64::MAX),
            // Zero would disarm it.
            tv_nsec: i64::try_from((at % SECOND).max(1)).unwrap_or(1),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}
