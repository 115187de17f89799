//! The limits in the headers of the samples.

use super::*;

/// For each sample that is not an error: limit, remaining and reset (ms) of requests and tokens.
pub(super) type Level = Option<(u64, u64, Option<u64>)>;

pub(super) const LEVELS: [(&str, Level, Level); 20] = [
    ("batch_line_expired", None, None),
    (
        "ok_hdr_00_openai_-v1-chat-completions_6ms_True",
        Some((10_000, 9999, Some(6))),
        Some((50_000_000, 49_999_985, Some(0))),
    ),
    (
        "ok_hdr_01_openai_-v1-chat-completions_6ms_False",
        Some((10_000, 9999, Some(6))),
        Some((30_000_000, 29_999_986, Some(0))),
    ),
    (
        "ok_hdr_02_openai_-v1-embeddings_6ms_False",
        Some((10_000, 9999, Some(6))),
        Some((10_000_000, 9_976_252, Some(142))),
    ),
    ("ok_hdr_03_responses_True_False", None, None),
    (
        "ok_hdr_05_openai_-v1-chat-completions_20m52.666s_True",
        Some((200, 197, Some(1_252_666))),
        Some((40_000, 39_974, Some(39))),
    ),
    ("ok_hdr_06_azure_plain_False_-", None, None),
    ("ok_hdr_07_azure_abuse_False_500", Some((120, 119, Some(500))), Some((120_000, 119_986, Some(7)))),
    ("ok_hdr_08_azure_plain_True_-", None, None),
    (
        "ok_hdr_10_openai_-v1-chat-completions_120ms_False",
        Some((500, 499, Some(120))),
        Some((200_000, 199_992, Some(2))),
    ),
    (
        "ok_hdr_11_responses_False_True",
        Some((30_000, 29_999, Some(2))),
        Some((150_000_000, 149_999_967, Some(0))),
    ),
    (
        "ok_hdr_13_openai_-v1-chat-completions_0s_False",
        Some((100_000, 99_998, Some(0))),
        Some((40_000, 39_977, Some(34))),
    ),
    (
        "ok_hdr_15_openai_-v1-chat-completions_8.64s_False",
        Some((10_000, 9999, Some(8640))),
        Some((200_000, 199_943, Some(16))),
    ),
    (
        "ok_hdr_16_openai_-v1-chat-completions_8.64s_True",
        Some((10_000, 9999, Some(8640))),
        Some((10_000, 9978, Some(132))),
    ),
    (
        "ok_hdr_17_openai_-v1-responses_8.64s_False",
        Some((10_000, 9999, Some(8640))),
        Some((200_000, 199_958, Some(12))),
    ),
    ("ok_hdr_18_azure_abuse_True_0", Some((2500, 2499, None)), Some((250_000, 249_988, None))),
    (
        "ok_hdr_19_openai_-v1-chat-completions_14m24s_False",
        Some((100, 98, Some(864_000))),
        Some((150_000, 149_977, Some(9))),
    ),
    ("ok_hdr_20_usage_based", Some((3000, 2999, Some(20))), Some((250_000, 249_979, Some(4)))),
    ("ok_hdr_doc_project_tokens", Some((60, 59, Some(1000))), Some((150_000, 149_984, Some(360_000)))),
    ("ok_hdr_azure_minus_one", None, None),
];

#[test]
fn every_sample_without_an_error_has_its_level() {
    for sample in samples() {
        let Some((_, requests, tokens)) = LEVELS.iter().find(|(id, ..)| *id == sample.id) else { continue };
        let parsed = limit_headers::parse(&sample.headers, || SystemTime::UNIX_EPOCH);
        let level = |unit: Unit| -> Level {
            let level = parsed.headers.of(unit, Part::Whole).find(|level| level.limit.is_some())?;
            let reset = level.reset.map(|reset| u64::try_from(reset.as_millis()).unwrap());
            Some((level.limit?, level.remaining?, reset))
        };
        assert_eq!(level(Unit::Requests), *requests, "{}", sample.id);
        assert_eq!(level(Unit::Tokens), *tokens, "{}", sample.id);
        assert_eq!(parsed.malformed, 0, "{}", sample.id);
    }
}

#[test]
fn a_projects_own_limit_is_told_apart() {
    let sample = samples().into_iter().find(|sample| sample.id == "ok_hdr_doc_project_tokens").unwrap();
    let levels: LimitHeaders = limit_headers::parse(&sample.headers, || SystemTime::UNIX_EPOCH).headers;
    let told = levels.of(Unit::Tokens, Part::Project).next().unwrap();
    assert_eq!(told.limit.unwrap() - told.remaining.unwrap(), 3000);
}
