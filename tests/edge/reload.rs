//! A reload of the running binary: what follows it at once, and what is named because it waits for
//! a restart.

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
    // Lines are written in their order: what was to be said of the request would stand before this
    // one.
    weir.wait_for_printed(READ_AGAIN, 1);
    assert_eq!(weir.printed().matches(ACCESS).count(), 0, "{}", weir.printed());
    assert!(!weir.printed().contains("restart"), "{}", weir.printed());

    reload(&configuration("log.access = true\nserver.max_streams = 5\n"));
    request();
    weir.wait_for_printed(ACCESS, 1);
    weir.wait_for_printed(READ_AGAIN, 2);
    weir.wait_for_printed("\"restart\":\"server.max_streams\"", 1);
    // Whoever looks sees what is in force, and what waits.
    let shown = weir.admin("GET", "/config");
    assert!(shown.contains("\nmax_streams = 1000 # after a restart: 5\n"), "{shown}");
    assert!(weir.admin("GET", "/status").contains("\"waiting\":[\"server.max_streams\"]"));
    let page = weir.admin("GET", "/");
    assert!(page.contains("in force only after a restart: server.max_streams"), "{page}");

    // Of a reload that turns "info" off nothing is said, nor of one that needs no word.
    reload(&configuration("log.access = false\nlog.level = \"warn\"\n"));
    request();
    // The upstream is another one at once.
    reload("upstream.url = \"http://127.0.0.1:9/llm\"\nlog.access = false\nlog.level = \"error\"\n");
    assert!(weir.admin("GET", "/status").contains("\"upstream\":\"http://127.0.0.1:9/llm\""));
    reload(&quiet);
    assert!(!weir.admin("GET", "/config").contains("after a restart"));
    weir.wait_for_printed(READ_AGAIN, 3);
    assert_eq!(weir.printed().matches(ACCESS).count(), 1, "{}", weir.printed());
    // What needs a restart is said at "warn" too, until it is as at the start.
    reload(&configuration("log.level = \"warn\"\nserver.header_count = 50\n"));
    weir.wait_for_printed("\"restart\":\"server.header_count\"", 1);
    // A configuration with a mistake changes nothing.
    weir.configure("log.level = \"loud\"\nlog.access = false\n");
    assert!(weir.admin("POST", "/reload").starts_with("HTTP/1.1 422"));
    request();
    weir.wait_for_printed(ACCESS, 2);
    assert_eq!(weir.printed().matches(READ_AGAIN).count(), 4, "{}", weir.printed());
}
