//! Tests of identification and of the rewritten headers.

use std::hash::RandomState;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::credential::fingerprint;
use super::*;
use crate::clock::wall;

const NOBODY: [&str; 0] = [];

fn caller(name: &str) -> Caller {
    Caller { name: name.into(), ..Caller::unknown(CallerId(0)) }
}

fn entry(name: &str) -> Entry {
    Entry { caller: caller(name), keys: Vec::new(), header: None, san: None, token: None, credential: None }
}

fn credential(key: &str) -> Credential {
    Credential::new(&Secret::from(key), AuthHeader::Bearer, Some("org-1"), None).unwrap()
}

fn directory(serve_unknown: bool) -> Callers {
    registered(serve_unknown, &Registry::new())
}

fn registered(serve_unknown: bool, registry: &Arc<Registry>) -> Callers {
    let entries = vec![
        Entry { keys: vec![Secret::from("weir-search-0123456789")], ..entry("search") },
        Entry { header: Some((HeaderName::from_static("x-team"), "batch".to_owned())), ..entry("batch") },
        Entry {
            san: Some("reports.internal".to_owned()),
            credential: Some(credential("sk-reports")),
            ..entry("reports")
        },
    ];
    let origins = origin::Origins::loopback_and(&[]);
    let settings = Settings { entries, credential: Some(credential("sk-upstream")), serve_unknown, origins };
    Callers::new(settings, registry)
}

