//! What goes wrong, and for how long.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use konductor::Boottime;
use konductor_tests::{Chance, Pid, Signal};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use nix::sys::signal::kill;
use tokio::time::sleep;

use super::answered;
use super::jobs::LOCKS;
use crate::cluster::{SYSTEM, Scene, node_folder};
use crate::processes::{self, Wrapper};

/// How long something of a pod stays frozen: up to well past the TTLs.
const FROZEN: (u64, u64) = (200, 25_000);

/// How long a part of the control plane is away or stands still. Often shorter than the TTLs, so that not everybody loses
/// what it holds each time.
const AWAY: (u64, u64) = (200, 8_000);

/// How long the kubelet stands still: not so long that its node is given up.
const CUT_OFF: (u64, u64) = (200, 20_000);

/// How long a wrapper that goes on may take to see that its time is over, and to end its command.
const AWAKE: Duration = Duration::from_secs(5);

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGTERM to a wrapper.
    Terminate,
    /// SIGKILL to a wrapper.
    KillWrapper,
    /// SIGKILL to a wrapper's watchdog.
    KillWatchdog,
    /// SIGSTOP to a wrapper alone.
    FreezeWrapper,
    /// SIGSTOP to all in a container.
    FreezeContainer,
    /// As by `kubectl delete pod`.
    DeletePod,
    /// As by `kubectl delete pod --force --grace-period=0`.
    ForceDeletePod,
    /// SIGKILL to an operator, whose container is then started again.
    KillOperator,
    /// An operator's pod is deleted by force.
    ForceDeleteOperator,
    /// SIGSTOP to an operator.
    FreezeOperator,
    /// SIGSTOP to the kubelet.
    FreezeKubelet,
    /// SIGKILL to the kubelet, which is then started again. So it is with the other two.
    RestartKubelet,
    FreezeApiServer,
    RestartApiServer,
    FreezeEtcd,
    RestartEtcd,
}

/// How often each comes: mostly those that hit one wrapper or pod. Operators are left alone for long enough that one of them
/// can see a TTL pass: a new one, with nobody beside it who has seen it, waits for the whole TTL anew.
const FAULTS: [(Fault, usize); 16] = [
    (Fault::Terminate, 3),
    (Fault::KillWrapper, 5),
    (Fault::KillWatchdog, 4),
    (Fault::FreezeWrapper, 5),
    (Fault::FreezeContainer, 4),
    (Fault::DeletePod, 4),
    (Fault::ForceDeletePod, 4),
    (Fault::KillOperator, 1),
    (Fault::ForceDeleteOperator, 1),
    (Fault::FreezeOperator, 1),
    (Fault::FreezeKubelet, 1),
    (Fault::RestartKubelet, 1),
    (Fault::FreezeApiServer, 1),
    (Fault::RestartApiServer, 1),
    (Fault::FreezeEtcd, 1),
    (Fault::RestartEtcd, 1),
];

/// What ends a trouble.
enum Cure {
    /// These stand still. The first one goes on first, and whoever is to be killed by it is.
    Thaw { frozen: Vec<Pid>, since: Boottime },
    /// A program of the node is away as long as there is this file.
    Return(PathBuf),
}

impl Drop for Cure {
    /// When a test fails, too: the node is to be looked at.
    fn drop(&mut self) {
        match self {
            Self::Thaw { frozen, .. } => frozen.iter().for_each(|pid| send(*pid, Signal::SIGCONT)),
            // It may have been taken away by another one's end.
            Self::Return(file) => drop(std::fs::remove_file(file)),
        }
    }
}

/// What is wrong now, by whom it has hit: one thing at a time, each until its end.
#[derive(Default)]
pub(super) struct Troubles(BTreeMap<String, (Boottime, Cure)>);

