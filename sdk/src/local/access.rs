//! Who can take part: whoever can write to the user's folder.
//!
//! One place says so. `.konductor` lets in who can write to the folder around it, and what is in it is open to all who
//! have come that far. So when the rights of the folder change, one file has to follow, which everybody sees to who may
//! change it (its owner, and root): each transaction compares the two.
//!
//! Rights are access control lists here; what a mode says is a short one. `.konductor` belongs to whom the folder does
//! when root makes it, and else to who makes it: then the folder's owner and group are in its list by name.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    sys::stat::{FileStat, Mode, fchmod, fstat},
    unistd::{Gid, Uid, fchown, geteuid},
};
use rustix::{
    fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr},
    io::Errno,
};

/// What is in `.konductor`.
pub(super) const FOLDER: u32 = 0o777;
pub(super) const FILE: u32 = 0o666;

/// Where the kernel keeps the lists, and those for what is made in a folder.
const LIST: &str = "system.posix_acl_access";
const LIST_FOR_NEW: &str = "system.posix_acl_default";

/// The longest value of an extended attribute, by the kernel's rules.
const LONGEST: usize = 65_536;

/// Whom an entry of a list is about, as the kernel numbers it; the entries come in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    /// What users and groups that are named, and the owning group, can have at most.
    Mask,
    Other,
}

/// What somebody can do: read 4, write 2, pass through 1.
type Bits = u16;

/// Whoever can make entries in a folder.
const WRITES: Bits = 3;
const ALL: Bits = 7;

/// The rights of `.konductor`, as those of the folder around it say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    owner: u32,
    group: u32,
    /// What the folder says, with all or nothing instead of the bits, and without a mask.
    list: Vec<(Who, Bits)>,
}

impl Rights {
    /// Those that follow from this folder's.
    pub(super) fn of(folder: &OwnedFd) -> io::Result<Self> {
        let status = fstat(folder)?;
        let list = read_list(folder)?.unwrap_or_else(|| short_list(status.st_mode));
        Ok(Self { owner: status.st_uid, group: status.st_gid, list: all_or_nothing(&list) })
    }

    /// Gives `.konductor` these rights, as far as this process may.
    pub(super) fn give(&self, folder: &OwnedFd) -> io::Result<()> {
        let status = fstat(folder)?;
        let group = (status.st_gid != self.group).then(|| Gid::from_raw(self.group));
        let owner = (geteuid().is_root() && status.st_uid != self.owner).then(|| Uid::from_raw(self.owner));
        if group.is_some() || owner.is_some() {
            // Who comes in for a moment can stay in.
            let found = read_list(folder)?.unwrap_or_else(|| short_list(status.st_mode));
            let narrow = self.narrowed(&found, &status);
            if narrow != found {
                write_list(folder, &narrow)?;
            }
            if fchown(folder, owner, group).is_err() {
                // Who is not in that group cannot give to it: it is in the list then.
                tracing::debug!("cannot give .konductor to the folder's owner and group");
            }
        }
        // What is made in `.konductor` is to have no list. Most folders have none.
        let _ = fremovexattr(folder, LIST_FOR_NEW);
        write_list(folder, &self.list_for(&fstat(folder)?))
    }

    /// Gives an older `.konductor` these rights, if it has others and this process may; only takes away what goes
    /// beyond them, if it is not to let in anybody else. Returns whether that kept somebody out.
    pub(super) fn mend(&self, folder: &OwnedFd, may_let_in: impl FnOnce() -> bool) -> io::Result<bool> {
        let status = fstat(folder)?;
        if !may_change(&status) {
            return Ok(false);
        }
        let list = self.list_for(&status);
        let found = read_list(folder)?.unwrap_or_else(|| short_list(status.st_mode));
        let is_theirs = status.st_uid == self.owner || !geteuid().is_root();
        if is_theirs && status.st_gid == self.group && found == list {
            return Ok(false);
        }
        if may_let_in() {
            return as_far_as_possible(self.give(folder)).map(|()| false);
        }
        let both = in_both(&found, &list);
        if both != found {
            as_far_as_possible(write_list(folder, &both))?;
        }
        let lacks = |(who, bits): &(Who, Bits)| most(&list, *who) & !bits != 0;
        Ok(!is_theirs || both.iter().any(lacks))
    }

