//! Without a cluster: several real processes, one folder.

mod access;
mod crowd;
mod nested;
mod stopped;
mod trouble;
mod watched;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use crate::harness::{Ended, Run, Running, children, eventually, is_alive, kill, run, sh, timed, within};

const TERM: i32 = 15;
const KILL: i32 = 9;
const STOP: i32 = 19;

/// A folder with manifests.
struct Folder(tempfile::TempDir);

impl Folder {
    /// One with a semaphore of so many permits, called `turns`.
    fn new(permits: u32) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.define("turns", permits);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a manifest, at once as a whole.
    fn write(&self, file: &str, text: &str) {
        let new = self.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path().join(file)).unwrap();
    }

    fn define(&self, name: &str, permits: u32) {
        let text = format!(
            "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: {name}\nspec:\n  permits: {permits}\n"
        );
        self.write(&format!("{name}.yaml"), &text);
    }

    /// A run of a script that wants what the flags say.
    fn run(&self, flags: &str, script: &str) -> Run {
        sh(script).flags(&format!("--local {} {flags}", self.path().display()))
    }

    /// Starts one that holds until it is ended, and waits until it does.
    fn hold(&self, flags: &str) -> Running {
        let mut run = self.run(flags, "echo $$ $KONDUCTOR_FENCING_TOKEN; exec sleep 1000").start();
        let line = run.line();
        assert!(!line.is_empty(), "{}", run.end().stderr);
        run
    }

    /// Starts one that will tell its token, and waits until it is in the queue.
    fn queue(&self, flags: &str) -> Running {
        let before = self.claims("turns");
        let run = self.run(flags, "echo $KONDUCTOR_FENCING_TOKEN").start();
        eventually("it is in the queue", || (self.claims("turns") > before).then_some(()));
        run
    }

    fn state_folder(&self, name: &str) -> PathBuf {
        self.path().join(".konductor/semaphores").join(name)
    }

    /// What the state says; nothing while there is none.
    fn state(&self, name: &str) -> serde_json::Value {
        let text = fs::read(self.state_folder(name).join("state.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn claims(&self, name: &str) -> usize {
        self.state(name)["claims"].as_array().map_or(0, Vec::len)
    }
}

/// The fencing token that a run tells in its only line.
fn token(ended: &Ended) -> u64 {
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    ended.stdout.trim().parse().unwrap_or_else(|_| panic!("{ended:?}"))
}

/// Plays a scene until those in it say so often that one was passed over, all in all: who does not get to run for
/// seconds when its turn has come is, and then has its turn later than in its order.
fn with_passes<const N: usize>(times: usize, mut scene: impl FnMut() -> [Ended; N]) -> [Ended; N] {
    eventually(&format!("one is passed over {times} times"), || {
        let ended = scene();
        let passes: usize = ended.iter().map(|one| one.stderr.matches("it was passed over").count()).sum();
        (passes == times).then_some(ended)
    })
}

fn pid_of_command(run: &Running) -> i32 {
    // The watchdog is a child, too, and the older one.
    let is_ours = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.is_empty() || name.starts_with("konductor-")
    };
    eventually("it has a command", || children(run.pid()).into_iter().find(|pid| !is_ours(pid)))
}

#[test]
fn one_waits_for_the_other_and_says_so() {
    let [second, third] = with_passes(0, || {
        let folder = Folder::new(1);
        let first = folder.hold("--semaphore turns");
        let mut second = folder.queue("--semaphore turns");
        assert_eq!(second.read_log(["\n"]), "konductor-run: waiting for semaphore turns: next in line\n");
        let mut third = folder.queue("--semaphore turns");
        assert_eq!(third.read_log(["\n"]), "konductor-run: waiting for semaphore turns: 1 ahead\n");
        first.signal(TERM);
        assert_eq!(first.end().code(), 143);
        let ended = [second.end(), third.end()];
        assert_eq!(folder.claims("turns"), 0);
        ended
    });
    assert!(token(&second) < token(&third));
    let holding = format!("konductor-run: holding semaphore turns, fencing token {}\n", token(&second));
    assert_eq!(second.stderr, holding);
}

