//! `konductor-operator`: decides who goes next. Everything is in the library beside it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    konductor_operator::main()
}
