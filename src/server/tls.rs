//! TLS towards clients: a certificate that is reloaded when its file changes, and client
//! certificates.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use crate::clock;
use crate::pem::{self, PemError};
use crate::upstream::tls::{Identity, versions};

/// The TLS settings of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server's certificate chain and key.
    pub identity: Identity,
    /// Client certificates, if they are requested.
    pub clients: Option<Clients>,
    /// Whether only TLS 1.3 is accepted.
    pub only_tls13: bool,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// Client certificates (mTLS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// A PEM file with the trusted authorities.
    pub roots: PathBuf,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// The reason why the server can't use TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The authorities can't be used.
    #[error("{}: {error}", path.display())]
    Clients {
        /// The file of the authorities.
        path: PathBuf,
        /// The verifier's error.
        error: rustls::server::VerifierBuilderError,
    },
    /// The combination of settings is impossible.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    /// The file that caused the error, if one did.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Pem(error) => Some(error.path()),
            Self::Clients { path, .. } => Some(path),
            Self::Rustls(_) => None,
        }
    }
}

/// The TLS configuration of a server, shared by all workers.
#[derive(Debug)]
pub struct ServerTls {
    settings: Settings,
    current: RwLock<Arc<ServerConfig>>,
    stamps: Mutex<Stamps>,
}

/// Modification time and length of each file; `None` for a file that can't be read.
type Stamps = [Option<(SystemTime, u64)>; 3];

impl ServerTls {
    /// Loads all files.
    pub fn load(settings: Settings) -> Result<Arc<Self>, TlsError> {
        let stamps = stamps(&settings);
        let current = RwLock::new(build(&settings)?);
        Ok(Arc::new(Self { settings, current, stamps: Mutex::new(stamps) }))
    }

    /// Loads the files again. New connections use them; open ones do not change.
    ///
    /// # Errors
    /// A file can't be used. The previous configuration stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.settings);
        let new = build(&self.settings)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Loads the files again if one has changed since the last load; `None` if none has.
    pub fn reload_if_changed(&self) -> Option<Result<(), TlsError>> {
        let changed = *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) != stamps(&self.settings);
        changed.then(|| self.reload())
    }

    /// Checks for changes every `period`, forever, and passes the result of each reload to
    /// `report`. File access blocks: do not run it on a worker.
    pub async fn watch(self: Arc<Self>, period: Duration, report: impl Fn(Result<(), TlsError>)) {
        loop {
            clock::sleep(period).await;
            if let Some(outcome) = self.reload_if_changed() {
                report(outcome);
            }
        }
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn build(settings: &Settings) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(settings.only_tls13))?;
    let builder = match &settings.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(pem::roots(&clients.roots)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = if clients.required { verifier } else { verifier.allow_unauthenticated() };
            let verifier =
                verifier.build().map_err(|error| TlsError::Clients { path: clients.roots.clone(), error })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let Identity { certificate, key } = &settings.identity;
    let mut config = builder
        .with_single_cert(pem::chain(certificate, clock::wall())?, pem::private_key(key)?)
        .map_err(|error| PemError::unusable(key, error))?;
    config.alpn_protocols =
        if settings.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}

fn stamps(settings: &Settings) -> Stamps {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [
        stamp(&settings.identity.certificate),
        stamp(&settings.identity.key),
        settings.clients.as_ref().and_then(|clients| stamp(&clients.roots)),
    ]
}
