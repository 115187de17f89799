//! One connection of the load generator.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::failure::{Failure, Result, While as _};
use crate::wire::{Kind, Message, MessageReader};

pub(super) struct Client {
    socket: TcpStream,
    answers: MessageReader,
    /// Bytes of a request that the socket didn't take yet.
    pending: Vec<u8>,
    /// The scheduled start of its current request; 0 if there is none or it doesn't count.
    pub(super) started: u64,
}

impl Client {
    pub(super) fn connect(target: SocketAddr, registry: &Registry, token: Token) -> Result<Self> {
        let socket = std::net::TcpStream::connect(target).doing("load generator cannot connect")?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { socket, answers: MessageReader::new(Kind::Response), pending: Vec::new(), started: 0 })
    }

    pub(super) fn send(&mut self, request: &[u8]) -> Result<()> {
        let written = match self.socket.write(request) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error).doing("load generator cannot write"),
        };
        self.pending.extend_from_slice(&request[written..]);
        Ok(())
    }

    /// Continues a partly written request.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let rest = std::mem::take(&mut self.pending);
        self.send(&rest)
    }

    /// Reads the available data. Returns the response when it is complete.
    pub(super) fn read(
        &mut self,
        event: &Event,
        scratch: &mut [u8],
        body: &mut impl FnMut(&[u8]),
    ) -> Result<Option<Message>> {
        loop {
            let bytes = match self.socket.read(scratch) {
                Ok(0) => return Err(Failure::new("load generator's connection was closed")),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).doing("load generator cannot read"),
            };
            let fed = self.answers.feed(&scratch[..bytes], body)?;
            if fed.message.is_some() {
                // Nothing may follow: the next request isn't sent yet.
                let whole = fed.consumed == bytes;
                return if whole { Ok(fed.message) } else { Err(Failure::new("bytes after an answer")) };
            }
            // Readiness comes again with the next bytes: less than asked for means that there are
            // none now. The end of the connection doesn't come again.
            if bytes < scratch.len() && !event.is_read_closed() {
                return Ok(None);
            }
        }
    }

    /// The status of the answer under way, 0 before its head.
    pub(super) fn status(&self) -> u16 {
        self.answers.status()
    }
}
