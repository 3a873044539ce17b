//! Looking at a folder again whenever something in it may have changed, without taking part in it.
//!
//! What is watched is set up anew before each view, so whatever changes after the view has begun is seen. Changes of
//! files are inotify's, and the end of a process shows on its claim's FIFO (`super::watch`). Where the system has no room
//! to watch, there is a look every second.

use std::{fs::File, future::poll_fn, path::PathBuf, sync::Arc, task::Poll};

use konductor_api::{Lock as _, Semaphore};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, sleep_until},
};

use super::{
    folder::{FolderError, FolderLock, STATE_FOLDER, top},
    limits,
    place::{Claims, is_locked},
    snapshot::{KINDS, Snapshot, SnapshotError, look},
    watch::{Edits, Events, register},
};
use crate::chain;

/// Looks at a folder again and again: see [`Local::watch`](super::Local::watch).
#[derive(Debug)]
pub struct Spectator {
    folder: Arc<PathBuf>,
    any_filesystem: bool,
    /// When it looked last, and what it has watched since, if it can.
    seen: Option<(Instant, Option<Sight>)>,
}

impl Spectator {
    pub(super) fn new(folder: Arc<PathBuf>, any_filesystem: bool) -> Self {
        Self { folder, any_filesystem, seen: None }
    }

    /// The next view: the first at once, and then one whenever something may have changed, some moments after the last
    /// one at the earliest. Dropping the future loses nothing. Must be called on a tokio runtime with I/O and time
    /// enabled.
    pub async fn next(&mut self) -> Result<Snapshot, SnapshotError> {
        if let Some((at, sight)) = &self.seen {
            match sight {
                Some(sight) => sight.changed().await,
                None => sleep(limits::PAUSE.0).await,
            }
            sleep_until(*at + limits::PACE).await;
        }
        let place = FolderLock {
            folder: self.folder.clone(),
            kind: Semaphore::KIND,
            name: String::new(),
            any_filesystem: self.any_filesystem,
            in_the_way: Arc::default(),
        };
        let sight = Sight::new(&place);
        let view = look(&self.folder, self.any_filesystem);
        let sight = match (sight, &view) {
            (Ok(mut sight), Ok(view)) => sight.follow(&place, view).is_ok().then_some(sight),
            _ => None,
        };
        self.seen = Some((Instant::now(), sight));
        view.map_err(|error| SnapshotError(chain(&error)))
    }
}

/// What happens in the folders of the state: something has got its name, or has lost it.
const IN_THE_STATE: AddWatchFlags = AddWatchFlags::IN_MOVED_TO
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ONLYDIR)
    .union(AddWatchFlags::IN_DONT_FOLLOW);

/// All that can change a view.
#[derive(Debug)]
struct Sight {
    edits: Edits,
    state: AsyncFd<Events>,
    /// The user's folder, in which the state's appears.
    root: WatchDescriptor,
    claims: Vec<AsyncFd<File>>,
    /// Something has ended since it was looked at.
    is_old: bool,
}

impl Sight {
    /// Watches the manifests and the states of all locks.
    fn new(place: &FolderLock) -> Result<Self, FolderError> {
        let edits = Edits::new(place)?;
        let failed = |error: Errno| place.failed("watch", error.into());
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        let user = place.folder.as_path();
        let root = inotify.add_watch(user, IN_THE_STATE.difference(AddWatchFlags::IN_DONT_FOLLOW)).map_err(failed)?;
        let state = user.join(STATE_FOLDER);
        // From above: what is made later in a folder that is watched by then is seen to be made.
        let mut folders = vec![state.clone()];
        folders.extend(KINDS.map(|kind| state.join(kind.plural)));
        let mut at = 0;
        while let Some(folder) = folders.get(at).cloned() {
            match inotify.add_watch(&folder, IN_THE_STATE) {
                Ok(_) if (1..=KINDS.len()).contains(&at) => {
                    let inner = std::fs::read_dir(&folder).map_err(|error| place.failed("watch", error))?;
                    let inner = inner.flatten().take(limits::SHOWN).map(|entry| entry.path());
                    folders.extend(inner.collect::<Vec<_>>());
                }
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
                Err(error) => return Err(failed(error)),
            }
            at += 1;
        }
        let state = register(Events::of(inotify), Interest::READABLE).map_err(|error| place.failed("watch", error))?;
        Ok(Self { edits, state, root, claims: Vec::new(), is_old: false })
    }

