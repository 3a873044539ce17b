//! The command that tests run under `konductor-run`. It does nothing but write down when it is alive.
//!
//!     witness RECORD MILLISECONDS    for so long
//!     witness RECORD FILE            as long as FILE exists
//!
//! It appends lines `TOKEN EVENT NANOSECONDS` to RECORD: the fencing token that it was given, `start`, `beat` or `end`,
//! and `CLOCK_BOOTTIME`. Each line is one write in append mode, so that any number of witnesses can share one record.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How long a killed witness may have been alive after its last line.
const BEAT: Duration = Duration::from_millis(10);

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock").into()
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [record, hold] = arguments.as_slice() else { panic!("usage: witness RECORD MILLISECONDS|FILE") };
    let token = std::env::var("KONDUCTOR_FENCING_TOKEN").expect("konductor-run sets the fencing token");
    let mut record = OpenOptions::new().append(true).create(true).open(record).expect("open the record");
    let mut write = |event: &str| {
        let at = now();
        let line = format!("{token} {event} {}\n", at.as_nanos());
        let written = record.write(line.as_bytes()).expect("append to the record");
        assert_eq!(written, line.len(), "a line is one write");
        at
    };
    let start = write("start");
    match hold.parse().map(Duration::from_millis) {
        Ok(time) => {
            while let Some(rest) = (start + time).checked_sub(now()) {
                sleep(rest.min(BEAT));
                write("beat");
            }
        }
        Err(_) => {
            while Path::new(hold).exists() {
                sleep(BEAT);
                write("beat");
            }
        }
    }
    write("end");
}
