//! DNS and TCP: the first of a host's addresses that answers.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use crate::classify::{Failure, FailureKind};
use crate::clock;

/// Head start of an address before the next one is tried as well (RFC 8305, section 5: 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// Silence after which the kernel tests a connection, so that one that died quietly is noticed while it waits.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Connects to a host. Caching names is left to the system's resolver, which knows how long they are good for.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let found = lookup_host((host, port))
        .await
        .map_err(|error| Failure::unsent(FailureKind::Dns, error.to_string()))?;
    let stream = race(alternate(found), TcpStream::connect).await.map_err(|error| refused(&error))?;
    // Both are improvements that a system may decline; the connection works without.
    drop(stream.set_nodelay(true));
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    drop(SockRef::from(&stream).set_tcp_keepalive(&keepalive));
    Ok(stream)
}

fn refused(error: &io::Error) -> Failure {
    let system = error.kind();
    let kind = if system == io::ErrorKind::NotFound {
        FailureKind::Dns
    } else if system == io::ErrorKind::TimedOut {
        FailureKind::ConnectTimeout
    } else {
        FailureKind::Refused
    };
    Failure::unsent(kind, system.to_string())
}

/// The addresses in the resolver's order, but families in turn, beginning with the first's.
fn alternate(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut first = Vec::new();
    let mut second = Vec::new();
    for address in found.take(MAX_ADDRESSES) {
        if first.first().is_none_or(|other: &SocketAddr| other.is_ipv4() == address.is_ipv4()) {
            first.push(address);
        } else {
            second.push(address);
        }
    }
    let mut second = second.into_iter();
    let mut ordered: Vec<_> =
        first.into_iter().flat_map(|address| [Some(address), second.next()]).flatten().collect();
    ordered.extend(second);
    ordered
}

/// Tries the addresses one after the other, each with a head start; the first that connects wins.
async fn race<T, F, Fut>(addresses: Vec<SocketAddr>, connect: F) -> io::Result<T>
where
    F: Fn(SocketAddr) -> Fut,
    Fut: Future<Output = io::Result<T>>,
{
    let mut untried = addresses.into_iter();
    let mut tried: Vec<Pin<Box<Fut>>> = Vec::new();
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    let mut stagger = pin!(clock::sleep(STAGGER));
    poll_fn(|cx| {
        loop {
            let mut failed = false;
            let mut index = 0;
            while let Some(attempt) = tried.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(connected)) => return Poll::Ready(Ok(connected)),
                    Poll::Ready(Err(new)) => {
                        error = new;
                        failed = true;
                        drop(tried.swap_remove(index));
                    }
                    Poll::Pending => index += 1,
                }
            }
            let due = failed || tried.is_empty() || stagger.as_mut().poll(cx).is_ready();
            if due && let Some(address) = untried.next() {
                tried.push(Box::pin(connect(address)));
                stagger.as_mut().reset(clock::now() + STAGGER);
            } else if tried.is_empty() {
                return Poll::Ready(Err(std::mem::replace(&mut error, io::ErrorKind::NotFound.into())));
            } else {
                return Poll::Pending;
            }
        }
    })
    .await
}
