//! Certificates and keys from files, with errors that say which file and what is wrong with it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::der;

/// A certificate or key file that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct PemError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("can't be read: {0}")]
    Unreadable(std::io::Error),
    #[error("is not PEM: {0}")]
    NotPem(pem::Error),
    #[error("holds no certificate; a PEM file with `BEGIN CERTIFICATE` is expected")]
    NoCertificate,
    #[error("holds no private key; a PEM file with `BEGIN PRIVATE KEY` is expected")]
    NoKey,
    #[error("its certificate expired on {0}; renew it")]
    Expired(String),
    #[error("{0}")]
    Unusable(rustls::Error),
}

impl PemError {
    /// An error of a file whose content was read, but can't be used.
    pub fn unusable(path: &Path, error: rustls::Error) -> Self {
        Self { path: path.to_owned(), problem: Problem::Unusable(error) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The certificates of a file, in their order; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let content = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError { path: path.to_owned(), problem: Problem::NotPem(error) })?;
    if certificates.is_empty() {
        return Err(PemError { path: path.to_owned(), problem: Problem::NoCertificate });
    }
    Ok(certificates)
}

/// The chain of an own certificate, which must not have ended by `now`.
pub fn chain(path: &Path, now: SystemTime) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates = certificates(path)?;
    match certificates.first().and_then(|own| der::ended(own, now)) {
        Some(end) => Err(PemError { path: path.to_owned(), problem: Problem::Expired(end) }),
        None => Ok(certificates),
    }
}

/// The first private key of a file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let content = read(path)?;
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| {
        let problem =
            if matches!(error, pem::Error::NoItemsFound) { Problem::NoKey } else { Problem::NotPem(error) };
        PemError { path: path.to_owned(), problem }
    })
}

/// The certificates of a file as trust anchors.
pub fn roots(path: &Path) -> Result<rustls::RootCertStore, PemError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| PemError::unusable(path, error))?;
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, PemError> {
    match std::fs::read(path) {
        Ok(content) => Ok(zeroize::Zeroizing::new(content)),
        Err(error) => Err(PemError { path: path.to_owned(), problem: Problem::Unreadable(error) }),
    }
}
