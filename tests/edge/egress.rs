//! The egress proxy: CONNECT, its password, and the exempt hosts.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::listener_tls::Authority;
use crate::process::Weir;
use crate::wire;

const AUTHORIZATION: &str = "Basic bWU6cEBzcy8jJTQx";

/// An upstream with TLS.
fn secure(authority: &Authority) -> SocketAddr {
    authority.sign("api", &["api.weir.test"]);
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(authority.path("api.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(authority.path("api.key")).unwrap(),
            )
            .unwrap();
    let config = Arc::new(config);
    wire::upstream(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
        while wire::read_head(&mut stream).is_some() {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.get_mut().write_all(answer).and_then(|()| stream.get_mut().flush()).is_err() {
                return;
            }
        }
    })
}

/// A proxy that connects every authenticated CONNECT to one address. Returns the requests.
fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let told = Arc::clone(&asked);
    let address = wire::upstream(move |mut client| {
        let mut reader = BufReader::new(client.try_clone().unwrap());
        let Some(head) = wire::read_head(&mut reader) else { return };
        told.lock().unwrap().push(head.start.clone());
        if head.header("proxy-authorization") != Some(AUTHORIZATION) {
            drop(client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"));
            return;
        }
        let upstream = TcpStream::connect(to).unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let (up, down) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || copy(upstream, down));
        copy(client, up);
    });
    (address, asked)
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

#[test]
fn the_environments_proxy_is_asked_for_the_upstream_by_name() {
    let authority = Authority::new();
    let (proxy, asked) = proxy(secure(&authority));
    // The name does not resolve here: only the proxy knows where it is.
    let configuration = format!(
        "upstream.url = \"https://api.weir.test\"\nupstream.tls.roots = \"file:{}\"\n",
        authority.show("roots.pem")
    );
    let with_password = format!("http://me:p%40ss%2F%23%2541@{proxy}");
    let weir = Weir::start(&configuration, &[("HTTPS_PROXY", &with_password)]);
    for _ in 0..2 {
        let answer = wire::get(weir.address, "/v1/models");
        assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"ok"[..]));
    }
    let lines = asked.lock().unwrap().clone();
    assert!(lines.iter().all(|line| line == "CONNECT api.weir.test:443 HTTP/1.1"), "{lines:?}");

    let weir = Weir::start(&configuration, &[("HTTPS_PROXY", &format!("http://{proxy}"))]);
    let answer = wire::get(weir.address, "/v1/models");
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status(), 502);
    assert!(told.contains("407"), "{told}");
    assert_eq!(answer.header("x-weir-error-class"), Some("connection_proxy"));

    // An exempt name is resolved here, and does not exist.
    for exempt in ["weir.test", "*", ".weir.test"] {
        let variables = [("HTTPS_PROXY", with_password.as_str()), ("NO_PROXY", exempt)];
        let output = Weir::fails(&configuration, &variables);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "a name may appear later: {told}");
        assert!(told.contains("upstream.url: the host \"api.weir.test\" does not resolve"), "{told}");
    }
}

#[test]
fn a_configured_proxy_leads_to_loopback_too() {
    let authority = Authority::new();
    let (upstream, _seen) = wire::plain();
    let (proxy, asked) = proxy(upstream);
    let configuration = format!(
        "upstream.url = \"http://{upstream}\"\nupstream.proxy = \"http://{proxy}\"\n\
         upstream.proxy_credential = \"env:PROXY\"\n"
    );
    let weir = Weir::start(&configuration, &[("PROXY", "me:p@ss/#%41")]);
    assert_eq!(wire::get(weir.address, "/v1/models").status(), 200);
    assert_eq!(*asked.lock().unwrap(), [format!("CONNECT {upstream} HTTP/1.1")]);
    drop(authority);
}

/// Repeated attempts with a wrong password could lock the account.
#[test]
fn a_proxys_refusal_is_final_and_held_back_for_all() {
    let (upstream, _seen) = wire::plain();
    let (proxy, asked) = proxy(upstream);
    let configuration =
        format!("upstream.url = \"http://{upstream}\"\nupstream.proxy = \"http://{proxy}\"\n");
    let weir = Weir::start(&configuration, &[]);
    for _ in 0..5 {
        let answer = wire::get(weir.address, "/v1/models");
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.header("x-weir-error-class"), Some("connection_proxy"));
        assert_eq!(answer.header("x-weir-attempts"), Some("1"));
    }
    let count = asked.lock().unwrap().len();
    assert!(count <= 2, "{count} CONNECTs");
    assert!(weir.metric("weir_upstream_connects_total{result=\"proxy\"}") >= 1.0);
    assert!(weir.metric("weir_upstream_connects_total{result=\"refused\"}") < 1.0);
}

/// Class, message and metric show which step of connecting took too long.
#[test]
fn a_connect_timeout_names_its_step() {
    // It answers nothing until Weir closes the connection.
    let silent = wire::upstream(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    let limits = "upstream.connect_timeout = \"300ms\"\nretry.max_attempts = 1\n";
    for (configuration, class, words, result) in [
        (format!("upstream.url = \"https://{silent}\"\n"), "timeout_connect", "no TLS handshake", "tls"),
        (
            format!("upstream.url = \"http://127.0.0.1:9\"\nupstream.proxy = \"http://{silent}\"\n"),
            "connection_proxy",
            "egress proxy",
            "proxy",
        ),
    ] {
        let weir = Weir::start(&format!("{configuration}{limits}"), &[]);
        let answer = wire::get(weir.address, "/v1/models");
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.header("x-weir-error-class"), Some(class), "{told}");
        assert!(told.contains(words), "{told}");
        assert!(weir.metric(&format!("weir_upstream_connects_total{{result=\"{result}\"}}")) >= 1.0);
    }
}
