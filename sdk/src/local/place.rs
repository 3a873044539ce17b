//! The files below `DIR/.konductor`: opened, made, read and replaced, and the locks of their owners.
//!
//! What has its name is whole and open to all who may come in, whenever its maker is killed: it is made under another
//! name first. So nothing is opened up that has a name of ours: whoever may write to the folder may have moved somebody's
//! own folder or file to it. Nor is a folder that has the other name, unless it is as empty as what we make.
//!
//! The other name is its maker's alone. Were it shared, say by all processes of a user, what one of them has opened up
//! could have got its name from a second one, and be followed by what a third one has just made: the first one would give
//! that a name, nobody would open it up any more, and others were kept out for ever. What a maker that was killed has
//! left is in nobody's way, and nobody removes it, as nobody can tell whether its maker lives: it is empty, and rare.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::FileTypeExt as _},
    path::PathBuf,
    sync::Weak,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat, renameat},
    libc,
    sys::stat::{Mode, fstat, fstatat, mkdirat, stat},
    unistd::{AccessFlags, LinkatFlags, UnlinkatFlags, faccessat, fsync, geteuid, linkat, mkfifoat, unlinkat},
};
use rustix::{
    fs::{RenameFlags, renameat_with},
    io::Errno as Rustix,
};

use super::{
    access::{self, Rights, open_up},
    folder::{FolderError, Haste, Result, failed, room},
    limits,
    mount::Mount,
    rules::Standing,
    snapshot::KINDS,
    state::{State, is_claim_name},
    store::Files,
};

pub(super) const LOCK: &str = "lock";

/// What something is called before it has its name, or how that begins. No claim and no lock is called so.
const UNFINISHED: &str = ".konductor-new";

/// An open folder of ours.
pub(super) struct Opened {
    pub(super) folder: OwnedFd,
    pub(super) path: PathBuf,
}

impl Opened {
    pub(super) fn failed(&self, doing: &'static str, name: &str, error: impl Into<io::Error>) -> FolderError {
        failed(doing, &self.path.join(name), error)
    }

    pub(super) fn unsteady(&self, name: &str) -> FolderError {
        FolderError::Unsteady { path: self.path.join(name).display().to_string() }
    }

    /// The folder of this name in this one, made if it is not there: open to all, or with these rights. One that is there
    /// is as it is.
    pub(super) fn enter(&self, name: &str, rights: Option<&Rights>, haste: Haste) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for _ in 0..limits::REOPEN {
            let folder = match openat(&self.folder, name, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::ENOENT) => {
                    haste.allows_to_wait()?;
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
            return Ok(Self { folder, path: self.path.join(name) });
        }
        Err(self.unsteady(name))
    }

    /// Gives this folder, which is `.konductor`, these rights, as far as this process may. Something else than ours in
    /// it may be there because it is somebody's own, and was moved there: then nobody is let in, and who must not come
    /// in any more is kept out all the same. Returns what is in the way.
    pub(super) fn mend(&self, rights: &Rights) -> Result<Option<PathBuf>> {
        let mut foreign = None;
        let may_let_in = || {
            foreign = self.foreign();
            foreign.is_none()
        };
        let kept_out = rights.mend(&self.folder, may_let_in);
        let kept_out = kept_out.map_err(|error| failed("give rights to", &self.path, error))?;
        Ok(foreign.filter(|_| kept_out))
    }

