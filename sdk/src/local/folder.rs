//! The files, and the transactions on them.
//!
//! ```text
//! DIR/*.yaml                          the manifests
//! DIR/.konductor/semaphores/NAME/
//!     lock                            locked exclusively by a transaction, shared by a look
//!     state.json                      replaced as a whole, on the disk before anything rests on it
//!     claims/CLAIM                    a FIFO for each claim, locked by its owner for as long as it lives
//! ```
//!
//! A transaction takes the lock, takes out the claims of the dead, makes its change, lets the rules decide, writes the
//! outcome down, **wakes whom it concerns, and then puts it in its place**. Who is woken looks with the lock shared, so
//! after the outcome is there. In this order, because the process may be killed between the two: a wake for nothing
//! costs a look, while an outcome that its beneficiary does not know of would be a permit that nobody uses. And where
//! nothing can be written down, nobody is woken.
//!
//! A claim's FIFO carries two locks of its owner. The first says that it lives. The second, which it takes with the lock
//! of the folder, says that it has seen its turn: who has not within some seconds is stopped, and is passed over.
//!
//! Everything below `DIR/.konductor` is opened from the folder above it without following links, and made under another
//! name, so that what has its name can be used by all, whenever its maker is killed. `super::access` says by whom.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::FileTypeExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, LockKind,
    limits::{MAX_HOLDER, MAX_PERMITS},
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat, renameat},
    libc,
    sys::{
        stat::{Mode, fstat, fstatat, mkdirat},
        statfs::fstatfs,
    },
    unistd::{AccessFlags, LinkatFlags, UnlinkatFlags, faccessat, fsync, geteuid, linkat, mkfifoat, unlinkat},
};

use super::{
    access::{self, Rights, open_up},
    filesystem::Filesystem,
    limits,
    manifest::{Definition, ManifestError},
    rules::{Standing, concerned, reign, standings},
    state::{Claim, State, Unbelievable, is_claim_name},
};

const STATE_FOLDER: &str = ".konductor";
const LOCK: &str = "lock";
const STATE_FILE: &str = "state.json";
/// What the state is written to first.
const NEW_STATE: &str = "state.json.new";
/// States that could not be believed are kept under this name, and a number.
const SET_ASIDE: &str = "state.json.corrupt-";

/// What something is called before it has its name. No claim and no lock is called so.
const UNFINISHED: &str = ".konductor-new";

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
         protects runs any more, delete it: fencing tokens then start again from the time of day"
    )]
    Corrupt { path: String, why: Unbelievable, aside: String },
    /// A state was damaged before, and nobody has done anything about it.
    #[error(
        "{aside} was set aside because it is damaged: repair it and name it {STATE_FILE} again; or, if nothing that it protects runs \
         any more, delete it: fencing tokens then start again from the time of day"
    )]
    SetAside { aside: String },
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
}

type Result<T> = std::result::Result<T, FolderError>;

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
}

/// One lock of one folder.
#[derive(Clone, Debug)]
pub(super) struct FolderLock {
    pub(super) folder: Arc<PathBuf>,
    pub(super) kind: LockKind,
    pub(super) name: String,
    /// Whether the folder can be on a filesystem that is not known to be of one machine.
    pub(super) any_filesystem: bool,
}

