//! What a waiter sleeps on, without ever looking at a clock: its own FIFO, the ends of others, changes of the
//! manifests, wherever these are and by whatever way they are changed.
//!
//! The end of a process shows as a hang-up on the FIFO that it had open for writing, and the kernel drops the file's
//! lock before it closes the FIFO. So who sees the hang-up also finds the lock free.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    future::poll_fn,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::Path,
    sync::Arc,
    task::Poll,
};

use konductor_cluster::apart::start;
use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    folder::{FolderError, FolderLock, concerns_manifests},
    links::{Place, places},
    place::is_untaken,
    rules::Duty,
};

/// A descriptor that tasks can wait for.
pub(super) fn register<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    #[expect(deprecated, reason = "its successor is unsafe for owners that may close the descriptor; these cannot")]
    AsyncFd::with_interest(inner, interest)
}

/// A claim's own FIFO: a byte in it says that something has changed.
#[derive(Debug)]
pub(super) struct Bell(AsyncFd<Arc<File>>);

impl Bell {
    pub(super) fn new(fifo: File) -> io::Result<Self> {
        Ok(Self(register(Arc::new(fifo), Interest::READABLE)?))
    }

    /// Returns when it was rung, and all rings so far are heard.
    pub(super) async fn rung(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut heard = false;
            let outcome = ready.try_io(|fifo| {
                let mut bytes = [0; 64];
                loop {
                    let count = fifo.get_ref().as_ref().read(&mut bytes)?;
                    heard |= count > 0;
                }
            });
            match outcome {
                Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(Ok(()) | Err(_)) | Err(_) => {}
            }
            if heard {
                return Ok(());
            }
        }
    }

    /// The FIFO, whose lock is the claim: for whoever does not outlive it.
    pub(super) fn fifo(&self) -> &Arc<File> {
        self.0.get_ref()
    }

    /// The FIFO, whose lock is the claim.
    pub(super) fn into_fifo(self) -> Arc<File> {
        self.0.into_inner()
    }
}

/// Changes of the manifests.
#[derive(Debug)]
pub(super) struct Edits {
    events: AsyncFd<Events>,
    /// The user's folder.
    folder: WatchDescriptor,
    /// What matters in which folder besides.
    names: BTreeMap<WatchDescriptor, Vec<OsString>>,
}

/// What the kernel tells of files.
///
/// To close it takes the kernel about ten milliseconds, as it waits until no processor looks at what was watched any more
/// (`synchronize_srcu` in its `fs/notify/mark.c`). Whoever has its turn is not to wait for that, so a thread of its own
/// does.
#[derive(Debug)]
pub(super) struct Events(Option<Inotify>);

impl Events {
    pub(super) fn of(inotify: Inotify) -> Self {
        Self(Some(inotify))
    }

    fn inotify(&self) -> &Inotify {
        self.0.as_ref().expect("it is there until it is dropped")
    }

    /// What there is.
    pub(super) fn read(&self) -> nix::Result<Vec<InotifyEvent>> {
        self.inotify().read_events()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify().as_fd().as_raw_fd()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let inotify = self.0.take();
        // Where there is no thread to be had, it is closed here.
        let _ = start(move || drop(inotify));
    }
}

/// What is of interest in a folder, and of a file that is changed by whatever name it has.
const IN_A_FOLDER: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ATTRIB);
const OF_A_FILE: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE.union(AddWatchFlags::IN_ATTRIB);

