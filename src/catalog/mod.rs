//! The catalog of errors: cause, solution, Weir's reaction and the SDKs' exception for each class.
//!
//! `weir explain` prints it; the page, alerts and log use its text. There is one entry for each
//! class, and another one if the cause depends on the status.

pub mod explain;
mod nearest;

use std::sync::LazyLock;

use http::StatusCode;
use serde::Deserialize;

use crate::classify::ErrorClass;

pub use explain::explain;

/// The explanation of a class of errors: a table of `entries.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The class.
    pub class: ErrorClass,
    /// The statuses that a caller receives, including Weir's own; empty if the caller receives
    /// none.
    pub statuses: Vec<u16>,
    /// The API's codes and types of this class.
    #[serde(default)]
    pub api_codes: Vec<String>,
    /// The cause.
    pub cause: String,
    /// What the service's operators can do.
    pub solution: String,
    /// Weir's reaction.
    pub weir_does: String,
    /// The exception of the Python and Node SDKs while a stream is read; by default that of the
    /// status.
    in_stream: Option<String>,
    /// The first step for the person on call.
    pub runbook: String,
}

#[derive(Deserialize)]
struct File {
    entries: Vec<Entry>,
}

static FILE: LazyLock<File> =
    LazyLock::new(|| toml::from_str(include_str!("entries.toml")).expect("it is valid, as a test shows"));

impl Entry {
    /// The exception that the SDKs raise for the error with this status, or with the usual one.
    pub fn sdk_exception(&self, status: Option<StatusCode>) -> &str {
        match (&self.in_stream, self.statuses.first()) {
            (Some(raised), _) => raised,
            (None, None) => "nothing: the client has left",
            (None, Some(usual)) => exception(status.map_or(*usual, |status| status.as_u16())),
        }
    }

    /// The link to the runbook's section, such as `docs/runbook.md#bad_gateway`.
    pub fn anchor(&self) -> String {
        format!("docs/runbook.md#{}", self.class.as_str())
    }
}

/// Every entry, in the order of the classes.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    FILE.entries.iter()
}

/// The entry of a class, and of this status if the class has several.
pub fn entry(class: ErrorClass, status: Option<StatusCode>) -> &'static Entry {
    let of_class = || entries().filter(|entry| entry.class == class);
    of_class()
        .find(|entry| status.is_some_and(|status| entry.statuses.contains(&status.as_u16())))
        .or_else(|| of_class().next())
        // A test ensures that every class has an entry. The fallback avoids a panic: the last entry
        // is that of `weir_internal`.
        .unwrap_or(&FILE.entries[FILE.entries.len() - 1])
}

/// The entries for a code or type of the API.
pub fn find(code: &str) -> Vec<&'static Entry> {
    entries().filter(|entry| entry.api_codes.iter().any(|known| known.eq_ignore_ascii_case(code))).collect()
}

/// The note on a code that no entry lists.
pub const NEWER_GUIDE: &str = "the guide may be newer than this Weir";

/// Whether a code of the API or of Weir is in the catalog; so are statuses that servers send as a
/// code.
pub fn knows(code: &str) -> bool {
    let is_number = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit());
    is_number || ErrorClass::named(code).is_some() || !find(code).is_empty()
}

/// The entries of a status.
pub fn of_status(status: u16) -> Vec<&'static Entry> {
    entries().filter(|entry| entry.statuses.contains(&status)).collect()
}

/// The entries for an SDK's exception, such as `RateLimitError`.
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

    /// The class of each row of the guide, in the order of the fixture; text stands for rows
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

    /// Compares the guide's rows (fixture) with the classes, the catalog, `weir explain` and the
    /// runbook.
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
