//! One connection of the upstream, in clear or over TLS.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ServerConfig, ServerConnection};

use crate::failure::{Result, While as _};
use crate::payload::{self, Ask};
use crate::wire::{Kind, MessageReader};

/// A reader that is further behind than this is cut off.
const MOST_PENDING: usize = 1024 * 1024;

pub(super) struct Connection {
    /// Its number among all connections.
    pub(super) accepted: u64,
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    requests: MessageReader,
    body: Vec<u8>,
    /// Bytes that the socket didn't take yet.
    pending: Vec<u8>,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>, accepted: u64) -> Result<Self> {
        socket.set_nodelay(true)?;
        let tls = tls.map(ServerConnection::new).transpose().doing("start TLS")?.map(Box::new);
        let requests = MessageReader::new(Kind::Request);
        Ok(Self { accepted, socket, tls, requests, body: Vec::new(), pending: Vec::new() })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Reads what `event` announces and calls `answer` for each whole request; false when the
    /// connection is over.
    pub(super) fn read(
        &mut self,
        event: &Event,
        scratch: &mut [u8],
        answer: &mut impl FnMut(&mut Self, Ask, usize) -> io::Result<()>,
    ) -> bool {
        loop {
            let (bytes, more) = match self.read_some(scratch) {
                Ok((0, _)) => return false,
                Ok(read) => read,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            if self.take(&scratch[..bytes], answer).is_err() {
                return false;
            }
            // Readiness comes again with the next bytes: less than asked for means that there are
            // none now. The end of the connection doesn't come again.
            if !more && !event.is_read_closed() {
                return true;
            }
        }
    }

    /// Bytes of clear text, and whether there may be more at once.
    fn read_some(&mut self, scratch: &mut [u8]) -> io::Result<(usize, bool)> {
        let Some(tls) = &mut self.tls else {
            let bytes = self.socket.read(scratch)?;
            return Ok((bytes, bytes == scratch.len()));
        };
        loop {
            match tls.reader().read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                clear => return Ok((clear?, true)),
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok((0, false));
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            }
        }
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        answer: &mut impl FnMut(&mut Self, Ask, usize) -> io::Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            let body = &mut self.body;
            let fed = self.requests.feed(bytes, &mut |piece| body.extend_from_slice(piece))?;
            bytes = &bytes[fed.consumed..];
            if fed.message.is_some() {
                let head = self.requests.head();
                let ask = if memchr::memmem::find(head, payload::HOLD_HEADER.as_bytes()).is_some() {
                    Ask::Hold
                } else if memchr::memmem::find(&self.body, b"\"stream\":true").is_some() {
                    Ask::Stream
                } else {
                    Ask::Json
                };
                let key = payload::key_number(head);
                self.body.clear();
                answer(self, ask, key)?;
            }
        }
        Ok(())
    }

    /// Writes now what the socket takes and keeps the rest for [`flush`](Self::flush).
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return self.flush();
        }
        if !self.pending.is_empty() {
            if self.pending.len() > MOST_PENDING {
                return Err(io::Error::other("the reader is too far behind"));
            }
            self.pending.extend_from_slice(bytes);
            return Ok(());
        }
        let written = match self.socket.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.pending.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Writes what is left of earlier writes, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let done = if let Some(tls) = &mut self.tls {
            let mut done = Ok(0);
            while tls.wants_write() && done.is_ok() {
                done = tls.write_tls(&mut self.socket);
            }
            done
        } else if self.pending.is_empty() {
            Ok(0)
        } else {
            let written = self.socket.write(&self.pending);
            self.pending.drain(..written.as_ref().copied().unwrap_or(0));
            written
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
