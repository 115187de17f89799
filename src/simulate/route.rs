//! Which operation a method and path name.

use http::Method;

/// An operation that the stand-in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// The work of a model, which its limits pay for.
    Inference(Inference),
    ResponseInputTokens,
    Response(&'a str),
    ResponseDelete(&'a str),
    ResponseCancel(&'a str),
    ResponseItems(&'a str),
    Models,
    Model(&'a str),
    FileCreate,
    Files,
    File(&'a str),
    FileContent(&'a str),
    FileDelete(&'a str),
    BatchCreate,
    Batches,
    Batch(&'a str),
    BatchCancel(&'a str),
    Echo,
    WrongMethod,
    Unknown,
}

/// What a model is asked to do.
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

/// What stands before an operation's own path at one provider or another; a deployment has its name
/// behind it.
const PREFIXES: [&str; 6] = ["v1", "openai", "deployments", "api", "v1beta", "inference"];

impl<'a> Route<'a> {
    pub(super) fn of(method: &Method, path: &'a str) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
        let mut versions = 0;
        while let Some(segment) = segments.peek()
            && PREFIXES.contains(segment)
        {
            // `/v1/v1/...`: a base URL with a mistake, which no provider answers.
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
        let found = match rest {
            ["chat", "completions", "", ""] => post.then_some(Self::Inference(Inference::Chat)),
            ["completions", "", "", ""] => post.then_some(Self::Inference(Inference::Completions)),
            ["embeddings", "", "", ""] => post.then_some(Self::Inference(Inference::Embeddings)),
            ["moderations", "", "", ""] => post.then_some(Self::Inference(Inference::Moderations)),
            ["responses", "", "", ""] => post.then_some(Self::Inference(Inference::Responses)),
            ["responses", "input_tokens", "", ""] => post.then_some(Self::ResponseInputTokens),
            ["responses", id, "", ""] if delete => Some(Self::ResponseDelete(id)),
            ["responses", id, "", ""] => get.then_some(Self::Response(id)),
            ["responses", id, "cancel", ""] => post.then_some(Self::ResponseCancel(id)),
            ["responses", id, "input_items", ""] => get.then_some(Self::ResponseItems(id)),
            ["audio", "speech", "", ""] => post.then_some(Self::Inference(Inference::Speech)),
            ["audio", "transcriptions" | "translations", "", ""] => {
                post.then_some(Self::Inference(Inference::Transcription))
            }
            ["images", "generations" | "edits" | "variations", "", ""] => {
                post.then_some(Self::Inference(Inference::Images))
            }
            ["models", "", "", ""] => get.then_some(Self::Models),
            ["models", id, "", ""] => get.then_some(Self::Model(id)),
            ["files", "", "", ""] if post => Some(Self::FileCreate),
            ["files", "", "", ""] => get.then_some(Self::Files),
            ["files", id, "", ""] if delete => Some(Self::FileDelete(id)),
            ["files", id, "", ""] => get.then_some(Self::File(id)),
            ["files", id, "content", ""] => get.then_some(Self::FileContent(id)),
            ["batches", "", "", ""] if post => Some(Self::BatchCreate),
            ["batches", "", "", ""] => get.then_some(Self::Batches),
            ["batches", id, "", ""] => get.then_some(Self::Batch(id)),
            ["batches", id, "cancel", ""] => post.then_some(Self::BatchCancel(id)),
            _ => return Self::Unknown,
        };
        found.unwrap_or(Self::WrongMethod)
    }
}

impl Inference {
    /// Whether its answers were recorded with limit headers.
    pub(super) const fn tells_limits(self, streams: bool) -> bool {
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
            (Method::GET, "/v1/responses/resp_1", Route::Response("resp_1")),
            (Method::DELETE, "/v1/responses/resp_1", Route::ResponseDelete("resp_1")),
            (Method::POST, "/v1/responses/input_tokens", Route::ResponseInputTokens),
            (Method::POST, "/v1/responses/resp_1/cancel", Route::ResponseCancel("resp_1")),
            (Method::GET, "/v1/files/file-1/content", Route::FileContent("file-1")),
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
