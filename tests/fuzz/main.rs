//! Runs the fuzz targets for a few seconds without a fuzzer: the corpus, and seeded mutations of
//! it.
//!
//! `cargo fuzz` runs the same targets for any time: see README.md beside this file. Add its
//! findings to the corpus, so that they run here.

#![expect(clippy::disallowed_types, reason = "a slow machine's real time is what stops it")]

mod targets;

use std::path::Path;
use std::time::{Duration, Instant};

/// The number of mutations of each target, and the time limit for slow machines.
const MUTATIONS: u32 = 20_000;
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 32 << 10;

/// Tokens of the parsed formats, which random mutations would rarely produce.
const WORDS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\u0000",
    b":",
    b",",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"data: ",
    b"event: ",
    b"[DONE]",
    b"x-ratelimit-remaining-tokens:",
    b"retry-after:",
    b"1e400",
    b"-1",
    b"18446744073709551616",
    b"6m0s",
    b"\xff",
    b"null",
    b"true",
    b"[[",
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("readable")).collect();
    assert!(!inputs.is_empty(), "{target} has a corpus");
    inputs
}

fn mutated(rng: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[rng.usize(..corpus.len())].clone();
    for _ in 0..rng.usize(1..8) {
        let at = rng.usize(..=input.len());
        match rng.u8(..7) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 => input.truncate(at),
            3 => {
                let end = rng.usize(at..=input.len());
                input.drain(at..end.min(at + 64));
            }
            4 => {
                let word = WORDS[rng.usize(..WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            5 => {
                let end = rng.usize(at..=input.len());
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                let other = &corpus[rng.usize(..corpus.len())];
                let from = rng.usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        input.truncate(LONGEST);
    }
    input
}

/// Prints the input when a target panics.
struct Running<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = format!("{} fails on {:?}\n", self.target, String::from_utf8_lossy(self.input));
            // Already panicking.
            drop(std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes()));
        }
    }
}

fn smoke(target: &str) {
    let (name, run) = targets::ALL.into_iter().find(|(name, _)| *name == target).expect("a target");
    let corpus = corpus(name);
    let feed = |input: &[u8]| {
        let _running = Running { target: name, input };
        run(input);
    };
    for input in &corpus {
        feed(input);
    }
    let mut rng = fastrand::Rng::with_seed(5);
    let began = Instant::now();
    for _ in 0..MUTATIONS {
        feed(&mutated(&mut rng, &corpus));
        if began.elapsed() > PATIENCE {
            break;
        }
    }
}

macro_rules! smoke {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })+

        #[test]
        fn every_target_has_its_test_and_its_binary() {
            let tested = [$(stringify!($name)),+];
            assert_eq!(targets::ALL.map(|(name, _)| name), tested);
            for name in tested {
                let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/fuzz_targets");
                assert!(binary.join(format!("{name}.rs")).exists(), "{name}");
            }
        }
    };
}

smoke!(pricing request_bodies codings sse limit_headers retry_hints error_bodies configuration frames);
