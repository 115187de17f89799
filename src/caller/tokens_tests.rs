//! Tests of identification by token.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value as Json, json};

use super::issuer::{InvalidToken, Issuer, IssuerSettings, KeySource};
use super::tokens::{TokenClaim, Tokens};

const NOW: u64 = 1_800_000_000;

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A key pair: the signing key, and the public key as in a JWKS document.
struct Signer {
    pkcs8: Vec<u8>,
    jwk: Json,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let of = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(of, &random).unwrap().as_ref().to_vec();
        let pair = EcdsaKeyPair::from_pkcs8(of, &pkcs8, &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
        Self { pkcs8, jwk: json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y}) }
    }

    fn token(&self, kid: &str, claims: &Json) -> String {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &EncodingKey::from_ec_der(&self.pkcs8)).unwrap()
    }
}

fn claims(sub: &str) -> Json {
    json!({"iss": "https://issuer", "aud": ["other", "weir"], "sub": sub, "exp": NOW + 600})
}

fn keys(signers: &[&Signer]) -> Vec<u8> {
    let keys: Vec<&Json> = signers.iter().map(|signer| &signer.jwk).collect();
    json!({"keys": keys}).to_string().into_bytes()
}

/// The callers 7 ("search") and 8 (identified by a group).
fn known(signers: &[&Signer]) -> (Arc<Issuer>, Tokens) {
    let issuer = Arc::new(Issuer::new(IssuerSettings {
        name: "cluster".to_owned(),
        issuer: "https://issuer".to_owned(),
        audience: "weir".to_owned(),
        keys: KeySource::File("jwks".into()),
    }));
    if !signers.is_empty() {
        issuer.take(Ok(keys(signers)), wall()).unwrap();
    }
    let mut tokens = Tokens::default();
    for (claim, value, index) in [("sub", "search", 7), ("groups", "batch", 8)] {
        let (claim, value) = (claim.to_owned(), value.to_owned());
        tokens.add(TokenClaim { issuer: Arc::clone(&issuer), claim, value }, index);
    }
    (issuer, tokens)
}

fn holder_at(tokens: &Tokens, token: &str, wall: fn() -> SystemTime) -> Result<Option<usize>, InvalidToken> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    tokens.holder(&headers, wall).map_err(|(_, why)| why)
}

fn holder(tokens: &Tokens, token: &str) -> Result<Option<usize>, InvalidToken> {
    holder_at(tokens, token, wall)
}

#[test]
fn a_token_is_its_callers_by_a_claim_until_its_time_is_over() {
    let signer = Signer::new("one");
    let (_, tokens) = known(&[&signer]);
    let token = signer.token("one", &claims("search"));
    for _ in 0..2 {
        assert_eq!(holder(&tokens, &token), Ok(Some(7)), "verified, and remembered");
    }
    let mut of_a_group = claims("anybody");
    of_a_group["groups"] = json!(["others", "batch"]);
    assert_eq!(holder(&tokens, &signer.token("one", &of_a_group)), Ok(Some(8)));
    // Clocks may differ by 30 s.
    assert_eq!(holder_at(&tokens, &token, || wall() + Duration::from_secs(629)), Ok(Some(7)));
    assert_eq!(holder_at(&tokens, &token, || wall() + Duration::from_secs(631)), Err(InvalidToken::Time));
    let mut headers = HeaderMap::new();
    headers.insert("api-key", token.parse().unwrap());
    assert_eq!(tokens.holder(&headers, wall).map_err(|(_, why)| why), Ok(Some(7)), "as Azure's SDK sends it");
}