/// What the kernel says of a process's memory, in kB.
fn memory(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn who_waits_or_holds_gives_back_the_pages_of_the_program_that_were_needed_only_to_come_to_that() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    let waiter = folder.queue("--semaphore turns");
    for run in [&waiter, &holder] {
        let pid = run.pid();
        eventually("little of the program is in its memory", || {
            (memory(pid, "RssFile:") < memory(pid, "VmHWM:") / 2).then_some(())
        });
    }
    waiter.signal(TERM);
    assert_eq!(waiter.end().code(), 143);
    holder.signal(TERM);
    assert_eq!(holder.end().code(), 143);
}

#[test]
fn a_killed_holder_frees_at_once_and_its_command_is_dead() {
    within(Duration::from_secs(2), || {
        let folder = Folder::new(1);
        let holder = folder.hold("--semaphore turns");
        let (waiter, command) = (folder.queue("--semaphore turns"), pid_of_command(&holder));
        let (ended, took) = timed(|| {
            holder.signal(KILL);
            waiter.end()
        });
        token(&ended);
        eventually("it is killed with its parent", || (!is_alive(command)).then_some(()));
        ((), took)
    });
}

/// A session of its own, an environment without anything of ours, and parents that are gone: nobody can know whose it is.
const GOT_AWAY: &str = "(setsid env -i sh -c 'echo $$; exec sleep 1000' &) ; wait";

#[test]
fn what_gets_away_from_a_killed_holder_still_holds() {
    let folder = Folder::new(1);
    let mut holder = folder.run("--semaphore turns", &format!("{GOT_AWAY}; exec sleep 1000")).start();
    let survivor: i32 = holder.line().parse().unwrap();
    let command = pid_of_command(&holder);
    eventually("its parents are gone", || (parent(survivor) == Some(holder.pid())).then_some(()));
    // When the watchdog looks, it is not even konductor-run's child any more.
    let [watchdog] = eventually("there is one", || <[i32; 1]>::try_from(watchdogs(&folder)).ok());
    crate::harness::signal_process(watchdog, STOP);
    holder.signal(KILL);
    eventually("it is an orphan", || (parent(survivor) != Some(holder.pid())).then_some(()));
    crate::harness::signal_process(watchdog, 18);
    eventually("the command is dead", || (!is_alive(command)).then_some(()));
    eventually("the watchdog has done what it could", || watchdogs(&folder).is_empty().then_some(()));
    assert!(is_alive(survivor));
    let refused = folder.run("--semaphore turns --wait-timeout 0", "echo started").end();
    assert_eq!((refused.code(), refused.stdout.as_str()), (75, ""), "{}", refused.stderr);
    let waiter = folder.queue("--semaphore turns");
    kill(survivor);
    token(&waiter.end());
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

/// The watchdogs that hold something of this folder.
fn watchdogs(folder: &Folder) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ours = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut paths = open.filter_map(|file| fs::read_link(file.path()).ok());
        name == "konductor-wdog\n" && paths.any(|path| path.starts_with(folder.path()))
    };
    pids.filter(ours).collect()
}

