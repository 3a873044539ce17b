//! Many wrappers under random faults, for as long as one likes, with a seed that says which faults: `tests/stress`.
//!
//! Some of the wrappers are the first process of a PID namespace, as in a container, and some are not. Faults hit them,
//! the operators and the API server. What is checked, from what the commands wrote down and what the API showed:
//!
//! - never more hold than there are permits ([`crate::record`]);
//! - a command is dead before its claim is seen expired or gone, and whatever it had started with it;
//! - once the faults have stopped, everything is free again within a TTL and a little time of the operator's;
//! - each claim goes from state to state as it may, and keeps its ticket ([`Claims`], as in the simulation);
//! - each wrapper ends with a code that its end explains.
//!
//! The seed decides what is done and to whom; how the processes interleave is up to the machine, so a run can be
//! repeated in kind, not exactly.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use konductor::Boottime;
use konductor_api::{ClaimPhase, Permit};
use konductor_sim::claims::Claims;
use konductor_tests::{Chance, ControlPlane, Installed, Pid, Process, Signal, eventually, setting, wait_for};
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use nix::sys::signal::kill;
use tokio::time::{sleep, timeout};

use crate::holders::contained;
use crate::record::Record;
use crate::scene::{LIMIT, Scene, WITNESS, exclusive, seconds};

/// Permits of the two semaphores: with one, any overlap shows; with more, claims are granted side by side.
const SEMAPHORES: [(&str, usize); 2] = [("one", 1), ("five", 5)];

/// The shortest time to live that there is.
const TTL: Duration = Duration::from_secs(5);

/// From one fault to the next.
const PAUSE: (u64, u64) = (100, 900);

/// How long something stays frozen: up to well past the TTL.
const FROZEN: (u64, u64) = (200, 9_000);

/// How long the API server is away. Often shorter than the TTL, so that not everybody loses what it holds each time.
const AWAY: (u64, u64) = (200, 6_000);

/// The operator's own time after a TTL has passed, on a busy machine.
const OVERHEAD: Duration = Duration::from_secs(30);

/// Codes that a wrapper may end with here: success, a cluster that it did not reach, a loss, and the signals sent to
/// it.
const CODES: [i32; 5] = [0, 69, 79, 128 + 9, 128 + 15];

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGTERM to a wrapper.
    Terminate,
    /// SIGKILL to a wrapper, and to nothing else.
    KillWrapper,
    /// SIGKILL to a wrapper's watchdog.
    KillWatchdog,
    /// SIGSTOP to a wrapper alone.
    FreezeWrapper,
    /// SIGSTOP to a wrapper and all that it has started.
    FreezeAll,
    /// An operator is killed and replaced.
    KillOperator,
    /// An operator stands still for a while.
    FreezeOperator,
    /// The API server takes connections and does not answer.
    FreezeApiServer,
    /// The API server is gone and comes back.
    RestartApiServer,
}

/// More often those that hit one wrapper.
const FAULTS: [Fault; 16] = [
    Fault::Terminate,
    Fault::KillWrapper,
    Fault::KillWrapper,
    Fault::KillWrapper,
    Fault::KillWatchdog,
    Fault::KillWatchdog,
    Fault::FreezeWrapper,
    Fault::FreezeWrapper,
    Fault::FreezeWrapper,
    Fault::FreezeAll,
    Fault::FreezeAll,
    Fault::FreezeAll,
    Fault::KillOperator,
    Fault::FreezeOperator,
    Fault::FreezeApiServer,
    Fault::RestartApiServer,
];

/// One wrapper, and the place that it holds among the others.
struct Slot {
    holder: String,
    process: Process,
    number: usize,
    /// The first of a PID namespace: its parent is another program.
    contained: bool,
    frozen: Option<Frozen>,
}

/// What stands still, until when, in the order in which it goes on.
struct Frozen {
    until: Boottime,
    pids: Vec<Pid>,
}

/// What the API showed.
#[derive(Default)]
struct Shown {
    /// When the claim on this semaphore with this fencing token was over.
    overs: BTreeMap<(String, u64), Boottime>,
    /// What each claim was, one after the other.
    claims: Claims,
}

struct Stress {
    control_plane: ControlPlane,
    installed: Installed,
    scene: Scene,
    records: [Record; 2],
    chance: Chance,
    slots: Vec<Slot>,
    operators: Vec<Process>,
    started: usize,
    ended: BTreeMap<i32, usize>,
    faults: BTreeMap<Fault, usize>,
    /// All faults in order, and whom they hit.
    history: Vec<String>,
    /// What those who have ended said.
    said: Vec<String>,
    shown: Arc<Mutex<Shown>>,
}

