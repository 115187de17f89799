//! Reloads: settings that change at once, and the report of those that need a restart.

use std::sync::{Arc, Condvar, Mutex};

use crate::process::Weir;
use crate::wire;

const READ_AGAIN: &str = "the configuration was read again";
const ACCESS: &str = "\"target\":\"weir::access\"";

#[test]
fn the_log_follows_a_reload_and_what_needs_a_restart_is_named() {
    let (upstream, _seen) = wire::plain();
    let configuration = |more: &str| format!("upstream.url = \"http://{upstream}\"\n{more}");
    let quiet = configuration("log.access = false\n");
    let weir = Weir::start(&quiet, &[]);
    let reload = |text: &str| {
        weir.configure(text);
        let answer = weir.admin("POST", "/reload");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    let request = || assert_eq!(wire::get(weir.address, "/v1/models").status(), 200);
    request();
    reload(&quiet);
    // Lines are written in order, so a line about the request would precede this one.
    weir.wait_for_printed(READ_AGAIN, 1);
    assert_eq!(weir.printed().matches(ACCESS).count(), 0, "{}", weir.printed());
    assert!(!weir.printed().contains("restart"), "{}", weir.printed());

    reload(&configuration("log.access = true\nserver.max_streams = 5\n"));
    request();
    weir.wait_for_printed(ACCESS, 1);
    weir.wait_for_printed(READ_AGAIN, 2);
    weir.wait_for_printed("\"restart\":\"server.max_streams\"", 1);
    // The status shows the settings in use and those that need a restart.
    let shown = weir.admin("GET", "/config");
    assert!(shown.contains("\nmax_streams = 1000 # after a restart: 5\n"), "{shown}");
    assert!(weir.admin("GET", "/status").contains("\"waiting\":[\"server.max_streams\"]"));
    let page = weir.admin("GET", "/");
    assert!(page.contains("in force only after a restart: server.max_streams"), "{page}");

    // A reload that turns "info" off logs nothing, nor does one without changes.
    reload(&configuration("log.access = false\nlog.level = \"warn\"\n"));
    request();
    // The upstream changes at once.
    reload("upstream.url = \"http://127.0.0.1:9/llm\"\nlog.access = false\nlog.level = \"error\"\n");
    assert!(weir.admin("GET", "/status").contains("\"upstream\":\"http://127.0.0.1:9/llm\""));
    reload(&quiet);
    assert!(!weir.admin("GET", "/config").contains("after a restart"));
    weir.wait_for_printed(READ_AGAIN, 3);
    assert_eq!(weir.printed().matches(ACCESS).count(), 1, "{}", weir.printed());
    // Settings that need a restart are also logged at "warn", until they are reverted.
    reload(&configuration("log.level = \"warn\"\nserver.header_count = 50\n"));
    weir.wait_for_printed("\"restart\":\"server.header_count\"", 1);
    // A configuration with a mistake changes nothing.
    weir.configure("log.level = \"loud\"\nlog.access = false\n");
    assert!(weir.admin("POST", "/reload").starts_with("HTTP/1.1 422"));
    request();
    weir.wait_for_printed(ACCESS, 2);
    assert_eq!(weir.printed().matches(READ_AGAIN).count(), 4, "{}", weir.printed());
}

#[test]
fn a_reload_amid_a_burst_loses_nothing_and_callers_keep_names_counts_and_places() {
    const EACH: usize = 12;
    let go = Arc::new((Mutex::new(false), Condvar::new()));
    let opened = Arc::clone(&go);
    let (upstream, seen) = wire::recording(move |_| {
        let (open, changed) = &*opened;
        drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()
    });
    let caller = |name: &str, more: &str| {
        format!(
            "[[callers]]\nname = \"{name}\"\nheader = {{ name = \"x-team\", value = \"{name}\" }}\n{more}"
        )
    };
    let configuration = |callers: &[String]| {
        format!("upstream.url = \"http://{upstream}\"\nlimits.in_flight = 1\n{}", callers.concat())
    };
    let weir = Weir::start(&configuration(&[caller("a", ""), caller("b", "")]), &[]);
    let answers: Vec<_> = (0..2 * EACH)
        .map(|index| {
            let (name, at) = (["a", "b"][index % 2], index / 2);
            let request =
                format!("GET /v1/models?{name}={at} HTTP/1.1\r\nHost: localhost\r\nx-team: {name}\r\n\r\n");
            let address = weir.address;
            let asking = std::thread::spawn(move || wire::ask(address, request.as_bytes()).status());
            weir.wait_for(&format!("weir_requests_in_flight{{caller=\"{name}\"}}"), (at + 1) as f64);
            asking
        })
        .collect();
    let reload = |text: &str, expected: &str| {
        weir.configure(text);
        let answer = weir.admin("POST", "/reload");
        assert!(answer.starts_with(expected), "{answer}");
    };
    // In another order with one more before them, and one whose line is wrong.
    reload(&configuration(&[caller("c", ""), caller("b", "weight = 3\n"), caller("a", "")]), "HTTP/1.1 200");
    reload(&configuration(&[caller("b", "weight = 0\n")]), "HTTP/1.1 422");
    for name in ["a", "b"] {
        assert!(weir.metric(&format!("weir_requests_in_flight{{caller=\"{name}\"}}")) >= EACH as f64);
    }
    let (open, changed) = &*go;
    *open.lock().unwrap() = true;
    changed.notify_all();
    for asking in answers {
        assert_eq!(asking.join().unwrap(), 200);
    }
    let paths: Vec<String> = seen.try_iter().map(|request| request.start).collect();
    for name in ["a", "b"] {
        let of: Vec<&str> = paths
            .iter()
            .filter_map(|path| path.split_once(&format!("?{name}="))?.1.split(' ').next())
            .collect();
        let expected: Vec<String> = (0..EACH).map(|at| at.to_string()).collect();
        assert_eq!(of, expected, "the places of {name}");
        let done =
            format!("weir_requests_total{{caller=\"{name}\",endpoint=\"models\",outcome=\"success\"}}");
        assert!((weir.metric(&done) - EACH as f64).abs() < 0.5, "the count of {name}");
    }
}
