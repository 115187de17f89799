//! The recent errors behind one finding: their number, their callers, and whether they are over.

use super::subject::Subject;
use super::{Level, clock_time};
use crate::admin::status::{CallerErrors, Status};
use crate::admin::words::{join, plural};

/// Seconds after which an error, followed by a success, is over.
const OVER: f64 = 60.0;
/// The number of errors from which a finding is critical, if they are half of all requests.
const ENOUGH: u64 = 5;

/// Recent errors about one subject.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// Requests that callers saw fail.
    pub(super) requests: u64,
    /// Attempts that failed, retried ones included.
    pub(super) attempts: u64,
    /// The class that occurred most.
    pub(super) class: &'a str,
    /// The solution for that class.
    pub(super) solution: &'a str,
    /// The number of classes.
    pub(super) classes: usize,
    /// The callers with their number of errors; the most frequent first.
    pub(super) callers: Vec<(&'a str, u64)>,
    last: &'a CallerErrors,
    over: bool,
}

impl<'a> Group<'a> {
    /// The recent errors about `subject`, if any.
    ///
    /// A request that spent its time in Weir's own queue counts for the queue, whatever its class.
    pub(super) fn of(status: &'a Status, subject: Subject) -> Option<Self> {
        let about = |class: &str, met: &CallerErrors| match Subject::named(class) {
            Some(Subject::Upstream) if met.queued && class == "timeout_response" => subject == Subject::Queue,
            named => named == Some(subject),
        };
        let mut classes: Vec<(&str, &str, u64)> = Vec::new();
        let (mut callers, mut last) = (Vec::<(&str, u64)>::new(), None::<&CallerErrors>);
        let (mut requests, mut attempts, mut over) = (0, 0, true);
        for error in &status.errors {
            for met in error.callers.iter().filter(|met| about(&error.class, met)) {
                requests += met.requests;
                attempts += met.attempts;
                let count = met.requests.max(met.attempts);
                match classes.iter_mut().find(|(class, ..)| *class == error.class) {
                    Some((.., sum)) => *sum += count,
                    None => classes.push((&error.class, &error.solution, count)),
                }
                match callers.iter_mut().find(|(name, _)| *name == met.name) {
                    Some((_, sum)) => *sum += count,
                    None => callers.push((&met.name, count)),
                }
                if last.is_none_or(|last| met.last_seconds < last.last_seconds) {
                    last = Some(met);
                }
                over &= is_over(status, met);
            }
        }
        callers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let count_of_classes = classes.len();
        let (class, solution, _) = classes.into_iter().max_by_key(|(.., count)| *count)?;
        Some(Self {
            requests,
            attempts,
            class,
            solution,
            classes: count_of_classes,
            callers,
            last: last?,
            over,
        })
    }

    /// The time of the last one, if all are over.
    pub(super) fn recovered(&self) -> Option<String> {
        self.over.then(|| clock_time(&self.last.last))
    }

    /// ` of chat`, ` of chat and search`, ` of 5 callers`.
    pub(super) fn of_callers(&self) -> String {
        match self.callers.as_slice() {
            [] => String::new(),
            [(one, most), rest @ ..] if rest.iter().map(|(_, count)| count).sum::<u64>() * 10 <= *most => {
                format!(" of {one}")
            }
            few if few.len() <= 3 => format!(" of {}", join(few.iter().map(|(name, _)| *name))),
            many => format!(" of {} callers", many.len()),
        }
    }

    /// The caller with nearly all of them, if there is one.
    pub(super) fn one_caller(&self) -> Option<&'a str> {
        let (one, most) = self.callers.first()?;
        let rest: u64 = self.callers.iter().skip(1).map(|(_, count)| count).sum();
        (rest * 10 <= *most).then_some(*one)
    }

    /// `(model_not_found)`, `(mostly model_not_found)`.
    pub(super) fn classes(&self) -> String {
        if self.classes > 1 { format!("(mostly {})", self.class) } else { format!("({})", self.class) }
    }

    /// `68 requests of chat`.
    pub(super) fn whose(&self) -> String {
        format!("{}{}", plural(self.requests.max(1), "request"), self.of_callers())
    }

    /// The urgency, by the affected part of all recent requests.
    pub(super) fn urgency(&self, status: &Status) -> Level {
        let all = status.recent_requests.max(self.requests);
        if self.requests >= ENOUGH && self.requests * 2 >= all {
            Level::Critical
        } else if self.requests > 0 && self.requests * 20 >= all {
            Level::Warning
        } else {
            Level::Notice
        }
    }
}

/// Whether a caller has had no such error for a minute, and a success since.
fn is_over(status: &Status, met: &CallerErrors) -> bool {
    let of_caller = status.callers.iter().find(|caller| caller.name == met.name);
    let succeeded = match of_caller {
        Some(caller) => caller.last_success_seconds,
        // An unknown caller has no successes of its own.
        None => None,
    };
    met.last_seconds >= OVER && succeeded.is_some_and(|ago| ago < met.last_seconds)
}
