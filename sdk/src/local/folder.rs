//! The files, and the transactions on them.
//!
//! ```text
//! DIR/*.yaml                          the manifests
//! DIR/.konductor/semaphores/NAME/
//!     lock                            locked exclusively by a transaction, shared by a look
//!     state.json, terms.json          replaced as a whole (`super::store`)
//!     claims/CLAIM                    a FIFO for each claim, locked by its owner for as long as it lives
//! ```
//!
//! A transaction takes the lock, takes out the claims of the dead, makes its change, lets the rules decide, writes the
//! outcome down, **wakes whom it concerns, and then puts it in its place**. Who is woken looks with the lock shared, so
//! after the outcome is there. In this order, because the process may be killed between the two: a wake for nothing
//! costs a look, while an outcome that its beneficiary does not know of would be a permit that nobody uses. And where
//! nothing can be written down, nobody is woken; where somebody cannot be woken, nothing has happened.
//!
//! A claim that is given back loses its FIFO before that: who is in the state without one is taken for dead, while a FIFO
//! that is locked, maybe by what has inherited it, and is in no state stops everybody. One that is new has its FIFO first:
//! should its owner be killed before it is in the state, the lock of its FIFO ends with it, as nothing has inherited that yet.
//!
//! A claim's FIFO carries two locks of its owner. The first says that it lives. The second, which it takes with the lock
//! of the folder, says that it has seen its turn: who has not within some seconds is stopped, and is passed over.
//!
//! Everything below `DIR/.konductor` is opened from the folder above it without following links, and made under another
//! name (`super::place`), for all who may come in (`super::access`).

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
};

use jiff::Timestamp;
use konductor_api::{
    LockKind,
    limits::{MAX_HOLDER, MAX_PERMITS},
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{
        stat::{Mode, lstat},
        statfs::fstatfs,
    },
};

use super::{
    access::Rights,
    filesystem::Filesystem,
    limits,
    manifest::{Definition, ManifestError},
    place::{LOCK, Opened, is_locked},
    rules::{Standing, concerned, reign, standings},
    state::{Claim, State, Unbelievable},
    store::{STATE_FILE, Store, TERMS_FILE},
};

pub(super) const STATE_FOLDER: &str = ".konductor";

/// Why nothing can be decided in a folder. The reader's to repair.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    /// The system refuses.
    #[error("cannot {doing} {path}")]
    System {
        doing: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    /// Something else than what was expected has this name.
    #[error("{path} is not {wanted}")]
    Strange { path: String, wanted: &'static str },
    /// The folder is on a filesystem that other machines may use at the same time.
    #[error(
        "{path} is on {filesystem}, which other machines may use as well, and nobody here can tell whether a holder lives there: \
         use a folder on a disk of this machine, or --local-filesystem-ok if no other machine uses this one"
    )]
    Shared { path: String, filesystem: Filesystem },
    /// The rights of the folder have changed since, and this process may not change those of what is in it.
    #[error(
        "cannot open {path}, whose rights are not those of the folder any more: they become so when user {owner} or root uses the \
         folder once"
    )]
    Closed { path: String, owner: u32 },
    /// A manifest has a mistake.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The state was written by a later version.
    #[error("cannot use {path}: {why}: use the newest konductor-run that was used with this folder")]
    Later { path: String, why: Unbelievable },
    /// The state is damaged.
    #[error(
        "cannot believe {path}: {why}. It is kept as {aside}: repair it and name it {STATE_FILE} again; or, if nothing that it \
         protects runs any more, delete it: fencing tokens then go on from what {TERMS_FILE} says"
    )]
    Corrupt { path: String, why: Unbelievable, aside: String },
    /// The state is damaged, and whoever found that only looks.
    #[error(
        "cannot believe {path}: {why}. Whoever takes part next does without it, if this machine was started since, or sets it \
         aside and says what to do"
    )]
    Damaged { path: String, why: Unbelievable },
    /// A state was damaged before, and nobody has done anything about it.
    #[error(
        "{aside} was set aside because it is damaged: repair it and name it {STATE_FILE} again; or, if nothing that it protects runs \
         any more, delete it: fencing tokens then go on from what {TERMS_FILE} says"
    )]
    SetAside { aside: String },
    /// What says which tokens were given out is damaged. No power failure does that.
    #[error(
        "cannot believe {path}: {why}. Without it fencing tokens could come again: repair it; or, if no token of before matters any \
         more, delete it: they then go on from what {STATE_FILE} says, or from the time of day"
    )]
    Terms { path: String, why: Unbelievable },
    /// A process lives that holds or waits, and the state does not know it.
    #[error(
        "{path} belongs to a process that runs, but is not in {STATE_FILE}, which somebody has deleted or replaced: end that process, or wait for its end"
    )]
    Unknown { path: String },
    /// The queue is full.
    #[error("{path} has {} claims already, which is the most", limits::CLAIMS)]
    Full { path: String },
    /// Nobody can ask for this.
    #[error("wanted {wanted}, found {found}")]
    Request { wanted: String, found: String },
    /// The clock is centuries ahead, or was.
    #[error("cannot write {path}: {why}")]
    Unwritable { path: String, why: Unbelievable },
    /// Somebody deletes the state again and again.
    #[error("{path} was deleted while it was used")]
    Unsteady { path: String },
    /// It cannot be had with [`Haste::AtOnce`], and nothing has been changed.
    #[error("it takes a while")]
    TakesTime,
}

