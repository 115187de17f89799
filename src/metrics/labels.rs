//! The closed lists that label values come from, so that a request can never add a series.

use crate::classify::{ErrorClass, Source};
pub use crate::label::Label;
use crate::label::names;

names! {
    /// How a request ended, as its caller saw it.
    Outcome {
        /// The upstream's answer, below 400, arrived whole.
        Success = "success",
        /// The upstream's own error was passed on.
        UpstreamError = "upstream_error",
        /// The upstream gave no usable answer; Weir said so (502, 504).
        NoResponse = "no_response",
        /// Weir itself refused.
        Refused = "refused",
        /// The answer began and was cut.
        Cut = "cut",
        /// The client left first.
        ClientClosed = "client_closed",
    }
}

impl Outcome {
    /// The outcome that a request's final class stands for; none is success.
    pub fn of(class: Option<ErrorClass>) -> Self {
        let Some(class) = class else { return Self::Success };
        match class.meaning().source {
            Source::Answer => Self::UpstreamError,
            Source::NoAnswer => Self::NoResponse,
            Source::Cut => Self::Cut,
            Source::Weir => Self::Refused,
            Source::Caller => Self::ClientClosed,
        }
    }
}

names! {
    /// How one attempt ended.
    AttemptOutcome {
        /// The upstream answered below 400, and the answer was whole.
        Success = "success",
        /// The upstream answered with an error, in the status or inside a stream.
        Error = "error",
        /// No usable answer, or one that was cut.
        NoResponse = "no_response",
        /// The client left while the attempt was under way.
        ClientClosed = "client_closed",
    }
}

impl AttemptOutcome {
    /// The outcome that an attempt's class stands for; none is success.
    pub fn of(class: Option<ErrorClass>) -> Self {
        match Outcome::of(class) {
            Outcome::Success => Self::Success,
            Outcome::UpstreamError | Outcome::Refused => Self::Error,
            Outcome::NoResponse | Outcome::Cut => Self::NoResponse,
            Outcome::ClientClosed => Self::ClientClosed,
        }
    }
}

names! {
    /// Why an answer that might have been retried was not.
    RetryStop {
        /// Every attempt that is allowed was made.
        AttemptsSpent = "attempts_spent",
        /// The deadline leaves no room for another try.
        Deadline = "deadline",
        /// The scope's retry budget is exhausted.
        Budget = "budget",
        /// A repeat could do the work twice.
        Unsafe = "unsafe",
        /// A byte of the answer had reached the client.
        Committed = "committed",
        /// The body was not kept for another try.
        BodyNotKept = "body_not_kept",
        /// The upstream said that it must not be.
        Forbidden = "forbidden",
        /// `retry.never` names the endpoint.
        Excluded = "excluded",
        /// Weir is draining.
        Draining = "draining",
        /// The mode only observes or bypasses.
        Mode = "mode",
    }
}

names! {
    /// Why the queue turned a request away.
    QueueRefusal {
        /// The queue is full, in number or bytes.
        QueueFull = "queue_full",
        /// The caller has too much waiting.
        CallerLimit = "caller_limit",
        /// The turn would come too late.
        PredictedDeadline = "deadline_predicted",
        /// The upstream is failing and the outage outlasted the wait.
        BreakerOpen = "breaker_open",
        /// The quota is known to be spent.
        BillingBlock = "billing_block",
        /// Weir is draining.
        Draining = "draining",
    }
}

names! {
    /// What a budget of tokens is for.
    BudgetPeriod {
        /// A day of UTC.
        Day = "day",
        /// A month of UTC.
        Month = "month",
    }
}

names! {
    /// What kind of token was used.
    TokenKind {
        /// Tokens of the prompt, cached ones included.
        Input = "input",
        /// The part of the prompt that the upstream had cached.
        Cached = "cached",
        /// Tokens of the answer.
        Output = "output",
    }
}

names! {
    /// How a streamed answer ended.
    StreamOutcome {
        /// With `[DONE]` or `response.completed`.
        Complete = "complete",
        /// Without it.
        Cut = "cut",
        /// The same towards an HTTP/1.0 client, which cannot tell it from the end.
        CutUnseen = "cut_unseen",
        /// With an error inside the stream.
        Error = "error",
        /// Nothing came for too long.
        Idle = "idle",
        /// The client left.
        ClientClosed = "client_closed",
    }
}

names! {
    /// Why a request body was not kept for another try.
    ReplaySkip {
        /// Larger than the cap of one request.
        TooLarge = "too_large",
        /// All kept bodies together reached their cap.
        Budget = "budget",
    }
}

names! {
    /// What a connection is doing.
    ConnectionState {
        /// Serving a request.
        Active = "active",
        /// Open, with nothing to do.
        Idle = "idle",
        /// Speaking WebSocket.
        Upgraded = "upgraded",
    }
}

names! {
    /// How connecting to the upstream went.
    ConnectResult {
        /// Connected.
        Connected = "connected",
        /// The name did not resolve.
        Dns = "dns",
        /// Refused.
        Refused = "refused",
        /// The system has no file or memory for another connection: not the upstream's doing.
        Exhausted = "exhausted",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The egress proxy refused or failed.
        Proxy = "proxy",
        /// Not in time.
        Timeout = "timeout",
        /// Any other failure.
        Other = "other",
    }
}

