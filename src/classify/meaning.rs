//! What an error class means to the modules that act on it: the columns of the table of classes.

use http::StatusCode;

use super::ErrorClass;

/// The row of one class.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// The status of an answer that Weir gives by itself, where there is none to pass on.
    pub status: StatusCode,
    /// What it is about.
    pub subject: Subject,
    /// Who ended the request.
    pub source: Source,
    /// Whether the attempt may be repeated.
    pub repeat: Repeat,
    /// What the upstream did about the attempt.
    pub work: Work,
    /// What it says about the upstream.
    pub health: Health,
}

impl ErrorClass {
    /// Whether it may be what a limiter says of too much load: an answer whose status is a failure
    /// of the upstream's own, and which may be repeated. What fails under a 200 passed every limit.
    pub const fn may_be_for_load(self) -> bool {
        matches!(self, Self::InternalServerError | Self::BadGateway | Self::Overloaded)
    }
}

/// What an error is about; several classes share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A key that the upstream refuses.
    Keys,
    /// A key that Weir does not know.
    UnknownKeys,
    /// Requests that the configuration does not allow.
    Rights,
    /// Requests that can't succeed as they are.
    Invalid,
    /// Requests that collide or come too slowly.
    Collisions,
    /// Rate limits of the upstream that reached callers.
    Limits,
    /// Requests that Weir's queue turned away.
    Queue,
    /// A caller that reached its own limit.
    CallerLimit,
    /// Money.
    Quota,
    /// No connection to the upstream.
    Network,
    /// The upstream answers with errors, or not in time.
    Upstream,
    /// Weir's own failures.
    Weir,
    /// What is told elsewhere: breakers, draining, clients that leave.
    Told,
}

/// Who ended the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The upstream, with an error of its own.
    Answer,
    /// Nobody: the upstream gave no usable answer.
    NoAnswer,
    /// The upstream, in the middle of an answer.
    Cut,
    /// Weir.
    Weir,
    /// The client.
    Caller,
}

/// Whether an attempt may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Another attempt cannot help, or may do harm: the request is wrong, spent or not allowed, the
    /// client's own retry is the better one (408, 409), or a repeat would pay twice for a long
    /// answer.
    Never,
    /// A rate limit: the queue's business.
    Queue,
    /// The upstream did nothing: any operation may be repeated.
    Always,
    /// Only where the upstream did nothing, or a repeat does no harm.
    WhereSafe,
}

/// What the upstream did about an attempt, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing: it was not reached.
    NotSent,
    /// It refused the request before working on it.
    Refused,
    /// It worked on the request, and failed.
    Failed,
    /// It may still be working on it.
    TimedOut,
}

/// What an attempt's end says about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works: an answer that blames the request, or asks for less, proves that.
    Alive,
    /// It fails.
    Failing,
    /// Nothing.
    Unknown,
}