impl FolderError {
    /// How often it is tried again to take part at all, since this can be over in a moment.
    pub(super) fn first_tries(&self) -> u32 {
        match self {
            Self::Unknown { .. } => limits::UNKNOWN_TRIES,
            error if error.is_momentary() => limits::FIRST_TRIES,
            _ => 0,
        }
    }

    /// Whether the system has no room for a moment, which says nothing about the folder.
    pub(super) fn is_momentary(&self) -> bool {
        let Self::System { source, .. } = self else { return false };
        let momentary = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
        momentary.into_iter().any(|errno| source.raw_os_error() == Some(errno as i32))
    }
}

pub(super) type Result<T> = std::result::Result<T, FolderError>;

/// Whether there is time to wait for others or for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// There is not: [`FolderError::TakesTime`] instead.
    AtOnce,
    /// There is.
    HoweverLong,
}

impl Haste {
    pub(super) fn allows_to_wait(self) -> Result<()> {
        match self {
            Self::AtOnce => Err(FolderError::TakesTime),
            Self::HoweverLong => Ok(()),
        }
    }
}

/// How a folder is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locking {
    Exclusively,
    Shared,
    Not,
}

impl Locking {
    /// Locks this file. Who waits for that can be interrupted.
    fn lock(self, file: &File, haste: Haste) -> io::Result<()> {
        match (self, haste) {
            (Self::Exclusively, Haste::AtOnce) => Ok(file.try_lock()?),
            (Self::Exclusively, Haste::HoweverLong) => file.lock(),
            (Self::Shared, Haste::AtOnce) => Ok(file.try_lock_shared()?),
            (Self::Shared, Haste::HoweverLong) => file.lock_shared(),
            (Self::Not, _) => Ok(()),
        }
    }
}

/// What a transaction is to change, besides taking out the dead.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Nothing: something may have changed elsewhere.
    Nothing,
    /// A claim of this name.
    Add(Ask),
    /// The claim of this name goes.
    Remove(String),
    /// These claims, with their tokens, lose their turn, if they have not taken it.
    PassOver(Vec<(String, u64)>),
}

/// A claim to be made.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) name: String,
    pub(super) holder: String,
    pub(super) permits: u32,
    pub(super) priority: i32,
    /// Whether it is made also if it has to wait, or if there is something to be said first. If it is not,
    /// [`FolderError::TakesTime`] says so.
    pub(super) may_wait: bool,
}

/// One lock of one folder.
#[derive(Clone, Debug)]
pub(super) struct FolderLock {
    pub(super) folder: Arc<PathBuf>,
    pub(super) kind: LockKind,
    pub(super) name: String,
    /// Whether the folder can be on a filesystem that is not known to be of one machine.
    pub(super) any_filesystem: bool,
    /// What keeps `.konductor` from letting in all who can write to the folder, once it was found.
    pub(super) in_the_way: Arc<OnceLock<PathBuf>>,
}

