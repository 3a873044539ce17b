//! The files that say how a lock stands, and what is left of them when the power fails.
//!
//! ```text
//! state.json     who holds and who waits; written with each change, and not waited for
//! terms.json     up to which term fencing tokens can have been given out; on the disk before the first of them is
//! ```
//!
//! Whoever comes next reads what was written last, from the kernel's memory, whether the disk has it or not: so within
//! one mount of one boot (`super::mount`) a state is as good as one on the disk, and killing processes does not change
//! that. What a power failure takes is mended thus:
//!
//! - **Nobody holds then**: who holds is who lives and has its claim's file locked, and this the kernel knows (`super::place`).
//!   A claim that a state from before still names is swept out, and a claim that lives and is not named stops everybody.
//!   So of an older state, half of one or none, nothing is needed but that its tokens do not come again.
//! - **No token comes again**: before a token of a term is given out, `terms.json` is on the disk with that term or a
//!   higher one, file and folder. Who finds a state that may not be the last one goes on above the term of `terms.json`.
//!   Terms are reserved there many at a time, so the disk is waited for once in hundreds of changes.
//! - **A state is known to be the last one** if it bears the mark of the mount by which it is read: this mount has been
//!   there ever since it was written. Or if somebody in it lives: the lock on its claim's file is in the memory of the
//!   filesystem that the state was written to when the claim was made. The second needs no mark, and so serves where
//!   mounts have none, and for containers that share a folder.
//! - **What is reserved counts when the state says so**, and not when `terms.json` does: that may be seen and not be on the
//!   disk yet, when somebody was killed in between. The state says so only after the disk does.
//!
//! A state that cannot be believed is what a power failure leaves, if `terms.json` was written in another boot, or in
//! one that nobody may see: nothing of it is needed, as what the rules above rest on is elsewhere. In the same boot
//! somebody has damaged it, and it is set aside. So `terms.json` is there from the first state on, also when nothing has
//! been given out by then; where it is not, somebody has deleted it, and only the state says how far tokens have come.
//!
//! On a filesystem that is not known to be of one machine, what was written can be lost without any of this: there the
//! state is on the disk before anything rests on it, also one that is only looked at, and is always the last one. Wherever a disk is put back to an earlier
//! moment (a snapshot, a backup), tokens from after it come again: nothing on the disk can tell.

use konductor_api::limits::{MAX_TERM, SEQUENCE_BITS};
use serde::{Deserialize, Serialize};

use super::{
    folder::{FolderError, Haste, Result},
    limits,
    mount::Mount,
    state::{State, Unbelievable},
};

pub(super) const STATE_FILE: &str = "state.json";
pub(super) const TERMS_FILE: &str = "terms.json";
/// What the files are written to first.
const NEW_STATE: &str = "state.json.new";
const NEW_TERMS: &str = "terms.json.new";
/// States that could not be believed are kept under this name, and a number.
const SET_ASIDE: &str = "state.json.corrupt-";

/// The folder of a lock.
pub(super) trait Files {
    /// What a file says; none if there is none.
    fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>>;
    /// Writes a file, in place of what has been left under its name; `synced`: it is on the disk then.
    fn write(&self, name: &str, bytes: &[u8], synced: bool) -> Result<()>;
    /// Gives a file another name, in place of what had that.
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// The same, for what nobody waits to have on the disk.
    fn rename_soon(&self, from: &str, to: &str) -> Result<()>;
    /// All names are on the disk then.
    fn sync(&self) -> Result<()>;
    fn remove(&self, name: &str) -> Result<()>;
    fn names(&self) -> Result<Vec<String>>;
    /// A file's whole name, for people.
    fn path_of(&self, name: &str) -> String;
}

/// The version of the format of `terms.json`.
const VERSION: u32 = 1;

/// What `terms.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Terms {
    version: u32,
    /// No token of a higher term has been given out.
    reserved: u64,
    /// The boot in which this was written, where that could be known.
    boot: Option<String>,
}

impl Terms {
    fn parse(bytes: &[u8]) -> std::result::Result<Self, Unbelievable> {
        let corrupt = |what: String| Unbelievable::Corrupt(what);
        let terms: Self = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
        match terms {
            Self { version: VERSION, reserved: ..=MAX_TERM, .. } => Ok(terms),
            Self { version: VERSION, .. } => Err(corrupt("term out of range".to_owned())),
            Self { version, .. } => Err(Unbelievable::Version(version.into())),
        }
    }
}

/// The files of one lock, whose folder is locked.
pub(super) struct Store<'a, F> {
    files: &'a F,
    mount: &'a Mount,
    terms: Option<Terms>,
}

/// What the state's file says; none where there is none, and nobody has damaged one.
pub(super) fn read_state(files: &impl Files) -> Result<Option<Vec<u8>>> {
    if let Some(bytes) = files.read(STATE_FILE, limits::STATE)? {
        return Ok(Some(bytes));
    }
    match files.names()?.into_iter().find(|name| name.starts_with(SET_ASIDE)) {
        Some(aside) => Err(FolderError::SetAside { aside: files.path_of(&aside) }),
        None => Ok(None),
    }
}

