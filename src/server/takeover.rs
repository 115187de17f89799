//! Hands listeners over a Unix socket (`SCM_RIGHTS`, unix(7)) to the process that replaces this
//! one. Both hold the sockets meanwhile, so that no connection is refused.

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

/// Most listeners of one process: one for callers, and the admin one.
const MAX_LISTENERS: usize = 2;
/// Longest time that the running process may take for the handover.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// The message that carries the listeners, and the message that the successor is ready.
const MESSAGE: [u8; 1] = *b"w";

/// The running process, which waits until its successor is ready.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// Receives the listeners from the process at this socket; `None` if there is no such process.
    ///
    /// Blocks for at most ten seconds.
    ///
    /// # Errors
    /// The process did not hand over its listeners. The message is for the operator.
    pub fn ask(path: &Path) -> Result<Option<(Inherited, Self)>, String> {
        let failed = |error: &io::Error| {
            format!(
                "server.takeover: the Weir at {} did not hand over its listeners: {error}; stop it, or remove the file if it is another program's",
                path.display()
            )
        };
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // No process, a killed process, or not a socket; binding our own socket reports the
            // last.
            Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(&error)),
        };
        let listeners = stream.set_read_timeout(Some(HANDOVER_TIMEOUT)).and_then(|()| receive(&stream));
        match listeners {
            Ok(listeners) if !listeners.is_empty() => Ok(Some((Inherited::of(listeners), Self(stream)))),
            Ok(_) => Err(format!(
                "server.takeover: the Weir at {} hands over nothing, as it ends; start again",
                path.display()
            )),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Tells the running process to drain. Without this call it keeps serving.
    ///
    /// # Errors
    /// The process has ended.
    pub fn relieve(mut self) -> io::Result<()> {
        self.0.write_all(&MESSAGE)
    }
}

/// Sends listeners to the process at the other end.
///
/// # Errors
/// The process has ended, or does not read.
pub fn hand_over(stream: impl AsFd, listeners: &[TcpListener]) -> io::Result<()> {
    let listeners: Vec<BorrowedFd<'_>> = listeners.iter().take(MAX_LISTENERS).map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_LISTENERS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&listeners));
    sendmsg(stream, &[IoSlice::new(&MESSAGE)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives listeners; none if the other end closes.
fn receive(stream: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_LISTENERS))];
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
            // A process that closes at once.
            drop(socket.accept().unwrap());
            said
        });
        let (mut listeners, predecessor) = Predecessor::ask(&path).unwrap().unwrap();
        predecessor.relieve().unwrap();
        assert!(Predecessor::ask(&path).unwrap_err().contains("start again"));
        assert_eq!(serving.join().unwrap(), MESSAGE);
        // The listener that was there first is closed.
        let new = listeners.take(address).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        new.accept().unwrap();
    }
}
