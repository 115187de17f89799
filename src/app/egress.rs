//! The connectors to the upstream: trusted authorities, client certificate and proxy. They are
//! replaceable while Weir runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::config::Config;
use crate::upstream::{self, Connector, tls};

use super::{Error, settings};

/// The connectors of all workers, and the files they were made from.
pub(super) struct Egress {
    pub(super) connector: Connector,
    /// The same connector without the proxy.
    pub(super) direct: Connector,
    /// Connects through the proxy to servers other than the upstream. It verifies each server's own
    /// name.
    pub(super) to_others: Connector,
    /// The configuration at the start: only a restart changes the file names and the proxy.
    started_with: Config,
    files: Mutex<Vec<Stamp>>,
}

/// A file, its modification time and its length; `None` if the file can't be read.
type Stamp = (PathBuf, Option<(SystemTime, u64)>);

impl Egress {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub(super) fn load(config: &Config) -> Result<Self, Error> {
        let files = Mutex::new(stamps(config));
        let name = config.upstream.tls.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                Error::Configuration(format!("upstream.tls.server_name: {name:?} is no host name"))
            })
        });
        let connector = Connector::new(trust(config)?, proxy(config)?, name.transpose()?);
        let direct = Connector::new(trust(config)?, None, None);
        let to_others = Connector::new(trust(config)?, proxy(config)?, None);
        Ok(Self { connector, direct, to_others, started_with: config.clone(), files })
    }

    /// Reads the files again, and takes the proxy's credential from `config`, for new connections;
    /// open ones are not changed.
    ///
    /// # Errors
    /// As at the start; the values in use stay.
    pub(super) fn replace(&self, config: &Config) -> Result<(), Error> {
        let mut of = self.started_with.clone();
        of.upstream.proxy_credential.clone_from(&config.upstream.proxy_credential);
        of.upstream.url.clone_from(&config.upstream.url);
        of.upstreams.clone_from(&config.upstreams);
        of.exchanges.clone_from(&config.exchanges);
        let stamps = stamps(&of);
        let (tls, proxy) = (trust(&of)?, proxy(&of)?);
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = stamps;
        self.direct.replace(Arc::clone(&tls), None);
        self.to_others.replace(Arc::clone(&tls), self::proxy(&of)?);
        self.connector.replace(tls, proxy);
        Ok(())
    }

    /// Calls [`Self::replace`] if a file has changed since it was last read; `None` if none has. A
    /// problem is reported once for each change.
    pub(super) fn reload_if_changed(&self, config: &Config) -> Option<Result<(), Error>> {
        let now = stamps(&self.started_with);
        let mut before = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if *before == now {
            return None;
        }
        *before = now;
        drop(before);
        Some(self.replace(config))
    }
}

fn stamps(config: &Config) -> Vec<Stamp> {
    let of = &config.upstream.tls;
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let files = [of.roots.file(), of.client_cert.as_ref(), of.client_key.as_ref()];
    files.into_iter().flatten().map(|path| (path.clone(), stamp(path))).collect()
}

/// The TLS client configuration. A machine without authorities, such as a bare container, uses the
/// built-in ones: without a configuration Weir must work anywhere.
fn trust(config: &Config) -> Result<Arc<ClientConfig>, Error> {
    let settings = settings::upstream_tls(config);
    let bundled = tls::Settings { roots: tls::Roots::Bundled, ..settings.clone() };
    let wrong = |error: tls::TlsError| Error::Configuration(format!("upstream.tls: {error}"));
    let exchanges = config.exchanges.iter().map(|exchange| &exchange.url);
    if !config.members().iter().map(|member| &member.url).chain(exchanges).any(|url| url.is_tls()) {
        return tls::client_config(&bundled).map_err(wrong);
    }
    match tls::client_config(&settings) {
        Err(tls::TlsError::NoSystemRoots(why)) => {
            tracing::warn!(why, "upstream.tls.roots: the system has no authorities; those built in are used");
            tls::client_config(&bundled)
        }
        known => known,
    }
    .map_err(wrong)
}

fn proxy(config: &Config) -> Result<Option<upstream::proxy::Proxy>, Error> {
    let of = &config.upstream;
    let Some(url) = &of.proxy else { return Ok(None) };
    let proxy = upstream::proxy::Proxy::parse(&url.to_string())
        .map_err(|error| Error::Configuration(format!("upstream.proxy: {error}")))?;
    Ok(Some(match &of.proxy_credential {
        Some(credential) => proxy.with_credential(credential.secret.expose()),
        None => proxy,
    }))
}