/// An open folder of ours.
struct Opened {
    folder: OwnedFd,
    path: PathBuf,
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
    pub(super) fn transact(&self, change: &Change, name: &str, mine: &Weak<File>) -> Result<(Standing, Option<File>)> {
        let (place, lock) = self.open(File::lock)?;
        let (before, claims) = (place.load()?, place.claims()?);
        let definitions = self.manifests()?;
        let definition = definitions.iter().find(|found| (found.kind, &found.name) == (self.kind, &self.name));
        let mut state = before.clone();
        let mut gone = claims.sweep(&mut state)?;
        let mut file = None;
        match change {
            Change::Nothing => {}
            Change::Add(ask) => {
                ask.check()?;
                if state.claims.len() >= limits::CLAIMS {
                    return Err(FolderError::Full { path: place.path.display().to_string() });
                }
                state.claims.push(claim(ask, state.next_ticket));
                state.next_ticket += 1;
                file = Some(claims.create_fifo(&ask.name)?);
            }
            Change::Remove(name) => {
                state.claims.retain(|claim| claim.name != *name);
                gone.push(name.clone());
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
        let decided = reign(&state, self.kind, &self.name, definition, now());
        // Terms alone are no news.
        let changed = standings(&before) != standings(&decided) || before.permits != decided.permits;
        let outcome = if changed {
            place.write_down(&decided).and_then(|()| {
                for other in concerned(&before, &decided).into_iter().filter(|other| *other != name) {
                    claims.wake(other);
                }
                place.put_in_place()
            })
        } else {
            Ok(())
        };
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

    /// Where the claim of this name stands, whose FIFO is `mine`.
    pub(super) fn look(&self, name: &str, mine: &Weak<File>) -> Result<Standing> {
        let (place, _lock) = self.open(File::lock_shared)?;
        let state = place.load()?;
        let standing = standings(&state).remove(name).unwrap_or(Standing::Gone);
        place.claims()?.take_turn(name, &standing, None, mine)?;
        Ok(standing)
    }

    /// The claim of this name, opened to see its owner's end. None when that has come already.
    pub(super) fn watch(&self, name: &str) -> Result<Option<File>> {
        let (place, _) = self.open(|_| Ok(()))?;
        let claims = place.claims()?;
        // Not writable: it must not keep the owner's end from being seen.
        let Some(file) = claims.open_fifo(name, OFlag::O_RDONLY)? else { return Ok(None) };
        // With the lock taken after the opening, the end is still to come, and will be seen.
        Ok(is_locked(&file).map_err(|source| claims.failed("lock", name, source))?.then_some(file))
    }

    /// Opens the lock's folder, makes it if need be, and locks it.
    fn open(&self, lock: fn(&File) -> io::Result<()>) -> Result<(Opened, File)> {
        let path = self.folder.as_path();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(path, flags, Mode::empty());
        let folder = folder.map_err(|error| failed("open the folder", path, error))?;
        let filesystem =
            Filesystem::from(fstatfs(&folder).map_err(|error| failed("examine", path, error))?.filesystem_type());
        if !self.any_filesystem && !filesystem.is_of_one_machine() {
            return Err(FolderError::Shared { path: path.display().to_string(), filesystem });
        }
        let rights = Rights::of(&folder).map_err(|error| failed("examine", path, error))?;
        let top = Opened { folder, path: path.to_path_buf() };
        for _ in 0..limits::REOPEN {
            match self.lock(&top, &rights, lock) {
                Err(FolderError::Unsteady { .. }) => {}
                outcome => return outcome,
            }
        }
        Err(top.unsteady(STATE_FOLDER))
    }

    /// [`FolderError::Unsteady`] when what was opened has been deleted meanwhile, and is no place to meet any more.
    fn lock(&self, top: &Opened, rights: &Rights, lock: fn(&File) -> io::Result<()>) -> Result<(Opened, File)> {
        let mut opened = top.enter(STATE_FOLDER, Some(rights))?;
        for part in [self.kind.plural, &self.name] {
            opened = opened.enter(part, None)?;
        }
        let file = opened.lock_file()?;
        loop {
            match lock(&file) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(|error| opened.failed("lock", LOCK, error))?,
            }
        }
        let status = fstat(&file).map_err(|error| opened.failed("examine", LOCK, error))?;
        match fstatat(&opened.folder, LOCK, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(now) if (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino) => Ok((opened, file)),
            _ => Err(opened.unsteady(LOCK)),
        }
    }

    /// The names of the manifests in the folder.
    pub(super) fn manifest_names(&self) -> Result<Vec<OsString>> {
        let folder = self.folder.as_path();
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

    /// All definitions of the folder.
    fn manifests(&self) -> Result<Vec<Definition>> {
        let mut all = Vec::new();
        for name in self.manifest_names()? {
            let text = read_manifest(&self.folder.join(&name))?;
            Definition::read(&name.to_string_lossy(), &text, &mut all)?;
        }
        Ok(all)
    }
}

impl Opened {
    fn failed(&self, doing: &'static str, name: &str, error: impl Into<io::Error>) -> FolderError {
        failed(doing, &self.path.join(name), error)
    }

    fn unsteady(&self, name: &str) -> FolderError {
        FolderError::Unsteady { path: self.path.join(name).display().to_string() }
    }

    /// Whether this folder, which is open, has no name any more.
    fn is_deleted(&self) -> bool {
        fstat(&self.folder).is_ok_and(|status| status.st_nlink == 0)
    }

    /// The folder of this name in this one, made if it is not there: open to all, or with these rights.
    fn enter(&self, name: &str, rights: Option<&Rights>) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for _ in 0..limits::REOPEN {
            let folder = match openat(&self.folder, name, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::ENOENT) => {
                    self.create_folder(name, rights)?;
                    continue;
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    let path = self.path.join(name).display().to_string();
                    return Err(FolderError::Strange { path, wanted: "a folder" });
                }
                Err(Errno::EACCES) => return Err(self.closed(name)),
                Err(error) => return Err(self.failed("open", name, error)),
            };
            let mended = match rights {
                Some(rights) => rights.mend(&folder),
                None => open_up(&folder, access::FOLDER),
            };
            mended.map_err(|error| self.failed("give rights to", name, error))?;
            return Ok(Self { folder, path: self.path.join(name) });
        }
        Err(self.unsteady(name))
    }

    /// Why the folder of this name, which is there, cannot be opened.
    fn closed(&self, name: &str) -> FolderError {
        let entered = faccessat(&self.folder, ".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS);
        match fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(status) if entered.is_ok() => {
                FolderError::Closed { path: self.path.join(name).display().to_string(), owner: status.st_uid }
            }
            _ => self.failed("open", name, Errno::EACCES),
        }
    }

    /// What this user's processes call what is not finished yet. They may well do it together: all make the same, so
    /// any of them can give it its name, and what one that was killed has left is the next one's beginning.
    fn unfinished() -> String {
        format!("{UNFINISHED}-{}", geteuid())
    }

    /// Makes a folder, unless somebody else is faster.
    fn create_folder(&self, name: &str, rights: Option<&Rights>) -> Result<()> {
        let new = Self::unfinished();
        match mkdirat(&self.folder, new.as_str(), Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(Errno::ENOENT) if self.is_deleted() => return Err(self.unsteady(name)),
            Err(error) => return Err(self.failed("create", name, error)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = match openat(&self.folder, new.as_str(), flags, Mode::empty()) {
            Ok(folder) => folder,
            // It has its name now.
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(self.failed("create", name, error)),
        };
        let given = match rights {
            Some(rights) => rights.give(&folder),
            None => open_up(&folder, access::FOLDER),
        };
        given.map_err(|error| self.failed("give rights to", name, error))?;
        match renameat(&self.folder, new.as_str(), &self.folder, name) {
            Ok(()) => fsync(&self.folder).map_err(|error| self.failed("create", name, error)),
            Err(Errno::ENOENT) => Ok(()),
            // Somebody else's has the name, and something in it, or cannot be replaced here.
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::EACCES | Errno::EPERM) => {
                let _ = unlinkat(&self.folder, new.as_str(), UnlinkatFlags::RemoveDir);
                Ok(())
            }
            Err(error) => Err(self.failed("create", name, error)),
        }
    }

    /// The file that is locked, made if it is not there.
    fn lock_file(&self) -> Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        for _ in 0..limits::REOPEN {
            match openat(&self.folder, LOCK, flags, Mode::empty()) {
                Err(Errno::ENOENT) => self.create_lock_file(flags)?,
                file => {
                    let file = self.plain_file(LOCK, file.map(File::from).map_err(io::Error::from))?;
                    open_up(&file, access::FILE).map_err(|error| self.failed("give rights to", LOCK, error))?;
                    return Ok(file);
                }
            }
        }
        Err(self.unsteady(LOCK))
    }

    /// Makes that file, unless somebody else is faster. It must never be replaced.
    fn create_lock_file(&self, flags: OFlag) -> Result<()> {
        let new = Self::unfinished();
        let file = match openat(&self.folder, new.as_str(), flags | OFlag::O_CREAT, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(file) => file,
            Err(Errno::ENOENT) if self.is_deleted() => return Err(self.unsteady(LOCK)),
            Err(error) => return Err(self.failed("create", LOCK, error)),
        };
        open_up(&file, access::FILE).map_err(|error| self.failed("give rights to", LOCK, error))?;
        let linked = match linkat(&self.folder, new.as_str(), &self.folder, LOCK, LinkatFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST | Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.failed("create", LOCK, error)),
        };
        let _ = unlinkat(&self.folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
        linked
    }

    fn plain_file(&self, name: &str, file: io::Result<File>) -> Result<File> {
        let strange =
            || FolderError::Strange { path: self.path.join(name).display().to_string(), wanted: "a plain file" };
        match file.and_then(|file| Ok((file.metadata()?.is_file(), file))) {
            Ok((true, file)) => Ok(file),
            Ok((false, _)) => Err(strange()),
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => Err(strange()),
            Err(error) => Err(self.failed("open", name, error)),
        }
    }

    /// The state, which is only empty where there has never been one.
    fn load(&self) -> Result<State> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut bytes = Vec::new();
        match openat(&self.folder, STATE_FILE, flags, Mode::empty()) {
            Ok(file) => {
                let file = self.plain_file(STATE_FILE, Ok(File::from(file)))?;
                let read = file.take(limits::STATE + 1).read_to_end(&mut bytes);
                read.map_err(|error| self.failed("read", STATE_FILE, error))?;
            }
            Err(Errno::ENOENT) => {
                return match self.names()?.into_iter().find(|name| name.starts_with(SET_ASIDE)) {
                    Some(aside) => Err(FolderError::SetAside { aside: self.path.join(aside).display().to_string() }),
                    None => Ok(State::default()),
                };
            }
            Err(error) => return self.plain_file(STATE_FILE, Err(error.into())).map(|_| State::default()),
        }
        let why = match State::parse(&bytes) {
            Ok(state) => return Ok(state),
            Err(why) => why,
        };
        let path = self.path.join(STATE_FILE).display().to_string();
        if let Unbelievable::Version(_) = why {
            return Err(FolderError::Later { path, why });
        }
        let names = self.names()?;
        let aside =
            (1..u32::MAX).map(|n| format!("{SET_ASIDE}{n}")).find(|name| !names.contains(name)).unwrap_or_default();
        let renamed = renameat(&self.folder, STATE_FILE, &self.folder, aside.as_str());
        renamed.map_err(|error| self.failed("set aside", STATE_FILE, error))?;
        Err(FolderError::Corrupt { path, why, aside })
    }

