//! Without a cluster: the same locks, between the processes of one machine that share a folder.
//!
//! The folder holds the manifests that one would `kubectl apply`, and the state beside them in `.konductor`. There is
//! no daemon: whoever wants something takes part in deciding. Each decision is a transaction on files under a lock, by
//! the very rules that the operator decides by, so priorities, weights, queueing and fencing tokens are the same.
//!
//! - **A claim is held as long as its owner lives**, which the kernel says: the owner keeps a file locked. Nothing is
//!   renewed and nothing expires, so a process that is stopped goes on holding, and one that is killed holds no longer.
//! - **What inherits the lock holds, too.** With [`Local::inherit`] the command of `konductor-run` has the locked file
//!   open, and so has what the command starts: when `konductor-run` is killed, whatever has outlived it still counts.
//! - **Waiting costs nothing.** Nobody looks at anything again and again: who waits sleeps until the kernel says that
//!   who is in front has ended (or, for the first in the queue, a holder, or that a manifest has changed), or until
//!   somebody whose transaction has changed something for them says so.
//! - **Fencing tokens rise** as in a cluster: with each transaction the term rises, and starts from the time of day.
//!
//! A process that is stopped in the middle of a transaction, which takes milliseconds, stops all others until it goes
//! on or is killed. What local mode does not do: protect from those who write to `.konductor` by hand. Deleting it, or
//! the file of a claim, frees what somebody may still use. Other machines cannot take part: network filesystems are
//! refused.

mod folder;
mod limits;
mod manifest;
mod rules;
mod state;
mod watch;
mod yaml;

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::sync::mpsc::UnboundedReceiver;

use self::{
    folder::{Ask, Change, FolderError, FolderLock},
    rules::Standing,
    watch::{Bell, Watches},
};
use crate::{
    AcquireError, Boottime, Command, Event, LockSeen, Request, Wanted, chain,
    protocol::{
        WAIT,
        limits::{RELEASE_WITHIN, WITHDRAW_WITHIN},
    },
};

/// The operation of a transaction for people.
const DECIDE: &str = "take part in the folder";

/// A folder instead of a cluster.
#[derive(Clone, Debug)]
pub struct Local {
    folder: Arc<PathBuf>,
    inherit: bool,
}

