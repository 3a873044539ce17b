//! `sim`: lives through histories.

#![forbid(unsafe_code)]

mod command;
mod sum;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
