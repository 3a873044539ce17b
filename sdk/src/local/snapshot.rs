//! What a folder shows to who only looks: who holds each lock and who waits for it.
//!
//! Nothing is taken, made, mended or written, and no lock of a folder is waited for. The state of a lock is replaced as
//! a whole, so it is read without its lock; who of those in it lives, the kernel says, as to everybody. When the state
//! was replaced meanwhile it is read again, some times. What cannot be read of one lock is that lock's trouble, and
//! nobody else's.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use jiff::Timestamp;
use konductor_api::{Lease, Lock as _, LockKind, Queueing, Semaphore};
use nix::{
    fcntl::{AtFlags, OFlag},
    sys::stat::fstatat,
};

use super::{
    folder::{FolderError, Result, STATE_FOLDER, manifests, top},
    limits,
    manifest::Definition,
    place::{Claims, Opened, is_locked},
    state::{Claim, State, Unbelievable},
    store::{STATE_FILE, read_state},
};
use crate::{chain, name::is_name};

/// The kinds that a folder can have.
pub(super) const KINDS: [LockKind; 2] = [Semaphore::KIND, Lease::KIND];

/// Who holds and who waits in a folder, at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What the manifests define, and what somebody holds or waits for without that: by kind and name.
    pub locks: Vec<LockShown>,
}

/// One lock of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockShown {
    /// Its kind.
    pub kind: LockKind,
    /// Its name.
    pub name: String,
    /// How much can be held at once; none when no manifest defines it.
    pub permits: Option<u64>,
    /// Whether smaller claims may pass the first in line.
    pub queueing: Queueing,
    /// As in the status of a lock in a cluster.
    pub term: u64,
    /// As in the status of a lock in a cluster.
    pub settled_term: u64,
    /// Those that hold, in the order in which they were granted, and then those that wait, in theirs. All of them live.
    pub claims: Vec<ClaimShown>,
    /// Why nothing is known of its claims, if it is so.
    pub trouble: Option<String>,
}

/// A claim of a process that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimShown {
    /// Its name.
    pub name: String,
    /// Who asks.
    pub holder: String,
    /// How much is asked for.
    pub permits: u64,
    /// Higher goes first.
    pub priority: i32,
    /// Its place in the order in which claims came.
    pub ticket: u64,
    /// Its fencing token; none of a claim that waits.
    pub fencing_token: Option<u64>,
    /// When it was granted.
    pub acquired_at: Option<Timestamp>,
    /// How many go first; none of a claim that holds.
    pub ahead: Option<u64>,
    /// What it was told last.
    pub message: Option<String>,
    /// When it was asked for, where the filesystem keeps such times.
    pub since: Option<Timestamp>,
}

/// Why a folder cannot be looked at, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SnapshotError(pub(super) String);

/// Looks at a folder.
pub(super) fn look(folder: &Path, any_filesystem: bool) -> Result<Snapshot> {
    let top = top(folder, any_filesystem)?;
    let definitions = manifests(folder)?;
    let state_folder = top.look_into(STATE_FOLDER)?;
    let mut locks = Vec::new();
    for kind in KINDS {
        let place = match &state_folder {
            Some(state_folder) => state_folder.look_into(kind.plural)?,
            None => None,
        };
        let defined = definitions.iter().filter(|definition| definition.kind == kind);
        let mut names: BTreeSet<String> = defined.map(|definition| definition.name.clone()).collect();
        if let Some(place) = &place {
            names.extend(place.names()?.into_iter().filter(|name| is_name(name)));
        }
        if names.len() > limits::SHOWN {
            let wanted = "a folder of at most 1024 locks of a kind";
            return Err(FolderError::Strange { path: folder.display().to_string(), wanted });
        }
        for name in names {
            let definition = definitions.iter().find(|found| (found.kind, &found.name) == (kind, &name));
            let read = match &place {
                Some(place) => read(place, &name),
                None => Ok((State::default(), Alive::new())),
            };
            let lock = match read {
                Ok((state, alive)) => shown(kind, name, definition, &state, &alive),
                Err(error) => {
                    let nothing = shown(kind, name, definition, &State::default(), &Alive::new());
                    LockShown { trouble: Some(chain(&error)), ..nothing }
                }
            };
            // What nobody defines and nobody wants is only a folder that was left.
            if lock.permits.is_some() || !lock.claims.is_empty() || lock.trouble.is_some() {
                locks.push(lock);
            }
        }
    }
    Ok(Snapshot { locks })
}

