//! Listeners that a running Weir hands to the process that replaces it, over a Unix socket
//! (`SCM_RIGHTS`, unix(7)). Both hold the same sockets meanwhile, so that no connection is refused.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::Inherited;

/// Listeners of one process at most: the one for callers, and the admin one.
const MOST: usize = 2;
/// How long the running process may take to hand them over.
const PATIENCE: Duration = Duration::from_secs(10);
/// What comes with the listeners, and what says that they are served.
const BYTE: [u8; 1] = *b"w";

/// The running process that waits for word that its successor serves.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// Takes the listeners of the process that serves this socket; nothing where none does.
    ///
    /// Blocks for at most ten seconds.
    ///
    /// # Errors
    /// That it did not hand them over, in words for the user.
    pub fn ask(path: &Path) -> Result<Option<(Inherited, Self)>, String> {
        let failed = |error: &io::Error| {
            format!(
                "server.takeover: the Weir at {} did not hand over its listeners: {error}; stop it, or remove the file if it is another program's",
                path.display()
            )
        };
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // None was there, or it was killed, or the file is no socket, which opening ours tells.
            Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(&error)),
        };
        let listeners = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| receive(&stream));
        match listeners {
            Ok(listeners) if !listeners.is_empty() => Ok(Some((Inherited::of(listeners), Self(stream)))),
            Ok(_) => Err(format!(
                "server.takeover: the Weir at {} hands over nothing, as it ends; start again",
                path.display()
            )),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Tells it that its successor serves, so that it drains. Dropped without that, it goes on.
    ///
    /// # Errors
    /// That it is gone.
    pub fn relieve(mut self) -> io::Result<()> {
        self.0.write_all(&BYTE)
    }
}

/// Hands listeners to the process at the other end.
///
/// # Errors
/// That it is gone, or takes nothing.
pub fn hand_over(stream: impl AsFd, listeners: &[TcpListener]) -> io::Result<()> {
    let listeners: Vec<BorrowedFd<'_>> = listeners.iter().take(MOST).map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&listeners));
    sendmsg(stream, &[IoSlice::new(&BYTE)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What the other end hands over; nothing where it ends.
fn receive(stream: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut listeners = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            listeners.extend(descriptors.map(TcpListener::from));
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn listeners_go_from_one_process_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        assert!(Predecessor::ask(&path).unwrap().is_none(), "nobody is there");
        let old = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = old.local_addr().unwrap();
        let socket = UnixListener::bind(&path).unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            hand_over(&stream, &[old]).unwrap();
            let mut said = Vec::new();
            stream.read_to_end(&mut said).unwrap();
            // One that ends.
            drop(socket.accept().unwrap());
            said
        });
        let (mut listeners, predecessor) = Predecessor::ask(&path).unwrap().unwrap();
        predecessor.relieve().unwrap();
        assert!(Predecessor::ask(&path).unwrap_err().contains("start again"));
        assert_eq!(serving.join().unwrap(), BYTE);
        // The one that was there first is closed.
        let new = listeners.take(address).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        new.accept().unwrap();
    }
}
