//! The listener's TLS: its files are read at the start and at each reload, and checked for changes
//! in between.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::Config;
use crate::server::ServerTls;
use crate::server::tls::TlsError;

use super::{Error, settings};

/// The listener's TLS, with the files and the interval at which they are checked.
#[derive(Clone)]
pub(super) struct Certificates {
    pub(super) tls: Arc<ServerTls>,
    /// The files, each with the setting that names it.
    files: Arc<[(&'static str, Box<Path>)]>,
    look: Option<Duration>,
}

impl Certificates {
    /// Reads the files, if the configuration names some.
    ///
    /// # Errors
    /// One line that names the setting whose file can't be used.
    pub(super) fn load(config: &Config) -> Result<Option<Self>, Error> {
        let Some(settings) = settings::server_tls(config) else { return Ok(None) };
        let of = &config.server.tls;
        let named = [
            ("server.tls.cert", &of.cert),
            ("server.tls.key", &of.key),
            ("server.tls.client_ca", &of.client_ca),
        ];
        let files: Arc<[_]> = named
            .into_iter()
            .filter_map(|(setting, path)| Some((setting, path.as_deref()?.into())))
            .collect();
        let tls = ServerTls::load(settings).map_err(|error| Error::Configuration(tell(&files, &error)))?;
        Ok(Some(Self { tls, files, look: of.reload }))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As at the start; the certificates in use stay.
    pub(super) fn reload(&self) -> Result<(), String> {
        self.tls.reload().map_err(|error| tell(&self.files, &error))
    }

    /// Starts a task on the current runtime that checks the files for changes.
    pub(super) fn watch(&self) {
        let Some(period) = self.look else { return };
        let files = Arc::clone(&self.files);
        clock::spawn(Arc::clone(&self.tls).watch(period, move |outcome| match outcome {
            Ok(()) => tracing::info!("the listener's certificate was read again"),
            Err(error) => {
                let problem = tell(&files, &error);
                tracing::error!(
                    problem,
                    "the listener's certificate was not read again; the one in use stays"
                );
            }
        }));
    }
}

/// The error's message, after the setting that it concerns.
fn tell(files: &[(&'static str, Box<Path>)], error: &TlsError) -> String {
    let of = files.iter().find(|(_, path)| error.path() == Some(path));
    format!("{}: {error}", of.map_or("server.tls", |(setting, _)| setting))
}
