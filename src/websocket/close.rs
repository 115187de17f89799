//! The close frames that Weir sends.

use bytes::Bytes;

use super::frame::{self, Kind};

/// The longest reason that a control frame holds beside its code, in bytes.
const LONGEST_REASON: usize = 123;

/// Why Weir ends a connection (RFC 6455, section 7.4, and the IANA's registry of close codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1001: nothing is under way, and nothing came for long.
    GoingAway,
    /// 1002: what came is no WebSocket.
    ProtocolError,
    /// 1009: a message is longer than one may be.
    TooBig,
    /// 1011: what was under way can't be finished.
    InternalError,
    /// 1012: Weir ends; another replica goes on. SDKs connect again, and no loop over events takes
    /// it for a good end.
    ServiceRestart,
    /// 1013: there is no memory for it now.
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

    /// The frame with this code and as much of the reason as a control frame holds, masked where
    /// `mask` is given.
    pub fn frame(self, reason: &str, mask: Option<[u8; 4]>) -> Bytes {
        let reason = &reason[..reason.floor_char_boundary(LONGEST_REASON)];
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
