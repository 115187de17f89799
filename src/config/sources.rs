//! Where a configuration's other parts come from: the environment and files.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::clock;

/// The environment and the files, as a parameter, so that tests need neither.
pub trait Sources {
    /// One variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// Every variable whose name begins with `WEIR_`, in any case, in the order of their names.
    fn overrides(&self) -> Vec<(String, String)>;
    /// A file's content.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The time by which certificates are judged.
    fn now(&self) -> SystemTime {
        clock::wall()
    }
    /// Whether secrets and files are looked at. Without, a reference is checked for its form only.
    fn resolves(&self) -> bool {
        true
    }
}

/// No environment and no files: what a text says by itself.
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

/// The process's own environment and files.
pub const PROCESS: Process = Process { resolves: true };

/// The same, but no secret is looked up: what `weir check` can say on another machine.
pub const WITHOUT_SECRETS: Process = Process { resolves: false };

/// No key, certificate or configuration is larger; a mistaken path may be.
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
