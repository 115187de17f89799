//! Copies the counts of modules below the metrics into the metrics at each scrape.

use crate::classify::FailureKind;
use crate::metrics::{
    Bound, ConnectResult, ConnectionRefusal, ConnectionState, Counters, HttpRule, Label, Metrics, SpanResult,
};
use crate::replay::{self, ReadError};
use crate::server::{self, Rule};
use crate::telemetry::otlp::SpanCounts;
use crate::upstream;

/// Updates the counts of the server.
pub(super) fn of_front(metrics: &Metrics, front: &server::Counters, tunnels: usize) {
    for rule in Rule::ALL {
        raise(&metrics.http_refusals, rule_label(rule), front.refused(rule));
    }
    for limit in Bound::ALL {
        raise(&metrics.limits_reached, limit, front.reached(limit));
    }
    let refused = &metrics.connections_refused;
    let too_many = front.reached(Bound::Connections) + front.reached(Bound::ConnectionsPerPeer);
    raise(refused, ConnectionRefusal::TooMany, too_many);
    raise(refused, ConnectionRefusal::Tls, front.tls_failed() + front.reached(Bound::HandshakeTimeout));
    raise(refused, ConnectionRefusal::Silent, front.reached(Bound::HeadTimeout));
    raise(refused, ConnectionRefusal::Malformed, front.refused(Rule::Unparsable));
    raise(refused, ConnectionRefusal::Draining, front.drained());
    raise(refused, ConnectionRefusal::Accept, front.accepts_failed());
    let active: i64 = metrics.requests_in_flight();
    let upgraded = count(tunnels);
    let open = count(front.open());
    metrics.connections.set(ConnectionState::Active, active.min(open));
    metrics.connections.set(ConnectionState::Idle, (open - active - upgraded).max(0));
    metrics.connections.set(ConnectionState::Upgraded, upgraded);
}

/// Updates the counts of the upstream connections.
pub(super) fn of_upstream(metrics: &Metrics, pools: &upstream::Counters, tunnels: usize) {
    let results = &metrics.upstream_connects;
    raise(results, ConnectResult::Connected, pools.connected());
    let mut counts = [0; ConnectResult::ALL.len()];
    for kind in FailureKind::ALL {
        counts[connect_result(kind).place()] += pools.failed(kind);
    }
    for result in ConnectResult::ALL.iter().filter(|result| !matches!(result, ConnectResult::Connected)) {
        raise(results, *result, counts[result.place()]);
    }
    raise(&metrics.limits_reached, Bound::AnswerHeaders, pools.heads_too_large());
    let (open, idle) = (pools.open(), pools.idle());
    metrics.upstream_connections.set(ConnectionState::Upgraded, count(tunnels));
    metrics.upstream_connections.set(ConnectionState::Active, count(open.saturating_sub(idle + tunnels)));
    metrics.upstream_connections.set(ConnectionState::Idle, count(idle));
}

/// Updates the counts of the span export.
pub(super) fn of_spans(metrics: &Metrics, counts: SpanCounts) {
    raise(&metrics.trace_spans, SpanResult::Sent, counts.sent);
    raise(&metrics.trace_spans, SpanResult::Dropped, counts.dropped);
    raise(&metrics.trace_spans, SpanResult::Failed, counts.failed);
}

/// Updates the counts of unreadable bodies.
pub(super) fn of_bodies(metrics: &Metrics, bodies: &replay::Budget) {
    for error in ReadError::ALL {
        let bound = match error {
            ReadError::TooLarge => Bound::BodySize,
            ReadError::Idle => Bound::BodyTimeout,
            ReadError::TooSlow => Bound::BodyRate,
            ReadError::NoRoom => Bound::BufferedBytes,
            ReadError::Aborted | ReadError::Malformed => continue,
        };
        raise(&metrics.limits_reached, bound, bodies.failed(error));
    }
}

fn count(connections: usize) -> i64 {
    i64::try_from(connections).unwrap_or(i64::MAX)
}

/// Raises a counter to a total that is counted elsewhere.
fn raise<L: Label>(counters: &Counters<L>, label: L, total: u64) {
    counters.add(label, total.saturating_sub(counters.count(label)));
}

fn rule_label(rule: Rule) -> HttpRule {
    match rule {
        Rule::Unparsable => HttpRule::Unparsable,
        Rule::HostMissing => HttpRule::HostMissing,
        Rule::HostRepeated => HttpRule::HostRepeated,
        Rule::HostInvalid => HttpRule::HostInvalid,
        Rule::HostDiffers => HttpRule::HostDiffers,
        Rule::TransferEncoding => HttpRule::TransferEncoding,
        Rule::Connect => HttpRule::Connect,
        Rule::Trace => HttpRule::Trace,
        Rule::Target => HttpRule::Target,
        Rule::Scheme => HttpRule::Scheme,
        Rule::Nominated => HttpRule::Nominated,
    }
}

fn connect_result(kind: FailureKind) -> ConnectResult {
    match kind {
        FailureKind::Dns => ConnectResult::Dns,
        FailureKind::Refused => ConnectResult::Refused,
        FailureKind::Proxy | FailureKind::ProxyFailed => ConnectResult::Proxy,
        FailureKind::Exhausted => ConnectResult::Exhausted,
        FailureKind::Tls | FailureKind::TlsTimeout => ConnectResult::Tls,
        FailureKind::ConnectTimeout => ConnectResult::Timeout,
        FailureKind::Reset
        | FailureKind::ResponseTimeout
        | FailureKind::FirstEventTimeout
        | FailureKind::IdleTimeout
        | FailureKind::Malformed
        | FailureKind::HeadTooLarge
        | FailureKind::RequestAborted
        | FailureKind::RequestTimeout
        | FailureKind::RequestMalformed
        | FailureKind::RequestTooLarge => ConnectResult::Other,
    }
}