names! {
    /// Why a client's connection was closed without an answer.
    ConnectionRefusal {
        /// The limit of open connections is reached.
        TooMany = "too_many",
        /// The TLS handshake failed.
        Tls = "tls",
        /// Nothing was sent in time.
        Silent = "silent",
        /// The first bytes are not HTTP.
        Malformed = "malformed",
        /// Weir is draining.
        Draining = "draining",
        /// It broke before it was accepted.
        Accept = "accept",
    }
}

names! {
    /// Which rule of HTTP a request broke.
    HttpRule {
        /// Not HTTP at all, or bytes that no message may have; hyper's own refusals, as one.
        Unparsable = "unparsable",
        /// HTTP/1.1 without `Host`.
        HostMissing = "host_missing",
        /// Two `Host` lines.
        HostRepeated = "host_repeated",
        /// A `Host` that is no host and port.
        HostInvalid = "host_invalid",
        /// A `Host` that differs from the authority (HTTP/2).
        HostDiffers = "host_differs",
        /// `Transfer-Encoding` other than one `chunked`.
        TransferEncoding = "transfer_encoding",
        /// CONNECT.
        Connect = "connect",
        /// TRACE.
        Trace = "trace",
        /// A target that is no path.
        Target = "target",
        /// A target of another scheme than http or https.
        Scheme = "scheme",
        /// A `Connection` line that nominates a field between the caller and the API.
        Nominated = "nominated",
        /// An upgrade to WebSocket for a path that `upstream.websocket.paths` does not allow.
        Upgrade = "upgrade",
        /// A `Host` that is no name of the listener, where the request would spend a configured
        /// credential without a key.
        ForeignHost = "foreign_host",
        /// A web page of another site that would spend a configured credential.
        CrossSite = "cross_site",
        /// What one side of a WebSocket session sent breaks the protocol.
        WebSocketFrame = "websocket_frame",
    }
}

names! {
    /// Which of Weir's own bounds was reached.
    Bound {
        /// Bytes of bodies that wait to be sent and are not kept for another try.
        BufferedBytes = "buffered_bytes",
        /// Bytes of one request's body.
        BodySize = "body_size",
        /// Time that a request's body pauses.
        BodyTimeout = "body_timeout",
        /// The least rate of a request's body.
        BodyRate = "body_rate",
        /// Requests at once over one HTTP/2 connection.
        Streams = "streams",
        /// Upgraded connections.
        WebSockets = "websockets",
        /// Time that an upgraded connection is silent.
        WebSocketIdle = "websocket_idle",
        /// Bytes of one message over WebSocket.
        WebSocketMessage = "websocket_message",
        /// Turns of one WebSocket session that wait.
        WebSocketTurns = "websocket_turns",
        /// Time without an event of a turn's answer; its permit is given back.
        WebSocketTurnIdle = "websocket_turn_idle",
        /// Client connections.
        Connections = "connections",
        /// Connections of one peer.
        ConnectionsPerPeer = "connections_per_peer",
        /// Time for the TLS handshake.
        HandshakeTimeout = "handshake_timeout",
        /// Time for a request's head.
        HeadTimeout = "head_timeout",
        /// Time that a connection waits for its next request.
        IdleTimeout = "idle_timeout",
        /// Time for the client to take its answer.
        WriteTimeout = "write_timeout",
        /// Time for the client to open the window of one answer of several (HTTP/2).
        AnswerUnread = "answer_unread",
        /// Bytes or number of a request's headers.
        Headers = "headers",
        /// Bytes or number of an answer's headers.
        AnswerHeaders = "answer_headers",
        /// Files that the process may open.
        OpenFiles = "open_files",
        /// The decoded copy of an answer.
        DecodedCopy = "decoded_copy",
        /// A request's body that could not be read for its model and price: of an unknown coding,
        /// cut, or no JSON.
        UnreadBody = "unread_body",
        /// Lines of log waiting to be written; the rest is dropped.
        LogQueue = "log_queue",
        /// Callers' tokens that are remembered as verified: all were forgotten.
        VerifiedTokens = "verified_tokens",
        /// Attempts of one request that are kept for the log.
        AttemptsKept = "attempts_kept",
        /// Objects of which it is kept what upstream owns them; the oldest are forgotten.
        ObjectOwners = "object_owners",
    }
}

names! {
    /// What became of a span that was to be exported.
    SpanResult {
        /// The collector took it.
        Sent = "sent",
        /// Too many were waiting.
        Dropped = "dropped",
        /// The collector was out of reach, or refused it.
        Failed = "failed",
    }
}

names! {
    /// What enforcing would have done where the mode only observes.
    WouldHave {
        /// Let the request wait.
        Delayed = "delayed",
        /// Refused it.
        Refused = "refused",
        /// Tried again.
        Retried = "retried",
        /// Held it while the upstream is failing.
        Held = "held",
    }
}

names! {
    /// A label whose values are bounded by number; the rest is `other`.
    Bounded {
        /// The `caller` label.
        Caller = "caller",
        /// The `upstream` label.
        Upstream = "upstream",
        /// The `endpoint` label of a caller.
        Endpoint = "endpoint",
        /// The `model` label.
        Model = "model",
        /// The `scope` label.
        Scope = "scope",
    }
}
