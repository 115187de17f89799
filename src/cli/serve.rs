//! `weir run`: the proxy, until a signal ends it.

use super::arguments::Run;
use super::{Failure, settings};
use crate::app;
use crate::config;
use crate::config::sources::PROCESS;

pub(super) fn run(options: &Run) -> Result<(), Failure> {
    let text = settings::text(options, &PROCESS)?;
    let config = settings::parse(options, &text, &PROCESS)?;
    let (of_text, of_parse, of_names) = (options.clone(), options.clone(), options.config.clone());
    let reread = app::Reread {
        in_force: text,
        text: Box::new(move || settings::text(&of_text, &PROCESS).map_err(|problems| problems.to_string())),
        parse: Box::new(move |text| {
            settings::parse(&of_parse, text, &PROCESS).map_err(|problems| problems.to_string())
        }),
        deprecated: Box::new(move |text| {
            config::deprecated(&config::name(of_names.as_deref()), text, &PROCESS).to_string()
        }),
    };
    app::run(config, reread).map_err(Failure::from)
}

impl From<app::Error> for Failure {
    fn from(error: app::Error) -> Self {
        match error {
            app::Error::Configuration(message) => Self::Usage(message),
            app::Error::Other(message) => Self::Other(message),
        }
    }
}