impl Troubles {
    /// Ends those whose time is over, or all.
    pub(super) async fn end(&mut self, all: bool) {
        let now = Boottime::now();
        let over: Vec<_> = self.0.extract_if(.., |_, (until, _)| all || *until <= now).collect();
        for (_, (_, cure)) in over {
            let Cure::Thaw { frozen, since } = &cure else { continue };
            // The kernel thaws a container in no order, and a command may then run for the moment that its wrapper and its
            // watchdog take to kill it. That moment would be seen as an overlap.
            let [first, watchdog, others @ ..] = &frozen[..] else { continue };
            send(*first, Signal::SIGCONT);
            send(*watchdog, Signal::SIGCONT);
            let deadline = Boottime::now() + AWAKE;
            let may_be_over = Boottime::now().since(*since) > LOCKS.map(|lock| Duration::from_secs(lock.ttl) / 2)[0];
            let alive = || others.iter().any(|pid| processes::state(*pid).is_some_and(|state| state != 'Z'));
            while may_be_over && alive() && Boottime::now() < deadline {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn add(&mut self, whom: String, time: Duration, cure: Cure) {
        self.0.insert(whom, (Boottime::now() + time, cure));
    }

    /// One fault, and whom it has hit: nobody, when there is nobody (any more) or something has hit them already.
    pub(super) async fn strike(&mut self, scene: &Scene, chance: &mut Chance) -> Option<(Fault, String)> {
        let sum = FAULTS.iter().map(|(_, often)| often).sum();
        let mut choice = chance.below(sum);
        let (fault, _) = FAULTS.into_iter().find(|(_, often)| {
            let found = choice < *often;
            choice = choice.saturating_sub(*often);
            found
        })?;
        // Always as many choices, so that the next ones are the seed's whatever happens here.
        let (which, frozen, away, cut_off) =
            (chance.below(usize::MAX), chance.within(FROZEN), chance.within(AWAY), chance.within(CUT_OFF));
        let whom = match fault {
            Fault::Terminate
            | Fault::KillWrapper
            | Fault::KillWatchdog
            | Fault::FreezeWrapper
            | Fault::FreezeContainer => self.strike_wrapper(fault, scene, which, frozen)?,
            Fault::DeletePod | Fault::ForceDeletePod => {
                let pods = answered(scene.api::<Pod>().list(&ListParams::default())).await?.items;
                let running = |pod: &&Pod| !ended(pod);
                let running: Vec<_> = pods.iter().filter(running).collect();
                let pod = running.get(which % running.len().max(1))?.name_any();
                let by_force = DeleteParams::default().grace_period(0);
                let how = if fault == Fault::DeletePod { DeleteParams::default() } else { by_force };
                answered(scene.api::<Pod>().delete(&pod, &how)).await?;
                pod
            }
            Fault::KillOperator | Fault::ForceDeleteOperator | Fault::FreezeOperator => {
                self.strike_operator(fault, scene, which, frozen).await?
            }
            Fault::FreezeKubelet => self.freeze("kubelet", cut_off)?,
            Fault::RestartKubelet => self.restart("kubelet", away)?,
            Fault::FreezeApiServer => self.freeze("kube-apiserver", away)?,
            Fault::RestartApiServer => self.restart("kube-apiserver", away)?,
            Fault::FreezeEtcd => self.freeze("etcd", away)?,
            Fault::RestartEtcd => self.restart("etcd", away)?,
        };
        Some((fault, whom))
    }

    fn strike_wrapper(&mut self, fault: Fault, scene: &Scene, which: usize, frozen: Duration) -> Option<String> {
        let mut wrappers = processes::wrappers(&scene.namespace);
        // Only who holds something has a watchdog.
        wrappers.retain(|wrapper| fault != Fault::KillWatchdog || wrapper.watchdog.is_some());
        let Wrapper { pod, pid, watchdog, others } = wrappers.get(which % wrappers.len().max(1))?;
        let stands = self.0.contains_key(pod);
        match fault {
            Fault::Terminate => send(*pid, Signal::SIGTERM),
            Fault::KillWrapper => send(*pid, Signal::SIGKILL),
            // Who stands still cannot replace its watchdog, and nobody would be left to end the command in time.
            Fault::KillWatchdog if !stands => send((*watchdog)?, Signal::SIGKILL),
            Fault::FreezeWrapper if !stands && (watchdog.is_some() || others.is_empty()) => {
                self.add(pod.clone(), frozen, freeze(&[*pid]));
            }
            Fault::FreezeContainer if !stands => {
                let all = [&[*pid], watchdog.as_slice(), others].concat();
                self.add(pod.clone(), frozen, freeze(&all));
            }
            _ => return None,
        }
        Some(pod.clone())
    }

    async fn strike_operator(&mut self, fault: Fault, scene: &Scene, which: usize, time: Duration) -> Option<String> {
        let pods: Api<Pod> = Api::namespaced(scene.client.clone(), SYSTEM);
        let theirs = ListParams::default().labels("app.kubernetes.io/component=operator");
        let found = answered(pods.list(&theirs)).await?.items;
        let pod = found.get(which % found.len().max(1))?;
        let (name, uid) = (pod.name_any(), pod.uid()?);
        let statuses = pod.status.as_ref()?.container_statuses.iter().flatten();
        let restarts: i32 = statuses.map(|status| status.restart_count).sum();
        let operator = processes::of_pod(&uid, "konductor-operator").first().copied();
        match fault {
            // One that dies often is started ever more seldom, and soon nothing would be tested but that. A new pod starts at
            // once.
            Fault::KillOperator if restarts == 0 => send(operator?, Signal::SIGKILL),
            Fault::FreezeOperator => {
                if self.0.contains_key(&uid) {
                    return None;
                }
                self.add(uid, time, freeze(&[operator?]));
            }
            _ => {
                answered(pods.delete(&name, &DeleteParams::default().grace_period(0))).await?;
            }
        }
        Some(name)
    }

    /// A program of the node stands still.
    fn freeze(&mut self, name: &str, time: Duration) -> Option<String> {
        if self.0.contains_key(name) {
            return None;
        }
        self.add(name.to_owned(), time, freeze(&[processes::daemon(name)?]));
        Some(name.to_owned())
    }

    /// A program of the node is killed, and started again when its time is over.
    fn restart(&mut self, name: &str, time: Duration) -> Option<String> {
        let pid = processes::daemon(name).filter(|_| !self.0.contains_key(name))?;
        let file = node_folder().join("away").join(name);
        std::fs::write(&file, "").expect("make a file in the node's folder");
        self.add(name.to_owned(), time, Cure::Return(file));
        send(pid, Signal::SIGKILL);
        Some(name.to_owned())
    }
}

/// Stops these, in this order.
fn freeze(pids: &[Pid]) -> Cure {
    for pid in pids {
        send(*pid, Signal::SIGSTOP);
        // A process stops when it next enters or leaves the kernel, or has ended.
        while processes::state(*pid).is_some_and(|state| !['T', 'Z'].contains(&state)) {
            std::thread::yield_now();
        }
    }
    Cure::Thaw { frozen: pids.to_vec(), since: Boottime::now() }
}

fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}

fn send(pid: Pid, signal: Signal) {
    // It may have ended since it was seen.
    let _ = kill(pid, signal);
}
