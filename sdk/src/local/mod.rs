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
//!   [`Local::inherited`] is for a process that is to hold until it has seen to the end of what closes it.
//! - **Waiting costs nothing.** Nobody looks at anything again and again: who waits sleeps until the kernel says that
//!   who is in front has ended (or, for the first two in the queue, a holder, or that a manifest has changed), or until
//!   somebody whose transaction has changed something for them says so. Only where there is nothing left to watch by,
//!   or nothing can be written, is there a look every 1 to 15 s.
//! - **Nobody waits for who stands still in the queue.** Somebody whose turn has come takes it with a lock of its own;
//!   if it has not done so within some seconds (Ctrl-Z), the next one has its turn. When it goes on it is at its old
//!   place in the queue.
//! - **Fencing tokens rise** as in a cluster, also after a power failure: with each decision the term rises, and starts
//!   from the time of day. The disk is waited for only now and then, when it has to know how far (`store`).
//!
//! - **Looking is no part of it.** [`Local::snapshot`] and [`Local::watch`] show who holds and who waits, and take,
//!   make and write nothing.
//!
//! A process that is stopped in the middle of a transaction, which takes milliseconds, stops all others until it goes
//! on or is killed, also when the folder is deleted meanwhile. What local mode does not do: protect from those who write to `.konductor` by hand. Deleting it, or
//! the file of a claim, frees what somebody may still use. Other machines cannot take part: filesystems that are not
//! known to be of one machine are refused, unless the caller knows better ([`Local::on_any_filesystem`]).

mod access;
mod filesystem;
mod folder;
mod held;
mod limits;
mod links;
mod manifest;
mod mount;
mod place;
mod rules;
mod snapshot;
mod spectator;
mod state;
mod store;
mod turns;
mod watch;
pub mod yaml;

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Sleep, sleep},
};

use self::{
    folder::{Ask, Change, FolderError, FolderLock, Haste},
    rules::{Duty, Standing},
    turns::Turns,
    watch::{Bell, Followed, Watches},
};
pub use self::{
    held::Held,
    snapshot::{ClaimShown, LockShown, Snapshot, SnapshotError},
    spectator::Spectator,
};
use crate::{
    AcquireError, Boottime, Command, Event, LockSeen, Request, Wanted, chain,
    protocol::{WAIT, limits::WITHDRAW_WITHIN},
};

/// The operation of a transaction for people.
const DECIDE: &str = "take part in the folder";

/// What a waiter does with the folder, for people.
const WATCH: &str = "watch the folder (changes are seen up to 15 s late)";

/// What the folder's owner does for others, for people.
const LET_IN: &str = "let in all who can write to the folder";

/// A folder instead of a cluster.
#[derive(Clone, Debug)]
pub struct Local {
    folder: Arc<PathBuf>,
    any_filesystem: bool,
    /// What programs inherit, if they do.
    inherited: Option<Arc<Mutex<BTreeSet<RawFd>>>>,
}

impl Local {
    /// This folder, which has to be there when something is acquired.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        // The working directory may be another one later.
        let folder = Arc::new(std::path::absolute(&folder).unwrap_or(folder));
        Self { folder, any_filesystem: false, inherited: None }
    }

    /// The folder can be on a filesystem that is not known to be of one machine: the caller knows that no other machine
    /// uses it.
    #[must_use]
    pub fn on_any_filesystem(mut self) -> Self {
        self.any_filesystem = true;
        self
    }

    /// Programs that this process starts inherit what is held (as one more open descriptor for each claim): should this
    /// process be killed, it stays held until they, and all that they have started, have ended as well.
    #[must_use]
    pub fn inherit(mut self) -> Self {
        self.inherited = Some(Arc::default());
        self
    }

    /// The descriptors that programs inherit by now: one for each claim that is held. Clones of a folder share them.
    pub fn inherited(&self) -> Vec<RawFd> {
        let inherited = self.inherited.as_ref().map(|shared| shared.lock().unwrap_or_else(PoisonError::into_inner));
        inherited.into_iter().flat_map(|all| all.iter().copied().collect::<Vec<_>>()).collect()
    }

    /// Programs inherit this FIFO from now on, if that is wanted; or do not any more.
    fn let_inherit(&self, fifo: &File, whether: bool) -> io::Result<()> {
        let Some(shared) = &self.inherited else { return Ok(()) };
        let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if whether {
            fcntl(fifo, FcntlArg::F_SETFD(FdFlag::empty()))?;
            all.insert(fifo.as_raw_fd());
        } else {
            all.remove(&fifo.as_raw_fd());
        }
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Who holds and who waits at this moment. Only reads: nothing is taken, made, mended or written, and nobody waits
    /// for who looks.
    pub fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        snapshot::look(&self.folder, self.any_filesystem).map_err(|error| SnapshotError(chain(&error)))
    }

    /// The same again and again, whenever something may have changed.
    pub fn watch(&self) -> Spectator {
        Spectator::new(self.folder.clone(), self.any_filesystem)
    }
}

