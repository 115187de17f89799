//! The models in a body, parsed so strictly that no server can find another one in it.
//!
//! Pricing parses leniently and guesses; rights must not. Ambiguous or invalid input is an error
//! here. JSON is parsed strictly by `serde_json`; every model in it counts, so it does not matter
//! which of two the upstream would use.

mod form;

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, header};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::openai::multipart;

use form::in_form;

/// The most model names in one body.
const MOST_NAMES: usize = 64;

/// The models in a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Their names, in the order of the body.
    pub(super) all: Vec<String>,
    /// Whether one is the request's own model, and not only that of a nested object, such as a
    /// tool.
    pub(super) own: bool,
}

/// Why the models of a body can't be read.
pub(super) type Unread = &'static str;

/// The models in a body with these headers, without its content coding.
pub(super) fn names(headers: &HeaderMap, body: &[u8]) -> Result<Names, Unread> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (kind, more) = (types.next(), types.next());
    if more.is_some() {
        return Err("the request has two content types");
    }
    let kind = kind.map(|kind| kind.to_str().unwrap_or("?").to_ascii_lowercase()).unwrap_or_default();
    if kind.starts_with("multipart/") {
        let told = kind.matches("boundary").count() == 1 && !kind.contains('\\');
        let boundary = multipart::boundary(headers).filter(|_| told);
        return in_form(body, boundary.ok_or("the form's boundary is invalid")?);
    }
    let essence = kind.split(';').next().unwrap_or_default().trim_end();
    let charset = kind.split_once("charset=").map(|(_, charset)| charset.trim_matches(['"', ' ']));
    if !(essence.is_empty() || essence.ends_with("json")) || charset.is_some_and(|charset| charset != "utf-8")
    {
        return Err("the body is neither JSON in UTF-8 nor a form");
    }
    in_json(body)
}

/// The models of a JSON object.
pub(super) fn in_json(text: &[u8]) -> Result<Names, Unread> {
    const NO_JSON: Unread = "the body is not a single valid JSON object";
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(NO_JSON);
    }
    let mut names = Names::default();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Walk { names: &mut names, place: Place::Top }.deserialize(&mut reader);
    read.and_then(|()| reader.end()).map_err(|_| NO_JSON)?;
    if names.all.len() > MOST_NAMES { Err("the body names too many models") } else { Ok(names) }
}

/// The position of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The body, or the value of its `response` or `session`: a `model` in it is the request's own.
    Top,
    /// Deeper: a `model` in it that is text counts too (a tool's, a transcription's).
    Below,
    /// The value of a `model`.
    Model { own: bool },
    /// A list of fallback models: every text in it is one.
    List,
    /// The caller's data. Arrays and text in it name no model; objects are searched.
    Data,
}

/// Keys with the caller's own data, in which `model` can mean anything.
const DATA: [&str; 9] = [
    "messages",
    "metadata",
    "parameters",
    "schema",
    "json_schema",
    "item",
    "items",
    "properties",
    "arguments",
];
/// Keys of lists of models, used by servers with fallbacks.
const LISTS: [&str; 3] = ["models", "fallbacks", "fallback_models"];

struct Walk<'n> {
    names: &'n mut Names,
    place: Place,
}

