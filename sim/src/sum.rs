//! What came of many histories, added up: in pieces that are kept in a file, one a line, so that a long search goes on where
//! it was ended, and one table can be printed of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use konductor_sim::{machines, world::Outcome};
use serde::{Deserialize, Serialize};

/// What came of some histories.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sum {
    /// The first seed of each piece, and how many it has.
    pub(crate) pieces: BTreeMap<u64, u64>,
    /// Whether backups were restored in it.
    pub(crate) restores: bool,
    /// Histories.
    pub(crate) histories: u64,
    /// Writes.
    steps: u64,
    /// How long they lasted.
    lasted: Duration,
    /// What was counted.
    figures: BTreeMap<String, u64>,
    /// What was broken, by seed.
    pub(crate) failed: BTreeMap<u64, String>,
}

/// What else is counted by kind: how it begins, and what it is called.
const KINDS: [(&str, &str); 5] = [
    ("trouble: ", "trouble"),
    ("request: ", "requests that went wrong"),
    ("watch: ", "watches that went wrong"),
    ("client: ", "told to clients by the library"),
    ("konductor-run: ", "effects of `konductor-run`'s supervisor"),
];

impl Sum {
    /// Nothing yet.
    pub(crate) fn new(restores: bool) -> Self {
        Self { restores, ..Self::default() }
    }

    /// One more history.
    pub(crate) fn add(&mut self, seed: u64, outcome: Outcome) {
        self.histories += 1;
        self.steps += outcome.steps;
        self.lasted += outcome.lasted;
        self.count(outcome.figures);
        if let Some(broken) = outcome.broken.first() {
            self.failed.insert(seed, broken.what.clone());
        }
    }

    fn count(&mut self, figures: BTreeMap<String, u64>) {
        for (what, count) in figures {
            let is_most = what.starts_with("most ");
            let sum = self.figures.entry(what).or_default();
            *sum = if is_most { count.max(*sum) } else { *sum + count };
        }
    }

    /// Those of another piece.
    pub(crate) fn join(&mut self, other: Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.lasted += other.lasted;
        self.count(other.figures);
        self.failed.extend(other.failed);
        self.pieces.extend(other.pieces);
    }

    /// Adds a piece to a file.
    pub(crate) fn keep(&self, file: &Path) -> io::Result<()> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        // One write, so that several searches may add to one file.
        OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
    }

    /// All pieces of a file, of histories with or without restored backups; none if there is no file.
    pub(crate) fn read(file: &Path, restores: bool) -> io::Result<Vec<Self>> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let mut seen = BTreeSet::new();
        let mut pieces = Vec::new();
        for line in text.lines() {
            let piece: Self = serde_json::from_str(line)?;
            // One that two searches have made counts once.
            if piece.restores == restores && piece.pieces.iter().all(|piece| seen.insert((*piece.0, *piece.1))) {
                pieces.push(piece);
            }
        }
        Ok(pieces)
    }

    /// In a line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} histories of {:.0} s each, {} writes: {} broken",
            self.histories,
            self.lasted.as_secs_f64() / (self.histories.max(1) as f64),
            self.steps,
            self.failed.len(),
        )
    }

    /// As a table of the documentation.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from("| | |\n|---|---|\n");
        let mut row = |what: &str, text: &str| {
            let _ = writeln!(table, "| {what} | {text} |");
        };
        let mut rest = self.figures.clone();
        let days = self.lasted.as_secs_f64() / 86_400.0;
        let each = self.lasted.as_secs_f64() / (self.histories.max(1) as f64);
        row("histories, virtual time", &format!("{} of {each:.0} s: {days:.0} days", grouped(self.histories)));
        row("steps (writes that took effect)", &grouped(self.steps));
        for machine in &machines::ALL {
            let key = |(from, to): (&str, &str)| format!("{} {from} to {to}", machine.name);
            let (seen, missed): (Vec<_>, Vec<_>) =
                machine.transitions().partition(|transition| self.figures.contains_key(&key(*transition)));
            let states: BTreeSet<_> = seen.iter().flat_map(|(from, to)| [*from, *to]).collect();
            let missed: Vec<_> = missed.iter().map(|(from, to)| format!("{from} to {to}")).collect();
            let missed = if missed.is_empty() { String::new() } else { format!(" (not: {})", missed.join(", ")) };
            let texts: Vec<_> = seen
                .iter()
                .filter_map(|(from, to)| Some(format!("{from} to {to} {}", grouped(rest.remove(&key((*from, *to)))?))))
                .collect();
            let (states, all) = (format!("{} of {} states", states.len(), machine.states.len()), machine.transitions());
            let transitions = format!("{} of {} transitions{missed}", seen.len(), all.count());
            row(machine.title, &format!("{states}, {transitions}: {}", texts.join("; ")));
        }
        for (begins, title) in KINDS {
            let all = self.figures.iter().filter(|(what, _)| what.starts_with(begins));
            let texts: Vec<_> =
                all.clone().map(|(what, count)| format!("{} {}", &what[begins.len()..], grouped(*count))).collect();
            row(title, &texts.join("; "));
            for (what, _) in all {
                rest.remove(what);
            }
        }
        for (what, count) in rest {
            row(&what, &grouped(count));
        }
        row("promises broken", &self.failed.len().to_string());
        table
    }
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