impl FolderLock {
    /// The one that is wanted.
    fn of(local: &Local, request: &Request) -> Self {
        Self {
            folder: local.folder.clone(),
            kind: request.wanted.kind(),
            name: request.wanted.name().to_owned(),
            any_filesystem: local.any_filesystem,
            in_the_way: Arc::default(),
        }
    }

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
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// Decide.
    Transact,
    /// See what somebody else has decided.
    Look,
    /// Decide, without those who have not taken their turn.
    PassOver(Vec<(String, u64)>),
}

/// What ended a wait.
enum Woken {
    Released,
    Rung,
    Edited,
    Ended,
    /// A pause is over.
    Rested,
    /// Somebody may have left its turn for too long.
    Untaken,
}

/// Acquires and holds one claim, as [`run`](crate::run) says.
pub(crate) async fn drive(
    local: &Local,
    request: &Request,
    commands: &mut UnboundedReceiver<Command>,
    on_event: &mut impl FnMut(Event),
) -> io::Result<()> {
    let place = FolderLock::of(local, request);
    let Some((mine, token)) = acquire(&place, request, commands, on_event).await? else { return Ok(()) };
    let held = Held::new(local.clone(), place, mine.name, mine.bell.into_fifo(), token)?;
    on_event(held.event());
    // Also when nobody can send any more.
    let _ = commands.recv().await;
    held.release().await;
    on_event(Event::Released);
    Ok(())
}

/// Why a waiter cannot rely on being woken.
#[derive(Default)]
struct Trouble {
    /// Nothing can be decided, so whatever wakes us changes nothing before the pause is over.
    deciding: bool,
    failures: u32,
    /// What people know.
    told: Option<String>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Trouble {
    /// Something went wrong. Returns what is news about it.
    fn met(&mut self, operation: &'static str, error: String) -> Option<Event> {
        self.deciding |= operation == DECIDE;
        if self.pause.is_none() {
            let pause = limits::PAUSE.0.saturating_mul(1 << self.failures.min(8)).min(limits::PAUSE.1);
            self.pause = Some(Box::pin(sleep(pause)));
            self.failures += 1;
        }
        if self.told.as_ref() == Some(&error) {
            return None;
        }
        self.told = Some(error.clone());
        Some(Event::Retrying { operation, error })
    }

    /// Returns when the pause is over; never, when there is none.
    async fn rested(&mut self) {
        match &mut self.pause {
            Some(pause) => pause.as_mut().await,
            None => std::future::pending().await,
        }
        self.pause = None;
    }
}

/// What a waiter has to know while it sleeps.
#[derive(Default)]
struct Wait {
    duty: Duty,
    watches: Watches,
    trouble: Trouble,
    turns: Turns,
}

impl Wait {
    /// Does what `duty` says, as far as possible. Returns whether something may have been missed, and what people
    /// should know. `decided`: nothing was in the way of a transaction.
    fn follow(&mut self, place: &FolderLock, decided: bool) -> (bool, Option<Event>) {
        let Followed { missed, unseen } = self.watches.follow(&self.duty, place);
        self.turns.see(self.watches.untaken(&self.duty), Boottime::now());
        if decided {
            self.trouble.deciding = false;
        }
        match unseen {
            Some(error) if !self.trouble.deciding => (missed, self.trouble.met(WATCH, chain(&error))),
            None if decided => {
                self.trouble = Trouble::default();
                (missed, None)
            }
            _ => (missed, None),
        }
    }

