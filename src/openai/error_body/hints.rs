//! Hints in the fields of an error body: the limit that refused, and the time to wait.

use std::time::{Duration, SystemTime};

use crate::openai::json::{Cursor, Malformed, Raw, whole_number};
use crate::openai::limit_message::Unit;
use crate::openai::moment::When;
use crate::openai::retry_hint;

/// Nested objects and lists that are searched: Google's `details[].violations[]` and
/// `details[].metadata`.
const MAX_DEPTH: u32 = 2;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Hints in the fields of an error body: the limit that refused, and the time to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyHints {
    /// The time to wait: `retry_after`, Google's `details[].retryDelay`, `resets_in_seconds`.
    pub wait: Option<Duration>,
    /// When the limit is fully restored: `resets_at`, OpenRouter's `metadata.headers`.
    pub reset_at: Option<SystemTime>,
    /// The unit of the limit, from Google's `quotaId`.
    pub unit: Option<Unit>,
    /// The limit's window, from Google's `quotaId`.
    pub window: Option<Duration>,
    /// The limit: Google's `quotaValue`, OpenRouter's `metadata.headers`.
    pub limit: Option<u64>,
    /// The remaining amount: OpenRouter's `metadata.headers`.
    pub remaining: Option<u64>,
}

impl BodyHints {
    /// Fills missing hints from `other`.
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

    /// Parses a field of an error if it is a hint. Returns whether it was one.
    pub(super) fn field(&mut self, key: &[u8], cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
        self.field_at(0, key, cursor)
    }

    /// Parses a field of an object at this nesting depth.
    fn field_at(&mut self, depth: u32, key: &[u8], cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
        match key {
            b"retryDelay" if cursor.peek() == Some(b'{') => self.retry_delay(cursor)?,
            b"retry_after" | b"retry-after" | b"retryAfter" | b"retry_after_seconds" | b"retryAfterSeconds"
            | b"retry_in" | b"retry_at" | b"retryDelay" | b"resets_in_seconds" | b"reset_in_seconds"
            | b"reset_in" | b"reset_after" | b"resets_at" | b"reset_at" | b"resetsAt" | b"resetAt"
            | b"reset_time" | b"resetTime" | b"quotaResetDelay" | b"quotaResetTimeStamp"
            // Hugging Face, while it loads a model.
            | b"estimated_time" => self.when(SECOND, cursor)?,
            b"retry_after_ms" | b"retryAfterMs" => self.when(MILLISECOND, cursor)?,
            b"details" | b"violations" | b"metadata" if depth < MAX_DEPTH => {
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

    /// Parses a time to wait or a date; a bare number is in `unit`s.
    fn when(&mut self, unit: Duration, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let when = scalar(cursor)?.and_then(|text| When::read(text.as_bytes(), unit));
        match when {
            Some(When::After(wait)) => self.wait = retry_hint::believed(wait).or(self.wait),
            Some(When::At(moment)) => self.reset_at = Some(moment),
            None => {}
        }
        Ok(())
    }

    /// Parses the hints of an object, or of each object in a list.
    fn objects(&mut self, depth: u32, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        if !cursor.eat(b'[') {
            return self.object(depth, cursor);
        }
        while !cursor.eat(b']') {
            cursor.eat(b',');
            self.object(depth, cursor)?;
        }
        Ok(())
    }

    fn object(&mut self, depth: u32, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        if cursor.peek() != Some(b'{') {
            return cursor.skip();
        }
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            if !self.field_at(depth, &key.key(), cursor)? {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    /// `{"seconds": 8}`.
    fn retry_delay(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            if key.is("seconds") {
                self.when(SECOND, cursor)?;
            } else {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    /// `GenerateRequestsPerDayPerProjectPerModel-FreeTier`; of several the longest window is used.
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

    /// Another server's headers, which a router passes on in the body.
    pub(super) fn headers(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            let count = |value: Option<String>| whole_number(value?.as_bytes());
            match key.text(64).to_ascii_lowercase().as_str() {
                "x-ratelimit-limit" => self.limit = count(scalar(cursor)?).or(self.limit),
                "x-ratelimit-remaining" => self.remaining = count(scalar(cursor)?).or(self.remaining),
                "x-ratelimit-reset" | "retry-after" => self.when(SECOND, cursor)?,
                _ => cursor.skip()?,
            }
        }
        Ok(())
    }
}

/// A string or number as text of at most 64 bytes; `None` for any other value, which is skipped.
fn scalar(cursor: &mut Cursor<'_>) -> Result<Option<String>, Malformed> {
    let raw = if cursor.peek() == Some(b'"') {
        cursor.string()?
    } else {
        Raw { bytes: cursor.scalar_or_skip()?, escaped: false }
    };
    Ok(Some(raw.text(64).trim().to_owned()).filter(|text| !text.is_empty()))
}