    /// Writes a state to the disk, beside the one that is in force.
    fn write_down(&self, state: &State) -> Result<()> {
        let path = self.path.join(STATE_FILE).display().to_string();
        let bytes = state.print().map_err(|why| FolderError::Unwritable { path, why })?;
        match unlinkat(&self.folder, NEW_STATE, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(self.failed("replace", NEW_STATE, error)),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, NEW_STATE, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from);
        let mut file = file.map_err(|error| self.failed("create", NEW_STATE, error))?;
        let opened = open_up(&file, access::FILE);
        let written = opened.and_then(|()| file.write_all(&bytes)).and_then(|()| file.sync_all());
        written.map_err(|error| self.not_stored(error))
    }

    /// Puts what was written down in force.
    fn put_in_place(&self) -> Result<()> {
        let renamed = renameat(&self.folder, NEW_STATE, &self.folder, STATE_FILE).and_then(|()| fsync(&self.folder));
        renamed.map_err(|error| self.not_stored(error))
    }

    fn not_stored(&self, error: impl Into<io::Error>) -> FolderError {
        // On a full disk it would only be in the way.
        let _ = unlinkat(&self.folder, NEW_STATE, UnlinkatFlags::NoRemoveDir);
        self.failed("write", STATE_FILE, error)
    }