/// Runs a command without any open descriptor but the first three, as most programs run theirs.
const CLOSED: &str = r#"for file in /proc/self/fd/*; do
  number=${file##*/}
  if [ "$number" -gt 2 ]; then eval "exec $number>&-"; fi
done
"$@"; exit"#;

#[test]
fn what_has_closed_the_lock_is_dead_before_the_next_one_starts() {
    let folder = Folder::new(1);
    let log = folder.path().join("log");
    for layers in ["", "setsid", "env -i"] {
        fs::write(&log, "").unwrap();
        let first = format!("while :; do echo first >>{}; done", log.display());
        let run = run(["bash", "-c", CLOSED, "bash"])
            .flags(&format!("-q --local {} --semaphore turns", folder.path().display()))
            .arguments(&format!("{layers} sh -c"))
            .argument(&first);
        let holder = run.start();
        eventually("the command's child runs", || (!fs::read(&log).unwrap().is_empty()).then_some(()));
        // For long enough that whatever ran beside it would be seen.
        let second = "n=0; while [ $n -lt 2000 ]; do echo second; n=$((n + 1)); done";
        let waiter = folder.run("-q --semaphore turns", &format!("({second}) >>{}", log.display())).start();
        eventually("it waits", || (folder.claims("turns") == 2).then_some(()));
        holder.signal(KILL);
        assert_eq!(waiter.end().code(), 0);
        let lines = fs::read_to_string(&log).unwrap();
        let seconds: Vec<_> = lines.lines().skip_while(|line| *line == "first").collect();
        assert_eq!(seconds.len(), 2000, "{layers}");
        assert!(seconds.iter().all(|line| *line == "second"), "{layers}: it ran beside the second");
    }
}

#[test]
fn what_the_command_has_left_in_its_group_is_dead_before_the_next_one_starts() {
    let folder = Folder::new(1);
    // The command ends when what it leaves behind has said that it does not mind TERM.
    let leaves = "{ env -i sh -c 'trap \"\" TERM; echo $$; exec >/dev/null; while :; do sleep 0.01; done' & } | \
                  { read -r left; echo $left; }; exit";
    let mut holder = run(["bash", "-c", CLOSED, "bash"])
        .flags(&format!("-q --grace 60s --local {} --semaphore turns", folder.path().display()))
        .arguments("eval")
        .argument(leaves)
        .start();
    let left: i32 = holder.line().parse().unwrap();
    // The command has been reaped, and what it leaves behind does not mind TERM.
    eventually("it is konductor-run's", || (parent(left) == Some(holder.pid())).then_some(()));
    eventually("nothing else is left", || (children(holder.pid()).len() <= 2).then_some(()));
    holder.signal(KILL);
    token(&folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN").end());
    assert!(!is_alive(left));
}

#[test]
fn as_long_as_the_watchdog_has_not_ended_the_tree_nobody_else_starts() {
    let folder = Folder::new(1);
    let mut holder = run(["bash", "-c", CLOSED, "bash"])
        .flags(&format!("-q --local {} --semaphore turns", folder.path().display()))
        .arguments("sh -c")
        .argument("echo $$; exec sleep 1000")
        .start();
    let child: i32 = holder.line().parse().unwrap();
    let [watchdog] = eventually("there is one", || <[i32; 1]>::try_from(watchdogs(&folder)).ok());
    crate::harness::signal_process(watchdog, STOP);
    holder.signal(KILL);
    eventually("konductor-run is dead", || (!is_alive(holder.pid())).then_some(()));
    let ended = folder.run("--semaphore turns --wait-timeout 300ms", "echo started").end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (75, ""), "{}", ended.stderr);
    assert!(is_alive(child));
    crate::harness::signal_process(watchdog, 18);
    token(&folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN").end());
    assert!(!is_alive(child));
}

#[test]
fn a_watchdog_that_is_killed_is_replaced() {
    let folder = Folder::new(1);
    let mut holder = run(["bash", "-c", CLOSED, "bash"])
        .flags(&format!("--local {} --semaphore turns", folder.path().display()))
        .arguments("sh -c")
        .argument("echo $$; exec sleep 1000")
        .start();
    let child: i32 = holder.line().parse().unwrap();
    for _ in 0..3 {
        let [watchdog] = eventually("there is one", || <[i32; 1]>::try_from(watchdogs(&folder)).ok());
        kill(watchdog);
        eventually("there is another one", || {
            let now = watchdogs(&folder);
            (now.len() == 1 && now[0] != watchdog).then_some(())
        });
    }
    let waiter = folder.queue("--semaphore turns");
    holder.signal(KILL);
    token(&waiter.end());
    assert!(!is_alive(child));
    assert!(holder.end().stderr.contains("the watchdog has ended"));
}

#[test]
fn a_watchdog_is_there_while_the_command_runs_and_has_nothing_open_but_the_lock() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    let [watchdog] = eventually("there is one", || <[i32; 1]>::try_from(watchdogs(&folder)).ok());
    let [lock, pipe] = eventually("it has settled in", || {
        let open = fs::read_dir(format!("/proc/{watchdog}/fd")).unwrap();
        let mut open: Vec<_> = open.flatten().filter_map(|file| fs::read_link(file.path()).ok()).collect();
        open.sort();
        <[PathBuf; 2]>::try_from(open).ok()
    });
    let claims = folder.state_folder("turns").join("claims");
    assert!(lock.starts_with(claims) && pipe.to_string_lossy().starts_with("pipe:"), "{lock:?} {pipe:?}");
    // Who ends konductor-run by its arguments does not end both.
    let arguments = fs::read_to_string(format!("/proc/{watchdog}/cmdline")).unwrap();
    assert_eq!(arguments.trim_end_matches('\0'), "konductor-wdog");
    let waiter = folder.queue("--semaphore turns");
    assert_eq!(watchdogs(&folder), [watchdog], "who waits has none");
    holder.signal(TERM);
    token(&waiter.end());
    assert_eq!(watchdogs(&folder), [0; 0]);
}

#[test]
fn killed_waiters_are_passed_over() {
    let ended = with_passes(0, || {
        let folder = Folder::new(1);
        let holder = folder.hold("--semaphore turns");
        let [first, second, third, fourth, last] = [(); 5].map(|()| folder.queue("--semaphore turns"));
        for waiter in [last, third, first] {
            waiter.signal(KILL);
            drop(waiter);
        }
        eventually("they are gone from the queue", || (folder.claims("turns") <= 4).then_some(()));
        holder.signal(TERM);
        let ended = [second.end(), fourth.end()];
        assert_eq!((holder.end().code(), folder.claims("turns")), (143, 0));
        ended
    });
    let tokens = ended.each_ref().map(token);
    assert!(tokens.is_sorted(), "{tokens:?}");
}

#[test]
fn a_stopped_holder_holds_on() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    holder.signal(STOP);
    let ended = folder.run("--semaphore turns --wait-timeout 300ms", "echo started").end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (75, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("timed out waiting for semaphore turns"), "{}", ended.stderr);
}

