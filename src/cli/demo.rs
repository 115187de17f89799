//! `weir demo`: the same work without and with Weir.

use super::Failure;
use super::terminal::Terminal;
use crate::demo::{self, Args};

pub(super) fn run(arguments: &Args, terminal: &mut Terminal) -> Result<(), Failure> {
    let live = terminal.is_interactive();
    let shown = demo::run(arguments, live, &mut |text| terminal.print(text));
    shown.map(drop).map_err(|error| Failure::Other(error.to_string()))
}
