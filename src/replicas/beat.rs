//! A heartbeat: what one replica tells the others, as a short text that a person can read too.
//!
//! The first line is `1`, the number of the beat and the interval in milliseconds, or `1 bye`. Each further line is a
//! scope's key and four numbers: the part that is claimed and the part that is needed, both in millionths of the limit, and
//! requests and tokens a second, in thousandths.

use std::fmt::Write as _;
use std::time::Duration;

/// The whole of a limit.
pub(super) const WHOLE: u32 = 1_000_000;
/// A need that is not known, as the limits aren't.
pub(super) const UNKNOWN: u32 = u32::MAX;
/// Scopes of one beat. A further one gets an equal part.
pub(super) const MOST_LINES: usize = 256;
/// Bytes of one beat that is read.
const LONGEST: usize = 32 << 10;
const VERSION: &str = "1";

/// Which scope is meant, on all replicas alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ScopeKey {
    /// Whose limits.
    pub(super) owner: u64,
    /// Of which models.
    pub(super) family: u64,
}

/// What a replica says of one scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: ScopeKey,
    /// The part of the limit that it holds, in millionths. It never uses more than it has told.
    pub(super) claim: u32,
    /// The part that it needs, in millionths, or [`UNKNOWN`].
    pub(super) need: u32,
    /// Thousandths of requests a second.
    pub(super) requests: u32,
    /// Thousandths of tokens a second.
    pub(super) tokens: u64,
}

/// One heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// It is here.
    Here { number: u64, interval: Duration, lines: Vec<Line> },
    /// It left.
    Bye,
}

impl Beat {
    /// As it is written.
    pub(super) fn text(&self) -> String {
        let Self::Here { number, interval, lines } = self else { return format!("{VERSION} bye") };
        let mut text = format!("{VERSION} {number} {}", interval.as_millis());
        for Line { key, claim, need, requests, tokens } in lines {
            write!(text, "\n{:016x}.{:016x} {claim} {need} {requests} {tokens}", key.owner, key.family)
                .expect("a string takes all");
        }
        text
    }

    /// Reads one; nothing where it is another version's, or something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LONGEST {
            return None;
        }
        let mut rows = str::from_utf8(bytes).ok()?.split('\n');
        let mut head = rows.next()?.split(' ');
        if head.next()? != VERSION {
            return None;
        }
        let number = head.next()?;
        if number == "bye" {
            return Some(Self::Bye);
        }
        let number = number.parse().ok()?;
        let interval = Duration::from_millis(u64::from(head.next()?.parse::<u32>().ok()?));
        let lines: Option<Vec<Line>> = rows.map(line).take(MOST_LINES + 1).collect();
        Some(Self::Here { number, interval, lines: lines.filter(|lines| lines.len() <= MOST_LINES)? })
    }
}

fn line(row: &str) -> Option<Line> {
    let mut words = row.split(' ');
    let (owner, family) = words.next()?.split_once('.')?;
    let mut word = || words.next();
    let line = Line {
        key: ScopeKey {
            owner: u64::from_str_radix(owner, 16).ok()?,
            family: u64::from_str_radix(family, 16).ok()?,
        },
        claim: word()?.parse::<u32>().ok()?.min(WHOLE),
        need: word()?.parse().ok()?,
        requests: word()?.parse().ok()?,
        tokens: word()?.parse().ok()?,
    };
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..500 {
            let lines = (0..rng.usize(..20)).map(|_| Line {
                key: ScopeKey { owner: rng.u64(..), family: rng.u64(..) },
                claim: rng.u32(..=WHOLE),
                need: rng.u32(..),
                requests: rng.u32(..),
                tokens: rng.u64(..),
            });
            let lines = lines.collect();
            let beat = Beat::Here { number: rng.u64(..), interval: Duration::from_millis(1500), lines };
            assert_eq!(Beat::read(beat.text().as_bytes()), Some(beat));
        }
        assert_eq!(Beat::read(Beat::Bye.text().as_bytes()), Some(Beat::Bye));
    }

    #[test]
    fn the_largest_beat_is_within_the_bound() {
        let line = Line {
            key: ScopeKey { owner: u64::MAX, family: u64::MAX },
            claim: WHOLE,
            need: UNKNOWN,
            requests: u32::MAX,
            tokens: u64::MAX,
        };
        let lines = vec![line; MOST_LINES];
        let beat = Beat::Here { number: u64::MAX, interval: Duration::from_secs(30), lines };
        assert_eq!(Beat::read(beat.text().as_bytes()), Some(beat));
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in [
            "",
            "2 5 1000",
            "1",
            "1 x 1000",
            "1 5",
            "1 5 1000\n",
            "1 5 1000\nab 1 2 3 4",
            "1 5 1000\na.b 1 2 3",
        ] {
            assert_eq!(Beat::read(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Beat::read(&[0xff; 10]), None);
        assert_eq!(Beat::read(&vec![b'1'; LONGEST + 1]), None);
        let mut rng = fastrand::Rng::with_seed(4);
        let alphabet = b"1 bye.\n0f-";
        for _ in 0..100_000 {
            let bytes: Vec<u8> =
                (0..rng.usize(..50)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect();
            // A claim of more than the whole would take the others' parts away.
            if let Some(Beat::Here { lines, .. }) = Beat::read(&bytes) {
                assert!(lines.iter().all(|line| line.claim <= WHOLE));
            }
        }
    }
}
