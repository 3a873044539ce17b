//! Who stands still in the queue is passed over, and has its old place when it goes on.

use std::{fs, os::unix::fs::MetadataExt as _, time::Duration};

use super::{Folder, KILL, STOP, TERM, token, with_passes};
use crate::harness::{Running, eventually, timed, within};

const CONT: i32 = 18;

/// Longer than a turn is left untaken, on a busy machine.
const SOON: Duration = Duration::from_secs(12);

/// Stops all threads of a run, and returns when they stand still, but not in the middle of a transaction: nobody else
/// could decide anything then.
fn stop(folder: &Folder, run: &Running) {
    let lock = fs::metadata(folder.state_folder("turns").join("lock")).unwrap().ino();
    eventually("it stands still between two transactions", || {
        run.signal(STOP);
        eventually("it stands still", || {
            let threads = fs::read_dir(format!("/proc/{}/task", run.pid())).ok()?;
            let all =
                threads.flatten().map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
            all.into_iter().all(|stat| stat.contains(") T ")).then_some(())
        });
        let (own, of_the_folder) = (format!(" {} ", run.pid()), format!(":{lock} "));
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let decides = locks.lines().any(|line| line.contains(&own) && line.contains(&of_the_folder));
        if decides {
            run.signal(CONT);
        }
        (!decides).then_some(())
    });
}

#[test]
fn a_waiter_that_stands_still_is_passed_over_and_is_next_when_it_goes_on() {
    let mut line = String::new();
    let [still, _, last] = with_passes(1, || {
        let (folder, holder, still, next, last, said) = within(SOON, || {
            let folder = Folder::new(1);
            let holder = folder.hold("--semaphore turns");
            let still = folder.queue("--semaphore turns");
            let next = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN; exec sleep 1000");
            let mut next = next.start();
            eventually("it waits", || (folder.claims("turns") == 3).then_some(()));
            let last = folder.queue("--semaphore turns");
            stop(&folder, &still);
            let (said, took) = timed(|| {
                holder.signal(TERM);
                next.line()
            });
            ((folder, holder, still, next, last, said), took)
        });
        let state = folder.state("turns");
        let claim = &state["claims"][0];
        assert_eq!((&claim["phase"], &claim["passedOver"]), (&"Pending".into(), &true.into()), "{state}");
        assert_eq!(claim["message"], "passed over: it stood still when its turn came");
        // It goes on, and has its old place.
        still.signal(CONT);
        eventually("it is back in the queue", || {
            (folder.state("turns")["claims"][0]["passedOver"] == serde_json::Value::Null).then_some(())
        });
        next.signal(TERM);
        let ended = [still.end(), next.end(), last.end()];
        assert_eq!(holder.end().code(), 143);
        line = said;
        ended
    });
    assert!(still.stderr.contains("it was passed over, as it stood still when its turn came"), "{}", still.stderr);
    let (still, last) = (token(&still), token(&last));
    assert!(line.parse::<u64>().unwrap() < still && still < last, "{line} {still} {last}");
}

#[test]
fn who_stands_still_keeps_nobody_from_seeing_the_end_of_a_killed_holder_or_an_edit() {
    let [second, third] = with_passes(0, || {
        let folder = Folder::new(1);
        let holder = folder.hold("--semaphore turns");
        let still = folder.queue("--semaphore turns");
        let (second, third) = (folder.queue("--semaphore turns"), folder.queue("--semaphore turns"));
        stop(&folder, &still);
        holder.signal(KILL);
        // It is killed before it can say anything.
        let ended = [second.end(), third.end()];
        drop(still);
        ended
    });
    assert!(token(&second) < token(&third));
    let folder = Folder::new(0);
    let still = folder.queue("--semaphore turns");
    let second = folder.queue("--semaphore turns");
    stop(&folder, &still);
    folder.define("turns", 1);
    token(&second.end());
}

#[test]
fn who_is_passed_over_can_be_killed_and_is_forgotten() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    let still = folder.queue("--semaphore turns");
    let next = folder.queue("--semaphore turns");
    stop(&folder, &still);
    holder.signal(TERM);
    token(&next.end());
    assert_eq!(folder.claims("turns"), 1);
    still.signal(KILL);
    drop(still);
    token(&folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN").end());
    assert_eq!(folder.claims("turns"), 0);
}

#[test]
fn a_holder_that_stands_still_is_not_passed_over() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    stop(&folder, &holder);
    let ended = folder.run("--semaphore turns --wait-timeout 7s", "echo started").end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (75, ""), "{}", ended.stderr);
}
