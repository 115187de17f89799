//! The response to an unparsable request. hyper's own has no body, so SDKs would show no reason.

use bytes::Bytes;

use super::edge::{Refusal, Render};
use super::request_rules::Rule;

/// Weir's response in place of `written`, if `written` is hyper's own: a head with exactly these
/// three fields.
pub(super) fn answer(written: &[u8], render: Render) -> Option<Bytes> {
    let text = std::str::from_utf8(written).ok()?.strip_prefix("HTTP/1.1 ")?.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?;
    let fields = [lines.next()?, lines.next()?, lines.next()?];
    let [connection, length, date] = fields;
    let is_hypers = (connection, length) == ("connection: close", "content-length: 0")
        && date.starts_with("date: ")
        && lines.next().is_none();
    let refusal = match status.get(..3).filter(|_| is_hypers)? {
        "400" => Refusal::Hygiene(Rule::Unparsable),
        "431" => Refusal::Headers,
        _ => return None,
    };
    let own = render(refusal);
    let mut answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{date}\r\n").into_bytes();
    for (name, value) in own.headers() {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(own.body());
    Some(answer.into())
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn render(refusal: Refusal) -> Response<Bytes> {
        let text: String = format!("{refusal:?}").chars().take(7).collect();
        Response::builder().header("content-length", 7).body(text.into()).unwrap()
    }

    #[test]
    fn only_hypers_own_answers_get_a_body() {
        let hypers = |status: &str| {
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: today\r\n\r\n")
        };
        let told = |written: &str| answer(written.as_bytes(), render);
        let own =
            "HTTP/1.1 431 Too Large\r\nconnection: close\r\ndate: today\r\ncontent-length: 7\r\n\r\nHeaders";
        assert_eq!(told(&hypers("431 Too Large")).unwrap(), own);
        assert!(told(&hypers("400 Bad Request")).unwrap().ends_with(b"Hygiene"));
        for other in [
            hypers("414 URI Too Long"),
            hypers("400 Bad Request").replace("date", "x-weir-attempts: 1\r\ndate"),
            hypers("400 Bad Request").replace("length: 0", "length: 9"),
            format!("{}more", hypers("400 Bad Request")),
            "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(),
            String::new(),
        ] {
            assert_eq!(told(&other), None, "{other}");
        }
    }
}
