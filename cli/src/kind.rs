//! The kinds of objects that are spoken of, by all the names that people give them.

use std::{fmt, str::FromStr};

use konductor_api::GROUP;

/// A kind of object in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    /// Its API group; empty for the core's.
    pub(crate) group: &'static str,
    /// As in `kind:`.
    pub(crate) kind: &'static str,
    /// As in paths.
    pub(crate) plural: &'static str,
    /// As in commands: `semaphore`.
    pub(crate) singular: &'static str,
    /// Shorter words for it.
    short: &'static [&'static str],
}

const fn ours(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
) -> Resource {
    Resource { group: GROUP, kind, plural, singular, short }
}

/// `semaphores.konductor.io`.
pub(crate) const SEMAPHORE: Resource = ours("Semaphore", "semaphores", "semaphore", &["sem"]);
/// `permits.konductor.io`: claims on semaphores.
pub(crate) const PERMIT: Resource = ours("Permit", "permits", "permit", &["pmt"]);
/// `leases.konductor.io`, and not Kubernetes' own.
pub(crate) const LEASE: Resource = ours("Lease", "leases", "lease", &["klease"]);
/// `leaserequests.konductor.io`: claims on leases.
pub(crate) const LEASE_REQUEST: Resource = ours("LeaseRequest", "leaserequests", "leaserequest", &["lreq"]);
/// `barriers.konductor.io`.
pub(crate) const BARRIER: Resource = ours("Barrier", "barriers", "barrier", &["bar"]);
/// `arrivals.konductor.io`: who has arrived at barriers.
pub(crate) const ARRIVAL: Resource = ours("Arrival", "arrivals", "arrival", &["arr"]);
/// `gates.konductor.io`.
pub(crate) const GATE: Resource = ours("Gate", "gates", "gate", &["gt"]);
/// `jobs.batch`.
pub(crate) const JOB: Resource = Resource { group: "batch", kind: "Job", plural: "jobs", singular: "job", short: &[] };
/// Pods.
pub(crate) const POD: Resource = Resource { group: "", kind: "Pod", plural: "pods", singular: "pod", short: &["po"] };

/// All that can be named in `KIND/NAME`.
pub(crate) const ALL: [Resource; 9] = [SEMAPHORE, LEASE, BARRIER, GATE, PERMIT, LEASE_REQUEST, ARRIVAL, JOB, POD];

/// What others claim or wait for.
pub(crate) const PARENTS: [Resource; 4] = [SEMAPHORE, LEASE, BARRIER, GATE];

impl Resource {
    /// A kind of somebody else's that nobody names in a command.
    pub(crate) const fn foreign(
        group: &'static str,
        kind: &'static str,
        plural: &'static str,
        singular: &'static str,
    ) -> Self {
        Self { group, kind, plural, singular, short: &[] }
    }

    /// The API version, as in `apiVersion:`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }

    /// As kubectl writes it: `semaphore.konductor.io`.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.singular.to_owned() } else { format!("{}.{}", self.singular, self.group) }
    }

    /// As kubectl writes it: `semaphores.konductor.io`.
    pub(crate) fn qualified_plural(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The path of all objects of it, in a namespace or in all.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/v1", self.group) };
        match namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    /// Of a lock: the claims on it, and the field of a claim that names the lock.
    pub(crate) fn claims(&self) -> Option<(Resource, &'static str)> {
        match *self {
            SEMAPHORE => Some((PERMIT, "spec.semaphore")),
            LEASE => Some((LEASE_REQUEST, "spec.lease")),
            _ => None,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.singular)
    }
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let is = |resource: &&Resource| {
            let names = [resource.singular, resource.plural].into_iter().chain(resource.short.iter().copied());
            let mut names = names.flat_map(|name| [name.to_owned(), format!("{name}.{}", resource.group)]);
            names.any(|name| name == lower)
        };
        ALL.iter().find(is).copied().ok_or_else(|| {
            let known = ALL.map(|resource| resource.singular);
            format!("{text:?} is none of {}", known.join(", "))
        })
    }
}

/// One object: `KIND/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName {
    /// Its kind.
    pub(crate) resource: Resource,
    /// Its name.
    pub(crate) name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.resource, self.name)
    }
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').ok_or("write KIND/NAME, as in semaphore/warehouse")?;
        Ok(Self { resource: kind.parse()?, name: parse_name(name)? })
    }
}

/// What can be the name of an object.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    if konductor::name::is_name(text) {
        Ok(text.to_owned())
    } else {
        Err("no object can have that name: use lower-case letters, digits, hyphens and dots".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_many_names() {
        for (text, expected) in [
            ("semaphore", SEMAPHORE),
            ("Semaphores", SEMAPHORE),
            ("sem", SEMAPHORE),
            ("semaphores.konductor.io", SEMAPHORE),
            ("lease", LEASE),
            ("leases.konductor.io", LEASE),
            ("job", JOB),
            ("jobs.batch", JOB),
            ("po", POD),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert!("semaphor".parse::<Resource>().is_err_and(|error| error.contains("semaphore")));
        assert!("leases.coordination.k8s.io".parse::<Resource>().is_err(), "Kubernetes' own is another");
    }

    #[test]
    fn an_object_is_a_kind_and_a_name() {
        let object: ObjectName = "barrier/stage-1".parse().expect("an object");
        assert_eq!((object.resource, object.name.as_str()), (BARRIER, "stage-1"));
        for wrong in ["barrier", "barrier/", "barrier/A", "barr/a", "/a", "barrier/a/b"] {
            assert!(wrong.parse::<ObjectName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_short_names_are_those_of_the_custom_resources() {
        for crd in konductor_api::crds::all() {
            let names = crd.spec.names;
            let ours = ALL.iter().find(|resource| resource.kind == names.kind).expect("a kind that is known");
            assert_eq!((ours.plural, ours.group), (names.plural.as_str(), crd.spec.group.as_str()));
            assert_eq!(names.singular.as_deref(), Some(ours.singular));
            assert_eq!(names.short_names.unwrap_or_default(), ours.short, "{}", ours.kind);
        }
    }

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(SEMAPHORE.path(Some("etl")), "/apis/konductor.io/v1/namespaces/etl/semaphores");
        assert_eq!(POD.path(None), "/api/v1/pods");
        assert_eq!((POD.api_version(), JOB.api_version()), ("v1".to_owned(), "batch/v1".to_owned()));
        assert_eq!((POD.qualified(), JOB.qualified_plural()), ("pod".to_owned(), "jobs.batch".to_owned()));
    }
}
