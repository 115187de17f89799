//! What every error means, in one place: the guide's cause and solution in our words, what Weir
//! does, what the SDK raises.
//!
//! `weir explain` prints it; the page, alerts and log use its words. There is one entry for each
//! class, and one more where the status makes a difference to the cause.

pub mod explain;
mod nearest;

use std::sync::LazyLock;

use http::StatusCode;
use serde::Deserialize;

use crate::classify::ErrorClass;

pub use explain::explain;

/// What a class of errors means: a table of `entries.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The class.
    pub class: ErrorClass,
    /// The statuses that a caller sees it with, of Weir's own where the upstream gave none; nothing
    /// where nobody is there to see one.
    pub statuses: Vec<u16>,
    /// The API's codes and types that lead to it.
    #[serde(default)]
    pub api_codes: Vec<String>,
    /// Why it happens.
    pub cause: String,
    /// What the people whose service it is can do.
    pub solution: String,
    /// What Weir does about it.
    pub weir_does: String,
    /// What the SDKs, python and node, raise while the stream is read; without it the exception of
    /// the status.
    in_stream: Option<String>,
    /// What the one on call does first.
    pub runbook: String,
}

#[derive(Deserialize)]
struct File {
    entries: Vec<Entry>,
}

static FILE: LazyLock<File> =
    LazyLock::new(|| toml::from_str(include_str!("entries.toml")).expect("it is valid, as a test shows"));

impl Entry {
    /// The exception that the SDKs raise when the error comes with this status, or with the usual
    /// one.
    pub fn sdk_exception(&self, status: Option<StatusCode>) -> &str {
        match (&self.in_stream, self.statuses.first()) {
            (Some(raised), _) => raised,
            (None, None) => "nothing: the client has left",
            (None, Some(usual)) => exception(status.map_or(*usual, |status| status.as_u16())),
        }
    }

    /// Where the runbook says more, such as `docs/runbook.md#bad_gateway`.
    pub fn anchor(&self) -> String {
        format!("docs/runbook.md#{}", self.class.as_str())
    }
}

/// Every entry, in the order of the classes.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    FILE.entries.iter()
}

/// The entry of a class, and of this status where the class has several.
pub fn entry(class: ErrorClass, status: Option<StatusCode>) -> &'static Entry {
    let of_class = || entries().filter(|entry| entry.class == class);
    of_class()
        .find(|entry| status.is_some_and(|status| entry.statuses.contains(&status.as_u16())))
        .or_else(|| of_class().next())
        // Every class has an entry, which a test holds; a panic would be a poor answer to a missing
        // one all the same: the last is that of `weir_internal`.
        .unwrap_or(&FILE.entries[FILE.entries.len() - 1])
}

/// The entries that a code or type of the API leads to.
pub fn find(code: &str) -> Vec<&'static Entry> {
    entries().filter(|entry| entry.api_codes.iter().any(|known| known.eq_ignore_ascii_case(code))).collect()
}

/// What is said of a code that no entry lists.
pub const NEWER_GUIDE: &str = "the guide may be newer than this Weir";

/// Whether a code of the API's or of Weir's stands in the catalog; statuses that stand where a code
/// should are known too.
pub fn knows(code: &str) -> bool {
    let is_number = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit());
    is_number || ErrorClass::named(code).is_some() || !find(code).is_empty()
}

/// The entries of a status.
pub fn of_status(status: u16) -> Vec<&'static Entry> {
    entries().filter(|entry| entry.statuses.contains(&status)).collect()
}

/// The entries of an SDK's exception, such as `RateLimitError`.
pub fn of_exception(name: &str) -> Vec<&'static Entry> {
    let raises = |entry: &&Entry| {
        entry.in_stream.is_none()
            && entry.statuses.iter().any(|status| exception(*status).eq_ignore_ascii_case(name))
    };
    entries().filter(raises).collect()
}

