//! Tests of reading, keeping and repeating bodies, on a paused clock.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use crate::clock;

use crate::openai::ModelSearch;

use super::{Budget, ReadError, Replay, Settings};
use crate::metrics::ReplaySkip;

/// A body that follows a script.
#[derive(Debug)]
struct Script {
    steps: VecDeque<Step>,
    wait: Option<Pin<Box<clock::Sleep>>>,
    length: Option<u64>,
    /// Text that replaces the steps, in pieces of a hundred bytes.
    text: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Data(usize),
    Wait(Duration),
    Trailers,
    Fail(io::ErrorKind),
}

fn script(steps: &[Step]) -> Script {
    Script { steps: steps.iter().copied().collect(), wait: None, length: None, text: None }
}

/// `length` bytes, each of which encodes its position.
fn counted(length: usize) -> Bytes {
    (0..length).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(text) = &mut self.text {
            let piece: Bytes = text.drain(..text.len().min(100)).collect::<Vec<u8>>().into();
            self.length = self.length.map(|left| left - piece.len() as u64);
            return Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))));
        }
        loop {
            if let Some(wait) = &mut self.wait {
                std::task::ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Data(length)) => {
                    self.length = self.length.map(|left| left - length as u64);
                    return Poll::Ready(Some(Ok(Frame::data(counted(length)))));
                }
                Some(Step::Wait(time)) => self.wait = Some(Box::pin(clock::sleep(time))),
                Some(Step::Trailers) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-checksum", "1".parse().unwrap());
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Some(Step::Fail(kind)) => return Poll::Ready(Some(Err(kind.into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn one_piece_is_kept_without_a_copy() {
    let budget = Budget::new(1 << 20);
    let whole = counted(10_000);
    let body = http_body_util::Full::new(whole.clone());
    let mut replay = Replay::read(body, &Settings::default(), &budget).await.unwrap();
    assert_eq!(replay.bytes().as_ptr(), whole.as_ptr());
    assert!(replay.can_repeat());
    for _ in 0..3 {
        let body = replay.body().unwrap();
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(10_000));
        let sent = body.collect().await.unwrap().to_bytes();
        assert_eq!((sent.as_ptr(), sent.len()), (whole.as_ptr(), 10_000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_body_lets_go_of_the_buffer_that_it_came_in() {
    let buffer = Bytes::from(vec![b'x'; 8192]);
    let body = http_body_util::Full::new(buffer.slice(500..1000));
    let replay = Replay::read(body, &Settings::default(), &Budget::new(1 << 20)).await.unwrap();
    assert_eq!(replay.bytes().len(), 500);
    assert!(buffer.is_unique());
}

#[tokio::test(start_paused = true)]
async fn several_pieces_become_one() {
    let budget = Budget::new(1 << 20);
    let steps = [Step::Data(1), Step::Wait(SECOND), Step::Data(100), Step::Data(1000)];
    for length in [None, Some(1101)] {
        let body = Script { length, ..script(&steps) };
        let mut replay = Replay::read(body, &Settings::default(), &budget).await.unwrap();
        let expected = [counted(1), counted(100), counted(1000)].concat();
        assert_eq!(replay.bytes(), &expected);
        assert_eq!(budget.used(), 1101);
        let body = replay.body().unwrap();
        drop(replay);
        assert_eq!(budget.used(), 1101, "a body on its way still counts");
        assert_eq!(body.collect().await.unwrap().to_bytes(), expected);
        assert_eq!(budget.used(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_empty_and_known_to_be() {
    let budget = Budget::new(0);
    let mut replay = Replay::read(script(&[]), &Settings::default(), &budget).await.unwrap();
    assert!(replay.can_repeat() && replay.bytes().is_empty());
    assert!(http_body::Body::is_end_stream(&replay.body().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn trailers_are_kept() {
    let budget = Budget::new(1 << 20);
    let body = script(&[Step::Data(3), Step::Trailers]);
    let mut replay = Replay::read(body, &Settings::default(), &budget).await.unwrap();
    for _ in 0..2 {
        let body = replay.body().unwrap();
        assert_eq!(http_body::Body::size_hint(&body).exact(), None, "trailers need chunks");
        let sent = body.collect().await.unwrap();
        assert_eq!(sent.trailers().unwrap().get("x-checksum").unwrap(), "1");
        assert_eq!(sent.to_bytes(), counted(3));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_streamed_once() {
    let settings = Settings { keep: 1000, prefix: 100, ..Settings::default() };
    let steps: Vec<_> = std::iter::repeat_n(Step::Data(60), 50).collect();
    let expected: Vec<u8> = std::iter::repeat_n(counted(60), 50).flatten().collect();
    for (length, read_ahead) in [(None, 1020), (Some(3000), 120)] {
        let budget = Budget::new(1 << 20);
        let body = Script { length, ..script(&steps) };
        let mut replay = Replay::read(body, &settings, &budget).await.unwrap();
        assert!(!replay.can_repeat());
        assert_eq!(replay.skipped(), Some(ReplaySkip::TooLarge));
        assert_eq!(replay.bytes(), &expected[..read_ahead]);
        let body = replay.body().unwrap();
        assert_eq!(http_body::Body::size_hint(&body).exact(), length);
        assert_eq!(body.collect().await.unwrap().to_bytes(), expected);
        assert!(replay.body().is_none(), "there is only one");
        assert_eq!(budget.used(), 0);
    }
}

/// A JSON body with the model at the end, as openai-python sends it, in pieces of a hundred bytes.
fn model_last(image: usize) -> (Script, Vec<u8>) {
    let json = format!(r#"{{"messages":["{}"],"model":"gpt-4o","n":1}}"#, "A".repeat(image)).into_bytes();
    let script = Script { text: Some(json.clone()), length: Some(json.len() as u64), ..script(&[]) };
    (script, json)
}

#[tokio::test(start_paused = true)]
async fn a_body_too_large_to_be_kept_is_read_on_until_its_model() {
    let settings = Settings { keep: 1_000, prefix: 100, ..Settings::default() };
    let (body, json) = model_last(5_000);
    let budget = Budget::new(1 << 20);
    let mut replay = Replay::read_for(body, &settings, &budget, ModelSearch::Json).await.unwrap();
    assert_eq!((replay.can_repeat(), replay.skipped()), (false, Some(ReplaySkip::TooLarge)));
    assert!(replay.bytes().ends_with(b"1}") || replay.bytes().windows(6).any(|part| part == b"gpt-4o"));
    assert_eq!(replay.body().unwrap().collect().await.unwrap().to_bytes(), json);
    assert_eq!((budget.used(), budget.buffered()), (0, 0));
    // The same if the budget, not the body's size, is the limit.
    let (body, json) = model_last(5_000);
    let spent = Budget::new(500);
    let mut replay = Replay::read_for(body, &Settings::default(), &spent, ModelSearch::Json).await.unwrap();
    assert_eq!(replay.skipped(), Some(ReplaySkip::Budget));
    assert!(replay.bytes().windows(6).any(|part| part == b"gpt-4o"));
    assert!(spent.buffered() > 5_000, "what waits to be sent counts");
    assert_eq!(replay.body().unwrap().collect().await.unwrap().to_bytes(), json);
    assert_eq!((spent.used(), spent.buffered()), (0, 0));
    // Without a search for the model, only the prefix is read.
    let (body, _) = model_last(5_000);
    let replay = Replay::read(body, &settings, &budget).await.unwrap();
    assert!(replay.bytes().len() <= 200);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_budget_is_streamed() {
    let budget = Budget::new(1500);
    let settings = Settings::default();
    let first = Replay::read(script(&[Step::Data(1000)]), &settings, &budget).await.unwrap();
    assert!(first.can_repeat());
    let mut second =
        Replay::read(script(&[Step::Data(400), Step::Data(400)]), &settings, &budget).await.unwrap();
    assert_eq!(second.skipped(), Some(ReplaySkip::Budget));
    assert_eq!(second.body().unwrap().collect().await.unwrap().to_bytes().len(), 800);
    drop(first);
    let third = Replay::read(script(&[Step::Data(400), Step::Data(400)]), &settings, &budget).await.unwrap();
    assert!(third.can_repeat());
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let settings = Settings { keep: 10, prefix: 10, limit: 100, ..Settings::default() };
    let budget = Budget::new(1 << 20);
    let announced = Script { length: Some(101), ..script(&[Step::Data(101)]) };
    assert_eq!(Replay::read(announced, &settings, &budget).await.unwrap_err(), ReadError::TooLarge);
    let body = script(&[Step::Data(50), Step::Data(50), Step::Data(1)]);
    let mut replay = Replay::read(body, &settings, &budget).await.unwrap();
    assert_eq!(replay.body().unwrap().collect().await.unwrap_err(), ReadError::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_or_drips_is_given_up() {
    let settings = Settings::default();
    for (steps, error, after) in [
        // No byte at all: the grace of the rate ends first.
        (vec![Step::Wait(SECOND * 3600)], ReadError::TooSlow, 5),
        // Fast, then nothing.
        (vec![Step::Data(240_000), Step::Wait(SECOND * 3600)], ReadError::Idle, 30),
        // A byte every second.
        ([Step::Data(1), Step::Wait(SECOND)].repeat(100), ReadError::TooSlow, 5),
        // Just under the rate: 1,000 bytes pay for 4.17 s.
        ([Step::Data(1000), Step::Wait(SECOND * 6)].repeat(100), ReadError::TooSlow, 5),
    ] {
        let budget = Budget::new(1 << 20);
        let began = clock::now();
        assert_eq!(Replay::read(script(&steps), &settings, &budget).await.unwrap_err(), error);
        assert_eq!((clock::now() - began).as_secs(), after);
        assert_eq!(budget.used(), 0);
    }
    // At the rate, for a long time; and slower within the grace.
    for steps in
        [[Step::Data(241), Step::Wait(SECOND)].repeat(1000), vec![Step::Wait(SECOND * 4), Step::Data(1)]]
    {
        let budget = Budget::new(1 << 20);
        Replay::read(script(&steps), &settings, &budget).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_client_s_own_delays_count() {
    let settings = Settings { keep: 10, prefix: 10, ..Settings::default() };
    let budget = Budget::new(1 << 20);
    let body = script(&vec![Step::Data(20); 100]);
    let mut replay = Replay::read(body, &settings, &budget).await.unwrap();
    let mut body = replay.body().unwrap();
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        frames += 1;
        // A slow upstream.
        clock::sleep(SECOND * 60).await;
    }
    assert_eq!(frames, 100);
}

#[tokio::test(start_paused = true)]
async fn a_broken_framing_is_told_from_a_client_that_left() {
    for (kind, error) in [
        (io::ErrorKind::InvalidInput, ReadError::Malformed),
        (io::ErrorKind::InvalidData, ReadError::Malformed),
        (io::ErrorKind::UnexpectedEof, ReadError::Aborted),
        (io::ErrorKind::ConnectionReset, ReadError::Aborted),
    ] {
        let budget = Budget::new(1 << 20);
        let body = script(&[Step::Data(3), Step::Fail(kind)]);
        assert_eq!(Replay::read(body, &Settings::default(), &budget).await.unwrap_err(), error);
    }
}
