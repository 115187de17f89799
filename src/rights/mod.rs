//! The rights of callers: the endpoints, by kind of access, and the models that they may use.
//!
//! Both are checked on parsed input, before anything is sent upstream: the method and path, the
//! query, the body as JSON or a form, each message of a WebSocket session. Ambiguous input is
//! refused for callers whose rights depend on its meaning.

mod access;
mod models;
mod path;
mod reading;

use http::{HeaderMap, Method};

pub use access::{Access, Grant, Right, Set};
pub use models::{BodyCheck, Models};

use crate::openai::Endpoint;

/// The rights of one caller. An unrestricted caller has no value of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The allowed accesses.
    pub allow: Set,
    /// The position of the rule in the configuration; `None` for the default.
    pub place: Option<Box<str>>,
    /// The allowed models; `None` if all are allowed.
    pub models: Option<Models>,
}

/// The reason for a refusal: the rule and its position in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("This caller may not do this: {rule}.")]
pub struct NotAllowed {
    rule: String,
    model: Option<Box<str>>,
}

impl NotAllowed {
    fn new(rule: String) -> Self {
        Self { rule, model: None }
    }

    /// The forbidden model, if that is the reason.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

/// The parts of a request's head that rights depend on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, unchanged.
    pub path: &'a str,
    /// The query, unchanged.
    pub query: Option<&'a str>,
    /// The headers, unchanged.
    pub headers: &'a HeaderMap,
    /// The endpoint that Weir derives from the path.
    pub endpoint: Endpoint,
    /// Whether it requests WebSocket.
    pub upgrade: bool,
}

impl Rights {
    /// Whether everything is allowed.
    pub fn are_everything(&self) -> bool {
        self.allow.is_everything() && self.models.as_ref().is_none_or(Models::is_everything)
    }

    /// Checks a request's head, and returns the check that its body needs.
    ///
    /// # Errors
    /// The forbidden access, and the rule's position.
    pub fn check(&self, asked: &Asked<'_>) -> Result<BodyCheck, NotAllowed> {
        if let Some(why) = path::ambiguity(asked.path, asked.headers) {
            let place = self.place.as_deref().or(self.models.as_ref().map(|models| &*models.place));
            let place = place.unwrap_or("the default of rights.allow");
            return Err(NotAllowed::new(format!(
                "its rights ({place}) depend on what is asked for, and {why}"
            )));
        }
        let right = Right::of(asked.method, asked.path, asked.endpoint, asked.upgrade);
        if !self.allow.has(right) {
            return Err(self.missing(right));
        }
        match self.bounded_models() {
            Some(models) => models.check_target(right, asked.path, asked.query, asked.upgrade),
            None => Ok(BodyCheck::Nothing),
        }
    }

    /// Checks a body without its content coding; `None` stands for an incomplete one.
    ///
    /// # Errors
    /// The forbidden model, or why the models can't be read.
    pub fn check_body(
        &self,
        check: BodyCheck,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Result<(), NotAllowed> {
        let Some(models) = self.bounded_models().filter(|_| check != BodyCheck::Nothing) else {
            return Ok(());
        };
        let body = body.ok_or_else(|| models.unread("its body is too large to be read for them"))?;
        models.check_body(check, headers, body)
    }

    /// Checks a client's message in a WebSocket session, and returns whether it names the model of
    /// a turn.
    ///
    /// # Errors
    /// The forbidden model, or why it can't be read.
    pub fn check_message(&self, message: &[u8]) -> Result<bool, NotAllowed> {
        self.bounded_models().map_or(Ok(true), |models| models.check_message(message))
    }

    /// The refusal of a turn whose session has not named a model.
    pub fn no_model(&self) -> Option<NotAllowed> {
        self.bounded_models()
            .map(|models| models.unread("neither this turn nor an earlier one names a model"))
    }

    /// The allowed models; `None` if all are allowed.
    pub fn bounded_models(&self) -> Option<&Models> {
        self.models.as_ref().filter(|models| !models.is_everything())
    }

    fn missing(&self, right: Right) -> NotAllowed {
        let word = right.as_str();
        NotAllowed::new(match &self.place {
            Some(place) => format!("{word} is not in {place}"),
            None => format!(
                "requests bear a configured credential, and {word} reads or changes what the account keeps. Add it to the \
                 caller's allow, or to rights.allow"
            ),
        })
    }
}
