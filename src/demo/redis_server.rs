//! The demo's own Redis for several Weirs: a process that listens on a socket in a temporary
//! folder.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock;

/// The timeout of its start, ten times the usual duration.
const READY_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// A running Redis. Dropping it ends it and removes its folder.
pub(super) struct Redis {
    process: Child,
    folder: PathBuf,
}

impl Redis {
    /// Starts a Redis, if `redis-server` or `valkey-server` is installed.
    pub(super) async fn start() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("weir-demo-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&folder)?;
        let begun = begin("redis-server", &folder).or_else(|error| {
            if error.kind() == io::ErrorKind::NotFound { begin("valkey-server", &folder) } else { Err(error) }
        });
        let process = match begun {
            Ok(process) => process,
            Err(error) => {
                std::fs::remove_dir_all(&folder)?;
                return Err(error);
            }
        };
        let mut redis = Self { process, folder };
        let until = clock::now() + READY_WITHIN;
        while !redis.socket().exists() {
            if clock::now() > until || redis.process.try_wait()?.is_some() {
                return Err(io::Error::other("redis-server did not start"));
            }
            clock::sleep(LOOK).await;
        }
        std::fs::write(redis.secret(), format!("unix://{}", redis.socket().display()))?;
        Ok(redis)
    }

    /// The file with the URL.
    pub(super) fn secret(&self) -> PathBuf {
        self.folder.join("url")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The process may already have ended.
        self.process.kill().ok();
        self.process.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn begin(server: &str, folder: &Path) -> io::Result<Child> {
    Command::new(server)
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(folder.join("socket"))
        .arg("--dir")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
