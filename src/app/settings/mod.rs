//! Converts the configuration to the settings of each module: the only place that knows both.

mod callers;
mod limits;

use std::sync::Arc;

use super::allowances;
use crate::admin;
use crate::admission::{self, BreakerSettings, BudgetSettings, MemberSettings, QueueSettings};
use crate::caller::origin::Origins;
use crate::caller::{Callers, Registry};
use crate::config::Config;
use crate::config::pacing::Merge;
use crate::config::server::{ClientAuth, TlsVersion};
use crate::config::sources::PROCESS;
use crate::config::upstreams::Member;
use crate::estimate::{self, Estimator};
use crate::pool::Names;
use crate::proxy::{MOST_CHECKED, Policy, Upstreams};
use crate::telemetry::Hidden;
use crate::telemetry::otlp::{self, Spans};
use crate::upstream::headers::Forwarded;
use crate::upstream::upgrade::{TunnelLimits, Tunnels};
use crate::upstream::{self, tls};
use crate::{account, metrics, replay, replicas, retry, server, stream};

use super::{Error, build};
use callers::{callers, max_waiting_of, rights};
use limits::{families, limits};

pub(super) fn server(config: &Config) -> server::Settings {
    let of = &config.server;
    server::Settings {
        connections: of.max_connections,
        connections_per_peer: of.max_connections_per_peer,
        room: usize::MAX,
        handshake_timeout: of.handshake_timeout,
        head_timeout: of.header_timeout,
        idle_timeout: of.idle_timeout,
        write_timeout: of.write_timeout,
        header_bytes: of.header_bytes.bytes(),
        header_count: of.header_count,
        unwritten: of.answer_buffer.bytes() / 2,
        streams: of.max_streams,
        http2: of.http2,
    }
}

/// TLS for callers, if the configuration enables it.
pub(super) fn server_tls(config: &Config) -> Option<server::tls::Settings> {
    let of = &config.server.tls;
    let (certificate, key) = of.cert.clone().zip(of.key.clone())?;
    let clients = match of.client_auth {
        ClientAuth::None => None,
        ClientAuth::Optional | ClientAuth::Required => of
            .client_ca
            .clone()
            .map(|roots| server::tls::Clients { roots, required: of.client_auth == ClientAuth::Required }),
    };
    Some(server::tls::Settings {
        identity: tls::Identity { certificate, key },
        clients,
        only_tls13: of.min_version == TlsVersion::V1_3,
        http2: config.server.http2,
    })
}

/// The upgrades to WebSocket that the configuration allows.
pub(super) fn tunnels(config: &Config) -> Arc<Tunnels> {
    let of = &config.upstream.websocket;
    let paths = of.paths.clone();
    let allows = move |path: &str| paths.iter().any(|allowed| allowed.matches(path));
    let limits = TunnelLimits {
        idle: of.idle_timeout,
        unread: config.server.write_timeout,
        max: of.max,
        message: of.max_message.bytes(),
    };
    Tunnels::new(allows, limits)
}

pub(super) fn upstream(config: &Config) -> upstream::Settings {
    let of = &config.upstream;
    upstream::Settings {
        connect_timeout: of.connect_timeout,
        idle_timeout: of.pool_idle_timeout,
        max_idle: of.pool_max_idle,
        max_age: of.max_connection_age,
        header_bytes: of.header_bytes.bytes(),
        piece: config.server.answer_buffer.bytes() / 4,
    }
}

pub(super) fn upstream_tls(config: &Config) -> tls::Settings {
    let of = &config.upstream.tls;
    tls::Settings {
        roots: of.roots.clone(),
        client: of
            .client_cert
            .clone()
            .zip(of.client_key.clone())
            .map(|(certificate, key)| tls::Identity { certificate, key }),
        only_tls13: of.min_version == TlsVersion::V1_3,
        http2: config.upstream.http2,
    }
}

