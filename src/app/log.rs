//! The process's log, on standard error.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Config;
use crate::config::observe::Format;
use crate::telemetry::{self, LogError, LogGuard};

use super::{App, Error};

/// Starts the log. Says whether it is for people rather than for programs.
pub(super) fn start(config: &Config) -> Result<(LogGuard, bool), Error> {
    let of = &config.log;
    let terminal = std::io::stderr().is_terminal();
    let text = match of.format {
        Format::Auto => terminal,
        Format::Json => false,
        Format::Text => true,
    };
    // The libraries below show headers where they trace: at most what they say at "info" is told.
    let own = of.level.as_str();
    let level = if matches!(own, "debug" | "trace") { format!("info,weir={own}") } else { own.to_owned() };
    let access = if of.access { "info" } else { "off" };
    let settings = telemetry::Settings {
        filter: format!("{level},{}={access}", telemetry::ACCESS_LOG),
        json: !text,
        colour: text && terminal,
        ..telemetry::Settings::default()
    };
    let started = telemetry::start(&settings, std::io::stderr()).map_err(|error| match error {
        LogError::Filter(error) => Error::Configuration(format!("log.level: {error}")),
        error @ (LogError::Thread(_) | LogError::Twice) => Error::Other(error.to_string()),
    })?;
    Ok((started, text))
}

/// Says that Weir is up: to a person what to do now, to a program where it is.
pub(super) fn up(app: &App, text: bool) {
    let (mode, upstream, tls) = app.control.with_config(|config| {
        (config.mode.as_str(), config.upstream.url.to_string(), config.server.tls.cert.is_some())
    });
    let App { listening, admin, .. } = app;
    if !text {
        tracing::info!(%listening, %admin, upstream, mode, "weir is up");
        return;
    }
    let scheme = if tls { "https" } else { "http" };
    let (callers, people) = (reachable(*listening), reachable(*admin));
    tracing::info!(
        "weir is up: {scheme}://{listening} to {upstream}, mode {mode}. \
         Set OPENAI_BASE_URL={scheme}://{callers}/v1; status page: http://{people}/"
    );
}

/// An address that a person on this machine can use: an unspecified one stands for all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
    }
}
