//! A reload that would take away who may use Weir, or what it spends, is a file that was cut rather
//! than a wish.

use crate::config::Config;

/// Refuses a text that is empty, and one that has neither credential nor callers where those are in
/// force: the callers' Weir keys would go upstream. Names the callers that go, where some stay.
pub(super) fn check(in_force: &Config, read: &Config, text: &str) -> Result<(), String> {
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    if !text.lines().any(says_something) && (guards(in_force) || *in_force != *read) {
        return Err("the configuration is empty, perhaps because it is being written; the one in force stays. Write it whole, or \
                    restart Weir to run with the defaults"
            .to_owned());
    }
    if guards(in_force) && !guards(read) {
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

/// Whether the configuration says who may use Weir, or has a key to spend.
fn guards(config: &Config) -> bool {
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
