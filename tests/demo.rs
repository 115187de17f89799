//! The demo at its small scale, on real sockets in real time, and the replay of its log.

use weir::internals::demo::{self, Args};
use weir::internals::whatif;

#[test]
fn through_weir_every_job_finishes_and_the_api_refuses_nothing_after_the_first_second() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, svg) = (folder.path().join("access.log"), folder.path().join("demo.svg"));
    let mut text = String::new();
    let args = Args {
        seed: 7,
        quick: true,
        plain: true,
        svg: Some(svg.clone()),
        access_log: Some(log.clone()),
        replicas: 1,
    };
    let ways = demo::run(&args, true, &mut |part| text.push_str(part)).expect("it starts");

    let weir = &ways.through_weir;
    assert_eq!((weir.finished, weir.lost), (weir.jobs, 0), "{text}");
    assert_eq!(weir.refused_later, 0, "{text}");
    assert!(weir.keeps_the_promise());
    assert!(weir.errors.is_empty(), "a service saw an error: {text}");
    // The job larger than the limit gets its error with the first response, without retries.
    assert_eq!((weir.too_large.told, weir.too_large.attempts), (1, 1), "{text}");
    // The work exceeds the limits: without Weir the API refuses requests.
    assert!(ways.direct.refused_later > 0, "{text}");

    assert!(text.contains("its status page, as long as this runs: http://127.0.0.1:"), "{text}");
    assert!(!text.contains('\x1b'), "plain was asked for: {text}");
    assert!(text.lines().all(|line| line.starts_with("The picture") || line.chars().count() <= 80), "{text}");
    let svg = std::fs::read_to_string(svg).expect("the picture");
    assert!(svg.contains("through Weir") && svg.contains("API down"), "{svg}");

    replays_as_recorded(&log);
}

/// A replay of the log under the recorded limits is close to the recording, including the outage
/// and the faults.
fn replays_as_recorded(log: &std::path::Path) {
    let log = log.display().to_string();
    let replay = |options: &[&str]| {
        let words = ["what-if", &log].into_iter().chain(options.iter().copied());
        let args = whatif_args(words);
        whatif::run(&args, &mut |_| {}).expect("the log is readable")
    };
    let answer = replay(&["--requests-per-minute", "2400"]);
    let text = answer.text();
    let mean = |column: &str| answer.figures(column).expect("the column").all.wait_mean;
    let recorded = answer.figures("recorded").expect("the column");
    assert_eq!(
        (recorded.all.requests, recorded.all.too_large, recorded.callers.len()),
        (101, 1, 4),
        "{text}"
    );
    assert!(text.contains("1,200 requests/min, 480,000 tokens/min"), "{text}");
    // The time at which the end of the outage is detected is random: use the median of five seeds.
    let mut replayed: Vec<f64> = (1..=5).map(|seed| replayed_mean(&log, seed)).collect();
    replayed.sort_by(f64::total_cmp);
    assert!((replayed[2] / mean("recorded") - 1.0).abs() < 0.25, "{replayed:?}, {text}");
    assert!(mean("what if") < mean("replayed") * 0.8, "{text}");
    assert!(text.contains("would have helped"), "{text}");
    assert!(text.contains("Twice the limits"), "{text}");
    assert_eq!(replay(&["--requests-per-minute", "2400"]).text(), text, "equal logs give equal answers");
}

/// The mean wait of a replay under the recorded limits.
fn replayed_mean(log: &str, seed: u64) -> f64 {
    let args = whatif_args(["what-if", log, "--seed", &seed.to_string()]);
    let answer = whatif::run(&args, &mut |_| {}).expect("the log is readable");
    answer.figures("replayed").expect("the column").all.wait_mean
}

fn whatif_args<'a>(words: impl IntoIterator<Item = &'a str>) -> whatif::Args {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: whatif::Args,
    }
    <Line as clap::Parser>::try_parse_from(words).expect("they are its options").args
}
