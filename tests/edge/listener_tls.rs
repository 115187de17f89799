//! `[server.tls]` over real connections.

use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::process::Weir;
use crate::wire::{self, Message};

pub(crate) struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("roots.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate and writes it and its key: `NAME.pem`, `NAME.key`.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) {
        self.sign_until(file, names, 4096);
    }

    /// The same, for an expired certificate.
    pub(crate) fn sign_until(&self, file: &str, names: &[&str], year: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names =
            names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    pub(crate) fn show(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }
}

/// A client's TLS configuration: trusted roots, certificate, versions and ALPN.
pub(crate) fn client(
    authority: &Authority,
    shows: Option<&str>,
    alpn: &[&[u8]],
) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("roots.pem")).unwrap()).unwrap();
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(roots);
    let mut config = match shows {
        None => builder.with_no_client_auth(),
        Some(name) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(authority.path(&format!("{name}.pem"))).unwrap()],
                PrivateKeyDer::from_pem_file(authority.path(&format!("{name}.key"))).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Sends a request over TLS to `weir.test`. Returns the response and the negotiated protocol.
pub(crate) fn ask(weir: &Weir, config: Arc<rustls::ClientConfig>) -> Option<(Message, Option<Vec<u8>>)> {
    let connection = rustls::ClientConnection::new(config, "weir.test".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, wire::connect(weir.address));
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: weir.test\r\nConnection: close\r\n\r\n").ok()?;
    stream.flush().ok()?;
    let alpn = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
    wire::read_answer(&mut BufReader::new(stream), "GET").map(|answer| (answer, alpn))
}

