//! The closed lists of label values, so that a request can never add a series.

use crate::classify::{ErrorClass, Source};
pub use crate::label::Label;
use crate::label::names;

names! {
    /// The end of a request, from its caller's view.
    Outcome {
        /// The upstream's response, below 400, arrived completely.
        Success = "success",
        /// An error from the upstream was passed on.
        UpstreamError = "upstream_error",
        /// The upstream gave no usable response; Weir answered 502 or 504.
        NoResponse = "no_response",
        /// Weir refused the request.
        Refused = "refused",
        /// The response started and was truncated.
        Cut = "cut",
        /// The client closed the connection first.
        ClientClosed = "client_closed",
    }
}

impl Outcome {
    /// The outcome for a request's final class; without one, success.
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
    /// The end of one attempt.
    AttemptOutcome {
        /// The upstream's response is below 400 and complete.
        Success = "success",
        /// The upstream responded with an error, in the status or inside a stream.
        Error = "error",
        /// No usable response, or a truncated one.
        NoResponse = "no_response",
        /// The client closed its connection during the attempt.
        ClientClosed = "client_closed",
    }
}

impl AttemptOutcome {
    /// The outcome for an attempt's class; without one, success.
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
    /// Why a retryable response was not retried.
    RetryStop {
        /// The most attempts were made.
        AttemptsSpent = "attempts_spent",
        /// The deadline leaves no time for another attempt.
        Deadline = "deadline",
        /// The scope's retry budget is exhausted.
        Budget = "budget",
        /// A retry could perform the operation twice.
        Unsafe = "unsafe",
        /// A part of the response has reached the client.
        Committed = "committed",
        /// The body was not kept for a retry.
        BodyNotKept = "body_not_kept",
        /// The upstream forbids it (`x-should-retry: false`).
        Forbidden = "forbidden",
        /// `retry.never` names the endpoint.
        Excluded = "excluded",
        /// Weir is draining.
        Draining = "draining",
        /// The mode is observe or bypass.
        Mode = "mode",
    }
}

names! {
    /// Why the queue refused a request.
    QueueRefusal {
        /// The queue is full, by number or bytes.
        QueueFull = "queue_full",
        /// The caller has too many waiting requests.
        CallerLimit = "caller_limit",
        /// The predicted wait exceeds the deadline.
        PredictedDeadline = "deadline_predicted",
        /// The upstream fails, and the outage lasted longer than the allowed wait.
        BreakerOpen = "breaker_open",
        /// The quota is known to be spent.
        BillingBlock = "billing_block",
        /// Weir is draining.
        Draining = "draining",
    }
}

names! {
    /// The period of a token budget.
    BudgetPeriod {
        /// A day of UTC.
        Day = "day",
        /// A month of UTC.
        Month = "month",
    }
}

names! {
    /// A kind of token.
    TokenKind {
        /// Tokens of the prompt, cached ones included.
        Input = "input",
        /// The part of the prompt that the upstream took from its cache.
        Cached = "cached",
        /// Tokens of the response.
        Output = "output",
    }
}

names! {
    /// The end of a streamed response.
    StreamOutcome {
        /// Complete, with `[DONE]` or `response.completed`.
        Complete = "complete",
        /// Ended without that.
        Cut = "cut",
        /// The same for an HTTP/1.0 client, which can't distinguish it from the end.
        CutUnseen = "cut_unseen",
        /// With an error inside the stream.
        Error = "error",
        /// No data for too long.
        Idle = "idle",
        /// The client closed the connection.
        ClientClosed = "client_closed",
    }
}

names! {
    /// Why a request body was not kept for a retry.
    ReplaySkip {
        /// Larger than the limit for one request.
        TooLarge = "too_large",
        /// The total of all kept bodies reached its limit.
        Budget = "budget",
    }
}

names! {
    /// The state of a connection.
    ConnectionState {
        /// Serving a request.
        Active = "active",
        /// Open, without a request.
        Idle = "idle",
        /// Upgraded to WebSocket.
        Upgraded = "upgraded",
    }
}

names! {
    /// The result of connecting to the upstream.
    ConnectResult {
        /// Connected.
        Connected = "connected",
        /// The name did not resolve.
        Dns = "dns",
        /// The connection was refused.
        Refused = "refused",
        /// The system has no file or memory for another connection: not the upstream's fault.
        Exhausted = "exhausted",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The egress proxy refused or failed.
        Proxy = "proxy",
        /// The timeout expired.
        Timeout = "timeout",
        /// Any other failure.
        Other = "other",
    }
}

