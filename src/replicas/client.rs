//! The Redis client, built on the `redis` crate. Its only operation is an exchange with the ledger.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionInfo, ErrorKind, ProtocolVersion,
    RedisError, Script, ServerErrorKind, TlsCertificates,
};

use crate::caller::Secret;
use crate::clock;
use crate::pem;
use crate::upstream::tls::Roots;

use super::Trouble;
use super::address::{Address, Kind};
use super::message::{Answer, Call, Returned};

/// The number of steps of a connection attempt, each within the timeout: query a sentinel or a
/// node, then the server that it names.
const STEPS: u32 = 2;

/// The TLS files for Redis as PEM, the format of the crate.
#[derive(Clone)]
pub struct Tls(TlsCertificates);

impl Tls {
    /// Reads the files: `identity` is the client's certificate chain and key, if any.
    ///
    /// # Errors
    /// A file can't be used, or the system has no authorities.
    pub fn read(roots: &Roots, identity: Option<(&PathBuf, &PathBuf)>) -> Result<Self, String> {
        let root_cert = match roots {
            Roots::Bundled => None,
            Roots::File(path) => {
                pem::roots(path).map_err(|error| error.to_string())?;
                Some(std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?)
            }
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                // Some systems have a certificate that can't be parsed; the others are used.
                let usable = found
                    .certs
                    .into_iter()
                    .filter(|one| rustls::RootCertStore::empty().add(one.clone()).is_ok());
                let text: String = usable.map(|one| in_pem(&one)).collect();
                if text.is_empty() {
                    let none = "the system has no certificate authorities; install its `ca-certificates`, or write \
                                replicas.roots = \"bundled\"";
                    return Err(none.to_owned());
                }
                Some(text.into_bytes())
            }
        };
        let client_tls = match identity {
            None => None,
            Some((certificate, key)) => {
                pem::certificates(certificate).map_err(|error| error.to_string())?;
                pem::private_key(key).map_err(|error| error.to_string())?;
                let read = |path: &PathBuf| {
                    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
                };
                Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            }
        };
        Ok(Self(TlsCertificates { client_tls, root_cert }))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn in_pem(certificate: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// The source of the URL, which may change while Weir runs.
#[derive(Clone)]
pub struct Url(Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>);

impl Url {
    /// Creates a source that calls `read`.
    pub fn new(read: impl Fn() -> Result<Secret, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(super) fn read(&self) -> Result<Secret, String> {
        (self.0)()
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url")
    }
}

/// The parameters of connections to Redis.
#[derive(Clone, Debug)]
pub(super) struct Redis {
    pub(super) url: Url,
    pub(super) tls: Option<Tls>,
    pub(super) namespace: String,
    /// The timeout of each step.
    pub(super) timeout: Duration,
}

/// An open connection. It must not be used again after an error.
pub(super) struct Connection {
    transport: Transport,
    /// The URL it was opened with.
    url: Secret,
}

enum Transport {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Whether the connection was opened with this URL, whose password or server may have changed.
    pub(super) fn is_of(&self, url: &Secret) -> bool {
        self.url == *url
    }
}

impl Redis {
    /// Connects and authenticates.
    pub(super) async fn connect(&self) -> Result<Connection, Trouble> {
        let url = self.url.read().map_err(|_| Trouble::Authentication)?;
        let address = Address::parse(url.expose()).map_err(|_| Trouble::Authentication)?;
        let opened = async {
            match &address.kind {
                Kind::Single => self.single(&address).await.map(Transport::Single),
                Kind::Cluster => self.cluster(address.servers.clone()).await.map(Transport::Cluster),
                Kind::Sentinel(primary) => match self.by_sentinels(&address, primary, false).await {
                    // The sentinels may need the password too.
                    Err(error) if Trouble::of(&error) == Trouble::Authentication => {
                        self.by_sentinels(&address, primary, true).await.map(Transport::Single)
                    }
                    opened => opened.map(Transport::Single),
                },
            }
        };
        let transport = clock::timeout_at(clock::now() + self.timeout * STEPS, opened).await;
        Ok(Connection { transport: transport.map_err(|_| Trouble::Timeout)??, url })
    }

    fn tls(&self) -> Option<TlsCertificates> {
        self.tls.as_ref().map(|tls| tls.0.clone())
    }

    fn connection_config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
    }

    async fn single(&self, address: &Address) -> Result<MultiplexedConnection, RedisError> {
        let server = address.servers[0].clone();
        let client = match self.tls().filter(|_| address.is_tls()) {
            Some(tls) => Client::build_with_tls(server, tls)?,
            None => Client::open(server)?,
        };
        client.get_multiplexed_async_connection_with_config(&self.connection_config()).await
    }

    async fn cluster(&self, nodes: Vec<ConnectionInfo>) -> Result<ClusterConnection, RedisError> {
        let is_tls = Address { servers: nodes.clone(), kind: Kind::Cluster }.is_tls();
        let mut builder = ClusterClientBuilder::new(nodes)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.timeout)
            .response_timeout(self.timeout)
            .retries(1);
        if let Some(tls) = self.tls().filter(|_| is_tls) {
            builder = builder.certs(tls);
        }
        builder.build()?.get_async_connection().await
    }

    async fn by_sentinels(
        &self,
        address: &Address,
        primary: &str,
        with_password: bool,
    ) -> Result<MultiplexedConnection, RedisError> {
        let sentinels = address.servers.iter().map(|server| server.addr().clone());
        let mut builder = SentinelClientBuilder::new(sentinels, primary, SentinelServerType::Master)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3);
        let settings = address.servers[0].redis_settings();
        builder = builder.set_client_to_redis_db(settings.db());
        if let Some(user) = settings.username() {
            builder = builder.set_client_to_redis_username(user);
            builder = if with_password { builder.set_client_to_sentinel_username(user) } else { builder };
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
            builder = if with_password { builder.set_client_to_sentinel_password(password) } else { builder };
        }
        if let Some(tls) = self.tls().filter(|_| address.is_tls()) {
            builder = builder
                .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                .set_client_to_redis_certificates(tls.clone())
                .set_client_to_sentinel_certificates(tls);
        }
        let mut client = builder.build()?;
        client.get_async_connection_with_config(&self.connection_config()).await
    }

