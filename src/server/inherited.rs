//! Listeners that the service manager opened and hands over (systemd's socket activation): what
//! connects while Weir restarts waits in the kernel's queue, and is refused by nobody.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// The listeners that were handed over and not taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// Takes what `LISTEN_FDS` announces, where `LISTEN_PID` is this process.
    ///
    /// # Errors
    /// That one of them is no TCP listener, in words for the user.
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

    /// What another process handed over.
    pub(super) fn of(listeners: Vec<TcpListener>) -> Self {
        Self(listeners)
    }

    /// The one that listens at this address, or at this port of every interface.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_it = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|own| {
                own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified())
            })
        };
        let place = self.0.iter().position(is_it)?;
        Some(self.0.swap_remove(place))
    }

    /// What is left that no setting asked for: a socket that nobody accepts from would let clients
    /// hang.
    ///
    /// # Errors
    /// Where it listens, and what to change.
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
