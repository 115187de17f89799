//! TLS to clients and upstream over real sockets, with certificates created by the tests.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir::internals::classify::{Failure, FailureKind};
use weir::internals::replay::{Body, ClientBody};
use weir::internals::server::tls::Clients;
use weir::internals::server::{
    self, Acceptor, ConnectionInfo, Counters, Drain, Front, Refusal, ServerTls, Settings, Slots,
};
use weir::internals::upstream::proxy::Proxy;
use weir::internals::upstream::tls::{Identity, Roots};
use weir::internals::upstream::{self, Connector, HeadLimit, Target, Upstream};

/// An authority, and a folder for what it signs.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("roots.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn roots(&self) -> PathBuf {
        self.path("roots.pem")
    }

    /// Signs a certificate for some names and writes it and its key.
    fn identity(&self, file: &str, names: &[SanType]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.to_vec();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        std::fs::write(&identity.certificate, certificate.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn loopback() -> SanType {
    SanType::IpAddress("127.0.0.1".parse().unwrap())
}

/// Serves on the current runtime; the service returns what it knows of the connection.
fn serve(tls: Arc<ServerTls>) -> (SocketAddr, Arc<Counters>, Drain) {
    let listener = server::bind("listen", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Arc::new(Counters::default());
    let (drain, draining) = Drain::new();
    let slots = Slots::new(&Settings::default(), Arc::clone(&counters));
    let (acceptor, mut seats) = Acceptor::new(listener, 1, slots, Arc::clone(&counters), draining.clone());
    let make = |info: Arc<ConnectionInfo>| {
        tower::service_fn(move |_request: Request<ClientBody>| -> Answer {
            let told = format!("tls {} http2 {} names {}", info.tls, info.http2, info.names.join(" "));
            Box::pin(async { Ok(Response::new(Full::from(told))) })
        })
    };
    let front = Front::new(Settings::default(), make, render, Arc::clone(&counters), draining).with_tls(tls);
    weir::internals::clock::spawn(front.run(seats.remove(0)));
    weir::internals::clock::spawn(acceptor.run());
    (address, counters, drain)
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

fn render(_refusal: Refusal) -> Response<Bytes> {
    Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(Bytes::new()).unwrap()
}

fn load(identity: &Identity, clients: Option<Clients>) -> Arc<ServerTls> {
    let settings =
        server::tls::Settings { identity: identity.clone(), clients, only_tls13: false, http2: true };
    ServerTls::load(settings).unwrap()
}

/// Sends one request. Returns the service's response.
async fn ask(
    address: SocketAddr,
    settings: &upstream::tls::Settings,
    name: Option<&str>,
    proxy: Option<Proxy>,
) -> Result<String, Failure> {
    let tls = upstream::tls::client_config(settings).unwrap();
    let name = name.map(|name| name.to_owned().try_into().unwrap());
    let target = Arc::new(Target::parse(&format!("https://{address}")).unwrap());
    let connector = Connector::new(tls, proxy, name);
    let upstream = Upstream::new(target, upstream::Settings::default(), Arc::default(), connector);
    let request = Request::get("/").header("host", "weir").body(Body::empty()).unwrap();
    let answer = upstream.attempt(request, HeadLimit::default()).await?;
    let told = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(told.to_vec()).unwrap())
}

fn trusting(authority: &Authority) -> upstream::tls::Settings {
    upstream::tls::Settings { roots: Roots::File(authority.roots()), ..Default::default() }
}

#[tokio::test]
async fn speaks_http1_or_http2_as_both_agree() {
    let authority = Authority::new("authority");
    let (address, counters, _drain) = serve(load(&authority.identity("weir", &[loopback()]), None));
    let mut settings = trusting(&authority);
    assert_eq!(ask(address, &settings, None, None).await.unwrap(), "tls true http2 false names ");
    settings.http2 = true;
    assert_eq!(ask(address, &settings, None, None).await.unwrap(), "tls true http2 true names ");
    assert_eq!(counters.tls_failed(), 0);
}

#[tokio::test]
async fn an_upstream_that_can_t_prove_itself_is_a_tls_failure() {
    let authority = Authority::new("authority");
    let (address, counters, _drain) = serve(load(&authority.identity("weir", &[dns("weir.test")]), None));
    // With the wrong authority, with a wrong name, and with the right name.
    let failure =
        ask(address, &trusting(&Authority::new("other")), Some("weir.test"), None).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::Tls, false));
    assert!(failure.to_string().contains("UnknownIssuer"), "{failure}");
    let failure = ask(address, &trusting(&authority), None, None).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::Tls, false));
    assert!(failure.to_string().contains("not valid for name"), "{failure}");
    ask(address, &trusting(&authority), Some("weir.test"), None).await.unwrap();
    assert_eq!(counters.tls_failed(), 2);
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_a_tls_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    weir::internals::clock::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        drop(stream.read_to_end(&mut Vec::new()).await);
    });
    let failure = ask(address, &trusting(&Authority::new("other")), None, None).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::Tls, false), "{failure}");
}

