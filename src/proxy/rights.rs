//! The rights of a caller, checked on a request before anything of it goes upstream.

use std::sync::Arc;

use http::Response;

use super::answer;
use super::body::Body;
use super::call::{self, Head};
use super::{Opened, Policy, refuse_body};
use crate::account::{ErrorDetail, Record};
use crate::caller::CallerId;
use crate::classify::ErrorClass;
use crate::metrics::ReplaySkip;
use crate::replay::{self, ReadError, Replay};
use crate::response::OwnAnswer;
use crate::rights::{BodyCheck, NotAllowed, Rights};

/// Bytes of a body that is kept whole to be read for its models: more than the largest body of JSON
/// that the API takes (50 MB).
pub const MOST_CHECKED: usize = 64 << 20;

impl Policy {
    /// The rights of a caller; nothing where it may use everything.
    pub(super) fn rights_of(&self, caller: CallerId) -> Option<&Arc<Rights>> {
        self.rights.get(usize::from(caller.0)).and_then(Option::as_ref)
    }

    /// How a body is read that is to be checked so.
    pub(super) fn replay_for(&self, check: BodyCheck) -> &replay::Settings {
        if check == BodyCheck::Nothing { &self.replay } else { &self.checked_replay }
    }

    /// Checks the models that the body of a caller's request names. The body is taken and given
    /// back by value: a future would store what is borrowed across an await beside the body itself.
    pub(super) fn check_body(
        &self,
        caller: CallerId,
        check: BodyCheck,
        head: &Head,
        body: Replay,
    ) -> Result<Replay, Unchecked> {
        let rights = self.rights_of(caller).filter(|_| check != BodyCheck::Nothing);
        let Some(rights) = rights else { return Ok(body) };
        if body.skipped() == Some(ReplaySkip::Budget) {
            return Err(Unchecked::NoMemory);
        }
        let checked = head.headers.look(|headers| {
            let plain = body.can_repeat().then(|| call::plain(headers, body.bytes()));
            rights.check_body(check, headers, plain.as_deref())
        });
        checked.map(|()| body).map_err(Unchecked::NotAllowed)
    }
}

impl Opened {
    /// Whether the body is to be read as a whole, whatever the mode.
    pub(super) fn reads_models(&self) -> bool {
        self.body_check != BodyCheck::Nothing
    }
}

/// Why a body does not go upstream.
pub(super) enum Unchecked {
    /// There is no memory to read it whole.
    NoMemory,
    /// It names a model that the caller may not use, or can't be read.
    NotAllowed(NotAllowed),
}

impl Unchecked {
    pub(super) fn refuse(self, record: Box<Record>) -> Response<Body> {
        match self {
            Self::NoMemory => refuse_body(ReadError::NoRoom, record),
            Self::NotAllowed(refused) => refuse(&refused, record),
        }
    }
}

/// The answer to what a caller may not do.
pub(super) fn not_allowed(refused: &NotAllowed) -> OwnAnswer {
    OwnAnswer::new(ErrorClass::WeirNotAllowed, refused.to_string())
}

/// Refuses a request for its caller's rights.
pub(super) fn refuse(refused: &NotAllowed, mut record: Box<Record>) -> Response<Body> {
    let own = not_allowed(refused);
    if let Some(model) = refused.model() {
        record.set_model(model);
    }
    record.failed(own.class, Some(ErrorDetail::masked(Some(&own.message), None, Some(&own.code), None)));
    answer::own(own, record)
}
