//! `koncli convert`: reads manifests of the first konductor and prints them anew.

use std::{
    fs,
    io::{self, Read as _},
};

use crate::{
    context::Context,
    convert::{Source, convert},
    error::{DONE, Error, Outcome},
};

/// What to convert.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Manifests, also with other objects beside; - is stdin. What has no counterpart is refused by its line.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
}

/// Prints all of them, or nothing.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let sources = args.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    match convert(&sources) {
        Ok(converted) => {
            context.screen.text(&converted.text);
            for note in converted.notes {
                context.screen.warn(&note);
            }
            Ok(DONE)
        }
        Err(mistakes) => {
            let error = Error::usage("not everything can be converted, so nothing was written");
            Err(mistakes.into_iter().fold(error, Error::advise))
        }
    }
}

fn read(file: &str) -> Result<Source, Error> {
    let unread = |error: io::Error| Error::usage(format!("{file} cannot be read: {error}"));
    if file == "-" {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map_err(unread)?;
        return Ok(Source { name: "stdin".to_owned(), text });
    }
    let text = fs::read_to_string(file).map_err(unread)?;
    Ok(Source { name: file.to_owned(), text })
}
