//! What a request will take from a scope's limits, before the upstream says what it took.

use crate::label::names;
use crate::openai::{Endpoint, RequestPeek};

/// What a request takes from a scope's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Requests: 1, or 0 for what no request limit counts.
    pub requests: u32,
    /// What is asked: estimates are off by endpoint.
    pub endpoint: Endpoint,
    /// Tokens, as the upstream is expected to charge them at admission.
    pub tokens: u64,
}

impl Default for Cost {
    /// Nothing.
    fn default() -> Self {
        Self { requests: 0, endpoint: Endpoint::Other, tokens: 0 }
    }
}

names! {
    /// How the output that a request may take is priced.
    #[derive(Default)]
    Pricing {
        /// What the recordings of each endpoint show, see [`Estimator::price`].
        #[default]
        Auto = "auto",
        /// The input alone.
        Input = "input",
        /// The input and all output that is allowed: Azure, and the API until February 2025.
        InputPlusMax = "input+max",
        /// The larger of the two: what the API's guide says.
        Max = "max",
    }
}

/// How requests are priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How output is priced.
    pub pricing: Pricing,
    /// Characters a token stands for: 4 is the limiter's own figure in every recording. At least 1.
    pub chars_per_token: u64,
    /// Tokens of one image in the input. A recorded call with one image and a line of text was
    /// charged 775, which is the 765 of an image of 1024 by 1024 in the API's price list, and the
    /// line.
    pub tokens_per_image: u64,
    /// Tokens of output allowed where a request names no maximum and the mode prices output: the
    /// limiter's own default was 16.
    pub default_max_tokens: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pricing: Pricing::Auto, chars_per_token: 4, tokens_per_image: 765, default_max_tokens: 16 }
    }
}

/// Prices requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimator {
    settings: Settings,
}

/// What no single request takes: the sums of a scope stay far below overflow.
const MAX_TOKENS: u64 = 1_000_000_000_000;