#[test]
fn a_certificate_names_the_caller_from_end_to_end() {
    let authority = Authority::new();
    authority.sign("weir", &["weir.test"]);
    authority.sign("team", &["team-a.corp"]);
    let (upstream, seen) = wire::plain();
    let mut weir = Weir::start(
        &format!(
            "upstream.url = \"http://{upstream}\"\nupstream.credential = \"env:KEY\"\n\
             server.allow_unknown_callers = false\n\
             [server.tls]\ncert = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\nclient_auth = \"optional\"\nreload = \"1s\"\n\
             [[callers]]\nname = \"team-a\"\nsan = \"team-a.corp\"\n",
            authority.show("weir.pem"),
            authority.show("weir.key"),
            authority.show("roots.pem"),
        ),
        &[("KEY", "sk-upstream-0123456789")],
    );
    let (answer, _) = ask(&weir, client(&authority, Some("team"), &[])).unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(seen.recv().unwrap().header("authorization"), Some("Bearer sk-upstream-0123456789"));
    assert!(
        weir.metric("weir_requests_total{caller=\"team-a\",endpoint=\"models\",outcome=\"success\"}") > 0.5
    );
    // Optional: without a certificate the handshake succeeds and the caller is unknown.
    let (answer, _) = ask(&weir, client(&authority, None, &[])).unwrap();
    assert_eq!(answer.status(), 401);
    // An untrusted one.
    let strangers = Authority::new();
    strangers.sign("team", &["team-a.corp"]);
    std::fs::copy(authority.path("roots.pem"), strangers.path("roots.pem")).unwrap();
    assert!(ask(&weir, client(&strangers, Some("team"), &[])).is_none());
    weir.wait_for("weir_connections_refused_total{reason=\"tls\"}", 1.0);
    // In clear text there is nothing here.
    let mut plain = wire::connect(weir.address);
    plain.write_all(b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    let mut left = Vec::new();
    let end = std::io::Read::read_to_end(&mut plain, &mut left);
    assert!(end.is_err() || !left.starts_with(b"HTTP"), "{left:?}");
    // A new certificate is used from the next connection on; so is a reload's.
    authority.sign("weir", &["other.example.test"]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while ask(&weir, client(&authority, Some("team"), &[])).is_some() {
        assert!(std::time::Instant::now() < until, "the old certificate stays in use");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    std::fs::write(authority.path("weir.pem"), "broken").unwrap();
    let answer = weir.admin("POST", "/reload");
    assert!(answer.contains("server.tls.cert: ") && answer.contains("weir.pem"), "{answer}");
    assert_eq!(weir.drain(), Some(0));
}

#[test]
fn versions_and_protocols_are_those_of_the_configuration() {
    let authority = Authority::new();
    authority.sign("weir", &["weir.test"]);
    let (upstream, _seen) = wire::plain();
    for (more, http2) in [("", true), ("server.http2 = false\n", false)] {
        let weir = Weir::before(
            upstream,
            &format!(
                "{more}[server.tls]\ncert = \"{}\"\nkey = \"{}\"\nmin_version = \"1.3\"\n",
                authority.show("weir.pem"),
                authority.show("weir.key"),
            ),
        );
        let (answer, alpn) = ask(&weir, client(&authority, None, &[b"http/1.1"])).unwrap();
        assert_eq!((answer.status(), alpn.as_deref()), (200, Some(&b"http/1.1"[..])));
        let both = client(&authority, None, &[b"h2", b"http/1.1"]);
        let connection = rustls::ClientConnection::new(both, "weir.test".try_into().unwrap()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, wire::connect(weir.address));
        stream.flush().unwrap();
        let expected = if http2 { &b"h2"[..] } else { b"http/1.1" };
        assert_eq!(stream.conn.alpn_protocol(), Some(expected));
        assert_eq!(stream.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn each_wrong_file_is_one_line_that_names_its_setting_and_code_2() {
    let authority = Authority::new();
    authority.sign("weir", &["weir.test"]);
    authority.sign("other", &["weir.test"]);
    authority.sign_until("ended", &["weir.test"], 2020);
    std::fs::write(authority.path("empty.pem"), "").unwrap();
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(authority.path("torn.pem"), torn).unwrap();
    for (cert, key, clients, setting) in [
        ("missing.pem", "weir.key", None, "server.tls.cert"),
        ("empty.pem", "weir.key", None, "server.tls.cert"),
        ("ended.pem", "ended.key", None, "weir.toml:3:8: server.tls.cert"),
        ("weir.pem", "missing.key", None, "server.tls.key"),
        ("weir.pem", "weir.pem", None, "server.tls.key"),
        ("weir.pem", "other.key", None, "server.tls.key"),
        ("weir.pem", "weir.key", Some("missing.pem"), "server.tls.client_ca"),
        ("weir.pem", "weir.key", Some("empty.pem"), "server.tls.client_ca"),
        ("weir.pem", "weir.key", Some("torn.pem"), "server.tls.client_ca"),
    ] {
        let clients = clients.map_or(String::new(), |file| {
            format!("client_ca = \"{}\"\nclient_auth = \"required\"\n", authority.show(file))
        });
        let output = Weir::fails(
            &format!(
                "upstream.url = \"http://127.0.0.1:9\"\n[server.tls]\ncert = \"{}\"\nkey = \"{}\"\n{clients}",
                authority.show(cert),
                authority.show(key),
            ),
            &[],
        );
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{cert} {key} {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains(&format!("{setting}: ")), "{cert} {key} {told}");
    }
}

#[test]
fn an_expired_certificate_is_named_with_its_date_and_traffic_goes_on_with_the_old_one() {
    let authority = Authority::new();
    authority.sign("weir", &["weir.test"]);
    authority.sign("shown", &["weir.test"]);
    authority.sign_until("ended", &["weir.test"], 2020);
    let configuration = |shown: &str| {
        let show = |file: &str| authority.show(&format!("{shown}.{file}"));
        format!(
            "upstream.url = \"https://127.0.0.1:9\"\n[server.tls]\ncert = \"{}\"\nkey = \"{}\"\nreload = \"1s\"\n\
             [upstream.tls]\nclient_cert = \"{}\"\nclient_key = \"{}\"\n\
             [retry]\nmax_attempts = 1\n",
            authority.show("weir.pem"),
            authority.show("weir.key"),
            show("pem"),
            show("key"),
        )
    };
    let weir = Weir::start(&configuration("shown"), &[]);
    let asks = || ask(&weir, client(&authority, None, &[b"http/1.1"])).is_some();
    assert!(asks());
    weir.configure(&configuration("ended"));
    let told = weir.admin("POST", "/reload");
    let expected = "weir.toml:7:15: upstream.tls.client_cert: the certificate in";
    assert!(told.starts_with("HTTP/1.1 422") && told.contains(expected), "{told}");
    assert!(told.contains("expired on Wed, 01 Jan 2020 00:00:00 GMT"), "{told}");
    assert!(asks(), "as before");
    // An expired replacement is not used either.
    weir.configure(&configuration("shown"));
    authority.sign_until("weir", &["weir.test"], 2020);
    weir.wait_for_printed("its certificate expired on Wed, 01 Jan 2020", 1);
    assert!(asks());
}
