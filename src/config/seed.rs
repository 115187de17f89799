//! Limits by model from a file: a response of the administration API about a project.

use std::path::PathBuf;

use serde::Deserialize;

use super::key::Kind;
use super::read::Reader;
use super::tree::Node;
use super::value::Value;

/// A file with the response of `GET /organization/projects/{id}/rate_limits`, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedFile {
    /// The file.
    pub path: PathBuf,
    /// The limits of each model, in the order of the file.
    pub models: Vec<SeedLimits>,
}

/// The limits of one model. Fields that Weir does not use are omitted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SeedLimits {
    /// The model, or a family that the API lists like a model.
    pub model: String,
    /// Requests in a minute.
    #[serde(rename = "max_requests_per_1_minute")]
    pub requests_per_minute: Option<u64>,
    /// Tokens in a minute.
    #[serde(rename = "max_tokens_per_1_minute")]
    pub tokens_per_minute: Option<u64>,
    /// Requests in a day.
    #[serde(rename = "max_requests_per_1_day")]
    pub requests_per_day: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<SeedLimits>,
}

/// The most models; more than any project has, so that a wrong file can't fill the memory.
const MOST_MODELS: usize = 10_000;

/// Parses the response. The API writes 0 for a limit that is not set.
///
/// # Errors
/// The problem, in one line.
pub fn parse(bytes: &[u8]) -> Result<Vec<SeedLimits>, String> {
    let answer: Answer = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if answer.data.len() > MOST_MODELS {
        return Err(format!("has {} models; {MOST_MODELS} are the most", answer.data.len()));
    }
    let known = |limit: Option<u64>| limit.filter(|limit| *limit > 0);
    let models = answer.data.into_iter().map(|entry| SeedLimits {
        requests_per_minute: known(entry.requests_per_minute),
        tokens_per_minute: known(entry.tokens_per_minute),
        requests_per_day: known(entry.requests_per_day),
        model: entry.model,
    });
    Ok(models.collect())
}

impl Value for SeedFile {
    const KIND: Kind = PathBuf::KIND;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let path = PathBuf::read(node, reader)?;
        if !reader.sources.resolves() {
            return Some(Self { path, models: Vec::new() });
        }
        let read = reader
            .sources
            .file(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))
            .and_then(|bytes| {
                parse(&bytes).map_err(|error| {
                    format!(
                        "{} is not the answer of GET /organization/projects/.../rate_limits: {error}",
                        path.display()
                    )
                })
            });
        match read {
            Ok(models) => Some(Self { path, models }),
            Err(message) => {
                reader.problem(node, message);
                None
            }
        }
    }

    fn show(&self) -> Option<toml::Value> {
        self.path.show()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administration_api_s_answer_is_read() {
        let answer = br#"{"object":"list","data":[
            {"object":"project.rate_limit","id":"rl-1","model":"gpt-5","max_requests_per_1_minute":500,
             "max_tokens_per_1_minute":30000,"batch_1_day_max_input_tokens":90000},
            {"object":"project.rate_limit","id":"rl-2","model":"dall-e-3","max_requests_per_1_minute":0,
             "max_images_per_1_minute":5,"max_requests_per_1_day":200}],"has_more":false}"#;
        let models = parse(answer).unwrap();
        assert_eq!(models[0].requests_per_minute, Some(500));
        assert_eq!(models[0].tokens_per_minute, Some(30_000));
        assert_eq!(models[1].requests_per_minute, None);
        assert_eq!(models[1].requests_per_day, Some(200));
        assert!(parse(b"{}").is_err());
        assert!(parse(br#"{"data":[{"model":"x","max_requests_per_1_minute":-1}]}"#).is_err());
    }
}
