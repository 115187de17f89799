//! One lane of a session, with its turns in order.

use std::collections::VecDeque;

use bytes::Bytes;

use super::turn::{Create, Progress, Turn};

/// The turns of one `stream_id`, or of a Realtime session's conversation.
pub(super) struct Lane {
    /// The lane's name; `None` for the default lane.
    pub(super) id: Option<Box<str>>,
    /// Turns that wait for admission or are running: at most one, except in Realtime.
    pub(super) running: Vec<Turn>,
    /// The turns and messages that wait for those to end.
    pub(super) behind: VecDeque<Waiting>,
    /// The lane's last response, which the upstream keeps for the next turn.
    pub(super) latest: Option<Box<str>>,
}

/// An item that waits behind a turn.
pub(super) enum Waiting {
    Turn(Box<Create>),
    /// Another message, unchanged.
    Message(Bytes),
}

impl Lane {
    pub(super) fn new(id: Option<&str>) -> Self {
        Self { id: id.map(Into::into), running: Vec::new(), behind: VecDeque::new(), latest: None }
    }

    /// Whether no turn waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.behind.is_empty()
    }

    /// Whether a turn waits for admission.
    pub(super) fn is_blocked(&self) -> bool {
        self.running.iter().any(|turn| turn.progress == Progress::Waiting)
    }

    /// Whether the next turn must wait behind another. In a lane of `/responses` the upstream
    /// handles one turn at a time, and a retry must not overtake its successor. A Realtime session
    /// may request several responses at once.
    pub(super) fn is_taken(&self, one_at_a_time: bool) -> bool {
        if one_at_a_time { !self.running.is_empty() } else { self.is_blocked() }
    }
}
