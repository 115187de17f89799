//! The consequences of an error class: the columns of the table of classes.

use http::StatusCode;

use super::ErrorClass;

/// The table row of one class.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// The status of Weir's own response, if there is none to relay.
    pub status: StatusCode,
    /// The subject of the error.
    pub subject: Subject,
    /// The origin of the error.
    pub source: Source,
    /// Whether the attempt may be repeated.
    pub repeat: Repeat,
    /// How far the upstream processed the attempt.
    pub work: Work,
    /// What it says about the upstream's health.
    pub health: Health,
}

impl ErrorClass {
    /// Whether it may be a limiter's response to load: a repeatable server error. An error inside a
    /// 200 response has passed every limit.
    pub const fn may_be_for_load(self) -> bool {
        matches!(self, Self::InternalServerError | Self::BadGateway | Self::Overloaded)
    }
}

/// The subject of an error; several classes share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A key that the upstream refuses.
    Keys,
    /// A key that Weir does not know.
    UnknownKeys,
    /// Requests that the configuration does not allow.
    Rights,
    /// Requests that can't succeed unchanged.
    Invalid,
    /// Requests that collide or come too slowly.
    Collisions,
    /// Rate limits of the upstream that reached callers.
    Limits,
    /// Requests that Weir's queue refused.
    Queue,
    /// A caller that reached its own limit.
    CallerLimit,
    /// Money.
    Quota,
    /// No connection to the upstream.
    Network,
    /// The upstream responds with errors, or too late.
    Upstream,
    /// Weir's own failures.
    Weir,
    /// Subjects with their own reports: breakers, draining, clients that left.
    Told,
}

/// The origin of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An error response of the upstream.
    Answer,
    /// The absence of a usable response.
    NoAnswer,
    /// A response that was truncated.
    Cut,
    /// Weir.
    Weir,
    /// The client.
    Caller,
}

/// Whether an attempt may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Another attempt can't help, or may do harm: the request is wrong or not allowed, its quota
    /// is spent, the client's own retry is better (408, 409), or a long response would be paid
    /// twice.
    Never,
    /// A rate limit, for which the request waits in the queue.
    Queue,
    /// The upstream did nothing, so any operation may be repeated.
    Always,
    /// Only if the upstream did nothing, or repeating is harmless.
    WhereSafe,
}

/// How far the upstream processed an attempt, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Not at all: it was not reached.
    NotSent,
    /// It refused the request before processing it.
    Refused,
    /// It processed the request, and failed.
    Failed,
    /// It may still be processing it.
    TimedOut,
}

/// What an attempt's outcome says about the upstream's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works: it blamed the request, or asked for less load.
    Alive,
    /// It fails.
    Failing,
    /// Nothing.
    Unknown,
}
