//! Request bodies that are large, multipart, compressed or truncated.

use std::io::Write;
use std::time::Duration;

use crate::process::Weir;
use crate::requests::coded;
use crate::scripted::{CHAT, GOOD, answering, good, json, limit, post, request, scope_names, scripted};
use crate::wire;

const PATH: &str = "/v1/chat/completions";
const LEVELS: &str = "x-ratelimit-limit-tokens: 1000000\r\nx-ratelimit-remaining-tokens: 999000\r\nx-ratelimit-reset-tokens: 60ms\r\n";
const UNREAD: &str = "weir_limits_reached_total{limit=\"unread_body\"}";

/// The API accepts 50 MB of JSON; openai-python sends the model last.
#[test]
fn r02_fifty_megabytes_are_read_to_their_model() {
    let image = "A".repeat(50 << 20);
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}],"model":"gpt-4o"}}"#
    );
    let (upstream, seen) = answering(|_| json("200 OK", LEVELS, GOOD));
    let weir = Weir::before(upstream, "");
    let got = post(&weir, PATH, "", &body);
    assert_eq!(got.status(), 200, "{}", got.text());
    assert!(seen.request(0).whole && seen.request(0).body == body.as_bytes());
    assert_eq!(scope_names(&weir), ["gpt-4o"]);
    let tokens = limit(&weir, "gpt-4o", "tokens per minute", "admitted_last_minute").unwrap();
    assert!(tokens < 20_000.0, "an image is no text: {tokens}");
}

#[test]
fn r02_a_form_is_read_to_its_model_wherever_that_stands() {
    let file = vec![7_u8; 2 << 20];
    let part = |name: &str, more: &str, data: &[u8]| {
        let head = format!("--frontier\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n");
        [head.as_bytes(), data, b"\r\n"].concat()
    };
    let model = part("model", "", b"whisper-1");
    let sound = part("file", "; filename=\"a.wav\"\r\nContent-Type: audio/wav", &file);
    for parts in [[&model, &sound], [&sound, &model]] {
        let body = [parts[0], parts[1], &b"--frontier--\r\n"[..].to_vec()].map(Vec::as_slice).concat();
        let (upstream, seen) = scripted(vec![json("500 Internal Server Error", "", "{}"), good()]);
        let weir = Weir::before(upstream, "");
        let plain = request("/v1/audio/transcriptions", "", &body);
        let form = b"Content-Type: multipart/form-data; boundary=frontier";
        let json = b"Content-Type: application/json";
        let at = plain.windows(json.len()).position(|part| part == json).unwrap();
        let sent = [&plain[..at], form, &plain[at + json.len()..]].concat();
        let message = wire::ask(weir.address, &sent);
        assert_eq!(seen.request(0).body, body, "the bytes go on as they came");
        assert_eq!(scope_names(&weir), ["whisper-1"]);
        // A transcription may have run, so it is not retried.
        assert_eq!((message.status(), seen.count()), (500, 1));
    }
}

/// A compression bomb (1 MB that decodes to 1 GB) is not decoded. It is forwarded unchanged, paced,
/// counted and not retried.
#[test]
fn r01_a_bomb_is_not_unpacked() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(br#"{"messages":[{"role":"user","content":""#).unwrap();
    let block = vec![b'a'; 1 << 20];
    for _ in 0..1024 {
        encoder.write_all(&block).unwrap();
    }
    encoder.write_all(br#""}],"model":"gpt-4o"}"#).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    let (upstream, seen) = scripted(vec![json("500 Internal Server Error", "", "{}"), good()]);
    let weir = Weir::before(upstream, "");
    let got = post(&weir, PATH, "content-encoding: gzip\r\n", &bomb);
    assert_eq!((got.status(), got.attempts(), seen.count()), (500, 1, 1));
    assert_eq!(seen.request(0).body, bomb, "the bytes go on as they came");
    assert!(got.took < Duration::from_secs(5), "{:?}", got.took);
    weir.wait_for(UNREAD, 1.0);
    assert_eq!(scope_names(&weir).len(), 1, "it waits in a scope of its upstream");
}

/// A truncated body, plain or compressed, is forwarded once and not retried.
#[test]
fn r02_a_body_cut_anywhere_is_passed_on_once() {
    let stored = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}],"store":true}"#;
    for coding in ["identity", "zstd", "gzip", "deflate", "br"] {
        let whole =
            if coding == "identity" { stored.as_bytes().to_vec() } else { coded(coding, stored.as_bytes()) };
        let (upstream, seen) = scripted(vec![json("500 Internal Server Error", "", "{}")]);
        let weir = Weir::before(upstream, "[retry]\nbase = \"1ms\"\nfloor = \"0s\"\n");
        let lengths: Vec<usize> = (1..whole.len()).step_by(whole.len().div_ceil(12)).collect();
        for (number, length) in lengths.iter().enumerate() {
            let field = format!("content-encoding: {coding}\r\n");
            let fields = if coding == "identity" { "" } else { field.as_str() };
            let got = post(&weir, PATH, fields, &whole[..*length]);
            assert_eq!((got.status(), got.attempts()), (500, 1), "{coding}: {length} of {}", whole.len());
            assert_eq!(seen.count(), number + 1, "{coding}: {length} of {}", whole.len());
            assert_eq!(seen.request(number).body, &whole[..*length], "{coding}");
        }
        // In the last cases only the end of the coding is missing.
        let cut = lengths.iter().filter(|length| **length + 12 < whole.len()).count();
        weir.wait_for(UNREAD, f64::from(u32::try_from(cut).unwrap()));
        // The complete body is not retried either; a plain chat is.
        assert_eq!(post(&weir, PATH, "", CHAT).attempts(), 6, "{coding}");
    }
}

/// zstd's checksum may be absent or in another segment.
#[test]
fn r01_a_checksum_may_come_late_or_not_at_all() {
    let size = u8::try_from(CHAT.len()).unwrap();
    let block = (u32::from(size) << 3) | 1;
    let frame =
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x24, size][..], &block.to_le_bytes()[..3], CHAT.as_bytes()].concat();
    let (upstream, seen) = scripted(vec![good()]);
    let weir = Weir::before(upstream, "");
    for checksum in [&[][..], &[1, 2], &[1, 2, 3, 4]] {
        let sent = [&frame[..], checksum].concat();
        let got = post(&weir, PATH, "content-encoding: zstd\r\n", &sent);
        assert_eq!(got.status(), 200);
        assert_eq!(seen.request(seen.count() - 1).body, sent);
        assert!(got.took < Duration::from_secs(2), "{:?}", got.took);
    }
}