impl Local {
    /// This folder, which has to be there when something is acquired.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        // The working directory may be another one later.
        Self { folder: Arc::new(std::path::absolute(&folder).unwrap_or(folder)), inherit: false }
    }

    /// Programs that this process starts inherit what is held (as one more open descriptor for each claim): should this
    /// process be killed, it stays held until they, and all that they have started, have ended as well.
    #[must_use]
    pub fn inherit(mut self) -> Self {
        self.inherit = true;
        self
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl FolderLock {
    /// Which lock of this machine it is, whatever path leads to the folder.
    fn id(&self) -> Option<String> {
        let folder = std::fs::metadata(&*self.folder).ok()?;
        Some(format!("{:x}-{:x}/{}/{}", folder.dev(), folder.ino(), self.kind, self.name))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> FolderError {
        FolderError::System { doing, path: self.folder.display().to_string(), source }
    }
}

/// A claim of ours, and how it is told that something has changed.
struct Mine {
    name: String,
    bell: Bell,
}

/// What to do next about a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Decide.
    Transact,
    /// See what somebody else has decided.
    Look,
}

/// What ended a wait.
enum Woken {
    Released,
    Changed(Next),
}

/// Acquires and holds one claim, as [`run`](crate::run) says.
pub(crate) async fn drive(
    local: &Local,
    request: &Request,
    commands: &mut UnboundedReceiver<Command>,
    on_event: &mut impl FnMut(Event),
) -> io::Result<()> {
    let place = FolderLock {
        folder: local.folder.clone(),
        kind: request.wanted.kind(),
        name: request.wanted.name().to_owned(),
    };
    let Some((mine, token)) = acquire(&place, request, commands, on_event).await? else { return Ok(()) };
    let fifo = mine.bell.into_fifo();
    if local.inherit {
        fcntl(&fifo, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let lock = place.id().unwrap_or_default();
    on_event(Event::Held { fencing_token: token, ttl: Duration::MAX, deadline: Boottime::NEVER, lock });
    // Also when nobody can send any more.
    let _ = commands.recv().await;
    release(&place, mine.name, fifo, RELEASE_WITHIN).await;
    on_event(Event::Released);
    Ok(())
}

/// Waits until the claim is held; none when it was withdrawn or cannot be had, which is then told.
async fn acquire(
    place: &FolderLock,
    request: &Request,
    commands: &mut UnboundedReceiver<Command>,
    on_event: &mut impl FnMut(Event),
) -> io::Result<Option<(Mine, u64)>> {
    let mut mine: Option<Mine> = None;
    let mut watches = Watches::default();
    let (mut accepted, mut failures, mut told, mut next) = (false, 0, None, Next::Transact);
    loop {
        let decided = tokio::select! {
            biased;
            // What is being decided may be decided; the end of our claim undoes it.
            _ = commands.recv() => None,
            decided = decide(place, request, next, mine.as_ref(), on_event) => Some(decided),
        };
        let Some(decided) = decided else { return withdraw(place, mine, on_event).await };
        let standing = decided.map(|(claim, standing)| {
            if let Some(claim) = claim {
                mine = Some(claim);
                on_event(Event::Asked);
            }
            standing
        });
        let followed = match &standing {
            Ok(Standing::Waiting { duty, .. }) => watches.follow(duty, place),
            _ => Ok(false),
        };
        let pause = match (standing, followed) {
            (Err(error), _) if !(accepted || error.is_momentary() && failures < limits::FIRST_TRIES) => {
                let system = error.is_momentary();
                let error = chain(&error);
                let error = if system { AcquireError::System(error) } else { AcquireError::Folder(error) };
                on_event(Event::Failed { error });
                return Ok(None);
            }
            (Err(error), _) | (Ok(_), Err(error)) => {
                on_event(Event::Retrying { operation: DECIDE, error: chain(&error) });
                let pause = limits::PAUSE.0.saturating_mul(1 << failures.min(8)).min(limits::PAUSE.1);
                failures += 1;
                Some(pause)
            }
            (Ok(Standing::Held { token }), _) => return Ok(mine.map(|mine| (mine, token))),
            (Ok(Standing::Gone), _) => {
                on_event(Event::Retrying { operation: WAIT, error: "the claim was deleted".to_owned() });
                (mine, watches, next, accepted) = (None, Watches::default(), Next::Transact, true);
                continue;
            }
            (Ok(Standing::Waiting { ahead, message, permits, .. }), Ok(missed)) => {
                (accepted, failures) = (true, 0);
                let word = (ahead, message.clone(), permits);
                if told.as_ref() != Some(&word) {
                    let lock = permits.and_then(|permits| Some(LockSeen { id: place.id()?, permits }));
                    on_event(Event::Waiting { ahead, message, parent_missing: permits.is_none(), lock });
                    told = Some(word);
                }
                if missed {
                    next = Next::Transact;
                    continue;
                }
                None
            }
        };
        match wait(mine.as_ref(), &watches, pause, commands).await? {
            Woken::Changed(then) => next = then,
            Woken::Released => return withdraw(place, mine, on_event).await,
        }
    }
}

/// Sleeps until there is something to do; for as long as `pause` at most.
async fn wait(
    mine: Option<&Mine>,
    watches: &Watches,
    pause: Option<Duration>,
    commands: &mut UnboundedReceiver<Command>,
) -> io::Result<Woken> {
    let rung = async {
        match mine {
            Some(mine) => mine.bell.rung().await,
            None => std::future::pending().await,
        }
    };
    let paused = async {
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = commands.recv() => Ok(Woken::Released),
        outcome = rung => outcome.map(|()| Woken::Changed(Next::Look)),
        outcome = watches.edited() => outcome.map(|()| Woken::Changed(Next::Transact)),
        // An end stays seen until it has been dealt with.
        () = watches.ended(), if pause.is_none() => Ok(Woken::Changed(Next::Transact)),
        () = paused => Ok(Woken::Changed(Next::Transact)),
    }
}

/// Makes a claim.
async fn ask(place: &FolderLock, request: &Request) -> Result<(Mine, Standing), FolderError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| place.failed("draw a name for a claim in", error.into()))?;
    let name = format!("{:032x}", u128::from_le_bytes(id));
    let ask = Ask {
        name: name.clone(),
        holder: request.holder.clone(),
        permits: match &request.wanted {
            Wanted::Lease { .. } => 1,
            Wanted::Semaphore { permits, .. } => *permits,
        },
        priority: request.priority,
    };
    let (standing, file) = transact(place, Change::Add(ask), &name).await?;
    let file = file.ok_or_else(|| place.failed("make a claim in", io::ErrorKind::NotFound.into()))?;
    let bell = Bell::new(file).map_err(|error| place.failed("watch", error))?;
    Ok((Mine { name, bell }, standing))
}

/// Where our claim stands after what is next has been done; with the claim, if it is a new one.
async fn decide(
    place: &FolderLock,
    request: &Request,
    next: Next,
    mine: Option<&Mine>,
    on_event: &mut impl FnMut(Event),
) -> Result<(Option<Mine>, Standing), FolderError> {
    let Some(Mine { name, .. }) = mine else {
        let mut asking = std::pin::pin!(ask(place, request));
        let asked = if let Ok(asked) = tokio::time::timeout(limits::LOCKED, &mut asking).await {
            asked
        } else {
            // Somebody was stopped in the middle of another transaction.
            let message = "another process keeps the folder locked".to_owned();
            on_event(Event::Waiting { ahead: None, message, parent_missing: false, lock: None });
            asking.await
        };
        return asked.map(|(claim, standing)| (Some(claim), standing));
    };
    let standing = match next {
        Next::Transact => transact(place, Change::Nothing, name).await?.0,
        Next::Look => {
            let name = name.clone();
            apart(place, move |place| place.look(&name)).await?
        }
    };
    Ok((None, standing))
}

async fn transact(place: &FolderLock, change: Change, name: &str) -> Result<(Standing, Option<File>), FolderError> {
    let name = name.to_owned();
    apart(place, move |place| place.transact(&change, &name)).await
}

/// Ends a wait that is not wanted any more.
async fn withdraw<T>(
    place: &FolderLock,
    mine: Option<Mine>,
    on_event: &mut impl FnMut(Event),
) -> io::Result<Option<T>> {
    if let Some(Mine { name, bell }) = mine {
        release(place, name, bell.into_fifo(), WITHDRAW_WITHIN).await;
    }
    on_event(Event::Released);
    Ok(None)
}

/// Gives a claim back. If that cannot be written down, or not soon, the end of its lock says the same.
async fn release(place: &FolderLock, name: String, fifo: File, within: Duration) {
    let removal = transact(place, Change::Remove(name.clone()), &name);
    match tokio::time::timeout(within, removal).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!("cannot write down that a claim is released: {}", chain(&error)),
        Err(_) => tracing::debug!("another process keeps the folder locked: others will see that a claim is released"),
    }
    drop(fifo);
}

/// Waits for files and locks on a thread that may.
async fn apart<T: Send + 'static>(
    place: &FolderLock,
    work: impl FnOnce(&FolderLock) -> Result<T, FolderError> + Send + 'static,
) -> Result<T, FolderError> {
    let own = place.clone();
    konductor_cluster::apart::apart(move || work(&own))
        .await
        .unwrap_or_else(|error| Err(place.failed("start a thread to decide in", error)))
}