    /// Nothing could be decided, maybe because of a manifest: whoever this is hears when that is corrected. Returns
    /// whether something may have been missed, and what people should know.
    fn undecided(&mut self, place: &FolderLock, error: &FolderError) -> (bool, Option<Event>) {
        let news = self.trouble.met(DECIDE, chain(error));
        // Where nothing can be watched, the pause is over some time.
        (self.watches.follow_manifests(place).unwrap_or_default(), news)
    }

    /// Sleeps until there is something to do.
    async fn sleep(&mut self, mine: Option<&Mine>, commands: &mut UnboundedReceiver<Command>) -> io::Result<Woken> {
        let rung = async {
            match mine {
                Some(mine) => mine.bell.rung().await,
                None => std::future::pending().await,
            }
        };
        let deciding = self.trouble.deciding;
        tokio::select! {
            biased;
            _ = commands.recv() => Ok(Woken::Released),
            outcome = rung => outcome.map(|()| Woken::Rung),
            () = self.watches.edited() => Ok(Woken::Edited),
            // An end stays seen until it has been dealt with, and so does a turn that is not taken.
            () = self.watches.ended(), if !deciding => Ok(Woken::Ended),
            () = self.turns.come(), if !deciding => Ok(Woken::Untaken),
            () = self.trouble.rested() => Ok(Woken::Rested),
        }
    }

    /// What to do about what ended a wait.
    fn next(&mut self, woken: &Woken) -> Option<Next> {
        match woken {
            Woken::Released => None,
            Woken::Rung => Some(Next::Look),
            Woken::Edited => {
                self.watches.forget_manifests();
                Some(Next::Transact)
            }
            Woken::Ended | Woken::Rested => Some(Next::Transact),
            Woken::Untaken => {
                let now = Boottime::now();
                self.turns.see(self.watches.untaken(&self.duty), now);
                Some(Next::PassOver(self.turns.due(now)))
            }
        }
    }
}

/// Waits until the claim is held; none when it was withdrawn or cannot be had, which is then told.
async fn acquire(
    place: &FolderLock,
    request: &Request,
    commands: &mut UnboundedReceiver<Command>,
    on_event: &mut impl FnMut(Event),
) -> io::Result<Option<(Mine, u64)>> {
    let mut mine: Option<Mine> = None;
    let mut wait = Wait::default();
    let (mut accepted, mut told, mut next) = (false, None, Next::Transact);
    let mut is_clear = true;
    loop {
        let decided = tokio::select! {
            biased;
            // What is being decided may be decided; the end of our claim undoes it.
            _ = commands.recv() => None,
            decided = decide(place, request, &next, mine.as_ref(), on_event) => Some(decided),
        };
        let Some(decided) = decided else { return withdraw(place, mine, on_event).await };
        let standing = decided.map(|(claim, standing)| {
            if let Some(claim) = claim {
                mine = Some(claim);
                on_event(Event::Asked);
            }
            standing
        });
        if let Some(path) = place.in_the_way.get().filter(|_| is_clear) {
            is_clear = false;
            let error = format!("{} is not Konductor's: take it out of .konductor", path.display());
            on_event(Event::Retrying { operation: LET_IN, error });
        }
        match standing {
            Err(error) if !accepted && wait.trouble.failures >= error.first_tries() => {
                let system = error.is_momentary();
                let error = chain(&error);
                let error = if system { AcquireError::System(error) } else { AcquireError::Folder(error) };
                on_event(Event::Failed { error });
                return Ok(None);
            }
            Err(error) => {
                let (missed, news) = wait.undecided(place, &error);
                news.into_iter().for_each(&mut *on_event);
                if missed {
                    next = Next::Transact;
                    continue;
                }
            }
            Ok(Standing::Held { token }) => return Ok(mine.map(|mine| (mine, token))),
            Ok(Standing::Gone) => {
                on_event(Event::Retrying { operation: WAIT, error: "the claim was deleted".to_owned() });
                (mine, wait, next, accepted) = (None, Wait::default(), Next::Transact, true);
                continue;
            }
            Ok(Standing::PassedOver) => {
                let error = "it was passed over, as it stood still when its turn came".to_owned();
                on_event(Event::Retrying { operation: WAIT, error });
                next = Next::Transact;
                continue;
            }
            Ok(Standing::Waiting { ahead, message, permits, duty }) => {
                accepted = true;
                // First of all: who waits is known, whatever can be watched.
                let word = (ahead, message.clone(), permits);
                if told.as_ref() != Some(&word) {
                    let lock = permits.and_then(|permits| Some(LockSeen { id: place.id()?, permits }));
                    on_event(Event::Waiting { ahead, message, parent_missing: permits.is_none(), lock });
                    told = Some(word);
                }
                wait.duty = duty;
                let (missed, news) = wait.follow(place, next != Next::Look);
                news.into_iter().for_each(&mut *on_event);
                if missed {
                    next = Next::Transact;
                    continue;
                }
            }
        }
        let woken = wait.sleep(mine.as_ref(), commands).await?;
        match wait.next(&woken) {
            Some(then) => next = then,
            None => return withdraw(place, mine, on_event).await,
        }
    }
}

/// What is asked for, under a new name.
fn ask_for(place: &FolderLock, request: &Request, may_wait: bool) -> Result<Ask, FolderError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| place.failed("draw a name for a claim in", error.into()))?;
    Ok(Ask {
        name: format!("{:032x}", u128::from_le_bytes(id)),
        holder: request.holder.clone(),
        permits: match &request.wanted {
            Wanted::Lease { .. } => 1,
            Wanted::Semaphore { permits, .. } => *permits,
        },
        priority: request.priority,
        may_wait,
    })
}

