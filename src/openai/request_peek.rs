//! What a request body says that pricing and retrying need, read in one pass over its bytes.

use super::json::{Cursor, Malformed, TextLength};

/// The longest model name that is kept, in bytes.
pub const MAX_MODEL: usize = 256;

/// What a request body says of its price and of what a repeat would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the body's own independent flags")]
pub struct RequestPeek {
    /// The model, at most [`MAX_MODEL`] bytes.
    pub model: Option<Box<str>>,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whether the answer is to be kept upstream, where the body says so.
    pub store: Option<bool>,
    /// Whether the work goes on without the client.
    pub background: bool,
    /// Whether the body names a conversation, which the answer is added to.
    pub conversation: bool,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`.
    pub max_tokens: Option<u64>,
    /// `n`, how many answers are asked for.
    pub n: Option<u64>,
    /// `best_of`, how many are computed to choose from.
    pub best_of: Option<u64>,
    /// Whether there are tools or functions.
    pub has_tools: bool,
    /// Whether there is a tool that acts on a third system (`mcp`) while the answer is made.
    pub has_remote_tools: bool,
    /// Messages, or items of the input or prompt.
    pub messages: u32,
    /// Characters of text in messages, input, prompt and instructions; an escape is one.
    pub text_chars: u64,
    /// The same text in bytes of UTF-8.
    pub text_bytes: u64,
    /// How many tokens the input or prompt consists of where it is given as tokens.
    pub token_array_len: u64,
    /// Images in the input.
    pub images: u32,
    /// The tier that the body asks for.
    pub service_tier: Option<ServiceTier>,
}

/// The processing tier that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceTier {
    /// The project's setting.
    Auto,
    /// Standard.
    Default,
    /// Cheap and slow, refused with 429 while capacity is short.
    Flex,
    /// Fast; shares the standard limits.
    Priority,
    /// One that the list does not know.
    Other,
}

/// What was read of a body that may have been cut short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// What the part that is there says.
    pub peek: RequestPeek,
    /// Whether the whole body was read: what a cut body does not say may still stand in the rest of
    /// it.
    pub whole: bool,
}

/// The bytes are not a JSON object, or end early: the request is priced as one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a JSON object")]
pub struct NotJson;

impl RequestPeek {
    /// How many answers the upstream computes for each prompt: at least 1.
    pub fn completions(&self) -> u64 {
        self.n.max(self.best_of).unwrap_or(1).max(1)
    }
}

/// Reads a request body in one pass: no tree, no recursion, no allocation but the model's name.
///
/// It reads what it needs and does not validate the rest: a body that passes here may still be
/// refused upstream. Of a key that comes twice the last counts, as it does upstream.
pub fn peek(body: &[u8]) -> Result<RequestPeek, NotJson> {
    let mut peek = RequestPeek::default();
    let mut cursor = Cursor::new(body);
    peek.root(&mut cursor).map_err(|Malformed| NotJson)?;
    // What follows the object would make it something else.
    if cursor.peek().is_some() { Err(NotJson) } else { Ok(peek) }
}

/// The same for a body that may have been cut short: what was read until then counts, the text of a
/// string that is cut too. Nothing for what does not begin as a JSON object.
pub fn scan(body: &[u8]) -> Option<Scanned> {
    let mut scanned = Scanned::default();
    let mut cursor = Cursor::new(body);
    if cursor.peek() != Some(b'{') {
        return None;
    }
    scanned.whole = scanned.peek.root(&mut cursor).is_ok() && cursor.peek().is_none();
    Some(scanned)
}

/// The names of the bound on an answer's tokens: each endpoint, and each of its ages, has its own.
const TOKEN_LIMITS: [&[u8]; 3] = [b"max_tokens", b"max_completion_tokens", b"max_output_tokens"];

impl RequestPeek {
    fn root(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match &*key.key() {
                b"model" => self.model = cursor.string_or_skip()?.map(|model| model.text(MAX_MODEL).into()),
                b"stream" => self.stream = cursor.truth_or_skip()?.unwrap_or(false),
                b"store" => self.store = cursor.truth_or_skip()?,
                b"background" => self.background = cursor.truth_or_skip()?.unwrap_or(false),
                b"conversation" => {
                    self.conversation = cursor.peek() != Some(b'n');
                    cursor.skip()?;
                }
                key if TOKEN_LIMITS.contains(&key) => {
                    self.max_tokens = self.max_tokens.max(cursor.whole_number_or_skip()?);
                }
                b"n" => self.n = cursor.whole_number_or_skip()?,
                b"best_of" => self.best_of = cursor.whole_number_or_skip()?,
                b"tools" | b"functions" => self.tools(cursor)?,
                b"messages" | b"input" | b"prompt" => self.input(cursor)?,
                b"instructions" => {
                    if let Some(text) = cursor.string_or_skip()? {
                        self.add(text.length());
                    }
                }
                b"service_tier" => {
                    self.service_tier = cursor.string_or_skip()?.map(|tier| ServiceTier::named(&tier.key()));
                }
                _ => cursor.skip()?,
            }
        }
        Ok(())
    }

    fn tools(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        if !cursor.eat(b'[') {
            return cursor.skip();
        }
        loop {
            cursor.eat(b',');
            match cursor.peek().ok_or(Malformed)? {
                b']' => {
                    cursor.bump();
                    return Ok(());
                }
                b'{' => self.tool(cursor)?,
                _ => cursor.skip()?,
            }
            self.has_tools = true;
        }
    }

    fn tool(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            if key.bytes == b"type" {
                self.has_remote_tools |= cursor.string_or_skip()?.is_some_and(|kind| kind.is("mcp"));
            } else {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    /// Counts text, tokens, items and images of messages, input or prompt.
    ///
    /// Text is what stands directly in the value, in arrays in it, or under a key that holds text
    /// wherever it is. Images, audio and files (megabytes of base64) stand under other keys and are
    /// skipped.
    fn input(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let mut nesting = Nesting::default();
        loop {
            match cursor.peek().ok_or(Malformed)? {
                b'"' => {
                    let Ok(text) = cursor.string() else {
                        if nesting.counts() {
                            self.add(cursor.cut_string().length());
                        }
                        return Err(Malformed);
                    };
                    // Only a key is followed by a colon.
                    if nesting.depth > 0 && cursor.eat(b':') {
                        nesting.set(holds_text(text.bytes));
                        self.images = self.images.saturating_add(u32::from(text.bytes == b"image_url"));
                        continue;
                    }
                    self.item(&nesting);
                    if nesting.counts() {
                        self.add(text.length());
                    }
                }
                b'{' | b'[' if nesting.is_full() => cursor.skip()?,
                b'{' => {
                    self.item(&nesting);
                    cursor.bump();
                    nesting.enter(false);
                    nesting.objects |= 1;
                    continue;
                }
                b'[' => {
                    self.item(&nesting);
                    cursor.bump();
                    nesting.enter(nesting.counts());
                    continue;
                }
                b'}' | b']' if nesting.depth > 0 => {
                    cursor.bump();
                    nesting.leave();
                }
                b',' if nesting.depth > 0 => {
                    cursor.bump();
                    nesting.next();
                    continue;
                }
                b'0'..=b'9' if nesting.depth > 0 && nesting.counts() => {
                    self.token_array_len += cursor.numbers();
                }
                _ => {
                    cursor.skip_scalar()?;
                    self.token_array_len += u64::from(nesting.depth > 0 && nesting.counts());
                }
            }
            if nesting.depth == 0 {
                return Ok(());
            }
        }
    }

    /// Counts what stands directly in the list: a message, an item, one of several prompts.
    fn item(&mut self, nesting: &Nesting) {
        self.messages = self.messages.saturating_add(u32::from(nesting.depth == 1));
    }

    fn add(&mut self, text: TextLength) {
        self.text_chars += text.chars;
        self.text_bytes += text.bytes;
    }
}

/// Whether text stands under a key of a message or an input item; anything else is a name, an
/// identifier or data.
fn holds_text(key: &[u8]) -> bool {
    matches!(key, b"content" | b"text" | b"arguments" | b"output" | b"input" | b"refusal")
}

/// For each level of brackets, whether the strings directly in it are text; a stack of bits.
#[derive(Default)]
struct Nesting {
    depth: u32,
    /// The innermost level is the lowest bit; level 0, the value itself, is text.
    text: u64,
    /// Which levels are objects, in the same order.
    objects: u64,
}

impl Nesting {
    fn is_full(&self) -> bool {
        self.depth == u64::BITS
    }

    fn counts(&self) -> bool {
        self.depth == 0 || self.text & 1 == 1
    }

    fn set(&mut self, text: bool) {
        self.text = self.text & !1 | u64::from(text);
    }

    /// Behind a comma: in an object a key follows, which is no text.
    fn next(&mut self) {
        self.text &= !(self.objects & 1);
    }

    fn enter(&mut self, text: bool) {
        self.text = self.text << 1 | u64::from(text);
        self.objects <<= 1;
        self.depth += 1;
    }

    fn leave(&mut self) {
        self.text >>= 1;
        self.objects >>= 1;
        self.depth -= 1;
    }
}

impl ServiceTier {
    fn named(name: &[u8]) -> Self {
        match name {
            b"auto" => Self::Auto,
            b"default" => Self::Default,
            b"flex" => Self::Flex,
            b"priority" => Self::Priority,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            (cut.peek.model.as_deref(), cut.peek.store, cut.peek.text_chars),
            (Some("m"), Some(true), 6)
        );
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
        assert_eq!(
            (peeked(r#"{"input":"hello"}"#).text_chars, peeked(r#"{"input":"hello"}"#).messages),
            (5, 0)
        );
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

    /// Any JSON value, its keys often those that hold text.
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

    /// What `input` counts, told by recursion over a tree.
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
        /// However a body is cut, what is read of it is no more than what stands in the whole, and
        /// a whole one is read whole.
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
}
