//! Reads an access log: JSON lines, plain or compressed with gzip, with any other lines between
//! them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::time::UNIX_EPOCH;

use flate2::read::MultiGzDecoder;
use memchr::{memchr, memmem};
use serde::Deserialize;

use crate::account::Rfc3339;
use crate::caller::Lane;
use crate::classify::ErrorClass;
use crate::openai::Endpoint;
use crate::retry::is_rate_limit;
use crate::telemetry::{ACCESS_LOG, LIMITS_LOG};

use super::recording::{Course, End, Failure, LimitsAt, Recorded, Recording, nanos};

/// The most requests that are kept; further ones are counted. Each takes about 130 bytes.
const MOST_REQUESTS: usize = 10_000_000;
/// The most callers, and the most scopes, that are distinguished.
const MOST_NAMES: usize = 65_000;
/// The most bytes of an access line.
const LONGEST_LINE: u64 = 1 << 20;
/// Lines between two reports of progress.
const REPORT: u64 = 50_000;

#[derive(Deserialize)]
struct AccessLine<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    caller: Cow<'a, str>,
    #[serde(borrow)]
    endpoint: Cow<'a, str>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow)]
    lane: Option<Cow<'a, str>>,
    weight: Option<u32>,
    #[serde(borrow)]
    error_class: Option<Cow<'a, str>>,
    duration_ms: f64,
    queue_ms: f64,
    deadline_left_ms: Option<f64>,
    bytes_in: u64,
    tokens_estimated: Option<u64>,
    tokens_input: Option<u64>,
    #[serde(borrow)]
    attempts: Vec<AttemptLine<'a>>,
}

#[derive(Deserialize)]
struct AttemptLine<'a> {
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    start_ms: f64,
    time_to_head_ms: Option<f64>,
}

#[derive(Deserialize)]
struct LimitsLine<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    requests_per_minute: Option<f64>,
    tokens_per_minute: Option<f64>,
    requests_per_day: Option<f64>,
    tokens_per_day: Option<f64>,
    in_flight: Option<u32>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    share: f64,
    charge_ratio: f64,
    sample: f64,
}

/// A line as Docker's `json-file` wraps it.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
}

/// Reads a log to its end; `progress` gets the number of lines at intervals.
///
/// # Errors
/// It can't be read. Invalid lines are not an error: they are counted.
pub(super) fn read(input: impl Read, progress: &mut dyn FnMut(u64)) -> io::Result<Recording> {
    let mut input = BufReader::with_capacity(1 << 17, input);
    let is_compressed = input.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let mut reader = Reader::default();
    if is_compressed {
        let mut lines = BufReader::with_capacity(1 << 17, MultiGzDecoder::new(input));
        match reader.read(&mut lines, progress) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) =>
            {
                reader.recording.lines.cut = true;
            }
            Err(error) => return Err(error),
        }
    } else {
        reader.read(&mut input, progress)?;
    }
    let mut recording = reader.recording;
    recording.requests.sort_by_key(|request| request.arrived);
    recording.limits.sort_by_key(|limits| limits.at);
    Ok(recording)
}

#[derive(Default)]
struct Reader {
    recording: Recording,
    callers: HashMap<String, u16>,
    scopes: HashMap<String, u16>,
    last_end: u64,
}

