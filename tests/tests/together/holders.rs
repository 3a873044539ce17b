//! Holders that are killed: who may have their permits, and when.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use konductor::Boottime;
use konductor_api::{ClaimPhase, limits::WAITED_LONG};
use konductor_tests::{Binaries, ContainerState, Pid, Process, Signal, eventually};
use kube::ResourceExt;
use nix::sys::signal::kill;

use crate::scene::{LIMIT, SHORT, SHORT_TTL, STALL, Scene, shared};

/// What operator, API server and waiter may take on a busy machine after a claim's TTL has passed.
const OVERHEAD: Duration = Duration::from_mins(1);

/// Namespaces of users, mounts and processes; the latter end with their first process.
const UNSHARE: [&str; 7] = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Programs in namespaces of their own die with the first of them, as those of a container do.
pub(crate) fn contained(run: &Command, mounts: Option<(&Path, &Path)>) -> Command {
    let tried = Command::new("unshare").args(UNSHARE).arg("true").output().expect("run unshare, of util-linux");
    assert!(
        tried.status.success(),
        "these tests need namespaces, and this user may not make any: run them as root, or allow it by sysctl \
         (kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0): {}",
        String::from_utf8_lossy(&tried.stderr)
    );
    let mut command = Command::new("unshare");
    command.args(UNSHARE);
    if let Some((from, to)) = mounts {
        command.args(["sh", "-c", "mount --bind \"$0\" \"$1\" && shift && exec \"$@\""]).arg(from).arg(to);
    }
    command.arg(run.get_program()).args(run.get_args());
    command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// A container of a pod: `konductor-run` finds out which one from what a kubelet mounts.
struct Container<'a> {
    scene: &'a Scene,
    pod: &'static str,
    uid: String,
    /// Of the pod's own token: to speak for a pod takes being it.
    kubeconfig: PathBuf,
}

impl<'a> Container<'a> {
    async fn new(scene: &'a Scene, pod: &'static str) -> Self {
        let uid = scene.namespace.pod(pod, "default", &["main"]).await.uid().expect("a uid");
        scene.namespace.pod_status(pod, "Running", &[("main", ContainerState::Running)]).await;
        let kubeconfig = scene.namespace.pod_kubeconfig(pod).await;
        Self { scene, pod, uid, kubeconfig }
    }

    /// The container's start of this id, holding until let go.
    fn start(&self, id: &str) -> Process {
        let folder = self.scene.folder.path().join("pods").join(&self.uid).join("containers/main");
        std::fs::create_dir_all(&folder).expect("make folders");
        let (log, mounted) = (folder.join(id), self.scene.folder.path().join("termination-log"));
        for file in [&log, &mounted] {
            std::fs::write(file, "").expect("write a file");
        }
        let command = self.scene.until_let_go();
        let mut run = self.scene.command(self.pod, &[], &command.each_ref().map(String::as_str));
        run.env("KONDUCTOR_POD_NAME", self.pod).env("KONDUCTOR_POD_UID", &self.uid);
        run.env("KUBECONFIG", &self.kubeconfig);
        Process::spawn(self.pod, contained(&run, Some((&log, &mounted))))
    }
}

/// The one process in this tree that runs `program` as a child of the tree's first process. It is waited for.
pub(crate) async fn child(process: &Process, program: &Path) -> Pid {
    let is_child = |pid: &Pid| {
        let runs = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|found| found == program);
        // The parent is the second field after the name, which is in parentheses and may hold some itself.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
        runs && parent == Some(process.pid().as_raw())
    };
    eventually(LIMIT, &format!("one child that runs {}", program.display()), || async {
        let found: Vec<_> = process.tree().into_iter().filter(is_child).collect();
        <[Pid; 1]>::try_from(found).map(|[one]| one).map_err(|found| format!("{found:?}\n{}", process.output()))
    })
    .await
}

