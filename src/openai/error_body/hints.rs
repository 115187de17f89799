//! What fields of an error body tell of the limit that refused, and of when to come back.

use std::time::{Duration, SystemTime};

use crate::openai::json::{Cursor, Malformed, Raw, whole_number};
use crate::openai::limit_headers::{moment, since_1970};
use crate::openai::limit_message::Unit;
use crate::openai::{duration, retry_hint};

/// What fields of an error body tell of the limit that refused, and of when to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyHints {
    /// How long to wait: `retry_after`, Google's `details[].retryDelay`, `resets_in_seconds`.
    pub wait: Option<Duration>,
    /// When the limit is whole again: `resets_at`, OpenRouter's `metadata.headers`.
    pub reset_at: Option<SystemTime>,
    /// What the limit counts, by Google's `quotaId`.
    pub unit: Option<Unit>,
    /// The limit's window, by Google's `quotaId`.
    pub window: Option<Duration>,
    /// The limit: Google's `quotaValue`, OpenRouter's `metadata.headers`.
    pub limit: Option<u64>,
    /// What is left of it: OpenRouter's `metadata.headers`.
    pub remaining: Option<u64>,
}

impl BodyHints {
    /// These, and where they say nothing what `other` says.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            wait: self.wait.or(other.wait),
            reset_at: self.reset_at.or(other.reset_at),
            unit: self.unit.or(other.unit),
            window: self.window.or(other.window),
            limit: self.limit.or(other.limit),
            remaining: self.remaining.or(other.remaining),
        }
    }

    /// Reads a field of an error, if it is a hint; tells whether its value was taken.
    pub(super) fn field(&mut self, key: &[u8], cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
        self.field_at(0, key, cursor)
    }

    /// The same below a number of lists: details hold violations, and those hold nothing that is
    /// read.
    fn field_at(&mut self, depth: u32, key: &[u8], cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
        match key {
            b"retry_after"
            | b"retry_after_seconds"
            | b"retryAfter"
            | b"retry-after"
            | b"resets_in_seconds" => {
                self.wait = scalar(cursor)?.and_then(|text| seconds(&text, 1.0)).or(self.wait);
            }
            b"retry_after_ms" | b"retryAfterMs" => {
                self.wait = scalar(cursor)?.and_then(|text| seconds(&text, 1e-3)).or(self.wait);
            }
            b"resets_at" | b"reset_at" => {
                self.reset_at = scalar(cursor)?.and_then(|text| at(&text)).or(self.reset_at);
            }
            b"retryDelay" => self.retry_delay(cursor)?,
            b"details" | b"violations" if depth < 2 && cursor.peek() == Some(b'[') => {
                self.objects(depth + 1, cursor)?;
            }
            b"quotaId" | b"quotaMetric" => {
                if let Some(name) = cursor.string_or_skip()? {
                    self.quota(&name.text(256));
                }
            }
            b"quotaValue" => {
                self.limit = scalar(cursor)?.and_then(|text| whole_number(text.as_bytes())).or(self.limit);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads the hints of each object in a list.
    fn objects(&mut self, depth: u32, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.eat(b'[');
        while !cursor.eat(b']') {
            cursor.eat(b',');
            if cursor.peek() != Some(b'{') {
                cursor.skip()?;
                continue;
            }
            cursor.object()?;
            while let Some(key) = cursor.key()? {
                if !self.field_at(depth, &key.key(), cursor)? {
                    cursor.skip()?;
                }
            }
        }
        Ok(())
    }

    /// `"8.5s"`, or `{"seconds": 8}`.
    fn retry_delay(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        if cursor.peek() != Some(b'{') {
            let delay =
                scalar(cursor)?.and_then(|text| duration::parse(&text).or_else(|| seconds(&text, 1.0)));
            self.wait = delay.or(self.wait);
            return Ok(());
        }
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            if key.is("seconds") {
                self.wait = scalar(cursor)?.and_then(|text| seconds(&text, 1.0)).or(self.wait);
            } else {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    /// `GenerateRequestsPerDayPerProjectPerModel-FreeTier`: of several the longest window counts.
    fn quota(&mut self, name: &str) {
        let lower = name.to_ascii_lowercase();
        let windows = [("perday", 24 * 3_600), ("perhour", 3_600), ("perminute", 60)];
        let Some((_, window)) = windows.iter().find(|(word, _)| lower.contains(word)) else { return };
        let window = Duration::from_secs(*window);
        if self.window.is_some_and(|known| known >= window) {
            return;
        }
        self.window = Some(window);
        self.unit = Some(if lower.contains("token") { Unit::Tokens } else { Unit::Requests });
    }

    /// Headers of another server that a router hands on in the body.
    pub(super) fn headers(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            let name = key.text(64).to_ascii_lowercase();
            let Some(value) = scalar(cursor)? else { continue };
            match name.as_str() {
                "x-ratelimit-limit" => self.limit = whole_number(value.as_bytes()).or(self.limit),
                "x-ratelimit-remaining" => self.remaining = whole_number(value.as_bytes()).or(self.remaining),
                "x-ratelimit-reset" => self.reset_at = at(&value).or(self.reset_at),
                "retry-after" => self.wait = seconds(&value, 1.0).or(self.wait),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A string or a number as text, at most 64 bytes of it; nothing for any other value, which is
/// skipped.
fn scalar(cursor: &mut Cursor<'_>) -> Result<Option<String>, Malformed> {
    let raw = if cursor.peek() == Some(b'"') {
        cursor.string()?
    } else {
        Raw { bytes: cursor.scalar_or_skip()?, escaped: false }
    };
    Ok(Some(raw.text(64).trim().to_owned()).filter(|text| !text.is_empty()))
}

fn seconds(text: &str, scale: f64) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(number * scale)
        .ok()
        .filter(|wait| !wait.is_zero() && *wait <= retry_hint::MAX_HINT)
}

fn at(text: &str) -> Option<SystemTime> {
    text.parse().ok().and_then(since_1970).or_else(|| moment(text.as_bytes()))
}
