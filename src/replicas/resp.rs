//! RESP2, the protocol of Redis: as much as a transaction takes, with a bound on everything.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

/// The longest line: an error or a number.
const LONGEST_LINE: usize = 4 << 10;
/// The most elements of one array.
const MOST_ELEMENTS: usize = 4096;
/// Arrays within arrays.
const DEEPEST: usize = 4;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A short text, such as `OK`.
    Simple(String),
    /// The first word of an error: a code, such as `NOAUTH`. What follows may name keys and users.
    Error(String),
    Integer(i64),
    Bytes(Vec<u8>),
    Array(Vec<Value>),
    Nothing,
}

/// It is no RESP, or more than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is no answer of Redis, or too long")]
pub(super) struct Malformed;

/// Adds a command.
pub(super) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The value at the begin of `bytes` and how long it is; nothing while it isn't complete.
///
/// # Errors
/// [`Malformed`], as soon as it shows.
pub(super) fn value(bytes: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(DEEPEST)?;
    Ok(value.map(|value| (value, reader.at)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Option<Value>, Malformed> {
        let Some(line) = self.line()? else { return Ok(None) };
        let (&kind, rest) = line.split_first().ok_or(Malformed)?;
        match kind {
            b'+' => Ok(Some(Value::Simple(text(rest)?))),
            b'-' => {
                let code = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
                Ok(Some(Value::Error(text(code)?)))
            }
            b':' => Ok(Some(Value::Integer(number(rest)?))),
            b'$' => self.bytes_of(number(rest)?),
            b'*' => self.array(number(rest)?, depth),
            _ => Err(Malformed),
        }
    }

    /// The bytes up to the next CR LF.
    fn line(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = &self.bytes[self.at..];
        let seen = &rest[..rest.len().min(LONGEST_LINE)];
        match memchr::memmem::find(seen, b"\r\n") {
            Some(end) => {
                self.at += end + 2;
                Ok(Some(&seen[..end]))
            }
            None if seen.len() == LONGEST_LINE => Err(Malformed),
            None => Ok(None),
        }
    }

    fn bytes_of(&mut self, length: i64) -> Result<Option<Value>, Malformed> {
        if length == -1 {
            return Ok(Some(Value::Nothing));
        }
        // How much may come at all is bounded by who reads.
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let rest = &self.bytes[self.at..];
        let Some(end) = length.checked_add(2) else { return Err(Malformed) };
        let Some((found, close)) = rest.get(..end).and_then(|found| found.split_at_checked(length)) else {
            return Ok(None);
        };
        if close != b"\r\n" {
            return Err(Malformed);
        }
        self.at += end;
        Ok(Some(Value::Bytes(found.to_vec())))
    }

    fn array(&mut self, length: i64, depth: usize) -> Result<Option<Value>, Malformed> {
        if length == -1 {
            return Ok(Some(Value::Nothing));
        }
        let length =
            usize::try_from(length).ok().filter(|length| *length <= MOST_ELEMENTS).ok_or(Malformed)?;
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        let mut values = Vec::new();
        for _ in 0..length {
            let Some(value) = self.value(depth)? else { return Ok(None) };
            values.push(value);
        }
        Ok(Some(Value::Array(values)))
    }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed)
}

fn number(digits: &[u8]) -> Result<i64, Malformed> {
    str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as Redis writes it.
    fn written(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Simple(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Value::Error(text) => out.extend_from_slice(format!("-{text} of many words\r\n").as_bytes()),
            Value::Integer(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Value::Nothing => out.extend_from_slice(b"$-1\r\n"),
            Value::Bytes(bytes) => {
                out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Value::Array(values) => {
                out.extend_from_slice(format!("*{}\r\n", values.len()).as_bytes());
                for value in values {
                    written(value, out);
                }
            }
        }
    }

    fn random(rng: &mut fastrand::Rng, depth: usize) -> Value {
        match rng.usize(..if depth == 0 { 5 } else { 6 }) {
            0 => Value::Simple(std::iter::repeat_with(|| rng.alphanumeric()).take(5).collect()),
            1 => Value::Error("NOAUTH".to_owned()),
            2 => Value::Integer(rng.i64(..)),
            3 => Value::Nothing,
            4 => Value::Bytes((0..rng.usize(..40)).map(|_| rng.u8(..)).collect()),
            _ => Value::Array((0..rng.usize(..6)).map(|_| random(rng, depth - 1)).collect()),
        }
    }

    #[test]
    fn whatever_is_written_is_read_and_no_part_of_it_is() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let expected = random(&mut rng, DEEPEST);
            let mut bytes = Vec::new();
            written(&expected, &mut bytes);
            let length = bytes.len();
            for cut in 0..length {
                assert_eq!(value(&bytes[..cut]), Ok(None), "{expected:?} up to {cut}");
            }
            bytes.extend_from_slice(b"+next\r\n");
            assert_eq!(value(&bytes), Ok(Some((expected, length))));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_run_away() {
        let mut rng = fastrand::Rng::with_seed(2);
        for round in 0..200_000 {
            let mut bytes = Vec::new();
            if round % 2 == 0 {
                written(&random(&mut rng, DEEPEST), &mut bytes);
                for _ in 0..=rng.usize(..3) {
                    if !bytes.is_empty() {
                        let at = rng.usize(..bytes.len());
                        bytes[at] = rng.choice(*b"+-:$*\r\n0179\xff").unwrap_or(0);
                    }
                }
            } else {
                let alphabet = b"+-:$*\r\n0123456789a";
                bytes.extend((0..rng.usize(..60)).map(|_| alphabet[rng.usize(..alphabet.len())]));
            }
            if let Ok(Some((_, length))) = value(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_came() {
        assert_eq!(value(&[b'+'; LONGEST_LINE]), Err(Malformed));
        assert_eq!(value(format!("*{}\r\n", MOST_ELEMENTS + 1).as_bytes()), Err(Malformed));
        assert_eq!(value("*1\r\n".repeat(DEEPEST + 1).as_bytes()), Err(Malformed));
        assert_eq!(value(b"$-2\r\n"), Err(Malformed));
        assert_eq!(value(b"$9223372036854775807\r\n"), Ok(None));
        assert_eq!(value(b"$99999999999999999999\r\n"), Err(Malformed));
        assert_eq!(value(b"HTTP/1.1 400 Bad Request\r\n"), Err(Malformed));
        assert_eq!(value(b"$1\r\nab\r\n"), Err(Malformed));
    }

    #[test]
    fn commands_are_arrays_of_bytes() {
        let mut out = Vec::new();
        command(&mut out, &[b"HSET", b"weir:replicas", b"\r\n"]);
        assert_eq!(out, b"*3\r\n$4\r\nHSET\r\n$13\r\nweir:replicas\r\n$2\r\n\r\n\r\n");
        assert_eq!(value(&out).unwrap().unwrap().1, out.len());
    }
}
