//! TLS towards the upstream.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::clock;
use crate::pem::{self, PemError};

/// The TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The trusted certificate authorities.
    pub roots: Roots,
    /// A client certificate and its key.
    pub client: Option<Identity>,
    /// Whether only TLS 1.3 is used.
    pub only_tls13: bool,
    /// Whether to offer HTTP/2.
    pub http2: bool,
}

/// The trusted certificate authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's.
    #[default]
    System,
    /// Mozilla's, as of the build of Weir.
    Bundled,
    /// Only those in a PEM file.
    File(PathBuf),
}

impl Roots {
    /// The PEM file, if one is used.
    pub fn file(&self) -> Option<&PathBuf> {
        if let Self::File(path) = self { Some(path) } else { None }
    }
}

/// A certificate chain and its key, each in a PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The chain, with the leaf certificate first.
    pub certificate: PathBuf,
    /// The key of the leaf certificate.
    pub key: PathBuf,
}

/// The reason why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The system has no authorities.
    #[error(
        "the system has no certificate authorities ({0}); install its `ca-certificates`, or use the bundled ones"
    )]
    NoSystemRoots(String),
    /// The combination of settings is impossible.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// A configuration for [`Connector::new`](super::Connector::new). Reads all files.
pub fn client_config(settings: &Settings) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &settings.roots {
        Roots::System => system_roots()?,
        Roots::Bundled => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        Roots::File(path) => pem::roots(path)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(settings.only_tls13))?
        .with_root_certificates(roots);
    let mut config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(
                pem::chain(&identity.certificate, clock::wall())?,
                pem::private_key(&identity.key)?,
            )
            .map_err(|error| PemError::unusable(&identity.key, error))?,
    };
    config.alpn_protocols =
        if settings.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}

/// The TLS versions to offer.
pub(crate) fn versions(only_tls13: bool) -> &'static [&'static SupportedProtocolVersion] {
    static ONLY_TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    if only_tls13 { &ONLY_TLS13 } else { rustls::ALL_VERSIONS }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems contain certificates that rustls can't parse; they are skipped.
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(roots)
}
