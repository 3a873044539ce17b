//! The binary `koncli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    konductor_cli::main()
}