/// Makes a claim.
async fn ask(place: &FolderLock, request: &Request) -> Result<(Mine, Standing), FolderError> {
    let ask = ask_for(place, request, true)?;
    let name = ask.name.clone();
    let (standing, file) = transact(place, Change::Add(ask), &name, Weak::new()).await?;
    let file = file.ok_or_else(|| place.failed("make a claim in", io::ErrorKind::NotFound.into()))?;
    let bell = Bell::new(file).map_err(|error| place.failed("watch", error))?;
    Ok((Mine { name, bell }, standing))
}

/// Where our claim stands after what is next has been done; with the claim, if it is a new one.
async fn decide(
    place: &FolderLock,
    request: &Request,
    next: &Next,
    mine: Option<&Mine>,
    on_event: &mut impl FnMut(Event),
) -> Result<(Option<Mine>, Standing), FolderError> {
    let Some(Mine { name, bell }) = mine else {
        let mut asking = std::pin::pin!(ask(place, request));
        let mut asked = None;
        for _ in 0..limits::LOCKED_LOOKS {
            asked = tokio::time::timeout(limits::LOCKED, &mut asking).await.ok();
            if asked.is_some() {
                break;
            }
        }
        let asked = if let Some(asked) = asked {
            asked
        } else {
            // Somebody was stopped in the middle of another transaction.
            on_event(Event::Hindered { why: "another process keeps the folder locked".to_owned() });
            asking.await
        };
        return asked.map(|(claim, standing)| (Some(claim), standing));
    };
    // What is left of a decision when nobody waits for it any more does not keep the claim alive.
    let fifo = Arc::downgrade(bell.fifo());
    let standing = match next {
        Next::Transact => transact(place, Change::Nothing, name, fifo).await?.0,
        Next::PassOver(turns) => transact(place, Change::PassOver(turns.clone()), name, fifo).await?.0,
        Next::Look => {
            let name = name.clone();
            at_once_or_apart(place, move |place, haste| place.look(&name, &fifo, haste)).await?
        }
    };
    Ok((None, standing))
}

