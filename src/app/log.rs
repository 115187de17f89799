//! The process's log on standard error.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Config;
use crate::config::observe::{Format, Level};
use crate::config::sources::{PROCESS, Sources as _};
use crate::telemetry::{self, DirectiveError, Directives, Levels, LogError, LogFilter, LogGuard};

use super::{App, Error};

/// The running log.
pub struct Log {
    pub(super) guard: LogGuard,
    pub(super) filter: LogFilter,
    /// Whether it is text for people, not JSON.
    pub(super) text: bool,
}

impl Log {
    /// A log as JSON to a file, for a Weir inside another command.
    ///
    /// # Errors
    /// This process already has a log.
    pub fn to(file: std::fs::File) -> Result<Self, Error> {
        let (guard, filter) = telemetry::start(&telemetry::Settings::default(), file)
            .map_err(|error: LogError| Error::Other(error.to_string()))?;
        Ok(Self { guard, filter, text: false })
    }
}

/// Starts the log. `RUST_LOG` overrides the configured level.
pub(super) fn start(config: &Config) -> Result<Log, Error> {
    let of = &config.log;
    let terminal = std::io::stderr().is_terminal();
    let text = match of.format {
        Format::Auto => terminal,
        Format::Json => false,
        Format::Text => true,
    };
    let directives = match PROCESS.variable("RUST_LOG") {
        Some(text) => {
            text.parse().map_err(|error: DirectiveError| Error::Configuration(error.to_string()))?
        }
        None => Directives::default(),
    };
    let settings = telemetry::Settings {
        levels: levels(config),
        directives,
        json: !text,
        color: text && terminal,
        ..telemetry::Settings::default()
    };
    let (guard, filter) = telemetry::start(&settings, std::io::stderr())
        .map_err(|error: LogError| Error::Other(error.to_string()))?;
    Ok(Log { guard, filter, text })
}

/// The log levels, which a reload can change.
pub(super) fn levels(config: &Config) -> Levels {
    let least = match config.log.level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    };
    Levels { least, access: config.log.access }
}

/// Logs that Weir is up: as text with instructions, as JSON with its addresses.
pub(super) fn up(app: &App, text: bool) {
    let (mode, upstream, tls, proxy) = app.control.with_config(|config| {
        let proxy = config.upstream.proxy.as_ref().map(ToString::to_string);
        (config.mode.as_str(), config.shown_upstreams(), config.server.tls.cert.is_some(), proxy)
    });
    let App { listening, admin, .. } = app;
    if !text {
        tracing::info!(%listening, %admin, upstream, proxy, mode, "weir is up");
        return;
    }
    let way = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    let scheme = if tls { "https" } else { "http" };
    let (callers, people) = (reachable(*listening), reachable(*admin));
    tracing::info!(
        "weir is up: {scheme}://{listening} to {upstream}{way}, mode {mode}. \
         Set OPENAI_BASE_URL={scheme}://{callers}/v1; status page: http://{people}/"
    );
}

/// An address that a client on this machine can use: an unspecified one becomes loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
    }
}