    /// What is left of the list of a `.konductor` before it gets its owner and group: with either of them it lets in
    /// nobody who does not come in by its own list.
    fn narrowed(&self, found: &[(Who, Bits)], status: &FileStat) -> Vec<(Who, Bits)> {
        let mut list = in_both(found, &self.list_for(status));
        let theirs = has(&self.list, Who::OwningGroup).unwrap_or(0);
        list.iter_mut().filter(|(who, _)| *who == Who::OwningGroup).for_each(|(_, bits)| *bits &= theirs);
        list
    }

    /// The list of a `.konductor` that belongs to these.
    fn list_for(&self, status: &FileStat) -> Vec<(Who, Bits)> {
        let of = |who| self.list.iter().find(|(other, _)| *other == who).map_or(0, |(_, bits)| *bits);
        let (group, other) = (of(Who::OwningGroup), of(Who::Other));
        let named = self.list.iter().filter(|(who, _)| matches!(who, Who::User(_) | Who::Group(_)));
        let mut list: Vec<_> = named.copied().collect();
        let mut add = |who, bits| {
            if !list.iter().any(|(other, _)| *other == who) {
                list.push((who, bits));
            }
        };
        // (Root can do everything anyway.)
        if status.st_uid != self.owner && self.owner != 0 && other != ALL {
            add(Who::User(self.owner), ALL);
        }
        let is_owning = status.st_gid == self.group;
        if !is_owning && group != other {
            add(Who::Group(self.group), group);
        }
        if !list.is_empty() {
            list.push((Who::Mask, ALL));
        }
        list.extend([
            (Who::Owner, ALL),
            (Who::OwningGroup, if is_owning { group } else { other }),
            (Who::Other, other),
        ]);
        list.sort_unstable();
        list
    }
}

/// Opens up what has just been made.
pub(super) fn open_up(file: impl AsFd, bits: u32) -> io::Result<()> {
    let status = fstat(&file)?;
    if status.st_mode & 0o777 == bits || !may_change(&status) {
        return Ok(());
    }
    as_far_as_possible(fchmod(&file, Mode::from_bits_truncate(bits)).map_err(Into::into))
}

/// Root of a user namespace may not change what belongs to users outside.
fn as_far_as_possible(changed: io::Result<()>) -> io::Result<()> {
    changed.or_else(|error| if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) })
}

fn may_change(status: &FileStat) -> bool {
    geteuid().is_root() || status.st_uid == geteuid().as_raw()
}

/// For each entry of a folder's list: all, if it can make entries there, or nothing.
fn all_or_nothing(list: &[(Who, Bits)]) -> Vec<(Who, Bits)> {
    let mask = list.iter().find(|(who, _)| *who == Who::Mask).map_or(ALL, |(_, bits)| *bits);
    let entries = list.iter().filter(|(who, _)| *who != Who::Mask).map(|(who, bits)| {
        let bits = match who {
            Who::Owner | Who::Other => *bits,
            _ => bits & mask,
        };
        (*who, if bits & WRITES == WRITES { ALL } else { 0 })
    });
    entries.collect()
}

/// What this one has by a list whatever groups it is in, and what it can have by it.
fn least(list: &[(Who, Bits)], who: Who) -> Bits {
    has(list, who).unwrap_or_else(|| others(list).fold(ALL, |all, bits| all & bits))
}

fn most(list: &[(Who, Bits)], who: Who) -> Bits {
    has(list, who).unwrap_or_else(|| others(list).fold(0, |all, bits| all | bits))
}

/// What the entry for this one gives, as far as the mask lets it.
fn has(list: &[(Who, Bits)], who: Who) -> Option<Bits> {
    let of = |who| list.iter().find(|(other, _)| *other == who).map(|(_, bits)| *bits);
    let mask = if matches!(who, Who::Owner | Who::Other) { ALL } else { of(Who::Mask).unwrap_or(ALL) };
    of(who).map(|bits| bits & mask)
}

/// What those have who have no entry of their own: by a group of theirs, or as others.
fn others(list: &[(Who, Bits)]) -> impl Iterator<Item = Bits> {
    let is_theirs = |who: &Who| matches!(who, Who::OwningGroup | Who::Group(_) | Who::Other);
    list.iter().filter(move |(who, _)| is_theirs(who)).filter_map(|(who, _)| has(list, *who))
}