impl Walk<'_> {
    fn text(self, text: &str) {
        let own = match self.place {
            Place::Model { own } => own,
            Place::List => false,
            Place::Top | Place::Below | Place::Data => return,
        };
        self.names.own |= own;
        if self.names.all.len() <= MOST_NAMES {
            self.names.all.push(text.to_owned());
        }
    }

    /// The position of the value of a key.
    fn under(&self, key: &str) -> Option<Place> {
        let top = self.place == Place::Top;
        if key.eq_ignore_ascii_case("model") {
            return Some(Place::Model { own: top });
        }
        if self.place == Place::List {
            return Some(Place::List);
        }
        if top && LISTS.iter().any(|list| key.eq_ignore_ascii_case(list)) {
            return Some(Place::List);
        }
        match key {
            "response" | "session" if top => Some(Place::Top),
            "input" => Some(Place::Data),
            key if DATA.contains(&key) => None,
            _ => Some(Place::Below),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // At the top a model must be text: servers could interpret other types differently.
        if self.place == (Place::Model { own: true }) {
            return Err(A::Error::custom("a model that is not a string"));
        }
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match self.under(&key.0) {
                Some(place) => map.next_value_seed(Walk { names: &mut *self.names, place })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let place = match self.place {
            Place::Model { own: true } => return Err(A::Error::custom("a model that is not a string")),
            Place::Data => {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(());
            }
            Place::Model { own: false } | Place::List => Place::List,
            Place::Top | Place::Below => Place::Below,
        };
        while list.next_element_seed(Walk { names: &mut *self.names, place })?.is_some() {}
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.no_text()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.no_text()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.no_text()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.no_text()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

impl Walk<'_> {
    fn no_text<E: serde::de::Error>(self) -> Result<(), E> {
        match self.place {
            Place::Model { own: true } | Place::List => Err(E::custom("a model that is not a string")),
            Place::Model { own: false } | Place::Top | Place::Below | Place::Data => Ok(()),
        }
    }
}

/// A key, borrowed if it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(json: &str) -> Result<(Vec<String>, bool), Unread> {
        in_json(json.as_bytes()).map(|names| (names.all, names.own))
    }

    #[test]
    fn every_model_counts_and_the_callers_data_does_not() {
        for (json, all, own) in [
            (r#"{"model":"a","messages":[{"model":"no"}],"metadata":{"model":"no"}}"#, vec!["a"], true),
            (r#"{"model":"a","model":"b"}"#, vec!["a", "b"], true),
            (r#"{"mod\u0065l":"\u0061","MODEL":"b"}"#, vec!["a", "b"], true),
            (r#"{"input":[{"model":"no"}],"model":"a"}"#, vec!["a"], true),
            (r#"{"tools":[{"type":"image_generation","model":"t"}],"input":"x"}"#, vec!["t"], false),
            (
                r#"{"tools":[{"function":{"parameters":{"properties":{"model":{"const":"no"}}}}}],"model":"a"}"#,
                vec!["a"],
                true,
            ),
            (r#"{"models":["a","b"],"fallbacks":[{"model":"c"},"d"]}"#, vec!["a", "b", "c", "d"], false),
            (
                r#"{"type":"session.update","session":{"model":"a","audio":{"input":{"transcription":{"model":"t"}}}}}"#,
                vec!["a", "t"],
                true,
            ),
            (r#"{"response":{"model":"a","input":[]}}"#, vec!["a"], true),
            (r#"{"model":null}"#, vec![], false),
            ("{}", vec![], false),
        ] {
            let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
            assert_eq!(of(json), Ok((all, own)), "{json}");
        }
    }

    #[test]
    fn what_is_read_in_two_ways_is_not_read() {
        for json in [
            "",
            "[]",
            r#"{"model":"a"} {"model":"b"}"#,
            r#"{"model":"a""#,
            r#"{"model":["a"]}"#,
            r#"{"model":{"id":"a"}}"#,
            r#"{"model":7}"#,
            r#"{"models":[7]}"#,
            "\u{feff}{\"model\":\"a\"}",
            r#"{"model":"a",}"#,
            r#"{model:"a"}"#,
            r#"{"model":"a"/**/}"#,
            r"{'model':'a'}",
            r#"{"model":"\ud800"}"#,
        ] {
            assert!(of(json).is_err(), "{json}");
        }
        assert!(in_json(b"{\"model\":\"\xff\"}").is_err());
        let many = format!(r#"{{"models":[{}"x"]}}"#, r#""x","#.repeat(MOST_NAMES));
        assert!(of(&many).is_err());
    }

    #[test]
    fn only_json_and_forms_are_read() {
        for (kind, readable) in [
            (None, true),
            (Some("application/json"), true),
            (Some("application/json; charset=UTF-8"), true),
            (Some("application/json; charset=utf-16"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("application/sdp"), false),
            (Some("multipart/form-data; boundary=a; boundary=b"), false),
            (Some("multipart/mixed; boundary=a"), false),
        ] {
            let headers = kind.map(|kind| (header::CONTENT_TYPE, http::HeaderValue::from_static(kind)));
            let headers: HeaderMap = headers.into_iter().collect();
            assert_eq!(names(&headers, b"{\"model\":\"a\"}").is_ok(), readable, "{kind:?}");
        }
    }

    proptest! {
        /// Every model that a tolerant parser finds, the strict one has found too.
        #[test]
        fn no_model_is_overlooked(keys in proptest::collection::vec("model|Model|input|x|tools", 1..6), name in "[a-c]") {
            let fields: Vec<String> = keys.iter().map(|key| format!("\"{key}\":\"{name}\"")).collect();
            let json = format!("{{{}}}", fields.join(","));
            let tolerant = crate::openai::request_peek::peek(json.as_bytes()).unwrap().model;
            let strict = in_json(json.as_bytes()).unwrap();
            prop_assert!(tolerant.is_none_or(|model| strict.own && strict.all.contains(&model.into_string())));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), text in "(--b|\r\n|[a-z=;:\" {}-]){0,60}") {
            for body in [&bytes[..], text.as_bytes()] {
                let _names = (in_json(body).is_ok(), in_form(body, "b").is_ok());
            }
        }
    }
}
