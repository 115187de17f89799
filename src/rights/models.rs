//! The models that a caller may use, checked wherever a request can name one.

use http::HeaderMap;

use super::NotAllowed;
use super::access::{Access, Right};
use super::path::decoded;
use super::reading::{self, Names, Unread};
use crate::openai::Endpoint;
use crate::openai::endpoint::operation;
use crate::openai::request_peek::MAX_MODEL;
use crate::pattern::Pattern;

/// Query parameters in which servers accept a model.
const PARAMETERS: [&str; 3] = ["model", "deployment", "deployment_id"];
/// Path segments that precede a model: Azure's, and an old one of the API.
const BEFORE_A_MODEL: [&str; 2] = ["deployments", "engines"];

/// The models that a caller may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models {
    /// A name must match one of them; the case matters.
    pub patterns: Vec<Pattern>,
    /// The position of the rule in the configuration.
    pub place: Box<str>,
}

/// The check of a body before it may be sent upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyCheck {
    /// No check.
    Nothing,
    /// All models in it must be allowed.
    Models,
    /// The same, and it must name a model, because the path and query do not.
    Named,
}

impl Models {
    /// Whether every model is allowed.
    pub fn is_everything(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.as_str() == "*")
    }

    /// Whether a model is allowed.
    pub fn allow(&self, name: &str) -> bool {
        name.len() <= MAX_MODEL && self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Checks the models in path and query, and returns the check that the body needs.
    pub(super) fn check_target(
        &self,
        right: Right,
        path: &str,
        query: Option<&str>,
        upgrade: bool,
    ) -> Result<BodyCheck, NotAllowed> {
        let mut named = false;
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        while let Some(segment) = segments.next() {
            if BEFORE_A_MODEL.contains(&segment.to_ascii_lowercase().as_str())
                && let Some(name) = segments.clone().next()
                // `/engines/v1/chat/completions` contains a version here.
                && name != "v1"
            {
                self.check_encoded(name, false)?;
                named = true;
            }
        }
        if right.endpoint == Endpoint::Models {
            let id: Vec<&str> = operation(path).skip(1).collect();
            if !id.is_empty() {
                self.check_encoded(&id.join("/"), false)?;
            }
        }
        for (name, value) in query.into_iter().flat_map(|query| query.split(['&', ';'])).map(pair) {
            let name = decoded(name, true).ok_or_else(|| self.unread("its query has broken escapes"))?;
            let base = name.split('[').next().unwrap_or_default().trim();
            if PARAMETERS.iter().any(|parameter| base.eq_ignore_ascii_case(parameter)) {
                self.check_encoded(value, true)?;
                named = true;
            }
        }
        self.body_check(right, named, upgrade)
    }

    /// The check that the body needs, depending on whether path and query `named` a model.
    fn body_check(&self, right: Right, named: bool, upgrade: bool) -> Result<BodyCheck, NotAllowed> {
        match right.endpoint {
            Endpoint::Batches if right.access == Access::Write => {
                Err(self.unread("a batch names its models in a file"))
            }
            Endpoint::Batches
            | Endpoint::Files
            | Endpoint::Uploads
            | Endpoint::VectorStores
            | Endpoint::Conversations
            | Endpoint::Containers
            | Endpoint::Models
            | Endpoint::Organization => Ok(BodyCheck::Nothing),
            Endpoint::Realtime if upgrade && !named => Err(self.unread("its query names no model")),
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Responses
            | Endpoint::Embeddings
            | Endpoint::Moderations
            | Endpoint::Audio
            | Endpoint::Images
            | Endpoint::Videos
            | Endpoint::FineTuning
            | Endpoint::Assistants
            | Endpoint::Threads
            | Endpoint::Evals
            | Endpoint::Realtime
            | Endpoint::Other => Ok(match right.access {
                _ if upgrade => BodyCheck::Nothing,
                Access::Read => BodyCheck::Nothing,
                Access::Use if !named => BodyCheck::Named,
                // For a video without a model the upstream uses its default model.
                Access::Write if !named && right.endpoint == Endpoint::Videos => BodyCheck::Named,
                Access::Use | Access::Write => BodyCheck::Models,
            }),
        }
    }

    /// Checks a complete body without its content coding.
    pub(super) fn check_body(
        &self,
        check: BodyCheck,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), NotAllowed> {
        let must = match check {
            BodyCheck::Nothing => return Ok(()),
            BodyCheck::Models if body.is_empty() => return Ok(()),
            BodyCheck::Models => false,
            BodyCheck::Named => true,
        };
        let names = self.check_names(reading::names(headers, body))?;
        if must && !names.own { Err(self.unread("its body names no model")) } else { Ok(()) }
    }

    /// Checks a message of a WebSocket session; returns whether it names the model of a turn.
    pub(super) fn check_message(&self, message: &[u8]) -> Result<bool, NotAllowed> {
        self.check_names(reading::in_json(message)).map(|names| names.own)
    }

    fn check_names(&self, names: Result<Names, Unread>) -> Result<Names, NotAllowed> {
        let names = names.map_err(|why| self.unread(why))?;
        match names.all.iter().find(|name| !self.allow(name)) {
            Some(other) => Err(self.other(other)),
            None => Ok(names),
        }
    }

    fn check_encoded(&self, name: &str, plus_is_space: bool) -> Result<(), NotAllowed> {
        let name = decoded(name, plus_is_space).ok_or_else(|| self.unread("a model has broken escapes"))?;
        if self.allow(&name) { Ok(()) } else { Err(self.other(&name)) }
    }

    fn other(&self, name: &str) -> NotAllowed {
        let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        let rule = format!("the model \"{shown}\" matches nothing in {}", self.place);
        NotAllowed { rule, model: Some(shown.into()) }
    }

    /// The refusal of unreadable input.
    pub(super) fn unread(&self, why: &str) -> NotAllowed {
        NotAllowed::new(format!("{} allows certain models only, and {why}", self.place))
    }
}

fn pair(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}
