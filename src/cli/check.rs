//! `weir check`: whether a configuration can be used, and what each caller may do by it.

use std::fmt::Write as _;

use super::arguments::Check;
use super::{Failure, Terminal};
use crate::caller::Callers;
use crate::config::sources::{Process, Sources, WithoutSecrets};
use crate::config::{self, Config, render};
use crate::openai::Endpoint;
use crate::rights::{Access, Right, Rights};

/// Callers side by side in one table.
const ABREAST: usize = 6;
/// The width of the column of endpoints.
const WIDEST: usize = 18;

pub(super) fn check(options: &Check, terminal: &mut Terminal) -> Result<(), Failure> {
    let sources: &dyn Sources = if options.without_secrets { &WithoutSecrets } else { &Process };
    let config = config::load(Some(&options.file), &[], sources)?;
    terminal.print(&format!("{}: valid\n", options.file.display()));
    terminal.print(&rights(&config));
    if options.print {
        terminal.print(&render::redacted(&config));
    }
    Ok(())
}

/// Callers by endpoints; nothing where everybody may use everything.
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
