//! The demo keeps its promises, on real sockets and in real time: a few seconds of its work.

use weir::demo::{self, Args};

#[test]
fn through_weir_every_job_finishes_and_the_api_refuses_nothing_after_the_first_second() {
    let mut text = String::new();
    let args = Args { seed: 7, quick: true, plain: true };
    let ways = demo::run(&args, true, &mut |part| text.push_str(part)).expect("it starts");

    let weir = &ways.through_weir;
    assert_eq!((weir.finished, weir.lost), (weir.jobs, 0), "{text}");
    assert_eq!(weir.refused_later, 0, "{text}");
    assert!(weir.keeps_the_promise());
    assert!(weir.errors.is_empty(), "a service saw an error: {text}");
    // The job that can never pass is told so by the first answer, not after the SDK's retries.
    assert_eq!((weir.too_large.told, weir.too_large.attempts), (1, 1), "{text}");
    // The work is more than the API takes: without Weir it refuses.
    assert!(ways.direct.refused_later > 0, "{text}");

    assert!(text.contains("its status page, as long as this runs: http://127.0.0.1:"), "{text}");
    assert!(!text.contains('\x1b'), "plain was asked for: {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