pub(super) fn replay(config: &Config) -> replay::Settings {
    replay::Settings {
        keep: config.replay.max_body.bytes(),
        prefix: config.replay.prefix.bytes(),
        limit: config.server.body_max.0,
        idle: config.server.body_timeout,
        rate: u32::try_from(config.server.body_min_rate.0).unwrap_or(u32::MAX),
        grace: config.server.body_grace,
    }
}

pub(super) fn account(
    config: &Config,
    log_text: bool,
    spans: Option<Spans>,
    upstreams: Arc<Names>,
) -> account::Settings {
    let home = &config.members()[0].url;
    account::Settings {
        upstreams,
        log_sample: config.log.sample,
        log_text,
        reports: config.report.capacity,
        spans,
        upstream: (home.host().into(), home.port()),
        ..account::Settings::default()
    }
}

/// The settings of the exchange with other replicas; `None` if the configuration names no Redis.
///
/// # Errors
/// The URL is invalid, or the trusted roots for Redis can't be read.
pub(super) fn replicas(config: &Config) -> Result<Option<replicas::Settings>, Error> {
    let of = &config.replicas;
    let Some(redis) = &of.redis else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| Error::Configuration(format!("replicas.redis: {error}"));
    let address = replicas::Address::parse(redis.secret.expose()).map_err(|error| wrong(&error))?;
    let tls = address.is_tls().then(|| {
        let identity = of.client_cert.as_ref().zip(of.client_key.as_ref());
        replicas::Tls::read(&of.roots, identity).map_err(|error| wrong(&error))
    });
    // The URL is read again for each connection: a replaced password needs no restart.
    let source = redis.source.clone();
    Ok(Some(replicas::Settings {
        url: replicas::Url::new(move || source.resolve(&PROCESS)),
        tls: tls.transpose()?,
        namespace: of.namespace.clone(),
        interval: of.interval,
        expected: of.expected,
    }))
}

/// The settings of the span export; `None` if the configuration names no collector.
///
/// # Errors
/// The trusted roots for the collector can't be read.
pub(super) fn export(config: &Config) -> Result<Option<otlp::Settings>, Error> {
    let of = &config.trace;
    let Some(endpoint) = &of.endpoint else { return Ok(None) };
    let tls = endpoint.is_tls().then(|| {
        // The collector is in the internal network, like the upstream's proxy: it gets no client
        // certificate of the upstream.
        let settings = tls::Settings { client: None, http2: false, ..upstream_tls(config) };
        tls::client_config(&settings)
            .map_err(|error| Error::Configuration(format!("trace.endpoint: {error}")))
    });
    let authorization = of.token.as_ref().map(|token| {
        let token = token.secret.expose();
        Hidden::new(if token.contains(' ') { token.to_owned() } else { format!("Bearer {token}") })
    });
    Ok(Some(otlp::Settings {
        endpoint: endpoint.to_string(),
        authorization,
        tls: tls.transpose()?,
        service_name: of.service_name.clone(),
        sample: of.sample,
        interval: of.interval,
        max_queued: of.max_queued,
    }))
}

pub(super) fn metrics(config: &Config, callers: &Callers, workers: usize) -> metrics::Settings {
    metrics::Settings {
        callers: callers.registry().names(),
        max_models: config.metrics.max_models,
        models: config.metrics.models.iter().map(|pattern| pattern.as_str().into()).collect(),
        max_scopes: config.metrics.max_scopes,
        max_series: config.metrics.max_series,
        workers,
        version: build::VERSION,
        revision: build::REVISION,
        started: crate::clock::wall(),
    }
}