#[tokio::test]
#[ignore = "takes as long as one likes: tests/stress runs it"]
async fn random_faults_break_no_promise() {
    let minutes = Duration::from_secs(60 * setting("STRESS_MINUTES", 10));
    let wrappers = setting("STRESS_WRAPPERS", 50) as usize;
    let seed = setting("STRESS_SEED", u64::from(std::process::id()) ^ Boottime::now().0.as_nanos() as u64);
    println!("seed {seed}, {wrappers} wrappers, {minutes:?}");
    let mut stress = Stress::new(seed, wrappers).await;
    let end = Boottime::now() + minutes;
    let mut told = Boottime::now();
    while Boottime::now() < end {
        stress.thaw(false).await;
        stress.replace_ended().await;
        stress.strike().await;
        let pause = stress.chance.within(PAUSE);
        sleep(pause).await;
        if Boottime::now().since(told) > Duration::from_secs(30) {
            told = Boottime::now();
            stress.check();
            stress.tell();
        }
    }
    stress.finish().await;
}

impl Stress {
    async fn new(seed: u64, wrappers: usize) -> Self {
        let (control_plane, installed) = exclusive().await;
        let operators = (0..2).map(|number| operator(&installed, number)).collect();
        let scene = Scene::new(&control_plane, "stress").await;
        for (name, permits) in SEMAPHORES {
            scene.semaphore_called(name, permits as u32).await;
        }
        let shown = Arc::<Mutex<Shown>>::default();
        tokio::spawn(watch(scene.permits(), shown.clone()));
        let records = SEMAPHORES.map(|(name, _)| Record::new(scene.folder.path().join(name)));
        let mut stress = Self {
            control_plane,
            installed,
            scene,
            records,
            chance: Chance::new(seed),
            slots: Vec::new(),
            operators,
            started: 0,
            ended: BTreeMap::new(),
            faults: BTreeMap::new(),
            history: Vec::new(),
            said: Vec::new(),
            shown,
        };
        for number in 0..wrappers {
            let slot = stress.start(number);
            stress.slots.push(slot);
        }
        stress
    }

    /// A wrapper for a place among the others.
    fn start(&mut self, number: usize) -> Slot {
        self.started += 1;
        let which = number % SEMAPHORES.len();
        let hold = self.chance.within((0, 4_000)).as_millis().to_string();
        let record = self.records[which].path().to_str().expect("a UTF-8 path").to_owned();
        let witness = [WITNESS, &record, &hold];
        // Some do not end when they are asked to, and some are in a session of their own below the command.
        let stubborn = ["sh", "-c", "trap '' TERM; exec \"$@\"", "sh"];
        let hidden = ["sh", "-c", "setsid \"$@\" & trap '' TERM; wait", "sh"];
        let before: &[&str] = match self.chance.below(3) {
            0 => &[],
            1 => &stubborn,
            _ => &hidden,
        };
        let flags = ["--semaphore", SEMAPHORES[which].0, "--ttl", &seconds(TTL), "--grace", "1s"];
        let holder = format!("wrapper-{number}-{}", self.started);
        let run = self.scene.command(&holder, &flags, &[before, &witness].concat());
        let contained_one = self.chance.below(2) == 0;
        let run = if contained_one { contained(&run, None) } else { run };
        let process = Process::spawn(&holder, run);
        Slot { holder, process, number, contained: contained_one, frozen: None }
    }

