use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use tracing::Level;

use super::*;

/// A writer whose output a test reads.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(settings: &Settings, log: impl FnOnce()) -> String {
    let sink = Sink::default();
    let (queue, guard) = writer::start(settings.queue, sink.clone()).unwrap();
    with_own_log(subscriber(settings, queue).0, log);
    assert!(guard.flush());
    sink.text()
}

#[test]
fn access_lines_are_written_as_they_are() {
    for json in [true, false] {
        let settings = Settings { json, ..Settings::default() };
        let text = logged(
            &settings,
            || tracing::info!(target: ACCESS_LOG, more = 1, "{}", "{\"caller\":\"batch\"}"),
        );
        assert_eq!(text, "{\"caller\":\"batch\"}\n");
    }
}

#[test]
fn events_are_json_or_text() {
    let log = || tracing::warn!(port = 8080, "a listener is taken");
    let json = logged(&Settings::default(), log);
    let event: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&event["level"], &event["port"]), (&"WARN".into(), &8080.into()), "{json}");
    assert_eq!(event["message"], "a listener is taken");
    let text = logged(&Settings { json: false, ..Settings::default() }, log);
    assert!(text.contains("WARN") && text.ends_with("a listener is taken port=8080\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "no color unless asked for: {text}");
}

#[test]
fn a_line_names_the_spans_around_it() {
    let directives: Directives = "weir=debug".parse().unwrap();
    let log = || {
        let request = tracing::debug_span!("request", id = "req_1").entered();
        let attempt = tracing::debug_span!("attempt", number = 2).entered();
        tracing::info!("the upstream is slow");
        drop((attempt, request));
    };
    let settings = Settings { directives, ..Settings::default() };
    let json = logged(&settings, log);
    let event: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(event["span"]["number"], 2, "{json}");
    assert_eq!(event["spans"][0]["id"], "req_1", "{json}");
    let text = logged(&Settings { json: false, ..settings }, log);
    assert!(text.contains("req_1") && text.contains("number=2"), "{text}");
}

#[test]
fn the_filter_tells_targets_apart_and_can_be_changed() {
    let sink = Sink::default();
    let settings = Settings { levels: Levels { least: Level::INFO, access: false }, ..Settings::default() };
    let (queue, guard) = writer::start(settings.queue, sink.clone()).unwrap();
    let (subscriber, filter) = subscriber(&settings, queue);
    let written = || {
        assert!(guard.flush());
        let lines = sink.text();
        sink.0.lock().unwrap().clear();
        let of = |line: &str| {
            line.rsplit("message\":\"").next().unwrap_or(line).split('"').next().map(str::to_owned)
        };
        lines.lines().filter_map(of).collect::<Vec<_>>()
    };
    let log = || {
        tracing::info!(target: ACCESS_LOG, "access");
        tracing::error!("error");
        tracing::info!("info");
        tracing::trace!("trace");
        tracing::trace!(target: "weirder", "another crate's trace");
        tracing::info!(target: "weirder", "another crate's");
        tracing::enabled!(target: ACCESS_LOG, Level::INFO)
    };
    with_own_log(subscriber, || {
        assert!(!log());
        assert_eq!(written(), ["error", "info", "another crate's"]);
        filter.change(Levels { least: Level::TRACE, access: true });
        assert!(log());
        assert_eq!(written(), ["access", "error", "info", "trace", "another crate's"]);
        filter.change(Levels { least: Level::ERROR, access: true });
        assert!(log(), "the access log has a key of its own");
        assert_eq!(written(), ["access", "error"]);
        filter.change(Levels { least: Level::ERROR, access: false });
        assert!(!log());
        assert_eq!(written(), ["error"]);
    });
}

/// A writer that blocks until it is released.
struct Stuck {
    begun: Sender<()>,
    go_on: Receiver<()>,
    sink: Sink,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.send(()).unwrap();
        self.go_on.recv().map_err(io::Error::other)?;
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_output_drops_lines_and_counts_them() {
    let (begun, has_begun) = channel();
    let (go, go_on) = channel();
    let sink = Sink::default();
    let settings = Settings { queue: 10, ..Settings::default() };
    let (queue, guard) = writer::start(settings.queue, Stuck { begun, go_on, sink: sink.clone() }).unwrap();
    with_own_log(subscriber(&settings, queue).0, || {
        tracing::info!(target: ACCESS_LOG, "first");
        has_begun.recv().unwrap();
        for index in 0..100 {
            tracing::info!(target: ACCESS_LOG, "{index}");
        }
    });
    assert_eq!(guard.dropped().count(), 91, "the one that is being written takes one of the ten places");
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert!(guard.flush());
    assert_eq!(sink.text(), "first\n0\n1\n2\n3\n4\n5\n6\n7\n8\n");
    drop(go);
    let (queue, guard) = writer::start(10, Broken).unwrap();
    with_own_log(subscriber(&settings, queue).0, || tracing::info!("lost"));
    assert!(guard.flush());
    assert_eq!(guard.dropped().count(), 1, "a line that could not be written counts");
}

/// A writer that counts its writes.
struct Counting(Arc<AtomicUsize>);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_come_together_are_written_together() {
    let writes = Arc::new(AtomicUsize::new(0));
    let (queue, guard) = writer::start(1_000, Counting(Arc::clone(&writes))).unwrap();
    let began = crate::clock::now();
    with_own_log(subscriber(&Settings::default(), queue).0, || {
        for index in 0..1_000 {
            tracing::info!(target: ACCESS_LOG, "{index}");
        }
    });
    assert!(guard.flush());
    // Every write smaller than a batch, except for the flush's own, follows a pause.
    let most = crate::clock::now().duration_since(began).as_millis() / writer::COLLECT_TIME.as_millis() + 1;
    let writes = writes.load(Ordering::Relaxed);
    assert!(writes as u128 <= most, "{writes} writes, at most {most} in this time");
    assert_eq!(guard.dropped().count(), 0);
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("no space left"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
