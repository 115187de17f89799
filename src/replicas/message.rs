//! What an exchange sends to the ledger and what it answers, as the words of a command.

use std::time::Duration;

/// The whole of a limit, in the unit of parts.
pub(super) const WHOLE: u32 = 1_000_000;
/// Scopes of one exchange. A further one waits for the next.
pub(super) const MOST_LINES: usize = 1000;
/// The largest weight of a replica in one scope.
pub(super) const MOST_WEIGHT: u32 = 1000;
/// Bytes of one note.
pub(super) const LONGEST_NOTE: usize = 2 << 10;
/// Numbers of one grant.
const OF_GRANT: usize = 6;

/// Which scope is meant, on all replicas alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ScopeKey {
    /// Whose limits.
    pub(super) owner: u64,
    /// Of which models.
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

/// What a replica says of one scope. Parts are in millionths of the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: ScopeKey,
    /// The part that it uses from now on, at most.
    pub(super) held: u32,
    /// What was not used of the part that it gives back.
    pub(super) gave: u32,
    /// The part that it needs.
    pub(super) need: u32,
    /// The sum of the weights of the callers that it serves there.
    pub(super) weight: u32,
    /// Requests sent since its last exchange.
    pub(super) requests: u64,
    /// Tokens, likewise.
    pub(super) tokens: u64,
}

/// What the ledger answers to a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// The part that it may use.
    pub(super) part: u32,
    /// What is unused of the part that it gained.
    pub(super) fresh: u32,
    /// The part that it will have when the others have given way.
    pub(super) target: u32,
    /// The part that it would have at least, were its need large.
    pub(super) even: u32,
    /// Requests that all replicas sent so far.
    pub(super) requests: u64,
    /// Tokens, likewise.
    pub(super) tokens: u64,
}

/// Something learned of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The scope and the kind.
    pub(super) field: String,
    /// How long it holds.
    pub(super) ttl: Duration,
    pub(super) text: String,
}

/// One exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    /// How long the parts are the replica's without a further exchange; nothing where it leaves.
    pub(super) lease: Duration,
    /// The last note that it read.
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
            let Line { key, held, gave, need, weight, requests, tokens } = line;
            format!("{} {held} {gave} {need} {weight} {requests} {tokens}", key.text())
        }));
        for Note { field, ttl, text } in &self.notes {
            words.extend([field.clone(), ttl.as_millis().to_string(), text.clone()]);
        }
        words
    }
}

/// What the function returns: members, whether it learns anew who holds what, since when it knows
/// that, the last note, grants, the scopes of those that were recalled, notes.
pub(super) type Returned = (u64, u64, u64, u64, Vec<u64>, Vec<String>, Vec<String>);

/// The ledger's answer to an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Replicas, this one included.
    pub(super) members: usize,
    /// The ledger was lost: nobody's part grows for a lease.
    pub(super) learning: bool,
    /// Another number than before says that it was lost since: it has to be told all.
    pub(super) epoch: u64,
    pub(super) seen: u64,
    /// In the order of the lines.
    pub(super) grants: Vec<Grant>,
    /// Of scopes that had no line, where the replica should have another part.
    pub(super) recalled: Vec<(ScopeKey, Grant)>,
    pub(super) notes: Vec<Note>,
}

impl Answer {
    /// Reads it; nothing where it does not answer `call`.
    pub(super) fn read(returned: Returned, call: &Call) -> Option<Self> {
        let (members, learning, epoch, seen, numbers, recalled, texts) = returned;
        if numbers.len() != (call.lines.len() + recalled.len()) * OF_GRANT {
            return None;
        }
        let part = |number: u64| u32::try_from(number).map_or(WHOLE, |part| part.min(WHOLE));
        let grants = numbers.chunks_exact(OF_GRANT).map(|of| Grant {
            part: part(of[0]),
            fresh: part(of[1]),
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
