//! The address of Redis, parsed from the URL that the configuration refers to. The URL may contain
//! a password: no error repeats any part of it.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// The address of Redis, with the user.
#[derive(Clone, Debug)]
pub struct Address {
    /// The servers in the URL; all with the same user, password and database.
    pub(super) servers: Vec<ConnectionInfo>,
    pub(super) kind: Kind,
}

/// The role of the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server itself, or an address that leads to the primary.
    Single,
    /// Nodes of a cluster, from which the other nodes are discovered.
    Cluster,
    /// Sentinels that watch the primary of this name.
    Sentinel(String),
}

/// The problem of a URL, without any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error(
        "is no URL of Redis; write redis://, rediss://, valkey://, unix://, redis-cluster:// or redis-sentinel:// and what follows"
    )]
    Scheme,
    /// The rest can't be parsed.
    #[error(
        "can't be read; write such as redis://user:password@host:6379/0 (special characters of a password as %XX) or \
         unix:///run/redis.sock"
    )]
    Form,
    /// Sentinels without the name of their primary.
    #[error("names no primary for the sentinels; write redis-sentinel://host1,host2/0#name")]
    Primary,
}

impl Address {
    /// Parses `redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS,
    /// `unix://[[user]:password@]/path`, or `redis-cluster://` and `redis-sentinel://`, where
    /// several hosts are separated by commas and the sentinels' primary follows a `#`; both with
    /// `rediss-` for TLS.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::Scheme)?;
        let (single, role) = scheme.split_once('-').unwrap_or((scheme, ""));
        let (rest, kind) = match (single, role) {
            ("redis" | "rediss" | "valkey" | "valkeys", "") => (rest, Kind::Single),
            ("unix" | "redis+unix" | "valkey+unix", "") => return unix(rest),
            ("redis" | "rediss" | "valkey" | "valkeys", "cluster") => (rest, Kind::Cluster),
            ("redis" | "rediss" | "valkey" | "valkeys", "sentinel") => {
                let named = rest.split_once('#').filter(|(_, name)| !name.is_empty());
                let (rest, name) = named.ok_or(AddressError::Primary)?;
                (rest, Kind::Sentinel(name.to_owned()))
            }
            _ => return Err(AddressError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(AddressError::Form);
        }
        let (who, place) = match rest.rsplit_once('@') {
            Some((who, place)) => (format!("{who}@"), place),
            None => (String::new(), rest),
        };
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let hosts: Vec<&str> = if kind == Kind::Single { vec![hosts] } else { hosts.split(',').collect() };
        let port = if matches!(kind, Kind::Sentinel(_)) { ":26379" } else { "" };
        let servers = hosts.into_iter().map(|host| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let port = if has_port { "" } else { port };
            server(&format!("{single}://{who}{host}{port}/{database}"))
        });
        Ok(Self { servers: servers.collect::<Result<_, _>>()?, kind })
    }

    /// Whether the connection uses TLS.
    pub fn is_tls(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.addr(), ConnectionAddr::TcpTls { .. }))
    }
}

/// Parses a Unix socket's URL. The crate expects user and password in the query of such a URL.
fn unix(rest: &str) -> Result<Address, AddressError> {
    let (who, path) = match rest.rsplit_once('@') {
        Some((who, path)) => (Some(who), path),
        None => (None, rest),
    };
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return Err(AddressError::Form);
    }
    let query = match who.map(|who| who.split_once(':').unwrap_or((who, ""))) {
        Some(("", password)) => format!("?pass={password}"),
        Some((user, password)) => format!("?user={user}&pass={password}"),
        None => String::new(),
    };
    Ok(Address { servers: vec![server(&format!("unix://{path}{query}"))?], kind: Kind::Single })
}

fn server(url: &str) -> Result<ConnectionInfo, AddressError> {
    let info = url.into_connection_info().map_err(|_| AddressError::Form)?;
    if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } = info.addr()
        && (host.is_empty() || *port == 0)
    {
        return Err(AddressError::Form);
    }
    // Skip `CLIENT SETINFO`: the user may lack the permission for it.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    Ok(info.set_redis_settings(settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (Vec<String>, Option<String>, Option<String>, i64) {
        let address = Address::parse(url).expect("reads");
        let servers = address.servers.iter().map(|server| server.addr().to_string()).collect();
        let settings = address.servers[0].redis_settings();
        let owned = |text: Option<&str>| text.map(str::to_owned);
        (servers, owned(settings.username()), owned(settings.password()), settings.db())
    }

    #[test]
    fn urls_are_read() {
        let one = |place: &str| vec![place.to_owned()];
        assert_eq!(read("redis://cache"), (one("cache:6379"), None, None, 0));
        assert_eq!(read("rediss://cache:6380/3"), (one("cache:6380"), None, None, 3));
        assert_eq!(read("valkey://cache").0, one("cache:6379"));
        assert!(Address::parse("rediss://cache").is_ok_and(|address| address.is_tls()));
        let full = read("redis://weir:p%40ss%3A@cache:7000");
        assert_eq!(full, (one("cache:7000"), Some("weir".into()), Some("p@ss:".into()), 0));
        let socket = read("unix://:secret@/run/redis.sock");
        assert_eq!(socket, (one("/run/redis.sock"), None, Some("secret".into()), 0));
        let cluster = read("redis-cluster://:secret@one:7001,two:7002,three");
        assert_eq!(cluster.0, ["one:7001", "two:7002", "three:6379"]);
        assert_eq!(cluster.2, Some("secret".into()));
        let sentinel = Address::parse("redis-sentinel://one,two:7000/2#mymaster").expect("reads");
        assert_eq!(sentinel.kind, Kind::Sentinel("mymaster".into()));
        assert_eq!(read("redis-sentinel://one,two:7000/2#m").0, ["one:26379", "two:7000"]);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_url() {
        for (url, error) in [
            ("cache:6379", AddressError::Scheme),
            ("http://cache", AddressError::Scheme),
            ("redis-pool://cache", AddressError::Scheme),
            ("redis://", AddressError::Form),
            ("redis://:hunter2@", AddressError::Form),
            ("unix://run", AddressError::Form),
            ("redis://[::1", AddressError::Form),
            ("redis://cache:0", AddressError::Form),
            ("redis://cache:99999", AddressError::Form),
            ("redis://cache/one", AddressError::Form),
            ("redis://cache/0?x=hunter2", AddressError::Form),
            ("redis-cluster://one,,two", AddressError::Form),
            ("redis-sentinel://one,two/0", AddressError::Primary),
        ] {
            assert_eq!(Address::parse(url).map(drop), Err(error), "{url}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
