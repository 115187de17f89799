//! The `weir` command.

use std::process::ExitCode;

use weir::Terminal;

/// A request makes some 35 small allocations, most of them hyper's, one for each name of a header
/// that isn't standard. The system's allocator keeps seven of a size at hand and takes a slow path
/// for the others.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::main(std::env::args_os(), &mut Terminal::process())
}
