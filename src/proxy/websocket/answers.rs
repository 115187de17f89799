//! Assigns the upstream's messages to turns, and applies them.

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

/// What to do with a message of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Relay it to the client.
    Pass,
    /// Hold it back: the turn is retried.
    Keep,
}

impl Turns {
    /// Handles a message of the upstream. `head` is its start; `tail` is its end, if not part of
    /// `head`. It can be held back only if it is complete in `frame`.
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
        // When a turn fails, the upstream forgets the response that the turn continued.
        if lane_of.latest.is_some() && lane_of.latest == turn.event().previous_response_id {
            lane_of.latest = None;
        }
        turn.over(&classified, now);
        self.advance(lane, now);
        Verdict::Pass
    }

    /// The turn of a response that begins. A response that was not requested, such as after
    /// steering or speech, is a turn too.
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
                // It is running, whatever admission decided.
                Admission::Refused(_) | Admission::Waits(_) => drop(turn.sent(false, now)),
            }
            self.lanes[lane].running.push(turn);
            self.lanes[lane].running.len() - 1
        });
        self.lanes[lane].running[place].response_id.clone_from(&event.response_id);
        (lane, place)
    }

    /// The turn that an event belongs to.
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
            // An invalid lane name is not repeated to the client.
            let unnamed =
                |turn: &Turn| turn.event().stream_id.as_deref().is_none_or(|id| !events::is_stream_id(id));
            return find(&unnamed);
        }
        // Realtime: errors without a message id concern the last request, or none.
        find(&|turn| turn.progress == Progress::Sent)
            .or_else(|| (event.kind != ServerKind::Error).then(|| find(&|_| true)).flatten())
    }

    /// Records limits that the upstream reported outside of a response; they belong to the scope of
    /// the session's model.
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
