//! Without a cluster: several real processes, one folder.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use crate::harness::{Ended, Run, Running, eventually, is_alive, kill, run, sh, timed};

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
        // And asleep: as many open files as it will have.
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

fn pid_of_command(run: &Running) -> i32 {
    eventually("it has a command", || crate::harness::children(run.pid()).first().copied())
}

#[test]
fn one_waits_for_the_other_and_says_so() {
    let folder = Folder::new(1);
    let first = folder.hold("--semaphore turns");
    let second = folder.queue("--semaphore turns");
    let third = folder.queue("--semaphore turns");
    first.signal(TERM);
    assert_eq!(first.end().code(), 143);
    let (second, third) = (second.end(), third.end());
    assert!(token(&second) < token(&third));
    assert_eq!(
        second.stderr,
        format!(
            "konductor-run: waiting for semaphore turns: next in line\nkonductor-run: holding semaphore turns, fencing token {}\n",
            token(&second)
        )
    );
    assert!(third.stderr.starts_with("konductor-run: waiting for semaphore turns: 1 ahead\n"), "{}", third.stderr);
    assert_eq!(folder.claims("turns"), 0);
}

#[test]
fn a_killed_holder_frees_at_once_and_its_command_is_dead() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    let (waiter, command) = (folder.queue("--semaphore turns"), pid_of_command(&holder));
    let (ended, took) = timed(|| {
        holder.signal(KILL);
        waiter.end()
    });
    token(&ended);
    assert!(!is_alive(command), "it is killed with its parent");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn what_outlives_a_killed_holder_still_holds() {
    let folder = Folder::new(1);
    let script = "setsid sh -c 'echo $$; exec sleep 1000' & wait";
    let mut holder = folder.run("--semaphore turns", script).start();
    let survivor: i32 = holder.line().parse().unwrap();
    let command = pid_of_command(&holder);
    holder.signal(KILL);
    eventually("the command is dead", || (!is_alive(command)).then_some(()));
    assert!(is_alive(survivor));
    let refused = folder.run("--semaphore turns --wait-timeout 0", "echo started").end();
    assert_eq!((refused.code(), refused.stdout.as_str()), (75, ""), "{}", refused.stderr);
    let waiter = folder.queue("--semaphore turns");
    kill(survivor);
    token(&waiter.end());
}

#[test]
fn killed_waiters_are_passed_over() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    let mut waiters: Vec<_> = (0..5).map(|_| folder.queue("--semaphore turns")).collect();
    // The last, one in the middle, and the first.
    for at in [4, 2, 0] {
        let waiter = waiters.remove(at);
        waiter.signal(KILL);
        drop(waiter);
    }
    eventually("they are gone from the queue", || (folder.claims("turns") <= 4).then_some(()));
    holder.signal(TERM);
    let tokens: Vec<_> = waiters.into_iter().map(|waiter| token(&waiter.end())).collect();
    assert!(tokens.is_sorted(), "{tokens:?}");
    assert_eq!((holder.end().code(), folder.claims("turns")), (143, 0));
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
    let waiter = folder.queue("--semaphore turns");
    waiter.signal(TERM);
    let (ended, took) = timed(|| waiter.end());
    assert_eq!((ended.code(), ended.stdout.as_str()), (143, ""), "{}", ended.stderr);
    assert!(took < Duration::from_secs(2), "{took:?}");
    // On a busy machine it is the next who takes it out of the state.
    eventually("it is gone from the queue", || {
        assert_eq!(folder.run("--semaphore turns --wait-timeout 0", "true").code(), 75);
        (folder.claims("turns") == 1).then_some(())
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
        let ended = folder.run(flags, "echo started").end();
        assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{flags}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{flags}: {}", ended.stderr);
    }
}