impl Ask {
    /// Refuses what a cluster would refuse.
    fn check(&self) -> Result<()> {
        let refused = |wanted: String, found: String| Err(FolderError::Request { wanted, found });
        match self.holder.chars().count() {
            length if !(1..=MAX_HOLDER as usize).contains(&length) => {
                refused(format!("a holder of 1 to {MAX_HOLDER} characters"), format!("{length}"))
            }
            _ if !(1..=MAX_PERMITS).contains(&self.permits.into()) => {
                refused(format!("1 to {MAX_PERMITS} permits"), format!("{}", self.permits))
            }
            _ => Ok(()),
        }
    }
}

impl FolderLock {
    /// Makes a change and says where the claim of this name then stands, whose FIFO is `mine`. A claim that was added
    /// comes with its own.
    pub(super) fn transact(
        &self,
        change: &Change,
        name: &str,
        mine: &Weak<File>,
        haste: Haste,
    ) -> Result<(Standing, Option<File>)> {
        steadily(|| self.transact_once(change, name, mine, haste))
    }

    fn transact_once(
        &self,
        change: &Change,
        name: &str,
        mine: &Weak<File>,
        haste: Haste,
    ) -> Result<(Standing, Option<File>)> {
        let (place, lock) = self.open(haste)?.lock(Locking::Exclusively, haste)?;
        let mount = place.mount_for(haste)?;
        let (store, before) = Store::open(&place, &mount, haste)?;
        if before.claims.len() > limits::AT_ONCE.1 {
            haste.allows_to_wait()?;
        }
        let claims = place.claims(haste)?;
        let mut state = before.clone();
        let mut gone = claims.sweep(&mut state)?;
        store.settle(&mut state);
        match change {
            Change::Nothing => {}
            Change::Add(ask) => {
                ask.check()?;
                if state.claims.len() >= limits::CLAIMS {
                    return Err(FolderError::Full { path: place.path.display().to_string() });
                }
                state.claims.push(Claim::waiting(
                    ask.name.clone(),
                    ask.holder.clone(),
                    ask.permits.into(),
                    ask.priority,
                    state.next_ticket,
                ));
                state.next_ticket += 1;
            }
            Change::Remove(name) => {
                state.claims.retain(|claim| claim.name != *name);
            }
            Change::PassOver(turns) => {
                for (name, token) in turns {
                    let has_it = |claim: &&mut Claim| claim.name == *name && claim.fencing_token == Some(*token);
                    if let Some(claim) = state.claims.iter_mut().find(has_it)
                        && claims.is_untaken(name)?
                    {
                        claim.pass_over();
                    }
                }
            }
        }
        if let Some(own) = state.claims.iter_mut().find(|claim| claim.name == name) {
            // It does not stand still.
            own.passed_over = false;
        }
        let mut decided = self.decide(state, haste)?;
        if let Change::Add(Ask { may_wait: false, .. }) = change {
            let is_held = matches!(standings(&decided).get(name), Some(Standing::Held { .. }));
            if !is_held || self.in_the_way.get().is_some() {
                return Err(FolderError::TakesTime);
            }
        }
        // Terms alone are no news.
        let changed = standings(&before) != standings(&decided) || before.permits != decided.permits;
        let terms = store.wants(&decided).filter(|_| changed);
        if terms.is_some() {
            haste.allows_to_wait()?;
        }
        let mut file = None;
        let mut carry_out = || {
            if let Some(terms) = terms {
                store.reserve(terms, &mut decided)?;
            }
            if let Change::Add(ask) = change {
                file = Some(claims.create_fifo(&ask.name)?);
            }
            store.write_down(&mut decided)?;
            for other in concerned(&before, &decided).into_iter().filter(|other| *other != name) {
                claims.wake(other)?;
            }
            if let Change::Remove(name) = change {
                claims.remove(name);
            }
            store.put_in_place()
        };
        let outcome = if changed { carry_out() } else { Ok(()) };
        if let (Err(_), Change::Add(ask)) = (&outcome, change) {
            gone.push(ask.name.clone());
        }
        for name in &gone {
            claims.remove(name);
        }
        outcome?;
        let standing = standings(&decided).remove(name).unwrap_or(Standing::Gone);
        claims.take_turn(name, &standing, file.as_ref(), mine)?;
        drop(lock);
        Ok((standing, file))
    }

