//! Names on which all replicas agree, and which reveal nothing about their input.

use ring::digest::{Context, SHA256};

/// The first 64 bits of a SHA-256 over the parts, each with its length, so that two parts never
/// hash like their concatenation.
pub fn shared_name<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut digest = Context::new(&SHA256);
    digest.update(b"weir shared name 1");
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finish();
    digest.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_everywhere_and_tells_parts_apart() {
        let name = |parts: &[&str]| shared_name(parts.iter().map(|part| part.as_bytes()));
        // Another value would separate replicas of two versions.
        assert_eq!(name(&["acme", "proj_1"]), 3_303_313_079_950_510_801);
        assert_ne!(name(&["acme", "proj_1"]), name(&["acmeproj_1"]));
        assert_ne!(name(&["acme", ""]), name(&["acme"]));
    }
}