    /// Runs an exchange: one command, and a second one if Redis does not have the function.
    pub(super) async fn exchange(&self, connection: &mut Connection, call: &Call) -> Result<Answer, Trouble> {
        let asked = async {
            match &mut connection.transport {
                Transport::Single(transport) => self.run(transport, call).await,
                Transport::Cluster(transport) => self.run(transport, call).await,
            }
        };
        let returned = clock::timeout_at(clock::now() + self.timeout, asked).await;
        Answer::read(returned.map_err(|_| Trouble::Timeout)??, call).ok_or(Trouble::Unexpected)
    }

    async fn run(&self, transport: &mut impl ConnectionLike, call: &Call) -> Result<Returned, RedisError> {
        match self.command("EVALSHA", function().get_hash(), call).query_async(transport).await {
            Err(error) if error.kind() == ServerErrorKind::NoScript.into() => {
                self.command("EVAL", SOURCE, call).query_async(transport).await
            }
            returned => returned,
        }
    }

    /// All keys have the same hash tag, so that a cluster stores them on one node.
    fn command(&self, name: &str, function: &str, call: &Call) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(function).arg(3);
        for of in ["replicas", "notes", "notes:order"] {
            command.arg(format!("{{{}}}:{of}", self.namespace));
        }
        command.arg(call.arguments());
        command
    }
}

/// The ledger's source, which Redis runs.
pub(super) const SOURCE: &str = include_str!("ledger.lua");

fn function() -> &'static Script {
    static FUNCTION: OnceLock<Script> = OnceLock::new();
    FUNCTION.get_or_init(|| Script::new(SOURCE))
}

impl Trouble {
    /// The kind of an error, by its code; of its text only the part before a nested error counts.
    fn of(error: &RedisError) -> Self {
        let text = error.detail().unwrap_or_default();
        let is = |code: &str| error.code() == Some(code) || text.contains(&format!("{code} "));
        if is("WRONGPASS") || is("NOAUTH") || error.kind() == ErrorKind::AuthenticationFailed {
            return Self::Authentication;
        }
        for (codes, trouble) in [
            (&["NOPERM"][..], Self::Permission),
            (&["READONLY"], Self::ReadOnly),
            (&["OOM", "MISCONF"], Self::Full),
            (&["LOADING", "BUSY"], Self::Busy),
            (&["CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK"], Self::NoPrimary),
        ] {
            if codes.iter().any(|code| is(code)) {
                return trouble;
            }
        }
        let io = std::error::Error::source(error).and_then(|inner| inner.downcast_ref::<std::io::Error>());
        if io
            .and_then(std::io::Error::get_ref)
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
        {
            return Self::Tls;
        }
        let kind = error.kind();
        if kind == ErrorKind::Io {
            return if error.is_timeout() { Self::Timeout } else { Self::Unreachable };
        }
        let no_primary = [
            ErrorKind::MasterNameNotFoundBySentinel,
            ErrorKind::NoValidReplicasFoundBySentinel,
            ErrorKind::ClusterConnectionNotFound,
        ];
        if no_primary.contains(&kind) { Self::NoPrimary } else { Self::Unexpected }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Self::of(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(url: &str) -> Redis {
        let url = url.to_owned();
        Redis {
            url: Url::new(move || Ok(Secret::from(url.as_str()))),
            tls: None,
            namespace: "weir".to_owned(),
            timeout: Duration::from_millis(300),
        }
    }

    #[tokio::test]
    async fn nobody_there_is_a_trouble_and_never_a_hang() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = silent.local_addr().expect("bound").port();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let gone = closed.local_addr().expect("bound").port();
        drop(closed);
        for (url, trouble) in [
            ("unix:///nowhere/redis.sock".to_owned(), Trouble::Unreachable),
            (format!("redis://127.0.0.1:{gone}"), Trouble::Unreachable),
            (format!("redis-cluster://127.0.0.1:{gone}"), Trouble::Unreachable),
            (format!("redis://127.0.0.1:{port}"), Trouble::Timeout),
            (format!("redis-sentinel://127.0.0.1:{port}#main"), Trouble::Timeout),
            ("not a url".to_owned(), Trouble::Authentication),
        ] {
            let connected = redis(&url).connect().await.map(drop);
            assert_eq!(connected, Err(trouble), "{url}");
        }
    }

    #[tokio::test]
    async fn the_keys_are_of_one_hash_tag() {
        let command = redis("redis://x").command("EVAL", "x", &Call::default());
        let packed = String::from_utf8_lossy(&command.get_packed_command()).into_owned();
        assert!(packed.contains("{weir}:replicas") && packed.contains("{weir}:notes:order"), "{packed}");
    }
}