/// A directory that keeps every caller's own credential.
fn passing(registry: &Arc<Registry>) -> Callers {
    Callers::new(Settings { serve_unknown: true, ..Settings::default() }, registry)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

#[test]
fn a_caller_is_known_by_each_of_its_keys() {
    let keys = ["weir-search-old-01234", "weir-search-new-01234"];
    let entries = vec![Entry { keys: keys.map(Secret::from).into(), ..entry("search") }];
    let settings = Settings { entries, credential: Some(credential("sk-upstream")), ..Settings::default() };
    let callers = Callers::new(settings, &Registry::new());
    let of = |key: &str| {
        let bearer = headers(&[("authorization", &format!("Bearer {key}"))]);
        callers.identify(&bearer, &NOBODY, wall).map(|found| (found.caller.id, found.known_by))
    };
    assert!(of(keys[0]).is_ok());
    assert_eq!(of(keys[0]), of(keys[1]));
    assert_eq!(of("weir-search-older-012"), Err(Unknown::Key));
}

#[test]
fn a_weir_key_is_known_in_each_header_and_never_goes_upstream() {
    let callers = directory(false);
    for (name, value) in [
        ("authorization", "Bearer weir-search-0123456789"),
        ("authorization", "bearer  weir-search-0123456789"),
        ("api-key", "weir-search-0123456789"),
        ("x-api-key", "weir-search-0123456789"),
        ("sec-websocket-protocol", "realtime, openai-insecure-api-key.weir-search-0123456789"),
    ] {
        let mut headers = headers(&[(name, value), ("openai-organization", "org-of-the-caller")]);
        let found = callers.identify(&headers, &NOBODY, wall).unwrap();
        assert_eq!((&*found.caller.name, found.known_by), ("search", KnownBy::Key), "{name}");
        found.rewrite(&mut headers);
        assert_eq!(headers[AUTHORIZATION], "Bearer sk-upstream");
        assert!(headers[AUTHORIZATION].is_sensitive());
        assert_eq!(headers["openai-organization"], "org-1");
        // The WebSocket proxy itself removes the subprotocol.
        headers.remove("sec-websocket-protocol");
        let left = format!("{:?}", headers.values().map(HeaderValue::as_bytes).collect::<Vec<_>>());
        assert!(!left.contains("weir-search"), "{left}");
        assert!(!headers.contains_key("api-key") && !headers.contains_key("x-api-key"));
    }
}

#[test]
fn a_key_counts_over_a_certificate_and_that_over_a_header() {
    let callers = directory(false);
    let all = headers(&[("authorization", "Bearer weir-search-0123456789"), ("x-team", "batch")]);
    let known = |headers: &HeaderMap, names: &[&str]| {
        callers.identify(headers, names, wall).map(|found| (found.caller.name.to_string(), found.known_by))
    };
    assert_eq!(known(&all, &["reports.internal"]), Ok(("search".to_owned(), KnownBy::Key)));
    let header = headers(&[("x-team", "batch")]);
    assert_eq!(known(&header, &["x", "reports.internal"]), Ok(("reports".to_owned(), KnownBy::Certificate)));
    assert_eq!(known(&header, &[]), Ok(("batch".to_owned(), KnownBy::Header)));
    assert_eq!(known(&headers(&[("x-team", "batchx")]), &["reports.internal.evil"]), Err(Unknown::Key));
    assert_eq!(known(&HeaderMap::new(), &[]), Err(Unknown::Key));
}

#[test]
fn nearly_the_key_is_not_the_key() {
    let callers = directory(false);
    for value in [
        "Bearer weir-search-012345678",
        "Bearer weir-search-01234567890",
        "Basic weir-search-0123456789",
        "Bearer ",
        "B",
        "",
    ] {
        assert_eq!(
            callers.identify(&headers(&[("authorization", value)]), &NOBODY, wall).err(),
            Some(Unknown::Key),
            "{value}"
        );
    }
    // Of several keys, one known key suffices.
    let both = headers(&[("authorization", "Bearer x"), ("api-key", "weir-search-0123456789")]);
    assert!(callers.identify(&both, &NOBODY, wall).is_ok());
}

#[test]
fn strangers_are_the_default_caller_where_they_are_served() {
    let callers = directory(true);
    let mut sent = headers(&[("authorization", "Bearer sk-dummy")]);
    let found = callers.identify(&sent, &NOBODY, wall).unwrap();
    assert_eq!(
        (&*found.caller.name, found.known_by, found.caller.id),
        ("default", KnownBy::Nothing, CallerId(3))
    );
    found.rewrite(&mut sent);
    assert_eq!(sent[AUTHORIZATION], "Bearer sk-upstream");
    assert_eq!(callers.all().len(), 4);
}

/// A reload that inserts, moves or removes callers changes no caller's number, and reuses none.
#[test]
fn a_caller_keeps_its_number_through_any_reload() {
    let registry = Registry::new();
    let load = |names: &[&str]| {
        let entries = names.iter().map(|name| entry(name)).collect();
        Callers::new(Settings { entries, ..Settings::default() }, &registry)
    };
    let ids = |callers: &Callers| -> Vec<(String, u16)> {
        callers.all().iter().map(|caller| (caller.name.to_string(), caller.id.0)).collect()
    };
    let listed = |list: &[(&str, u16)]| -> Vec<(String, u16)> {
        list.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect()
    };
    assert_eq!(ids(&load(&["alpha"])), listed(&[("alpha", 0), ("default", 1)]));
    assert_eq!(ids(&load(&["alpha", "beta"])), listed(&[("alpha", 0), ("beta", 2), ("default", 1)]));
    assert_eq!(ids(&load(&["beta", "alpha"])), listed(&[("beta", 2), ("alpha", 0), ("default", 1)]));
    let last = load(&["gamma"]);
    assert_eq!(ids(&last), listed(&[("gamma", 3), ("default", 1)]));
    assert_eq!(&*registry.name(CallerId(0)), "alpha", "who was removed keeps its name");
    assert_eq!(last.nobody().id, CallerId(1));
}

#[test]
fn a_rotated_key_is_the_same_credential_with_another_content() {
    let registry = Registry::new();
    let load = |key: &str| {
        let settings =
            Settings { credential: Some(credential(key)), serve_unknown: true, ..Settings::default() };
        Callers::new(settings, &registry)
    };
    let (old, new) = (load("sk-old"), load("sk-new"));
    assert_eq!(borne(&old, &[]), borne(&new, &[]));
    let content = |callers: &Callers| callers.current(callers.nobody().id).map(|current| current.content);
    assert_ne!(content(&old), content(&new));
    assert_eq!(passing(&registry).current(old.nobody().id).map(|current| current.content), None);
}

#[test]
fn without_a_credential_the_caller_s_own_passes_through() {
    let callers = passing(&Registry::new());
    let sent = headers(&[("authorization", "Bearer sk-mine"), ("openai-project", "p"), ("api-key", "k")]);
    let mut received = sent.clone();
    let found = callers.identify(&sent, &NOBODY, wall).unwrap();
    found.rewrite(&mut received);
    assert!(!found.is_swapped());
    assert_eq!(received, sent);
}

#[test]
fn a_caller_s_own_credential_counts_over_everybody_s() {
    let callers = directory(false);
    let mut headers = HeaderMap::new();
    callers.identify(&headers, &["reports.internal"], wall).unwrap().rewrite(&mut headers);
    assert_eq!(headers[AUTHORIZATION], "Bearer sk-reports");
}

#[test]
fn azure_s_header_is_a_style() {
    let credential = Credential::new(&Secret::from("k"), AuthHeader::ApiKey, None, Some("p")).unwrap();
    let mut headers = headers(&[("authorization", "Bearer mine")]);
    credential.apply(&mut headers);
    assert_eq!(headers.get(AUTHORIZATION), None);
    assert_eq!(headers["api-key"], "k");
    assert_eq!(headers["openai-project"], "p");
    assert!(Credential::new(&Secret::from("a\nb"), AuthHeader::Bearer, None, None).is_err());
}

/// The id of the credential that a request with these headers carries upstream.
fn borne(callers: &Callers, pairs: &[(&'static str, &str)]) -> CredentialId {
    let mut headers = headers(pairs);
    let received = headers.clone();
    callers.identify(&received, &NOBODY, wall).unwrap().rewrite(&mut headers)
}

#[test]
fn fingerprints_tell_credentials_apart_and_survive_a_reload() {
    let registry = Registry::new();
    let callers = passing(&registry);
    let id = |pairs: &[(&'static str, &str)]| borne(&callers, pairs);
    let mine = id(&[("authorization", "Bearer sk-mine"), ("user-agent", "a")]);
    assert_eq!(mine, id(&[("authorization", "Bearer sk-mine"), ("user-agent", "b")]));
    for other in [
        id(&[("authorization", "Bearer sk-mine2")]),
        id(&[("api-key", "Bearer sk-mine")]),
        id(&[("authorization", "Bearer sk-mine"), ("openai-organization", "o")]),
        id(&[("authorization", "Bearer sk-mine"), ("openai-project", "o")]),
        id(&[]),
    ] {
        assert_ne!(mine, other);
    }
    let (key, organization) = (("authorization", "Bearer sk-mine"), ("openai-organization", "o"));
    assert_eq!(id(&[key, organization]), id(&[organization, key]), "in any order");
    let sent = [("authorization", "Bearer sk-mine")];
    assert_eq!(borne(&passing(&registry), &sent), mine);
    // Another process has another random key.
    assert_ne!(borne(&passing(&Registry::new()), &sent), mine);
}

#[test]
fn a_configured_credential_has_the_name_that_its_own_bearer_would_have() {
    let registry = Registry::new();
    let configured = registered(true, &registry);
    let passing = passing(&registry);
    let itself = [("authorization", "Bearer sk-upstream"), ("openai-organization", "org-1")];
    let swapped = borne(&configured, &[("authorization", "Bearer sk-dummy")]);
    assert_eq!(swapped, borne(&passing, &itself));
    let reloaded = registered(false, &registry);
    assert_eq!(borne(&reloaded, &[("api-key", "weir-search-0123456789")]), swapped);
    let reports = |callers: &Callers| {
        let mut headers = HeaderMap::new();
        callers.identify(&HeaderMap::new(), &["reports.internal"], wall).unwrap().rewrite(&mut headers)
    };
    assert_ne!(reports(&configured), swapped);
    assert_eq!(reports(&reloaded), reports(&configured));
}

#[test]
fn nothing_shows_a_key() {
    let callers = directory(true);
    let shown = format!(
        "{callers:?} {callers:#?} {:?}",
        callers.identify(&headers(&[("api-key", "sk-x")]), &NOBODY, wall)
    );
    for key in ["weir-search", "sk-upstream", "sk-reports", "sk-x"] {
        assert!(!shown.contains(key), "{key} in {shown}");
    }
}

proptest! {
    #[test]
    fn moving_bytes_between_headers_is_another_credential(a in "[a-z]{0,6}", b in "[a-z]{0,6}", c in "[a-z]{0,6}") {
        let key = RandomState::new();
        let of = |one: &str, two: &str| fingerprint(&headers(&[("authorization", one), ("openai-project", two)]), &key);
        let (ab, bc) = ([a.as_str(), &b].concat(), [b.as_str(), &c].concat());
        prop_assert_eq!(of(&ab, &c) == of(&a, &bc), b.is_empty());
    }

    #[test]
    fn no_header_panics(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value);
            prop_assert_eq!(directory(false).identify(&headers, &NOBODY, wall).err(), Some(Unknown::Key));
        }
    }
}

#[test]
fn a_credential_that_passes_through_is_marked_sensitive() {
    let callers = passing(&Registry::new());
    let mut headers = HeaderMap::new();
    for name in ["authorization", "api-key", "x-api-key", "x-own"] {
        headers.append(name, "Bearer sk-secret".parse().unwrap());
        headers.append(name, "Bearer sk-secret-too".parse().unwrap());
    }
    let found = callers.identify::<&str>(&headers, &[], wall).unwrap();
    found.rewrite(&mut headers);
    for (name, value) in &headers {
        assert_eq!(value.is_sensitive(), name != "x-own", "{name}");
    }
}

/// Credentials that a browser sends by itself must not use a configured credential; those that a
/// program sends explicitly may come from anywhere.
#[test]
fn a_page_of_another_site_spends_no_configured_credential() {
    let callers = directory(true);
    let foreign = [("host", "evil.example"), ("origin", "http://evil.example")];
    let check = |callers: &Callers, more: &[(&'static str, &str)], names: &[&str]| {
        let headers = headers(&[&foreign[..], more].concat());
        callers.identify(&headers, names, wall).unwrap().check_origin(&headers, None)
    };
    assert_eq!(check(&callers, &[], &[]), Err(origin::Foreign::Host));
    assert_eq!(check(&callers, &[], &["reports.internal"]), Err(origin::Foreign::Host));
    assert_eq!(check(&callers, &[("api-key", "weir-search-0123456789")], &[]), Ok(()));
    assert_eq!(check(&callers, &[("x-team", "batch")], &[]), Ok(()));
    assert_eq!(check(&passing(&Registry::new()), &[], &[]), Ok(()), "its own key");
}
