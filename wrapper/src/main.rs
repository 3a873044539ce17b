//! The binary `konductor-run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    konductor_run::main()
}
