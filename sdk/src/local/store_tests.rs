//! A disk that forgets, and processes on it that are killed at every point.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use konductor_api::{Lock as _, Queueing, Semaphore};

use super::*;
use crate::local::{
    manifest::{Definition, Position},
    rules::{Standing, reign, standings},
    state::Claim,
};

/// Numbers that look random, always the same ones.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % most as u64).expect("it is below a usize")
    }
}

/// The content of a file that nobody has another name for.
#[derive(Clone, Debug)]
struct Content {
    bytes: Vec<u8>,
    is_on_disk: bool,
}

/// Names, and which of [`Disk::contents`] they are for.
type Names = BTreeMap<String, usize>;

/// A folder as the kernel sees it, and what the disk has of it.
#[derive(Default)]
struct Disk {
    contents: RefCell<Vec<Content>>,
    names: RefCell<Names>,
    /// What the names were after each change since they were last on the disk, and then.
    since: RefCell<Vec<Names>>,
    /// How many steps whoever works on it will take before it is killed.
    steps: Cell<usize>,
    /// No file or no folder is ever waited for, as if that were one rule less.
    forgets_files: bool,
    forgets_names: bool,
}

impl Disk {
    fn step(&self) -> Result<()> {
        let left = self.steps.get().checked_sub(1).ok_or_else(killed)?;
        self.steps.set(left);
        Ok(())
    }

    fn renamed(&self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names.borrow_mut();
        self.since.borrow_mut().push(names.clone());
        change(&mut names);
    }

    /// The power fails: of what was not waited for, anything can be there.
    fn lose(&self, chance: &mut Chance) {
        let (mut names, mut contents) = (self.names.borrow_mut(), self.contents.borrow_mut());
        let mut since = self.since.take();
        since.push(names.clone());
        // Each name for itself: not all filesystems keep their order.
        let all: BTreeSet<String> = since.iter().flat_map(|names| names.keys().cloned()).collect();
        *names = all
            .into_iter()
            .filter_map(|name| {
                let found = *since[chance.below(since.len())].get(&name)?;
                Some((name, found))
            })
            .collect();
        for content in contents.iter_mut().filter(|content| !content.is_on_disk) {
            let length = content.bytes.len();
            match chance.below(4) {
                0 => content.bytes.clear(),
                1 => content.bytes.truncate(chance.below(length.max(1))),
                2 => content.bytes.fill(0),
                _ => {}
            }
            content.is_on_disk = true;
        }
    }
}

fn killed() -> FolderError {
    FolderError::Unsteady { path: "killed".to_owned() }
}

impl Files for Disk {
    fn read(&self, name: &str, _: u64) -> Result<Option<Vec<u8>>> {
        let found = self.names.borrow().get(name).copied();
        Ok(found.map(|at| self.contents.borrow()[at].bytes.clone()))
    }

