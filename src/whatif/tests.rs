//! Logs in all forms: complete, truncated, mixed with other lines, compressed, of a steady load.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::plan::Plan;
use super::read::read;
use super::recording::{End, Recording};
use super::*;
use crate::simulate::limiter::Depth;

/// Milliseconds since 1970 in the format of the log.
fn time(millis: u64) -> String {
    Rfc3339(UNIX_EPOCH + Duration::from_millis(1_795_316_645_000 + millis)).to_string()
}

/// A request whose response came after `queue` and 100 more milliseconds.
fn line(arrived: u64, queue: u64, change: impl FnOnce(&mut Value)) -> String {
    let mut line = json!({
        "timestamp": time(arrived + queue + 100), "level": "INFO", "target": "weir::access", "request_id": "r",
        "caller": "search", "endpoint": "chat_completions", "model": "gpt-5", "outcome": "success", "status": 200,
        "duration_ms": queue + 100, "queue_ms": queue, "overhead_ms": 0.1, "deadline_left_ms": 60_000.0, "stream": false,
        "bytes_in": 300, "bytes_out": 10, "tokens_estimated": 50, "tokens_charged": 50, "tokens_input": 50,
        "tokens_cached": 0, "tokens_output": 1, "attempt_count": 1,
        "attempts": [{"outcome": "success", "status": 200, "delay_ms": 0.0, "start_ms": queue,
                      "time_to_head_ms": 100.0, "upstream_request_id": null}],
    });
    change(&mut line);
    line.to_string()
}

fn limits(at: u64, requests: f64) -> String {
    json!({"timestamp": time(at), "level": "INFO", "message": "limits in force", "scope": "gpt-5",
           "requests_per_minute": requests, "source": "learned", "share": 1.0, "charge_ratio": 1.0, "sample": 1.0,
           "target": "weir::limits"})
    .to_string()
}

fn recording(text: &str) -> Recording {
    read(text.as_bytes(), &mut |_| {}).expect("a text is readable")
}

#[test]
fn what_is_no_request_is_counted_and_the_rest_is_read() {
    let good = line(0, 20, |_| {});
    let refused = line(500, 0, |line| {
        (line["error_class"], line["attempts"]) = (json!("weir_deadline"), json!([]));
    });
    let unknown = line(600, 0, |line| {
        (line["error_class"], line["attempts"]) = (json!("weir_caller_unknown"), json!([]));
    });
    let text = [
        "of a line that was cut\"}",
        &format!("2026-11-30T06:11:07.1Z stderr F {good}"),
        &json!({"log": format!("{}\n", line(40, 0, |_| {})), "stream": "stderr"}).to_string(),
        "{\"timestamp\":\"2026-11-30T06:11:07Z\",\"level\":\"WARN\",\"target\":\"weir::app\",\"message\":\"{\"}",
        "12:03:04.567 200 success batch chat_completions gpt-5 1.204 s",
        &limits(450, 600.0),
        &refused,
        &unknown,
        &line(30, 0, |_| {}),
        "",
        "\u{0}\u{1}binary{",
        "{\"other\": \"program\"}",
        &good[..good.len() - 30],
    ]
    .join("\n");
    let read = recording(&text);
    let lines = read.lines;
    assert_eq!((lines.read, lines.requests, lines.others), (12, 4, 2), "{lines:?}");
    assert_eq!((lines.turned_away, lines.foreign, lines.out_of_order), (1, 5, 1), "{lines:?}");
    let ends: Vec<End> = read.requests.iter().map(|request| request.course.end).collect();
    assert_eq!(ends, [End::Answered, End::Answered, End::Answered, End::Refused], "in the order of arrival");
    assert_eq!(read.limits[0].limits, [Some(600), None, None, None]);
}

#[test]
fn a_compressed_log_is_read_as_far_as_it_goes() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    for at in 0..2_000 {
        writeln!(packed, "{}", line(at, at % 7, |_| {})).unwrap();
    }
    let packed = packed.finish().unwrap();
    let whole = read(&*packed, &mut |_| {}).unwrap();
    assert_eq!((whole.requests.len(), whole.lines.cut), (2_000, false));
    let cut = read(&packed[..packed.len() / 2], &mut |_| {}).unwrap();
    assert!(cut.lines.cut && (10..2_000).contains(&cut.requests.len()), "{:?}", cut.lines);
}

/// 400 requests at once, of which the API admits 20 and then 10 per second, so that the waits can
/// be calculated.
fn steady() -> Recording {
    let mut lines = vec![limits(1_000, 600.0)];
    lines.extend((0..400_u64).map(|index| line(0, index.saturating_sub(19) * 100, |_| {})));
    recording(&lines.join("\n"))
}

