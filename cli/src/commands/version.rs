//! `koncli version`.

use serde_json::json;

use crate::{
    args::OutputArgs,
    context::Context,
    error::{DONE, Error, Outcome},
    output::Format,
};

/// How to print it.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the version of this program.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    if *args.output.format() == Format::Name {
        return Err(Error::usage("a version has no name: use json, yaml or jsonpath={.version}"));
    }
    let version = env!("CARGO_PKG_VERSION");
    match args.output.print(json!({ "name": "koncli", "version": version }))? {
        Some(text) => context.screen.text(&text),
        None => context.screen.line(&format!("koncli {version}")),
    }
    Ok(DONE)
}
