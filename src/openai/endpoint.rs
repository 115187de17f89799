//! The API endpoint of a request, derived from its path.

use http::Method;
use memchr::memchr2;

use crate::label::names;

names! {
    /// A group of API operations that share a metric label, a pricing rule and a retry rule.
    ///
    /// The list is closed: an unknown path is [`Endpoint::Other`], and is proxied like any other.
    Endpoint {
        /// `POST /chat/completions` and the stored completions below it.
        ChatCompletions = "chat_completions",
        /// `POST /completions`.
        Completions = "completions",
        /// `/responses` and below.
        Responses = "responses",
        /// `POST /embeddings`.
        Embeddings = "embeddings",
        /// `POST /moderations`.
        Moderations = "moderations",
        /// `/audio/...`: speech, transcriptions, translations, voices.
        Audio = "audio",
        /// `/images/...`.
        Images = "images",
        /// `/videos/...`.
        Videos = "videos",
        /// `/files/...`.
        Files = "files",
        /// `/uploads/...`.
        Uploads = "uploads",
        /// `/batches/...`.
        Batches = "batches",
        /// `/fine_tuning/...`.
        FineTuning = "fine_tuning",
        /// `/vector_stores/...`.
        VectorStores = "vector_stores",
        /// `/assistants/...`.
        Assistants = "assistants",
        /// `/threads/...`, runs included.
        Threads = "threads",
        /// `/conversations/...`.
        Conversations = "conversations",
        /// `/containers/...`.
        Containers = "containers",
        /// `/evals/...`.
        Evals = "evals",
        /// `/realtime/...`.
        Realtime = "realtime",
        /// `/models/...`.
        Models = "models",
        /// `/organization/...` and `/projects/...`, the administration API.
        Organization = "organization",
        /// Any other path.
        Other = "other",
    }
}

/// A parsed path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Whether the path is the endpoint itself, such as `/chat/completions`, not below it.
    pub itself: bool,
}

/// The POST operations that compute a result from their body, by path suffix.
const OPERATIONS: [(Endpoint, &str); 13] = [
    (Endpoint::ChatCompletions, "/chat/completions"),
    (Endpoint::Completions, "/completions"),
    (Endpoint::Embeddings, "/embeddings"),
    (Endpoint::Responses, "/responses"),
    (Endpoint::Responses, "/responses/input_tokens"),
    (Endpoint::Responses, "/responses/compact"),
    (Endpoint::Moderations, "/moderations"),
    (Endpoint::Audio, "/audio/transcriptions"),
    (Endpoint::Audio, "/audio/translations"),
    (Endpoint::Audio, "/audio/speech"),
    (Endpoint::Images, "/images/generations"),
    (Endpoint::Images, "/images/edits"),
    (Endpoint::Images, "/images/variations"),
];

impl Named {
    /// Parses a path such as `/v1/chat/completions` into both fields at once.
    pub fn by(path: &str) -> Self {
        if let Some(endpoint) = usual(path) {
            return Self { endpoint, itself: true };
        }
        let mut segments = operation(path);
        let first = segments.next().unwrap_or_default();
        let endpoint = Endpoint::called(first);
        let all = first != "chat" || segments.next() == Some("completions");
        Self { endpoint, itself: all && !first.is_empty() && segments.next().is_none() }
    }
}

/// The endpoint of the most common paths, found by one comparison.
pub(crate) fn usual(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/v1/chat/completions" => Endpoint::ChatCompletions,
        "/v1/responses" => Endpoint::Responses,
        "/v1/embeddings" => Endpoint::Embeddings,
        _ => return None,
    })
}

impl Endpoint {
    /// The endpoint of a path such as `/v1/chat/completions`.
    ///
    /// Any prefix of the operation is skipped: a version, `/openai/deployments/{name}/...` (Azure),
    /// another provider's prefix such as `/engines/v1/...`.
    pub fn of(_method: &Method, path: &str) -> Self {
        Named::by(path).endpoint
    }

    fn called(name: &str) -> Self {
        match name {
            "chat" => Self::ChatCompletions,
            "completions" => Self::Completions,
            "responses" => Self::Responses,
            "embeddings" => Self::Embeddings,
            "moderations" => Self::Moderations,
            "audio" => Self::Audio,
            "images" => Self::Images,
            "videos" => Self::Videos,
            "files" => Self::Files,
            "uploads" => Self::Uploads,
            "batches" => Self::Batches,
            "fine_tuning" | "fine-tunes" => Self::FineTuning,
            "vector_stores" => Self::VectorStores,
            "assistants" => Self::Assistants,
            "threads" => Self::Threads,
            "conversations" => Self::Conversations,
            "containers" => Self::Containers,
            "evals" => Self::Evals,
            "realtime" => Self::Realtime,
            "models" => Self::Models,
            "organization" | "projects" => Self::Organization,
            _ => Self::Other,
        }
    }

