//! Rules: certificate and key files exist and have the expected content.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Rules;
use crate::config::Config;
use crate::der;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    if !rules.reader.sources.resolves() {
        return;
    }
    let (server, upstream, replicas) = (&config.server.tls, &config.upstream.tls, &config.replicas);
    for (key, path, content) in [
        ("server.tls.cert", server.cert.as_ref(), Content::Own),
        ("server.tls.key", server.key.as_ref(), Content::Key),
        ("server.tls.client_ca", server.client_ca.as_ref(), Content::Authorities),
        ("replicas.client_cert", replicas.client_cert.as_ref(), Content::Own),
        ("replicas.client_key", replicas.client_key.as_ref(), Content::Key),
        ("replicas.roots", replicas.roots.file(), Content::Authorities),
        ("upstream.tls.client_cert", upstream.client_cert.as_ref(), Content::Own),
        ("upstream.tls.client_key", upstream.client_key.as_ref(), Content::Key),
        ("upstream.tls.roots", upstream.roots.file(), Content::Authorities),
    ] {
        if let Some(path) = path {
            pem(key, path, content, rules);
        }
    }
}

/// The expected content of a PEM file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// A certificate of Weir's own that has not expired.
    Own,
    /// Certificates of authorities.
    Authorities,
    /// A private key.
    Key,
}

fn pem(key: &str, path: &Path, content: Content, rules: &mut Rules<'_, '_>) {
    let (sources, shown) = (rules.reader.sources, path.display());
    let mut bytes = match sources.file(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let advice = "write the path of a PEM file that Weir's user may read";
            return rules.refuse(&[key], format!("cannot read {shown}: {error}; {advice}"));
        }
    };
    let certificate = CertificateDer::pem_slice_iter(&bytes).next().and_then(Result::ok);
    let ended = certificate.as_ref().and_then(|own| der::ended(own, sources.now()));
    let ended = ended.filter(|_| content == Content::Own);
    let (what, is_there) = match content {
        Content::Own | Content::Authorities => ("certificate", certificate.is_some()),
        Content::Key => ("private key", PrivateKeyDer::from_pem_slice(&bytes).is_ok()),
    };
    zeroize::Zeroize::zeroize(&mut bytes);
    if !is_there {
        rules.refuse(&[key], format!("{shown} holds no {what}; write the path of a PEM file with one"));
    } else if let Some(end) = ended {
        rules.refuse(&[key], format!("the certificate in {shown} expired on {end}; renew it"));
    }
}
