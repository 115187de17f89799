//! A certificate made for one run, and the authority that signed it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::failure::{Result, While as _};

/// A server's side of TLS for `localhost` and `127.0.0.1`; writes the authority's certificate as
/// PEM to `authority_file`.
pub(super) fn server_config(authority_file: &Path) -> Result<Arc<ServerConfig>> {
    let mut authority = CertificateParams::new(Vec::new()).doing("make an authority")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().doing("make a key")?)
        .doing("sign the authority")?;
    let key = KeyPair::generate().doing("make a key")?;
    let certificate = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&key, &authority))
        .doing("sign a certificate")?;
    fs::write(authority_file, authority.pem()).doing(format!("write {}", authority_file.display()))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).doing("encode a key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)
        })
        .doing("set up TLS")?;
    Ok(Arc::new(config))
}
