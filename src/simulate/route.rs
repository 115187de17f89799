//! Maps a method and path to an operation.

use http::Method;

/// An operation of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// A request to a model, which its limits are charged for.
    Inference(Inference),
    ResponseInputTokens,
    Models,
    Model(&'a str),
    Object(Kind, Action<'a>),
    Echo,
    WrongMethod,
    Unknown,
}

/// The type of a stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Response,
    File,
    Batch,
}

/// An operation on stored objects, with the object's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action<'a> {
    Create,
    List,
    Get(&'a str),
    Delete(&'a str),
    Cancel(&'a str),
    Content(&'a str),
    /// List a response's input items.
    Items(&'a str),
}

/// The endpoint of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inference {
    Chat,
    Completions,
    Embeddings,
    Moderations,
    Responses,
    Speech,
    Transcription,
    Images,
}

/// Path prefixes of the providers. `deployments` is followed by the deployment's name.
const PREFIXES: [&str; 6] = ["v1", "openai", "deployments", "api", "v1beta", "inference"];

impl<'a> Route<'a> {
    pub(super) fn of(method: &Method, path: &'a str) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
        let mut versions = 0;
        while let Some(segment) = segments.peek()
            && PREFIXES.contains(segment)
        {
            // No provider accepts `/v1/v1/...`, the result of a wrong base URL.
            versions += u32::from(*segment == "v1");
            if versions > 1 {
                return Self::Unknown;
            }
            if *segment == "deployments" {
                segments.next();
            }
            segments.next();
        }
        let mut next = || segments.next().unwrap_or_default();
        let rest = [next(), next(), next(), next()];
        if rest[0] == "echo" {
            return Self::Echo;
        }
        let (post, get, delete) = (method == Method::POST, method == Method::GET, method == Method::DELETE);
        let kind = match rest[0] {
            "files" => Kind::File,
            "batches" => Kind::Batch,
            _ => Kind::Response,
        };
        let work = |work| post.then_some(Self::Inference(work));
        let object = |is_method: bool, action| is_method.then_some(Self::Object(kind, action));
        let found = match rest {
            ["chat", "completions", "", ""] => work(Inference::Chat),
            ["completions", "", "", ""] => work(Inference::Completions),
            ["embeddings", "", "", ""] => work(Inference::Embeddings),
            ["moderations", "", "", ""] => work(Inference::Moderations),
            ["responses", "", "", ""] => work(Inference::Responses),
            ["responses", "input_tokens", "", ""] => post.then_some(Self::ResponseInputTokens),
            ["audio", "speech", "", ""] => work(Inference::Speech),
            ["audio", "transcriptions" | "translations", "", ""] => work(Inference::Transcription),
            ["images", "generations" | "edits" | "variations", "", ""] => work(Inference::Images),
            ["models", "", "", ""] => get.then_some(Self::Models),
            ["models", id, "", ""] => get.then_some(Self::Model(id)),
            ["files" | "batches", "", "", ""] if post => object(true, Action::Create),
            ["files" | "batches", "", "", ""] => object(get, Action::List),
            ["responses" | "files", id, "", ""] if delete => object(true, Action::Delete(id)),
            ["responses" | "files" | "batches", id, "", ""] => object(get, Action::Get(id)),
            ["responses" | "batches", id, "cancel", ""] => object(post, Action::Cancel(id)),
            ["responses", id, "input_items", ""] => object(get, Action::Items(id)),
            ["files", id, "content", ""] => object(get, Action::Content(id)),
            _ => return Self::Unknown,
        };
        found.unwrap_or(Self::WrongMethod)
    }
}

impl Inference {
    /// Whether the recorded responses of this endpoint have limit headers.
    pub(super) const fn reports_limits(self, streams: bool) -> bool {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings => true,
            Self::Responses => !streams,
            Self::Moderations | Self::Speech | Self::Transcription | Self::Images => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_operations() {
        for (method, path, route) in [
            (Method::POST, "/v1/chat/completions", Route::Inference(Inference::Chat)),
            (Method::POST, "/chat/completions", Route::Inference(Inference::Chat)),
            (Method::POST, "/openai/deployments/x/chat/completions", Route::Inference(Inference::Chat)),
            (Method::GET, "/v1/chat/completions", Route::WrongMethod),
            (Method::GET, "/v1/responses/resp_1", Route::Object(Kind::Response, Action::Get("resp_1"))),
            (Method::DELETE, "/v1/responses/resp_1", Route::Object(Kind::Response, Action::Delete("resp_1"))),
            (Method::POST, "/v1/responses/input_tokens", Route::ResponseInputTokens),
            (
                Method::POST,
                "/v1/responses/resp_1/cancel",
                Route::Object(Kind::Response, Action::Cancel("resp_1")),
            ),
            (Method::GET, "/v1/files/file-1/content", Route::Object(Kind::File, Action::Content("file-1"))),
            (Method::PUT, "/v1/echo/anything/at/all/here", Route::Echo),
            (Method::POST, "/v1/threads", Route::Unknown),
            (Method::POST, "/v1/v1/chat/completions", Route::Unknown),
            (Method::POST, "/v1/chat/completions/a/b/c", Route::Unknown),
            (Method::GET, "/", Route::Unknown),
        ] {
            assert_eq!(Route::of(&method, path), route, "{method} {path}");
        }
    }
}
