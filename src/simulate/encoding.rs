//! The content encodings of responses.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

use super::fault::Encoding;

impl Encoding {
    /// The encoding for the request's `accept-encoding`; gzip is preferred.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let accepts = |name: &str| {
            headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
                value.split(',').any(|item| {
                    let (coding, quality) = item.split_once(';').unwrap_or((item, ""));
                    coding.trim().eq_ignore_ascii_case(name) && quality.trim() != "q=0"
                })
            })
        };
        if accepts("gzip") {
            Self::Gzip
        } else if accepts("deflate") {
            Self::Deflate
        } else {
            Self::Identity
        }
    }

    /// The value of `content-encoding`.
    pub(super) const fn header(self) -> Option<HeaderValue> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
            Self::Deflate => Some(HeaderValue::from_static("deflate")),
        }
    }

    /// Encodes the pieces with a flush after each, so that the client can decode each on arrival.
    pub(super) fn encode(self, pieces: Vec<Bytes>) -> Vec<Bytes> {
        match self {
            Self::Identity => pieces,
            Self::Gzip => {
                let encoder = GzEncoder::new(Vec::new(), Compression::fast());
                each(pieces, encoder, GzEncoder::get_mut, GzEncoder::finish)
            }
            Self::Deflate => {
                let encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                each(pieces, encoder, ZlibEncoder::get_mut, ZlibEncoder::finish)
            }
        }
    }
}

/// Encodes the pieces with an encoder that writes to a vector.
fn each<E: Write>(
    pieces: Vec<Bytes>,
    mut encoder: E,
    written: fn(&mut E) -> &mut Vec<u8>,
    finish: fn(E) -> io::Result<Vec<u8>>,
) -> Vec<Bytes> {
    let last = pieces.len().saturating_sub(1);
    let mut out = Vec::with_capacity(pieces.len());
    for (index, piece) in pieces.into_iter().enumerate() {
        // Writing to a vector cannot fail.
        encoder.write_all(&piece).ok();
        if index == last {
            break;
        }
        encoder.flush().ok();
        out.push(Bytes::from(std::mem::take(written(&mut encoder))));
    }
    out.push(Bytes::from(finish(encoder).unwrap_or_default()));
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn pieces_decode_as_they_come() {
        let pieces = vec![Bytes::from_static(b"data: one\n\n"), Bytes::from_static(b"data: two\n\n")];
        let encoded = Encoding::Gzip.encode(pieces.clone());
        assert_eq!(encoded.len(), 2);
        let mut first = [0; 11];
        flate2::read::GzDecoder::new(&encoded[0][..]).read_exact(&mut first).unwrap();
        assert_eq!(&first[..], &pieces[0][..]);
        let mut whole = String::new();
        flate2::read::ZlibDecoder::new(&Encoding::Deflate.encode(pieces).concat()[..])
            .read_to_string(&mut whole)
            .unwrap();
        assert_eq!(whole, "data: one\n\ndata: two\n\n");
    }

    #[test]
    fn what_is_accepted_is_read_from_the_list() {
        let accepted = |text| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(text));
            Encoding::accepted(&headers)
        };
        assert_eq!(accepted("gzip, deflate"), Encoding::Gzip);
        assert_eq!(accepted("br, Deflate;q=0.5"), Encoding::Deflate);
        assert_eq!(accepted("gzip;q=0, identity"), Encoding::Identity);
        assert_eq!(Encoding::accepted(&HeaderMap::new()), Encoding::Identity);
    }
}
