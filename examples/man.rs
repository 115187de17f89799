//! Writes the man pages, `weir.1` and one for each command, into the folder named by the argument.
//! Packages ship them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, CommandFactory, ValueHint, value_parser};

fn main() -> ExitCode {
    let folder =
        Arg::new("folder").required(true).value_hint(ValueHint::DirPath).value_parser(value_parser!(PathBuf));
    let matches = clap::Command::new("man").arg(folder).get_matches();
    let folder = matches.get_one::<PathBuf>("folder").expect("clap requires it");
    match clap_mangen::generate_to(weir::internals::cli::arguments::Arguments::command(), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_cannot_write) => ExitCode::FAILURE,
    }
}
