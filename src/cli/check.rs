//! `weir check`: validates a configuration, and shows the rights of each caller.

use std::fmt::Write as _;

use super::arguments::Check;
use super::{Failure, Terminal};
use crate::caller::Callers;
use crate::config::changes::{CHANGES, Version};
use crate::config::sources::{PROCESS, Sources, WITHOUT_SECRETS};
use crate::config::{self, Config, render};
use crate::openai::Endpoint;
use crate::rights::{Access, Right, Rights};

/// The maximum number of callers in one table.
const ABREAST: usize = 6;
/// The width of the endpoints' column, in characters.
const WIDEST: usize = 18;

pub(super) fn check(options: &Check, terminal: &mut Terminal) -> Result<(), Failure> {
    let sources: &dyn Sources = if options.without_secrets { &WITHOUT_SECRETS } else { &PROCESS };
    if let Some(version) = options.against {
        terminal.print(&changed(version)?);
    }
    let (file, text) = (config::name(Some(&options.file)), config::text(Some(&options.file), sources)?);
    let config = config::parse(&file, &text, &[], sources)?;
    let deprecated = config::deprecated(&file, &text, sources);
    if !deprecated.list.is_empty() {
        terminal.error(&format!("warning: {}", deprecated.to_string().replace('\n', "\nwarning: ")));
    }
    terminal.print(&format!("{file}: valid\n"));
    terminal.print(&rights(&config));
    if options.print {
        terminal.print(&render::redacted(&config));
    }
    Ok(())
}

/// The keys that changed since a version, one line each.
fn changed(version: Version) -> Result<String, Failure> {
    if Version::current().is_some_and(|current| current < version) {
        return Err(Failure::Usage(format!(
            "--against: this is {}; name an earlier version",
            env!("CARGO_PKG_VERSION")
        )));
    }
    let later = CHANGES.iter().filter(|change| change.since > version);
    let lines: Vec<String> = later.map(ToString::to_string).collect();
    Ok(if lines.is_empty() {
        format!("No key has changed since {version}.\n")
    } else {
        lines.join("\n") + "\n"
    })
}

/// A table of endpoints by callers; empty if everything is allowed to all.
fn rights(config: &Config) -> String {
    let configured =
        config.callers.iter().map(|caller| (caller.name.as_str(), config.rights_of(Some(caller))));
    let nobody = config.serves_unknown_callers().then(|| (Callers::DEFAULT, config.rights_of(None)));
    let all: Vec<(&str, Option<Rights>)> = configured.chain(nobody).collect();
    if all.iter().all(|(_, rights)| rights.is_none()) {
        return String::new();
    }
    let mut text = String::from(
        "\nWhat each caller may do: u compute an answer, r read what the account keeps, w change it.\n",
    );
    for callers in all.chunks(ABREAST) {
        let width = |name: &str| name.len().max(3) + 2;
        let mut line = format!("\n{:WIDEST$}", "");
        for (name, _) in callers {
            let _infallible = write!(line, "{name:<width$}", width = width(name));
        }
        text.push_str(line.trim_end());
        for endpoint in Endpoint::ALL {
            let mut line = format!("\n{:WIDEST$}", endpoint.as_str());
            for (name, rights) in callers {
                let _infallible =
                    write!(line, "{:<width$}", cell(endpoint, rights.as_ref()), width = width(name));
            }
            text.push_str(line.trim_end());
        }
        text.push('\n');
    }
    for (name, rights) in &all {
        if let Some(models) = rights.as_ref().and_then(Rights::bounded_models) {
            let patterns: Vec<&str> = models.patterns.iter().map(crate::pattern::Pattern::as_str).collect();
            let _infallible = writeln!(text, "\nModels of {name}: {}", patterns.join(", "));
        }
    }
    text
}

/// One letter for each access that exists and is allowed.
fn cell(endpoint: Endpoint, rights: Option<&Rights>) -> String {
    let letter = |(access, letter)| {
        let right = Right { endpoint, access };
        match (right.exists(), rights.is_none_or(|rights| rights.allow.has(right))) {
            (false, _) => ' ',
            (true, true) => letter,
            (true, false) => '-',
        }
    };
    [(Access::Use, 'u'), (Access::Read, 'r'), (Access::Write, 'w')].into_iter().map(letter).collect()
}