    /// Something that does not belong into `.konductor`; the folder itself, if nobody can say what is in it.
    fn foreign(&self) -> Option<PathBuf> {
        let is_ours = |name: &str| KINDS.iter().any(|kind| kind.plural == name) || name.starts_with(UNFINISHED);
        match self.names() {
            Ok(names) => names.into_iter().find(|name| !is_ours(name)).map(|name| self.path.join(name)),
            Err(_) => Some(self.path.clone()),
        }
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

    /// Makes something under a name that is this process's alone.
    fn begin<T>(&self, what: &str, name: &str, make: impl Fn(&str) -> nix::Result<T>) -> Result<(String, T)> {
        for _ in 0..limits::REOPEN {
            let mut number = [0; 8];
            getrandom::fill(&mut number).map_err(|error| self.failed("draw a name to create", name, error))?;
            let new = format!("{UNFINISHED}-{what}-{}-{:016x}", geteuid(), u64::from_le_bytes(number));
            match make(&new) {
                Ok(begun) => return Ok((new, begun)),
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(self.not_made(name, error)),
            }
        }
        Err(self.not_made(name, Errno::EEXIST))
    }

    /// Why nothing could be made in this folder: maybe because it has been deleted. (Some filesystems say the same of
    /// folders that are there.)
    fn not_made(&self, name: &str, error: Errno) -> FolderError {
        if error == Errno::ENOENT && !self.is_at_its_path() {
            self.unsteady(name)
        } else {
            self.failed("create", name, error)
        }
    }

    /// Why what was made in this folder could not get its name: maybe because it has been deleted.
    fn not_named(&self, name: &str, error: Errno) -> FolderError {
        if error == Errno::ENOENT { self.unsteady(name) } else { self.failed("create", name, error) }
    }

    /// Whether this folder, which is open, is where its path leads. How many links it has says nothing on an overlayfs.
    fn is_at_its_path(&self) -> bool {
        let (Ok(there), Ok(opened)) = (stat(&self.path), fstat(&self.folder)) else { return false };
        (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)
    }

    /// Makes a folder, unless somebody else is faster.
    fn create_folder(&self, name: &str, rights: Option<&Rights>) -> Result<()> {
        let (new, ()) = self.begin("folder", name, |new| mkdirat(&self.folder, new, Mode::S_IRWXU))?;
        let named = self.name_folder(&new, name, rights);
        // Where it has got its name there is none of the other one.
        let _ = unlinkat(&self.folder, new.as_str(), UnlinkatFlags::RemoveDir);
        named
    }

    fn name_folder(&self, new: &str, name: &str, rights: Option<&Rights>) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = openat(&self.folder, new, flags, Mode::empty()).map_err(|error| self.not_named(name, error))?;
        let made = Self { folder, path: self.path.join(new) };
        if !made.names()?.is_empty() {
            return Err(FolderError::Strange { path: made.path.display().to_string(), wanted: "an empty folder" });
        }
        let given = match rights {
            Some(rights) => rights.give(&made.folder),
            None => open_up(&made.folder, access::FOLDER),
        };
        given.map_err(|error| self.failed("give rights to", name, error))?;
        match self.rename_unless_taken(new, name) {
            Ok(()) => fsync(&self.folder).map_err(|error| self.failed("create", name, error)),
            // Whatever this filesystem says then: somebody else's has the name.
            Err(_) if fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() => Ok(()),
            Err(error) => Err(self.not_named(name, error)),
        }
    }