impl Reader {
    fn read(&mut self, input: &mut impl BufRead, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            if read as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
                skip_line(input)?;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            self.recording.lines.read += 1;
            if self.recording.lines.read.is_multiple_of(REPORT) {
                progress(self.recording.lines.read);
            }
            if self.line(&line).is_none() {
                self.recording.lines.foreign += 1;
            }
        }
    }

    /// Reads one line; `None` if it is not from Weir.
    fn line(&mut self, line: &[u8]) -> Option<()> {
        // Skip the prefix that a container's runtime writes.
        let object = &line[memchr(b'{', line)?..];
        if object.starts_with(b"{\"log\":") {
            let wrapped: Wrapped<'_> = serde_json::from_slice(object).ok()?;
            let inner = wrapped.log.into_owned();
            return self.object(&inner.as_bytes()[inner.find('{')?..]);
        }
        self.object(object)
    }

    fn object(&mut self, object: &[u8]) -> Option<()> {
        let is_of = |target: &str| memmem::find(object, format!("\"{target}\"").as_bytes()).is_some();
        if is_of(ACCESS_LOG) {
            return self.request(&serde_json::from_slice(object).ok()?);
        }
        if is_of(LIMITS_LOG) {
            self.limits(&serde_json::from_slice(object).ok()?)?;
        } else if memmem::find(object, b"\"target\"").is_none()
            || object.trim_ascii_end().last() != Some(&b'}')
        {
            return None;
        }
        self.recording.lines.others += 1;
        Some(())
    }

    fn request(&mut self, line: &AccessLine<'_>) -> Option<()> {
        let ended = moment(&line.timestamp)?;
        let lines = &mut self.recording.lines;
        lines.out_of_order += u64::from(ended < self.last_end);
        self.last_end = ended;
        let class = line
            .error_class
            .as_deref()
            .map(|name| ErrorClass::named(name).unwrap_or(ErrorClass::OtherServerError));
        let Some(end) = end(class, line.attempts.is_empty()) else {
            lines.turned_away += 1;
            return Some(());
        };
        if self.recording.requests.len() >= MOST_REQUESTS {
            lines.left_out += 1;
            return Some(());
        }
        lines.requests += 1;
        let arrived = ended.saturating_sub(nanos(line.duration_ms));
        let (first, mut rate_limits, mut succeeded) = (self.recording.failures.len(), 0_u16, None);
        for attempt in &line.attempts {
            match ErrorClass::named(&attempt.outcome) {
                Some(class) if is_rate_limit(class) => rate_limits = rate_limits.saturating_add(1),
                Some(ErrorClass::WeirClientClosed) | None => succeeded = Some(attempt),
                // The replayed limiter detects that by itself.
                Some(ErrorClass::RequestExceedsLimit) => {}
                Some(class) => self.recording.failures.push(Failure {
                    started: arrived + nanos(attempt.start_ms),
                    class,
                    head: seconds(attempt.time_to_head_ms.unwrap_or(0.0)),
                }),
            }
        }
        let count = self.recording.failures.len() - first;
        let last = line.attempts.last();
        let head_at =
            last.map_or(line.duration_ms, |last| last.start_ms + last.time_to_head_ms.unwrap_or(0.0));
        let scope = line.scope.as_deref().or(line.model.as_deref()).unwrap_or("-");
        let request = Recorded {
            arrived,
            patience: line.deadline_left_ms.map_or(u64::MAX >> 2, |left| nanos(head_at + left)),
            tokens: bounded(line.tokens_estimated.or(line.tokens_input).unwrap_or(0)),
            input: bounded(line.tokens_input.unwrap_or(0)),
            bytes: bounded(line.bytes_in),
            weight: line.weight.unwrap_or(1).max(1),
            caller: named(&mut self.callers, &mut self.recording.callers, &line.caller),
            scope: named(&mut self.scopes, &mut self.recording.scopes, scope),
            lane: if line.lane.as_deref() == Some(Lane::Background.as_str()) {
                Lane::Background
            } else {
                Lane::Interactive
            },
            endpoint: Endpoint::ALL
                .into_iter()
                .find(|known| known.as_str() == line.endpoint)
                .unwrap_or(Endpoint::Other),
            head: succeeded.and_then(|attempt| attempt.time_to_head_ms).map(seconds),
            body: seconds(line.duration_ms - head_at),
            left: (end == End::Left).then(|| seconds(line.duration_ms)),
            failures: (bounded(first as u64), u8::try_from(count).unwrap_or(u8::MAX)),
            course: Course {
                waited: seconds(line.queue_ms),
                sent: last.map(|attempt| seconds(attempt.start_ms)),
                rate_limits,
                end,
            },
        };
        self.recording.requests.push(request);
        Some(())
    }

    fn limits(&mut self, line: &LimitsLine<'_>) -> Option<()> {
        let at = moment(&line.timestamp)?;
        let scope = named(&mut self.scopes, &mut self.recording.scopes, &line.scope);
        let limits =
            [line.requests_per_minute, line.requests_per_day, line.tokens_per_minute, line.tokens_per_day];
        self.recording.limits.push(LimitsAt {
            at,
            scope,
            limits: limits.map(|limit| limit.map(|limit| nanos(limit * 1e-6).max(1))),
            learned: line.source.contains("learned"),
            in_flight: line.in_flight,
            share: line.share.clamp(1e-6, 1.0),
            charge_ratio: line.charge_ratio.clamp(0.01, 100.0),
            sample: line.sample,
        });
        Some(())
    }
}

/// The end of a request; `None` if it was refused before it entered the queue.
fn end(class: Option<ErrorClass>, without_attempt: bool) -> Option<End> {
    match class {
        Some(ErrorClass::WeirClientClosed) if without_attempt => Some(End::Left),
        // If the caller left during the response, the upstream had done its part.
        None | Some(ErrorClass::WeirClientClosed) => Some(End::Answered),
        Some(class) if without_attempt => is_without_turn(class).then_some(End::Refused),
        Some(ErrorClass::RequestExceedsLimit) => Some(End::TooLarge),
        Some(_) => Some(End::Failed),
    }
}

/// Whether Weir refuses requests with this class before they enter the queue.
fn is_without_turn(class: ErrorClass) -> bool {
    [
        ErrorClass::WeirQueueFull,
        ErrorClass::WeirCallerLimit,
        ErrorClass::WeirDeadline,
        ErrorClass::WeirBreakerOpen,
        ErrorClass::WeirBillingBlock,
    ]
    .contains(&class)
}

/// The number of a name; all names beyond the bound share the last one.
fn named(numbers: &mut HashMap<String, u16>, names: &mut Vec<String>, name: &str) -> u16 {
    if let Some(number) = numbers.get(name) {
        return *number;
    }
    let number = u16::try_from(names.len().min(MOST_NAMES)).unwrap_or(u16::MAX);
    if names.len() <= MOST_NAMES {
        names.push(if names.len() == MOST_NAMES { "other".to_owned() } else { name.to_owned() });
        numbers.insert(name.to_owned(), number);
    }
    number
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let held = input.fill_buf()?;
        let (taken, is_over) = match memchr(b'\n', held) {
            Some(end) => (end + 1, true),
            None => (held.len(), held.is_empty()),
        };
        input.consume(taken);
        if is_over {
            return Ok(());
        }
    }
}

/// Nanoseconds since 1970.
fn moment(timestamp: &str) -> Option<u64> {
    let since = Rfc3339::parse(timestamp)?.0.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float's cast saturates, and microseconds of an hour are enough"
)]
fn seconds(milliseconds: f64) -> f32 {
    (milliseconds.max(0.0) / 1e3) as f32
}

fn bounded(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
