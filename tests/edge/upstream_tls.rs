//! `[upstream.tls]`: Weir's client certificate.

use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::listener_tls::Authority;
use crate::process::Weir;
use crate::wire;

fn certificate(authority: &Authority, file: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(authority.path(&format!("{file}.pem"))).unwrap()
}

/// An upstream that requires a client certificate, with one request per connection, and the
/// certificates that it received.
fn asking(authority: &Authority) -> (SocketAddr, Receiver<CertificateDer<'static>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(authority, "roots")).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate(authority, "upstream")],
            PrivateKeyDer::from_pem_file(authority.path("upstream.key")).unwrap(),
        )
        .unwrap();
    let (config, (sender, seen)) = (Arc::new(config), channel());
    let sender = Mutex::new(sender);
    let address = wire::upstream(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut reader = BufReader::new(rustls::StreamOwned::new(connection, stream));
        if wire::read_head(&mut reader).is_none() {
            // Closing with unread data resets the connection, and the alert would be lost.
            let mut stream = reader.into_inner().sock;
            drop(stream.shutdown(std::net::Shutdown::Write));
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
            return;
        }
        let mut tls = reader.into_inner();
        let shown = tls.conn.peer_certificates().unwrap()[0].clone().into_owned();
        // The test may have ended.
        drop(sender.lock().unwrap().send(shown));
        drop(tls.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"));
        tls.conn.send_close_notify();
        drop(tls.flush());
    });
    (address, seen)
}

#[test]
fn a_client_certificate_that_was_replaced_is_shown_without_a_reload() {
    let authority = Authority::new();
    authority.sign("upstream", &["upstream.test"]);
    authority.sign("own", &["first.test"]);
    let first = certificate(&authority, "own");
    let (upstream, seen) = asking(&authority);
    let weir = Weir::start(
        &format!(
            "upstream.url = \"https://{upstream}\"\n[upstream.tls]\nroots = \"file:{}\"\nserver_name = \"upstream.test\"\n\
             client_cert = \"{}\"\nclient_key = \"{}\"\n",
            authority.show("roots.pem"),
            authority.show("own.pem"),
            authority.show("own.key")
        ),
        &[],
    );
    assert_eq!(wire::get(weir.address, "/v1/models").status(), 200);
    assert_eq!(seen.recv().unwrap(), first);
    authority.sign("own", &["second.test"]);
    let second = certificate(&authority, "own");
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        assert_eq!(wire::get(weir.address, "/v1/models").status(), 200);
        if seen.recv().unwrap() == second {
            break;
        }
        assert!(Instant::now() < until, "the old certificate is still shown");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// With TLS 1.3 the server's alert comes after the handshake has ended for Weir.
#[test]
fn an_upstream_that_requires_a_client_certificate_says_so_once() {
    let authority = Authority::new();
    authority.sign("upstream", &["upstream.test"]);
    let (upstream, _seen) = asking(&authority);
    let weir = Weir::start(
        &format!(
            "upstream.url = \"https://{upstream}\"\n[upstream.tls]\nroots = \"file:{}\"\nserver_name = \"upstream.test\"\n",
            authority.show("roots.pem"),
        ),
        &[],
    );
    let got = wire::get(weir.address, "/v1/models");
    assert_eq!((got.status(), got.header("x-weir-attempts")), (502, Some("1")), "{got:?}");
    assert_eq!(got.header("x-weir-error-class"), Some("connection_tls"));
    let text = String::from_utf8_lossy(&got.body);
    assert!(text.contains("it requires a client certificate (upstream.tls.client_cert)"), "{text}");
}
