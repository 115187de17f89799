//! DNS and TCP: connects to the first address of a host that accepts.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;

use crate::classify::{Failure, FailureKind, is_exhausted};
use crate::clock;

use super::progress::{Progress, Step};

/// Delay before the next address is tried in parallel (RFC 8305, section 5: 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// Idle time before TCP keep-alive probes, which detect peers that vanished.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered probes after which the peer has vanished.
const KEEPALIVE_PROBES: u32 = 2;
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Connects to a host.
pub(super) async fn dial(
    host: &str,
    port: u16,
    lookups: &Lookups,
    progress: &Progress,
) -> Result<TcpStream, Failure> {
    progress.begin(Step::Lookup);
    let found = lookups.join((host, port), || lookup_host((host, port))).await?;
    progress.begin(Step::Tcp);
    let stream = race(alternate(found), TcpStream::connect).await.map_err(|error| refused(&error))?;
    // Optimizations, which the system may not support; the connection works without.
    drop(stream.set_nodelay(true));
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    drop(SockRef::from(&stream).set_tcp_keepalive(&keepalive));
    Ok(stream)
}

/// The DNS lookup in progress, shared by all connections to the same host. Each lookup would
/// otherwise use a thread of about 50 KiB, which lives for seconds.
///
/// Results are not cached: that is left to the system's resolver, which knows their TTL.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    latest: Mutex<Lookup>,
}

#[derive(Debug, Default)]
struct Lookup {
    host: Box<str>,
    port: u16,
    found: Weak<OnceCell<LookupResult>>,
}

/// A host's addresses, or the reason why the lookup failed.
type LookupResult = Result<Vec<SocketAddr>, Failure>;

impl Lookups {
    /// Waits for the lookup in progress, or for a new one started by `begin`.
    ///
    /// # Cancel safety
    /// If the task that started the lookup is dropped, another waiting task starts a new one.
    async fn join<F, A>(&self, (host, port): (&str, u16), begin: impl FnOnce() -> F) -> LookupResult
    where
        F: Future<Output = io::Result<A>>,
        A: Iterator<Item = SocketAddr>,
    {
        let found = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            let same = *latest.host == *host && latest.port == port;
            let under_way = latest.found.upgrade().filter(|found| same && !found.initialized());
            under_way.unwrap_or_else(|| {
                let found = Arc::default();
                *latest = Lookup { host: host.into(), port, found: Arc::downgrade(&found) };
                found
            })
        };
        let look_up = async {
            let addresses = begin().await.map_err(|error| not_found(&error))?;
            Ok(addresses.take(MAX_ADDRESSES).collect())
        };
        found.get_or_init(|| look_up).await.clone()
    }
}

fn not_found(error: &io::Error) -> Failure {
    let kind = if is_exhausted(error) { FailureKind::Exhausted } else { FailureKind::Dns };
    Failure::unsent(kind, error.to_string())
}

fn refused(error: &io::Error) -> Failure {
    let system = error.kind();
    let kind = if is_exhausted(error) {
        FailureKind::Exhausted
    } else if system == io::ErrorKind::NotFound {
        FailureKind::Dns
    } else if system == io::ErrorKind::TimedOut {
        FailureKind::ConnectTimeout
    } else {
        FailureKind::Refused
    };
    // std has no messages of its own for most of these.
    let words = if kind == FailureKind::Exhausted { error.to_string() } else { system.to_string() };
    Failure::unsent(kind, words)
}

/// Interleaves the address families, starting with the first address's; otherwise keeps the
/// resolver's order.
fn alternate(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut first = Vec::new();
    let mut second = Vec::new();
    for address in found {
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

/// Tries the addresses in order with a delay between them; the first that connects wins.
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
                        // A refusal is more informative than an unreachable address family.
                        if error.kind() != io::ErrorKind::ConnectionRefused {
                            error = new;
                        }
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
        assert_eq!(alternate(found), expected);
        assert_eq!(alternate(addresses(&FOUR)), addresses(&FOUR));
        assert_eq!(alternate(addresses(&[])), []);
    }

    #[tokio::test(start_paused = true)]
    async fn who_connects_meanwhile_shares_a_lookup() {
        let (lookups, begun) = (Lookups::default(), std::cell::Cell::new(0));
        let look_up = |host| {
            lookups.join((host, 443), || async {
                begun.set(begun.get() + 1);
                clock::sleep(Duration::from_millis(10)).await;
                Ok(addresses(&FOUR).into_iter())
            })
        };
        let all = tokio::join!(look_up("one"), look_up("one"), look_up("one"));
        assert_eq!(all.0.clone(), Ok(addresses(&FOUR)));
        assert!(all.0 == all.1 && all.1 == all.2);
        assert_eq!(begun.get(), 1);
        // Results are not cached, and another host is another lookup.
        assert!(look_up("one").await.is_ok());
        assert_eq!(begun.get(), 2);
        let (one, two) = tokio::join!(look_up("one"), look_up("two"));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(begun.get(), 4);
        // The task that started the lookup is dropped: the waiting one starts again.
        let leaves = clock::timeout_at(clock::now() + Duration::from_millis(5), look_up("one"));
        let (left, stayed) = tokio::join!(leaves, look_up("one"));
        assert!(left.is_err() && stayed.is_ok());
        assert_eq!(begun.get(), 6);
    }

    #[tokio::test]
    async fn a_failed_lookup_fails_for_all_and_is_not_kept() {
        let lookups = Lookups::default();
        let fails = || {
            lookups.join(("none", 1), || async {
                Err::<std::vec::IntoIter<_>, _>(io::ErrorKind::NotFound.into())
            })
        };
        let (one, two) = tokio::join!(fails(), fails());
        assert!(one.is_err() && one == two);
        let found = lookups.join(("none", 1), || async { Ok(addresses(&FOUR).into_iter()) }).await;
        assert_eq!(found, Ok(addresses(&FOUR)));
    }

    /// A local error must not be blamed on the upstream.
    #[test]
    fn a_lack_of_our_own_is_no_refusal() {
        for (system, kind) in [
            (24, FailureKind::Exhausted),
            (23, FailureKind::Exhausted),
            (105, FailureKind::Exhausted),
            (12, FailureKind::Exhausted),
            (99, FailureKind::Exhausted),
            (111, FailureKind::Refused),
            (110, FailureKind::ConnectTimeout),
        ] {
            let failure = refused(&io::Error::from_raw_os_error(system));
            assert_eq!((failure.kind, failure.sent), (kind, false), "{failure}");
        }
        let lookup = not_found(&io::Error::from_raw_os_error(24));
        assert_eq!(lookup.kind, FailureKind::Exhausted);
        assert!(lookup.to_string().contains("Too many open files"), "{lookup}");
    }

    /// Connects after the given milliseconds, or fails after them if negative. Returns the result,
    /// the time and the number of addresses tried.
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
            // After a failure the next address is tried at once.
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
