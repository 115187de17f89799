//! `weir run` and `weir simulate`: commands that serve until they are told to end.

use tokio::net::TcpListener;

use super::arguments::Run;
use super::terminal::Terminal;
use super::{Failure, settings};
use crate::app;
use crate::config::sources::Process;
use crate::simulate;

pub(super) fn run(options: &Run) -> Result<(), Failure> {
    let config = settings::load(options, &Process)?;
    let options = options.clone();
    let reread =
        Box::new(move || settings::load(&options, &Process).map_err(|problems| problems.to_string()));
    app::run(config, reread).map_err(Failure::from)
}

pub(super) fn simulate(options: &simulate::Args, terminal: &mut Terminal) -> Result<(), Failure> {
    let settings = options.settings().map_err(|problem| Failure::Usage(problem.to_string()))?;
    super::runtime()?.block_on(async {
        let listener = TcpListener::bind(options.listen).await.map_err(|error| {
            Failure::Other(format!(
                "--listen {}: cannot listen there: {error}; choose another address",
                options.listen
            ))
        })?;
        let running = simulate::serve(settings, listener)
            .await
            .map_err(|error| Failure::Other(format!("cannot serve: {error}")))?;
        terminal.print(&format!(
            "A stand-in for the API at http://{0}/v1; what it sees at http://{0}/simulate/stats\n",
            running.address()
        ));
        app::signals::ended().await;
        running.stop(std::time::Duration::from_secs(1)).await;
        Ok(())
    })
}

impl From<app::Error> for Failure {
    fn from(error: app::Error) -> Self {
        match error {
            app::Error::Configuration(message) => Self::Usage(message),
            app::Error::Other(message) => Self::Other(message),
        }
    }
}
