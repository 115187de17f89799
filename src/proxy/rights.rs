//! A caller's rights, checked before any of the request is sent upstream.

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

/// Largest body that is kept in full to check its models, in bytes: more than the API's largest
/// JSON body (50 MB).
pub const MOST_CHECKED: usize = 64 << 20;

impl Policy {
    /// The rights of a caller; `None` if it is unrestricted.
    pub(super) fn rights_of(&self, caller: CallerId) -> Option<&Arc<Rights>> {
        self.rights.get(usize::from(caller.0)).and_then(Option::as_ref)
    }

    /// The replay settings for a body with this check.
    pub(super) fn replay_for(&self, check: BodyCheck) -> &replay::Settings {
        if check == BodyCheck::Nothing { &self.replay } else { &self.checked_replay }
    }

    /// Checks the models in a request's body. The body is passed by value: a future would store a
    /// borrow across an await beside the body itself.
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
        let checked = head.headers.with(|headers| {
            let plain = body.can_repeat().then(|| call::plain(headers, body.bytes()));
            rights.check_body(check, headers, plain.as_deref())
        });
        checked.map(|()| body).map_err(Unchecked::NotAllowed)
    }
}

impl Opened {
    /// Whether the whole body must be read, whatever the mode.
    pub(super) fn reads_models(&self) -> bool {
        self.body_check != BodyCheck::Nothing
    }
}

/// The reason why a body is not sent upstream.
pub(super) enum Unchecked {
    /// There is no memory to read all of it.
    NoMemory,
    /// It names a model that the caller may not use, or is unreadable.
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

/// The response to a request without the right.
pub(super) fn not_allowed(refused: &NotAllowed) -> OwnAnswer {
    OwnAnswer::new(ErrorClass::WeirNotAllowed, refused.to_string())
}

/// Refuses a request that its caller has no right to.
pub(super) fn refuse(refused: &NotAllowed, mut record: Box<Record>) -> Response<Body> {
    let own = not_allowed(refused);
    if let Some(model) = refused.model() {
        record.set_model(model);
    }
    record.failed(own.class, Some(ErrorDetail::masked(Some(&own.message), None, Some(&own.code), None)));
    answer::own(own, record)
}
