//! What a caller may use: endpoints, by what is done with them, and models.
//!
//! Both are checked on what was parsed, before anything goes upstream: the method and path, the
//! query, the body as JSON or a form, each message of a WebSocket session. What has two readings is
//! refused to a caller whose rights depend on the reading.

mod access;
mod models;
mod path;
mod reading;

use http::{HeaderMap, Method};

pub use access::{Access, Grant, Right, Set};
pub use models::{BodyCheck, Models};

use crate::openai::Endpoint;

/// The rights of one caller. One without bounds has none of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// What it may do.
    pub allow: Set,
    /// Where the configuration says so; nothing where it is the default.
    pub place: Option<Box<str>>,
    /// The models that it may use, where not all.
    pub models: Option<Models>,
}

/// Why a caller may not do what it asks for: the rule and its place in the configuration.
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

    /// The model that is not allowed, where that is the reason.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

/// The head of a request, as far as rights are about it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it came.
    pub path: &'a str,
    /// The query as it came.
    pub query: Option<&'a str>,
    /// The headers as they came.
    pub headers: &'a HeaderMap,
    /// What Weir takes the path for.
    pub endpoint: Endpoint,
    /// Whether it asks to speak WebSocket.
    pub upgrade: bool,
}

impl Rights {
    /// Whether they bound nothing.
    pub fn are_everything(&self) -> bool {
        self.allow.is_everything() && self.models.as_ref().is_none_or(Models::is_everything)
    }

    /// Checks a request's head, and says what is to be checked of its body.
    ///
    /// # Errors
    /// What is not allowed, and where the configuration says so.
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

    /// Checks a body, its content coding taken away; nothing stands for one that is not there as a
    /// whole.
    ///
    /// # Errors
    /// The model that is not allowed, or why its models can't be read.
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

    /// Checks a message that a client sends in a WebSocket session, and says whether it names the
    /// model of a turn.
    ///
    /// # Errors
    /// The model that is not allowed, or why it can't be read.
    pub fn check_message(&self, message: &[u8]) -> Result<bool, NotAllowed> {
        self.bounded_models().map_or(Ok(true), |models| models.check_message(message))
    }

    /// The refusal of a turn whose session has named no model so far.
    pub fn no_model(&self) -> Option<NotAllowed> {
        self.bounded_models()
            .map(|models| models.unread("neither this turn nor an earlier one names a model"))
    }

    /// The models that it may use, where not all.
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
