//! The messages of an exchange: the function's arguments and its result.

use std::time::Duration;

/// The whole of a limit, in millionths.
pub(super) const WHOLE: u32 = 1_000_000;
/// The maximum number of scopes in one exchange.
pub(super) const MOST_LINES: usize = 1000;
/// The maximum weight of a replica in one scope.
pub(super) const MOST_WEIGHT: u32 = 1000;
/// The maximum size of a note, in bytes.
pub(super) const LONGEST_NOTE: usize = 2 << 10;
/// The number of values in one grant.
const OF_GRANT: usize = 6;

/// The key of a scope, equal on all replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ScopeKey {
    /// A hash of the owner of the limits.
    pub(super) owner: u64,
    /// A hash of the model family.
    pub(super) family: u64,
}

impl ScopeKey {
    pub(super) fn text(self) -> String {
        format!("{:016x}.{:016x}", self.owner, self.family)
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let (owner, family) = text.split_once('.')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(Self { owner: number(owner)?, family: number(family)? })
    }
}

/// A replica's report on one scope. Parts are in millionths of the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: ScopeKey,
    /// The maximum part that the replica uses from now on.
    pub(super) held: u32,
    /// The unused amount of the returned part.
    pub(super) unused_returned: u32,
    /// The part that the replica needs.
    pub(super) need: u32,
    /// The sum of the weights of its callers in this scope.
    pub(super) weight: u32,
    /// Requests sent since its last exchange.
    pub(super) requests: u64,
    /// Tokens charged since its last exchange.
    pub(super) tokens: u64,
}

/// The ledger's answer to a line. Parts are in millionths of the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// The part that the replica may use.
    pub(super) part: u32,
    /// The unused amount of the gained part.
    pub(super) unused_gained: u32,
    /// The part that the replica gets once the others have returned theirs.
    pub(super) target: u32,
    /// The minimum part that the replica would get with a large need.
    pub(super) even: u32,
    /// The total of requests that all replicas have sent.
    pub(super) requests: u64,
    /// The total of their tokens.
    pub(super) tokens: u64,
}

/// Knowledge about a scope, shared with other replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The scope and the kind.
    pub(super) field: String,
    /// Its remaining lifetime.
    pub(super) ttl: Duration,
    pub(super) text: String,
}

/// A request of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    /// The lifetime of the replica's parts without a further exchange. Zero when it leaves.
    pub(super) lease: Duration,
    /// The number of the last note that it read.
    pub(super) seen: u64,
    pub(super) lines: Vec<Line>,
    pub(super) notes: Vec<Note>,
}

impl Call {
    /// The arguments of the ledger's function.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut words = vec![
            self.id.clone(),
            self.lease.as_millis().to_string(),
            self.seen.to_string(),
            self.lines.len().to_string(),
        ];
        words.extend(self.lines.iter().map(|line| {
            let Line { key, held, unused_returned, need, weight, requests, tokens } = line;
            format!("{} {held} {unused_returned} {need} {weight} {requests} {tokens}", key.text())
        }));
        for Note { field, ttl, text } in &self.notes {
            words.extend([field.clone(), ttl.as_millis().to_string(), text.clone()]);
        }
        words
    }
}

/// The function's result: members, whether the parts are still unknown, since when they are known,
/// the number of the last note, grants, the scopes of recalled grants, notes.
pub(super) type Returned = (u64, u64, u64, u64, Vec<u64>, Vec<String>, Vec<String>);

/// The ledger's answer to an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The number of replicas, this one included.
    pub(super) members: usize,
    /// Whether the ledger lost its data less than a lease ago, so that no part may grow.
    pub(super) learning: bool,
    /// The ledger's epoch. A change means a loss of data: all scopes must be reported again.
    pub(super) epoch: u64,
    pub(super) seen: u64,
    /// The grants, in the order of the lines.
    pub(super) grants: Vec<Grant>,
    /// Scopes without a line, in which the replica's part should change.
    pub(super) recalled: Vec<(ScopeKey, Grant)>,
    pub(super) notes: Vec<Note>,
}

impl Answer {
    /// Parses the result; `None` if it does not match `call`.
    pub(super) fn read(returned: Returned, call: &Call) -> Option<Self> {
        let (members, learning, epoch, seen, numbers, recalled, texts) = returned;
        if numbers.len() != (call.lines.len() + recalled.len()) * OF_GRANT {
            return None;
        }
        let part = |number: u64| u32::try_from(number).map_or(WHOLE, |part| part.min(WHOLE));
        let grants = numbers.chunks_exact(OF_GRANT).map(|of| Grant {
            part: part(of[0]),
            unused_gained: part(of[1]),
            target: part(of[2]),
            even: part(of[3]),
            requests: of[4],
            tokens: of[5],
        });
        let mut grants: Vec<Grant> = grants.collect();
        let recalled = recalled.iter().zip(grants.split_off(call.lines.len()));
        let recalled = recalled.filter_map(|(key, grant)| Some((ScopeKey::read(key)?, grant)));
        let notes = texts.chunks_exact(3).filter(|of| of[2].len() <= LONGEST_NOTE).filter_map(|of| {
            let ttl = Duration::from_millis(of[1].parse().ok()?);
            Some(Note { field: of[0].clone(), ttl, text: of[2].clone() })
        });
        Some(Self {
            members: usize::try_from(members).ok()?,
            learning: learning != 0,
            epoch,
            seen,
            recalled: recalled.collect(),
            grants,
            notes: notes.collect(),
        })
    }
}
