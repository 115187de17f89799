//! `weir simulate`: the simulated API, until it is interrupted.

use std::time::Duration;

use tokio::net::TcpListener;

use super::terminal::Terminal;
use super::{Failure, runtime};
use crate::app::signals;
use crate::simulate::{self, Args};

/// The time limit for responses in flight after an interrupt.
const GRACE: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &Args, terminal: &mut Terminal) -> Result<(), Failure> {
    let settings = arguments.settings().map_err(|problem| Failure::Usage(problem.to_string()))?;
    runtime()?.block_on(async {
        let taken =
            |error| Failure::Other(format!("--listen {}: {error}; write another address", arguments.listen));
        let listener = TcpListener::bind(arguments.listen).await.map_err(taken)?;
        let running = simulate::serve(settings, listener).await.map_err(taken)?;
        terminal.print(&format!("The simulator listens on http://{}/v1\n", running.address()));
        signals::ended().await;
        running.stop(GRACE).await;
        Ok(())
    })
}
