//! The `weir` command.

use std::process::ExitCode;

use weir::cli::{self, terminal::Terminal};

fn main() -> ExitCode {
    cli::main(std::env::args_os(), &mut Terminal::process())
}
