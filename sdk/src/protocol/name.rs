//! Names of claims.
//!
//! In a pod the name follows from what is asked for and from where, so that a container that was restarted finds the
//! claim that its predecessor left behind. Elsewhere it is random. Names are never trusted: what a claim is, its
//! `instance` and its `pod` say, so that two things that get the same name cost a retry and nothing else.

use konductor_api::{LockKind, PodReference};

use super::limits::NAME_KEPT;

/// The name of the claim on `parent` by a container of a pod; `sibling` counts the processes of that container that
/// found the names before it taken.
pub(super) fn derived(kind: LockKind, parent: &str, pod: &PodReference, sibling: u32) -> String {
    let name = hashed(parent, &[kind.name, parent, &pod.uid, &pod.container]);
    if sibling == 0 { name } else { format!("{name}-{}", sibling + 1) }
}

/// The name of the claim on `parent` that belongs to a holder by its name, in a pod or in none.
pub(crate) fn of_holder(kind: LockKind, parent: &str, holder: &str, pod: Option<&PodReference>) -> String {
    hashed(parent, &holder_parts(kind, parent, holder, pod))
}

/// How the instance of such a claim begins.
pub(crate) const OF_HOLDER: &str = "holder-";

/// The instance of that claim: the same for whoever asks in the holder's name.
pub(crate) fn instance_of_holder(kind: LockKind, parent: &str, holder: &str, pod: Option<&PodReference>) -> String {
    let parts = holder_parts(kind, parent, holder, pod);
    format!("{OF_HOLDER}{:016x}{:016x}", hash(FNV_START, &parts), hash(FNV_START ^ FNV_PRIME, &parts))
}

fn holder_parts<'a>(kind: LockKind, parent: &'a str, holder: &'a str, pod: Option<&'a PodReference>) -> [&'a str; 5] {
    [kind.name, parent, "holder", pod.map_or("", |pod| &pod.uid), holder]
}

/// A name of what belongs to `parent`, the same for the same parts.
pub(crate) fn hashed(parent: &str, parts: &[&str]) -> String {
    format!("{}-{:016x}", kept(parent), hash(FNV_START, parts))
}

fn hash(start: u64, parts: &[&str]) -> u64 {
    parts.iter().fold(start, |hash, part| {
        // A separator that is in none of the parts.
        part.bytes().chain([0]).fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
    })
}

/// A name that nobody else has.
pub(crate) fn random(parent: &str, id: u128) -> String {
    format!("{}-{:016x}", kept(parent), id as u64)
}

/// An instance: one per attempt to acquire.
pub(super) fn instance(id: u128) -> String {
    format!("{id:032x}")
}

/// As much of a name as leaves room for the rest, and can be followed by a hyphen.
fn kept(parent: &str) -> &str {
    let end = parent.floor_char_boundary(NAME_KEPT);
    parent[..end].trim_end_matches(['-', '.'])
}

// FNV-1a, 64 bits (Fowler, Noll, Vo): stable across versions of this library, as names must be.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use konductor_api::{Lease, Lock, Semaphore};

    use super::*;

    fn pod(uid: &str, container: &str, start: &str) -> PodReference {
        PodReference { container: container.into(), start: start.into(), ..PodReference::whole("etl-0", uid) }
    }

    #[test]
    fn a_restarted_container_has_the_name_of_its_predecessor() {
        let name = derived(Semaphore::KIND, "warehouse", &pod("u1", "main", "start-1"), 0);
        assert_eq!(name, derived(Semaphore::KIND, "warehouse", &pod("u1", "main", "start-2"), 0));
        assert_eq!(name, "warehouse-84347e155ce198cf", "names must not change from release to release");
    }

    #[test]
    fn a_holder_has_one_claim_on_a_lock_in_each_pod() {
        let kind = Semaphore::KIND;
        let whole = PodReference::whole("etl-0", "u1");
        let name = of_holder(kind, "warehouse", "nightly", None);
        assert_eq!(name, "warehouse-55465cca3691785b", "names must not change from release to release");
        assert_eq!(name, of_holder(kind, "warehouse", "nightly", None));
        let others = [
            of_holder(kind, "warehouse", "daily", None),
            of_holder(kind, "warehouse", "nightly", Some(&whole)),
            of_holder(Lease::KIND, "warehouse", "nightly", None),
            derived(kind, "warehouse", &whole, 0),
        ];
        assert!(others.iter().all(|other| *other != name), "{others:?}");
        let instances = [None, Some(&whole)].map(|pod| instance_of_holder(kind, "warehouse", "nightly", pod));
        assert_ne!(instances[0], instances[1]);
        assert!(instances.iter().all(|instance| instance.len() <= 64), "{instances:?}");
    }

    #[test]
    fn everything_else_makes_another_name() {
        let name = derived(Semaphore::KIND, "warehouse", &pod("u1", "main", "s"), 0);
        for other in [
            derived(Lease::KIND, "warehouse", &pod("u1", "main", "s"), 0),
            derived(Semaphore::KIND, "database", &pod("u1", "main", "s"), 0),
            derived(Semaphore::KIND, "warehouse", &pod("u2", "main", "s"), 0),
            derived(Semaphore::KIND, "warehouse", &pod("u1", "side", "s"), 0),
            derived(Semaphore::KIND, "warehouse", &pod("u1m", "ain", "s"), 0),
            derived(Semaphore::KIND, "warehouse", &pod("u1", "main", "s"), 1),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn the_longest_parent_leaves_a_valid_name() {
        let parent = format!("{}.{}", "a".repeat(NAME_KEPT - 1), "b".repeat(53));
        for name in [derived(Semaphore::KIND, &parent, &pod("u", "c", "s"), 99), random(&parent, u128::MAX)] {
            assert!(name.len() <= 253, "{} characters", name.len());
            assert!(!name.contains(".-"), "{name}");
        }
    }
}
