//! Secrets by reference: the configuration names where a secret is, never the secret.

use std::path::{Path, PathBuf};

use super::key::Kind;
use super::read::Reader;
use super::sources::Sources;
use super::tree::{Datum, Node};
use super::value::{Shown, Value};
use crate::caller::Secret;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a variable of the environment.
    Environment(String),
    /// In a file, without the white space around it.
    File(PathBuf),
}

/// A secret, and where it was found. Shown, logged and rendered as `env:NAME` or `file:PATH` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Where it is, for messages and to read it again.
    pub source: SecretSource,
    /// The secret itself, as it was when the configuration was read.
    pub secret: Secret,
}

impl SecretSource {
    /// Reads `env:NAME` or `file:PATH`.
    fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            let valid =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return valid.then(|| Self::Environment(name.to_owned()));
        }
        let path = text.strip_prefix("file:")?;
        (!path.is_empty() && !path.contains('\0')).then(|| Self::File(path.into()))
    }

    /// Looks the secret up, without the white space around it.
    ///
    /// # Errors
    /// What is wrong and what to do, in one line that holds nothing of the secret.
    pub fn resolve(&self, sources: &dyn Sources) -> Result<Secret, String> {
        let secret = match self {
            Self::Environment(name) => Secret::new(
                sources.variable(name).ok_or_else(|| format!("the environment has no {name}; set it"))?,
            ),
            Self::File(path) => read_file(path, sources)?,
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

    /// The reference as it is written.
    pub fn reference(&self) -> String {
        match self {
            Self::Environment(name) => format!("env:{name}"),
            Self::File(path) => format!("file:{}", path.display()),
        }
    }
}

impl Value for SecretRef {
    const KIND: Kind = Kind::Secret;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        // What is written here may be the secret itself: no message repeats it.
        let Datum::String(text) = &node.datum else {
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

    fn show(&self) -> Shown {
        Shown::text(&self.source.reference())
    }
}

fn read_file(path: &Path, sources: &dyn Sources) -> Result<Secret, String> {
    let bytes = sources.file(path).map_err(|error| {
        format!("cannot read {}: {error}; give Weir's user the right to read it", path.display())
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        // The bytes are a secret too, even if they aren't text.
        zeroize::Zeroize::zeroize(&mut error.into_bytes());
        format!("{} is not text; a key is one line of visible ASCII", path.display())
    })?;
    Ok(Secret::new(text))
}