    /// Whether the response to a JSON POST with a model is always a JSON object or a stream.
    pub(crate) fn speaks_json(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions
                | Self::Completions
                | Self::Responses
                | Self::Embeddings
                | Self::Moderations
        )
    }

    /// Whether a body may name a model. What only stores objects names none.
    pub(crate) fn takes_a_model(self) -> bool {
        !matches!(
            self,
            Self::Files
                | Self::Uploads
                | Self::Batches
                | Self::VectorStores
                | Self::Containers
                | Self::Conversations
        )
    }

    /// Whether one of its operations computes a result from a POST's body.
    pub(crate) fn has_operations(self) -> bool {
        OPERATIONS.iter().any(|(endpoint, _)| *endpoint == self)
    }

    /// The endpoint's index in [`Endpoint::ALL`], for tables with one entry each.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The segments of a path that identify its operation, without any prefix (a version, Azure's
/// deployment, another provider's prefix).
///
/// `/v1/chat/completions`, `/openai/deployments/x/chat/completions` and
/// `/engines/v1/chat/completions` all give `chat`, `completions`. A path with dot segments gives
/// nothing, because Weir does not resolve them.
pub fn operation(path: &str) -> impl Iterator<Item = &str> {
    segments(if has_dot_segments(path) { "" } else { from_operation(path) })
}

/// Whether a path is one of the operations that compute a result from a POST's body.
pub(crate) fn is_operation(path: &str) -> bool {
    usual(path).is_some() || OPERATIONS.iter().any(|(_, end)| segments(end).eq(operation(path)))
}

/// The deployment in an Azure path (`/openai/deployments/{deployment}/...`), which Azure's limits
/// belong to.
pub fn deployment(path: &str) -> Option<&str> {
    const DEPLOYMENTS: &str = "/deployments/";
    if usual(path).is_some() {
        return None;
    }
    // For short text a plain search is faster than setting up a searcher.
    let at = path.as_bytes().windows(DEPLOYMENTS.len()).position(|part| part == DEPLOYMENTS.as_bytes())?;
    let behind = &path[at + DEPLOYMENTS.len()..];
    let (name, operation) = segment(behind);
    (!name.is_empty() && !operation.is_empty() && !has_dot_segments(path)).then_some(name)
}

/// The part of a path that starts with its operation.
fn from_operation(path: &str) -> &str {
    let below = below_version(path);
    let (first, after) = segment(below);
    let called = Endpoint::called(first);
    if called == Endpoint::Other {
        // An unknown prefix, or one of Vertex (`projects/.../chat/completions`) or Azure AI
        // (`models/chat/completions`).
        return known_suffix(below).or_else(|| first_known(after)).unwrap_or(below);
    }
    // A model with such a name would follow a version.
    let is_prefix = called == Endpoint::Organization && first == "projects"
        || called == Endpoint::Models
            && !after.is_empty()
            && (below.len() == path.len() || after.contains("/chat/"));
    if is_prefix { known_suffix(below).unwrap_or(below) } else { below }
}

/// The suffix of a path that is a computing operation, whatever its prefix.
fn known_suffix(path: &str) -> Option<&str> {
    let path = path.trim_end_matches('/');
    OPERATIONS.iter().find_map(|(_, end)| path.ends_with(end).then(|| &path[path.len() - end.len()..]))
}

/// The part of a path that starts with its first known segment.
fn first_known(mut path: &str) -> Option<&str> {
    loop {
        let (first, after) = segment(path);
        if first.is_empty() {
            return None;
        }
        if Endpoint::called(first) != Endpoint::Other {
            return Some(path);
        }
        path = after;
    }
}

/// A path without its version and Azure's deployment.
fn below_version(mut path: &str) -> &str {
    // The most common prefix.
    if let Some(below) = path.strip_prefix("/v1/") {
        return below;
    }
    if let ("openai", below) = segment(path) {
        path = below;
        if let ("deployments", below) = segment(path) {
            (_, path) = segment(below);
        }
    }
    let (first, below) = segment(path);
    if is_version(first) { below } else { path }
}

/// The non-empty segments of a path.
fn segments(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (first, below) = segment(rest);
        rest = below;
        (!first.is_empty()).then_some(first)
    })
}

/// The first segment of a path, empty if there is none, and the rest.
fn segment(path: &str) -> (&str, &str) {
    let path = path.trim_start_matches('/');
    // Segments are short, so a plain loop is faster than setting up a search.
    let end = path.bytes().position(|byte| byte == b'/').unwrap_or(path.len());
    path.split_at(end)
}

/// Whether a path has segments such as `..` or `%2e%2E` that a server may resolve (RFC 3986,
/// section 5.2.4). Backslashes and encoded slashes count as slashes, because some servers treat
/// them so.
pub fn has_dot_segments(path: &str) -> bool {
    // Most paths contain neither character.
    memchr2(b'.', b'%', path.as_bytes()).is_some() && segments_are_dots(path.as_bytes())
}

