//! What the upstream's messages say of the turns: which one each is about, and what it does to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::turn::{Create, Next, Progress, Turn};
use super::turns::Turns;
use crate::admission::{self, Admission, Cost, HeadReport};
use crate::caller::Mode;
use crate::classify;
use crate::clock::{self, Instant};
use crate::openai::websocket::{self as events, ClientEvent, ServerEvent, ServerKind};
use crate::proxy::limits;

/// What to do with a message of the upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client gets it.
    Pass,
    /// It is kept: the turn is tried again.
    Keep,
}

impl Turns {
    /// Takes a message of the upstream's: `head` is its beginning, `tail` its end where that is
    /// another part of it. It may be kept where it is whole, as `frame` says.
    pub(super) fn take_upstream(
        &mut self,
        head: &[u8],
        tail: &[u8],
        length: usize,
        frame: Option<&dyn Fn() -> Bytes>,
        now: Instant,
    ) -> Verdict {
        let event = events::server_event(head, tail);
        let end = if tail.is_empty() { head } else { tail };
        match event.kind {
            ServerKind::Other => {}
            ServerKind::RateLimits => self.limits_told(head, now),
            ServerKind::Created => {
                let (lane, place) = self.created(&event, now);
                self.lanes[lane].running[place].note_event(length, false, now);
            }
            ServerKind::Progress => {
                if let Some((lane, place)) = self.about(&event) {
                    self.lanes[lane].running[place].note_event(length, true, now);
                }
            }
            ServerKind::Ended => {
                if let Some((lane, place)) = self.about(&event) {
                    let mut turn = self.lanes[lane].running.remove(place);
                    turn.note_event(length, false, now);
                    turn.ended(end, now);
                    self.lanes[lane].latest = event.response_id;
                    self.advance(lane, now);
                }
            }
            ServerKind::Failed | ServerKind::Error => return self.failed(&event, head, length, frame, now),
        }
        Verdict::Pass
    }

    fn failed(
        &mut self,
        event: &ServerEvent,
        head: &[u8],
        length: usize,
        frame: Option<&dyn Fn() -> Bytes>,
        now: Instant,
    ) -> Verdict {
        let Some((lane, place)) = self.about(event) else {
            if event.kind == ServerKind::Error {
                let body = events::error_body(head);
                let classified = classify::frame_error(
                    self.context.endpoint,
                    &body,
                    &events::error_headers(head),
                    clock::wall(),
                );
                self.context.proxy.account.connection_error(classified.class, now);
            }
            return Verdict::Pass;
        };
        let mut turn = self.lanes[lane].running.remove(place);
        let (next, classified) = turn.failed(&self.context, head, now);
        if let (Next::Again(ask, pause), Some(frame)) = (next, frame) {
            turn.keep(frame(), classified);
            let serial = turn.serial;
            self.lanes[lane].running.insert(place, turn);
            self.ask_again(serial, ask, pause, now);
            return Verdict::Keep;
        }
        turn.note_event(length, false, now);
        let lane_of = &mut self.lanes[lane];
        // The upstream forgets what a turn of the same lane continued when that turn fails.
        if lane_of.latest.is_some() && lane_of.latest == turn.event().previous_response_id {
            lane_of.latest = None;
        }
        turn.over(&classified, now);
        self.advance(lane, now);
        Verdict::Pass
    }

    /// Which turn an answer that begins is of; one that nobody asked for, such as what follows from
    /// steering or from speech, is a turn too.
    fn created(&mut self, event: &ServerEvent, now: Instant) -> (usize, usize) {
        let lane = self.lane_of(event.stream_id.as_deref());
        let unbound = |turn: &Turn| turn.progress != Progress::Waiting && turn.response_id.is_none();
        let place = self.lanes[lane].running.iter().position(unbound).unwrap_or_else(|| {
            let create = Create {
                frames: Bytes::new(),
                event: ClientEvent { stream_id: event.stream_id.clone(), ..ClientEvent::default() },
                held: None,
                checked: None,
            };
            let mut turn = self.open(create, now);
            let ask = turn.uncontrolled_ask(&self.context);
            match Arc::clone(turn.scope()).ask(&ask, now) {
                Admission::Granted(permit) => drop(turn.granted(&self.context, permit, Duration::ZERO, now)),
                // It is under way, whatever admission says.
                Admission::Refused(_) | Admission::Waits(_) => drop(turn.sent(false, now)),
            }
            self.lanes[lane].running.push(turn);
            self.lanes[lane].running.len() - 1
        });
        self.lanes[lane].running[place].response_id.clone_from(&event.response_id);
        (lane, place)
    }

    /// Which turn an event is about.
    fn about(&self, event: &ServerEvent) -> Option<(usize, usize)> {
        let has_lanes = self.context.has_lanes();
        let find = |found: &dyn Fn(&Turn) -> bool| {
            self.lanes.iter().enumerate().find_map(|(at, lane)| {
                let place =
                    lane.running.iter().position(|turn| turn.progress != Progress::Waiting && found(turn))?;
                Some((at, place))
            })
        };
        if has_lanes && event.stream_id.is_some() {
            return find(&|turn| turn.event().stream_id == event.stream_id);
        }
        if let Some(id) = event.response_id.as_deref()
            && let Some(found) = find(&|turn| turn.response_id.as_deref() == Some(id))
        {
            return Some(found);
        }
        if event.about.is_some() {
            return find(&|turn| turn.event().event_id == event.about);
        }
        if has_lanes {
            // A name of a lane that can't be one is not repeated to who used it.
            let unnamed =
                |turn: &Turn| turn.event().stream_id.as_deref().is_none_or(|id| !events::is_stream_id(id));
            return find(&unnamed);
        }
        // Realtime: errors that name no message are about the last request, or about none.
        find(&|turn| turn.progress == Progress::Sent)
            .or_else(|| (event.kind != ServerKind::Error).then(|| find(&|_| true)).flatten())
    }

    /// The upstream told its limits, apart from any answer: they count for the scope of the
    /// session's model.
    fn limits_told(&mut self, event: &[u8], now: Instant) {
        let policy = self.context.proxy.policies.current();
        let scope = self.context.scope(&policy, self.model.as_deref());
        let report =
            HeadReport { limits: limits::of_headers(&events::rate_limits(event)), ..HeadReport::default() };
        let ask = self.context.ask(Cost::default(), 0, now, admission::Turn::First, Mode::Bypass);
        if let Admission::Granted(mut permit) = scope.ask(&ask, now) {
            permit.sent_at(now);
            permit.head_at(&report, None, None, false, now);
        }
    }
}