/// Kills the `konductor-run` that is [contained] in this tree, and with it all of its PID namespace.
pub(crate) async fn kill_wrapper(process: &mut Process) {
    kill(child(process, Binaries::built().run()).await, Signal::SIGKILL).expect("kill konductor-run");
    process.wait_exit(LIMIT).await;
    assert_eq!(process.tree(), []);
}

async fn without_proof_of_its_death_a_killed_holder_keeps_its_permit_for_the_ttl() {
    let scene = shared("ttl").await;
    scene.semaphore(1).await;
    let command = scene.until_let_go();
    let run = scene.command("holder", &SHORT, &command.each_ref().map(String::as_str));
    let mut holder = Process::spawn("holder", contained(&run, None));
    scene.record.started(LIMIT, 1).await;
    let mut waiter = scene.witness("waiter", &[], Duration::ZERO);
    scene.waiting(1).await;
    // The renewal that is waited for comes after this.
    let (renewed, before) = (Boottime::now(), scene.claim("holder").await);
    scene.claim_is("holder", |claim| claim.spec.claim.renew_time != before.spec.claim.renew_time).await;
    kill_wrapper(&mut holder).await;
    let killed = Boottime::now();
    waiter.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    let runs = scene.record.runs();
    let [_, second] = runs.as_slice() else { panic!("{runs:?}") };
    assert!(second.start >= renewed + SHORT_TTL, "{:?} after a renewal", second.start - renewed);
    assert!(second.start <= killed + SHORT_TTL + OVERHEAD, "{:?} after the kill", second.start - killed);
}

async fn a_wrapper_that_is_killed_alone_takes_its_command_with_it() {
    let scene = shared("alone").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &SHORT);
    scene.record.started(LIMIT, 1).await;
    let mut waiter = scene.witness("waiter", &[], Duration::ZERO);
    scene.waiting(1).await;
    holder.signal(Signal::SIGKILL);
    holder.wait_exit(LIMIT).await;
    waiter.expect_exit(LIMIT, 0).await;
    // A command that had lived on would have written so.
    scene.record.assert_never_more_than(1);
    let runs = scene.record.runs();
    assert!(!runs[0].ended && runs[1].ended, "{runs:?}");
}

#[tokio::test]
async fn with_proof_of_its_death_a_killed_holder_frees_its_permit_at_once() {
    let scene = shared("proof").await;
    scene.semaphore(1).await;
    let container = Container::new(&scene, "holder").await;
    let mut holder = container.start("aaaaaaaa");
    scene.record.started(LIMIT, 1).await;
    let pod = scene.claim("holder").await.spec.claim.pod.expect("the claim names its pod");
    assert_eq!([&*pod.name, &*pod.uid, &*pod.container, &*pod.start], ["holder", &*container.uid, "main", "aaaaaaaa"]);
    let mut waiter = scene.witness("waiter", &[], Duration::ZERO);
    scene.waiting(1).await;
    kill_wrapper(&mut holder).await;
    let granted =
        |phase| move |claim: &konductor_api::Permit| claim.status.as_ref().and_then(|s| s.phase) == Some(phase);
    scene.claim_is("holder", granted(ClaimPhase::Granted)).await;
    let reported = Boottime::now();
    scene.namespace.pod_terminated("holder", &[("main", 137)]).await;
    // Far less than the semaphore's TTL of five minutes.
    waiter.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    let second = scene.record.runs()[1];
    assert!(second.start > reported, "{second:?} before {reported:?}");
    scene.claim_is("holder", granted(ClaimPhase::Expired)).await;
}