async fn transact(
    place: &FolderLock,
    change: Change,
    name: &str,
    fifo: Weak<File>,
) -> Result<(Standing, Option<File>), FolderError> {
    let name = name.to_owned();
    at_once_or_apart(place, move |place, haste| place.transact(&change, &name, &fifo, haste)).await
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
async fn release(place: &FolderLock, name: String, fifo: Arc<File>, within: Duration) {
    let removal = transact(place, Change::Remove(name.clone()), &name, Weak::new());
    match tokio::time::timeout(within, removal).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!("cannot write down that a claim is released: {}", chain(&error)),
        Err(_) => tracing::debug!("another process keeps the folder locked: others will see that a claim is released"),
    }
    drop(fifo);
}

/// What takes microseconds is done here. Others and the disk are waited for on a thread that may, which is where the time
/// would go otherwise: to start it and to hear of it.
async fn at_once_or_apart<T: Send + 'static>(
    place: &FolderLock,
    work: impl Fn(&FolderLock, Haste) -> Result<T, FolderError> + Send + 'static,
) -> Result<T, FolderError> {
    match work(place, Haste::AtOnce) {
        Err(FolderError::TakesTime) => {}
        done => return done,
    }
    let own = place.clone();
    konductor_cluster::apart::apart(move || work(&own, Haste::HoweverLong))
        .await
        .unwrap_or_else(|error| Err(place.failed("start a thread to decide in", error)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc::unbounded_channel;

    use super::{folder::STATE_FOLDER, *};
    use crate::{Client, connect::Target};

    /// With the pauses alone all this would take minutes.
    #[tokio::test]
    async fn who_waits_hears_each_correction_however_many_mistakes_there_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let write = move |text: &str| {
            // At once as a whole.
            fs::write(path.join("new"), text).unwrap();
            fs::rename(path.join("new"), path.join("s.yaml")).unwrap();
        };
        let define = |permits: u32| {
            let text = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: s\nspec:\n  permits: ";
            write(&format!("{text}{permits}\n"));
        };
        let mistake = |number: u32| format!("kind: Mistake{number}\napiVersion: konductor.io/v1\n");
        // Also who has no claim any more, and cannot make a new one because of the first mistake.
        for is_deleted in [false, true] {
            define(0);
            let (commands, orders) = unbounded_channel();
            let client = Client(Target::Local(Local::new(folder.path()).on_any_filesystem()));
            let wanted = Wanted::Semaphore { name: "s".to_owned(), permits: 1 };
            let request = Request { wanted, priority: 0, ttl: None, holder: "me".to_owned(), pod: None };
            let (tell, mut told) = unbounded_channel();
            let write_again = write.clone();
            let waiting = tokio::spawn(crate::run(client, request, orders, move |event| {
                if matches!(&event, Event::Retrying { error, .. } if error == "the claim was deleted") {
                    write_again(&mistake(0));
                }
                let _ = tell.send(event);
            }));
            let hearing = async {
                while !matches!(told.recv().await.expect("it is told"), Event::Waiting { .. }) {}
                if is_deleted {
                    let state = folder.path().join(STATE_FOLDER);
                    // It may still be looking around.
                    while fs::remove_dir_all(&state).is_err() && state.exists() {
                        tokio::task::yield_now().await;
                    }
                    define(0);
                } else {
                    write(&mistake(0));
                }
                for number in 0..16 {
                    let said = format!("Mistake{number}\"");
                    let is_said = |event| matches!(event, Event::Retrying { error, .. } if error.contains(&said));
                    while !is_said(told.recv().await.expect("it is told")) {}
                    write(&mistake(number + 1));
                }
                define(1);
                while !matches!(told.recv().await.expect("it is told"), Event::Held { .. }) {}
            };
            tokio::time::timeout(Duration::from_mins(1), hearing).await.expect("it hears of all of them");
            commands.send(Command::Release).expect("it listens");
            waiting.await.expect("it has ended");
        }
    }
}
