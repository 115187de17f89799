//! Bodies of real clients, truncated bodies, and hostile ones.

use proptest::prelude::*;

use super::*;

fn peeked(json: &str) -> RequestPeek {
    peek(json.as_bytes()).unwrap()
}

#[test]
fn of_a_body_cut_short_what_was_read_counts() {
    let json = r#"{"model":"m","store":true,"messages":[{"role":"user","content":"0123456789"}],"n":3}"#;
    let whole = scan(json.as_bytes()).unwrap();
    assert!(whole.whole);
    assert_eq!(whole.peek, peeked(json));
    let cut = scan(&json.as_bytes()[..json.find("6789").unwrap()]).unwrap();
    assert!(!cut.whole);
    assert_eq!((cut.peek.model.as_deref(), cut.peek.store, cut.peek.text_chars), (Some("m"), Some(true), 6));
    for body in ["", "[1]", "\u{28}\u{b5}/", "<html>", "\"{\""] {
        assert_eq!(scan(body.as_bytes()), None, "{body}");
    }
    assert_eq!(scan(b"{} x").map(|scanned| scanned.whole), Some(false), "more than one value");
}

#[test]
fn reads_a_chat_request() {
    let json = r#"{"model":"gpt-4o","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[
            {"type":"text","text":"What is\nthis? 中"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAAAAAAAAAA","detail":"low"}}]},
            {"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}],
            "stream":true,"max_tokens":50,"max_completion_tokens":100,"n":2,"store":true,"service_tier":"flex",
            "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"mcp"}}}]}"#;
    let text = "Be brief.What is\nthis? 中{\"a\":1}";
    assert_eq!(
        peeked(json),
        RequestPeek {
            model: Some("gpt-4o".into()),
            stream: true,
            store: Some(true),
            max_tokens: Some(100),
            n: Some(2),
            has_tools: true,
            messages: 3,
            text_chars: text.chars().count() as u64,
            text_bytes: text.len() as u64,
            images: 1,
            service_tier: Some(ServiceTier::Flex),
            ..RequestPeek::default()
        }
    );
}

#[test]
fn reads_a_responses_request() {
    let peek = peeked(
        r#"{"model":"o4-mini","instructions":"Sum up","input":[{"role":"user","content":[{"type":"input_text","text":"abc"},
            {"type":"input_image","image_url":"data:image/png;base64,AAAA"}]},
            {"type":"function_call_output","call_id":"c","output":"12"}],"store":false,"background":null,
            "conversation":{"id":"conv_1"},"max_output_tokens":1024,"tools":[{"server_url":"u","type":"mcp"}]}"#,
    );
    assert_eq!((peek.text_chars, peek.messages, peek.images), (11, 2, 1));
    assert_eq!((peek.store, peek.background, peek.conversation), (Some(false), false, true));
    assert_eq!((peek.max_tokens, peek.has_tools, peek.has_remote_tools), (Some(1024), true, true));
    assert_eq!((peeked(r#"{"input":"hello"}"#).text_chars, peeked(r#"{"input":"hello"}"#).messages), (5, 0));
    assert!(!peeked(r#"{"conversation":null}"#).conversation);
}

#[test]
fn counts_tokens_and_texts_of_embeddings_and_prompts() {
    assert_eq!(peeked(r#"{"input":["ab","cd"]}"#).text_chars, 4);
    assert_eq!(peeked(r#"{"input":["ab","cd"]}"#).messages, 2);
    assert_eq!(peeked(r#"{"input":[1,2,3]}"#).token_array_len, 3);
    assert_eq!(peeked(r#"{"prompt":[[1,2],[3]]}"#).token_array_len, 3);
    assert_eq!(peeked(r#"{"prompt":[[1,2],[3]]}"#).messages, 2);
    assert_eq!(peeked(r#"{"prompt":{"id":"pmpt_1","variables":{"x":"y","n":5}}}"#).text_chars, 0);
    assert_eq!(peeked(r#"{"prompt":{"id":"pmpt_1","variables":{"x":"y","n":5}}}"#).token_array_len, 0);
    assert_eq!(peeked(r#"{"best_of":3,"n":2}"#).completions(), 3);
    assert_eq!(peeked("{}").completions(), 1);
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts() {
    assert_eq!(peeked(r#"{"store":false,"st\u006fre":true}"#).store, Some(true));
    assert_eq!(&*peeked(r#"{"model":"a","model":"b"}"#).model.unwrap(), "b");
}

#[test]
fn odd_values_are_left_out() {
    let peek = peeked(
        r#"{"model":5,"stream":"yes","n":-1,"max_tokens":"many","store":null,"tools":null,"messages":null}"#,
    );
    assert_eq!(peek, RequestPeek::default());
    assert_eq!(peeked(r#"{"max_tokens":1e99}"#).max_tokens, None);
    let long = format!(r#"{{"model":"{}"}}"#, "é".repeat(1000));
    assert_eq!(peeked(&long).model.unwrap().len(), MAX_MODEL);
}

#[test]
fn what_is_no_json_object_is_told() {
    for body in [
        "",
        " ",
        "[]",
        "5",
        "null",
        "model=gpt",
        r#"{"model":"a""#,
        r#"{"model"}"#,
        r#"{"messages":["#,
        "{}x",
        "{,,}",
    ] {
        assert_eq!(peek(body.as_bytes()), Err(NotJson), "{body}");
    }
}

#[test]
fn depth_costs_nothing() {
    for (open, close) in [("[", "]"), (r#"{"content":"#, "}")] {
        let deep = format!(r#"{{"messages":{}"x"{}}}"#, open.repeat(100_000), close.repeat(100_000));
        assert_eq!(peeked(&deep).text_chars, 0);
        let near = format!(r#"{{"messages":{}"x"{}}}"#, open.repeat(60), close.repeat(60));
        assert_eq!(peeked(&near).text_chars, 1);
    }
}

/// Any JSON value, often with keys that contain text.
fn json_tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<String>().prop_map(serde_json::Value::from),
        any::<u32>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "content",
            "text",
            "arguments",
            "output",
            "input",
            "refusal",
            "image_url",
            "type",
            "role"
        ])
        .prop_map(str::to_owned),
        "[a-z\"\\\\]{0,6}",
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The counts of `input`, computed by recursion over a tree.
fn count(value: &serde_json::Value, text: bool, depth: usize, peek: &mut RequestPeek) {
    use serde_json::Value;
    match value {
        Value::String(string) if text => {
            peek.text_chars += string.chars().count() as u64;
            peek.text_bytes += string.len() as u64;
        }
        Value::String(_) => {}
        Value::Number(_) | Value::Bool(_) | Value::Null => {
            peek.token_array_len += u64::from(text && depth > 0);
        }
        Value::Array(items) => {
            if depth == 0 {
                let counted = |item: &&Value| item.is_object() || item.is_array() || item.is_string();
                peek.messages += u32::try_from(items.iter().filter(counted).count()).unwrap();
            }
            for item in items {
                count(item, text, depth + 1, peek);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                if depth == 0 {
                    let counted = member.is_object() || member.is_array() || member.is_string();
                    peek.messages += u32::from(counted);
                }
                peek.images += u32::from(key == "image_url");
                count(member, holds_text(key.as_bytes()), depth + 1, peek);
            }
        }
    }
}

proptest! {
    /// A truncated body never counts more than the whole one, and a whole body is scanned
    /// completely.
    #[test]
    fn a_cut_body_says_no_more_than_the_whole(
        model in "[a-z]{1,9}", text in "[a-z\"\\\\ 中]{0,40}", model_last in any::<bool>(), at in 0.0..1.0_f64,
    ) {
        let messages = serde_json::json!([{"role": "user", "content": text}]);
        let (model_json, messages) = (serde_json::json!(model).to_string(), messages.to_string());
        let json = if model_last {
            format!(r#"{{"messages":{messages},"store":true,"model":{model_json}}}"#)
        } else {
            format!(r#"{{"model":{model_json},"store":true,"messages":{messages}}}"#)
        };
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        let whole = scan(json.as_bytes()).unwrap();
        prop_assert!(whole.whole);
        prop_assert_eq!(whole.peek.model.as_deref(), parsed["model"].as_str());
        prop_assert_eq!(whole.peek.text_chars, text.chars().count() as u64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the text")]
        let cut = &json.as_bytes()[..(json.len() as f64 * at) as usize];
        if let Some(cut) = scan(cut) {
            prop_assert!(!cut.whole);
            prop_assert!(cut.peek.model.is_none() || cut.peek.model == whole.peek.model);
            prop_assert!(cut.peek.text_chars <= whole.peek.text_chars + 3, "an escape that is cut counts by its bytes");
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), text in r#"[\[\]{}":,\\a-c0-9 ]{0,200}"#) {
        peek(&bytes).ok();
        for lead in ["", "{\"messages\":", "{\"tools\":", "{\"input\":[\""] {
            let mut json = lead.as_bytes().to_vec();
            json.extend_from_slice(text.as_bytes());
            peek(&json).ok();
        }
    }

    #[test]
    fn agrees_with_a_tree(input in json_tree()) {
        let value = serde_json::json!({"model": "m", "input": input, "n": 2});
        let json = serde_json::to_string(&value).unwrap();
        let mut expected = RequestPeek { model: Some("m".into()), n: Some(2), ..RequestPeek::default() };
        count(&value["input"], true, 0, &mut expected);
        prop_assert_eq!(peeked(&json), expected, "{}", json);
    }

    #[test]
    fn text_is_counted_in_characters(texts in prop::collection::vec(any::<String>(), 0..5), pretty in any::<bool>()) {
        let value = serde_json::json!({"messages": texts.iter().map(|text| serde_json::json!({"role": "user", "content": text}))
            .collect::<Vec<_>>(), "model": "m"});
        let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let peek = peeked(&json);
        prop_assert_eq!(peek.text_chars, texts.iter().map(|text| text.chars().count() as u64).sum::<u64>());
        prop_assert_eq!(peek.text_bytes, texts.iter().map(|text| text.len() as u64).sum::<u64>());
        prop_assert_eq!(peek.messages as usize, texts.len());
    }
}
