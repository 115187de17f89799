//! `weir what-if`: replays an access log.

use std::time::Duration;

use super::Failure;
use super::terminal::Terminal;
use crate::clock;
use crate::whatif::{self, Args, Error, Progress};

/// The interval between two lines of progress: on a terminal, and elsewhere.
const EACH: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

pub(super) fn run(arguments: &Args, terminal: &mut Terminal) -> Result<(), Failure> {
    let each = if terminal.is_watched() { EACH[0] } else { EACH[1] };
    let mut next = clock::now() + each;
    let mut shown = false;
    let answer = whatif::run(arguments, &mut |progress| {
        if clock::now() < next {
            return;
        }
        next = clock::now() + each;
        shown = true;
        terminal.progress(&match progress {
            Progress::Read(lines) => format!("read {lines} lines"),
            Progress::Replayed(name, part) => format!("{name}: {:.0} %", part * 100.0),
        });
    });
    if shown && terminal.is_watched() {
        terminal.progress("");
    }
    let answer = answer.map_err(|error| match error {
        Error::Asked(_) => Failure::Usage(error.to_string()),
        Error::File { .. } => Failure::Other(error.to_string()),
    })?;
    if arguments.json {
        let json =
            serde_json::to_string_pretty(&answer).map_err(|error| Failure::Other(error.to_string()))?;
        terminal.print(&json);
        terminal.print("\n");
    } else {
        terminal.print(&answer.text());
    }
    Ok(())
}