#[tokio::test]
async fn clients_are_known_by_the_names_of_their_certificate() {
    let authority = Authority::new("authority");
    let identity = authority.identity("weir", &[loopback()]);
    let clients = Authority::new("clients");
    let spiffe = SanType::URI("spiffe://corp/team-a".try_into().unwrap());
    let mail = SanType::Rfc822Name("team-a@corp.example".try_into().unwrap());
    let team = clients.identity("team-a", &[dns("team-a.corp"), spiffe, mail, loopback()]);
    let strangers = Authority::new("strangers");
    let stranger = strangers.identity("stranger", &[dns("team-a.corp")]);
    for required in [true, false] {
        let mtls = Clients { roots: clients.roots(), required };
        let (address, counters, _drain) = serve(load(&identity, Some(mtls)));
        let with = |client: &Identity| upstream::tls::Settings {
            client: Some(client.clone()),
            ..trusting(&authority)
        };
        let told = ask(address, &with(&team), None, None).await.unwrap();
        assert_eq!(
            told,
            "tls true http2 false names team-a.corp spiffe://corp/team-a team-a@corp.example 127.0.0.1"
        );
        ask(address, &with(&stranger), None, None).await.unwrap_err();
        let without = ask(address, &trusting(&authority), None, None).await;
        assert_eq!(without.is_err(), required, "{without:?}");
        assert_eq!(counters.tls_failed(), if required { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_certificate_that_changes_is_read_again_and_a_broken_one_is_not_used() {
    let authority = Authority::new("authority");
    let identity = authority.identity("weir", &[dns("old.test")]);
    let tls = load(&identity, None);
    let (address, _counters, _drain) = serve(Arc::clone(&tls));
    ask(address, &trusting(&authority), Some("old.test"), None).await.unwrap();
    assert!(tls.reload_if_changed().is_none());

    std::fs::write(&identity.certificate, "broken").unwrap();
    let error = tls.reload_if_changed().unwrap().unwrap_err().to_string();
    assert!(error.contains("weir.pem: holds no certificate"), "{error}");
    assert!(tls.reload_if_changed().is_none(), "one report for one change");
    ask(address, &trusting(&authority), Some("old.test"), None).await.unwrap();

    authority.identity("weir", &[dns("new.example.test")]);
    tls.reload_if_changed().unwrap().unwrap();
    ask(address, &trusting(&authority), Some("new.example.test"), None).await.unwrap();
    ask(address, &trusting(&authority), Some("old.test"), None).await.unwrap_err();
}

#[test]
fn each_wrong_file_is_named_with_what_is_wrong() {
    let authority = Authority::new("authority");
    let good = authority.identity("good", &[dns("weir.test")]);
    let other = authority.identity("other", &[dns("weir.test")]);
    let empty = authority.path("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let torn = authority.path("torn.pem");
    std::fs::write(&torn, "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n").unwrap();
    let missing = authority.path("missing.pem");
    for (certificate, key, problem) in [
        (&missing, &good.key, "missing.pem: can't be read: No such file"),
        (&empty, &good.key, "empty.pem: holds no certificate"),
        (&torn, &good.key, "torn.pem: is not PEM"),
        (&good.key, &good.key, "good.key: holds no certificate"),
        (&good.certificate, &missing, "missing.pem: can't be read"),
        (&good.certificate, &good.certificate, "good.pem: holds no private key"),
        (&good.certificate, &other.key, "other.key: "),
    ] {
        let identity = Identity { certificate: certificate.clone(), key: key.clone() };
        let settings = server::tls::Settings {
            identity: identity.clone(),
            clients: None,
            only_tls13: false,
            http2: true,
        };
        let error = ServerTls::load(settings).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        let settings =
            upstream::tls::Settings { client: Some(identity), roots: Roots::Bundled, ..Default::default() };
        let error = upstream::tls::client_config(&settings).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let settings = upstream::tls::Settings { roots: Roots::File(empty), ..Default::default() };
    let error = upstream::tls::client_config(&settings).unwrap_err().to_string();
    assert!(error.contains("empty.pem: holds no certificate"), "{error}");
}

#[tokio::test]
async fn only_tls13_rejects_tls12() {
    let authority = Authority::new("authority");
    let identity = authority.identity("weir", &[loopback()]);
    let settings = server::tls::Settings { identity, clients: None, only_tls13: true, http2: true };
    let (address, counters, _drain) = serve(ServerTls::load(settings).unwrap());
    ask(address, &trusting(&authority), None, None).await.unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = "weir.test".try_into().unwrap();
    let error = tokio_rustls::TlsConnector::from(Arc::new(old)).connect(name, stream).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    while counters.tls_failed() == 0 {
        weir::internals::clock::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn goes_through_a_proxy_that_sees_only_the_name() {
    let authority = Authority::new("authority");
    let (address, _counters, _drain) = serve(load(&authority.identity("weir", &[loopback()]), None));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_address = listener.local_addr().unwrap();
    let asked = weir::internals::clock::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            client.read_buf(&mut head).await.unwrap();
        }
        let mut upstream = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut client, &mut upstream).await);
        String::from_utf8(head).unwrap()
    });
    let proxy = Proxy::parse(&format!("http://user:secret@{proxy_address}")).unwrap();
    let told = ask(address, &trusting(&authority), None, Some(proxy)).await.unwrap();
    assert_eq!(told, "tls true http2 false names ");
    let asked = asked.await.unwrap();
    assert!(asked.starts_with(&format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n")), "{asked}");
}
