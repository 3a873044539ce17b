//! What a waiter sleeps on, without ever looking at a clock: its own FIFO, the ends of others, changes of the
//! manifests.
//!
//! The end of a process shows as a hang-up on the FIFO that it had open for writing, and the kernel drops the file's
//! lock before it closes the FIFO. So who sees the hang-up also finds the lock free.

use std::{
    collections::BTreeMap,
    fs::File,
    future::poll_fn,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd, RawFd},
    task::Poll,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    folder::{FolderError, FolderLock, concerns_manifests},
    rules::Duty,
};

fn register<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    #[expect(deprecated, reason = "its successor is unsafe for owners that may close the descriptor; these cannot")]
    AsyncFd::with_interest(inner, interest)
}

/// A claim's own FIFO: a byte in it says that something has changed.
#[derive(Debug)]
pub(super) struct Bell(AsyncFd<File>);

impl Bell {
    pub(super) fn new(fifo: File) -> io::Result<Self> {
        Ok(Self(register(fifo, Interest::READABLE)?))
    }

    /// Returns when it was rung, and all rings so far are heard.
    pub(super) async fn rung(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut heard = false;
            let outcome = ready.try_io(|fifo| {
                let mut bytes = [0; 64];
                loop {
                    let count = fifo.get_ref().read(&mut bytes)?;
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

    /// The FIFO, whose lock is the claim.
    pub(super) fn into_fifo(self) -> File {
        self.0.into_inner()
    }
}

/// Changes of the manifests.
#[derive(Debug)]
struct Edits(AsyncFd<Events>);

#[derive(Debug)]
struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Edits {
    fn new(place: &FolderLock) -> io::Result<Self> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let all = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB;
        events.add_watch(place.folder.as_path(), all)?;
        Ok(Self(register(Events(events), Interest::READABLE)?))
    }

    /// Returns when a manifest may have changed.
    async fn made(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // Without a name it is about the folder itself, or about events that were lost.
            if events.iter().any(|event| event.name.as_deref().is_none_or(concerns_manifests)) {
                return Ok(());
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

impl Watches {
    /// Looks at what `duty` says from now on. Returns whether something may have been missed, so that a transaction has
    /// to see to it.
    pub(super) fn follow(&mut self, duty: &Duty, place: &FolderLock) -> Result<bool, FolderError> {
        self.claims.retain(|name, _| duty.claims.contains(name));
        let mut missed = false;
        for name in &duty.claims {
            if !self.claims.contains_key(name) {
                let Some(file) = place.watch(name)? else {
                    missed = true;
                    continue;
                };
                // Nothing is ever written here; a hang-up shows whatever was asked for. Interest in reading would also
                // wake when the claim's owner is woken.
                let watch = register(file, Interest::WRITABLE).map_err(|error| place.failed("watch", error))?;
                self.claims.insert(name.clone(), watch);
            }
        }
        if !duty.first {
            self.edits = None;
        } else if self.edits.is_none() {
            self.edits = Some(Edits::new(place).map_err(|error| place.failed("watch", error))?);
            missed = true;
        }
        Ok(missed)
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
    pub(super) async fn edited(&self) -> io::Result<()> {
        match &self.edits {
            Some(edits) => edits.made().await,
            None => std::future::pending().await,
        }
    }
}