/// The settings of the scopes, with the bounds of each caller by its number.
pub(super) fn scopes(config: &Config, callers: &Callers, names: &Names) -> admission::Settings {
    let (queue, breaker, budget) = (&config.admission, &config.breaker, &config.retry.budget);
    admission::Settings {
        max_scopes: config.limits.max_scopes,
        families: families(&config.limits),
        limits: limits(&config.limits),
        members: members(config, names),
        spill_after: config.admission.spill_after,
        queue: QueueSettings {
            max_waiting: queue.max_waiting,
            max_bytes: queue.max_waiting_bytes.bytes(),
            max_waiting_per_caller: queue.max_waiting_per_caller,
            max_bytes_per_caller: queue.max_waiting_bytes_per_caller.bytes(),
            background_share: queue.background_share,
        },
        max_waiting_of: max_waiting_of(callers),
        ceilings: allowances::ceilings(config, callers),
        guarantees: allowances::guarantees(config, callers),
        breaker: BreakerSettings {
            enabled: breaker.enabled,
            consecutive: breaker.failures,
            stall: breaker.stall,
            max_wait: config.outage.max_wait,
            probe_first: breaker.probe_base,
            probe_longest: breaker.probe_cap,
        },
        budget: BudgetSettings {
            capacity: budget.capacity,
            per_success: budget.earn,
            per_request: budget.reserve,
            concurrent: budget.concurrent,
            concurrent_least: budget.concurrent_least,
        },
        quota_probe: config.quota_breaker.probe_interval,
        max_unnamed_families: config.limits.max_unnamed_families,
    }
}

/// The policy for new requests.
///
/// # Errors
/// A credential with characters that a header can't have, or a contradictory retry policy.
pub(super) fn policy(
    config: &Config,
    registry: &Arc<Registry>,
    upstreams: Upstreams,
) -> Result<Policy, Error> {
    let callers = callers(config, registry)?;
    Ok(Policy {
        upstreams,
        rights: rights(config, &callers),
        callers,
        mode: config.mode,
        one_scope: config.limits.merge == Merge::All,
        max_wait: config.admission.max_wait,
        response_timeout: config.upstream.response_timeout,
        first_event_timeout: config.upstream.first_event_timeout,
        forwarded: if config.server.forwarded { Forwarded::Append } else { Forwarded::Remove },
        estimator: Estimator::new(estimate::Settings {
            pricing: config.estimate.pricing,
            chars_per_token: config.estimate.chars_per_token,
            tokens_per_image: config.estimate.tokens_per_image,
            default_max_tokens: config.estimate.default_max_tokens,
        }),
        retry: retry_policy(config)?,
        never_retried: config.retry.never.clone(),
        stream: stream::Settings {
            idle_timeout: Some(config.upstream.idle_timeout),
            error_event: config.stream.error_event,
            abort_incomplete: true,
        },
        write_timeout: config.server.write_timeout,
        hold: config.stream.hold,
        keepalive: config.stream.keepalive,
        replay: replay(config),
        checked_replay: replay::Settings { keep: MOST_CHECKED, ..replay(config) },
        report_headers: config.report.headers.clone(),
        report_request_data: config.report.request_data,
        mask_messages: config.log.mask_messages,
    })
}

fn retry_policy(config: &Config) -> Result<retry::Policy, Error> {
    let of = &config.retry;
    let settings = retry::Settings {
        max_attempts: of.max_attempts,
        base: of.base,
        cap: of.cap,
        floor: of.floor,
        response_timeouts: of.timeouts,
        repeatable: of.repeatable.iter().map(|repeatable| repeatable.operation().clone()).collect(),
    };
    retry::Policy::new(settings).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("retry.{problem}")).collect();
        Error::Configuration(lines.join("\n"))
    })
}

/// The access rules of the admin address. Off loopback the token protects it, whatever the `Host`.
pub(super) fn access(config: &Config) -> admin::Access {
    let of = &config.admin;
    let loopback = of.listen.ip().is_loopback();
    admin::Access {
        loopback,
        token: of.token.as_ref().map(|token| token.secret.clone()),
        origins: if loopback { Origins::loopback_and(&of.hosts) } else { Origins::any() },
    }
}

/// The upstreams of the pool, the home first.
fn members(config: &Config, names: &Names) -> Vec<MemberSettings> {
    let of = |member: Member| MemberSettings {
        id: names.id(&member.name),
        name: member.name.as_str().into(),
        priority: member.priority,
        limits: limits::of_member(&member.limits, &config.limits),
        models: member.models.iter().map(|pattern| pattern.as_str().into()).collect(),
    };
    config.members().into_iter().map(of).collect()
}