impl Edits {
    pub(super) fn new(place: &FolderLock) -> Result<Self, FolderError> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|error| place.failed("watch", error.into()))?;
        let watch = |path: &Path, what| inotify.add_watch(path, what);
        let root = place.folder.as_path();
        let folder = watch(root, IN_A_FOLDER).map_err(|error| place.failed("watch", error.into()))?;
        let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for manifest in place.manifest_names()? {
            let path = root.join(&manifest);
            // What is not there, or may not be looked at, is found out when it is read.
            let found = |watched: nix::Result<WatchDescriptor>| match watched {
                Ok(watched) => Ok(Some(watched)),
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => Ok(None),
                Err(error) => Err(place.failed("watch", error.into())),
            };
            for Place { folder, name } in places(&path) {
                if let Some(watched) = found(watch(&folder, IN_A_FOLDER))? {
                    names.entry(watched).or_default().push(name);
                }
            }
            // One file can have several names, and a mount can show it in several places.
            found(watch(&path, OF_A_FILE))?;
        }
        let events = register(Events::of(inotify), Interest::READABLE).map_err(|error| place.failed("watch", error))?;
        Ok(Self { events, folder, names })
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        // Without a name it is about a file or folder itself, or about events that were lost.
        event.name.as_ref().is_none_or(|name| {
            (event.wd == self.folder && concerns_manifests(name))
                || self.names.get(&event.wd).is_some_and(|names| names.contains(name))
        })
    }

    /// Returns when a manifest may have changed, or when nothing can be heard any more.
    pub(super) async fn made(&self) {
        loop {
            let Ok(mut ready) = self.events.readable().await else { return };
            match ready.get_inner().read() {
                Ok(events) if !events.iter().any(|event| self.concerns(event)) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// What a waiter looks at.
#[derive(Debug, Default)]
pub(super) struct Watches {
    claims: BTreeMap<String, AsyncFd<File>>,
    edits: Option<Edits>,
}

/// What came of watching.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Something may have been missed, so that a transaction has to see to it.
    pub(super) missed: bool,
    /// Something cannot be watched, so that it has to be looked at again and again.
    pub(super) unseen: Option<FolderError>,
}

impl Watches {
    /// Looks at what `duty` says from now on, as far as it can.
    pub(super) fn follow(&mut self, duty: &Duty, place: &FolderLock) -> Followed {
        let mut followed = Followed::default();
        self.claims.retain(|name, _| duty.claims.contains_key(name));
        for name in duty.claims.keys() {
            if self.claims.contains_key(name) {
                continue;
            }
            // Nothing is ever written here; a hang-up shows whatever was asked for. Interest in reading would also wake
            // when the claim's owner is woken.
            let watched = place.watch(name).and_then(|file| {
                let watch = file.map(|file| register(file, Interest::WRITABLE)).transpose();
                watch.map_err(|error| place.failed("watch", error))
            });
            match watched {
                Ok(Some(watch)) => drop(self.claims.insert(name.clone(), watch)),
                Ok(None) => followed.missed = true,
                Err(error) => followed.unseen = Some(error),
            }
        }
        if duty.sentry {
            match self.follow_manifests(place) {
                Ok(missed) => followed.missed |= missed,
                Err(error) => followed.unseen = Some(error),
            }
        } else {
            self.edits = None;
        }
        followed
    }

    /// Looks at the manifests from now on. Returns whether this is new, so that something may have been missed.
    pub(super) fn follow_manifests(&mut self, place: &FolderLock) -> Result<bool, FolderError> {
        if self.edits.is_some() {
            return Ok(false);
        }
        self.edits = Some(Edits::new(place)?);
        Ok(true)
    }

    /// Those whose turn it is and who have not taken it.
    pub(super) fn untaken(&self, duty: &Duty) -> Vec<(String, u64)> {
        let holders = duty.claims.iter().filter_map(|(name, token)| Some((name, (*token)?)));
        let untaken = holders.filter(|(name, _)| self.claims.get(*name).is_some_and(|file| is_untaken(file.get_ref())));
        untaken.map(|(name, token)| (name.clone(), token)).collect()
    }

    /// Returns when one of the claims that are looked at has ended.
    pub(super) async fn ended(&self) {
        poll_fn(|context| {
            let ended = self.claims.values().any(|claim| claim.poll_write_ready(context).is_ready());
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Returns when a manifest may have changed.
    pub(super) async fn edited(&self) {
        match &self.edits {
            Some(edits) => edits.made().await,
            None => std::future::pending().await,
        }
    }

    /// Where the manifests are may have changed with them: they are looked for anew when they are next followed.
    pub(super) fn forget_manifests(&mut self) {
        self.edits = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _, thread, time::Duration};

    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    use super::Events;
    use crate::Boottime;

    #[test]
    fn what_has_watched_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        inotify.add_watch(folder.path(), AddWatchFlags::IN_CREATE).unwrap();
        let inode = format!("ino:{:x} ", fs::metadata(folder.path()).unwrap().ino());
        let is_watched = || {
            let mut all = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
            all.any(|one| fs::read_to_string(one.path()).is_ok_and(|info| info.contains(&inode)))
        };
        let events = Events::of(inotify);
        assert!(is_watched());
        drop(events);
        let latest = Boottime::now() + Duration::from_mins(1);
        while is_watched() {
            assert!(Boottime::now() < latest, "it is still open");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
