//! The caller that a request is counted for, also across reloads, and who may use the configured
//! credential.

use std::io::Write;

use crate::http2;
use crate::process::Weir;
use crate::wire;

/// The configuration of a caller that is identified by `x-team: NAME`.
fn entries(names: &[&str]) -> String {
    let entry = |name: &&str| {
        format!("[[callers]]\nname = \"{name}\"\nheader = {{ name = \"x-team\", value = \"{name}\" }}\n")
    };
    names.iter().map(entry).collect()
}

#[test]
fn a_reload_never_counts_a_request_for_another_caller() {
    let (upstream, _seen) = wire::plain();
    let configuration = |names: &[&str]| {
        format!(
            "upstream.url = \"http://{upstream}\"\nreport.capacity = 10\nlog.sample = 1.0\n{}",
            entries(names)
        )
    };
    let weir = Weir::start(&configuration(&["alpha"]), &[]);
    let mut expected = std::collections::BTreeMap::<&str, f64>::new();
    let mut ask = |team: &'static str| {
        let request = format!("GET /v1/models HTTP/1.1\r\nHost: weir\r\nx-team: {team}\r\n\r\n");
        assert_eq!(wire::ask(weir.address, request.as_bytes()).status(), 200);
        *expected.entry(if team == "nobody" { "default" } else { team }).or_default() += 1.0;
        for (name, count) in &expected {
            let series =
                format!("weir_requests_total{{caller=\"{name}\",endpoint=\"models\",outcome=\"success\"}}");
            weir.wait_for(&series, *count);
            assert!((weir.metric(&series) - count).abs() < 0.1, "{name} after one of {team}");
        }
    };
    let reload = |names: &[&str]| {
        weir.configure(&configuration(names));
        let answer = weir.admin("POST", "/reload");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    ask("alpha");
    ask("nobody");
    // Appended, inserted before, removed, and back again.
    for (names, teams) in [
        (&["alpha", "beta"][..], &["beta", "alpha", "nobody"][..]),
        (&["gamma", "beta", "alpha"], &["alpha", "gamma", "nobody", "beta"]),
        (&["gamma"], &["gamma", "nobody"]),
        (&["alpha", "gamma"], &["alpha", "gamma", "nobody"]),
    ] {
        reload(names);
        for team in teams {
            ask(team);
        }
    }
    // The log names the same callers as the metrics.
    weir.wait_for_printed("\"caller\":\"", 14);
    for (name, count) in [("alpha", 4), ("beta", 2), ("gamma", 3), ("default", 5)] {
        let printed = weir.printed().matches(&format!("\"caller\":\"{name}\"")).count();
        assert_eq!(printed, count, "{name}: {}", weir.printed());
    }
}

/// The host, further headers, and the expected status.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, u16);

#[test]
fn a_web_page_of_another_site_spends_no_configured_credential() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::start(
        &format!(
            "upstream.url = \"http://{upstream}\"\nupstream.credential = \"env:KEY\"\nserver.hosts = [\"weir.test\"]\n\
             server.allow_unknown_callers = true\n[[callers]]\nname = \"team\"\nkey = \"env:TEAM\"\n"
        ),
        &[("KEY", "sk-configured-0123456789"), ("TEAM", "weir-team-0123456789")],
    );
    let port = weir.address.port();
    let local = format!("localhost:{port}");
    let cases: Vec<Case<'_>> = vec![
        (&local, vec![], 200),
        ("127.0.0.1", vec![], 200),
        ("weir.test", vec![], 200),
        (&local, vec![("origin", "http://localhost:3000")], 200),
        (&local, vec![("sec-fetch-site", "none")], 200),
        ("evil.example:8080", vec![], 403),
        ("evil.example", vec![("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")], 403),
        (&local, vec![("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")], 403),
        (&local, vec![("origin", "null")], 403),
        (&local, vec![("sec-fetch-site", "cross-site")], 403),
        // With a key, the request is intentional.
        ("evil.example", vec![("authorization", "Bearer weir-team-0123456789")], 200),
    ];
    for (host, headers, status) in &cases {
        let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let more = lines.concat();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: 2\r\n\r\n{{}}"
        );
        let answer = wire::ask(weir.address, request.as_bytes());
        assert_eq!(answer.status(), *status, "{host} {headers:?}");
        assert_eq!(seen.try_iter().count(), usize::from(*status == 200), "{host} {headers:?}");
        if *status != 200 {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(body.contains("server.hosts"), "{body}");
        }

        let mut list =
            vec![(":method", "GET"), (":scheme", "http"), (":authority", *host), (":path", "/v1/models")];
        list.extend(headers);
        let mut stream = http2::open(&weir, &[]);
        let flags = http2::END_HEADERS | http2::END_STREAM;
        stream.write_all(&http2::frame(http2::HEADERS, flags, 1, &http2::fields(&list))).unwrap();
        let good = http2::fate(&mut stream, 1) == http2::Fate::Status(200);
        assert_eq!(good, *status == 200, "over HTTP/2: {host} {headers:?}");
        assert_eq!(seen.try_iter().count(), usize::from(*status == 200), "{host} {headers:?}");
    }
    assert!(weir.metric("weir_http_refusals_total{rule=\"foreign_host\"}") >= 3.0);
    assert!(weir.metric("weir_http_refusals_total{rule=\"cross_site\"}") >= 6.0);
}

/// Without a configured credential, the caller sends its own key.
#[test]
fn a_caller_with_its_own_key_may_use_any_host_name() {
    let (upstream, _seen) = wire::plain();
    let weir = Weir::before(upstream, "");
    let request = "GET /v1/models HTTP/1.1\r\nHost: weir.example\r\nOrigin: http://app.example\r\nAuthorization: Bearer sk-own\r\n\r\n";
    assert_eq!(wire::ask(weir.address, request.as_bytes()).status(), 200);
}

#[test]
fn the_header_that_a_caller_is_known_by_does_not_go_upstream() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, &entries(&["alpha"]));
    let request =
        "GET /v1/models HTTP/1.1\r\nHost: weir\r\nx-team: alpha\r\nx-weir-other: 1\r\nx-mine: 1\r\n\r\n";
    assert_eq!(wire::ask(weir.address, request.as_bytes()).status(), 200);
    let seen = seen.recv().unwrap();
    assert_eq!(
        (seen.header("x-team"), seen.header("x-weir-other"), seen.header("x-mine")),
        (None, None, Some("1"))
    );
}

/// The configuration key that the refusal names works.
#[test]
fn the_admin_address_names_the_key_that_lets_another_host_in() {
    let (upstream, _seen) = wire::plain();
    let ask = |weir: &Weir| {
        wire::ask(weir.admin, b"GET /status HTTP/1.1\r\nHost: weir-admin.test\r\nConnection: close\r\n\r\n")
    };
    let refused = ask(&Weir::before(upstream, ""));
    assert_eq!(refused.status(), 421);
    assert!(String::from_utf8_lossy(&refused.body).contains("admin.hosts"), "{refused:?}");
    assert_eq!(ask(&Weir::before(upstream, "admin.hosts = [\"weir-admin.test\"]\n")).status(), 200);
}
