use super::*;

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn prepare(
    headers: &mut HeaderMap,
    version: http::Version,
    client: IpAddr,
    forwarded: Forwarded,
    target: &Target,
) {
    let present = Present::of(headers);
    prepare_request((headers, &present), version, client, forwarded, target);
}

#[test]
fn strips_what_every_connection_line_nominates() {
    let mut headers = map(&[
        ("connection", "keep-alive, X-One"),
        ("connection", "x-two ,,"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-two", "2b"),
        ("x-three", "3"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "Basic secret"),
        ("content-type", "application/json"),
    ]);
    strip_request(&mut headers);
    assert_eq!(headers, map(&[("x-three", "3"), ("content-type", "application/json")]));
}

#[test]
fn every_field_that_is_removed_has_its_place() {
    for (place, name) in HOP_BY_HOP.iter().enumerate() {
        let present =
            Present::of(&[(name.clone(), VIA_HTTP1), (header::ACCEPT, VIA_HTTP1)].into_iter().collect());
        assert_eq!(present.hop_by_hop.iter().position(|present| *present), Some(place), "{name}");
        assert!(!present.says_where_from, "{name}");
    }
    for name in &FORWARDED {
        let present =
            Present::of(&[(header::ACCEPT, VIA_HTTP1), (name.clone(), VIA_HTTP1)].into_iter().collect());
        assert!(present.says_where_from && present.hop_by_hop == [false; 8], "{name}");
    }
}

#[test]
fn te_trailers_goes_on() {
    let mut headers = map(&[("te", "gzip, Trailers"), ("connection", "te")]);
    strip_request(&mut headers);
    assert_eq!(headers, map(&[("te", "trailers"), ("connection", "te")]));
}

#[test]
fn the_host_is_the_target_s_and_via_is_added() {
    let target = Target::parse("https://api.openai.com").unwrap();
    let mut headers = map(&[
        ("host", "127.0.0.1:8080"),
        ("via", "1.0 fred"),
        ("x-forwarded-for", "10.0.0.1"),
        ("authorization", "Bearer k"),
    ]);
    let client = "10.0.0.2".parse().unwrap();
    prepare(&mut headers, http::Version::HTTP_11, client, Forwarded::Remove, &target);
    let expected = map(&[
        ("host", "api.openai.com"),
        ("via", "1.0 fred"),
        ("via", "1.1 weir"),
        ("authorization", "Bearer k"),
    ]);
    assert_eq!(headers, expected);
    let mut headers = map(&[("x-forwarded-for", "10.0.0.1")]);
    prepare(&mut headers, http::Version::HTTP_2, client, Forwarded::Append, &target);
    let expected = map(&[
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("via", "2.0 weir"),
        ("host", "api.openai.com"),
    ]);
    assert_eq!(headers, expected);
    let mut headers = HeaderMap::new();
    prepare(&mut headers, http::Version::HTTP_10, client, Forwarded::Remove, &target);
    assert_eq!(headers[header::VIA], "1.0 weir");
}

#[test]
fn cookies_of_http2_become_one_and_no_expectation_goes_on() {
    let target = Target::parse("https://api.openai.com").unwrap();
    let client = "10.0.0.2".parse().unwrap();
    for (version, cookies) in
        [(http::Version::HTTP_2, &["a=b; c=d; e=f"][..]), (http::Version::HTTP_11, &["a=b", "c=d", "e=f"])]
    {
        let mut headers =
            map(&[("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "e=f"), ("expect", "100-continue")]);
        prepare(&mut headers, version, client, Forwarded::Remove, &target);
        let sent: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(sent, cookies);
        assert!(!headers.contains_key(header::EXPECT));
    }
}

#[test]
fn only_a_location_on_the_upstream_is_made_relative() {
    for (location, expected) in [
        ("https://api.openai.com/v1/x?y=1#z", "/v1/x?y=1#z"),
        ("HTTPS://API.openai.com:443/v1", "/v1"),
        ("https://api.openai.com", "/"),
        ("https://api.openai.com?a", "/?a"),
        ("https://api.openai.com//evil.example/", "https://api.openai.com//evil.example/"),
        ("http://api.openai.com/v1", "http://api.openai.com/v1"),
        ("https://api.openai.com:8443/v1", "https://api.openai.com:8443/v1"),
        ("https://api.openai.com.evil.example/", "https://api.openai.com.evil.example/"),
        ("https://user@api.openai.com/", "https://user@api.openai.com/"),
        ("https://files.example/a", "https://files.example/a"),
        ("/v1/models", "/v1/models"),
    ] {
        let mut headers = map(&[("location", location)]);
        relative_location(&mut headers, &Target::parse("https://api.openai.com").unwrap());
        assert_eq!(headers[header::LOCATION], expected, "{location}");
    }
}

#[test]
fn a_location_below_the_base_path_loses_it() {
    for (base, location, expected) in [
        ("https://gw.example/openai/v1", "https://gw.example/openai/v1/files/x?y", "/v1/files/x?y"),
        ("https://gw.example/llm", "https://gw.example/llm/v1/files", "/v1/files"),
        ("https://gw.example/llm", "https://gw.example/llms/v1/files", "/llms/v1/files"),
    ] {
        let mut headers = map(&[("location", location)]);
        relative_location(&mut headers, &Target::parse(base).unwrap());
        assert_eq!(headers[header::LOCATION], expected, "{location}");
    }
}

#[test]
fn framing_must_be_plain() {
    for (lines, plain) in [
        (&[("content-length", "3")][..], true),
        (&[("transfer-encoding", "Chunked")], true),
        (&[], true),
        (&[("transfer-encoding", "gzip, chunked")], false),
        (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
        (&[("transfer-encoding", "identity")], false),
        (&[("transfer-encoding", "chunked"), ("content-length", "3")], false),
    ] {
        assert_eq!(check_framing(&map(lines)).is_ok(), plain, "{lines:?}");
    }
}