fn segments_are_dots(path: &[u8]) -> bool {
    let (mut rest, mut dots, mut others) = (path, 0, false);
    loop {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (high, low.to_ascii_lowercase()) {
                (b'2', b'e') => (b'.', after),
                (b'2', b'f') => (b'/', after),
                (b'5', b'c') => (b'\\', after),
                _ => (b'%', &rest[1..]),
            },
            [byte, after @ ..] => (*byte, after),
            [] => return !others && (1..=2).contains(&dots),
        };
        rest = after;
        match byte {
            b'/' | b'\\' if !others && (1..=2).contains(&dots) => return true,
            b'/' | b'\\' => (dots, others) = (0, false),
            b'.' => dots += 1,
            _ => others = true,
        }
    }
}

fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_complete_and_in_order() {
        for (index, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            assert_eq!(endpoint.index(), index);
        }
        assert_eq!(Endpoint::Other.index() + 1, Endpoint::ALL.len());
    }

    #[test]
    fn the_operation_stands_behind_any_prefix() {
        for (path, endpoint, itself) in [
            ("/engines/v1/chat/completions", Endpoint::ChatCompletions, true),
            ("/v1/openai/chat/completions", Endpoint::ChatCompletions, true),
            ("/api/v1/chat/completions", Endpoint::ChatCompletions, true),
            ("/inference/v1/embeddings", Endpoint::Embeddings, true),
            ("/compatible-mode/v1/chat/completions", Endpoint::ChatCompletions, true),
            ("/api/paas/v4/chat/completions/", Endpoint::ChatCompletions, true),
            ("/v1beta/openai/chat/completions", Endpoint::ChatCompletions, true),
            (
                "/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
                Endpoint::ChatCompletions,
                true,
            ),
            ("/models/chat/completions", Endpoint::ChatCompletions, true),
            ("/models/embeddings", Endpoint::Embeddings, true),
            ("/api/v1/models", Endpoint::Models, true),
            ("/llm/prod/v1/responses/resp_1/cancel", Endpoint::Responses, false),
            // Paths that only look like operations.
            ("/v1/models/embeddings", Endpoint::Models, false),
            ("/v1/organization/usage/completions", Endpoint::Organization, false),
            ("/v1/projects/p", Endpoint::Organization, false),
            ("/v1/containers/c/files/f/content", Endpoint::Containers, false),
            ("/v1/something/new", Endpoint::Other, false),
            ("/v1/mychat/completionsx", Endpoint::Other, false),
            ("/x/../chat/completions", Endpoint::Other, false),
        ] {
            let named = Named::by(path);
            assert_eq!((named.endpoint, named.itself), (endpoint, itself), "{path}");
        }
    }

    #[test]
    fn the_deployment_of_an_azure_path_is_told() {
        for (path, name) in [
            ("/openai/deployments/slow/chat/completions", Some("slow")),
            ("/proxy/openai/deployments/fast/embeddings", Some("fast")),
            ("/openai/deployments/slow", None),
            ("/openai/deployments/", None),
            ("/openai/deployments/../chat/completions", None),
            ("/v1/chat/completions", None),
        ] {
            assert_eq!(deployment(path), name, "{path}");
        }
    }

    #[test]
    fn reads_the_first_segment_after_the_version() {
        for (path, endpoint) in [
            ("/v1/chat/completions", Endpoint::ChatCompletions),
            ("/chat/completions", Endpoint::ChatCompletions),
            ("/v1/completions", Endpoint::Completions),
            ("/v1/responses/resp_1/cancel", Endpoint::Responses),
            ("/openai/deployments/gpt-4o/chat/completions", Endpoint::ChatCompletions),
            ("/openai/v1/embeddings", Endpoint::Embeddings),
            ("/v1/organization/projects/p/rate_limits", Endpoint::Organization),
            ("/", Endpoint::Other),
            ("", Endpoint::Other),
            ("/v1", Endpoint::Other),
            ("/vector_stores", Endpoint::VectorStores),
            ("/v1/models/gpt-4.1", Endpoint::Models),
            ("/v1/models/..gpt", Endpoint::Models),
            ("/v1/models/%C3%A9", Endpoint::Models),
            ("/v1/embeddings/..", Endpoint::Other),
            ("/v1/./embeddings", Endpoint::Other),
            ("/openai/deployments/../chat/completions", Endpoint::Other),
            ("/openai/deployments/%2e%2E/chat/completions", Endpoint::Other),
            ("/v1/embeddings/%2e", Endpoint::Other),
            ("/v1/embeddings/x%2f..%2Ffiles", Endpoint::Other),
            ("/v1/embeddings/..\\files", Endpoint::Other),
            ("/v1/embeddings/.%2e%5cfiles", Endpoint::Other),
            ("/v1/embeddings/...", Endpoint::Embeddings),
            ("/v1/embeddings/%2", Endpoint::Embeddings),
        ] {
            assert_eq!(Endpoint::of(&Method::POST, path), endpoint, "{path}");
        }
    }
}
