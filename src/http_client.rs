//! One HTTP/1.1 request on a connection of its own, for what is asked only now and then.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock;

/// Why there is no answer.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Sends a request with an absolute URI, and reads its answer of at most `longest` bytes.
///
/// # Errors
/// What went wrong on the connection; an answer that is longer.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Bytes>,
    longest: usize,
) -> Result<Response<Bytes>, Failed> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    clock::spawn(async move {
        // Its end, good or bad, shows in the answer.
        drop(connection.await);
    });
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or("the URI has no host")?;
    parts.headers.insert(HOST, HeaderValue::try_from(authority.as_str())?);
    parts.uri = parts.uri.path_and_query().ok_or("the URI has no path")?.clone().into();
    let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, longest).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}
