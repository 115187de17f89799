//! References to secrets: the configuration contains where a secret is, never the secret.

use std::path::{Path, PathBuf};

use super::Config;
use super::key::Kind;
use super::read::Reader;
use super::sources::Sources;
use super::tree::Node;
use super::value::Value;
use crate::caller::Secret;

/// The location of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The environment variable of this name.
    Environment(String),
    /// The content of a file, trimmed.
    File(PathBuf),
    /// The current token of the exchange of this name.
    Exchange(String),
}

/// A secret with its location. Displayed, logged and rendered only as `env:NAME`, `file:PATH` or
/// `exchange:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Its location, for messages and to read it again.
    pub source: SecretSource,
    /// The secret as it was when the configuration was read; for an exchange, the reference until a
    /// token is filled in.
    pub secret: Secret,
}

/// Every secret of a configuration, with the path of its key.
pub fn all(config: &Config) -> Vec<(String, &SecretRef)> {
    let single = [
        ("admin.token", &config.admin.token),
        ("upstream.credential", &config.upstream.credential),
        ("upstream.proxy_credential", &config.upstream.proxy_credential),
        ("replicas.redis", &config.replicas.redis),
        ("trace.token", &config.trace.token),
    ];
    let single = single.into_iter().filter_map(|(key, secret)| Some((key.to_owned(), secret.as_ref()?)));
    let of_callers = config.callers.iter().enumerate().flat_map(|(index, caller)| {
        let credential = caller.credential.iter().map(|credential| ("credential".into(), credential));
        let own = caller.all_keys().chain(credential);
        own.map(move |(key, secret)| (format!("callers[{index}].{key}"), secret))
    });
    let of_upstreams = config.upstreams.iter().enumerate().filter_map(|(index, member)| {
        Some((format!("upstreams[{index}].credential"), member.credential.as_ref()?))
    });
    let of_exchanges = config.exchanges.iter().enumerate();
    let of_exchanges =
        of_exchanges.map(|(index, of)| (format!("exchanges[{index}].subject_token"), &of.subject_token));
    single.chain(of_upstreams).chain(of_exchanges).chain(of_callers).collect()
}

/// Every credential of a configuration, to fill in the tokens of exchanges.
pub fn credentials(config: &mut Config) -> impl Iterator<Item = &mut SecretRef> {
    let of_upstreams = config.upstreams.iter_mut().filter_map(|member| member.credential.as_mut());
    let of_callers = config.callers.iter_mut().filter_map(|caller| caller.credential.as_mut());
    config.upstream.credential.iter_mut().chain(of_upstreams).chain(of_callers)
}

impl SecretSource {
    /// Parses `env:NAME`, `file:PATH` or `exchange:NAME`.
    fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            let valid =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return valid.then(|| Self::Environment(name.to_owned()));
        }
        if let Some(name) = text.strip_prefix("exchange:") {
            return (!name.is_empty()).then(|| Self::Exchange(name.to_owned()));
        }
        let path = text.strip_prefix("file:")?;
        (!path.is_empty() && !path.contains('\0')).then(|| Self::File(path.into()))
    }

    /// Reads the secret, trimmed.
    ///
    /// # Errors
    /// The problem and what to do, in one line without any part of the secret.
    pub fn resolve(&self, sources: &dyn Sources) -> Result<Secret, String> {
        let secret = match self {
            Self::Environment(name) => Secret::new(
                sources.variable(name).ok_or_else(|| format!("the environment has no {name}; set it"))?,
            ),
            Self::File(path) => read_file(path, sources)?,
            Self::Exchange(_) => return Ok(Secret::new(self.reference())),
        };
        let secret = secret.trimmed();
        let what = self.reference();
        if secret.expose().is_empty() {
            return Err(format!("{what} is empty; put the secret there"));
        }
        if !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{what} holds more than one word of visible ASCII; a key has no spaces or line breaks"
            ));
        }
        Ok(secret)
    }

    /// The reference as written in the configuration.
    pub fn reference(&self) -> String {
        match self {
            Self::Environment(name) => format!("env:{name}"),
            Self::File(path) => format!("file:{}", path.display()),
            Self::Exchange(name) => format!("exchange:{name}"),
        }
    }
}

impl Value for SecretRef {
    const KIND: Kind = Kind::Secret;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        // The user may have written the secret itself here: no message repeats it.
        let Some(text) = node.value.as_str() else {
            reader.problem(node, "is not a reference to a secret; write \"env:NAME\" or \"file:PATH\"");
            return None;
        };
        let Some(source) = SecretSource::parse(text) else {
            reader.problem(
                node,
                "a secret is never written here itself; put it into an environment variable or a file and write \
                 \"env:NAME\" or \"file:PATH\"",
            );
            return None;
        };
        if !reader.sources.resolves() {
            let secret = Secret::new(source.reference());
            return Some(Self { source, secret });
        }
        match source.resolve(reader.sources) {
            Ok(secret) => Some(Self { source, secret }),
            Err(message) => {
                reader.problem(node, message);
                None
            }
        }
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.source.reference().into())
    }
}

fn read_file(path: &Path, sources: &dyn Sources) -> Result<Secret, String> {
    let bytes = sources.file(path).map_err(|error| {
        format!("cannot read {}: {error}; give Weir's user the right to read it", path.display())
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        // The bytes may be a secret even if they are not text.
        zeroize::Zeroize::zeroize(&mut error.into_bytes());
        format!("{} is not text; a key is one line of visible ASCII", path.display())
    })?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::{Key, Table};
    use crate::config::{parse, sources::Nothing};

    /// The number of keys in a table that contain a secret.
    fn secrets(table: &Table) -> usize {
        let of = |key: &Key| match (key.kind, key.kind.table()) {
            (Kind::Secret | Kind::OrWord(_, &Kind::Secret) | Kind::List(&Kind::Secret), _) => 1,
            (_, Some(inner)) => secrets(inner),
            (_, None) => 0,
        };
        table.keys.iter().map(of).sum()
    }

    #[test]
    fn every_secret_is_listed() {
        let text = "exchanges = [{ name = \"x\", url = \"https://x\", subject_token = \"env:X\" }]\nadmin.token = \"env:A\"\nreplicas.redis = \"env:B\"\ntrace.token = \"env:C\"\n\
                    [upstream]\ncredential = \"file:d\"\nproxy = \"http://p:1\"\nproxy_credential = \"env:E\"\n\
                    [[callers]]\nname = \"one\"\nkey = \"env:F\"\nkeys = [\"env:H\"]\ncredential = \"env:G\"\n";
        let mut config = parse("", text, &[], &Nothing).unwrap();
        let pool = "[[upstreams]]\nname = \"u\"\nurl = \"http://u\"\ncredential = \"env:U\"\n";
        config.upstreams = parse("", pool, &[], &Nothing).unwrap().upstreams;
        assert_eq!(all(&config).len(), secrets(&Config::TABLE));
        let keys: Vec<String> = all(&config).into_iter().map(|(key, _)| key).collect();
        assert!(keys.contains(&"callers[0].credential".to_owned()), "{keys:?}");
    }
}