    /// Gives a folder its name, if nothing has it.
    fn rename_unless_taken(&self, new: &str, name: &str) -> nix::Result<()> {
        match renameat_with(&self.folder, new, &self.folder, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Rustix::EXIST) => Err(Errno::EEXIST),
            // The filesystem has no such call, or a filter of calls does not know it. What is replaced then is empty, and
            // whoever has opened it finds it deleted.
            Err(_) => renameat(&self.folder, new, &self.folder, name),
        }
    }

    /// The file that is locked, made if it is not there; and what it is.
    pub(super) fn lock_file(&self) -> Result<(File, Metadata)> {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        for _ in 0..limits::REOPEN {
            match openat(&self.folder, LOCK, flags, Mode::empty()) {
                Err(Errno::ENOENT) => self.create_lock_file()?,
                file => {
                    return self.plain_file(LOCK, file.map(File::from).map_err(io::Error::from));
                }
            }
        }
        Err(self.unsteady(LOCK))
    }

    /// Makes that file, unless somebody else is faster. It must never be replaced.
    fn create_lock_file(&self) -> Result<()> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let (new, file) =
            self.begin("file", LOCK, |new| openat(&self.folder, new, flags, Mode::S_IRUSR | Mode::S_IWUSR))?;
        let opened = open_up(&file, access::FILE).map_err(|error| self.failed("give rights to", LOCK, error));
        let linked =
            opened.and_then(|()| match linkat(&self.folder, new.as_str(), &self.folder, LOCK, LinkatFlags::empty()) {
                Ok(()) | Err(Errno::EEXIST) => Ok(()),
                Err(error) => Err(self.not_named(LOCK, error)),
            });
        let _ = unlinkat(&self.folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
        linked
    }

    fn plain_file(&self, name: &str, file: io::Result<File>) -> Result<(File, Metadata)> {
        let strange =
            || FolderError::Strange { path: self.path.join(name).display().to_string(), wanted: "a plain file" };
        match file.and_then(|file| file.metadata().map(|data| (file, data))) {
            Ok((file, data)) if data.is_file() => Ok((file, data)),
            Ok(_) => Err(strange()),
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => Err(strange()),
            Err(error) => Err(self.failed("open", name, error)),
        }
    }

    /// The folder of this name in this one, as it is; none if there is none.
    pub(super) fn look_into(&self, name: &str) -> Result<Option<Self>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(Self { folder, path: self.path.join(name) })),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let path = self.path.join(name).display().to_string();
                Err(FolderError::Strange { path, wanted: "a folder" })
            }
            Err(error) => Err(self.failed("open", name, error)),
        }
    }

    /// The names of all that is in it.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let failed = |error: Errno| failed("read", &self.path, error);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut folder = Dir::openat(&self.folder, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    pub(super) fn claims(&self, haste: Haste) -> Result<Claims> {
        Ok(Claims(self.enter("claims", None, haste)?))
    }

    /// By which mount it is reached, if that is one on which there is enough time to do what has to be done.
    pub(super) fn mount_for(&self, haste: Haste) -> Result<Mount> {
        let mount = Mount::of(&self.folder).map_err(|error| failed("examine", &self.path, error))?;
        if !mount.is_of_one_machine {
            haste.allows_to_wait()?;
        }
        Ok(mount)
    }
}