names! {
    /// Why a client's connection was closed without a response.
    ConnectionRefusal {
        /// The limit of open connections is reached.
        TooMany = "too_many",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The client sent nothing in time.
        Silent = "silent",
        /// The first bytes are not HTTP.
        Malformed = "malformed",
        /// Weir is draining.
        Draining = "draining",
        /// The connection broke before it was accepted.
        Accept = "accept",
    }
}

names! {
    /// The HTTP rule that a request violates.
    HttpRule {
        /// Not HTTP, or bytes that no message may contain: all of hyper's own errors.
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
        /// A target that is not a path.
        Target = "target",
        /// A target with a scheme other than http or https.
        Scheme = "scheme",
        /// A `Connection` line that names a field between the caller and the API.
        Nominated = "nominated",
        /// An upgrade to WebSocket for a path that `upstream.websocket.paths` does not allow.
        Upgrade = "upgrade",
        /// A `Host` that is not a name of the listener, if the request would use a configured
        /// credential without a key.
        ForeignHost = "foreign_host",
        /// A web page of another site that would use a configured credential.
        CrossSite = "cross_site",
        /// One side of a WebSocket session sent an invalid frame.
        WebSocketFrame = "websocket_frame",
    }
}

names! {
    /// The bound of Weir that was reached.
    Bound {
        /// Bytes of bodies that wait to be sent and are not kept for a retry.
        BufferedBytes = "buffered_bytes",
        /// Bytes of one request's body.
        BodySize = "body_size",
        /// The pause within a request's body.
        BodyTimeout = "body_timeout",
        /// The minimum rate of a request's body.
        BodyRate = "body_rate",
        /// Concurrent requests on one HTTP/2 connection.
        Streams = "streams",
        /// Upgraded connections.
        WebSockets = "websockets",
        /// The idle time of an upgraded connection.
        WebSocketIdle = "websocket_idle",
        /// Bytes of one WebSocket message.
        WebSocketMessage = "websocket_message",
        /// Waiting turns of one WebSocket session.
        WebSocketTurns = "websocket_turns",
        /// Time without an event in a turn's response; its permit is returned.
        WebSocketTurnIdle = "websocket_turn_idle",
        /// Client connections.
        Connections = "connections",
        /// Connections from one address.
        ConnectionsPerPeer = "connections_per_peer",
        /// Time for the TLS handshake.
        HandshakeTimeout = "handshake_timeout",
        /// Time for a request's head.
        HeadTimeout = "head_timeout",
        /// Time that a connection waits for its next request.
        IdleTimeout = "idle_timeout",
        /// Time for the client to read its response.
        WriteTimeout = "write_timeout",
        /// Time for the client to open the flow-control window of one of several responses
        /// (HTTP/2).
        AnswerUnread = "answer_unread",
        /// Bytes or number of a request's header fields.
        Headers = "headers",
        /// Bytes or number of a response's header fields.
        AnswerHeaders = "answer_headers",
        /// Files that the process may open.
        OpenFiles = "open_files",
        /// The decoded copy of a response.
        DecodedCopy = "decoded_copy",
        /// A request's body in which model and price could not be read: it has an unknown coding,
        /// is truncated, or is not JSON.
        UnreadBody = "unread_body",
        /// Log lines waiting to be written; further ones are dropped.
        LogQueue = "log_queue",
        /// Cached verified tokens: the cache was emptied.
        VerifiedTokens = "verified_tokens",
        /// Attempts of one request kept for the log.
        AttemptsKept = "attempts_kept",
        /// Objects with a known owner among the upstreams; the oldest are evicted.
        ObjectOwners = "object_owners",
    }
}

names! {
    /// The result of exporting a span.
    SpanResult {
        /// The collector accepted it.
        Sent = "sent",
        /// The queue was full.
        Dropped = "dropped",
        /// The collector was unreachable, or rejected it.
        Failed = "failed",
    }
}

names! {
    /// What enforce mode would have done, in observe mode.
    WouldHave {
        /// Delayed the request.
        Delayed = "delayed",
        /// Refused it.
        Refused = "refused",
        /// Retried it.
        Retried = "retried",
        /// Held it while the upstream fails.
        Held = "held",
    }
}

names! {
    /// A label with a bounded number of values; further ones count as `other`.
    Bounded {
        /// The `caller` label.
        Caller = "caller",
        /// The `upstream` label.
        Upstream = "upstream",
        /// The `endpoint` label, per caller.
        Endpoint = "endpoint",
        /// The `model` label.
        Model = "model",
        /// The `scope` label.
        Scope = "scope",
    }
}