impl<'a, F: Files> Store<'a, F> {
    /// With the state that there is, which is only empty where there is none that matters. One that cannot be believed is
    /// for who has time, and can tell of it.
    pub(super) fn open(files: &'a F, mount: &'a Mount, haste: Haste) -> Result<(Self, State)> {
        if !mount.is_of_one_machine {
            // Somebody may have been killed before it had waited for what is seen here.
            files.sync()?;
        }
        let terms = files.read(TERMS_FILE, limits::TERMS)?.map(|bytes| Terms::parse(&bytes)).transpose();
        let terms = terms.map_err(|why| {
            let path = files.path_of(TERMS_FILE);
            if let Unbelievable::Version(_) = why {
                FolderError::Later { path, why }
            } else {
                FolderError::Terms { path, why }
            }
        })?;
        let store = Self { files, mount, terms };
        let state = store.load(haste)?;
        Ok((store, state))
    }

    fn load(&self, haste: Haste) -> Result<State> {
        let Some(bytes) = read_state(self.files)? else { return Ok(State::default()) };
        let why = match State::parse(&bytes) {
            Ok(state) => return Ok(state),
            Err(why) => why,
        };
        let path = self.files.path_of(STATE_FILE);
        if let Unbelievable::Version(_) = why {
            return Err(FolderError::Later { path, why });
        }
        haste.allows_to_wait()?;
        if self.may_be_of_an_earlier_boot() {
            tracing::debug!("{path} can have been damaged before this machine was started ({why}), and is not needed");
            self.files.remove(STATE_FILE)?;
            return Ok(State::default());
        }
        let names = self.files.names()?;
        let aside =
            (1..u32::MAX).map(|n| format!("{SET_ASIDE}{n}")).find(|name| !names.contains(name)).unwrap_or_default();
        self.files.rename(STATE_FILE, &aside)?;
        Err(FolderError::Corrupt { path, why, aside })
    }

    /// Whether this machine can have been started since terms were reserved.
    fn may_be_of_an_earlier_boot(&self) -> bool {
        let Some(terms) = &self.terms else { return false };
        terms.boot.is_none() || terms.boot != self.mount.boot
    }

    /// Makes a state whose dead are out of it one that can be decided on: above all tokens that were ever given out.
    pub(super) fn settle(&self, state: &mut State) {
        let is_last = !self.mount.is_of_one_machine
            || !state.claims.is_empty()
            || state.mount.is_some() && state.mount == self.mount.mark;
        if !is_last {
            let reserved = self.terms.as_ref().map_or(0, |terms| terms.reserved);
            (state.term, state.reserved) = (state.term.max(reserved), 0);
        }
    }

    /// Up to which term tokens have to be reserved before a state can be written down; none if they are.
    pub(super) fn wants(&self, decided: &State) -> Option<u64> {
        let shown = decided
            .claims
            .iter()
            .filter_map(|claim| claim.fencing_token)
            .max()
            .map_or(0, |token| token >> SEQUENCE_BITS);
        // Where the disk knows nothing, any term so far can have been given out.
        let highest = if self.terms.is_none() { decided.term } else { shown };
        let more = match (highest, decided.reserved) {
            // Nothing has, and the first term is to follow the time of day then.
            (0, _) => 0,
            (_, 0) => limits::FIRST_TERMS,
            _ => limits::MORE_TERMS,
        };
        let is_wanted = self.terms.is_none() || highest > decided.reserved;
        (self.mount.is_of_one_machine && is_wanted).then(|| (highest + more).min(MAX_TERM))
    }

    /// Reserves what is wanted, on the disk.
    pub(super) fn reserve(&self, wanted: u64, decided: &mut State) -> Result<()> {
        let terms = Terms { version: VERSION, reserved: wanted, boot: self.mount.boot.clone() };
        let bytes = serde_json::to_vec(&terms).map_err(|error| FolderError::Terms {
            path: self.files.path_of(TERMS_FILE),
            why: Unbelievable::Corrupt(error.to_string()),
        })?;
        self.files.write(NEW_TERMS, &bytes, true)?;
        self.files.rename(NEW_TERMS, TERMS_FILE).inspect_err(|_| self.forget(NEW_TERMS))?;
        self.files.sync()?;
        decided.reserved = wanted;
        Ok(())
    }

    /// Writes a state beside the one that is in force.
    pub(super) fn write_down(&self, decided: &mut State) -> Result<()> {
        decided.mount.clone_from(&self.mount.mark);
        let bytes =
            decided.print().map_err(|why| FolderError::Unwritable { path: self.files.path_of(STATE_FILE), why })?;
        self.files.write(NEW_STATE, &bytes, !self.mount.is_of_one_machine)
    }

    /// Puts what was written down in force.
    pub(super) fn put_in_place(&self) -> Result<()> {
        if self.mount.is_of_one_machine {
            self.files.rename_soon(NEW_STATE, STATE_FILE).inspect_err(|_| self.forget(NEW_STATE))
        } else {
            self.files.rename(NEW_STATE, STATE_FILE).inspect_err(|_| self.forget(NEW_STATE))?;
            self.files.sync()
        }
    }

    /// What could not get its name would only be in the way on a full disk.
    fn forget(&self, name: &str) {
        let _ = self.files.remove(name);
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
