//! The API operations that may be repeated without harm.

use http::Method;

use crate::openai::endpoint::{Named, operation};
use crate::openai::{Endpoint, RequestPeek};

/// Whether an operation may be repeated after the upstream may have started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Safety {
    /// Repeating it only costs money.
    Repeatable,
    /// Repeating it may do the work twice, so it is repeated only if the attempt provably had no
    /// effect.
    OnlyIfUnsent,
}

/// An operation that the configuration declares repeatable, such as `POST /vector_stores/*/search`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    method: Method,
    segments: Vec<Box<str>>,
}

/// The text is not a method and a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no operation: write a method and a path, such as \"POST /vector_stores/*/search\"")]
pub struct NoOperation {
    text: String,
}

impl Operation {
    /// Parses a method and a path. A leading version segment is optional; `*` matches any one
    /// segment.
    pub fn parse(text: &str) -> Result<Self, NoOperation> {
        let no_operation = || NoOperation { text: text.to_owned() };
        let (method, path) = text.trim().split_once(char::is_whitespace).ok_or_else(no_operation)?;
        let method =
            Method::from_bytes(method.to_ascii_uppercase().as_bytes()).map_err(|_| no_operation())?;
        let segments: Vec<Box<str>> = operation(path.trim()).map(Into::into).collect();
        if !path.trim_start().starts_with('/') || segments.is_empty() {
            return Err(no_operation());
        }
        Ok(Self { method, segments })
    }

    fn is(&self, method: &Method, path: &str) -> bool {
        let mut segments = operation(path);
        self.method == *method
            && self
                .segments
                .iter()
                .all(|wanted| segments.next().is_some_and(|segment| **wanted == *"*" || **wanted == *segment))
            && segments.next().is_none()
    }
}

impl Safety {
    /// The safety of a request. `additions` are operations that the configuration declares
    /// repeatable.
    ///
    /// RFC 9110, section 9.2.2, forbids a proxy to repeat non-idempotent requests unless it knows
    /// that they are safe for the resource; this table is that knowledge. GET and DELETE are
    /// idempotent. A POST is repeatable only if it computes a result and stores nothing; a response
    /// is stored unless `store` is false. `named` is the parsed path; it is parsed again only if
    /// there are additions.
    pub fn of(
        method: &Method,
        path: &str,
        named: Named,
        peek: Option<&RequestPeek>,
        additions: &[Operation],
    ) -> Self {
        let repeatable = match *method {
            Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE => true,
            Method::POST => named.itself && computes_only(named.endpoint, peek),
            _ => false,
        };
        if repeatable || additions.iter().any(|addition| addition.is(method, path)) {
            Self::Repeatable
        } else {
            Self::OnlyIfUnsent
        }
    }
}

fn computes_only(endpoint: Endpoint, peek: Option<&RequestPeek>) -> bool {
    use Endpoint as E;
    match endpoint {
        // A stored completion would be stored twice.
        E::ChatCompletions => peek.is_none_or(|peek| peek.store != Some(true)),
        E::Completions | E::Embeddings | E::Moderations => true,
        E::Responses => peek.is_some_and(|peek| {
            let keeps_nothing = peek.store == Some(false) && !peek.background && !peek.conversation;
            // A remote tool would act twice on a third system.
            keeps_nothing && !peek.has_remote_tools
        }),
        E::Audio
        | E::Images
        | E::Videos
        | E::Files
        | E::Uploads
        | E::Batches
        | E::FineTuning
        | E::VectorStores
        | E::Assistants
        | E::Threads
        | E::Conversations
        | E::Containers
        | E::Evals
        | E::Realtime
        | E::Models
        | E::Organization
        | E::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::request_peek::peek;

    const OPERATIONS: &str = include_str!("../../tests/data/operations.txt");

    fn safety(method: &str, path: &str, body: Option<&str>) -> Safety {
        let peek = body.map(|body| peek(body.as_bytes()).unwrap());
        Safety::of(&method.parse().unwrap(), path, Named::by(path), peek.as_ref(), &[])
    }

    #[test]
    fn every_operation_of_the_api_has_its_verdict() {
        let mut count = 0;
        for line in OPERATIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let [method, path, verdict] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let concrete = path.split('?').next().unwrap().replace(['{', '}'], "");
            let plain = safety(method, &format!("/v1{concrete}"), Some("{}"));
            let stateless = safety(method, &format!("/v1{concrete}"), Some(r#"{"store":false}"#));
            let expected = match verdict {
                "repeatable" => (Safety::Repeatable, Safety::Repeatable),
                "unless_stored" => (Safety::OnlyIfUnsent, Safety::Repeatable),
                "only_if_unsent" => (Safety::OnlyIfUnsent, Safety::OnlyIfUnsent),
                other => panic!("{other}"),
            };
            assert_eq!((plain, stateless), expected, "{line}");
            count += 1;
        }
        assert_eq!(count, 288);
    }

    #[test]
    fn a_response_is_repeatable_only_if_nothing_is_kept() {
        for (body, expected) in [
            (r#"{"store":false}"#, Safety::Repeatable),
            (r#"{"store":false,"background":true}"#, Safety::OnlyIfUnsent),
            (r#"{"store":false,"conversation":"conv_1"}"#, Safety::OnlyIfUnsent),
            (r#"{"store":false,"tools":[{"type":"mcp"}]}"#, Safety::OnlyIfUnsent),
            (r#"{"store":false,"tools":[{"type":"function"}]}"#, Safety::Repeatable),
            (r#"{"store":true}"#, Safety::OnlyIfUnsent),
            ("{}", Safety::OnlyIfUnsent),
        ] {
            assert_eq!(safety("POST", "/v1/responses", Some(body)), expected, "{body}");
        }
        assert_eq!(safety("POST", "/v1/responses", None), Safety::OnlyIfUnsent);
        assert_eq!(safety("POST", "/v1/chat/completions", None), Safety::Repeatable);
        assert_eq!(safety("POST", "/v1/chat/completions", Some(r#"{"store":true}"#)), Safety::OnlyIfUnsent);
        assert_eq!(safety("POST", "/openai/deployments/x/chat/completions", None), Safety::Repeatable);
        assert_eq!(safety("POST", "/v1/something/new", None), Safety::OnlyIfUnsent);
        assert_eq!(safety("PATCH", "/v1/embeddings", None), Safety::OnlyIfUnsent);
        assert_eq!(safety("POST", "/openai/deployments/../chat/completions", None), Safety::OnlyIfUnsent);
        assert_eq!(safety("POST", "/v1/%2e/embeddings", None), Safety::OnlyIfUnsent);
    }

    #[test]
    fn the_configuration_can_add_operations() {
        let additions = [Operation::parse("post /v1/vector_stores/*/search").unwrap()];
        let safety = |path| Safety::of(&Method::POST, path, Named::by(path), None, &additions);
        assert_eq!(safety("/v1/vector_stores/vs_1/search"), Safety::Repeatable);
        assert_eq!(safety("/v1/vector_stores/vs_1/files"), Safety::OnlyIfUnsent);
        assert_eq!(safety("/v1/vector_stores/vs_1/search/x"), Safety::OnlyIfUnsent);
        assert_eq!(safety("/v1/vector_stores/%2e%2e/search"), Safety::OnlyIfUnsent);
        for text in ["", "POST", "POST ", "/v1/files", "PO ST /x", "POST files", "POST /v1", "POST /"] {
            assert!(Operation::parse(text).is_err(), "{text}");
        }
    }
}
