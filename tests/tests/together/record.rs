//! What witnesses have written down, and the check that no more of them ran at once than there are permits.
//!
//! The check knows nothing of Konductor but this: fencing tokens rise in the order of the grants. So whoever has the
//! lower token had its permit already when one with a higher token started, even if it was slower to start itself; it
//! counts as holding from the earliest start of any token from its own on, to the last moment at which it was alive. No
//! more than `permits` may hold at once. With one permit this says that the tokens rise from holder to holder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use konductor::Boottime;
use konductor_tests::eventually;

/// One command, from its start to the last moment at which it was seen alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) token: u64,
    pub(crate) start: Boottime,
    pub(crate) last: Boottime,
    /// It ended by itself.
    pub(crate) ended: bool,
}

/// The file that the witnesses of one semaphore share.
pub(crate) struct Record(PathBuf);

impl Record {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// All runs so far, by token. Fails when two had the same.
    pub(crate) fn runs(&self) -> Vec<Run> {
        // There is none before the first start.
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        parse(&text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
    }

    /// Waits until this many witnesses have started, and returns the runs.
    pub(crate) async fn started(&self, limit: Duration, number: usize) -> Vec<Run> {
        self.wait(limit, "started", |run| Some(run.start), number).await
    }

    /// Waits until this many witnesses have ended by themselves, and returns the runs.
    pub(crate) async fn ended(&self, limit: Duration, number: usize) -> Vec<Run> {
        self.wait(limit, "ended", |run| run.ended.then_some(run.last), number).await
    }

    async fn wait(
        &self,
        limit: Duration,
        what: &str,
        counts: impl Fn(&Run) -> Option<Boottime>,
        number: usize,
    ) -> Vec<Run> {
        eventually(limit, &format!("{number} runs {what}"), || async {
            let runs = self.runs();
            let found = runs.iter().filter_map(&counts).count();
            if found >= number { Ok(runs) } else { Err(format!("{found} of {} {what}", runs.len())) }
        })
        .await
    }

    /// Asserts that all of exactly this many runs ended by themselves, never more than `permits` at once.
    pub(crate) fn assert_complete(&self, number: usize, permits: usize) {
        let runs = self.runs();
        let ended = runs.iter().filter(|run| run.ended).count();
        assert_eq!((runs.len(), ended), (number, number), "runs, and those of them that ended");
        self.assert_never_more_than(permits);
    }

    /// Asserts that never more than `permits` ran at once.
    pub(crate) fn assert_never_more_than(&self, permits: usize) {
        check(&self.runs(), permits).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn parse(text: &str) -> Result<Vec<Run>, String> {
    let mut runs: BTreeMap<u64, Run> = BTreeMap::new();
    // A last line without an end is being written.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let mut words = line.split_whitespace();
        let mut word = || words.next().ok_or_else(|| format!("{line:?} is no line of a witness"));
        let (token, event, at) = (number(word()?)?, word()?, Boottime(Duration::from_nanos(number(word()?)?)));
        match (event, runs.get_mut(&token)) {
            ("start", None) => {
                runs.insert(token, Run { token, start: at, last: at, ended: false });
            }
            ("beat", Some(run)) if !run.ended => run.last = at,
            ("end", Some(run)) if !run.ended => (run.last, run.ended) = (at, true),
            (event, run) => return Err(format!("{event} of token {token} after {run:?}")),
        }
    }
    Ok(runs.into_values().collect())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// Whether never more than `permits` of the runs, which are in the order of their tokens, held at once.
fn check(runs: &[Run], permits: usize) -> Result<(), String> {
    let mut holding = runs.to_vec();
    let mut earliest = Boottime(Duration::MAX);
    for run in holding.iter_mut().rev() {
        earliest = earliest.min(run.start);
        run.start = earliest;
    }
    // Whenever too many hold, the one that began last of them meets all the others.
    for newest in &holding {
        let met: Vec<_> = holding.iter().filter(|run| run.start <= newest.start && newest.start <= run.last).collect();
        if met.len() > permits {
            return Err(format!("{} held {permits} permits at once: {met:#?} (all runs: {runs:#?})", met.len()));
        }
    }
    Ok(())
}

mod tests {
    use std::process::Command;

    use konductor_tests::Process;

    use super::*;
    use crate::scene::{LIMIT, WITNESS};

    fn runs(text: &str) -> Result<Vec<Run>, String> {
        let lines: Vec<_> = text.split(", ").map(|line| format!("{line}\n")).collect();
        parse(&lines.concat())
    }

    #[test]
    fn the_check_finds_what_must_not_be() {
        for (permits, text, right) in [
            (1, "1 start 10, 1 end 20, 2 start 30, 2 end 40", true),
            // Two at once.
            (1, "1 start 10, 2 start 20, 1 end 20, 2 end 30", false),
            (2, "1 start 10, 2 start 20, 1 end 20, 2 end 30", true),
            (2, "1 start 10, 2 start 12, 3 start 15, 1 end 20, 2 end 20, 3 end 30", false),
            // One that was killed was alive until its last beat.
            (1, "1 start 10, 1 beat 20, 2 start 30, 2 end 40", true),
            (1, "1 start 10, 1 beat 20, 1 beat 31, 2 start 30, 2 end 40", false),
            // The lower token held already when the higher one started.
            (1, "2 start 10, 2 end 20, 1 start 30, 1 end 40", false),
            (2, "2 start 10, 2 end 20, 1 start 30, 1 end 40", true),
            (2, "2 start 10, 2 end 20, 3 start 21, 3 end 25, 1 start 30, 1 end 40", true),
            (2, "2 start 10, 3 start 11, 2 end 20, 3 end 25, 1 start 30, 1 end 40", false),
        ] {
            let found = runs(text).and_then(|runs| check(&runs, permits));
            assert_eq!(found.is_ok(), right, "{permits} permits: {text}: {found:?}");
        }
    }

    #[test]
    fn a_token_is_given_once() {
        for text in ["1 start 10, 1 start 20", "1 start 10, 1 end 20, 1 start 30", "1 end 10", "1 beat 10", "1 start"] {
            assert!(runs(text).is_err(), "{text}: {:?}", runs(text));
        }
    }

    /// Without Konductor, the same witnesses are found out.
    #[tokio::test]
    async fn the_check_fails_where_nobody_limits() {
        let folder = tempfile::tempdir().expect("make a folder");
        let (record, hold) = (Record::new(folder.path().join("record")), folder.path().join("hold"));
        std::fs::write(&hold, "").expect("write a file");
        let mut unlimited: Vec<_> = (1..=3)
            .map(|token| {
                let mut command = Command::new(WITNESS);
                command.args([record.path(), &hold]).env("KONDUCTOR_FENCING_TOKEN", token.to_string());
                Process::spawn("unlimited", command)
            })
            .collect();
        record.started(LIMIT, 3).await;
        std::fs::remove_file(&hold).expect("remove a file");
        for witness in &mut unlimited {
            witness.expect_exit(LIMIT, 0).await;
        }
        record.assert_complete(3, 3);
        assert!(check(&record.runs(), 2).is_err(), "{:?}", record.runs());
    }
}
