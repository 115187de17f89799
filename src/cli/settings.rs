//! The configuration with the command line's options applied.

use super::arguments::{AdminAccess, Run};
use crate::config::problem::Problems;
use crate::config::sources::Sources;
use crate::config::{self, Config, Override};

/// The configuration of `weir run` from this text.
///
/// # Errors
/// All problems of the file, the environment and the options.
pub(super) fn parse(run: &Run, text: &str, sources: &dyn Sources) -> Result<Config, Problems> {
    let options = [
        ("--upstream", "upstream.url", &run.upstream),
        ("--listen", "server.listen", &run.listen),
        ("--admin", "admin.listen", &run.admin),
    ];
    config::parse(&config::name(run.config.as_deref()), text, &overrides(options), sources)
}

/// The text of the configuration file.
///
/// # Errors
/// It can't be read.
pub(super) fn text(run: &Run, sources: &dyn Sources) -> Result<String, Problems> {
    config::text(run.config.as_deref(), sources)
}

/// The admin section of a running Weir's configuration. Mistakes in the rest are ignored: they may
/// be the reason for the command.
///
/// # Errors
/// The problems of that section.
pub(super) fn of_running(admin: &AdminAccess, sources: &dyn Sources) -> Result<Config, Problems> {
    config::load_admin(
        admin.config.as_deref(),
        &overrides([("--admin", "admin.listen", &admin.admin)]),
        sources,
    )
}

fn overrides<'a>(
    options: impl IntoIterator<Item = (&'static str, &'static str, &'a Option<String>)>,
) -> Vec<Override> {
    let given = options.into_iter().filter_map(|(option, key, value)| Some((option, key, value.clone()?)));
    given.map(|(option, key, value)| Override { option, key, value }).collect()
}
