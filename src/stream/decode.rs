//! Decodes Weir's copy of a response; the caller always gets the original bytes.

use std::borrow::Cow;
use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use bytes::Bytes;
use flate2::Decompress;
use flate2::write::{GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ruzstd::decoding::FrameDecoder;

/// Most decoded bytes of one input chunk. Beyond it the copy is abandoned: a decompression bomb
/// must not cost memory.
const MAX_DECODED_CHUNK: usize = 4 << 20;
/// Most compressed bytes kept while a zstd block is incomplete: the format's largest block with its
/// headers.
const MAX_PENDING: usize = (128 << 10) + 32;
const ZSTD_LARGEST_FRAME_HEADER: usize = 18;
/// The largest accepted zstd window; RFC 9659 sets this limit for HTTP.
const ZSTD_WINDOW: u64 = 8 << 20;

/// An incremental decoder for one `Content-Encoding`.
pub(crate) enum Decoder {
    Gzip(Box<GzDecoder<Bounded>>),
    Deflate(Box<Deflate>),
    Brotli(Box<DecompressorWriter<Bounded>>),
    Zstd(Box<Zstd>),
}

/// The copy can't be decoded: it is damaged, or exceeds the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undecodable;

/// How to decode a copy.
pub(crate) enum Coding {
    /// Not encoded.
    Identity,
    /// Decode with this.
    Coded(Decoder),
    /// An unsupported coding, or a list of codings; the response is not inspected.
    Unknown,
}

impl Coding {
    /// Parses a `Content-Encoding` value (RFC 9110, section 8.4); an absent one is the identity.
    pub(crate) fn of(value: Option<&[u8]>) -> Self {
        let Some(value) = value else { return Self::Identity };
        let value = value.trim_ascii();
        let is = |name: &str| value.eq_ignore_ascii_case(name.as_bytes());
        if value.is_empty() || is("identity") {
            Self::Identity
        } else if is("gzip") || is("x-gzip") {
            Self::Coded(Decoder::Gzip(Box::new(GzDecoder::new(Bounded::default()))))
        } else if is("deflate") {
            Self::Coded(Decoder::Deflate(Box::default()))
        } else if is("br") {
            Self::Coded(Decoder::Brotli(Box::new(DecompressorWriter::new(Bounded::default(), 4096))))
        } else if is("zstd") {
            Self::Coded(Decoder::Zstd(Box::new(Zstd::new())))
        } else {
            Self::Unknown
        }
    }
}

/// The decoded start of a body, at most `most` bytes, without undecodable parts. A body that starts
/// like JSON or HTML is taken as not encoded, whatever its head says. A single unencoded chunk is
/// not copied.
pub fn copy<'a>(
    headers: &HeaderMap,
    mut frames: impl Iterator<Item = &'a Bytes>,
    most: usize,
) -> Cow<'a, [u8]> {
    let mut coding = Coding::of(headers.get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes));
    let (first, second) = (frames.next(), frames.next());
    let mut begin = first.into_iter().chain(second).flatten();
    let begin = [begin.next(), begin.next()].map(|byte| byte.copied().unwrap_or_default());
    if matches!(coding, Coding::Coded(_)) && matches!(&begin, b"{\"" | b"<!") {
        coding = Coding::Identity;
    }
    if matches!(coding, Coding::Identity) && second.is_none() {
        return Cow::Borrowed(first.map_or(&[], |only| &only[..only.len().min(most)]));
    }
    let mut plain = Vec::new();
    for frame in first.into_iter().chain(second).chain(frames) {
        if plain.len() >= most {
            break;
        }
        let mut keep = |bytes: &[u8]| plain.extend_from_slice(&bytes[..bytes.len().min(most - plain.len())]);
        match &mut coding {
            Coding::Identity => keep(frame),
            Coding::Coded(decoder) => {
                if decoder.decode(frame, &mut keep).is_err() {
                    break;
                }
            }
            Coding::Unknown => break,
        }
    }
    Cow::Owned(plain)
}

impl Decoder {
    /// Decodes the next bytes and passes the output to `sink`.
    ///
    /// # Errors
    /// The input is damaged, or the output exceeds the limit. The decoder must not be used again.
    pub(crate) fn decode(&mut self, input: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), Undecodable> {
        let out = match self {
            Self::Gzip(decoder) => {
                decoder.write_all(input).and_then(|()| decoder.flush()).map_err(|_| Undecodable)?;
                decoder.get_mut()
            }
            Self::Deflate(deflate) => {
                let decoder = deflate.decoder(input);
                decoder.write_all(input).and_then(|()| decoder.flush()).map_err(|_| Undecodable)?;
                decoder.get_mut()
            }
            Self::Brotli(decoder) => {
                decoder.write_all(input).map_err(|_| Undecodable)?;
                decoder.get_mut()
            }
            Self::Zstd(decoder) => {
                decoder.decode(input)?;
                &mut decoder.out
            }
        };
        if !out.bytes.is_empty() {
            sink(&out.bytes);
            out.bytes.clear();
        }
        Ok(())
    }
}

