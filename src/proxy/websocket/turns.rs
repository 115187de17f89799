//! The turns of one session: their order, and the assignment of events to turns.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;

use super::context::Context;
use super::lane::{Lane, Waiting};
use super::turn::{Create, Progress, Turn, TurnedAway};
use crate::admission::{Admission, Ask, Permit, Refused};
use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::metrics::Bound;
use crate::openai::websocket::ClientKind;
use crate::proxy::allowance::Allowance;
use crate::proxy::rights;
use crate::replay::Held;
use crate::response::OwnAnswer;
use crate::rights::NotAllowed;
use crate::websocket::{Kind, write};

/// Most waiting turns of one session, and most other messages behind them.
const MAX_WAITING: usize = 256;

/// Most running turns of one session. The API processes 16 at once and queues others.
const MAX_RUNNING: usize = 1024;

/// The result of a wait: the turn's serial, its permit, and when the wait began.
type Waited = (u64, Result<Permit, Refused>, Instant);

/// The turns of one session.
pub(super) struct Turns {
    pub(super) context: Context,
    pub(super) lanes: Vec<Lane>,
    serial: u64,
    /// Turns and messages that wait behind a turn of their lane.
    behind: usize,
    waits: JoinSet<Waited>,
    /// The model of turns that name none.
    pub(super) model: Option<Box<str>>,
    draining: bool,
    /// Frames for the upstream.
    pub(super) up: Vec<Bytes>,
    /// Complete messages for the client, to be sent between two of the upstream's.
    pub(super) down: Vec<Bytes>,
}