/// A list that lets nobody in who does not come in by both of these.
fn in_both(one: &[(Who, Bits)], other: &[(Who, Bits)]) -> Vec<(Who, Bits)> {
    let mut all: Vec<_> = one.iter().chain(other).map(|(who, _)| *who).filter(|who| *who != Who::Mask).collect();
    all.sort_unstable();
    all.dedup();
    let mut list: Vec<_> = all.into_iter().map(|who| (who, least(one, who) & least(other, who))).collect();
    if !is_short(&list) {
        list.push((Who::Mask, ALL));
        list.sort_unstable();
    }
    list
}

/// A mode as a list.
fn short_list(mode: u32) -> Vec<(Who, Bits)> {
    let bits = |shift: u32| (mode >> shift & 7) as Bits;
    vec![(Who::Owner, bits(6)), (Who::OwningGroup, bits(3)), (Who::Other, bits(0))]
}

fn is_short(list: &[(Who, Bits)]) -> bool {
    list.len() == 3
}

/// The mode that goes with a list. Without its other entries nobody has more than with them.
fn mode(list: &[(Who, Bits)]) -> u32 {
    let of = |who| list.iter().find(|(other, _)| *other == who).map_or(0, |(_, bits)| u32::from(*bits));
    of(Who::Owner) << 6 | of(Who::OwningGroup) << 3 | of(Who::Other)
}

/// The version of the kernel's format.
const VERSION: u32 = 2;
/// The id in entries that need none.
const NOBODY: u32 = u32::MAX;

