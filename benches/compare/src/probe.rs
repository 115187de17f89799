//! Single requests over a blocking socket, to check a proxy before the load.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::failure::{Failure, Result, While as _};
use crate::payload::{self, Ask};
use crate::wire::{Kind, MessageReader};

/// Makes a number of requests, one after the other, over one connection; each must be answered with
/// 200.
pub(crate) fn ask(target: SocketAddr, requests: u32, patience: Duration) -> Result<()> {
    let mut socket = TcpStream::connect_timeout(&target, patience).doing("connect")?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    let request = payload::request(Ask::Json, 0);
    let mut reader = MessageReader::new(Kind::Response);
    let mut buffer = [0; 16 * 1024];
    for _ in 0..requests {
        socket.write_all(&request).doing("write")?;
        let message = loop {
            let bytes = socket.read(&mut buffer).doing("read")?;
            if bytes == 0 {
                return Err(Failure::new("closed before an answer"));
            }
            if let Some(message) = reader.feed(&buffer[..bytes], &mut |_| ())?.message {
                break message;
            }
        };
        if message.status != 200 {
            return Err(Failure::new(format!("status {}", message.status)));
        }
    }
    Ok(())
}
