//! A claim that is held; and how it is taken and given back by whoever must not wait.
//!
//! Most of the time nobody else wants a lock, and to hold it takes some hundred microseconds. A thread that could wait
//! takes longer than that to start and to hear of. So there is a way without: it either holds, or has changed nothing, and
//! says nothing. Whatever is to be waited for, or to be told, is for [`run`](crate::run).

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::{
    Local, ask_for,
    folder::{Change, FolderLock, Haste},
    release,
    rules::Standing,
};
use crate::{Boottime, Event, Request, name::is_name, protocol::limits::RELEASE_WITHIN};

/// A claim that is held as long as this is there, and as long as what has inherited it is.
#[derive(Debug)]
pub struct Held {
    local: Local,
    place: FolderLock,
    name: String,
    fifo: Arc<File>,
    token: u64,
}

impl Local {
    /// Holds what is wanted, if that takes microseconds and there is nothing to be said. Otherwise there is no claim.
    pub fn hold_at_once(&self, request: &Request) -> Option<Held> {
        // Whoever says that any filesystem will do may mean one that does not answer.
        if self.any_filesystem || !is_name(request.wanted.name()) || !is_at_hand(&self.folder) {
            return None;
        }
        let place = FolderLock::of(self, request);
        let ask = ask_for(&place, request, false).ok()?;
        let name = ask.name.clone();
        match place.transact(&Change::Add(ask), &name, &Weak::new(), Haste::AtOnce) {
            Ok((Standing::Held { token }, Some(fifo))) => {
                Held::new(self.clone(), place, name, Arc::new(fifo), token).ok()
            }
            _ => None,
        }
    }
}

impl Held {
    /// Programs inherit it from now on, if that is wanted.
    pub(super) fn new(local: Local, place: FolderLock, name: String, fifo: Arc<File>, token: u64) -> io::Result<Self> {
        local.let_inherit(&fifo, true)?;
        Ok(Self { local, place, name, fifo, token })
    }

    /// Where it is held.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// What [`run`](crate::run) tells of it.
    pub fn event(&self) -> Event {
        let lock = self.place.id().unwrap_or_default();
        Event::Held { fencing_token: self.token, ttl: Duration::MAX, deadline: Boottime::NEVER, lock }
    }

    /// Gives it back, if that takes microseconds. Otherwise it is returned, to be given back with [`release`](Self::release):
    /// it may count as given back already.
    pub fn release_at_once(self) -> Option<Self> {
        let removal = Change::Remove(self.name.clone());
        if self.place.transact(&removal, &self.name, &Weak::new(), Haste::AtOnce).is_err() {
            return Some(self);
        }
        // It is gone from what programs inherit whatever comes of it.
        let _ = self.local.let_inherit(&self.fifo, false);
        None
    }

    /// Gives it back. If that cannot be written down, or not soon, the end of its lock says the same. Must be called on
    /// a tokio runtime with time enabled.
    pub async fn release(self) {
        let _ = self.local.let_inherit(&self.fifo, false);
        release(&self.place, self.name, self.fifo, RELEASE_WITHIN).await;
    }
}

/// Whether the way to a folder is in the kernel's memory. What is on a network, or made by an automounter, can take any
/// time to be opened.
fn is_at_hand(folder: &Path) -> bool {
    // Not opened: of some filesystems that asks their server.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::CACHED).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Wanted;

    #[test]
    fn it_is_held_and_given_back_at_once_or_nothing_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        if !is_at_hand(folder.path()) {
            // An older kernel cannot tell.
            return;
        }
        let manifest = "apiVersion: konductor.io/v1\nkind: Lease\nmetadata:\n  name: s\n";
        fs::write(folder.path().join("s.yaml"), manifest).unwrap();
        let local = Local::new(folder.path()).inherit();
        let wanted = Wanted::Lease { name: "s".to_owned() };
        let request = Request { wanted, priority: 0, ttl: None, holder: "me".to_owned(), pod: None };
        let seen = || (local.snapshot().unwrap().locks[0].claims.len(), local.inherited().len());

        assert!(local.hold_at_once(&request).is_none(), "its files have to be made");
        let place = FolderLock::of(&local, &request);
        let ask = ask_for(&place, &request, true).unwrap();
        place.transact(&Change::Add(ask), "", &Weak::new(), Haste::HoweverLong).map(drop).unwrap();

        let held = local.hold_at_once(&request).expect("nobody else wants it");
        assert!(matches!(held.event(), Event::Held { .. }));
        assert_eq!(seen(), (1, 1));
        assert!(local.hold_at_once(&request).is_none(), "it is held");
        assert_eq!(seen(), (1, 1));

        let lock = File::open(folder.path().join(".konductor/leases/s/lock")).unwrap();
        lock.lock().unwrap();
        let held = held.release_at_once().expect("somebody else has the folder's lock");
        assert_eq!(seen(), (1, 1));
        drop(lock);
        assert!(held.release_at_once().is_none(), "nobody is in the way");
        assert_eq!(seen(), (0, 0));

        fs::write(folder.path().join("long.yaml"), "#".repeat(1 << 16)).unwrap();
        assert!(local.hold_at_once(&request).is_none(), "to read that takes time");
        fs::remove_file(folder.path().join("long.yaml")).unwrap();
        drop(local.hold_at_once(&request).expect("it does not any more"));

        let state = folder.path().join(".konductor/leases/s/state.json");
        fs::write(&state, "damaged").unwrap();
        assert!(local.hold_at_once(&request).is_none());
        assert!(state.exists(), "whoever sets it aside says so");
    }
}
