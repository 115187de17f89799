//! Explains an error from the available input: a class, a code, a status, or a pasted message.

use std::time::SystemTime;

use http::StatusCode;

use super::nearest::nearest;
use super::{Entry, NEWER_GUIDE, entries, entry, find, knows, of_exception, of_status};
use crate::classify::{Classified, ErrorClass, of_body, status_of};
use crate::openai::{BodyForm, Endpoint, ErrorBody, duration};
use crate::wrap::wrapped;

/// The most bytes of input that are parsed: much more than an error body.
pub const MAX_INPUT: usize = 64 << 10;
/// The most columns of the printed text.
const WIDTH: usize = 100;

/// The input is unknown; the message lists the accepted kinds and the nearest names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unknown {
    message: String,
}

/// Explains an error class, a code of the API or of Weir, a status, an SDK's exception, or a pasted
/// error body or SDK message.
///
/// # Errors
/// [`Unknown`], with the nearest names, for any other input.
pub fn explain(input: &str) -> Result<String, Unknown> {
    let input = crate::openai::json::cut(input, MAX_INPUT).trim();
    if input.is_empty() {
        return Err(unknown(input));
    }
    if let Some(found) = by_name(input) {
        return Ok(list(&found));
    }
    if let Some(classified) = by_message(input) {
        return Ok(of_message(&classified));
    }
    Err(unknown(input))
}

/// Finds a single word: class, code, status, exception.
fn by_name(input: &str) -> Option<Vec<&'static Entry>> {
    if input.contains(char::is_whitespace) {
        return None;
    }
    let name = input.to_ascii_lowercase().replace('-', "_");
    let class = ErrorClass::named(&name).or_else(|| ErrorClass::named(&format!("weir_{name}")));
    let of_class: Vec<&Entry> = entries().filter(|entry| Some(entry.class) == class).collect();
    [of_class, find(input), input.parse().map(of_status).unwrap_or_default(), of_exception(input)]
        .into_iter()
        .find(|found| !found.is_empty())
}

/// Classifies a pasted body or message.
fn by_message(input: &str) -> Option<Classified> {
    let status = status_in(input);
    let mut body = body_in(input);
    // The status of an HTML page is in its title.
    let status = status.or_else(|| status_in(body.message.as_deref()?)).or_else(|| status_of(&body));
    if let Some(status) = status {
        return Some(of_body(Endpoint::Other, status, body, SystemTime::UNIX_EPOCH));
    }
    // Without a status: the first likely one for which the message gives a more specific class than
    // the status alone.
    body.form = BodyForm::Text;
    LIKELY.into_iter().find_map(|status| {
        let classified = of_body(Endpoint::Other, status, body.clone(), SystemTime::UNIX_EPOCH);
        let bare = of_body(Endpoint::Other, status, ErrorBody::default(), SystemTime::UNIX_EPOCH);
        (classified.class != bare.class).then_some(classified)
    })
}

/// Statuses with known messages, the most specific first.
const LIKELY: [StatusCode; 6] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::BAD_REQUEST,
    StatusCode::NOT_FOUND,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// The status in a message: "Error code: 429 - ...", "429 You exceeded ...", "HTTP/1.1 502 Bad
/// Gateway".
fn status_in(text: &str) -> Option<StatusCode> {
    let status = |text: &str| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u16 = text[..digits].parse().ok()?;
        (400..600).contains(&number).then(|| StatusCode::from_u16(number).ok()).flatten()
    };
    if let Some(leading) = status(text) {
        return Some(leading);
    }
    let lower = text.to_ascii_lowercase();
    [
        "error code: ",
        "error code ",
        "http/1.1 ",
        "http/1.0 ",
        "http/2 ",
        "status: ",
        "status code: ",
        "status code ",
        "status_code=",
        "| ",
    ]
    .iter()
    .find_map(|lead| status(&lower[lower.find(lead)? + lead.len()..]))
}

/// The body in a message: its JSON, Python's notation of it, or the text itself.
fn body_in(input: &str) -> ErrorBody {
    let Some(start) = input.find('{') else {
        let words = input.split_once(" - ").map_or(input, |(_, words)| words);
        return ErrorBody::parse(words.as_bytes());
    };
    let object = &input[start..];
    let body = ErrorBody::parse(object.as_bytes());
    if body.message.is_some() || body.code.is_some() || body.kind.is_some() {
        return body;
    }
    ErrorBody::parse(json_of_python(object).as_bytes())
}

