//! Holding a stream's head until it is known what the stream begins with.

use std::collections::VecDeque;
use std::pin::Pin;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::reader::Reader;
use crate::clock::{self, Instant};

/// Bytes held at most: whatever begins with more has begun.
const MOST_HELD: usize = 64 << 10;

/// The beginning of a body, read and kept.
#[derive(Debug)]
pub struct Held<E> {
    /// The frames, in order.
    pub frames: VecDeque<Frame<Bytes>>,
    /// Why the body ended already, if it broke.
    pub broken: Option<E>,
    /// Whether the body ended already, in good order.
    pub ended: bool,
}

impl<E> Held<E> {
    /// Nothing held: the body goes to the caller from its first frame.
    pub fn nothing() -> Self {
        Self { frames: VecDeque::new(), broken: None, ended: false }
    }
}

/// Reads a stream until it has begun, until `until`, or up to a bound.
///
/// # Cancel safety
/// Dropping the future loses the frames that were read.
pub async fn hold<B>(body: &mut B, reader: &mut Reader, until: Instant) -> Held<B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut held = Held::nothing();
    let mut bytes = 0;
    while !reader.has_begun() && bytes < MOST_HELD {
        let Ok(next) = clock::timeout_at(until, Pin::new(&mut *body).frame()).await else { break };
        match next {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    bytes += data.len();
                    reader.read(data);
                }
                held.frames.push_back(frame);
            }
            Some(Err(error)) => {
                held.broken = Some(error);
                break;
            }
            None => {
                held.ended = true;
                break;
            }
        }
    }
    held
}
