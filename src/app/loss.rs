//! Detects a truncated configuration: a reload that would remove the callers or the credential is
//! more likely a damaged file than intended.

use crate::config::Config;

/// Rejects an empty text, and one without credential and callers if the configuration in force has
/// them: the callers' Weir keys would be sent upstream. Logs the callers that are removed, if some
/// stay.
pub(super) fn check(in_force: &Config, read: &Config, text: &str) -> Result<(), String> {
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    if !text.lines().any(says_something) && (is_protected(in_force) || *in_force != *read) {
        return Err("the configuration is empty, perhaps because it is being written; the one in force stays. Write it whole, or \
                    restart Weir to run with the defaults"
            .to_owned());
    }
    if is_protected(in_force) && !is_protected(read) {
        return Err("the configuration has neither upstream.credential nor [[callers]], which are in force, perhaps because it is \
                    cut short; the one in force stays. Write it whole, or restart Weir to run without them"
            .to_owned());
    }
    if in_force.has_credential() && !read.has_credential() {
        tracing::warn!("no credential is configured any longer");
    }
    let gone: Vec<&str> = in_force
        .callers
        .iter()
        .map(|caller| caller.name.as_str())
        .filter(|name| read.callers.iter().all(|caller| caller.name != *name))
        .collect();
    if !gone.is_empty() {
        let callers = gone.join(", ");
        tracing::warn!(callers, "callers are no longer configured");
    }
    Ok(())
}

/// Whether the configuration has callers or a credential.
fn is_protected(config: &Config) -> bool {
    config.has_credential() || !config.callers.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, sources::Nothing};

    #[test]
    fn a_text_that_was_cut_is_no_reload() {
        let whole = "mode = \"observe\"\nupstream.credential = \"env:KEY\"\n[[callers]]\nname = \"a\"\nkey = \"env:A\"\n";
        let read = |text: &str| config::parse("", text, &[], &Nothing).unwrap();
        let check = |text: &str| check(&read(whole), &read(text), text);
        assert_eq!(check(whole), Ok(()));
        assert_eq!(check("mode = \"observe\"\nupstream.credential = \"env:OTHER\"\n"), Ok(()));
        for cut in ["", " \n\n", "# a comment\n", "mode = \"observe\"\n"] {
            assert!(check(cut).is_err(), "{cut:?}");
        }
        let plain = read("mode = \"observe\"\n");
        assert!(super::check(&plain, &read(""), "").is_err());
        assert_eq!(super::check(&plain, &read("log.access = false\n"), "log.access = false\n"), Ok(()));
        assert_eq!(super::check(&Config::default(), &read(""), ""), Ok(()));
    }
}