impl Estimator {
    /// An estimator with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Settings { chars_per_token: settings.chars_per_token.max(1), ..settings } }
    }

    /// The price of a request. Without a peek (no JSON, no body) it is one request.
    ///
    /// With `auto`, what recorded answers show by `limit - remaining`:
    /// - embeddings and moderations: a quarter of the characters; tokens given as such count one
    ///   each;
    /// - chat and completions since March 2025: the same, with 1 to 1.5 a message and 1 to 2 a
    ///   request; neither `max_tokens` nor tools. The guide still speaks of the larger of the two,
    ///   but pricing by it would cut the throughput of a caller that sets a generous `max_tokens`
    ///   many times over, while headers correct a price that is too low within one answer;
    /// - responses: the exact count of input tokens and 19, with 217 more where there are tools;
    ///   `max_output_tokens` does not count. A quarter of the bytes is close to the exact count in
    ///   every script, a quarter of the characters in Latin only.
    pub fn price(&self, endpoint: Endpoint, peek: Option<&RequestPeek>) -> Cost {
        let Some(peek) = peek else { return Cost { requests: 1, endpoint, tokens: 0 } };
        let input = self.input(endpoint, peek);
        let tokens = match self.settings.pricing {
            Pricing::Auto | Pricing::Input => input,
            Pricing::InputPlusMax => input.saturating_add(self.output(endpoint, peek)),
            Pricing::Max => input.max(self.output(endpoint, peek)),
        };
        Cost { requests: 1, endpoint, tokens: tokens.min(MAX_TOKENS) }
    }

    fn input(&self, endpoint: Endpoint, peek: &RequestPeek) -> u64 {
        let by =
            |amount: u64| amount.div_ceil(self.settings.chars_per_token).saturating_add(peek.token_array_len);
        let images = u64::from(peek.images).saturating_mul(self.settings.tokens_per_image);
        let messages = u64::from(peek.messages);
        if endpoint == Endpoint::ChatCompletions {
            by(peek.text_chars) + (messages * 3).div_ceil(2) + 2 + images
        } else if endpoint == Endpoint::Responses {
            let tools = if peek.has_tools { 217 } else { 0 };
            by(peek.text_bytes) + 19 + tools + images
        } else {
            // Files, audio and the like are limited by requests, images or minutes; where tokens
            // count too, it is the text.
            by(peek.text_chars)
        }
    }

    /// The output that a request may take at most; only these endpoints write text.
    fn output(&self, endpoint: Endpoint, peek: &RequestPeek) -> u64 {
        if !matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses) {
            return 0;
        }
        // Of several prompts in one request each gets its completions.
        let prompts = if endpoint == Endpoint::Completions { u64::from(peek.messages).max(1) } else { 1 };
        let answers = peek.completions().saturating_mul(prompts);
        peek.max_tokens.unwrap_or(self.settings.default_max_tokens).saturating_mul(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::request_peek::peek;

    fn price(pricing: Pricing, endpoint: Endpoint, json: &str) -> u64 {
        let peek = peek(json.as_bytes()).unwrap();
        let cost = Estimator::new(Settings { pricing, ..Settings::default() }).price(endpoint, Some(&peek));
        assert_eq!(cost.requests, 1);
        cost.tokens
    }

    #[test]
    fn prices_what_was_recorded() {
        // 7243 characters in one message, max_tokens 100: charged 1814.
        let chat = format!(
            r#"{{"max_tokens":100,"messages":[{{"role":"user","content":"{}"}}]}}"#,
            "x".repeat(7243)
        );
        let tokens = price(Pricing::Auto, Endpoint::ChatCompletions, &chat);
        assert!((1814..=1816).contains(&tokens), "{tokens}");
        // One image and a line of text: charged 775.
        let image = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"What is in this image?"},
            {"type":"image_url","image_url":{"url":"https://source.example/a"}}]}]}"#;
        let tokens = price(Pricing::Auto, Endpoint::ChatCompletions, image);
        assert!((773..=777).contains(&tokens), "{tokens}");
        let tools = r#"{"input":"12345678","tools":[{"type":"function"}]}"#;
        assert_eq!(price(Pricing::Auto, Endpoint::Responses, tools), 238);
        assert_eq!(price(Pricing::Auto, Endpoint::Embeddings, r#"{"input":[1,2,3]}"#), 3);
        assert_eq!(
            price(Pricing::Auto, Endpoint::Responses, r#"{"input":"12345678","max_output_tokens":1024}"#),
            21
        );
    }

    #[test]
    fn prices_output_where_told_to() {
        let json = r#"{"prompt":"12345678","max_tokens":10,"n":2,"best_of":3}"#;
        assert_eq!(price(Pricing::Input, Endpoint::Completions, json), 2);
        assert_eq!(price(Pricing::InputPlusMax, Endpoint::Completions, json), 32);
        assert_eq!(price(Pricing::Max, Endpoint::Completions, json), 30);
        assert_eq!(price(Pricing::Max, Endpoint::Embeddings, r#"{"input":"1234"}"#), 1);
        assert_eq!(price(Pricing::InputPlusMax, Endpoint::Completions, r#"{"prompt":"1234"}"#), 17);
        assert_eq!(
            price(Pricing::Max, Endpoint::Completions, r#"{"prompt":["1234","5678"],"max_tokens":9}"#),
            18
        );
    }

    #[test]
    fn absurd_requests_have_a_price_that_does_not_overflow() {
        let json = r#"{"max_tokens":18446744073709551615,"n":18446744073709551615,"messages":[]}"#;
        assert_eq!(price(Pricing::InputPlusMax, Endpoint::ChatCompletions, json), MAX_TOKENS);
        assert_eq!(
            Estimator::default().price(Endpoint::Files, None),
            Cost { requests: 1, endpoint: Endpoint::Files, tokens: 0 }
        );
        let zero = Estimator::new(Settings { chars_per_token: 0, ..Settings::default() });
        assert_eq!(zero.price(Endpoint::Embeddings, Some(&peek(br#"{"input":"ab"}"#).unwrap())).tokens, 2);
    }
}