/// The claims whose owners live, and since when each is there.
type Alive = BTreeMap<String, Option<Timestamp>>;

/// The state of a lock, and who of those in it lives.
fn read(place: &Opened, name: &str) -> Result<(State, Alive)> {
    let Some(lock) = place.look_into(name)? else { return Ok((State::default(), Alive::new())) };
    let which = || {
        let status = fstatat(&lock.folder, STATE_FILE, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((status.st_dev, status.st_ino, status.st_mtime, status.st_mtime_nsec))
    };
    let mut tries = 0;
    loop {
        let before = which();
        let state = match read_state(&lock)? {
            None => State::default(),
            Some(bytes) => State::parse(&bytes).map_err(|why| {
                let path = lock.path.join(STATE_FILE).display().to_string();
                match why {
                    Unbelievable::Version(_) => FolderError::Later { path, why },
                    Unbelievable::Corrupt(_) => FolderError::Damaged { path, why },
                }
            })?,
        };
        let alive = living(&lock, &state)?;
        tries += 1;
        if which() == before || tries == limits::STEADY {
            return Ok((state, alive));
        }
    }
}

/// Who of those in a state lives.
fn living(lock: &Opened, state: &State) -> Result<Alive> {
    let mut alive = Alive::new();
    let Some(folder) = lock.look_into("claims")? else { return Ok(alive) };
    let claims = Claims::of(folder);
    for Claim { name, .. } in &state.claims {
        let Some(file) = claims.open_fifo(name, OFlag::O_RDONLY)? else { continue };
        if is_locked(&file).map_err(|error| claims.failed("examine", name, error))? {
            let made = file.metadata().ok().and_then(|data| data.created().ok());
            alive.insert(name.clone(), made.and_then(|at| Timestamp::try_from(at).ok()));
        }
    }
    Ok(alive)
}

/// What is shown of a lock.
fn shown(kind: LockKind, name: String, definition: Option<&Definition>, state: &State, alive: &Alive) -> LockShown {
    let capacity = definition.map(|definition| definition.capacity);
    let mut living: Vec<_> = state.claims.iter().filter(|claim| alive.contains_key(&claim.name)).collect();
    living.sort_by_key(|claim| {
        let token = claim.fencing_token.filter(|_| claim.holds(state));
        // Who was passed over comes when it says something again.
        (token.is_none(), token, claim.passed_over, Reverse(claim.priority), claim.ticket)
    });
    let mut ahead = 0;
    let claim = |claim: &Claim| {
        let holds = claim.holds(state);
        let place = ahead;
        // Who asks for more than there is lets others pass.
        let counts = !holds && !claim.passed_over && capacity.is_none_or(|all| all == 0 || claim.permits <= all);
        ahead += u64::from(counts);
        ClaimShown {
            name: claim.name.clone(),
            holder: claim.holder.clone(),
            permits: claim.permits,
            priority: claim.priority,
            ticket: claim.ticket,
            fencing_token: claim.fencing_token.filter(|_| holds),
            acquired_at: claim.acquired_at.filter(|_| holds),
            ahead: (!holds).then_some(place),
            message: claim.message.clone(),
            since: alive.get(&claim.name).copied().flatten(),
        }
    };
    let claims = living.into_iter().map(claim).collect();
    LockShown {
        kind,
        name,
        permits: capacity,
        queueing: definition.map_or(Queueing::default(), |definition| definition.queueing),
        term: state.term,
        settled_term: state.settled_term,
        claims,
        trouble: None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use konductor_api::{ClaimPhase, limits::SEQUENCE_BITS};

    use super::*;
    use crate::local::manifest::Position;

    fn claim(name: &str, ticket: u64, token: Option<u64>) -> Claim {
        Claim {
            name: name.to_owned(),
            holder: format!("holder of {name}"),
            permits: 1,
            priority: 0,
            ticket,
            phase: if token.is_some() { ClaimPhase::Granted } else { ClaimPhase::Pending },
            term: if token.is_some() { 7 } else { 0 },
            fencing_token: token.map(|sequence| 7 << SEQUENCE_BITS | sequence),
            ahead: None,
            acquired_at: None,
            message: None,
            passed_over: false,
        }
    }

    fn lines(lock: &LockShown) -> Vec<String> {
        let line = |claim: &ClaimShown| match (claim.fencing_token, claim.ahead) {
            (Some(_), None) => format!("{} holds", claim.name),
            (None, Some(ahead)) => format!("{} waits behind {ahead}", claim.name),
            other => panic!("{}: {other:?}", claim.name),
        };
        lock.claims.iter().map(line).collect()
    }

    #[test]
    fn who_lives_is_shown_in_the_order_in_which_they_go() {
        let at = Position { file: "a.yaml".to_owned(), line: 1 };
        let name = "s".to_owned();
        let definition =
            Definition { kind: Semaphore::KIND, name: name.clone(), capacity: 2, queueing: Queueing::default(), at };
        let large = Claim { permits: 3, ..claim("large", 4, None) };
        let urgent = Claim { priority: 5, ..claim("urgent", 6, None) };
        let passed = Claim { passed_over: true, ..claim("passed", 3, None) };
        let claims = vec![
            claim("late", 5, None),
            large,
            passed,
            urgent,
            claim("second", 2, Some(1)),
            claim("first", 1, Some(0)),
            claim("dead", 7, Some(2)),
        ];
        let state = State { term: 7, settled_term: 7, next_ticket: 8, claims, ..State::default() };
        let living = state.claims.iter().filter(|claim| claim.name != "dead");
        let alive: Alive = living.map(|claim| (claim.name.clone(), None)).collect();
        let lock = shown(Semaphore::KIND, name.clone(), Some(&definition), &state, &alive);
        let expected = [
            "first holds",
            "second holds",
            "urgent waits behind 0",
            "large waits behind 1",
            "late waits behind 1",
            "passed waits behind 2",
        ];
        assert_eq!(lines(&lock), expected);
        assert_eq!((lock.permits, lock.term), (Some(2), 7));
        let undefined = shown(Semaphore::KIND, name, None, &state, &alive);
        assert_eq!((undefined.permits, undefined.claims.len()), (None, 6));
    }

    #[test]
    fn looking_makes_nothing_and_one_locks_trouble_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = |name: &str| {
            format!(
                "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: {name}\nspec:\n  permits: 1\n---\n"
            )
        };
        fs::write(folder.path().join("a.yaml"), manifest("a") + &manifest("b")).unwrap();
        let names = || {
            let all = look(folder.path(), true).unwrap().locks.into_iter();
            all.map(|lock| (lock.name, lock.trouble.is_some())).collect::<Vec<_>>()
        };
        let (a, b) = ("a".to_owned(), "b".to_owned());
        assert_eq!(names(), [(a.clone(), false), (b.clone(), false)]);
        assert!(!folder.path().join(STATE_FOLDER).exists(), "nothing is made by looking");
        let place = folder.path().join(STATE_FOLDER).join("semaphores");
        for (name, state) in [("b", "half of"), ("left", "{}")] {
            fs::create_dir_all(place.join(name)).unwrap();
            if name == "b" {
                fs::write(place.join(name).join(STATE_FILE), state).unwrap();
            }
        }
        assert_eq!(names(), [(a, false), (b, true)], "an unused folder is no lock");
        assert_eq!(fs::read_dir(place.join("b")).unwrap().count(), 1, "nothing is set aside by looking");
        fs::write(folder.path().join("z.yaml"), "kind: Semaphore\n").unwrap();
        let error = look(folder.path(), true).unwrap_err().to_string();
        assert!(error.contains("z.yaml"), "{error}");
    }
}