    /// What the rules make of a state. Where nobody wants anything, nothing has to be decided: so who holds alone gives
    /// back whatever has become of the manifests.
    fn decide(&self, state: State, haste: Haste) -> Result<State> {
        if state.claims.is_empty() {
            return Ok(state);
        }
        if haste == Haste::AtOnce && !self.are_manifests_short() {
            return Err(FolderError::TakesTime);
        }
        let definitions = self.manifests()?;
        let definition = definitions.iter().find(|found| (found.kind, &found.name) == (self.kind, &self.name));
        Ok(reign(&state, self.kind, &self.name, definition, now()))
    }

    /// Where the claim of this name stands, whose FIFO is `mine`.
    pub(super) fn look(&self, name: &str, mine: &Weak<File>, haste: Haste) -> Result<Standing> {
        steadily(|| self.look_once(name, mine, haste))
    }

    fn look_once(&self, name: &str, mine: &Weak<File>, haste: Haste) -> Result<Standing> {
        let (place, _lock) = self.open(haste)?.lock(Locking::Shared, haste)?;
        let mount = place.mount_for(haste)?;
        let (_, state) = Store::open(&place, &mount, haste)?;
        let standing = standings(&state).remove(name).unwrap_or(Standing::Gone);
        place.claims(haste)?.take_turn(name, &standing, None, mine)?;
        Ok(standing)
    }

    /// The claim of this name, opened to see its owner's end. None when that has come already.
    pub(super) fn watch(&self, name: &str) -> Result<Option<File>> {
        steadily(|| self.watch_once(name))
    }

    fn watch_once(&self, name: &str) -> Result<Option<File>> {
        let (place, _) = self.open(Haste::HoweverLong)?.lock(Locking::Not, Haste::HoweverLong)?;
        let claims = place.claims(Haste::HoweverLong)?;
        // Not writable: it must not keep the owner's end from being seen.
        let Some(file) = claims.open_fifo(name, OFlag::O_RDONLY)? else { return Ok(None) };
        // With the lock taken after the opening, the end is still to come, and will be seen.
        Ok(is_locked(&file).map_err(|source| claims.failed("lock", name, source))?.then_some(file))
    }

    /// Opens the lock's folder, and makes it if need be.
    fn open(&self, haste: Haste) -> Result<Unlocked> {
        let top = top(&self.folder, self.any_filesystem)?;
        let rights = Rights::of(&top.folder).map_err(|error| failed("examine", &self.folder, error))?;
        let mut place = top.enter(STATE_FOLDER, Some(&rights), haste)?;
        if let Some(path) = place.mend(&rights)? {
            let _ = self.in_the_way.set(path);
        }
        for part in [self.kind.plural, &self.name] {
            place = place.enter(part, None, haste)?;
        }
        let (file, data) = place.lock_file()?;
        Ok(Unlocked { place, file, data })
    }

    /// The names of the manifests in the folder.
    pub(super) fn manifest_names(&self) -> Result<Vec<OsString>> {
        manifest_names(&self.folder)
    }

    /// Whether the manifests are read in no time. Where a link leads can be far away; and what cannot be looked at is for
    /// whoever may wait to say.
    fn are_manifests_short(&self) -> bool {
        let length = |name: &OsString| {
            let data = std::fs::symlink_metadata(self.folder.join(name)).ok()?;
            data.is_file().then_some(data.len())
        };
        let lengths = self.manifest_names().ok().and_then(|names| names.iter().map(length).collect::<Option<Vec<_>>>());
        lengths.is_some_and(|lengths| lengths.iter().sum::<u64>() <= limits::AT_ONCE.0)
    }

    /// All definitions of the folder.
    fn manifests(&self) -> Result<Vec<Definition>> {
        manifests(&self.folder)
    }
}

/// A lock's folder that is open, and the file in it that is to be locked.
struct Unlocked {
    place: Opened,
    file: File,
    data: Metadata,
}

impl Unlocked {
    /// [`FolderError::Unsteady`] when that is no place to meet any more: those who come now open another one, because it
    /// was deleted or moved meanwhile, or a folder around it was.
    fn lock(self, locking: Locking, haste: Haste) -> Result<(Opened, File)> {
        let Self { place, file, data } = self;
        loop {
            match locking.lock(&file, haste) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && haste == Haste::AtOnce => {
                    return Err(FolderError::TakesTime);
                }
                outcome => break outcome.map_err(|error| place.failed("lock", LOCK, error))?,
            }
        }
        match lstat(&place.path.join(LOCK)) {
            Ok(now) if (now.st_dev, now.st_ino) == (data.dev(), data.ino()) => Ok((place, file)),
            _ => Err(place.unsteady(LOCK)),
        }
    }
}

