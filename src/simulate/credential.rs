//! Authentication: finds the account of a request's key, or the 401 that the key selects.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::dialect::Dialect;
use super::errors::ApiError;
use super::settings::{Account, Settings};

/// Prefixes of keys that are refused, with the name of the error.
pub(super) const REFUSED_KEYS: [(&str, &str); 9] = [
    ("sk-invalid", "invalid_api_key"),
    ("sk-wrong", "invalid_api_key"),
    ("sk-revoked", "invalid_authentication"),
    ("sk-no-organization", "no_organization"),
    ("sk-other-organization", "mismatched_organization"),
    ("sk-ip-denied", "ip_not_authorized"),
    ("sk-missing-scope", "missing_scope"),
    ("sk-region", "unsupported_country_region_territory"),
    ("sk-quota", "insufficient_quota"),
];

/// An authentication error.
#[derive(Debug, PartialEq)]
pub(super) struct Denied {
    pub(super) error: &'static ApiError,
    /// The value of `error` in the body.
    pub(super) object: Value,
}

/// Finds the account of a request by its `authorization` (or Azure's `api-key`).
///
/// `openai-organization` and `openai-project` choose among a key's accounts, as in the API. A
/// configured key has one account; a header with another organization is refused.
pub(super) fn identify(settings: &Settings, headers: &HeaderMap) -> Result<Account, Denied> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = match bearer.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
        Some(_) | None if settings.dialect == Some(Dialect::Openai) => "",
        Some(_) | None => text(headers, "api-key").or(text(headers, "x-api-key")).unwrap_or_default(),
    };
    if key.is_empty() {
        return if settings.require_key { Err(denied("missing_key")) } else { Ok(Account::default()) };
    }
    if let Some((_, error)) = REFUSED_KEYS.iter().find(|(prefix, _)| key.starts_with(prefix)) {
        let mut denied = denied(error);
        if denied.error.name == "invalid_api_key" {
            denied.object["message"] = json!(format!(
                "Incorrect API key provided: {}. You can find your API key at https://platform.openai.com/account/api-keys.",
                masked(key)
            ));
        }
        return Err(denied);
    }
    let (organization, project) = (text(headers, "openai-organization"), text(headers, "openai-project"));
    if let Some((_, account)) = settings.keys.iter().find(|(listed, _)| listed == key) {
        return if organization.is_none_or(|name| name == &*account.organization) {
            Ok(account.clone())
        } else {
            Err(denied("mismatched_organization"))
        };
    }
    let mut account = Account::default();
    if settings.separate_keys {
        account.organization = format!("org-{:016x}", fnv1a(key.as_bytes())).into();
    }
    if let Some(name) = organization {
        account.organization = name.into();
    }
    if let Some(name) = project {
        account.project = name.into();
    }
    Ok(account)
}

fn denied(name: &str) -> Denied {
    // A test checks that every name is in the table.
    let error = ApiError::named(name).unwrap_or(&ApiError::all()[0]);
    Denied { error, object: error.object() }
}

/// Masks a key as the API does: shows the first 8 and the last 4 characters.
fn masked(key: &str) -> String {
    let letters: Vec<char> = key.chars().take(200).collect();
    if letters.len() <= 12 {
        return key.chars().take(200).collect();
    }
    let (head, tail) = (&letters[..8], &letters[letters.len() - 4..]);
    head.iter()
        .copied()
        .chain(std::iter::repeat_n('*', letters.len() - 12))
        .chain(tail.iter().copied())
        .collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty())
}

/// The 64-bit FNV-1a hash, which tests can compute too.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn keys_stand_for_accounts_and_refusals() {
        let settings = Settings {
            keys: vec![
                ("sk-one".into(), Account::new("org-a", "proj_1")),
                ("sk-two".into(), Account::new("org-a", "proj_1")),
            ],
            ..Settings::default()
        };
        let identify = |pairs: &[_]| identify(&settings, &with(pairs));
        assert_eq!(
            identify(&[("authorization", "Bearer sk-one")]),
            identify(&[("authorization", "bearer sk-two")])
        );
        assert_eq!(identify(&[("api-key", "anything")]).unwrap(), Account::default());
        assert_eq!(identify(&[]).unwrap_err().error.name, "missing_key");
        for (key, error) in REFUSED_KEYS {
            assert_eq!(identify(&[("api-key", key)]).unwrap_err().error.name, error);
        }
        let other = identify(&[("api-key", "sk-one"), ("openai-organization", "org-b")]);
        assert_eq!(other.unwrap_err().error.name, "mismatched_organization");
        let chosen = identify(&[("api-key", "any"), ("openai-project", "proj_2")]).unwrap();
        assert_eq!(&*chosen.project, "proj_2");
    }

    #[test]
    fn the_api_itself_knows_no_key_but_a_bearers() {
        let settings = Settings { dialect: Some(Dialect::Openai), ..Settings::default() };
        let refused = identify(&settings, &with(&[("api-key", "anything")])).unwrap_err();
        assert_eq!((&*refused.error.name, refused.error.status.as_u16()), ("missing_key", 401));
        assert!(identify(&settings, &with(&[("authorization", "Bearer sk-any")])).is_ok());
    }

    #[test]
    fn a_wrong_key_comes_back_masked() {
        let denied =
            identify(&Settings::default(), &with(&[("api-key", "sk-wrong-0123456789-key")])).unwrap_err();
        let message = denied.object["message"].as_str().unwrap();
        assert!(message.starts_with("Incorrect API key provided: sk-wrong***********-key. You"), "{message}");
    }
}
