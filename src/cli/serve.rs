//! `weir run`: the proxy itself, until it is told to end.

use super::arguments::Run;
use super::{Failure, settings};
use crate::app;
use crate::config::sources::Process;

pub(super) fn run(options: &Run) -> Result<(), Failure> {
    let config = settings::load(options, &Process)?;
    let options = options.clone();
    let reread =
        Box::new(move || settings::load(&options, &Process).map_err(|problems| problems.to_string()));
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
