//! Many processes at once, some of them killed.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Mutex, PoisonError},
};

use super::{Folder, KILL};
use crate::harness::eventually;

/// Each command takes one of as many slots as there are permits, by locks that have nothing to do with ours: if there
/// is none free, too many run. Then it writes its token down.
const CHECKER: &str = r#"
for n in $SLOTS; do
  exec 9>"$OUT/slot$n"
  if flock -n 9; then echo "$KONDUCTOR_FENCING_TOKEN" >>"$OUT/tokens"; sleep 0.01; exit 0; fi
done
echo overlap >>"$OUT/tokens"
"#;

/// Two crowds at once would only wait for each other.
static ONE_CROWD: Mutex<()> = Mutex::new(());

/// Runs the checker in so many processes, kills those that `victim` says, and returns the tokens in the order in which
/// they were written down.
fn crowd(count: usize, permits: u32, victim: impl Fn(usize) -> bool) -> Vec<u64> {
    let (folder, out) = (Folder::new(permits), tempfile::tempdir().unwrap());
    let slots: Vec<_> = (0..permits).map(|slot| slot.to_string()).collect();
    let one = folder
        .run("--semaphore turns -qq", CHECKER)
        .env("OUT", &out.path().display().to_string())
        .env("SLOTS", &slots.join(" "));
    let _only = ONE_CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut runs: Vec<_> = (0..count).map(|number| (number, one.start())).collect();
    let written = || fs::read_to_string(out.path().join("tokens")).unwrap_or_default();
    for (number, run) in runs.iter().filter(|(number, _)| victim(*number)) {
        // One after the other while the others take their turns, so that holders and waiters at all places are hit.
        eventually("more have had their turn", || (written().lines().count() >= number * 2 / 5).then_some(()));
        run.signal(KILL);
    }
    while !runs.is_empty() {
        let (before, mut ended) = (runs.len(), Vec::new());
        eventually("another one ends", || {
            ended.extend(runs.extract_if(.., |(_, run)| run.0.try_wait().unwrap().is_some()));
            (runs.len() < before).then_some(())
        });
        for (_, run) in ended.into_iter().filter(|(number, _)| !victim(*number)) {
            let ended = run.end();
            assert_eq!(ended.code(), 0, "{}", ended.stderr);
        }
    }
    let written = written();
    let tokens = written.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("too many ran: {line}")));
    tokens.collect()
}

#[test]
fn two_hundred_share_five_permits() {
    let tokens = crowd(200, 5, |_| false);
    assert_eq!((tokens.len(), tokens.iter().collect::<BTreeSet<_>>().len()), (200, 200));
}

#[test]
fn two_hundred_share_five_permits_while_some_are_killed() {
    // Another third each time; what was chosen can be told from the failure.
    let seed = std::process::id() as usize;
    let victim = |number: usize| (number * 7919 + seed).is_multiple_of(3);
    let tokens = crowd(200, 5, victim);
    let survivors = (0..200).filter(|number| !victim(*number)).count();
    assert!(tokens.len() >= survivors, "{} of {survivors}, seed {seed}", tokens.len());
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len(), "seed {seed}");
}

#[test]
fn one_after_the_other_have_rising_tokens() {
    let tokens = crowd(40, 1, |_| false);
    assert_eq!(tokens.len(), 40);
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
}