/// A dictionary in Python's notation as JSON: both kinds of quotes, `None`, `True`, `False`.
fn json_of_python(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    let mut letters = text.chars();
    let mut quote = None;
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '\'' | '"') => {
                quote = Some(letter);
                json.push('"');
            }
            (Some(open), _) if letter == open => {
                quote = None;
                json.push('"');
            }
            (Some(_), '"') => json.push_str("\\\""),
            (Some(_), '\\') => match letters.next() {
                Some('\'') => json.push('\''),
                Some(escaped) => json.extend(['\\', escaped]),
                None => {}
            },
            _ => json.push(letter),
        }
    }
    // Outside of strings there are no other words; inside them the change does no harm.
    json.replace(": None", ": null").replace(": True", ": true").replace(": False", ": false")
}

/// The explanation of a message, with the details in it.
fn of_message(classified: &Classified) -> String {
    let entry = entry(classified.class, Some(classified.status));
    let mut text = render(entry, Some(classified.status));
    if let Some(masked) = classified.body.masked() {
        field(&mut text, "message", &masked);
    }
    if let Some(code) = classified.body.code.as_deref().filter(|code| !knows(code)) {
        field(&mut text, "code", &format!("{code} is not in this catalog: {NEWER_GUIDE}."));
    }
    if let Some(refusal) = classified.refusal {
        let numbers = [("limit", refusal.limit), ("used", refusal.used), ("requested", refusal.requested)];
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some(format!("{name} {}", number?)));
        let level: Vec<String> =
            std::iter::once(refusal.dimension.as_str().replace('_', " ")).chain(numbers).collect();
        field(&mut text, "level", &level.join(", "));
    }
    if let Some(hint) = classified.hint {
        field(&mut text, "wait", &duration::format(hint));
    }
    text
}

fn list(found: &[&Entry]) -> String {
    found.iter().map(|entry| render(entry, None)).collect::<Vec<_>>().join("\n")
}

