//! Listeners that the service manager opened and passes on (systemd socket activation). While Weir
//! restarts, connections wait in the kernel's accept queue.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// The inherited listeners that are not yet in use.
#[derive(Debug, Default)]
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// Takes the sockets in `LISTEN_FDS`, if `LISTEN_PID` is this process.
    ///
    /// # Errors
    /// A socket is not a TCP listener. The message is for the operator.
    pub fn from_environment() -> Result<Self, String> {
        let mut handed = ListenFd::from_env();
        let mut listeners = Vec::new();
        for index in 0..handed.len() {
            let wrong = |why: String| {
                format!(
                    "the service manager's socket {index} can't be used: {why}; write ListenStream=ADDRESS:PORT in its unit"
                )
            };
            let listener = handed.take_tcp_listener(index).map_err(|error| wrong(error.to_string()))?;
            if let Some(listener) = listener {
                listener.set_nonblocking(true).map_err(|error| wrong(error.to_string()))?;
                listeners.push(listener);
            }
        }
        Ok(Self(listeners))
    }

    /// The listeners that another process handed over.
    pub(super) fn of(listeners: Vec<TcpListener>) -> Self {
        Self(listeners)
    }

    /// Removes the listener bound to `address`, or to its port on all interfaces.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_it = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|own| {
                own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified())
            })
        };
        let place = self.0.iter().position(is_it)?;
        Some(self.0.swap_remove(place))
    }

    /// Checks that every inherited socket is in use: clients of an unused one would hang.
    ///
    /// # Errors
    /// The address of an unused socket, and the setting to change.
    pub fn finish(&self, settings: &str) -> Result<(), String> {
        let Some(left) = self.0.first() else { return Ok(()) };
        let address =
            left.local_addr().map_or_else(|_| "an unknown address".to_owned(), |own| own.to_string());
        Err(format!(
            "the service manager listens at {address}, and no setting says so; make the unit's ListenStream the same as {settings}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_taken_by_its_address_and_one_too_many_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut inherited = Inherited(vec![listener]);
        assert!(inherited.take(SocketAddr::from(([127, 0, 0, 1], 1))).is_none());
        assert!(inherited.finish("server.listen").unwrap_err().contains(&address.to_string()));
        assert_eq!(inherited.take(address).unwrap().local_addr().unwrap(), address);
        assert!(inherited.take(address).is_none() && inherited.finish("server.listen").is_ok());
    }
}