#[test]
fn priorities_and_weights_are_as_in_a_cluster() {
    let folder = Folder::new(2);
    let holder = folder.hold("--semaphore turns:2");
    let low = folder.queue("--semaphore turns:2 --priority -1");
    let both = folder.queue("--semaphore turns:2");
    let high = folder.queue("--semaphore turns --priority 7");
    let too_many = folder.queue("--semaphore turns:3 --priority 9");
    holder.signal(TERM);
    let tokens = [high, both, low].map(|run| token(&run.end()));
    assert!(tokens.is_sorted(), "{tokens:?}");
    folder.define("turns", 3);
    assert!(token(&too_many.end()) > tokens[2]);
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
    let loops = |flags: &str| {
        let run = folder.run(flags, "exit 0").command();
        let words: Vec<_> = std::iter::once(run.get_program())
            .chain(run.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let script = "set -e; n=0; while [ $n -lt 25 ]; do \"$@\"; n=$((n + 1)); done";
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script, "sh"]).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(shell.spawn().unwrap())
    };
    let pair = [loops("--semaphore turns --semaphore other -q"), loops("--semaphore other --semaphore turns -q")];
    for run in pair {
        let ended = run.end();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
}

/// Each command takes one of as many slots as there are permits, by locks that have nothing to do with ours: if there is
/// none free, too many run. Then it writes its token down.
const CHECKER: &str = r#"
for n in $SLOTS; do
  exec 9>"$OUT/slot$n"
  if flock -n 9; then echo "$KONDUCTOR_FENCING_TOKEN" >>"$OUT/tokens"; sleep 0.01; exit 0; fi
done
echo overlap >>"$OUT/tokens"
"#;

/// Runs the checker in so many processes, kills those that `victim` says, and returns the tokens in the order in which they
/// were written down.
fn crowd(count: usize, permits: u32, victim: impl Fn(usize) -> bool) -> Vec<u64> {
    let (folder, out) = (Folder::new(permits), tempfile::tempdir().unwrap());
    let slots: Vec<_> = (0..permits).map(|slot| slot.to_string()).collect();
    let one = folder
        .run("--semaphore turns -qq", CHECKER)
        .env("OUT", &out.path().display().to_string())
        .env("SLOTS", &slots.join(" "));
    let runs: Vec<_> = (0..count).map(|number| (number, one.start())).collect();
    let written = || fs::read_to_string(out.path().join("tokens")).unwrap_or_default();
    for (number, run) in runs.iter().filter(|(number, _)| victim(*number)) {
        // One after the other while the others take their turns, so that holders and waiters at all places are hit.
        eventually("more have had their turn", || (written().lines().count() >= number * 2 / 5).then_some(()));
        run.signal(KILL);
    }
    for (number, run) in runs {
        let ended = run.end();
        if !victim(number) {
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
    let folder = Folder::new(0);
    let (first, second) = (folder.queue("--semaphore turns"), folder.queue("--semaphore turns"));
    folder.define("turns", 2);
    assert!(token(&first.end()) < token(&second.end()));
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
    let waiter = folder.queue("--semaphore turns");
    folder.define("turns", 1);
    let ended = waiter.end();
    token(&ended);
    assert!(ended.stderr.contains("waiting for semaphore turns, which does not exist yet"), "{}", ended.stderr);
}

#[test]
fn a_mistake_in_a_manifest_is_one_line_and_does_not_end_those_who_wait() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    let waiter = folder.queue("--semaphore turns");
    for (text, said) in [
        ("kind: Semafore\napiVersion: konductor.io/v1\n", "other.yaml line 1: unknown kind \"Semafore\""),
        (
            "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: x\nspec:\n  permits: 1\n  permit: 2\n",
            "other.yaml line 7: unknown field permit",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: x\nspec:\n  permits: many\n",
            "other.yaml line 6: permits: wanted a whole number from 0 to 1000000, found \"many\"",
        ),
        ("{", "other.yaml line "),
    ] {
        folder.write("other.yaml", text);
        let ended = folder.run("--semaphore turns", "echo started").end();
        assert_eq!(
            (ended.code(), ended.stdout.as_str(), ended.stderr.lines().count()),
            (77, "", 1),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(&format!("cannot acquire semaphore turns: {said}")), "{}", ended.stderr);
    }
    holder.signal(TERM);
    assert_eq!(holder.end().code(), 143);
    fs::remove_file(folder.path().join("other.yaml")).unwrap();
    let ended = waiter.end();
    token(&ended);
    assert!(ended.stderr.contains("trying again: other.yaml line 1"), "{}", ended.stderr);
}

#[test]
fn a_folder_that_cannot_be_used_is_one_line_and_77() {
    let folder = Folder::new(1);
    let at = |path: &Path| run(["true"]).flags(&format!("--local {} --semaphore turns", path.display()));
    let file = folder.path().join("turns.yaml");
    let missing = folder.path().join("missing");
    for (run, said) in [
        (at(&missing), format!("cannot open the folder {}: No such file", missing.display())),
        (at(&file), format!("cannot open the folder {}: Not a directory", file.display())),
        (at(Path::new("/proc")), "cannot create /proc/.konductor: ".to_owned()),
    ] {
        refused(&run.end(), &said);
    }
    // Root may write everywhere.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let as_nobody =
        if nix::unistd::geteuid().is_root() { "setpriv --reuid=65534 --regid=65534 --clear-groups" } else { "env" };
    let ended = at(folder.path()).under(as_nobody).end();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    refused(&ended, &format!("cannot create {}/.konductor: Permission denied", folder.path().display()));
}

fn refused(ended: &Ended, said: &str) {
    assert_eq!((ended.code(), ended.stderr.lines().count()), (77, 1), "{}", ended.stderr);
    let expected = format!("konductor-run: error: cannot acquire semaphore turns: {said}");
    assert!(ended.stderr.starts_with(&expected), "{}\nis not\n{expected}", ended.stderr);
}

/// In a mount namespace of its own, with a small file system of its own on `/mnt`.
fn on_small_disk(script: &str) -> Ended {
    let manifest = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {name: turns}\nspec: {permits: 1}\n";
    let script = format!("mount -t tmpfs -o size=64k none /mnt && printf '{manifest}' >/mnt/a.yaml && {script}");
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, crate::harness::KONDUCTOR_RUN];
    let mut command = std::process::Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(command.spawn().expect("unshare is there (package util-linux)")).end()
}

