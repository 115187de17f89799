//! One lane of a session: its turns in order.

use std::collections::VecDeque;

use bytes::Bytes;

use super::turn::{Create, Progress, Turn};

/// The turns of one `stream_id`, or of a Realtime session's conversation.
pub(super) struct Lane {
    /// Its name; none for the default lane.
    pub(super) id: Option<Box<str>>,
    /// Turns that wait for admission or are under way: one at a time, but for Realtime.
    pub(super) running: Vec<Turn>,
    /// What came after them and waits until they are over.
    pub(super) behind: VecDeque<Waiting>,
    /// The last response of the lane, which the upstream keeps for the next turn.
    pub(super) latest: Option<Box<str>>,
}

/// What waits behind a turn.
pub(super) enum Waiting {
    Turn(Box<Create>),
    /// Another message, as it came.
    Message(Bytes),
}

impl Lane {
    pub(super) fn new(id: Option<&str>) -> Self {
        Self { id: id.map(Into::into), running: Vec::new(), behind: VecDeque::new(), latest: None }
    }

    /// Whether nothing waits or is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.behind.is_empty()
    }

    /// Whether a turn waits for admission.
    pub(super) fn is_blocked(&self) -> bool {
        self.running.iter().any(|turn| turn.progress == Progress::Waiting)
    }

    /// Whether the next turn has to wait behind another. In a lane of `/responses` the upstream
    /// answers one turn at a time, and one that is tried again must not come after its successor. A
    /// Realtime session may ask for several answers at once.
    pub(super) fn is_taken(&self, one_at_a_time: bool) -> bool {
        if one_at_a_time { !self.running.is_empty() } else { self.is_blocked() }
    }
}
