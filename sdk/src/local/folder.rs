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
//! A transaction takes the lock, takes out the claims of the dead, makes its change, lets the rules decide, **wakes
//! whom the outcome concerns, and then stores it**. Who is woken looks with the lock shared, so after the outcome is
//! there. In this order, because the process may be killed between the two: a wake for nothing costs a look, while an
//! outcome that its beneficiary does not know of would be a permit that nobody uses.
//!
//! Everything below `DIR/.konductor` is opened from the folder above it without following links. Files are created with
//! the permissions of DIR (and, as far as the system allows, its group), so that those who can write there can take
//! part.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileTypeExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, LockKind,
    limits::{MAX_HOLDER, MAX_PERMITS},
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, openat, renameat},
    sys::{
        stat::{Mode, SFlag, fchmod, fstat, mkdirat},
        statfs::{self, fstatfs},
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, geteuid, mkfifoat, unlinkat},
};

use super::{
    limits,
    manifest::{Definition, ManifestError},
    rules::{Standing, concerned, reign, standings},
    state::{Claim, State, Unbelievable, is_claim_name},
};

const STATE_FOLDER: &str = ".konductor";
const STATE_FILE: &str = "state.json";
/// What the state is written to first.
const NEW_STATE: &str = "state.json.new";
/// States that could not be believed are kept under this name, and a number.
const SET_ASIDE: &str = "state.json.corrupt-";

/// Filesystems that several machines can share, where this machine's kernel cannot say whether a holder lives.
const SHARED: [statfs::FsType; 8] = [
    statfs::NFS_SUPER_MAGIC,
    statfs::SMB_SUPER_MAGIC,
    statfs::CODA_SUPER_MAGIC,
    statfs::AFS_SUPER_MAGIC,
    statfs::FUSE_SUPER_MAGIC,
    // CIFS and SMB2, 9P, Ceph.
    statfs::FsType(0xff53_4d42),
    statfs::FsType(0x0102_1997),
    statfs::FsType(0x00c3_6400),
];

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
        "{0} is on a network filesystem, where it cannot be known whether a holder lives: use a folder on a disk of this machine"
    )]
    Shared(String),
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

impl FolderError {
    /// Whether the system has no room for a moment, which says nothing about the folder.
    pub(super) fn is_momentary(&self) -> bool {
        let Self::System { source, .. } = self else { return false };
        let momentary = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
        momentary.into_iter().any(|errno| source.raw_os_error() == Some(errno as i32))
    }
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
}

/// An open folder of ours.
struct Opened {
    folder: OwnedFd,
    path: PathBuf,
}

/// Who may do what, as the user's folder says.
#[derive(Clone, Copy)]
struct Access {
    mode: u32,
    owner: u32,
    group: u32,
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
    /// Makes a change and says where the claim of this name then stands. A claim that was added comes with its file.
    pub(super) fn transact(&self, change: &Change, name: &str) -> Result<(Standing, Option<File>)> {
        let (place, access, lock) = self.open(File::lock)?;
        let (before, claims) = (place.load()?, place.claims(access)?);
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
                file = Some(claims.create_fifo(&ask.name, access)?);
            }
            Change::Remove(name) => {
                state.claims.retain(|claim| claim.name != *name);
                gone.push(name.clone());
            }
        }
        let decided = reign(&state, self.kind, &self.name, definition, now());
        // Terms alone are no news.
        let changed = standings(&before) != standings(&decided) || before.permits != decided.permits;
        let outcome = if changed {
            for name in concerned(&before, &decided) {
                claims.wake(name);
            }
            place.store(&decided, access)
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
        drop(lock);
        Ok((standings(&decided).remove(name).unwrap_or(Standing::Gone), file))
    }

    /// Where the claim of this name stands.
    pub(super) fn look(&self, name: &str) -> Result<Standing> {
        let (place, _, _lock) = self.open(File::lock_shared)?;
        let state = place.load()?;
        Ok(standings(&state).remove(name).unwrap_or(Standing::Gone))
    }

    /// The claim of this name, opened to see its owner's end. None when that has come already.
    pub(super) fn watch(&self, name: &str) -> Result<Option<File>> {
        let (place, access, _) = self.open(|_| Ok(()))?;
        let claims = place.claims(access)?;
        // Not writable: it must not keep the owner's end from being seen.
        let Some(file) = claims.open_fifo(name, OFlag::O_RDONLY)? else { return Ok(None) };
        // With the lock taken after the opening, the end is still to come, and will be seen.
        Ok(is_locked(&file).map_err(|source| claims.failed("lock", name, source))?.then_some(file))
    }

    /// Opens the lock's folder, makes it if need be, and locks it.
    fn open(&self, lock: fn(&File) -> io::Result<()>) -> Result<(Opened, Access, File)> {
        let mut path = self.folder.to_path_buf();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(path.as_path(), flags, Mode::empty());
        let folder = folder.map_err(|error| failed("open the folder", &path, error))?;
        let status = fstat(&folder).map_err(|error| failed("examine", &path, error))?;
        let access = Access { mode: status.st_mode & 0o777, owner: status.st_uid, group: status.st_gid };
        let kind = fstatfs(&folder).map_err(|error| failed("examine", &path, error))?.filesystem_type();
        if SHARED.contains(&kind) {
            return Err(FolderError::Shared(path.display().to_string()));
        }
        for _ in 0..limits::REOPEN {
            let mut opened = Opened { folder: folder.try_clone().map_err(|error| failed("open", &path, error))?, path };
            for part in [STATE_FOLDER, self.kind.plural, &self.name] {
                opened = opened.enter(part, access)?;
            }
            let file = opened.create_or_open("lock", OFlag::O_RDWR, access)?;
            loop {
                match lock(&file) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => break outcome.map_err(|error| opened.failed("lock", "lock", error))?,
                }
            }
            // Deleted while we waited for it, it locks nobody out.
            let links = file.metadata().map_err(|error| opened.failed("examine", "lock", error))?.nlink();
            if links > 0 {
                return Ok((opened, access, file));
            }
            path = self.folder.to_path_buf();
        }
        Err(FolderError::Unsteady { path: self.folder.join(STATE_FOLDER).display().to_string() })
    }

    /// All definitions of the folder.
    fn manifests(&self) -> Result<Vec<Definition>> {
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
        let mut all = Vec::new();
        for name in files {
            let text = read_manifest(&folder.join(&name))?;
            Definition::read(&name.to_string_lossy(), &text, &mut all)?;
        }
        Ok(all)
    }
}