impl Files for Opened {
    fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let (file, data) = match openat(&self.folder, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            file => self.plain_file(name, file.map(File::from).map_err(io::Error::from))?,
        };
        let mut bytes = Vec::with_capacity(room(&data, most));
        let read = file.take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.failed("read", name, error))?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8], synced: bool) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let create = || openat(&self.folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from);
        let created = match create() {
            // Of one who was killed at this.
            Err(Errno::EEXIST) => {
                self.remove(name)?;
                create()
            }
            created => created,
        };
        let mut file = created.map_err(|error| self.not_made(name, error))?;
        let opened = open_up(&file, access::FILE);
        let written = opened.and_then(|()| file.write_all(bytes));
        let written = written.and_then(|()| if synced { file.sync_all() } else { Ok(()) });
        written.map_err(|error| {
            // On a full disk it would only be in the way.
            let _ = unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir);
            self.failed("write", name, error)
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        match renameat(&self.folder, from, &self.folder, to) {
            Ok(()) => Ok(()),
            // What was made just now has been deleted.
            Err(Errno::ENOENT) => Err(self.unsteady(to)),
            Err(error) => Err(self.failed("replace", to, error)),
        }
    }

    fn rename_soon(&self, from: &str, to: &str) -> Result<()> {
        // ext4 and others begin to write a file when it gets another one's name, in case its owner has forgotten to wait
        // for the disk. This takes ten times as long as all else here, and is not done when both are exchanged.
        match renameat_with(&self.folder, from, &self.folder, to, RenameFlags::EXCHANGE) {
            Ok(()) => {
                // What is left is removed by the next one.
                let _ = self.remove(from);
                Ok(())
            }
            // There is none of that name yet, or the filesystem has no such call.
            Err(_) => self.rename(from, to),
        }
    }

    fn sync(&self) -> Result<()> {
        fsync(&self.folder).map_err(|error| failed("write", &self.path, error))
    }

    fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", name, error)),
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        Self::names(self)
    }

    fn path_of(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

/// The folder of the claims' files.
pub(super) struct Claims(Opened);

impl Claims {
    /// What is in this folder.
    pub(super) fn of(folder: Opened) -> Self {
        Self(folder)
    }

    pub(super) fn failed(&self, doing: &'static str, name: &str, error: impl Into<io::Error>) -> FolderError {
        self.0.failed(doing, name, error)
    }

    /// Takes the claims of the dead out of the state, and names the files that nobody needs any more.
    pub(super) fn sweep(&self, state: &mut State) -> Result<Vec<String>> {
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
    pub(super) fn create_fifo(&self, name: &str) -> Result<File> {
        let create = || mkfifoat(&self.0.folder, UNFINISHED, Mode::S_IRUSR | Mode::S_IWUSR);
        let created = match create() {
            // Of one who was killed at this.
            Err(Errno::EEXIST) => self.0.remove(UNFINISHED).map(|()| create())?,
            created => created,
        };
        created.map_err(|error| self.0.not_made(name, error))?;
        // Both ends, so that it opens at once and never ends on its owner.
        let file = self.open_fifo(UNFINISHED, OFlag::O_RDWR)?.ok_or_else(|| self.0.unsteady(name))?;
        open_up(&file, access::FILE).map_err(|error| self.failed("give rights to", name, error))?;
        file.try_lock().map_err(|error| self.failed("lock", name, io::Error::from(error)))?;
        renameat(&self.0.folder, UNFINISHED, &self.0.folder, name).map_err(|error| self.0.not_named(name, error))?;
        Ok(file)
    }

    /// Says, with the folder locked, that the owner of this FIFO has seen that it is its turn.
    pub(super) fn take_turn(
        &self,
        name: &str,
        standing: &Standing,
        new: Option<&File>,
        mine: &Weak<File>,
    ) -> Result<()> {
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
    pub(super) fn is_untaken(&self, name: &str) -> Result<bool> {
        Ok(self.open_fifo(name, OFlag::O_RDONLY)?.is_some_and(|file| is_untaken(&file)))
    }

    pub(super) fn open_fifo(&self, name: &str, mode: OFlag) -> Result<Option<File>> {
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

    /// Wakes the owner of a claim. One that is dead is for whoever is behind it to see, and one whose FIFO is full has
    /// been woken. Whoever cannot be woken for any other reason would sleep on.
    pub(super) fn wake(&self, name: &str) -> Result<()> {
        let woken = self.open_fifo(name, OFlag::O_WRONLY).and_then(|file| match file {
            Some(mut file) => file.write(&[0]).map(drop).map_err(|error| self.failed("write", name, error)),
            None => Ok(()),
        });
        tracing::trace!("woke {name}: {woken:?}");
        let is_no_trouble = |error: &io::Error| {
            [Errno::ENXIO, Errno::EPIPE, Errno::EAGAIN]
                .into_iter()
                .any(|errno| error.raw_os_error() == Some(errno as i32))
        };
        match woken {
            Err(FolderError::System { source, .. }) if is_no_trouble(&source) => Ok(()),
            woken => woken,
        }
    }

    /// A file that is left is swept away later.
    pub(super) fn remove(&self, name: &str) {
        if let Err(error) = unlinkat(&self.0.folder, name, UnlinkatFlags::NoRemoveDir) {
            tracing::debug!("cannot remove claim {name}: {error}");
        }
    }
}

/// Whether its owner, who locks it exclusively, lives. Shared, so that two who look at once do not take each other for
/// it.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;

    fn open(path: &Path) -> Opened {
        let folder = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        Opened { folder, path: path.to_owned() }
    }

    fn mode(path: impl AsRef<Path>) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_makers_that_were_killed_have_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path());
        let left = opened.begin("folder", "claims", |new| mkdirat(&opened.folder, new, Mode::S_IRWXU)).unwrap().0;
        fs::write(folder.path().join(format!("{UNFINISHED}-file-{}", geteuid())), "").unwrap();
        opened.enter("claims", None, Haste::HoweverLong).map(drop).unwrap();
        opened.lock_file().map(drop).unwrap();
        let modes = [&*left, "claims", LOCK].map(|name| mode(folder.path().join(name)));
        assert_eq!(modes, [0o700, 0o777, 0o666]);
        assert_eq!(opened.names().unwrap().len(), 4, "nothing else is left");
    }

    #[test]
    fn a_name_that_is_taken_is_drawn_again() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path());
        let names = std::cell::RefCell::new(Vec::new());
        let begun = opened.begin("folder", "claims", |new| {
            names.borrow_mut().push(new.to_owned());
            if names.borrow().len() < 3 { Err(Errno::EEXIST) } else { Ok(()) }
        });
        let (new, ()) = begun.unwrap();
        let names = names.into_inner();
        assert!(names[0] != names[1] && names[1] != names[2] && names[2] == new, "{names:?}");
    }

    #[test]
    fn who_is_dead_or_has_been_woken_is_no_trouble_and_whoever_cannot_be_woken_is() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::of(open(folder.path()));
        let mut sleeper = claims.create_fifo("claim").unwrap();
        claims.wake("claim").unwrap();
        assert_eq!(sleeper.read(&mut [0; 8]).unwrap(), 1);
        while sleeper.write(&[0; 4096]).is_ok() {}
        claims.wake("claim").unwrap();
        drop(sleeper);
        claims.wake("claim").unwrap();
        claims.remove("claim");
        claims.wake("claim").unwrap();
        fs::write(folder.path().join("claim"), "").unwrap();
        claims.wake("claim").unwrap_err();
    }

    /// Of one name and of different ones: each is open to all as soon as it can be seen, and nothing else is left.
    #[test]
    fn many_may_make_folders_at_once_and_use_them_at_once() {
        for _ in 0..200 {
            let folder = tempfile::tempdir().unwrap();
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for number in 0..8 {
                    let (path, start) = (folder.path(), &start);
                    scope.spawn(move || {
                        let top = open(path);
                        start.wait();
                        let claims = top.enter("claims", None, Haste::HoweverLong).unwrap();
                        let own = claims.enter(&number.to_string(), None, Haste::HoweverLong).unwrap();
                        claims.lock_file().map(drop).unwrap();
                        assert_eq!(
                            [mode(&claims.path), mode(&own.path), mode(claims.path.join(LOCK))],
                            [0o777, 0o777, 0o666]
                        );
                    });
                }
            });
            assert_eq!(open(folder.path()).names().unwrap(), ["claims"]);
            assert_eq!(fs::read_dir(folder.path().join("claims")).unwrap().count(), 9);
        }
    }

    #[test]
    fn what_was_deleted_while_it_is_open_is_unsteady() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claims");
        fs::create_dir(&path).unwrap();
        let opened = open(&path);
        fs::remove_dir(&path).unwrap();
        let is_unsteady = |outcome: Result<()>| matches!(outcome, Err(FolderError::Unsteady { .. }));
        assert!(is_unsteady(opened.enter("claims", None, Haste::HoweverLong).map(drop)));
        assert!(is_unsteady(opened.lock_file().map(drop)));
        assert!(is_unsteady(opened.write("state.json.new", b"", false)));
        assert!(is_unsteady(opened.rename("state.json.new", "state.json")));
        assert!(is_unsteady(Claims::of(opened).create_fifo("claim").map(drop)));
    }

    /// Whoever may write to the folder can move there what is its neighbours' own.
    #[test]
    fn what_others_have_moved_to_our_names_keeps_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let private = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("key"), "secret").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o700)).unwrap();
        };
        let secret = |name: &str| {
            fs::write(at(name), "secret").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        };
        let mode = |name: &str| mode(at(name));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let opened = open(folder.path());
        let rights = Rights::of(&opened.folder).unwrap();

        private(".konductor");
        let state = opened.enter(".konductor", Some(&rights), Haste::HoweverLong).unwrap();
        assert_eq!(state.mend(&rights).unwrap(), Some(at(".konductor").join("key")));
        private("semaphores");
        opened.enter("semaphores", None, Haste::HoweverLong).map(drop).unwrap();
        secret(LOCK);
        opened.lock_file().map(drop).unwrap();
        assert_eq!((mode(".konductor"), mode("semaphores"), mode(LOCK)), (0o700, 0o700, 0o600));

        private(".konductor-new-folder-0-0");
        let refused = opened.name_folder(".konductor-new-folder-0-0", "claims", None).unwrap_err();
        assert!(refused.to_string().contains("an empty folder"), "{refused}");
        assert_eq!((mode(".konductor-new-folder-0-0"), at("claims").exists()), (0o700, false));
    }
}
