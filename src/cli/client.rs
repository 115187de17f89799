//! What `weir status` and `weir report` ask a running Weir.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::arguments::AdminAccess;
use super::{Failure, settings};
use crate::caller::Secret;
use crate::clock;
use crate::config::sources::{Process, WithoutSecrets};

/// The whole exchange: an admin listener has a thread of its own and answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than the largest status.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// The way to one running Weir's admin listener.
pub(super) struct Client {
    address: SocketAddr,
    token: Option<Secret>,
    runtime: Runtime,
}

impl Client {
    /// The Weir that the options and the configuration name.
    pub(super) fn from_settings(admin: &AdminAccess) -> Result<Self, Failure> {
        // Of all secrets only the token is needed: whoever asks for the status need not hold the upstream's key.
        let config = settings::of_running(admin, &WithoutSecrets)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Other(format!("cannot start a runtime: {error}")))?;
        let token = config.admin.token.map(|token| token.source.resolve(&Process)).transpose();
        let token = token.map_err(|message| Failure::Usage(format!("admin.token: {message}")))?;
        Ok(Self { address: reachable(config.admin.listen), token, runtime })
    }

    /// The body of an answer.
    pub(super) fn get(&self, path: &str) -> Result<String, Failure> {
        let address = self.address;
        let answer =
            self.runtime.block_on(async { tokio::time::timeout(TIMEOUT, self.exchange(path)).await });
        let (status, body) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let advice = "is Weir running there? --admin or --config say where it is";
                return Err(Failure::Other(format!("cannot ask {address}: {error}; {advice}")));
            }
            Err(_) => return Err(Failure::Other(format!("{address} gave no answer within 5 s"))),
        };
        match status {
            StatusCode::OK => Ok(String::from_utf8_lossy(&body).into_owned()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Other(format!(
                "{address} asks for its admin token; give --config with the file that names it (admin.token)"
            ))),
            StatusCode::NOT_FOUND => Err(Failure::Other(format!("{address} has no {path}"))),
            _ => Err(Failure::Other(format!("{address} answered {status} to {path}"))),
        }
    }

    /// Waits between two looks.
    pub(super) fn wait(&self, seconds: u64) {
        self.runtime.block_on(clock::sleep(Duration::from_secs(seconds)));
    }

    async fn exchange(
        &self,
        path: &str,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = clock::spawn(connection);
        let mut request =
            Request::get(path).header(HOST, self.address.to_string()).body(Empty::<Bytes>::new())?;
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await?.to_bytes();
        connection.abort();
        Ok((status, body))
    }
}

/// An id as one segment of a path.
pub(super) fn path_segment(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    id.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Where a listener on every address is reached from this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listen.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listen.port()).into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen,
    }
}
