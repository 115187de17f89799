//! The listener: one address, bound by one process.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Length of the kernel's accept queue. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The reason why a listener can't be opened. Displays as one line with the setting and the remedy.
#[derive(Debug)]
pub struct BindError {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Opens the listener that `setting` configures; errors name `setting`.
///
/// The address is bound exclusively: if another process has it, another Weir included, this fails.
/// `SO_REUSEADDR` only allows a restart while old connections are in `TIME_WAIT`.
pub fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    open(address).map_err(|source| BindError { setting, address, source })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl fmt::Display for BindError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, address, source } = self;
        write!(out, "{setting} = \"{address}\": ")?;
        let kind = source.kind();
        if kind == io::ErrorKind::AddrInUse {
            let port = address.port();
            write!(
                out,
                "the address is in use, perhaps by another Weir; stop it (`ss -ltnp 'sport = :{port}'` shows it) or \
                 set {setting} to another address"
            )
        } else if kind == io::ErrorKind::PermissionDenied {
            write!(
                out,
                "not allowed; ports below 1024 need the capability CAP_NET_BIND_SERVICE, or set {setting} to a \
                 higher one"
            )
        } else if kind == io::ErrorKind::AddrNotAvailable {
            write!(out, "no interface of this machine has the address; set {setting} to one that it has")
        } else {
            write!(out, "can't listen: {source}")
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_an_error_that_says_what_to_do() {
        let first = bind("listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("listen", address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("listen = \"{address}\": the address is in use")), "{error}");
        assert!(error.contains("set listen to another address"), "{error}");
        drop(first);
        bind("listen", address).unwrap();
    }
}