fn print(list: &[(Who, Bits)]) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (who, bits) in list {
        let (tag, id): (u16, u32) = match who {
            Who::Owner => (0x01, NOBODY),
            Who::User(id) => (0x02, *id),
            Who::OwningGroup => (0x04, NOBODY),
            Who::Group(id) => (0x08, *id),
            Who::Mask => (0x10, NOBODY),
            Who::Other => (0x20, NOBODY),
        };
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// None when it is not what the kernel writes.
fn parse(bytes: &[u8]) -> Option<Vec<(Who, Bits)>> {
    let (version, entries) = bytes.split_first_chunk()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    let entry = |[t0, t1, b0, b1, i0, i1, i2, i3]: &[u8; 8]| {
        let id = u32::from_le_bytes([*i0, *i1, *i2, *i3]);
        let who = match u16::from_le_bytes([*t0, *t1]) {
            0x01 => Who::Owner,
            0x02 => Who::User(id),
            0x04 => Who::OwningGroup,
            0x08 => Who::Group(id),
            0x10 => Who::Mask,
            0x20 => Who::Other,
            _ => return None,
        };
        Some((who, u16::from_le_bytes([*b0, *b1])))
    };
    entries.iter().map(entry).collect()
}

/// Gives a folder this list. The kernel makes a mode of it if that says it all; to remove a longer one first would give
/// its mask to the owning group for a moment.
fn write_list(folder: &OwnedFd, list: &[(Who, Bits)]) -> io::Result<()> {
    match fsetxattr(folder, LIST, &print(list), XattrFlags::empty()) {
        // Without lists there is none to follow either, but owner and group may differ: they have no part then.
        Err(Errno::OPNOTSUPP) => Ok(fchmod(folder, Mode::from_bits_truncate(mode(list)))?),
        written => Ok(written?),
    }
}

/// The list of a file; none when a mode says it all.
fn read_list(file: &OwnedFd) -> io::Result<Option<Vec<(Who, Bits)>>> {
    let mut short = [0; 1024];
    let mut long = Vec::new();
    let bytes = match fgetxattr(file, LIST, &mut short[..]) {
        Ok(length) => &short[..length],
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(Errno::RANGE) => {
            long.resize(LONGEST, 0);
            let length = fgetxattr(file, LIST, &mut long[..])?;
            &long[..length]
        }
        Err(error) => return Err(error.into()),
    };
    parse(bytes).map(Some).ok_or_else(|| io::Error::other("an access control list that cannot be read"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list_for(folder: &[(Who, Bits)], (owner, group): (u32, u32), (uid, gid): (u32, u32)) -> Vec<(Who, Bits)> {
        let mut status = fstat(std::fs::File::open("/").unwrap()).unwrap();
        (status.st_uid, status.st_gid) = (uid, gid);
        Rights { owner, group, list: all_or_nothing(folder) }.list_for(&status)
    }

    fn shown(list: &[(Who, Bits)]) -> String {
        if is_short(list) {
            return format!("{:03o}", mode(list));
        }
        list.iter().map(|(who, bits)| format!("{who:?} {bits}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn who_can_write_to_the_folder_comes_in_and_nobody_else() {
        let (alice, staff) = (1000, 50);
        for (mode, of, expected) in [
            (0o755, (alice, staff), "700"),
            (0o775, (alice, staff), "770"),
            (0o777, (alice, staff), "777"),
            (0o770, (alice, staff), "770"),
            (0o733, (alice, staff), "777"),
            // Writing needs passing through.
            (0o762, (alice, staff), "700"),
            // Made by somebody who could not give it away.
            (0o777, (1001, 51), "777"),
            (0o770, (1001, staff), "Owner 7, User(1000) 7, OwningGroup 7, Mask 7, Other 0"),
            (0o770, (1001, 51), "Owner 7, User(1000) 7, OwningGroup 0, Group(50) 7, Mask 7, Other 0"),
            (0o707, (1001, 51), "Owner 7, OwningGroup 7, Group(50) 0, Mask 7, Other 7"),
        ] {
            assert_eq!(shown(&list_for(&short_list(mode), (alice, staff), of)), expected, "{mode:o} {of:?}");
        }
        // Root needs no entry.
        assert_eq!(shown(&list_for(&short_list(0o770), (0, staff), (1001, staff))), "770");
    }

    #[test]
    fn named_users_and_groups_come_in_as_far_as_the_mask_lets_them() {
        let list = |mask| {
            let named = [(Who::User(7), 7), (Who::User(8), 5), (Who::Group(9), 7), (Who::Mask, mask)];
            let mut list: Vec<_> = named.into_iter().chain(short_list(0o750)).collect();
            list.sort_unstable();
            shown(&list_for(&list, (1, 2), (1, 2)))
        };
        let rest = "Mask 7, Other 0";
        assert_eq!(list(7), format!("Owner 7, User(7) 7, User(8) 0, OwningGroup 0, Group(9) 7, {rest}"));
        assert_eq!(list(5), format!("Owner 7, User(7) 0, User(8) 0, OwningGroup 0, Group(9) 0, {rest}"));
    }

    #[test]
    fn nobody_comes_in_between_who_does_not_afterwards() {
        let (alice, bob, staff, guests) = (1000, 1001, 50, 51);
        for (mode, found, expected) in [
            // The group is another one now, and so is the owner.
            (0o770, 0o770, "Owner 7, User(1000) 0, OwningGroup 0, Group(50) 0, Mask 7, Other 0"),
            (0o700, 0o770, "Owner 7, User(1000) 0, OwningGroup 0, Mask 7, Other 0"),
            // It lets in all but its group.
            (0o707, 0o777, "Owner 7, OwningGroup 0, Group(50) 0, Mask 7, Other 7"),
            // Nobody is kept out who comes in before and afterwards.
            (0o777, 0o777, "777"),
        ] {
            let mut status = fstat(std::fs::File::open("/").unwrap()).unwrap();
            (status.st_uid, status.st_gid) = (bob, guests);
            let rights = Rights { owner: alice, group: staff, list: all_or_nothing(&short_list(mode)) };
            assert_eq!(shown(&rights.narrowed(&short_list(found), &status)), expected, "{mode:o} {found:o}");
        }
    }

    #[test]
    fn lists_are_followed_on_a_real_filesystem() {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &std::path::Path| OwnedFd::from(std::fs::File::open(path).unwrap());
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let (folder, state) = (open(folder.path()), open(&state));
        let list = |bits| {
            let mut list = short_list(0o750);
            list.extend([(Who::User(4711), bits), (Who::Mask, ALL)]);
            list.sort_unstable();
            list
        };
        fsetxattr(&folder, LIST, &print(&list(ALL)), XattrFlags::empty()).expect("a filesystem with lists");
        let rights = Rights::of(&folder).unwrap();
        rights.give(&state).unwrap();
        let found = shown(&read_list(&state).unwrap().expect("it has a list"));
        assert_eq!(found, "Owner 7, User(4711) 7, OwningGroup 0, Mask 7, Other 0");
        // The list changes, and then goes.
        fsetxattr(&folder, LIST, &print(&list(5)), XattrFlags::empty()).unwrap();
        Rights::of(&folder).unwrap().mend(&state, || true).unwrap();
        let found = shown(&read_list(&state).unwrap().expect("it has a list"));
        assert_eq!(found, "Owner 7, User(4711) 0, OwningGroup 0, Mask 7, Other 0");
        fremovexattr(&folder, LIST).unwrap();
        fchmod(&folder, Mode::from_bits_truncate(0o770)).unwrap();
        Rights::of(&folder).unwrap().mend(&state, || true).unwrap();
        assert_eq!((read_list(&state).unwrap(), fstat(&state).unwrap().st_mode & 0o777), (None, 0o770));
        // There is nothing to do any more.
        fchmod(&state, Mode::from_bits_truncate(0o770)).unwrap();
        let before = fstat(&state).unwrap();
        Rights::of(&folder).unwrap().mend(&state, || true).unwrap();
        let after = fstat(&state).unwrap();
        assert_eq!((after.st_ctime, after.st_ctime_nsec), (before.st_ctime, before.st_ctime_nsec));
    }

    /// Whether a list lets in somebody of these, by the rules of acl(5).
    fn lets_in(list: &[(Who, Bits)], user: u32, groups: &[u32]) -> bool {
        let of_groups = |who: &Who| match who {
            Who::OwningGroup => groups.contains(&0),
            Who::Group(group) => groups.contains(group),
            _ => false,
        };
        let bits = if user == 0 {
            has(list, Who::Owner)
        } else if let Some(bits) = has(list, Who::User(user)) {
            Some(bits)
        } else {
            let found = list.iter().filter(|(who, _)| of_groups(who)).filter_map(|(who, _)| has(list, *who));
            found.max().or_else(|| has(list, Who::Other))
        };
        bits == Some(ALL)
    }

    /// Owner, group and others, two users, two groups and a mask, each of which may be absent.
    fn any_list() -> impl Strategy<Value = Vec<(Who, Bits)>> {
        let bits = || prop::sample::select(vec![0, ALL]);
        let named = prop::collection::vec(prop::option::of(bits()), 4);
        (prop::collection::vec(bits(), 3), named, bits()).prop_map(|(all, named, mask)| {
            let all_named = [Who::User(1), Who::User(2), Who::Group(1), Who::Group(2)];
            let mut list: Vec<_> = [Who::Owner, Who::OwningGroup, Who::Other].into_iter().zip(all).collect();
            list.extend(all_named.into_iter().zip(named).filter_map(|(who, bits)| Some((who, bits?))));
            if !is_short(&list) {
                list.push((Who::Mask, mask));
            }
            list.sort_unstable();
            list
        })
    }

    /// All there can be, with regard to these lists.
    fn people() -> impl Iterator<Item = (u32, Vec<u32>)> {
        (0..4)
            .flat_map(|user| (0..8_u32).map(move |set| (user, (0..3).filter(|group| set >> group & 1 == 1).collect())))
    }

    proptest! {
        #[test]
        fn whoever_comes_in_by_what_is_in_both_comes_in_by_each(one in any_list(), other in any_list()) {
            let both = in_both(&one, &other);
            for (user, groups) in people().filter(|(user, groups)| lets_in(&both, *user, groups)) {
                prop_assert!(lets_in(&one, user, &groups) && lets_in(&other, user, &groups), "{user} {groups:?}");
            }
            prop_assert_eq!(in_both(&both, &other), both.clone(), "once is enough");
            // Nothing is kept back from a list without names that is narrower.
            if is_short(&one) && is_short(&other) {
                for (user, groups) in people() {
                    prop_assert_eq!(
                        lets_in(&both, user, &groups),
                        lets_in(&one, user, &groups) && lets_in(&other, user, &groups)
                    );
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(list) = parse(&bytes) {
                let again = parse(&print(&list));
                prop_assert_eq!(again, Some(list));
            }
        }
    }
}
