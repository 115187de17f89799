//! `server.takeover`: this process replaces the running one, and can be replaced by the next.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use crate::clock;
use crate::server;

use super::Error;
use super::state::Kept;

/// The time that a successor has from receiving the listeners to its first response.
const STARTS_WITHIN: Duration = Duration::from_mins(1);

/// The socket at which a successor requests the listeners.
#[derive(Debug)]
pub(super) struct Takeover {
    socket: UnixListener,
    path: PathBuf,
    /// Duplicates of the listening sockets.
    listeners: Vec<TcpListener>,
    /// Whether this process must remove the path.
    owns_path: bool,
}

impl Takeover {
    /// Opens the socket under a temporary path, so that the running process keeps its own.
    ///
    /// # Errors
    /// It can't be opened there.
    pub(super) fn open(path: &Path, listeners: Vec<TcpListener>) -> Result<Self, Error> {
        let open = || {
            let beside = path.with_extension("new");
            if std::fs::metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
                return Err(io::Error::other("there is a file that is no socket"));
            }
            remove(&beside)?;
            let socket = UnixListener::bind(&beside)?;
            std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
            Ok(socket)
        };
        let socket = open().map_err(|error: io::Error| {
            Error::Configuration(format!(
                "server.takeover: {}: {error}; name a file in a folder that Weir may write",
                path.display()
            ))
        })?;
        Ok(Self { socket, path: path.to_owned(), listeners, owns_path: false })
    }

    /// Renames the socket to its final path, replacing the predecessor's.
    pub(super) fn replace(&mut self) {
        match std::fs::rename(self.path.with_extension("new"), &self.path) {
            Ok(()) => self.owns_path = true,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "server.takeover: no process can take over from this one");
            }
        }
    }

    /// Waits until a successor serves the listeners. Dropping the future stops the offer.
    pub(super) async fn handed_over(mut self, kept: Option<&Kept>) {
        loop {
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "server.takeover: a process that asks can't be heard");
                    clock::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            match self.hand_over(stream, kept).await {
                Ok(()) => {
                    tracing::info!("another Weir serves the listeners; this one drains");
                    self.owns_path = false;
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "server.takeover: the process that asked does not serve; this one goes on");
                }
            }
        }
    }

    async fn hand_over(&self, mut stream: UnixStream, kept: Option<&Kept>) -> io::Result<()> {
        let peer = stream.peer_cred()?.uid();
        let own = rustix::process::geteuid().as_raw();
        if peer != own && peer != 0 {
            return Err(io::Error::other(format!("it runs as user {peer}, and this one as {own}")));
        }
        // Save the state now: the successor reads it when it starts.
        kept.map_or(Ok(()), Kept::write)?;
        server::hand_over(&stream, &self.listeners)?;
        let ready = clock::timeout_at(clock::now() + STARTS_WITHIN, stream.read_u8()).await;
        ready.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(())
    }
}

impl Drop for Takeover {
    fn drop(&mut self) {
        let path = if self.owns_path { Some(self.path.clone()) } else { None };
        if let Some(Err(error)) = path.map(|path| remove(&path)) {
            tracing::warn!(path = %self.path.display(), %error, "server.takeover: the socket is left behind");
        }
    }
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
