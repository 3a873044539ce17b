//! What the help has at its end.

use std::fmt::Write as _;

use konductor::exit;

/// Examples, and the exit codes.
pub(crate) fn after_help() -> String {
    let mut text = String::from(EXAMPLES);
    text.push_str("\nExit codes: 0 when it is done, 128+n when signal n ended the waiting, and\n");
    for (exit, meaning, _) in exit::OWN {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:>3}  {meaning}", exit.code());
    }
    text
}

const EXAMPLES: &str = "\
Examples:
  koncli semaphore create warehouse --permits 3
  h=$(hostname)-$$    # each run has a holder of its own: those with the same one share a claim
  koncli semaphore acquire warehouse --holder \"$h\" --timeout 10m &&
    { ./load; koncli semaphore release warehouse --holder \"$h\"; }
  koncli barrier arrive stage-1 --key orders && koncli barrier wait stage-1 --timeout 30m
  koncli gate create ready --condition job/extract=Complete && koncli gate wait ready
  koncli wait job/extract barrier/stage-1 --timeout 1h
  koncli why semaphore/warehouse
";