/// A buffer that fails to grow beyond a limit.
#[derive(Default)]
pub(crate) struct Bounded {
    bytes: Vec<u8>,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + data.len() > MAX_DECODED_CHUNK {
            return Err(io::Error::other("decoded copy over its bound"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `deflate`: the zlib format, or a raw deflate stream, which many servers send under this name.
pub(crate) struct Deflate {
    decoder: ZlibDecoder<Bounded>,
    is_begun: bool,
}

impl Default for Deflate {
    fn default() -> Self {
        Self { decoder: ZlibDecoder::new(Bounded::default()), is_begun: false }
    }
}

impl Deflate {
    /// The decoder for the format of the first byte, which in zlib's format contains the method.
    fn decoder(&mut self, input: &[u8]) -> &mut ZlibDecoder<Bounded> {
        if let (false, Some(first)) = (self.is_begun, input.first()) {
            self.is_begun = true;
            if first & 0xF != 8 {
                let raw = Decompress::new(false);
                self.decoder = ZlibDecoder::new_with_decompress(Bounded::default(), raw);
            }
        }
        &mut self.decoder
    }
}

/// Zstandard, which decodes whole blocks: input is kept until a block is complete.
pub(crate) struct Zstd {
    frame: FrameDecoder,
    started: bool,
    pending: Vec<u8>,
    out: Bounded,
}

impl Zstd {
    fn new() -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(ZSTD_WINDOW);
        Self { frame, started: false, pending: Vec::new(), out: Bounded::default() }
    }

    fn decode(&mut self, input: &[u8]) -> Result<(), Undecodable> {
        self.pending.extend_from_slice(input);
        if !self.started && self.pending.len() < ZSTD_LARGEST_FRAME_HEADER {
            return Ok(());
        }
        let mut taken = 0;
        let mut decoded = [0; 8 << 10];
        loop {
            let (read, written) =
                self.frame.decode_from_to(&self.pending[taken..], &mut decoded).map_err(|_| Undecodable)?;
            self.started = true;
            // The decoder claims to have consumed a checksum that has not arrived, and would never
            // finish.
            let read = if read > self.pending.len() - taken { 0 } else { read };
            taken += read;
            self.out.write_all(&decoded[..written]).map_err(|_| Undecodable)?;
            let is_over = self.frame.is_finished() && self.frame.can_collect() == 0;
            if is_over || read == 0 && written == 0 {
                break;
            }
        }
        self.pending.drain(..taken);
        if self.pending.len() > MAX_PENDING { Err(Undecodable) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    const TEXT: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"weir\"}}]}\n\ndata: [DONE]\n\n";

    fn decoder(name: &str) -> Decoder {
        match Coding::of(Some(name.as_bytes())) {
            Coding::Coded(decoder) => decoder,
            Coding::Identity | Coding::Unknown => panic!("{name} has a decoder"),
        }
    }

    fn decode_in_pieces(name: &str, coded: &[u8], piece: usize) -> Vec<u8> {
        let mut decoder = decoder(name);
        let mut out = Vec::new();
        for chunk in coded.chunks(piece) {
            decoder.decode(chunk, &mut |bytes| out.extend_from_slice(bytes)).unwrap();
        }
        out
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_coding_gives_the_text_back_in_any_pieces() {
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(TEXT).unwrap();
        let deflate = deflate.finish().unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(TEXT, ruzstd::encoding::CompressionLevel::Uncompressed);
        // The output of `brotli` for TEXT as one uncompressed meta-block: window 16, length - 1 in
        // 16 bits, then an empty last one.
        let length = u32::try_from(TEXT.len() - 1).unwrap();
        let bits = (length << 4) | (1 << 20);
        let mut brotli = bits.to_le_bytes()[..3].to_vec();
        brotli.extend_from_slice(TEXT);
        brotli.push(3);
        for piece in [1, 7, 1000] {
            assert_eq!(decode_in_pieces("gzip", &gzip(TEXT), piece), TEXT, "gzip by {piece}");
            assert_eq!(decode_in_pieces("deflate", &deflate, piece), TEXT, "deflate by {piece}");
            assert_eq!(decode_in_pieces("zstd", &zstd, piece), TEXT, "zstd by {piece}");
            assert_eq!(decode_in_pieces("BR", &brotli, piece), TEXT, "br by {piece}");
        }
    }

    /// The four bytes of a frame's checksum may arrive in parts, or not at all; the text must be
    /// decoded anyway.
    #[test]
    fn a_checksum_may_be_cut() {
        let header = [0x28, 0xb5, 0x2f, 0xfd, 0x24, u8::try_from(TEXT.len()).unwrap()];
        let block = (u32::try_from(TEXT.len()).unwrap() << 3) | 1;
        let coded = [&header, &block.to_le_bytes()[..3], TEXT, &[1, 2, 3, 4]].concat();
        for piece in 1..=coded.len() {
            assert_eq!(decode_in_pieces("zstd", &coded, piece), TEXT, "by {piece}");
        }
        for cut in 1..4 {
            decode_in_pieces("zstd", &coded[..coded.len() - cut], 1000);
        }
    }

    #[test]
    fn a_bomb_is_given_up() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let mut largest = 0;
        let result = decoder("gzip").decode(&bomb, &mut |bytes| largest = largest.max(bytes.len()));
        assert_eq!(result, Err(Undecodable));
        assert_eq!(largest, 0);
    }

    #[test]
    fn damage_is_an_error_for_every_coding() {
        for name in ["gzip", "deflate", "br", "zstd"] {
            let mut decoder = decoder(name);
            let noise = [0xff; 64];
            assert_eq!(decoder.decode(&noise, &mut |_| ()), Err(Undecodable), "{name}");
        }
    }

    #[test]
    fn lists_and_unknown_codings_are_left_unread() {
        assert!(matches!(Coding::of(None), Coding::Identity));
        assert!(matches!(Coding::of(Some(b" identity ")), Coding::Identity));
        assert!(matches!(Coding::of(Some(b"gzip, br")), Coding::Unknown));
        assert!(matches!(Coding::of(Some(b"compress")), Coding::Unknown));
    }
}
