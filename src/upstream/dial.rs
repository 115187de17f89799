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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| format!("{address}:443").parse().unwrap()).collect()
    }

    const SIX: [&str; 2] = ["[2001:db8::1]", "[2001:db8::2]"];
    const FOUR: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

    #[test]
    fn families_take_turns() {
        let found = addresses(&[SIX[0], SIX[1], FOUR[0], FOUR[1], FOUR[2]]);
        let expected = addresses(&[SIX[0], FOUR[0], SIX[1], FOUR[1], FOUR[2]]);
        assert_eq!(alternate(found.into_iter()), expected);
        assert_eq!(alternate(addresses(&FOUR).into_iter()), addresses(&FOUR));
        assert_eq!(alternate(addresses(&[]).into_iter()), []);
    }

    /// Connects after the given milliseconds, or fails when they are negative; tells what was tried when.
    async fn try_all(delays: &[i64]) -> (io::Result<SocketAddr>, Duration, usize) {
        let began: Instant = clock::now();
        let all = addresses(&FOUR);
        let tried = std::cell::Cell::new(0);
        let winner = race(all[..delays.len()].to_vec(), |address| {
            tried.set(tried.get() + 1);
            let place = all.iter().position(|other| *other == address).unwrap();
            let delay = delays[place];
            async move {
                clock::sleep(Duration::from_millis(delay.unsigned_abs())).await;
                if delay < 0 { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(address) }
            }
        })
        .await;
        (winner, clock::now() - began, tried.get())
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_has_a_head_start() {
        let all = addresses(&FOUR);
        for (delays, winner, after, tried) in [
            (&[100, 0, 0][..], Some(0), 100, 1),
            (&[10_000, 50, 0], Some(1), 300, 2),
            (&[10_000, 10_000, 10], Some(2), 510, 3),
            (&[400, 300, 300], Some(0), 400, 2),
            // A failure lets the next one go at once.
            (&[-20, 10, 0], Some(1), 30, 2),
            (&[-20, -10, -5], None, 35, 3),
            (&[], None, 0, 0),
        ] {
            let (won, took, count) = try_all(delays).await;
            assert_eq!(won.ok(), winner.map(|place: usize| all[place]), "{delays:?}");
            assert_eq!((took.as_millis(), count), (after, tried), "{delays:?}");
        }
    }
}
