//! The process's listeners, and where each comes from.

use std::net::{SocketAddr, TcpListener};

use crate::config::Config;
use crate::server;

use super::Error;

/// Opens the listeners for callers and for the admin address: those of the service manager, those
/// of the Weir that this one replaces (which is returned too), or new ones.
pub(super) fn open(
    config: &Config,
) -> Result<(TcpListener, TcpListener, Option<server::Predecessor>), Error> {
    let mut inherited = server::Inherited::from_environment().map_err(Error::Configuration)?;
    let asked = config.server.takeover.as_deref().map(server::Predecessor::ask).transpose();
    let (mut handed, predecessor) = match asked.map_err(Error::Other)?.flatten() {
        Some((handed, predecessor)) => (handed, Some(predecessor)),
        None => (server::Inherited::default(), None),
    };
    let mut bind = |setting, address| match inherited.take(address).or_else(|| handed.take(address)) {
        Some(listener) => Ok(listener),
        None => server::bind(setting, address).map_err(|error| Error::Other(error.to_string())),
    };
    let front = bind("server.listen", config.server.listen)?;
    let admin = bind("admin.listen", config.admin.listen)?;
    inherited.finish("server.listen or admin.listen").map_err(Error::Configuration)?;
    Ok((front, admin, predecessor))
}

/// Duplicates the listeners' handles.
pub(super) fn copies(listeners: [&TcpListener; 2]) -> Result<Vec<TcpListener>, Error> {
    let copies = listeners.into_iter().map(TcpListener::try_clone).collect::<std::io::Result<_>>();
    copies.map_err(|error| Error::Other(format!("a listener can't be offered to a successor: {error}")))
}

/// The local address of a listener.
pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|error| Error::Other(format!("the listener has no address: {error}")))
}