    /// Whoever has ended is checked, and another one takes its place.
    async fn replace_ended(&mut self) {
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            if slot.process.status().is_some() {
                // A watchdog that still stands would leave what it is to kill.
                if let Some(frozen) = slot.frozen.take() {
                    frozen.thaw().await;
                }
                let code = end_of(slot).await;
                self.said.push(slot.process.output());
                *self.ended.entry(code).or_default() += 1;
                let number = slot.number;
                self.slots[place] = self.start(number);
            }
        }
    }

    /// One fault.
    async fn strike(&mut self) {
        let fault = FAULTS[self.chance.below(FAULTS.len())];
        let place = self.chance.below(self.slots.len());
        let frozen_for = self.chance.within(FROZEN);
        let away = self.chance.within(AWAY);
        let slot = &mut self.slots[place];
        let Some(tree) = Tree::of(slot) else { return };
        let now = Boottime::now();
        self.history.push(format!("{now}: {fault:?}, frozen {frozen_for:?}, away {away:?}: {} {tree:?}", slot.holder));
        match fault {
            Fault::Terminate => send(tree.wrapper, Signal::SIGTERM),
            Fault::KillWrapper => send(tree.wrapper, Signal::SIGKILL),
            Fault::KillWatchdog => tree.watchdog.into_iter().for_each(|watchdog| send(watchdog, Signal::SIGKILL)),
            // One thing at a time.
            Fault::FreezeWrapper | Fault::FreezeAll if slot.frozen.is_some() => return,
            Fault::FreezeWrapper => {
                slot.frozen = Some(Frozen::freeze(frozen_for, tree.outside, vec![tree.wrapper]));
            }
            Fault::FreezeAll => {
                let all = [tree.wrapper].into_iter().chain(tree.watchdog).chain(tree.others).collect();
                slot.frozen = Some(Frozen::freeze(frozen_for, tree.outside, all));
            }
            Fault::KillOperator => {
                let which = self.chance.below(self.operators.len());
                self.operators[which].kill();
                self.operators[which] = operator(&self.installed, self.started);
            }
            Fault::FreezeOperator => {
                let which = self.chance.below(self.operators.len());
                self.operators[which].freeze();
                sleep(away).await;
                self.operators[which].thaw();
            }
            Fault::FreezeApiServer => {
                self.control_plane.api_server.freeze();
                sleep(away).await;
                self.control_plane.api_server.thaw();
            }
            Fault::RestartApiServer => {
                self.control_plane.api_server.stop();
                sleep(away).await;
                self.control_plane.api_server.start().await;
            }
        }
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Those that were frozen long enough, or all.
    async fn thaw(&mut self, all: bool) {
        let now = Boottime::now();
        for slot in &mut self.slots {
            if let Some(frozen) = slot.frozen.take_if(|frozen| all || frozen.until <= now) {
                frozen.thaw().await;
            }
        }
    }

    /// What must hold at any time.
    fn check(&self) {
        let overs = {
            let shown = self.shown.lock().expect("no watcher has panicked");
            let (broken, history) = (shown.claims.broken().join("\n"), &self.history);
            assert!(broken.is_empty(), "{broken}\nthe faults:\n{}", history.join("\n"));
            shown.overs.clone()
        };
        for (record, (name, permits)) in self.records.iter().zip(SEMAPHORES) {
            record.assert_never_more_than(permits);
            for run in record.runs() {
                if let Some(over) = overs.get(&(name.to_owned(), run.token)) {
                    assert!(
                        run.last <= *over,
                        "{name}: {run:?} outlived its claim, which was over at {over}\n{}",
                        self.tell_of(name, run.token)
                    );
                }
            }
        }
    }

    /// All that is known of the wrapper that was given this token, and the faults.
    fn tell_of(&self, semaphore: &str, token: u64) -> String {
        let token = format!("semaphore {semaphore}, fencing token {token}");
        let alive = self.slots.iter().map(|slot| slot.process.output());
        let found: Vec<_> = self.said.iter().cloned().chain(alive).filter(|said| said.contains(&token)).collect();
        [found, self.history.clone()].concat().join("\n")
    }

    fn tell(&self) {
        let runs: Vec<_> = self.records.iter().map(|record| record.runs().len()).collect();
        let (seen, all) = self.shown.lock().expect("no watcher has panicked").claims.coverage();
        println!(
            "{} wrappers started, {runs:?} commands ran, ends by code {:?}, faults {:?}, transitions of claims {seen} of {all}",
            self.started, self.ended, self.faults
        );
    }

    /// No more faults: everything ends, and nothing stays locked.
    async fn finish(mut self) {
        self.thaw(true).await;
        for slot in &mut self.slots {
            // Those that still wait take their turns first; a holder that was lost waits for its TTL.
            slot.process.wait_exit(LIMIT).await;
            let code = end_of(slot).await;
            self.said.push(slot.process.output());
            *self.ended.entry(code).or_default() += 1;
        }
        let last = Boottime::now();
        for (name, permits) in SEMAPHORES {
            let weight = format!("{name}:{permits}");
            let mut all = self.scene.run("last", &["--semaphore", &weight, "--priority", "1"], &["true"]);
            all.expect_exit(TTL + OVERHEAD, 0).await;
        }
        println!("all permits were free {:?} after the last wrapper had ended", Boottime::now().since(last));
        for (name, _) in SEMAPHORES {
            wait_for(&self.scene.semaphores(), name, LIMIT, |semaphore| {
                semaphore.status.as_ref().is_some_and(|status| (status.in_use, status.waiting) == (Some(0), Some(0)))
            })
            .await;
        }
        self.check();
        self.tell();
        assert!(self.records.iter().all(|record| !record.runs().is_empty()), "no command has run");
    }
}

impl Frozen {
    /// `outside` is stopped first and continued last: it would make its child's stop its own, and not go on by itself.
    fn freeze(time: Duration, outside: Option<Pid>, pids: Vec<Pid>) -> Self {
        let frozen = Self { until: Boottime::now() + time, pids: pids.into_iter().chain(outside).collect() };
        for pid in outside.iter().chain(&frozen.pids) {
            send(*pid, Signal::SIGSTOP);
            // A process stops when it next enters or leaves the kernel, or has ended.
            while stat(*pid).is_some_and(|(state, _)| !['T', 'Z'].contains(&state)) {
                std::thread::yield_now();
            }
        }
        frozen
    }