    fn names(&self) -> Result<Vec<String>> {
        let failed = |error: Errno| failed("read", &self.path, error);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut folder = Dir::openat(&self.folder, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn claims(&self) -> Result<Claims> {
        Ok(Claims(self.enter("claims", None)?))
    }
}

/// The folder of the claims' files.
struct Claims(Opened);

impl Claims {
    fn failed(&self, doing: &'static str, name: &str, error: impl Into<io::Error>) -> FolderError {
        self.0.failed(doing, name, error)
    }

    /// Takes the claims of the dead out of the state, and names the files that nobody needs any more.
    fn sweep(&self, state: &mut State) -> Result<Vec<String>> {
        let (mut alive, mut useless) = (Vec::new(), Vec::new());
        for name in self.0.names()?.into_iter().filter(|name| is_claim_name(name)) {
            let Some(file) = self.open_fifo(&name, OFlag::O_RDONLY)? else { continue };
            if !is_locked(&file).map_err(|error| self.failed("lock", &name, error))? {
                useless.push(name);
            } else if state.claims.iter().any(|claim| claim.name == name) {
                alive.push(name);
            } else {
                return Err(FolderError::Unknown { path: self.0.path.join(name).display().to_string() });
            }
        }
        state.claims.retain(|claim| alive.contains(&claim.name));
        Ok(useless)
    }

    /// A new claim's file, locked by the description that is returned and by those that are inherited from it.
    fn create_fifo(&self, name: &str) -> Result<File> {
        // Of one who was killed at this.
        let _ = unlinkat(&self.0.folder, UNFINISHED, UnlinkatFlags::NoRemoveDir);
        mkfifoat(&self.0.folder, UNFINISHED, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|error| self.failed("create", name, error))?;
        // Both ends, so that it opens at once and never ends on its owner.
        let file =
            self.open_fifo(UNFINISHED, OFlag::O_RDWR)?.ok_or_else(|| self.failed("open", name, Errno::ENOENT))?;
        open_up(&file, access::FILE).map_err(|error| self.failed("give rights to", name, error))?;
        file.try_lock().map_err(|error| self.failed("lock", name, io::Error::from(error)))?;
        renameat(&self.0.folder, UNFINISHED, &self.0.folder, name)
            .map_err(|error| self.failed("create", name, error))?;
        Ok(file)
    }

    /// Says, with the folder locked, that the owner of this FIFO has seen that it is its turn.
    fn take_turn(&self, name: &str, standing: &Standing, new: Option<&File>, mine: &Weak<File>) -> Result<()> {
        if !matches!(standing, Standing::Held { .. }) {
            return Ok(());
        }
        let mine = mine.upgrade();
        // Without a file nobody wants it any more, and its end is being seen to.
        let Some(file) = new.or(mine.as_deref()) else { return Ok(()) };
        let taken = fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK)));
        taken.map(drop).map_err(|error| self.failed("lock", name, error))
    }

    /// Whether the owner of this claim lives and has not seen that it is its turn.
    fn is_untaken(&self, name: &str) -> Result<bool> {
        Ok(self.open_fifo(name, OFlag::O_RDONLY)?.is_some_and(|file| is_untaken(&file)))
    }

    fn open_fifo(&self, name: &str, mode: OFlag) -> Result<Option<File>> {
        let flags = mode | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(&self.0.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Err(self.strange(name)),
            Err(error) => return Err(self.failed("open", name, error)),
        };
        let kind = file.metadata().map_err(|error| self.failed("examine", name, error))?.file_type();
        if kind.is_fifo() { Ok(Some(file)) } else { Err(self.strange(name)) }
    }

    fn strange(&self, name: &str) -> FolderError {
        FolderError::Strange { path: self.0.path.join(name).display().to_string(), wanted: "a FIFO" }
    }

    /// Wakes the owner of a claim. One that cannot be woken is dead, which whoever is behind it sees, or has been
    /// woken.
    fn wake(&self, name: &str) {
        let woken = self.open_fifo(name, OFlag::O_WRONLY).map(|file| file.map(|mut file| file.write(&[0])));
        tracing::trace!("woke {name}: {woken:?}");
    }

    /// A file that is left is swept away later.
    fn remove(&self, name: &str) {
        if let Err(error) = unlinkat(&self.0.folder, name, UnlinkatFlags::NoRemoveDir) {
            tracing::debug!("cannot remove claim {name}: {error}");
        }
    }
}

