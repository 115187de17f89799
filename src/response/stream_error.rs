//! An error as an event of a stream whose head was already sent.

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::{ERROR_CLASS, OwnAnswer};
use crate::classify::ErrorClass;
use crate::openai::Endpoint;

/// The error event for a response with this head and body, in the endpoint's format.
pub fn stream_error(endpoint: Endpoint, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let told = serde_json::from_slice::<Map<String, Value>>(body).ok();
    let told = told.and_then(|mut body| body.remove("error")).filter(Value::is_object);
    let error = told.unwrap_or_else(|| {
        let class = headers.get(ERROR_CLASS).and_then(|class| class.to_str().ok());
        let class = class.unwrap_or(ErrorClass::MalformedResponse.as_str());
        let message = if status.is_success() {
            "The upstream's response to a streaming request is not a stream.".to_owned()
        } else {
            format!("The upstream responded with {status}, in a format that is not the API's.")
        };
        json!({"message": message, "type": "weir_error", "param": null, "code": class})
    });
    event(endpoint, &error)
}

/// The event in place of a response that was lost to a bug in Weir.
pub fn panic_event(endpoint: Endpoint) -> Vec<u8> {
    let own = OwnAnswer::new(ErrorClass::WeirInternal, "A bug in Weir made this request fail.");
    event(endpoint, &json!({"message": own.message, "type": own.kind, "param": null, "code": own.code}))
}

/// Every SDK raises an exception for an `error` object in the data; the Responses API also names
/// the event.
fn event(endpoint: Endpoint, error: &Value) -> Vec<u8> {
    if endpoint == Endpoint::Responses {
        let data = json!({"type": "error", "sequence_number": 0, "error": error});
        return format!("event: error\ndata: {data}\n\n").into_bytes();
    }
    format!("data: {}\n\n", json!({ "error": error })).into_bytes()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn told(endpoint: Endpoint, status: u16, body: &str) -> (String, Value) {
        let headers = HeaderMap::from_iter([(ERROR_CLASS, HeaderValue::from_static("bad_gateway"))]);
        let status = StatusCode::from_u16(status).unwrap();
        let event = String::from_utf8(stream_error(endpoint, status, &headers, body.as_bytes())).unwrap();
        let (before, data) = event.split_once("data: ").unwrap();
        assert!(data.ends_with("\n\n") && !data.trim_end().contains('\n'), "{event}");
        (before.to_owned(), serde_json::from_str(data).unwrap())
    }

    #[test]
    fn an_answer_s_error_becomes_the_endpoint_s_event() {
        let body =
            "{\n  \"error\": {\"message\": \"two\\nlines\", \"type\": \"server_error\", \"code\": null}\n}";
        let error = json!({"message": "two\nlines", "type": "server_error", "code": null});
        assert_eq!(told(Endpoint::ChatCompletions, 500, body), (String::new(), json!({ "error": error })));
        let response = json!({"type": "error", "sequence_number": 0, "error": error});
        assert_eq!(told(Endpoint::Responses, 500, body), ("event: error\n".to_owned(), response));
    }

    #[test]
    fn what_is_no_error_of_the_api_becomes_one_of_weirs_own() {
        for (status, body) in [
            (502, "<html>\n</html>"),
            (502, ""),
            (502, "{\"error\": \"text\"}"),
            (200, "{\"id\": 1}"),
            (502, "[1]"),
        ] {
            let (_, data) = told(Endpoint::ChatCompletions, status, body);
            assert_eq!(data["error"]["type"], "weir_error", "{body}");
            assert_eq!(data["error"]["code"], "bad_gateway", "{body}");
        }
    }
}
