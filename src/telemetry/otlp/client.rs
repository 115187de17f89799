//! The HTTP client of the exporter: hyper, one connection for each message.
//!
//! A message goes out every few seconds; a connection kept for the next would mostly be closed by then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::EXPORT_WITHIN;
use crate::clock;

/// Bytes of a collector's answer: a few words.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) struct Client {
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    pub(super) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        // HTTP/1.1 is all that is spoken here.
        let tls = tls.map(|tls| {
            let mut tls = ClientConfig::clone(&tls);
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(tls)
        });
        Self { tls }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        let host = uri.host().ok_or("the endpoint has no host")?;
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await?;
        if !secure {
            return exchange(stream, request, &uri).await;
        }
        let tls = self.tls.clone().ok_or("https is not set up")?;
        let name = ServerName::try_from(bare.to_owned())?;
        exchange(TlsConnector::from(tls).connect(name, stream).await?, request, &uri).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("tls", &self.tls.is_some()).finish()
    }
}

/// Written as `async_trait` expands it, which would be one more dependency.
impl HttpClient for Client {
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        Box::pin(async move {
            let until = clock::now() + EXPORT_WITHIN;
            clock::timeout_at(until, self.send(request)).await.map_err(|_| "no answer in time")?
        })
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Bytes>,
    uri: &Uri,
) -> Result<Response<Bytes>, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    clock::spawn(async move {
        // Its end, good or bad, shows in the answer.
        drop(connection.await);
    });
    let (mut parts, body) = request.into_parts();
    let authority = uri.authority().ok_or("the endpoint has no host")?;
    parts.headers.insert(HOST, HeaderValue::try_from(authority.as_str())?);
    parts.uri = uri.path_and_query().ok_or("the endpoint has no path")?.clone().into();
    let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}