    async fn thaw(self) {
        for (place, pid) in self.pids.iter().enumerate() {
            send(*pid, Signal::SIGCONT);
            if place < 2 {
                // The kernel thaws a container in no order, and a command may then run for the moment that its wrapper
                // and its watchdog take to kill it. That moment would be seen as an overlap. Each is at rest when it has
                // done what was due.
                eventually(LIMIT, "what goes on again is at rest, or gone", || async {
                    let running = stat(*pid).map(|(state, _)| state).filter(|state| ['R', 'D'].contains(state));
                    running.map_or(Ok(()), Err)
                })
                .await;
            }
        }
    }
}

/// The live processes of a wrapper.
#[derive(Debug)]
struct Tree {
    /// The program that made the PID namespace.
    outside: Option<Pid>,
    wrapper: Pid,
    watchdog: Option<Pid>,
    others: Vec<Pid>,
}

impl Tree {
    /// None when the wrapper is not there (any more).
    fn of(slot: &Slot) -> Option<Self> {
        let named = |pid: &Pid, wanted: &str| comm(*pid).is_some_and(|name| name == wanted);
        let all = slot.process.tree();
        let wrapper = if slot.contained {
            let above = slot.process.pid();
            all.iter()
                .copied()
                .find(|pid| named(pid, "konductor-run") && stat(*pid).is_some_and(|(_, parent)| parent == above))?
        } else {
            Some(slot.process.pid()).filter(|pid| named(pid, "konductor-run"))?
        };
        let watchdog = all.iter().copied().find(|pid| named(pid, "konductor-wdog"));
        let outside = slot.contained.then(|| slot.process.pid());
        let known = [Some(wrapper), watchdog, outside];
        let others = all.into_iter().filter(|pid| !known.contains(&Some(*pid))).collect();
        Some(Self { outside, wrapper, watchdog, others })
    }
}

/// How a wrapper has ended, and that nothing of it is left.
async fn end_of(slot: &mut Slot) -> i32 {
    let status = slot.process.wait_exit(LIMIT).await;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    let code = match status.code().or(signal.map(|signal| 128 + signal)).expect("it has ended") {
        // What unshare makes of its child's death by SIGKILL.
        1 if slot.contained && slot.process.stderr().contains("unshare: ") => 128 + Signal::SIGKILL as i32,
        code => code,
    };
    assert!(CODES.contains(&code), "ended with {code}\n{}", slot.process.output());
    // One that was killed leaves the rest to its watchdog and to the kernel.
    eventually(LIMIT, "nothing is left of a wrapper that has ended", || async {
        let left = slot.process.tree();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} of\n{}", slot.process.output())) }
    })
    .await;
    code
}

fn operator(installed: &Installed, number: usize) -> Process {
    installed.operator(&format!("operator-{number}"), &["--lease-duration", "2s"])
}

/// Writes down when claims are over.
async fn watch(permits: Api<Permit>, shown: Arc<Mutex<Shown>>) {
    loop {
        // While the API server is away nothing is seen; what ends meanwhile is then seen late, or not at all.
        if timeout(LIMIT, watch_once(&permits, &shown)).await.is_err() {
            println!("the watch of the claims is opened again");
        }
        shown.lock().expect("no check has panicked").claims.looks_away();
        sleep(Duration::from_millis(100)).await;
    }
}

async fn watch_once(permits: &Api<Permit>, shown: &Mutex<Shown>) -> kube::Result<()> {
    let mut events = std::pin::pin!(permits.watch(&WatchParams::default(), "0").await?);
    while let Some(event) = events.try_next().await? {
        let (claim, gone) = match event {
            WatchEvent::Added(claim) | WatchEvent::Modified(claim) => (claim, false),
            WatchEvent::Deleted(claim) => (claim, true),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => continue,
        };
        let mut shown = shown.lock().expect("no check has panicked");
        shown.claims.see(serde_json::to_value(&claim).expect("a claim is plain data"), gone);
        let Some(status) = &claim.status else { continue };
        if let (true, Some(token)) = (gone || status.phase == Some(ClaimPhase::Expired), status.fencing_token) {
            shown.overs.entry((claim.spec.semaphore.clone(), token)).or_insert_with(Boottime::now);
        }
    }
    Ok(())
}

fn comm(pid: Pid) -> Option<String> {
    Some(fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm")).ok()?.trim().to_owned())
}

/// A process's state and parent.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // They follow the name, which is in parentheses and may hold some itself.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, Pid::from_raw(fields.next()?.parse().ok()?)))
}

fn send(pid: Pid, signal: Signal) {
    // It may have ended since it was seen.
    let _ = kill(pid, signal);
}
