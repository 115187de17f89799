//! The external sources of a configuration: the environment and files.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::clock;

/// The environment and the files. A trait, so that tests need neither.
pub trait Sources {
    /// The value of one environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// All environment variables whose names begin with `WEIR_`, in any case, in the order of the
    /// names.
    fn overrides(&self) -> Vec<(String, String)>;
    /// A file's content.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The time at which certificates must be valid.
    fn now(&self) -> SystemTime {
        clock::wall()
    }
    /// Whether secrets and files are read. If not, only the form of a reference is checked.
    fn resolves(&self) -> bool {
        true
    }
}

/// A source without environment and files: only the text counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Sources for Nothing {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn overrides(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn file(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn resolves(&self) -> bool {
        false
    }
}

/// The process's own environment and files.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    resolves: bool,
}

/// The process's own environment and files, with secrets.
pub const PROCESS: Process = Process { resolves: true };

/// The process's own, without secrets: for `weir check` on another machine.
pub const WITHOUT_SECRETS: Process = Process { resolves: false };

/// The largest file that is read, in bytes: more than any key, certificate or configuration has. A
/// mistaken path may lead to a larger one.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

impl Sources for Process {
    #[expect(clippy::disallowed_methods, reason = "config is the module that reads the environment")]
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn overrides(&self) -> Vec<(String, String)> {
        let mut found: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("WEIR_")))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        found.sort();
        found
    }

    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        use io::Read;
        let mut content = Vec::new();
        std::fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut content)?;
        if content.len() as u64 > LARGEST_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB"));
        }
        Ok(content)
    }

    fn resolves(&self) -> bool {
        self.resolves
    }
}
