//! TLS towards the clients: a certificate that is read again when its file changes, and whom the
//! client says it is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use crate::clock;
use crate::pem::{self, PemError};
use crate::upstream::tls::{Identity, versions};

/// What the front shows, and asks to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The front's certificate chain and key.
    pub identity: Identity,
    /// The authorities whose certificates clients may show.
    pub clients: Option<Clients>,
    /// Whether TLS 1.2 is not enough.
    pub only_tls13: bool,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// Client certificates (mTLS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// A PEM file with the authorities that vouch for them.
    pub roots: PathBuf,
    /// Whether a client without one is turned away.
    pub required: bool,
}

/// Why the front can't speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The authorities can't be used.
    #[error("{}: {error}", path.display())]
    Clients {
        /// Their file.
        path: PathBuf,
        /// What is wrong.
        error: rustls::server::VerifierBuilderError,
    },
    /// The combination is impossible.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    /// The file that can't be used, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Pem(error) => Some(error.path()),
            Self::Clients { path, .. } => Some(path),
            Self::Rustls(_) => None,
        }
    }
}

/// The TLS of a front, shared by all workers.
#[derive(Debug)]
pub struct ServerTls {
    settings: Settings,
    current: RwLock<Arc<ServerConfig>>,
    stamps: Mutex<Stamps>,
}

/// When the files were last changed, and how long they were; `None` for one that can't be seen.
type Stamps = [Option<(SystemTime, u64)>; 3];

impl ServerTls {
    /// Reads all files.
    pub fn load(settings: Settings) -> Result<Arc<Self>, TlsError> {
        let stamps = stamps(&settings);
        let current = RwLock::new(build(&settings)?);
        Ok(Arc::new(Self { settings, current, stamps: Mutex::new(stamps) }))
    }

    /// Reads the files again. Connections from now on use them; those that are open stay as they
    /// are.
    ///
    /// # Errors
    /// When a file can't be used; what was read before stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.settings);
        let new = build(&self.settings)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Reads the files again if one has changed since they were last read; `None` if none has.
    pub fn reload_if_changed(&self) -> Option<Result<(), TlsError>> {
        let changed = *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) != stamps(&self.settings);
        changed.then(|| self.reload())
    }

    /// Looks for changes for ever, every `period`, and tells `report` of each reload. It blocks for
    /// the moment of the look: run it beside the workers, not on one.
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