fn render(entry: &Entry, status: Option<StatusCode>) -> String {
    let statuses = match status {
        Some(status) => status.as_u16().to_string(),
        None => entry.statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut text = entry.class.as_str().to_owned();
    if !statuses.is_empty() {
        text = format!("{text} ({statuses})");
    }
    text.push('\n');
    field(&mut text, "cause", &entry.cause);
    field(&mut text, "solution", &entry.solution);
    field(&mut text, "Weir", &entry.weir_does);
    field(&mut text, "SDK", &exceptions(entry, status));
    if !entry.api_codes.is_empty() {
        field(&mut text, "codes", &entry.api_codes.join(", "));
    }
    field(&mut text, "runbook", &format!("{} See {}.", entry.runbook, entry.anchor()));
    text
}

/// The exceptions for the entry's statuses, without duplicates.
fn exceptions(entry: &Entry, status: Option<StatusCode>) -> String {
    if status.is_some() || entry.statuses.is_empty() {
        return entry.sdk_exception(status).to_owned();
    }
    let mut raised: Vec<&str> = Vec::new();
    for status in &entry.statuses {
        let exception = entry.sdk_exception(StatusCode::from_u16(*status).ok());
        if !raised.contains(&exception) {
            raised.push(exception);
        }
    }
    raised.join(", ")
}

/// A label and its text, wrapped to [`WIDTH`] columns.
fn field(text: &mut String, label: &str, value: &str) {
    let indent = " ".repeat(12);
    let lines = wrapped(value, WIDTH, &indent);
    text.extend([&format!("  {label:<10}"), &lines[indent.len()..], "\n"]);
}

fn unknown(input: &str) -> Unknown {
    let names = || {
        entries().flat_map(|entry| {
            std::iter::once(entry.class.as_str()).chain(entry.api_codes.iter().map(String::as_str))
        })
    };
    let near = if input.contains(char::is_whitespace) { Vec::new() } else { nearest(input, names(), 5) };
    let mut message = if input.is_empty() {
        "Nothing to explain.".to_owned()
    } else {
        format!("Nothing is known of {:?}.", crate::openai::json::cut(input, 80))
    };
    if !near.is_empty() {
        message = format!("{message} Did you mean {}?", near.join(", "));
    }
    if !input.is_empty() && input.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
        message = format!("{message} If it is a code of the API, {NEWER_GUIDE}.");
    }
    message.push_str(
        "\nWhat is known: an error class (rate_limit_tokens), a code (insufficient_quota), a status (429), an exception \
         (RateLimitError), or a pasted error body or SDK message.",
    );
    Unknown { message }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first_line(input: &str) -> String {
        explain(input).unwrap().lines().next().unwrap().to_owned()
    }

    #[test]
    fn explains_every_class_and_code() {
        for entry in entries() {
            assert!(first_line(entry.class.as_str()).starts_with(entry.class.as_str()));
            for code in &entry.api_codes {
                assert!(explain(code).is_ok(), "{code}");
            }
        }
        assert_eq!(first_line("insufficient_quota"), "quota_insufficient (429, 402, 403, 400)");
        assert_eq!(first_line("queue-full"), "weir_queue_full (429)");
        assert_eq!(first_line("Rate_Limit_Tokens"), "rate_limit_tokens (429)");
    }

    #[test]
    fn explains_statuses_and_exceptions() {
        assert_eq!(first_line("403"), "permission_denied (403)");
        let all = explain("RateLimitError").unwrap();
        assert!(
            all.contains("quota_insufficient")
                && all.contains("rate_limit_tokens")
                && !all.contains("bad_request")
        );
    }

    #[test]
    fn explains_what_was_pasted() {
        for (input, expected) in [
            (
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                "quota_insufficient (429)",
            ),
            (
                "openai.RateLimitError: Error code: 429 - {'error': {'message': \"You exceeded 'it'\", 'type': 'insufficient_quota', \
                 'param': None, 'code': 'insufficient_quota'}}",
                "quota_insufficient (429)",
            ),
            (
                "Error code: 429 - Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29937, \
                 Requested 385. Please try again in 644ms.",
                "rate_limit_tokens (429)",
            ),
            ("429 You are sending too much", "rate_limit_other (429)"),
            (
                "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 31538.",
                "request_exceeds_limit (429)",
            ),
            ("Incorrect API key provided: sk-abc. You can find", "authentication_incorrect_key (401)"),
            ("Country, region, or territory not supported", "region_unsupported (403)"),
            ("This model's maximum context length is 8192 tokens.", "context_length_exceeded (400)"),
            ("<html><head><title>502 Bad Gateway</title></head></html>", "bad_gateway (502)"),
            ("api.openai.com | 520: Web server is returning an unknown error", "bad_gateway (520)"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\nno healthy upstream", "bad_gateway (503)"),
            ("That model is currently overloaded with other requests.", "overloaded (503)"),
            (r#"{"error":{"message":"m","code":"slow_down"}}"#, "slow_down (429)"),
        ] {
            assert_eq!(first_line(input), expected, "{input}");
        }
    }

    #[test]
    fn says_what_the_message_says_and_masks_it() {
        let text = explain("Error code: 429 - Rate limit reached for 'secret' on tokens per min (TPM): Limit 30000, Used 29937, \
             Requested 385. Please try again in 644ms.").unwrap();
        assert!(text.contains("tokens per minute, limit 30000, used 29937, requested 385"), "{text}");
        assert!(text.contains("wait      644ms") && !text.contains("secret"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn what_is_unknown_is_told_with_what_is_near() {
        let unknown = explain("insuficient_quota").unwrap_err().to_string();
        assert!(unknown.contains("insufficient_quota") && unknown.contains(NEWER_GUIDE), "{unknown}");
        let newer = explain(r#"429 {"error":{"message":"m","code":"a_code_of_next_year"}}"#).unwrap();
        assert!(
            newer.contains("a_code_of_next_year is not in this catalog: the guide may be newer"),
            "{newer}"
        );
        for input in ["", "  ", "banana", "hello there", "{}", "299", "{\"a\":1}"] {
            assert!(explain(input).unwrap_err().to_string().contains("What is known"), "{input}");
        }
    }

    proptest! {
        #[test]
        fn any_input_is_answered(input in any::<String>(), inner in any::<String>()) {
            explain(&input).ok();
            explain(&format!("Error code: 429 - {{'error': {inner}")).ok();
        }
    }
}