#[tokio::test]
async fn a_container_that_starts_again_takes_over_from_its_killed_self() {
    let scene = shared("again").await;
    scene.semaphore(1).await;
    let container = Container::new(&scene, "worker").await;
    let mut killed = container.start("aaaaaaaa");
    scene.record.started(LIMIT, 1).await;
    kill_wrapper(&mut killed).await;
    let mut again = container.start("bbbbbbbb");
    scene.record.started(LIMIT, 2).await;
    scene.let_go();
    again.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_dead_before_the_next_begins() {
    let scene = shared("leftovers").await;
    scene.semaphore(1).await;
    // In a session of its own, and deaf to being asked.
    let script = "trap '' TERM; setsid \"$@\" & until test -s \"$2\"; do sleep 0.01; done";
    let mut command = vec!["sh", "-c", script, "sh"];
    let witness = scene.until_let_go();
    command.extend(witness.iter().map(String::as_str));
    let mut holder = scene.run("holder", &["--grace", "1s"], &command);
    scene.record.started(LIMIT, 1).await;
    let mut next = scene.witness("next", &[], Duration::ZERO);
    holder.expect_exit(LIMIT, 0).await;
    next.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    let runs = scene.record.runs();
    assert_eq!((runs.len(), runs[0].ended), (2, false), "{runs:?}");
    scene.assert_no_claims().await;
}

async fn a_holder_that_was_frozen_past_its_deadline_kills_before_all_else() {
    let scene = shared("frozen").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &SHORT);
    scene.record.started(LIMIT, 1).await;
    let mut next = scene.witness("next", &[], Duration::ZERO);
    scene.waiting(1).await;
    // A whole machine that stands still; what runs on it first when it goes on is not the command.
    for pid in holder.tree() {
        kill(pid, Signal::SIGSTOP).expect("freeze a process");
    }
    next.expect_exit(LIMIT, 0).await;
    holder.thaw();
    holder.expect_exit(LIMIT, 79).await;
    assert_eq!(holder.tree(), []);
    scene.record.assert_never_more_than(1);
    let runs = scene.record.runs();
    assert_eq!((runs.len(), runs[0].ended, runs[1].ended), (2, false, true), "{runs:?}");
}

async fn a_waiter_that_was_killed_does_not_cost_a_ttl() {
    let scene = shared("waiter").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &[]);
    scene.record.started(LIMIT, 1).await;
    let mut waiter = Process::spawn("waiter", contained(&scene.command("waiter", &[], &["true"]), None));
    waiter.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
    let mut next = scene.witness("next", &[], Duration::ZERO);
    scene.waiting(2).await;
    kill_wrapper(&mut waiter).await;
    // Long enough for a grant to be taken for stale by an operator that has stood still after the waiter's last word, and
    // far less than the semaphore's TTL of five minutes.
    let killed = Boottime::now();
    eventually(LIMIT, "it has waited for long", || async {
        if Boottime::now() > killed + WAITED_LONG + STALL { Ok(()) } else { Err("not yet") }
    })
    .await;
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    next.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(2, 1);
}

async fn a_waiter_that_was_frozen_through_its_turn_asks_again() {
    let scene = shared("missed").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &[]);
    scene.record.started(LIMIT, 1).await;
    let mut waiter = scene.witness("waiter", &SHORT, Duration::ZERO);
    waiter.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
    waiter.freeze();
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    let mut next = scene.holder("next", &[]);
    scene.record.started(LIMIT, 2).await;
    // It finds all at once: the grant, and that the grant is over.
    waiter.thaw();
    waiter.wait_stderr(LIMIT, "the claim has expired").await;
    scene.waiting(1).await;
    scene.let_go();
    next.expect_exit(LIMIT, 0).await;
    waiter.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(3, 1);
}

/// Each takes its time and little else, so they wait together.
#[tokio::test]
async fn what_was_held_by_who_is_gone_or_stood_still_is_let_go_when_its_time_has_passed() {
    tokio::join!(
        without_proof_of_its_death_a_killed_holder_keeps_its_permit_for_the_ttl(),
        a_wrapper_that_is_killed_alone_takes_its_command_with_it(),
        a_holder_that_was_frozen_past_its_deadline_kills_before_all_else(),
        a_waiter_that_was_killed_does_not_cost_a_ttl(),
        a_waiter_that_was_frozen_through_its_turn_asks_again(),
    );
}
