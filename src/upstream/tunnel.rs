//! A tunnel through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6).

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::classify::{Failure, FailureKind};

use super::proxy::Proxy;

/// Bytes that a proxy's answer may have.
const MAX_ANSWER: usize = 16 << 10;

/// Asks the proxy at the other end of `io` for a tunnel to `host`.
pub(super) async fn open<I>(mut io: I, proxy: &Proxy, host: &str, port: u16) -> Result<I, Failure>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = zeroize::Zeroizing::new(
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes(),
    );
    if let Some(authorization) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    io.write_all(&request).await.map_err(|error| broken(&error))?;

    let mut answer = Vec::with_capacity(1024);
    let end = loop {
        if answer.len() >= MAX_ANSWER {
            return Err(refused("the proxy's answer to CONNECT is too long"));
        }
        if io.read_buf(&mut answer).await.map_err(|error| broken(&error))? == 0 {
            return Err(refused("the proxy closed the connection after CONNECT"));
        }
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            break end + 4;
        }
    };
    match status(&answer) {
        Some(200..=299) if end == answer.len() => Ok(io),
        Some(200..=299) => Err(refused("the proxy sent bytes before the tunnel's")),
        Some(407) => Err(refused("the proxy asks for a user and password (407)")),
        Some(status) => {
            Err(Failure::unsent(FailureKind::Refused, format!("the proxy answered {status} to CONNECT")))
        }
        None => Err(refused("the proxy does not speak HTTP")),
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let digits = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn refused(detail: &'static str) -> Failure {
    Failure::unsent(FailureKind::Refused, detail)
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::unsent(FailureKind::Refused, format!("the connection to the proxy broke: {}", error.kind()))
}