impl Opened {
    fn failed(&self, doing: &'static str, name: &str, error: impl Into<io::Error>) -> FolderError {
        failed(doing, &self.path.join(name), error)
    }

    /// The folder of this name in this one, made if it is not there.
    fn enter(&self, name: &str, access: Access) -> Result<Self> {
        let created = match mkdirat(&self.folder, name, Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(self.failed("create", name, error)),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(FolderError::Strange {
                    path: self.path.join(name).display().to_string(),
                    wanted: "a folder",
                });
            }
            Err(error) => return Err(self.failed("open", name, error)),
        };
        if created {
            access.give(&folder, 0o700).map_err(|error| self.failed("give to the folder's owner", name, error))?;
            fsync(&self.folder).map_err(|error| self.failed("create", name, error))?;
        }
        Ok(Self { folder, path: self.path.join(name) })
    }

    /// The file of this name, made if it is not there.
    fn create_or_open(&self, name: &str, flags: OFlag, access: Access) -> Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(&self.folder, name, flags | OFlag::O_CREAT | OFlag::O_EXCL, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(file) => {
                access.give(&file, 0o600).map_err(|error| self.failed("give to the folder's owner", name, error))?;
                return Ok(File::from(file));
            }
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(self.failed("create", name, error)),
        }
        let file = openat(&self.folder, name, flags, Mode::empty()).map(File::from);
        self.plain_file(name, file.map_err(io::Error::from))
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

    fn store(&self, state: &State, access: Access) -> Result<()> {
        let path = self.path.join(STATE_FILE).display().to_string();
        let bytes = state.print().map_err(|why| FolderError::Unwritable { path, why })?;
        match unlinkat(&self.folder, NEW_STATE, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(self.failed("replace", NEW_STATE, error)),
        }
        let mut file = self.create_or_open(NEW_STATE, OFlag::O_WRONLY, access)?;
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        let stored = written.and_then(|()| {
            renameat(&self.folder, NEW_STATE, &self.folder, STATE_FILE)?;
            Ok(fsync(&self.folder)?)
        });
        stored.map_err(|error| {
            // On a full disk it would only be in the way.
            let _ = unlinkat(&self.folder, NEW_STATE, UnlinkatFlags::NoRemoveDir);
            self.failed("write", STATE_FILE, error)
        })
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

    fn claims(&self, access: Access) -> Result<Claims> {
        Ok(Claims(self.enter("claims", access)?))
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
    fn create_fifo(&self, name: &str, access: Access) -> Result<File> {
        mkfifoat(&self.0.folder, name, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|error| self.failed("create", name, error))?;
        // Both ends, so that it opens at once and never ends on its owner.
        let file = self.open_fifo(name, OFlag::O_RDWR)?.ok_or_else(|| self.failed("open", name, Errno::ENOENT))?;
        access.give(&file, 0o600).map_err(|error| self.failed("give to the folder's owner", name, error))?;
        file.try_lock().map_err(|error| self.failed("lock", name, io::Error::from(error)))?;
        Ok(file)
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

impl Access {
    /// Gives what was just created to whom the user's folder belongs. `least` is what its owner can do in any case.
    fn give(self, file: impl AsFd, least: u32) -> nix::Result<()> {
        let status = fstat(&file)?;
        let group = (status.st_gid != self.group).then(|| Gid::from_raw(self.group));
        let owner = (geteuid().is_root() && status.st_uid != self.owner).then(|| Uid::from_raw(self.owner));
        if (group.is_some() || owner.is_some()) && fchown(&file, owner, group).is_err() {
            // Who is not in that group cannot give to it: then the group has no part in it.
            tracing::debug!("cannot give files to the folder's owner and group");
        }
        let executable =
            if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR { 0 } else { 0o111 };
        fchmod(&file, Mode::from_bits_truncate((self.mode & !executable) | least))
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
