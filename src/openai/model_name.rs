//! Renames the model in a request's body and in Azure's paths, and changes no other byte.

use bytes::Bytes;
use http::HeaderMap;

use super::json::Cursor;
use super::multipart;

/// A body with its model renamed; `None` if it does not name `model`, or can't be parsed, for
/// example because it is compressed.
pub fn rename(headers: &HeaderMap, body: &[u8], model: &str, name: &str) -> Option<Bytes> {
    if headers.contains_key(http::header::CONTENT_ENCODING) {
        return None;
    }
    let (places, quoted) = match multipart::boundary(headers) {
        Some(boundary) => (multipart::models(body, boundary), false),
        None => (models(body), true),
    };
    let mut renamed = Vec::with_capacity(body.len() + name.len());
    let mut at = 0;
    for value in places {
        let is_meant =
            if quoted { text(value).is_some_and(|text| text == model) } else { value == model.as_bytes() };
        if !is_meant {
            continue;
        }
        let start = value.as_ptr() as usize - body.as_ptr() as usize;
        renamed.extend_from_slice(&body[at..start]);
        if quoted {
            renamed.extend_from_slice(&[b"\"", name.as_bytes(), b"\""].concat());
        } else {
            renamed.extend_from_slice(name.as_bytes());
        }
        at = start + value.len();
    }
    if at == 0 {
        return None;
    }
    renamed.extend_from_slice(&body[at..]);
    Some(renamed.into())
}

/// An Azure path and query with its deployment renamed; `None` if `model` is not the deployment.
pub fn rename_deployment(path: &str, model: &str, name: &str) -> Option<String> {
    let (before, behind) = path.split_once("/deployments/")?;
    let rest = behind.strip_prefix(model).filter(|rest| rest.starts_with('/'))?;
    Some(format!("{before}/deployments/{name}{rest}"))
}

/// All values of `model` in a JSON object, with their quotes. The body may be truncated.
fn models(body: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut cursor = Cursor::new(body);
    if cursor.object().is_err() {
        return found;
    }
    while let Ok(Some(key)) = cursor.key() {
        let Ok(value) = cursor.raw_value() else { break };
        if &*key.key() == b"model" {
            found.push(value);
        }
    }
    found
}

/// The text of a JSON string.
fn text(value: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(value);
    let text = cursor.string().ok()?.text(super::request_peek::MAX_MODEL);
    Some(text.into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
    use proptest::prelude::*;

    use super::*;

    fn renamed(body: &str) -> Option<String> {
        let renamed = rename(&HeaderMap::new(), body.as_bytes(), "gpt-5", "prod")?;
        Some(String::from_utf8(renamed.to_vec()).unwrap())
    }

    #[test]
    fn only_the_model_is_another() {
        for (body, expected) in [
            (r#"{"model":"gpt-5","n":1}"#, Some(r#"{"model":"prod","n":1}"#)),
            (
                r#"{ "a" : {"model":"gpt-5"}, "model" : "gpt-5" }"#,
                Some(r#"{ "a" : {"model":"gpt-5"}, "model" : "prod" }"#),
            ),
            (r#"{"model":"gpt\u002d5"}"#, Some(r#"{"model":"prod"}"#)),
            (r#"{"model":"x","model":"gpt-5"}"#, Some(r#"{"model":"x","model":"prod"}"#)),
            (r#"{"model":"gpt-5","input":"cut he"#, Some(r#"{"model":"prod","input":"cut he"#)),
            (r#"{"model":"gpt-5-mini"}"#, None),
            (r#"{"input":"gpt-5"}"#, None),
            (r#"{"model":5}"#, None),
            ("gpt-5", None),
            ("", None),
        ] {
            assert_eq!(renamed(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_form_is_read_and_a_compressed_body_stays() {
        let body = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-5\r\n--b\r\n\
                    content-disposition: form-data; name=\"file\"; filename=\"gpt-5\"\r\n\r\ngpt-5\r\n--b--\r\n";
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=b"));
        let renamed = rename(&headers, body.as_bytes(), "gpt-5", "prod").expect("it names the model");
        assert_eq!(renamed, body.replacen("\r\n\r\ngpt-5", "\r\n\r\nprod", 1).as_bytes());
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(rename(&headers, body.as_bytes(), "gpt-5", "prod"), None);
    }

    #[test]
    fn the_deployment_of_a_path_is_another() {
        for (path, expected) in [
            (
                "/openai/deployments/gpt-5/chat/completions?api-version=1",
                Some("/openai/deployments/prod/chat/completions?api-version=1"),
            ),
            ("/openai/deployments/gpt-5-mini/chat/completions", None),
            ("/openai/deployments/gpt-5", None),
            ("/v1/chat/completions", None),
        ] {
            assert_eq!(rename_deployment(path, "gpt-5", "prod").as_deref(), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_changes(before in "[ a-z0-9]{0,20}", after in any::<Vec<u8>>(), model in "[a-z0-9-]{1,20}") {
            let mut body = format!(r#"{{"x":"{before}","model":"{model}","y":"#).into_bytes();
            let tail = after.clone();
            body.extend_from_slice(&tail);
            let expected = [format!(r#"{{"x":"{before}","model":"n","y":"#).as_bytes(), &tail].concat();
            // At this length, `model` can't occur in the rest by chance.
            let renamed = rename(&HeaderMap::new(), &body, &model, "n");
            prop_assert_eq!(renamed.as_deref(), Some(&expected[..]));
        }
    }
}
