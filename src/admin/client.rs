//! The command line's client for a running Weir's admin address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode};
use thiserror::Error;
use tokio::net::TcpStream;

use super::status::{FailureLine, Status};
use crate::{clock, http_client};

/// The timeout of a whole exchange.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a response; 20,000 series take a tenth of it.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// Why the admin address gave no usable response, for a person at a terminal.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection failed.
    #[error("no Weir answers at {address}: {source} (is it running? --admin names its admin address)")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The timeout expired.
    #[error("{address} did not answer within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// The address.
        address: SocketAddr,
    },
    /// The response is an error.
    #[error("{address} answered {status}: {message}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The status.
        status: StatusCode,
        /// The message in the body.
        message: String,
    },
    /// The response is not from a Weir, or not from a compatible one.
    #[error("{address} answered with something that is not Weir's: {message}")]
    NotWeir {
        /// The address.
        address: SocketAddr,
        /// The problem with the response.
        message: String,
    },
}

/// An admin address and the token for it.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    token: Option<HeaderValue>,
}

/// Hides the token.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for the Weir with the configured admin address `address`; an unspecified address
    /// becomes loopback.
    ///
    /// A token that can't be a header value is omitted; the response then says that one is needed.
    pub fn new(address: SocketAddr, token: Option<&str>) -> Self {
        let ip = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let bearer = |token: &str| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Self { address: SocketAddr::new(ip, address.port()), token: token.and_then(bearer) }
    }

    /// The status that the page shows.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let answer = self.ask(Method::GET, "/status", "application/json").await?;
        serde_json::from_slice(&answer).map_err(|error| self.not_weir(&error))
    }

    /// The status as JSON, unparsed.
    pub async fn status_json(&self) -> Result<Bytes, ClientError> {
        self.ask(Method::GET, "/status", "application/json").await
    }

    /// The recent failures, the newest first.
    pub async fn reports(&self) -> Result<Vec<FailureLine>, ClientError> {
        let answer = self.ask(Method::GET, "/reports", "application/json").await?;
        serde_json::from_slice(&answer).map_err(|error| self.not_weir(&error))
    }

    /// One report as text, ready to paste; the id `last` selects the newest.
    pub async fn report(&self, id: &str) -> Result<String, ClientError> {
        let safe: String = id.chars().filter(|part| part.is_ascii_alphanumeric() || *part == '-').collect();
        let answer = self.ask(Method::GET, &format!("/reports/{safe}"), "text/plain").await?;
        String::from_utf8(answer.into()).map_err(|error| self.not_weir(&error))
    }

    /// The result of the readiness probe, or of the liveness probe.
    pub async fn health(&self, live: bool) -> Result<String, ClientError> {
        let answer = self.ask(Method::GET, if live { "/livez" } else { "/readyz" }, "text/plain").await?;
        String::from_utf8(answer.into()).map_err(|error| self.not_weir(&error))
    }

    /// Requests a drain.
    #[cfg(test)]
    pub async fn drain(&self) -> Result<(), ClientError> {
        self.ask(Method::POST, "/drain", "text/plain").await.map(drop)
    }

    /// Requests a reload; a rejected configuration is [`ClientError::Refused`] with all problems.
    /// The response names the keys that need a restart.
    pub async fn reload(&self) -> Result<String, ClientError> {
        let answer = self.ask(Method::POST, "/reload", "text/plain").await?;
        String::from_utf8(answer.into()).map_err(|error| self.not_weir(&error))
    }

    async fn ask(&self, method: Method, path: &str, accept: &'static str) -> Result<Bytes, ClientError> {
        let address = self.address;
        let asking = self.exchange(method, path, accept);
        clock::timeout_at(clock::now() + TIMEOUT, asking)
            .await
            .unwrap_or(Err(ClientError::Timeout { address }))
    }

    async fn exchange(&self, method: Method, path: &str, accept: &'static str) -> Result<Bytes, ClientError> {
        let address = self.address;
        let stream =
            TcpStream::connect(address).await.map_err(|source| ClientError::Connect { address, source })?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header(ACCEPT, accept)
            .body(Bytes::new())
            .map_err(|error| self.not_weir(&error))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let answer = http_client::exchange(stream, request, MAX_ANSWER).await;
        let answer = answer.map_err(|error| self.not_weir(&error))?;
        let status = answer.status();
        let body = answer.into_body();
        if status.is_success() {
            return Ok(body);
        }
        let message = String::from_utf8_lossy(&body[..body.len().min(4_096)]).trim_end().to_owned();
        Err(ClientError::Refused { address, status, message })
    }

    fn not_weir(&self, error: &impl ToString) -> ClientError {
        ClientError::NotWeir { address: self.address, message: error.to_string() }
    }
}
