//! The close frames that Weir sends.

use bytes::Bytes;

use super::frame::{self, Kind};

/// The longest reason in a close frame, in bytes.
const MAX_REASON: usize = 123;

/// The close codes that Weir uses (RFC 6455, section 7.4, and IANA's registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1001: no turn is running, and the connection was idle for too long.
    GoingAway,
    /// 1002: the data is not valid WebSocket.
    ProtocolError,
    /// 1009: a message exceeds the limit.
    TooBig,
    /// 1011: a running turn can't be completed.
    InternalError,
    /// 1012: Weir is shutting down; another replica continues. SDKs reconnect, and do not treat it
    /// as a regular end.
    ServiceRestart,
    /// 1013: no memory is available now.
    TryAgainLater,
}

impl CloseCode {
    const fn number(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::TooBig => 1009,
            Self::InternalError => 1011,
            Self::ServiceRestart => 1012,
            Self::TryAgainLater => 1013,
        }
    }

    /// A close frame with this code, and the reason cut to fit; masked if `mask` is given.
    pub fn frame(self, reason: &str, mask: Option<[u8; 4]>) -> Bytes {
        let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
        let mut payload = self.number().to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        frame::write(Kind::Close, &payload, mask).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::{Header, Sender};

    #[test]
    fn a_reason_is_cut_to_what_a_control_frame_holds() {
        let frame = CloseCode::ServiceRestart.frame(&"é".repeat(100), None);
        let header = Header::parse(&frame, Sender::Server).unwrap().unwrap();
        assert_eq!((header.kind, header.payload), (Kind::Close, 124));
        assert_eq!(&frame[2..4], &[0x03, 0xf4]);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