#[test]
fn a_read_only_disk_is_one_line_and_77() {
    let ended =
        on_small_disk("mount -o remount,bind,ro /mnt && exec \"$0\" --local /mnt --semaphore turns -- echo started");
    refused(&ended, "cannot create /mnt/.konductor: Read-only file system");
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_full_disk_is_one_line_and_77_and_does_not_hold_up_a_release() {
    // Full from the start; and full while one holds, which is then released all the same.
    let ended = on_small_disk(
        "\"$0\" -q --local /mnt --semaphore turns -- sh -c 'cat /dev/zero >/mnt/fill 2>/dev/null; echo held'; \
         echo $?; \"$0\" --local /mnt --semaphore turns -- echo started; echo $?; rm /mnt/fill; \
         exec \"$0\" -q --local /mnt --semaphore turns -- echo again",
    );
    assert_eq!(ended.stdout, "held\n0\n77\nagain\n", "{}", ended.stderr);
    let refused = ended.stderr.lines().find(|line| line.contains("error:")).unwrap_or_default();
    assert!(refused.contains("No space left on device"), "{}", ended.stderr);
}

#[test]
fn a_damaged_state_is_set_aside_and_never_taken_for_empty() {
    let folder = Folder::new(1);
    let first = token(&folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN").end());
    let state = folder.state_folder("turns").join("state.json");
    let aside = folder.state_folder("turns").join("state.json.corrupt-1");
    let good = fs::read(&state).unwrap();
    fs::write(&state, &good[..good.len() / 2]).unwrap();
    let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN");
    refused(&run.end(), &format!("cannot believe {}: it is not what konductor writes: ", state.display()));
    assert_eq!(fs::read(&aside).unwrap(), good[..good.len() / 2]);
    refused(&run.end(), &format!("{} was set aside because it is damaged: repair it", aside.display()));
    // Repaired.
    fs::remove_file(&aside).unwrap();
    fs::write(&state, &good).unwrap();
    assert!(token(&run.end()) > first);
    // A later version's is left where it is.
    fs::write(&state, "{\"version\":2}").unwrap();
    refused(&run.end(), &format!("cannot use {}: its format is version 2", state.display()));
    assert_eq!(fs::read(&state).unwrap(), b"{\"version\":2}");
}

#[test]
fn a_holder_that_the_state_does_not_know_keeps_others_out() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    fs::remove_file(folder.state_folder("turns").join("state.json")).unwrap();
    let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN");
    let ended = run.end();
    refused(&ended, &folder.state_folder("turns").join("claims").display().to_string());
    assert!(ended.stderr.contains("belongs to a process that runs"), "{}", ended.stderr);
    let command = pid_of_command(&holder);
    holder.signal(KILL);
    eventually("the command is dead", || (!is_alive(command)).then_some(()));
    token(&run.end());
}

#[test]
fn a_waiter_whose_claim_was_deleted_asks_again() {
    let folder = Folder::new(0);
    let waiter = folder.queue("--semaphore turns");
    // It may still be looking around.
    eventually("the state is deleted", || fs::remove_dir_all(folder.path().join(".konductor")).ok());
    folder.define("turns", 1);
    let ended = waiter.end();
    token(&ended);
    assert!(ended.stderr.contains("the claim was deleted"), "{}", ended.stderr);
}

#[test]
fn links_in_the_state_lead_nowhere() {
    let (folder, elsewhere) = (Folder::new(1), tempfile::tempdir().unwrap());
    let state = folder.path().join(".konductor");
    let run = folder.run("--semaphore turns", "true");
    let link = |from: &Path| std::os::unix::fs::symlink(elsewhere.path(), from).unwrap();
    link(&state);
    refused(&run.end(), &format!("{} is not a folder", state.display()));
    fs::remove_file(&state).unwrap();
    assert_eq!(run.code(), 0);
    for name in ["lock", "state.json"] {
        let file = folder.state_folder("turns").join(name);
        fs::remove_file(&file).unwrap();
        link(&file);
        refused(&run.end(), &format!("{} is not a plain file", file.display()));
        fs::remove_file(&file).unwrap();
    }
    let claim = folder.state_folder("turns").join("claims").join("0123456789abcdef0123456789abcdef");
    link(&claim);
    refused(&run.end(), &format!("{} is not a FIFO", claim.display()));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn a_manifest_that_is_no_file_does_not_hold_anybody_up() {
    let folder = Folder::new(1);
    let fifo = folder.path().join("pipe.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let ended = folder.run("--semaphore turns", "true").end();
    refused(&ended, &format!("{} is not a plain file", fifo.display()));
}

#[test]
fn the_state_belongs_to_whom_the_folder_does() {
    let folder = Folder::new(1);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let holder = folder.hold("--semaphore turns");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let state = folder.state_folder("turns");
    for path in [folder.path().join(".konductor"), state.clone(), state.join("claims")] {
        assert_eq!(mode(&path), 0o770, "{}", path.display());
    }
    let claim = fs::read_dir(state.join("claims")).unwrap().next().unwrap().unwrap();
    assert!(claim.file_type().unwrap().is_fifo());
    for path in [state.join("lock"), state.join("state.json"), claim.path()] {
        assert_eq!(mode(&path), 0o660, "{}", path.display());
    }
    holder.signal(TERM);
    assert_eq!(holder.end().code(), 143);
}

#[test]
fn a_folder_that_somebody_keeps_locked_is_waited_for() {
    let folder = Folder::new(1);
    let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN");
    token(&run.end());
    let lock = fs::File::open(folder.state_folder("turns").join("lock")).unwrap();
    lock.lock().unwrap();
    let (waiter, impatient) = (run.start(), folder.run("--semaphore turns --wait-timeout 6s", "true").start());
    let (ended, took) = timed(|| impatient.end());
    assert_eq!((ended.code(), took < Duration::from_secs(9)), (75, true), "{took:?}: {}", ended.stderr);
    assert!(ended.stderr.contains("waiting for semaphore turns"), "{}", ended.stderr);
    drop(lock);
    token(&waiter.end());
}

/// User and system time in ticks, and how often it slept, of all threads of a process.
fn activity(pid: i32) -> (u64, u64) {
    let mut sum = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        let stat = fs::read_to_string(task.join("stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        sum.0 += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        sum.1 += line.trim().parse::<u64>().unwrap();
    }
    sum
}

#[test]
fn waiting_costs_nothing() {
    let folder = Folder::new(1);
    let _holder = folder.hold("--semaphore turns");
    let waiters: Vec<_> = (0..3).map(|_| folder.queue("--semaphore turns")).collect();
    // Threads that have done their part end, and nothing is left to do: the same for a whole second.
    let quiet = || {
        let before: Vec<_> = waiters.iter().map(|run| activity(run.pid())).collect();
        assert_eq!(run(["sleep", "1"]).code(), 0);
        let after: Vec<_> = waiters.iter().map(|run| activity(run.pid())).collect();
        (before == after).then_some(())
    };
    eventually("they sleep", quiet);
    // And for one more, at once.
    assert!(quiet().is_some());
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