#[test]
fn term_while_waiting_withdraws() {
    let folder = Folder::new(1);
    let _holder = folder.hold("--semaphore turns");
    within(Duration::from_secs(2), || {
        let waiter = folder.queue("--semaphore turns");
        waiter.signal(TERM);
        let (ended, took) = timed(|| waiter.end());
        assert_eq!((ended.code(), ended.stdout.as_str()), (143, ""), "{}", ended.stderr);
        // On a busy machine it is the next who takes it out of the state.
        eventually("it is gone from the queue", || {
            assert_eq!(folder.run("--semaphore turns --wait-timeout 0", "true").code(), 75);
            (folder.claims("turns") == 1).then_some(())
        });
        ((), took)
    });
}

#[test]
fn trying_once_and_skipping_are_as_in_a_cluster() {
    let folder = Folder::new(1);
    let _holder = folder.hold("--semaphore turns");
    for (flags, code, said) in [
        ("--semaphore turns --wait-timeout 0", 75, "error: semaphore turns is not free"),
        (
            "--semaphore turns --wait-timeout 0 --on-timeout skip",
            0,
            "semaphore turns is not free: skipping the command",
        ),
        (
            "--semaphore turns --wait-timeout 3s --on-timeout skip",
            0,
            "semaphore turns is not free: skipping the command",
        ),
        ("--semaphore other --wait-timeout 0", 78, "error: there is no semaphore other"),
        (
            "--semaphore other --wait-timeout 3s",
            75,
            "error: timed out waiting for semaphore other, which does not exist",
        ),
    ] {
        // Whoever has stood still for the whole wait has heard nothing.
        let ended = eventually("there was time to look", || {
            let ended = folder.run(flags, "echo started").end();
            (!ended.stderr.contains("other processes keep the folder busy")).then_some(ended)
        });
        assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{flags}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{flags}: {}", ended.stderr);
    }
}

