//! A connection to Redis, and the one thing that is done with it: an exchange, in a transaction, each in a bounded time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use crate::clock;

use super::address::{Address, Place};
use super::resp::{self, Malformed, Value};

/// Bytes of all that is answered at once.
const LONGEST_ANSWER: usize = 8 << 20;
/// A hash that nobody writes to is gone after so many milliseconds.
const FORGOTTEN: &[u8] = b"86400000";

/// Why an exchange failed. Nothing of the address is in it, nor of what Redis said but the code of an error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the host's name can't be resolved")]
    Name,
    #[error("the connection failed: {0}")]
    Connection(io::ErrorKind),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("no answer in time")]
    Timeout,
    #[error("Redis answered {0}")]
    Refused(String),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Connection(error.kind())
    }
}

/// What an exchange found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// This replica's beat wasn't there before.
    pub(super) new: bool,
    /// Every replica's id and beat.
    pub(super) beats: Vec<(String, Vec<u8>)>,
}

/// The way to Redis.
#[derive(Clone, Debug)]
pub(super) struct Redis {
    pub(super) address: Address,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// The hash that the beats are in.
    pub(super) key: String,
    /// For each step.
    pub(super) timeout: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection. After any failure it is of no more use.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl Redis {
    /// Connects and signs in.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        within(self.timeout, async {
            let stream = self.open().await?;
            let mut connection = Connection { stream, read: Vec::new() };
            let Address { user, password, database, .. } = &self.address;
            if let Some(password) = password {
                let user = user.as_deref().map(str::as_bytes);
                let words: Vec<&[u8]> = [Some(&b"AUTH"[..]), user, Some(password.expose().as_bytes())]
                    .into_iter()
                    .flatten()
                    .collect();
                connection.ask(&[&words]).await?;
            }
            if *database > 0 {
                connection.ask(&[&[b"SELECT", database.to_string().as_bytes()]]).await?;
            }
            Ok(connection)
        })
        .await
    }

    /// Writes this replica's beat, removes those of others, and reads all, at one moment.
    pub(super) async fn exchange(
        &self,
        connection: &mut Connection,
        id: &str,
        beat: &str,
        remove: &[String],
    ) -> Result<Found, Failure> {
        let key = self.key.as_bytes();
        let mut removal: Vec<&[u8]> = vec![b"HDEL", key];
        removal.extend(remove.iter().map(String::as_bytes));
        let set: [&[u8]; 4] = [b"HSET", key, id.as_bytes(), beat.as_bytes()];
        let (all, expire): ([&[u8]; 2], [&[u8]; 3]) = ([b"HGETALL", key], [b"PEXPIRE", key, FORGOTTEN]);
        let mut commands: Vec<&[&[u8]]> = vec![&[b"MULTI"]];
        // First, or they would be found again.
        if !remove.is_empty() {
            commands.push(&removal);
        }
        commands.extend([&set[..], &all, &expire, &[b"EXEC"]]);
        let mut answers = within(self.timeout, connection.ask(&commands)).await?;
        let Some(Value::Array(answers)) = answers.pop() else { return Err(Malformed.into()) };
        found(answers)
    }

    /// Leaves a beat and reads nothing.
    pub(super) async fn leave(
        &self,
        connection: &mut Connection,
        id: &str,
        beat: &str,
    ) -> Result<(), Failure> {
        let set: [&[u8]; 4] = [b"HSET", self.key.as_bytes(), id.as_bytes(), beat.as_bytes()];
        within(self.timeout, connection.ask(&[&set])).await.map(drop)
    }

    async fn open(&self) -> Result<Box<dyn Stream>, Failure> {
        let (host, port, tls) = match &self.address.place {
            Place::Socket(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Place::Host { host, port, tls } => (host, *port, *tls),
        };
        let addresses: Vec<SocketAddr> =
            lookup_host((host.as_str(), port)).await.map_err(|_| Failure::Name)?.collect();
        let stream = TcpStream::connect(&addresses[..]).await?;
        stream.set_nodelay(true)?;
        let Some(config) = self.tls.as_ref().filter(|_| tls) else { return Ok(Box::new(stream)) };
        let name =
            ServerName::try_from(host.clone()).map_err(|_| Failure::Tls("the host is no name".to_owned()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => Failure::Tls(error.to_string()),
                None => error.into(),
            }
        })?;
        Ok(Box::new(stream))
    }
}