/// Does this anew, some times, when what it has opened was deleted or moved meanwhile.
fn steadily<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..limits::REOPEN {
        match work() {
            Err(FolderError::Unsteady { .. }) => {}
            outcome => return outcome,
        }
    }
    work()
}

/// Opens the user's folder, if it is one that can be used.
pub(super) fn top(path: &Path, any_filesystem: bool) -> Result<Opened> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = nix::fcntl::open(path, flags, Mode::empty());
    let folder = folder.map_err(|error| failed("open the folder", path, error))?;
    let filesystem =
        Filesystem::from(fstatfs(&folder).map_err(|error| failed("examine", path, error))?.filesystem_type());
    if !any_filesystem && !filesystem.is_of_one_machine() {
        return Err(FolderError::Shared { path: path.display().to_string(), filesystem });
    }
    Ok(Opened { folder, path: path.to_path_buf() })
}

/// The names of the manifests in a folder.
pub(super) fn manifest_names(folder: &Path) -> Result<Vec<OsString>> {
    let read = |error: io::Error| failed("read", folder, error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        if is_manifest(&name) {
            files.push(name);
        }
    }
    files.sort();
    if files.len() > limits::MANIFESTS {
        let wanted = "a folder of at most 256 manifests";
        return Err(FolderError::Strange { path: folder.display().to_string(), wanted });
    }
    Ok(files)
}

/// All definitions of a folder.
pub(super) fn manifests(folder: &Path) -> Result<Vec<Definition>> {
    definitions(folder, || manifest_names(folder))
}

/// What is listed is listed again when some of it is not there: somebody has removed it meanwhile, or given it another
/// name. A link that leads nowhere goes on to do so.
fn definitions(folder: &Path, mut list: impl FnMut() -> Result<Vec<OsString>>) -> Result<Vec<Definition>> {
    for _ in 1..limits::LISTED {
        match read_manifests(folder, list()?) {
            Err(FolderError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
    }
    read_manifests(folder, list()?)
}

fn read_manifests(folder: &Path, names: Vec<OsString>) -> Result<Vec<Definition>> {
    let mut all = Vec::new();
    for name in names {
        let text = read_manifest(&folder.join(&name))?;
        Definition::read(&name.to_string_lossy(), &text, &mut all)?;
    }
    Ok(all)
}

/// Whether a change of the file of this name can change what is defined: a manifest, or what a mounted `ConfigMap`
/// replaces.
pub(super) fn concerns_manifests(name: &OsStr) -> bool {
    is_manifest(name) || name.as_bytes().starts_with(b"..")
}

fn is_manifest(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b".") && (name.ends_with(b".yaml") || name.ends_with(b".yml"))
}

fn read_manifest(path: &Path) -> Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(path, flags, Mode::empty()).map(File::from);
    let file = file.map_err(|error| failed("open", path, error))?;
    let strange = |wanted| FolderError::Strange { path: path.display().to_string(), wanted };
    let data = file.metadata().map_err(|error| failed("examine", path, error))?;
    if !data.is_file() {
        return Err(strange("a plain file"));
    }
    let mut bytes = Vec::with_capacity(room(&data, limits::MANIFEST));
    file.take(limits::MANIFEST + 1).read_to_end(&mut bytes).map_err(|error| failed("read", path, error))?;
    if bytes.len() as u64 > limits::MANIFEST {
        return Err(strange("a manifest of at most 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| strange("UTF-8 text"))
}

/// How much room a file takes that is read as a whole, and one byte more, by which its end is seen at once.
pub(super) fn room(data: &Metadata, most: u64) -> usize {
    usize::try_from(data.len().min(most) + 1).unwrap_or_default()
}

pub(super) fn failed(doing: &'static str, path: &Path, error: impl Into<io::Error>) -> FolderError {
    FolderError::System { doing, path: path.display().to_string(), source: error.into() }
}

#[expect(
    clippy::disallowed_methods,
    reason = "shown to people, and a lower bound for fencing tokens that need not be exact"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
