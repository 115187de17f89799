//! Where Redis is, from the URL that the configuration refers to. The URL may bear a password: no error repeats any of it.

use std::borrow::Cow;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::caller::Secret;

/// Where Redis is, and who to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The way there.
    pub(super) place: Place,
    /// The user, where it isn't the default one.
    pub(super) user: Option<String>,
    /// The password.
    pub(super) password: Option<Secret>,
    /// The database.
    pub(super) database: u32,
}

/// The way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A host and a port, with TLS or without.
    Host { host: String, port: u16, tls: bool },
    /// A socket of this machine.
    Socket(PathBuf),
}

/// What is wrong with a URL, without any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("is no URL of Redis; write redis://, rediss:// or unix:// and what follows")]
    Scheme,
    /// No host or path.
    #[error(
        "names no host or path; write such as redis://user:password@host:6379/0 or unix:///run/redis.sock"
    )]
    Host,
    /// A port that is none.
    #[error("has a port that is no number from 1 to 65535")]
    Port,
    /// A database that is none.
    #[error("has a database that is no number; write such as redis://host:6379/0")]
    Database,
    /// A user or password with a broken percent escape.
    #[error("has a user or password with a percent sign that escapes nothing; write it as %25")]
    Escape,
    /// Something after the database.
    #[error("has a query or a fragment, which Weir doesn't read; leave it out")]
    Query,
}

impl Address {
    /// Reads `redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS, or `unix://[[user]:password@]/path`.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(AddressError::Query);
        }
        let (tls, socket) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "unix" | "redis+unix" => (false, true),
            _ => return Err(AddressError::Scheme),
        };
        let (who, place) = match rest.rsplit_once('@') {
            Some((who, place)) => (Some(who), place),
            None => (None, rest),
        };
        let (user, password) = who.map_or(Ok((None, None)), credentials)?;
        if socket {
            let path = Some(place).filter(|path| path.starts_with('/')).ok_or(AddressError::Host)?;
            return Ok(Self { place: Place::Socket(path.into()), user, password, database: 0 });
        }
        let (host, database) = place.split_once('/').unwrap_or((place, ""));
        let database = if database.is_empty() { Ok(0) } else { database.parse() };
        let (host, port) = host_and_port(host)?;
        Ok(Self {
            place: Place::Host { host, port, tls },
            user,
            password,
            database: database.map_err(|_| AddressError::Database)?,
        })
    }

    /// Whether the way there is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.place, Place::Host { tls: true, .. })
    }
}

fn credentials(who: &str) -> Result<(Option<String>, Option<Secret>), AddressError> {
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    let unescaped = |text: &str| unescape(text).ok_or(AddressError::Escape);
    let user = Some(unescaped(user)?).filter(|user| !user.is_empty());
    let password = Some(unescaped(password)?).filter(|password| !password.is_empty());
    Ok((user, password.map(Secret::new)))
}

fn host_and_port(text: &str) -> Result<(String, u16), AddressError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(AddressError::Host)?;
            (host, port.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(AddressError::Host);
    }
    let port = port.map_or(Ok(6379), str::parse).ok().filter(|port| *port > 0);
    Ok((host.to_owned(), port.ok_or(AddressError::Port)?))
}

fn unescape(text: &str) -> Option<String> {
    let is_escape =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let all_are = text.split('%').skip(1).all(is_escape);
    all_are.then(|| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str, tls: bool, database: u32) -> Address {
        let place = Place::Host { host: text.to_owned(), port: 6379, tls };
        Address { place, user: None, password: None, database }
    }

    #[test]
    fn urls_are_read() {
        assert_eq!(Address::parse("redis://cache"), Ok(host("cache", false, 0)));
        assert_eq!(Address::parse("rediss://cache:6379/3"), Ok(host("cache", true, 3)));
        assert_eq!(Address::parse("redis://[::1]/"), Ok(host("::1", false, 0)));
        let full = Address::parse("redis://weir:p%40ss%3A@cache:7000").unwrap();
        assert_eq!(full.user.as_deref(), Some("weir"));
        assert_eq!(full.password, Some(Secret::from("p@ss:")));
        assert_eq!(full.place, Place::Host { host: "cache".into(), port: 7000, tls: false });
        let socket = Address::parse("unix://:secret@/run/redis.sock").unwrap();
        assert_eq!(socket.place, Place::Socket("/run/redis.sock".into()));
        assert_eq!((socket.user, socket.password), (None, Some(Secret::from("secret"))));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_url() {
        for (url, error) in [
            ("cache:6379", AddressError::Scheme),
            ("http://cache", AddressError::Scheme),
            ("redis://", AddressError::Host),
            ("redis://:hunter2@", AddressError::Host),
            ("unix://run", AddressError::Host),
            ("redis://[::1", AddressError::Host),
            ("redis://cache:0", AddressError::Port),
            ("redis://cache:99999", AddressError::Port),
            ("redis://cache/one", AddressError::Database),
            ("redis://:%zz@cache", AddressError::Escape),
            ("redis://:%+1@cache", AddressError::Escape),
            ("redis://:a%2@cache", AddressError::Escape),
            ("redis://cache/0?x=hunter2", AddressError::Query),
        ] {
            assert_eq!(Address::parse(url), Err(error), "{url}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let shown = format!("{:?}", Address::parse("redis://:hunter2@cache").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