impl Connection {
    /// Sends commands and waits for the answer to each; the first error among them is the failure.
    async fn ask(&mut self, commands: &[&[&[u8]]]) -> Result<Vec<Value>, Failure> {
        let mut out = zeroize::Zeroizing::new(Vec::new());
        for words in commands {
            resp::command(&mut out, words);
        }
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut answers = Vec::with_capacity(commands.len());
        while answers.len() < commands.len() {
            let answer = self.answer().await?;
            if let Value::Error(code) = answer {
                return Err(Failure::Refused(code));
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn answer(&mut self) -> Result<Value, Failure> {
        loop {
            if let Some((value, length)) = resp::value(&self.read)? {
                self.read.drain(..length);
                return Ok(value);
            }
            if self.read.len() >= LONGEST_ANSWER {
                return Err(Malformed.into());
            }
            // Twice as much with each reading: what came is looked at anew each time.
            self.read.reserve(self.read.len().max(4 << 10));
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(Failure::Connection(io::ErrorKind::UnexpectedEof));
            }
        }
    }
}

/// What a transaction answered: to `HSET`, `HGETALL` and `PEXPIRE`, and before them maybe to `HDEL`.
fn found(answers: Vec<Value>) -> Result<Found, Failure> {
    if let Some(Value::Error(code)) = answers.iter().find(|answer| matches!(answer, Value::Error(_))) {
        return Err(Failure::Refused(code.clone()));
    }
    let removed = answers.len().checked_sub(3).ok_or(Malformed)?;
    let mut answers = answers.into_iter().skip(removed);
    let (Some(Value::Integer(new)), Some(Value::Array(all))) = (answers.next(), answers.next()) else {
        return Err(Malformed.into());
    };
    let mut beats = Vec::with_capacity(all.len() / 2);
    let mut all = all.into_iter();
    while let Some(id) = all.next() {
        let (Value::Bytes(id), Some(Value::Bytes(beat))) = (id, all.next()) else {
            return Err(Malformed.into());
        };
        // An id that is no text is nobody's.
        if let Ok(id) = String::from_utf8(id) {
            beats.push((id, beat));
        }
    }
    Ok(Found { new: new > 0, beats })
}

async fn within<T>(timeout: Duration, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    clock::timeout_at(clock::now() + timeout, step).await.unwrap_or(Err(Failure::Timeout))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What becomes of an exchange with a server that says this and then nothing more.
    async fn with_server(says: &'static [u8]) -> Result<Found, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = clock::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 16];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(says).await.unwrap();
            std::future::pending::<()>().await;
        });
        let url = format!("redis://:hunter2@127.0.0.1:{port}");
        let address = Address::parse(&url).unwrap();
        let timeout = Duration::from_millis(300);
        let redis = Redis { address, tls: None, key: "weir:replicas".to_owned(), timeout };
        let exchanged = async {
            let mut connection = redis.connect().await?;
            redis.exchange(&mut connection, "me", "1 1 1000", &["gone".to_owned()]).await
        };
        let result = exchanged.await;
        serving.abort();
        result
    }

    #[tokio::test]
    async fn an_exchange_reads_what_all_said() {
        let found = with_server(
            b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n\
              *4\r\n:1\r\n:0\r\n*4\r\n$2\r\nme\r\n$8\r\n1 1 1000\r\n$5\r\nother\r\n$5\r\n1 bye\r\n:1\r\n",
        )
        .await
        .unwrap();
        let beats = [("me".to_owned(), b"1 1 1000".to_vec()), ("other".to_owned(), b"1 bye".to_vec())];
        assert_eq!(found, Found { new: false, beats: beats.to_vec() });
    }

    #[tokio::test]
    async fn every_failure_is_told_apart_and_none_tells_a_secret() {
        for (says, expected) in [
            (&b""[..], "no answer in time"),
            (b"+OK\r\n+OK\r\n", "no answer in time"),
            (b"-WRONGPASS invalid username-password pair hunter2\r\n", "Redis answered WRONGPASS"),
            (b"-NOAUTH Authentication required.\r\n", "Redis answered NOAUTH"),
            (b"+OK\r\n+OK\r\n-READONLY You can't write\r\n", "Redis answered READONLY"),
            (b"+OK\r\n-LOADING Redis is loading the dataset\r\n", "Redis answered LOADING"),
            (b"HTTP/1.1 400 Bad Request\r\n", "what came is no answer of Redis, or too long"),
            (
                b"+OK\r\n+OK\r\n+Q\r\n+Q\r\n+Q\r\n+Q\r\n*-1\r\n",
                "what came is no answer of Redis, or too long",
            ),
            (
                b"+OK\r\n+OK\r\n+Q\r\n+Q\r\n+Q\r\n+Q\r\n*1\r\n:1\r\n",
                "what came is no answer of Redis, or too long",
            ),
            (
                b"+OK\r\n+OK\r\n+Q\r\n+Q\r\n+Q\r\n+Q\r\n*4\r\n:1\r\n-WRONGTYPE x\r\n:1\r\n:1\r\n",
                "Redis answered WRONGTYPE",
            ),
            (
                b"+OK\r\n+OK\r\n+Q\r\n+Q\r\n+Q\r\n+Q\r\n*4\r\n:1\r\n:1\r\n*1\r\n$1\r\na\r\n:1\r\n",
                "what came is no answer of Redis, or too long",
            ),
        ] {
            let failure = with_server(says).await.unwrap_err().to_string();
            assert_eq!(failure, expected, "{}", String::from_utf8_lossy(says));
        }
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure_too() {
        let address = Address::parse("unix:///nowhere/redis.sock").unwrap();
        let timeout = Duration::from_millis(300);
        let redis = Redis { address, tls: None, key: String::new(), timeout };
        assert!(matches!(redis.connect().await, Err(Failure::Connection(io::ErrorKind::NotFound))));
        let address = Address::parse("redis://nowhere.invalid").unwrap();
        let redis = Redis { address, timeout: Duration::from_secs(5), ..redis };
        assert!(matches!(redis.connect().await, Err(Failure::Name)));
    }
}