#[test]
fn what_is_not_signed_by_the_issuers_key_or_not_for_now_is_refused() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("one"));
    let (_, tokens) = known(&[&signer]);
    let with = |claim: &str, value: Json| {
        let mut all = claims("search");
        all[claim] = value;
        signer.token("one", &all)
    };
    let good = signer.token("one", &claims("search"));
    let (without_signature, _) = good.rsplit_once('.').unwrap();
    let part = |json: Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let (body, unsigned) = (part(claims("search")), part(json!({"alg": "none", "kid": "one"})));
    // The public key as the secret of a MAC: anyone who can read the document could sign.
    let shared = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
    let public = EncodingKey::from_secret(signer.jwk.to_string().as_bytes());
    let confused = encode(&shared, &claims("search"), &public).unwrap();
    let mut without_end = claims("search");
    without_end.as_object_mut().unwrap().remove("exp");
    for (token, why) in [
        (stranger.token("one", &claims("search")), InvalidToken::Signature),
        (signer.token("two", &claims("search")), InvalidToken::UnknownKey),
        (signer.token("one", &claims("stranger")), InvalidToken::NoCaller),
        (format!("{without_signature}."), InvalidToken::Signature),
        (format!("{unsigned}.{body}."), InvalidToken::Malformed),
        (confused, InvalidToken::Algorithm),
        (signer.token("one", &without_end), InvalidToken::Malformed),
        (with("exp", json!(NOW - 31)), InvalidToken::Time),
        (with("exp", json!("soon")), InvalidToken::Malformed),
        (with("nbf", json!(NOW + 31)), InvalidToken::Time),
    ] {
        assert_eq!(holder(&tokens, &token), Err(why), "{token}");
    }
    // For another audience: it may be the caller's own upstream credential.
    for token in
        [with("aud", json!("https://cognitiveservices.azure.com")), with("iss", json!("https://other"))]
    {
        assert_eq!(holder(&tokens, &token), Ok(None));
    }
    for text in ["eyJ", "eyJ.", "eyJ..", "eyJhbGciOiJFUzI1NiJ9.e30.", "sk-1", &"eyJ.".repeat(9000)] {
        assert_eq!(holder(&tokens, text), Ok(None), "{text}");
    }
}

#[test]
fn a_key_that_is_gone_verifies_nothing_and_a_document_that_is_gone_leaves_the_keys() {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let (issuer, tokens) = known(&[]);
    let (old, new) = (one.token("one", &claims("search")), two.token("two", &claims("search")));
    assert_eq!(holder(&tokens, &old), Err(InvalidToken::NoKeys));
    issuer.take(Ok(keys(&[&one])), wall()).unwrap();
    assert_eq!((holder(&tokens, &old), holder(&tokens, &new)), (Ok(Some(7)), Err(InvalidToken::UnknownKey)));
    for bad in [b"{}".to_vec(), b"<html>".to_vec(), keys(&[])] {
        issuer.take(Ok(bad), wall()).unwrap_err();
    }
    issuer.take(Err("404 Not Found".to_owned()), wall()).unwrap_err();
    let standing = issuer.standing();
    assert_eq!((standing.keys, standing.failures, standing.tries), (1, 4, 5));
    assert_eq!(standing.problem.as_deref(), Some("404 Not Found"));
    assert_eq!(holder(&tokens, &old), Ok(Some(7)));
    // Both keys during the rotation, then only the new one: cached tokens are verified again.
    issuer.take(Ok(keys(&[&one, &two])), wall()).unwrap();
    assert_eq!((holder(&tokens, &old), holder(&tokens, &new)), (Ok(Some(7)), Ok(Some(7))));
    issuer.take(Ok(keys(&[&two])), wall()).unwrap();
    assert_eq!((holder(&tokens, &old), holder(&tokens, &new)), (Err(InvalidToken::UnknownKey), Ok(Some(7))));
    assert_eq!(issuer.standing().problem, None);
}

#[test]
fn keys_that_sign_nothing_are_left_out() {
    let signer = Signer::new("one");
    let mut encrypts = signer.jwk.clone();
    (encrypts["use"], encrypts["kid"]) = (json!("enc"), json!("two"));
    let secret = json!({"kty": "oct", "kid": "three", "k": "c2VjcmV0"});
    let unknown = json!({"kty": "future", "kid": "four"});
    let (issuer, _) = known(&[]);
    let document = json!({"keys": [encrypts, secret, unknown, signer.jwk]}).to_string();
    issuer.take(Ok(document.into_bytes()), wall()).unwrap();
    assert_eq!(issuer.standing().keys, 1);
}

#[test]
fn what_reaches_a_bound_is_told() {
    let signer = Signer::new("a");
    let (issuer, tokens) = known(&[&signer]);
    for number in 0..4_097 {
        let mut claims = claims("search");
        claims["jti"] = json!(number);
        assert_eq!(holder(&tokens, &signer.token("a", &claims)), Ok(Some(7)));
        assert_eq!(issuer.standing().forgotten, u64::from(number == 4_096));
    }
    let many: Vec<&Signer> = std::iter::repeat_n(&signer, 65).collect();
    let problem = issuer.take(Ok(keys(&many)), wall()).unwrap_err();
    assert!(problem.contains("more than 64 keys"), "{problem}");
    assert_eq!((issuer.standing().keys, issuer.standing().failures), (1, 1));
}
