//! A tunnel through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6).

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::classify::{Failure, FailureKind};

use super::proxy::Proxy;

/// Largest CONNECT response, in bytes.
const MAX_ANSWER: usize = 16 << 10;

/// Opens a tunnel to `host` through the proxy at the other end of `io`.
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
            return Err(refused("its response to CONNECT is too long"));
        }
        if io.read_buf(&mut answer).await.map_err(|error| broken(&error))? == 0 {
            return Err(refused("it closed the connection after CONNECT"));
        }
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            break end + 4;
        }
    };
    match status(&answer) {
        Some(200..=299) if end == answer.len() => Ok(io),
        Some(200..=299) => Err(refused("it sent bytes before the tunnel's")),
        Some(407) => Err(Failure::unsent(FailureKind::Proxy, "it asks for another user and password (407)")),
        Some(status @ 400..=499) => {
            Err(Failure::unsent(FailureKind::Proxy, format!("it responded with {status} to CONNECT")))
        }
        Some(status) => {
            Err(Failure::unsent(FailureKind::ProxyFailed, format!("it responded with {status} to CONNECT")))
        }
        None => Err(refused("it does not speak HTTP")),
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let digits = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn refused(detail: &'static str) -> Failure {
    Failure::unsent(FailureKind::ProxyFailed, detail)
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::unsent(FailureKind::ProxyFailed, format!("its connection broke: {}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    async fn answer(answer: &'static str) -> (String, Result<(), Failure>) {
        let proxy = Proxy::parse("http://user:secret@proxy.example:3128").unwrap();
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let opening = clock::spawn(async move { open(near, &proxy, "api.openai.com", 443).await.map(drop) });
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            far.read_buf(&mut request).await.unwrap();
        }
        far.write_all(answer.as_bytes()).await.unwrap();
        drop(far);
        (String::from_utf8(request).unwrap(), opening.await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn asks_for_the_host_and_says_who_it_is() {
        let (request, opened) = answer("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
        assert_eq!(
            request,
            "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\
             Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"
        );
        opened.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn says_why_there_is_no_tunnel() {
        for (from_proxy, detail) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "user and password (407)"),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "it responded with 403 to CONNECT"),
            ("HTTP/1.0 503 No\r\n\r\n", "it responded with 503 to CONNECT"),
            ("HTTP/1.1 200 OK\r\n\r\nSSH-2.0", "bytes before the tunnel's"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
            ("HTTP/1.1 200 OK\r\n", "closed the connection"),
            ("", "closed the connection"),
        ] {
            let (_, opened) = answer(from_proxy).await;
            let failure = opened.unwrap_err();
            let is_final = from_proxy.contains(" 40");
            let kind = if is_final { FailureKind::Proxy } else { FailureKind::ProxyFailed };
            assert_eq!((failure.kind, failure.sent, failure.is_final()), (kind, false, is_final));
            assert!(failure.to_string().contains(detail), "{failure}");
            assert!(!failure.to_string().contains("secret") && !failure.to_string().contains("dXNl"));
        }
    }
}
