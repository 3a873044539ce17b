//! When barriers and gates open, as scripts of events and the statuses that follow: `UPDATE_GOLDEN=1` rewrites them.
//! And what holds in any history.

mod barrier;
mod gate;

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use konductor_api::{RendezvousStatus, arbiter::Now, rendezvous::Plan};

/// The wall clock of a script starts here.
const START: i64 = 1_800_000_000;

/// Seconds after the start.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).expect("a time")
}

/// The time when the operator's own clock says `own` seconds and the wall clock `wall`, since the start.
fn clocks(own: i64, wall: i64) -> Now {
    Now { monotonic: Duration::from_secs(own as u64), wall: at(wall) }
}

/// One thing whose status is decided.
trait Subject {
    type Status: RendezvousStatus;

    /// Takes in an event of a script.
    fn take(&mut self, event: &str, argument: &str, now: Now);

    /// What is to be done at this time.
    fn decide(&self, now: Now) -> Plan<Self::Status>;

    /// The status is written.
    fn write(&mut self, status: Self::Status, now: Now);

    /// Another operator begins, and finds what is there.
    fn restart(&mut self, now: Now);

    /// Figures in the status that a script shows.
    fn figures(status: &Self::Status) -> String;
}

/// Runs a script: each line is an event, or the time in seconds; what follows from it stands below, indented. `wall`
/// sets the wall clock so many seconds ahead, `restart` begins with an operator that has seen nothing.
fn run<S: Subject>(script: &str, mut subject: S) -> String {
    let (mut time, mut ahead) = (0, 0);
    konductor_golden::replay(script, "    ", |line| {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("#", _) => return Vec::new(),
            ("at", seconds) => time = seconds.parse().expect("seconds"),
            ("wall", seconds) => ahead = seconds.parse().expect("seconds"),
            ("restart", _) => subject.restart(clocks(time, time + ahead)),
            (event, argument) => subject.take(event, argument, clocks(time, time + ahead)),
        }
        let now = clocks(time, time + ahead);
        let mut said = Vec::new();
        // What is written may call for more; a script that never comes to rest is wrong.
        for step in 0.. {
            assert!(step < 10, "no end after {line}");
            let Plan { write, look_again } = subject.decide(now);
            let Some(write) = write else {
                if let Some(again) = look_again {
                    let again = again.duration_since(at(0)).as_secs_f64();
                    said.push(format!("again at {again}"));
                }
                break;
            };
            let open = write.status.conditions().iter().find(|one| one.type_ == "Open").expect("an Open condition");
            let phase = write.status.phase().expect("a phase");
            let figures = S::figures(&write.status);
            said.push(format!("{}: {phase:?} {figures} ({}) {}", write.change.name(), open.reason, open.message));
            subject.write(write.status, now);
        }
        said
    })
}

/// Compares a script with what it should be, or rewrites it.
fn check<S: Subject>(file: &str, subject: S) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rendezvous");
    konductor_golden::check_file(Path::new(folder).join(file), |script| run(script, subject));
}