/// Whether its owner, who locks it exclusively, lives. Shared, so that two who look at once do not take each other for
/// it.
fn is_locked(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        // Closing it unlocks it.
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Whether nobody has taken the turn that this FIFO's owner may have.
pub(super) fn is_untaken(file: &File) -> bool {
    let mut lock = whole(libc::F_RDLCK);
    // What cannot be known counts as taken.
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && lock.l_type == libc::F_UNLCK as libc::c_short
}

/// A lock of all of a file, by an open file description.
fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn claim(ask: &Ask, ticket: u64) -> Claim {
    Claim {
        name: ask.name.clone(),
        holder: ask.holder.clone(),
        permits: ask.permits.into(),
        priority: ask.priority,
        ticket,
        phase: ClaimPhase::Pending,
        term: 0,
        fencing_token: None,
        ahead: None,
        acquired_at: None,
        message: None,
        passed_over: false,
    }
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
    if !file.metadata().map_err(|error| failed("examine", path, error))?.is_file() {
        return Err(strange("a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(limits::MANIFEST + 1).read_to_end(&mut bytes).map_err(|error| failed("read", path, error))?;
    if bytes.len() as u64 > limits::MANIFEST {
        return Err(strange("a manifest of at most 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| strange("UTF-8 text"))
}

fn failed(doing: &'static str, path: &Path, error: impl Into<io::Error>) -> FolderError {
    FolderError::System { doing, path: path.display().to_string(), source: error.into() }
}

#[expect(
    clippy::disallowed_methods,
    reason = "shown to people, and a lower bound for fencing tokens that need not be exact"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
