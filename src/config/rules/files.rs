//! Certificates and keys that are there and are what they should be.

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
    let (server, upstream) = (&config.server.tls, &config.upstream.tls);
    for (key, path) in [
        ("server.tls.cert", server.cert.as_ref()),
        ("server.tls.client_ca", server.client_ca.as_ref()),
        ("replicas.client_cert", config.replicas.client_cert.as_ref()),
        ("upstream.tls.client_cert", upstream.client_cert.as_ref()),
        ("upstream.tls.roots", upstream.roots.file()),
        ("replicas.roots", config.replicas.roots.file()),
    ] {
        if let Some(path) = path {
            pem(key, path, "certificate", |bytes| first_certificate(bytes).is_some(), rules);
        }
    }
    for (key, path) in [
        ("server.tls.cert", &server.cert),
        ("replicas.client_cert", &config.replicas.client_cert),
        ("upstream.tls.client_cert", &upstream.client_cert),
    ] {
        if let Some(path) = path {
            lives(key, path, rules);
        }
    }
    for (key, path) in [
        ("server.tls.key", &server.key),
        ("replicas.client_key", &config.replicas.client_key),
        ("upstream.tls.client_key", &upstream.client_key),
    ] {
        if let Some(path) = path {
            pem(key, path, "private key", |bytes| PrivateKeyDer::from_pem_slice(bytes).is_ok(), rules);
        }
    }
}

fn first_certificate(bytes: &[u8]) -> Option<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bytes).next()?.ok()
}

/// The own certificate at a key has not ended.
fn lives(key: &str, path: &Path, rules: &mut Rules<'_, '_>) {
    let sources = rules.reader.sources;
    let own = sources.file(path).ok().and_then(|bytes| first_certificate(&bytes));
    if let Some(end) = own.and_then(|own| der::ended(&own, sources.now())) {
        rules.refuse(&[key], format!("the certificate in {} expired on {end}; renew it", path.display()));
    }
}

fn pem(key: &str, path: &Path, what: &str, valid: impl Fn(&[u8]) -> bool, rules: &mut Rules<'_, '_>) {
    match rules.reader.sources.file(path) {
        Err(error) => rules.refuse(
            &[key],
            format!(
                "cannot read {}: {error}; write the path of a PEM file that Weir's user may read",
                path.display()
            ),
        ),
        Ok(mut bytes) => {
            if !valid(&bytes) {
                rules.refuse(
                    &[key],
                    format!("{} holds no {what}; write the path of a PEM file with one", path.display()),
                );
            }
            zeroize::Zeroize::zeroize(&mut bytes);
        }
    }
}