#[test]
fn priorities_and_weights_are_as_in_a_cluster() {
    let ended = with_passes(0, || {
        let folder = Folder::new(2);
        let holder = folder.hold("--semaphore turns:2");
        let low = folder.queue("--semaphore turns:2 --priority -1");
        let both = folder.queue("--semaphore turns:2");
        let high = folder.queue("--semaphore turns --priority 7");
        let too_many = folder.queue("--semaphore turns:3 --priority 9");
        holder.signal(TERM);
        let [high, both, low] = [high, both, low].map(Running::end);
        folder.define("turns", 3);
        [high, both, low, too_many.end()]
    });
    let tokens = ended.each_ref().map(token);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[test]
fn all_permits_are_an_exclusive_lock_and_one_is_a_shared_one() {
    let folder = Folder::new(100);
    let code = |flags: &str| folder.run(&format!("-q {flags}"), "exit 7").code();
    let (shared, exclusive) = ("--semaphore turns", "--semaphore turns:100");
    let reader = folder.hold(shared);
    for (flags, expected) in [
        (format!("{exclusive} --wait-timeout 0"), 75),
        (format!("{shared} --wait-timeout 0"), 7),
        (format!("{exclusive} --wait-timeout 300ms"), 75),
    ] {
        assert_eq!(code(&flags), expected, "{flags}");
    }
    let writer = folder.queue(exclusive);
    assert_eq!(code(&format!("{shared} --wait-timeout 0")), 75, "the writer came first");
    reader.signal(TERM);
    token(&writer.end());
    let writer = folder.hold(exclusive);
    for flags in [shared, exclusive] {
        assert_eq!(code(&format!("{flags} --wait-timeout 0")), 75, "{flags}");
    }
    writer.signal(TERM);
    assert_eq!(code(exclusive), 7);
}

#[test]
fn leases_have_one_holder() {
    let folder = Folder::new(1);
    folder.write("lease.yml", "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: leader}\nspec: {ttl: 15s}\n");
    let both = "--lease leader --semaphore turns";
    let holder = folder.hold(both);
    let waiter = folder.run(both, "echo $KONDUCTOR_HELD $KONDUCTOR_TOKEN_LEASE_LEADER").start();
    let lease = folder.path().join(".konductor/leases/leader/state.json");
    eventually("it is in the queue", || fs::read_to_string(&lease).ok()?.contains("\"Pending\"").then_some(()));
    holder.signal(TERM);
    let ended = waiter.end();
    assert!(ended.stdout.starts_with("lease/leader,semaphore/turns 1"), "{ended:?}");
}

#[test]
fn two_that_ask_in_opposite_order_never_wait_for_each_other() {
    let folder = Folder::new(1);
    folder.define("other", 1);
    let rounds = folder.path().join("rounds");
    let loops = |flags: &str| {
        let run = folder.run(flags, "exit 0").command();
        let words: Vec<_> = std::iter::once(run.get_program())
            .chain(run.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let script = "set -e; n=0; while [ $n -lt 25 ]; do \"$@\"; n=$((n + 1)); echo $n >>\"$ROUNDS\"; done";
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", script, "sh"])
            .args(words)
            .env("ROUNDS", &rounds)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running(shell.spawn().unwrap())
    };
    let pair = [loops("--semaphore turns --semaphore other -q"), loops("--semaphore other --semaphore turns -q")];
    for round in 1..=50 {
        let rounds = || fs::read_to_string(&rounds).unwrap_or_default().lines().count();
        eventually("another round is over", || (rounds() >= round).then_some(()));
    }
    for run in pair {
        let ended = run.end();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
}

#[test]
fn tokens_rise_whatever_is_deleted() {
    let folder = Folder::new(1);
    let next = || token(&folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN").end());
    let mut tokens = vec![next(), next()];
    fs::remove_dir_all(folder.state_folder("turns").join("claims")).unwrap();
    tokens.push(next());
    fs::remove_file(folder.path().join("turns.yaml")).unwrap();
    assert_eq!(folder.run("--semaphore turns --wait-timeout 0", "true").code(), 78);
    folder.define("turns", 2);
    tokens.push(next());
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
}

#[test]
fn permits_can_be_added_and_taken_away_while_others_wait() {
    let [first, second] = with_passes(0, || {
        let folder = Folder::new(0);
        let (first, second) = (folder.queue("--semaphore turns"), folder.queue("--semaphore turns"));
        folder.define("turns", 2);
        [first.end(), second.end()]
    });
    assert!(token(&first) < token(&second));
    let folder = Folder::new(2);
    let holders = [folder.hold("--semaphore turns"), folder.hold("--semaphore turns")];
    folder.define("turns", 1);
    let waiter = folder.queue("--semaphore turns");
    holders[0].signal(TERM);
    eventually("one of the two holders is left", || (folder.claims("turns") == 2).then_some(()));
    assert_eq!(folder.state("turns")["claims"][1]["phase"], "Pending", "{}", folder.state("turns"));
    holders[1].signal(TERM);
    token(&waiter.end());
}

#[test]
fn a_semaphore_can_be_added_while_others_wait_for_it() {
    let folder = Folder::new(1);
    fs::remove_file(folder.path().join("turns.yaml")).unwrap();
    let mut waiter = folder.queue("--semaphore turns");
    waiter.says("waiting for semaphore turns, which does not exist yet");
    folder.define("turns", 1);
    token(&waiter.end());
}

/// User and system time in ticks, and how often it slept, of all threads of a process; nothing when one of them is just
/// ending.
fn activity(pid: i32) -> Option<(u64, u64)> {
    let mut sum = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        let stat = fs::read_to_string(task.join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        sum.0 += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = fs::read_to_string(task.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        sum.1 += line.trim().parse::<u64>().unwrap();
    }
    Some(sum)
}

#[test]
fn waiting_costs_nothing() {
    let folder = Folder::new(1);
    let _holder = folder.hold("--semaphore turns");
    let waiters: Vec<_> = (0..3).map(|_| folder.queue("--semaphore turns")).collect();
    let all = || waiters.iter().map(|run| activity(run.pid())).collect::<Option<Vec<_>>>();
    // Threads that have done their part end, and nothing is left to do: the same for a whole second, and for one more.
    eventually("they sleep", || {
        let before = all()?;
        let quiet = || run(["sleep", "1"]).code() == 0 && all().as_ref() == Some(&before);
        (quiet() && quiet()).then_some(())
    });
}

#[test]
fn the_command_has_nothing_of_ours_but_the_lock() {
    let folder = Folder::new(1);
    // Its claim is the only FIFO of this folder that it has open, and the folder's other files are closed.
    let script = "for fd in /proc/self/fd/*; do readlink $fd; done";
    let ended = folder.run("--semaphore turns", script).end();
    let open: Vec<_> =
        ended.stdout.lines().filter(|path| path.starts_with(&*folder.path().to_string_lossy())).collect();
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(open[0].starts_with(&*folder.state_folder("turns").join("claims").to_string_lossy()), "{open:?}");
}