#[test]
fn a_replay_under_the_recorded_limits_gives_the_recorded_waits() {
    let mut recording = steady();
    let outages = recording.keep(0);
    let plan = Plan::recorded(&recording, 1, None, 7);
    let Shape::Bucket(Depth::Of(depth)) = plan.shape else { panic!("{:?}", plan.shape) };
    assert!((1.9..2.2).contains(&depth.as_secs_f64()), "the burst shows the depth: {depth:?}");
    let replay = |plan: &Plan| {
        Figures::new(&recording, &replay::replay(&recording, &outages, plan, &mut |_| {}), plan.last_limits())
    };
    let recorded: Vec<_> = recording.requests.iter().map(|request| request.course).collect();
    let recorded = Figures::new(&recording, &recorded, plan.last_limits());
    let replayed = replay(&plan);
    for (was, is) in [
        (recorded.all.wait_mean, replayed.all.wait_mean),
        (recorded.all.wait_p50, replayed.all.wait_p50),
        (recorded.all.wait_p99, replayed.all.wait_p99),
    ] {
        assert!((is / was - 1.0).abs() < 0.05, "{was} recorded, {is} replayed");
    }
    let twice = replay(&plan.doubled());
    assert!((twice.all.wait_p99 / recorded.all.wait_p99 - 0.5).abs() < 0.05, "{twice:?}");
    assert_eq!(replay(&plan), replayed, "equal input gives equal output");
    // Four Weirs that share the limits evenly use all of them.
    let four = replay(&Plan { replicas: 4, ..plan.clone() });
    assert!((four.all.wait_mean / recorded.all.wait_mean - 1.0).abs() < 0.15, "{four:?}");
}

#[test]
fn an_outage_is_found_and_a_fault_stays_with_its_request() {
    let failed = |outcome: &str, start: u64| json!({"outcome": outcome, "status": 503, "delay_ms": 0.0, "start_ms": start, "time_to_head_ms": 10.0});
    let mut lines: Vec<String> = (0..30_u64).map(|index| line(index * 100, 0, |_| {})).collect();
    // From 3 s to 6 s all attempts fail; the last attempt of each request, after that, succeeds.
    lines.extend((0..20_u64).map(|index| {
        line(3_000 + index * 100, 4_000 - index * 100, |line| {
            let attempts = line["attempts"].as_array_mut().expect("attempts");
            attempts.insert(0, failed("overloaded", 5));
        })
    }));
    lines.push(line(9_000, 300, |line| {
        line["attempts"].as_array_mut().expect("attempts").insert(0, failed("internal_server_error", 3));
    }));
    let mut recording = recording(&lines.join("\n"));
    let outages = recording.keep(0);
    assert_eq!(outages.len(), 1, "{outages:?}");
    let begin = recording.requests[0].arrived;
    let since = |at: u64| (at - begin) as f64 * 1e-9;
    assert!((2.9..3.1).contains(&since(outages[0].from)), "{}", since(outages[0].from));
    assert!((4.9..7.1).contains(&since(outages[0].until)), "{}", since(outages[0].until));
    let faults: usize = recording.requests.iter().map(|request| recording.failures_of(request).len()).sum();
    assert_eq!(faults, 1, "of the request that met one outside of the outage");
}

#[test]
fn what_is_asked_must_fit_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let ask = |text: &str, change: &dyn Fn(&mut Args)| {
        std::fs::write(&log, text).unwrap();
        let mut args = Args {
            log: log.clone(),
            requests_per_minute: None,
            tokens_per_minute: None,
            weight: Vec::new(),
            replicas: None,
            recorded_replicas: 1,
            scope: None,
            shape: None,
            seed: 7,
            json: false,
            svg: None,
        };
        change(&mut args);
        run(&args, &mut |_| {}).map_err(|error| error.to_string())
    };
    let good = format!("{}\n{}", limits(0, 600.0), line(0, 0, |_| {}));
    assert!(ask("hello\nworld\n", &|_| {}).unwrap_err().contains("2 are no JSON"));
    assert!(
        ask(&good, &|args| args.weight.push(("serch".to_owned(), 8))).unwrap_err().contains("callers search")
    );
    assert!(ask(&good, &|args| args.scope = Some("gpt-6".to_owned())).unwrap_err().contains("gpt-5"));
    assert!(ask(&line(0, 0, |_| {}), &|_| {}).unwrap_err().contains("--requests-per-minute"));
    let without = ask(&line(0, 0, |_| {}), &|args| args.requests_per_minute = Some(60)).unwrap();
    assert!(without.figures("what if").is_some() && without.figures("replayed").is_none());
    let answer = ask(&good, &|_| {}).unwrap();
    assert!(answer.text().contains("would not have helped: no request waited"), "{}", answer.text());
    assert!(answer.text().lines().all(|line| line.chars().count() <= 110), "{}", answer.text());
}