/// The exception that both SDKs raise for a status.
pub const fn exception(status: u16) -> &'static str {
    match status {
        400 => "BadRequestError",
        401 => "AuthenticationError",
        403 => "PermissionDeniedError",
        404 => "NotFoundError",
        409 => "ConflictError",
        422 => "UnprocessableEntityError",
        429 => "RateLimitError",
        500.. => "InternalServerError",
        _ => "APIStatusError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::of_body;
    use crate::openai::{Endpoint, ErrorBody};

    /// The class of each row of the guide, in the order of the fixture; the words stand for rows
    /// without a code.
    const GUIDE: [(ErrorClass, &str); 19] = [
        (ErrorClass::ServiceTierInvalid, "Invalid service_tier argument"),
        (ErrorClass::AuthenticationInvalid, "Invalid Authentication"),
        (ErrorClass::AuthenticationIncorrectKey, "Incorrect API key provided"),
        (ErrorClass::AuthenticationNoOrganization, "You must be a member of an organization to use the API"),
        (ErrorClass::AuthenticationIpDenied, "IP not authorized"),
        (ErrorClass::RegionUnsupported, ""),
        (ErrorClass::QuotaCredit, ""),
        (ErrorClass::RateLimitOther, "Rate limit reached"),
        (ErrorClass::SlowDown, ""),
        (ErrorClass::QuotaOrganizationSpend, ""),
        (ErrorClass::QuotaProjectSpend, ""),
        (ErrorClass::QuotaUsageLimit, ""),
        (ErrorClass::QuotaInsufficient, ""),
        (ErrorClass::InternalServerError, ""),
        (ErrorClass::Overloaded, ""),
        (ErrorClass::SlowDown, ""),
        (ErrorClass::WebsocketPreviousResponseNotFound, ""),
        (ErrorClass::WebsocketConnectionLimit, ""),
        (ErrorClass::WebsocketStreamLimit, ""),
    ];

    /// The guide's rows (fixture) against the classes, the catalog, `weir explain` and the runbook.
    #[test]
    fn every_row_of_the_guide_has_a_class_and_an_entry() {
        let fixture = include_str!("../../tests/fixtures/guide_rows.json");
        let runbook = include_str!("../../docs/runbook.md");
        let rows: Vec<serde_json::Value> = serde_json::from_str(fixture).unwrap();
        assert_eq!(rows.len(), GUIDE.len());
        for (row, (class, words)) in rows.iter().zip(GUIDE) {
            let status =
                StatusCode::from_u16(u16::try_from(row["status"].as_u64().unwrap()).unwrap()).unwrap();
            let kind = row["type"].as_str().filter(|kind| !kind.contains(' '));
            let error = serde_json::json!({
                "message": words, "type": kind, "param": row["param"], "code": row["code"],
            });
            let body = serde_json::json!({ "error": error }).to_string();
            let classified = of_body(
                Endpoint::Responses,
                status,
                ErrorBody::parse(body.as_bytes()),
                std::time::SystemTime::UNIX_EPOCH,
            );
            assert_eq!(classified.class, class, "{row}");
            let entry = entry(class, Some(status));
            assert!(entry.statuses.contains(&status.as_u16()), "{row}");
            assert!(runbook.contains(&format!("<a id=\"{}\">", class.as_str())), "{row}");
            if let Some(code) = row["code"].as_str() {
                assert!(find(code).iter().any(|found| found.class == class), "{row}");
                assert!(explain(code).unwrap().contains(class.as_str()), "{row}");
                assert!(knows(code));
            }
        }
    }

    #[test]
    fn a_code_that_is_not_listed_is_told_from_one_that_is() {
        for (code, known) in [
            ("slow_down", true),
            ("queue_full", true),
            ("weir_billing_block", true),
            ("429", true),
            ("a_code_of_next_year", false),
            ("", false),
        ] {
            assert_eq!(knows(code), known, "{code}");
        }
    }

    #[test]
    fn every_class_has_an_entry_in_order() {
        let mut classes: Vec<ErrorClass> = entries().map(|entry| entry.class).collect();
        assert!(classes.is_sorted());
        classes.dedup();
        assert_eq!(classes, ErrorClass::ALL);
    }

    #[test]
    fn every_entry_says_something() {
        for entry in entries() {
            for text in [&entry.cause, &entry.solution, &entry.weir_does, &entry.runbook] {
                assert!(text.len() > 20 && text.ends_with('.'), "{:?}: {text}", entry.class);
            }
        }
    }

    #[test]
    fn the_status_chooses_among_the_entries_of_a_class() {
        let entry_of = |class, status| entry(class, StatusCode::from_u16(status).ok());
        assert_ne!(entry_of(ErrorClass::ModelNotFound, 404), entry_of(ErrorClass::ModelNotFound, 403));
        assert_eq!(
            entry_of(ErrorClass::ModelNotFound, 400).sdk_exception(StatusCode::from_u16(400).ok()),
            "BadRequestError"
        );
        assert_eq!(entry_of(ErrorClass::BadGateway, 599).class, ErrorClass::BadGateway);
        for class in ErrorClass::ALL {
            assert_eq!(entry(class, None).class, class);
        }
    }
}
