//! `weir prices`: recording rules for Prometheus from the operator's list of prices.
//!
//! Weir counts tokens but has no prices: they change, and each company has its own. The rules
//! multiply both, so that a dashboard can show costs by caller and model.

use std::fmt::Write as _;

use serde::Deserialize;

use super::arguments::Prices;
use super::{Failure, Terminal};
use crate::pattern::Pattern;

/// A list of prices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// The currency, which becomes a part of the rules' name.
    #[serde(default = "usd")]
    currency: String,
    models: Vec<Price>,
}

/// The prices of a million tokens for some models.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    /// A model, or a pattern; the first match counts.
    model: String,
    input: f64,
    /// The price of cached input; by default that of other input.
    cached: Option<f64>,
    output: f64,
}

fn usd() -> String {
    "usd".to_owned()
}

pub(super) fn prices(options: &Prices, terminal: &mut Terminal) -> Result<(), Failure> {
    let file = options.file.display();
    let text = std::fs::read_to_string(&options.file)
        .map_err(|error| Failure::Usage(format!("{file}: cannot be read: {error}")))?;
    let list: List = toml::from_str(&text)
        .map_err(|error| Failure::Usage(format!("{file}: {}", error.to_string().trim_end())))?;
    let rules = rules(&list).map_err(|problem| Failure::Usage(format!("{file}: {problem}")))?;
    terminal.print(&rules);
    Ok(())
}

/// One rule per price, all with the same name and a distinguishing label.
fn rules(list: &List) -> Result<String, String> {
    let named = !list.currency.is_empty()
        && list
            .currency
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !named {
        return Err("currency: write small letters and digits, such as \"usd\"".to_owned());
    }
    if list.models.is_empty() {
        return Err("models: names no price".to_owned());
    }
    let mut text = String::from(
        "# Written by `weir prices`. Costs are in currency a second: times 3600 it is an hour's.\ngroups:\n  - name: weir-prices\n    rules:\n",
    );
    let mut before: Vec<String> = Vec::new();
    for price in &list.models {
        let Price { model, input, cached, output } = price;
        let pattern = Pattern::parse(model).ok_or_else(|| format!("{model:?}: is no name of a model"))?;
        let cached = cached.unwrap_or(*input);
        for (what, amount) in [("input", *input), ("cached", cached), ("output", *output)] {
            if !amount.is_finite() || amount < 0.0 {
                return Err(format!("{model}: {what} is no price; write what a million tokens cost"));
            }
        }
        let own = regex(pattern.as_str());
        if before.contains(&own) {
            return Err(format!("{model}: has a price already"));
        }
        let others =
            if before.is_empty() { String::new() } else { format!(", model!~\"{}\"", before.join("|")) };
        // The input includes cached tokens, which have their own price.
        let terms = [("input", *input), ("cached", cached - input), ("output", *output)];
        let terms = terms.map(|(kind, of_million)| {
            format!(
                "rate(weir_tokens_total{{kind=\"{kind}\", model=~\"{own}\"{others}}}[5m]) * {:.6e}",
                of_million / 1e6
            )
        });
        let expression = format!(
            "sum by (job, caller, model) (\n            {}\n          )",
            terms.join("\n            or ")
        );
        let _infallible = writeln!(
            text,
            "      - record: job_caller_model:weir_cost_{}:rate5m\n        expr: >-\n          {expression}\n        labels: {{price: \"{}\"}}",
            list.currency,
            pattern.as_str().replace('\\', "\\\\").replace('"', "\\\"")
        );
        before.push(own);
    }
    Ok(text)
}

/// A pattern as a quoted regular expression of `PromQL`, which anchors it at both ends.
fn regex(pattern: &str) -> String {
    let mut text = String::new();
    for character in pattern.chars() {
        match character {
            '*' => text.push_str(".*"),
            letter if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | ':' | '/') => {
                text.push(letter);
            }
            // The string and the expression each remove one backslash.
            '\\' | '"' => {
                text.push_str("\\\\\\");
                text.push(character);
            }
            other => {
                text.push_str("\\\\");
                text.push(other);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        rules(&toml::from_str(text).map_err(|error| error.to_string())?)
    }

    #[test]
    fn the_first_price_that_fits_counts_and_cached_input_has_its_own() {
        let text = of("[[models]]\nmodel = \"gpt-5-mini\"\ninput = 0.25\ncached = 0.025\noutput = 2\n\
             [[models]]\nmodel = \"gpt-5*\"\ninput = 1.25\noutput = 10\n")
        .unwrap();
        assert!(text.contains("job_caller_model:weir_cost_usd:rate5m"), "{text}");
        assert!(text.contains("kind=\"input\", model=~\"gpt-5-mini\"}[5m]) * 2.500000e-7"), "{text}");
        assert!(text.contains("kind=\"cached\", model=~\"gpt-5-mini\"}[5m]) * -2.250000e-7"), "{text}");
        assert!(
            text.contains("kind=\"output\", model=~\"gpt-5.*\", model!~\"gpt-5-mini\"}[5m]) * 1.000000e-5"),
            "{text}"
        );
        assert_eq!(text.matches("record:").count(), 2);
    }

    #[test]
    fn what_is_no_list_of_prices_is_told() {
        for (text, told) in [
            ("models = []", "names no price"),
            ("[[models]]\nmodel = \"a b\"\ninput = 1\noutput = 1", "no name of a model"),
            ("[[models]]\nmodel = \"a\"\ninput = -1\noutput = 1", "input is no price"),
            ("[[models]]\nmodel = \"a\"\ninput = 1", "missing field"),
            ("currency = \"US $\"\n[[models]]\nmodel = \"a\"\ninput = 1\noutput = 1", "currency"),
            (
                "[[models]]\nmodel = \"a\"\ninput = 1\noutput = 1\n[[models]]\nmodel = \"a\"\ninput = 2\noutput = 1",
                "has a price already",
            ),
        ] {
            let problem = of(text).unwrap_err();
            assert!(problem.contains(told), "{text}: {problem}");
        }
        assert_eq!(regex("ft:gpt-4.1*"), "ft:gpt-4\\\\.1.*");
    }
}