impl Turns {
    /// An empty set of turns. `model` is from the handshake.
    pub(super) fn new(context: Context, model: Option<Box<str>>) -> Self {
        Self {
            context,
            lanes: Vec::new(),
            serial: 0,
            behind: 0,
            waits: JoinSet::new(),
            model,
            draining: false,
            up: Vec::new(),
            down: Vec::new(),
        }
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Whether no turn waits or runs.
    pub(super) fn are_over(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    /// Whether the queue behind turns is full: nothing more is read from the client.
    pub(super) fn are_full(&self) -> bool {
        self.behind >= 2 * MAX_WAITING
    }

    /// Handles a message of the client.
    pub(super) fn take_client(&mut self, mut create: Create, now: Instant) {
        if let Some(refused) = self.not_allowed(&mut create) {
            // A refused message does not change the model of later turns.
            let model = self.model.clone();
            self.refuse(create, rights::not_allowed(&refused), now);
            self.model = model;
            return;
        }
        match create.event.kind {
            ClientKind::Create => self.create(create, now),
            // Cancels a response before it began.
            ClientKind::Cancel if !self.context.has_lanes() && self.withdraw(now) => {}
            // Messages that change a conversation stay behind the turn before them.
            ClientKind::Other if !self.context.has_lanes() && self.lanes.iter().any(Lane::is_blocked) => {
                self.behind += 1;
                self.lane(None).behind.push_back(Waiting::Message(create.frames));
            }
            ClientKind::Other | ClientKind::Cancel | ClientKind::Audio => self.up.push(create.frames),
        }
    }

    /// The reason why the caller's rights forbid a message. A turn without a model uses the
    /// previous one.
    fn not_allowed(&self, create: &mut Create) -> Option<NotAllowed> {
        match create.checked.take()? {
            Err(refused) => Some(refused),
            Ok(own) if create.event.kind == ClientKind::Create && !own && self.model.is_none() => {
                self.context.rights.as_ref().and_then(|rights| rights.no_model())
            }
            Ok(_) => None,
        }
    }

    fn create(&mut self, mut create: Create, now: Instant) {
        if self.draining {
            return self.refuse(create, draining(), now);
        }
        if self.waiting() >= MAX_WAITING || self.running_turns() >= MAX_RUNNING {
            self.context.proxy.account.metrics().limits_reached.inc(Bound::WebSocketTurns);
            return self.refuse(create, too_many(), now);
        }
        if create.held.is_none() {
            // Copied: the original would keep the whole read buffer alive.
            create.frames = Bytes::copy_from_slice(&create.frames);
            let held = create.held.insert(Held::new(&self.context.proxy.kept_bodies));
            if !held.grow(create.frames.len()) {
                return self.refuse(create, no_memory(), now);
            }
        }
        let has_lanes = self.context.has_lanes();
        let lane = self.lane(create.event.stream_id.as_deref());
        if lane.is_taken(has_lanes) {
            lane.behind.push_back(Waiting::Turn(Box::new(create)));
            self.behind += 1;
        } else {
            self.begin(create, now);
        }
    }

    /// Turns that were not sent upstream.
    fn waiting(&self) -> usize {
        self.behind + self.lanes.iter().filter(|lane| lane.is_blocked()).count()
    }

    /// Turns whose responses have not ended.
    fn running_turns(&self) -> usize {
        self.lanes.iter().map(|lane| lane.running.len()).sum()
    }

    /// Starts a turn whose lane is free.
    fn begin(&mut self, create: Create, now: Instant) {
        let mut turn = self.open(create, now);
        if turn.event().warms_up {
            let frames = turn.sent(false, now);
            self.up.push(frames);
            return self.put(turn);
        }
        let ask = turn.first_ask(&self.context);
        let scope = Arc::clone(turn.scope());
        let serial = turn.serial;
        match turn.allowance(&self.context, now) {
            Allowance::Now => {}
            Allowance::Never(own) => {
                let message = turn.refuse(*own, now);
                return self.tell(&message);
            }
            Allowance::Later(its_turn) => {
                self.put(turn);
                self.waits.spawn(async move {
                    let admitted = match its_turn.await {
                        Ok(()) => scope.admit(ask).await,
                        Err(_) => Err(Refused::Draining),
                    };
                    (serial, admitted, now)
                });
                return;
            }
        }
        match scope.ask(&ask, now) {
            Admission::Granted(permit) => {
                let frames = turn.granted(&self.context, permit, Duration::ZERO, now);
                self.up.push(frames);
                self.put(turn);
            }
            Admission::Refused(refused) => self.turn_away(turn, &refused, now),
            Admission::Waits(waiting) => {
                self.put(turn);
                self.waits.spawn(async move { (serial, waiting.await, now) });
            }
        }
    }

    pub(super) fn open(&mut self, create: Create, now: Instant) -> Turn {
        self.serial += 1;
        let parent = create.event.previous_response_id.as_deref();
        let cached =
            parent.is_some_and(|parent| self.lanes.iter().any(|lane| lane.latest.as_deref() == Some(parent)));
        if let Some(model) = create.event.peek.as_ref().and_then(|peek| peek.model.clone()) {
            self.model = Some(model);
        }
        Turn::begin(&self.context, create, self.serial, self.model.as_deref(), cached, now)
    }

    fn put(&mut self, turn: Turn) {
        let at = self.lane_of(turn.event().stream_id.as_deref());
        self.lanes[at].running.push(turn);
    }

    /// Requests admission again for a turn that was running.
    pub(super) fn ask_again(&mut self, serial: u64, ask: Ask, pause: Duration, now: Instant) {
        let Some(turn) = self.running(serial) else { return };
        let scope = Arc::clone(turn.scope());
        self.waits.spawn(async move {
            clock::sleep(pause).await;
            (serial, scope.admit(ask).await, now + pause)
        });
    }

    /// Waits until a waiting turn is admitted or refused.
    pub(super) fn poll_waits(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Some(Ok((serial, admitted, asked))) = ready!(self.waits.poll_join_next(cx)) else {
            return Poll::Pending;
        };
        let now = clock::now();
        let Some((lane, place)) = self.place(serial) else { return Poll::Ready(()) };
        match admitted {
            Ok(permit) => {
                let waited = now.saturating_duration_since(asked);
                let turn = &mut self.lanes[lane].running[place];
                let frames = turn.granted(&self.context, permit, waited, now);
                self.up.push(frames);
                if !self.context.has_lanes() {
                    self.advance(lane, now);
                }
            }
            Err(refused) => {
                let turn = self.lanes[lane].running.remove(place);
                self.turn_away(turn, &refused, now);
                self.advance(lane, now);
            }
        }
        Poll::Ready(())
    }

    /// The lane's turn ended or was sent: starts the items behind it.
    pub(super) fn advance(&mut self, lane: usize, now: Instant) {
        let has_lanes = self.context.has_lanes();
        while !self.lanes[lane].is_taken(has_lanes)
            && let Some(next) = self.lanes[lane].behind.pop_front()
        {
            self.behind -= 1;
            match next {
                Waiting::Message(frames) => self.up.push(frames),
                Waiting::Turn(create) if self.draining => self.refuse(*create, draining(), now),
                Waiting::Turn(create) => self.begin(*create, now),
            }
        }
    }

    /// Withdraws the last turn that was not sent upstream, and tells the client. Returns `false` if
    /// there is none.
    fn withdraw(&mut self, now: Instant) -> bool {
        for lane in 0..self.lanes.len() {
            let waiting = |turn: &Turn| turn.progress == Progress::Waiting;
            let Some(place) = self.lanes[lane].running.iter().position(waiting) else { continue };
            let turn = self.lanes[lane].running.remove(place);
            let message = turn.refuse(withdrawn(), now);
            self.tell(&message);
            self.advance(lane, now);
            return true;
        }
        false
    }

    fn turn_away(&mut self, turn: Turn, refused: &Refused, now: Instant) {
        match turn.turned_away(&self.context, refused, now) {
            TurnedAway::Upstream(frame) => self.down.push(frame),
            TurnedAway::Own(message) => self.tell(&message),
        }
    }

    fn refuse(&mut self, create: Create, own: OwnAnswer, now: Instant) {
        let turn = self.open(create, now);
        let message = turn.refuse(own, now);
        self.tell(&message);
    }

    fn tell(&mut self, message: &[u8]) {
        self.down.push(write(Kind::Text, message, None).into());
    }

    /// Starts no further turns. Admission refuses those that wait.
    pub(super) fn drain(&mut self, now: Instant) {
        self.draining = true;
        for lane in 0..self.lanes.len() {
            for waiting in std::mem::take(&mut self.lanes[lane].behind) {
                self.behind -= 1;
                match waiting {
                    Waiting::Message(frames) => self.up.push(frames),
                    Waiting::Turn(create) => self.refuse(*create, draining(), now),
                }
            }
        }
    }

    /// Ends every turn, because the connection ends. Without a class, the client left.
    pub(super) fn cut(&mut self, class: Option<ErrorClass>, now: Instant) {
        self.waits.abort_all();
        for lane in &mut self.lanes {
            lane.behind.clear();
            for turn in lane.running.drain(..) {
                let class = match class {
                    // Nothing of a response arrived.
                    Some(ErrorClass::StreamCut) if turn.progress != Progress::Answered => {
                        Some(ErrorClass::ConnectionReset)
                    }
                    other => other,
                };
                turn.cut(class, now);
            }
        }
        self.behind = 0;
    }

    /// The client sends nothing more: turns that were not sent upstream are dropped.
    pub(super) fn client_left(&mut self) {
        for lane in &mut self.lanes {
            lane.behind.clear();
            // Dropping them accounts for a client that left.
            lane.running.retain(|turn| turn.progress != Progress::Waiting);
        }
        self.behind = 0;
    }

    /// Returns the permits of turns without events for too long.
    pub(super) fn release_silent(&mut self, now: Instant) {
        for turn in self.lanes.iter_mut().flat_map(|lane| &mut lane.running) {
            if turn.release_silent(now) {
                self.context.proxy.account.metrics().limits_reached.inc(Bound::WebSocketTurnIdle);
            }
        }
    }

    fn place(&self, serial: u64) -> Option<(usize, usize)> {
        self.lanes
            .iter()
            .enumerate()
            .find_map(|(at, lane)| Some((at, lane.running.iter().position(|turn| turn.serial == serial)?)))
    }

    fn running(&mut self, serial: u64) -> Option<&mut Turn> {
        let (lane, place) = self.place(serial)?;
        self.lanes[lane].running.get_mut(place)
    }

    fn lane(&mut self, id: Option<&str>) -> &mut Lane {
        let at = self.lane_of(id);
        &mut self.lanes[at]
    }

    /// The lane with this name, created if needed; idle lanes without state are removed.
    pub(super) fn lane_of(&mut self, id: Option<&str>) -> usize {
        let id = id.filter(|_| self.context.has_lanes());
        if let Some(at) = self.lanes.iter().position(|lane| lane.id.as_deref() == id) {
            return at;
        }
        if self.lanes.len() >= MAX_WAITING
            && let Some(idle) = self.lanes.iter().position(Lane::is_idle)
        {
            self.lanes[idle] = Lane::new(id);
            return idle;
        }
        self.lanes.push(Lane::new(id));
        self.lanes.len() - 1
    }
}

fn draining() -> OwnAnswer {
    OwnAnswer::new(
        ErrorClass::WeirDraining,
        "This Weir is shutting down and accepts no further turns. Reconnect to another replica.",
    )
}

fn too_many() -> OwnAnswer {
    OwnAnswer::new(
        ErrorClass::WeirQueueFull,
        format!(
            "{MAX_WAITING} turns of this connection are waiting, or {MAX_RUNNING} are running. Wait for responses, or \
             open another connection."
        ),
    )
}

fn no_memory() -> OwnAnswer {
    OwnAnswer::new(
        ErrorClass::WeirQueueFull,
        "The bodies of waiting requests have reached server.max_buffered_bytes.",
    )
}

fn withdrawn() -> OwnAnswer {
    OwnAnswer {
        status: StatusCode::REQUEST_TIMEOUT,
        code: "cancelled".into(),
        ..OwnAnswer::new(
            ErrorClass::WeirClientClosed,
            "The response was cancelled before Weir sent its request to the upstream.",
        )
    }
}