    /// Watches the claims of a view, too.
    fn follow(&mut self, place: &FolderLock, view: &Snapshot) -> Result<(), FolderError> {
        let user = top(&place.folder, place.any_filesystem)?;
        let Some(state) = user.look_into(STATE_FOLDER)? else { return Ok(()) };
        for lock in view.locks.iter().filter(|lock| !lock.claims.is_empty()) {
            let mut folder = state.look_into(lock.kind.plural)?;
            for part in [lock.name.as_str(), "claims"] {
                folder = match folder {
                    Some(outer) => outer.look_into(part)?,
                    None => None,
                };
            }
            let Some(folder) = folder else {
                self.is_old = true;
                continue;
            };
            let claims = Claims::of(folder);
            for claim in &lock.claims {
                // With the lock looked at after the opening, the end is still to come, and will be seen.
                match claims.open_fifo(&claim.name, OFlag::O_RDONLY)? {
                    Some(file) if is_locked(&file).map_err(|error| claims.failed("examine", &claim.name, error))? => {
                        let watched = register(file, Interest::WRITABLE);
                        self.claims.push(watched.map_err(|error| claims.failed("watch", &claim.name, error))?);
                    }
                    _ => self.is_old = true,
                }
            }
        }
        Ok(())
    }

    /// Returns when the next view may be another one.
    async fn changed(&self) {
        if self.is_old {
            return;
        }
        let ended = poll_fn(|context| {
            let ended = self.claims.iter().any(|claim| claim.poll_write_ready(context).is_ready());
            if ended { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = ended => {}
            () = self.edits.made() => {}
            () = self.stored() => {}
        }
    }

    /// Returns when a state has been replaced, or when nothing can be heard any more.
    async fn stored(&self) {
        let concerns = |event: &nix::sys::inotify::InotifyEvent| {
            event.wd != self.root || event.name.as_ref().is_none_or(|name| **name == *STATE_FOLDER)
        };
        loop {
            let Ok(mut ready) = self.state.readable().await else { return };
            match ready.get_inner().read() {
                Ok(events) if !events.iter().any(concerns) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::{Client, Command, Event, Request, Wanted};

    /// The next view that is like this.
    async fn view_with(views: &mut Spectator, is: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let looking = async {
            loop {
                let view = views.next().await.expect("a view");
                if is(&view) {
                    return view;
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), looking).await.expect("what happens is seen")
    }

    #[tokio::test]
    async fn what_happens_in_a_folder_is_seen_without_taking_part() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = |permits: u32| {
            let text = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: s\nspec:\n  permits: ";
            fs::write(folder.path().join("s.yaml"), format!("{text}{permits}\n")).unwrap();
        };
        manifest(1);
        let mut views = super::super::Local::new(folder.path()).on_any_filesystem().watch();
        let first = views.next().await.expect("a view");
        assert_eq!((first.locks.len(), first.locks[0].permits), (1, Some(1)));
        manifest(2);
        view_with(&mut views, |view| view.locks[0].permits == Some(2)).await;
        let (commands, orders) = unbounded_channel();
        let client = Client(crate::connect::Target::Local(super::super::Local::new(folder.path()).on_any_filesystem()));
        let wanted = Wanted::Semaphore { name: "s".to_owned(), permits: 2 };
        let request = Request { wanted, priority: 0, ttl: None, holder: "me".to_owned(), pod: None };
        let (tell, mut told) = unbounded_channel();
        let holding = tokio::spawn(crate::run(client, request, orders, move |event| {
            let _ = tell.send(event);
        }));
        let held = view_with(&mut views, |view| !view.locks[0].claims.is_empty()).await;
        let claim = &held.locks[0].claims[0];
        assert_eq!((claim.holder.as_str(), claim.permits), ("me", 2));
        while !matches!(told.recv().await.expect("it is told"), Event::Held { .. }) {}
        commands.send(Command::Release).expect("it listens");
        view_with(&mut views, |view| view.locks[0].claims.is_empty()).await;
        holding.await.expect("it has ended");
    }
}