    fn write(&self, name: &str, bytes: &[u8], synced: bool) -> Result<()> {
        self.step()?;
        let at = self.contents.borrow().len();
        self.contents.borrow_mut().push(Content { bytes: Vec::new(), is_on_disk: false });
        self.renamed(|names| _ = names.insert(name.to_owned(), at));
        self.step()?;
        self.contents.borrow_mut()[at].bytes = bytes.to_vec();
        if synced {
            self.step()?;
            self.contents.borrow_mut()[at].is_on_disk = !self.forgets_files;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.step()?;
        self.renamed(|names| {
            let at = names.remove(from).expect("it was written");
            names.insert(to.to_owned(), at);
        });
        Ok(())
    }

    fn rename_soon(&self, from: &str, to: &str) -> Result<()> {
        let old = self.names.borrow().get(to).copied();
        self.rename(from, to)?;
        // Killed here, the one of before has the other name.
        if let Some(old) = old {
            self.renamed(|names| _ = names.insert(from.to_owned(), old));
            self.remove(from)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.step()?;
        if !self.forgets_names {
            self.since.borrow_mut().clear();
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.step()?;
        self.renamed(|names| _ = names.remove(name));
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(self.names.borrow().keys().cloned().collect())
    }

    fn path_of(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// The rules that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// `terms.json` is on the disk before it counts.
    TermsOnDisk,
    /// And so is its name.
    NameOnDisk,
    /// `terms.json` is there from the first state on, also when nothing has been given out.
    FromTheFirst,
    /// Terms are reserved before the state with their tokens is in force.
    ReservedFirst,
    /// Who finds a state that may not be the last one goes on above what is reserved.
    Settled,
    /// Another boot is told from this one.
    Boot,
    /// Another mount of one boot is told from this one.
    Mount,
    /// On a filesystem of other machines, too, the state is on the disk before anything rests on it.
    StateOnDisk,
}

/// One lock of two permits in a world where power fails.
struct World {
    disk: Disk,
    chance: Chance,
    without: Option<Rule>,
    /// Some containers reach the folder by mounts of their own. Each boot and each failure of the disk makes new ones.
    mounts: Vec<Mount>,
    made: usize,
    boot: usize,
    /// Those whose claims' files are locked.
    alive: BTreeSet<String>,
    /// The processes of these live, and have been told their tokens.
    told: BTreeMap<String, u64>,
    highest: u64,
    named: usize,
    /// How many transactions come before there is a permit, and whether there is a manifest then.
    without_permits: usize,
    has_manifest: bool,
    /// The last failure was one of the whole machine.
    was_started: bool,
    /// How often something failed, and a token was told.
    failures: usize,
    tokens: usize,
}

/// What a folder and its mounts are like.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The mounts have marks.
    Marked,
    /// They have none: an older kernel.
    Unmarked,
    /// And nobody may see which boot it is.
    Hidden,
    /// On another machine, which can fail by itself.
    Elsewhere,
}

impl World {
    fn new(seed: u64, kind: Kind, without: Option<Rule>) -> Self {
        let disk = Disk {
            forgets_files: without == Some(Rule::TermsOnDisk) || without == Some(Rule::StateOnDisk),
            forgets_names: without == Some(Rule::NameOnDisk),
            ..Disk::default()
        };
        let mount = Mount { boot: None, mark: None, is_of_one_machine: !matches!(kind, Kind::Elsewhere) };
        let mut world = Self {
            disk,
            chance: Chance(seed),
            without,
            mounts: vec![mount; 2],
            made: 0,
            boot: 0,
            alive: BTreeSet::new(),
            told: BTreeMap::new(),
            highest: 0,
            named: 0,
            without_permits: 0,
            has_manifest: false,
            was_started: false,
            failures: 0,
            tokens: 0,
        };
        world.without_permits = world.chance.below(20);
        world.has_manifest = world.chance.below(2) == 0;
        world.mount(kind);
        world
    }

    fn mount(&mut self, kind: Kind) {
        let boot = if self.without == Some(Rule::Boot) { 0 } else { self.boot };
        for (at, mount) in self.mounts.iter_mut().enumerate() {
            self.made += 1;
            let number = if matches!(self.without, Some(Rule::Mount | Rule::Boot)) { at } else { self.made };
            mount.boot = (!matches!(kind, Kind::Hidden)).then(|| format!("boot {boot}"));
            mount.mark = matches!(kind, Kind::Marked).then(|| format!("{boot}/{number}"));
        }
    }

    /// What is not on the disk is lost, and with it all processes, or all that they had open.
    fn fail(&mut self, kind: Kind) {
        self.failures += 1;
        self.disk.lose(&mut self.chance);
        match kind {
            // Another machine has failed, and processes here have not.
            Kind::Elsewhere => return,
            Kind::Marked | Kind::Unmarked | Kind::Hidden => {}
        }
        self.was_started = self.chance.below(2) == 0;
        if self.was_started {
            self.boot += 1;
        }
        self.mount(kind);
        self.alive.clear();
        self.told.clear();
    }

    /// Some process takes part, and may be killed while it does.
    fn transact(&mut self) -> std::result::Result<(), String> {
        // Most of them get through.
        self.disk.steps.set(if self.chance.below(3) == 0 { self.chance.below(12) } else { usize::MAX });
        let mount = self.mounts[self.chance.below(self.mounts.len())].clone();
        let leaves = self.chance.below(2) == 0;
        let who = self.alive.iter().nth(self.chance.below(self.alive.len().max(1))).cloned();
        let new = format!("c{}", self.named);
        self.named += 1;
        let change = match who {
            Some(who) if leaves => Err(who),
            _ => Ok(new.clone()),
        };
        match self.carry_out(&mount, &change) {
            Ok(()) => {}
            Err(FolderError::Unsteady { .. }) => drop(self.alive.remove(&new)),
            Err(FolderError::Corrupt { .. }) if self.was_started => {
                return Err("what a power failure has left is refused".to_owned());
            }
            Err(FolderError::Unknown { .. } | FolderError::Corrupt { .. } | FolderError::SetAside { .. }) => {
                // People see to it that nothing runs any more, and do what they are told.
                self.alive.clear();
                self.told.clear();
                self.disk.renamed(|names| names.retain(|name, _| !name.starts_with(SET_ASIDE)));
            }
            Err(error) => return Err(format!("refused: {error}")),
        }
        if let Err(who) = change {
            // It ends, whether it could say so or not.
            self.alive.remove(&who);
            self.told.remove(&who);
        }
        self.tell()
    }

    /// What [`FolderLock::transact`](crate::local::folder::FolderLock::transact) does.
    fn carry_out(&mut self, mount: &Mount, change: &std::result::Result<String, String>) -> Result<()> {
        let (store, before) = Store::open(&self.disk, mount, Haste::HoweverLong)?;
        let mut state = before;
        if let Some(unknown) = self.alive.iter().find(|name| state.claims.iter().all(|claim| claim.name != **name)) {
            return Err(FolderError::Unknown { path: unknown.clone() });
        }
        state.claims.retain(|claim| self.alive.contains(&claim.name));
        if self.without != Some(Rule::Settled) {
            store.settle(&mut state);
        }
        match change {
            Ok(name) => {
                state.claims.push(claim(name, state.next_ticket));
                state.next_ticket += 1;
            }
            Err(name) => state.claims.retain(|claim| claim.name != *name),
        }
        let at = Position { file: "a.yaml".to_owned(), line: 1 };
        let (kind, name) = (Semaphore::KIND, "s".to_owned());
        let begins = self.named <= self.without_permits;
        let capacity = if begins { 0 } else { 2 };
        let definition = Definition { kind, name, capacity, queueing: Queueing::default(), at };
        let definition = (self.has_manifest || !begins).then_some(&definition);
        let mut decided = if state.claims.is_empty() {
            state.clone()
        } else {
            reign(&state, Semaphore::KIND, "s", definition, Timestamp::UNIX_EPOCH)
        };
        let is_needed = self.without != Some(Rule::FromTheFirst)
            || decided.claims.iter().any(|claim| claim.fencing_token.is_some());
        let terms = store.wants(&decided).filter(|_| is_needed);
        let reserves_first = self.without != Some(Rule::ReservedFirst);
        if let Some(terms) = terms.filter(|_| reserves_first) {
            store.reserve(terms, &mut decided)?;
        }
        if let Ok(name) = change {
            self.alive.insert(name.clone());
        }
        if let Some(terms) = terms.filter(|_| !reserves_first) {
            decided.reserved = terms;
        }
        store.write_down(&mut decided)?;
        store.put_in_place()?;
        if let Some(terms) = terms.filter(|_| !reserves_first) {
            store.reserve(terms, &mut decided)?;
        }
        Ok(())
    }

    /// All who live look at what is in force.
    fn tell(&mut self) -> std::result::Result<(), String> {
        self.disk.steps.set(usize::MAX);
        if self.alive.is_empty() {
            return Ok(());
        }
        let Ok((_, state)) = Store::open(&self.disk, &self.mounts[0], Haste::HoweverLong) else { return Ok(()) };
        let mut news = BTreeMap::new();
        for (name, standing) in standings(&state) {
            let Standing::Held { token } = standing else { continue };
            match self.told.get(name) {
                _ if !self.alive.contains(name) => {}
                Some(told) if *told == token => {}
                Some(told) => return Err(format!("{name} was told {told} and now {token}")),
                None => drop(news.insert(token, name.to_owned())),
            }
        }
        for (token, name) in news {
            if token <= self.highest {
                return Err(format!("{name} was told {token} after {}", self.highest));
            }
            (self.highest, self.tokens) = (token, self.tokens + 1);
            self.told.insert(name, token);
        }
        if self.told.len() > 2 { Err(format!("{:?} hold", self.told)) } else { Ok(()) }
    }
}

fn claim(name: &str, ticket: u64) -> Claim {
    Claim::waiting(name.to_owned(), "h".to_owned(), 1, 0, ticket)
}

/// Histories of some failures each: how many failures and tokens there were, or what went wrong first.
fn search(kind: Kind, without: Option<Rule>) -> std::result::Result<(usize, usize), String> {
    let mut seen = (0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed, kind, without);
        for _ in 0..60 {
            if world.chance.below(8) == 0 {
                world.fail(kind);
            }
            world.transact().map_err(|error| format!("{kind:?} {seed}: {error}"))?;
        }
        seen = (seen.0 + world.failures, seen.1 + world.tokens);
    }
    Ok(seen)
}

#[test]
fn whenever_the_power_fails_tokens_rise_and_nobody_holds_twice() {
    for kind in [Kind::Marked, Kind::Unmarked, Kind::Hidden, Kind::Elsewhere] {
        let (failures, tokens) = search(kind, None).unwrap();
        assert!(failures > 1000 && tokens > 2000, "{kind:?}: {failures} failures, {tokens} tokens");
    }
}

#[test]
fn each_rule_is_needed() {
    for (kind, rule) in [
        (Kind::Marked, Rule::TermsOnDisk),
        (Kind::Marked, Rule::NameOnDisk),
        (Kind::Marked, Rule::FromTheFirst),
        (Kind::Marked, Rule::ReservedFirst),
        (Kind::Marked, Rule::Settled),
        (Kind::Marked, Rule::Boot),
        (Kind::Marked, Rule::Mount),
        (Kind::Unmarked, Rule::TermsOnDisk),
        (Kind::Unmarked, Rule::Settled),
        (Kind::Hidden, Rule::TermsOnDisk),
        (Kind::Hidden, Rule::Settled),
        (Kind::Elsewhere, Rule::StateOnDisk),
        (Kind::Elsewhere, Rule::NameOnDisk),
    ] {
        let found = search(kind, Some(rule)).expect_err("without a rule something goes wrong");
        // Half of a `terms.json`, or of a state that is not known to be of an earlier boot, stops everybody, and no token
        // is given out.
        let stops = rule == Rule::TermsOnDisk && found.contains("cannot believe terms.json")
            || [Rule::Boot, Rule::FromTheFirst].contains(&rule)
                && found.contains("what a power failure has left is refused");
        assert!(stops || found.contains("was told"), "{rule:?}: {found}");
    }
}
