//! The lines of a stream, kept in bounded memory until they are complete.

/// Bytes kept from the start of a line longer than `HEAD + TAIL`, where errors are.
pub(super) const HEAD: usize = 4 << 10;
/// Bytes kept from its end, where the usage is: at most 16 metadata entries of 576 characters
/// follow it.
pub(super) const TAIL: usize = 16 << 10;

/// A line, or an event's data: complete in `head`, or its two ends if it is too long.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) head: &'a [u8],
    pub(super) tail: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn of(line: &'a [u8]) -> Self {
        if line.len() <= HEAD + TAIL {
            Self { head: line, tail: &[] }
        } else {
            Self { head: &line[..HEAD], tail: &line[line.len() - TAIL..] }
        }
    }

    pub(super) fn without_byte_order_mark(self) -> Self {
        Self { head: self.head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(self.head), ..self }
    }

    /// The value of the line, if it has this field name, without one space after the colon.
    pub(super) fn value_of(self, field: &[u8]) -> Option<Self> {
        let rest = self.head.strip_prefix(field)?;
        let value = match rest {
            [] => rest,
            [b':', value @ ..] => value.strip_prefix(b" ").unwrap_or(value),
            _ => return None,
        };
        Some(Self { head: value, ..self })
    }
}

/// An incomplete line; only its two ends if it is long.
#[derive(Clone, Default)]
pub(super) struct PartialLine {
    kept: Vec<u8>,
    length: usize,
}

impl PartialLine {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len());
        let (head, tail) = bytes.split_at(bytes.len().min(HEAD.saturating_sub(self.kept.len())));
        self.kept.extend_from_slice(head);
        if tail.len() >= TAIL {
            self.kept.truncate(HEAD);
            self.kept.extend_from_slice(&tail[tail.len() - TAIL..]);
        } else {
            self.kept.extend_from_slice(tail);
            // Twice the tail, so that moving bytes is amortized.
            if self.kept.len() > HEAD + 2 * TAIL {
                self.kept.drain(HEAD..self.kept.len() - TAIL);
            }
        }
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        if self.length <= HEAD + TAIL {
            Parts { head: &self.kept, tail: &[] }
        } else {
            Parts { head: &self.kept[..HEAD], tail: &self.kept[self.kept.len() - TAIL..] }
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.kept.capacity()
    }

    pub(super) fn emptied(mut self) -> Self {
        self.length = 0;
        empty(&mut self.kept);
        self
    }
}

/// The data of an event that spans lines or chunks.
#[derive(Clone, Default)]
pub(super) struct Data {
    present: bool,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Data {
    pub(super) fn is_absent(&self) -> bool {
        !self.present
    }

    /// Copies the data that was parsed in place so far.
    pub(super) fn spill(&mut self, in_place: &mut Option<Parts<'_>>) {
        if let Some(parts) = in_place.take() {
            self.push(parts);
        }
    }

    /// Appends a line.
    pub(super) fn push(&mut self, line: Parts<'_>) {
        if self.present {
            self.append(b"\n");
            self.append(line.head);
            self.append(line.tail);
        } else {
            self.present = true;
            self.head.extend_from_slice(line.head);
            self.tail.extend_from_slice(line.tail);
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.tail.is_empty() && self.head.len() + bytes.len() <= HEAD + TAIL {
            self.head.extend_from_slice(bytes);
            return;
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        Parts { head: &self.head, tail: &self.tail }
    }

    pub(super) fn capacity(&self) -> usize {
        self.head.capacity() + self.tail.capacity()
    }

    pub(super) fn clear(&mut self) {
        self.present = false;
        empty(&mut self.head);
        empty(&mut self.tail);
    }
}

/// Clears a buffer, and frees a large one, because thousands of streams may be open.
fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > HEAD {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}
