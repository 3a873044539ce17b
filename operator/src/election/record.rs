//! What is read of a lease, and what is written to it.
//!
//! Whoever may write leases may put into one what this program cannot parse, and the API server keeps it: times out of
//! the range of its calendar above all. So no more is read than the election goes by, and a write names what it changes
//! and leaves the rest as it is.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use konductor_cluster::object::{Metadata, NO_VERSION, Object};
use serde::Deserialize;
use serde_json::{Value, json};

use super::NAME;

/// A lease, as it is read.
pub(super) type LeaseObject = Object<Lease, Spec>;

/// A lease, as far as the election goes by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    uid: String,
    version: u64,
    spec: Spec,
}

/// What is read of a lease's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<i64>,
    lease_transitions: Option<i64>,
}

impl From<LeaseObject> for Record {
    fn from(LeaseObject { metadata, spec, .. }: LeaseObject) -> Self {
        let Metadata { uid, version, .. } = metadata;
        Self { uid, version, spec }
    }
}

impl Record {
    /// Its holder, if it has one.
    pub fn holder(&self) -> Option<&str> {
        self.spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    /// For how long its holder has it from each renewal, if it says so.
    pub fn duration(&self) -> Option<Duration> {
        self.spec.lease_duration_seconds?.try_into().ok().map(Duration::from_secs)
    }

    /// Its UID.
    pub fn uid(&self) -> Option<&str> {
        Some(&*self.uid).filter(|uid| !uid.is_empty())
    }

    /// Its version, by which two of them are ordered.
    pub fn version(&self) -> Option<u64> {
        Some(self.version).filter(|version| *version != NO_VERSION)
    }

    /// What makes this version of it `identity`'s for `duration`, as a merge patch.
    pub(super) fn claimed(&self, identity: &str, duration: Duration, wall: Timestamp) -> Value {
        let mut spec = claim(identity, duration, wall);
        if self.holder() != Some(identity) {
            let transitions = self.spec.lease_transitions.unwrap_or(0);
            // The field has 32 bits.
            spec["leaseTransitions"] = transitions.saturating_add(1).clamp(1, i32::MAX.into()).into();
            spec["acquireTime"] = spec["renewTime"].clone();
        }
        self.patch(&spec)
    }

    /// What gives this version of it up, as a merge patch.
    pub(super) fn released(&self) -> Value {
        self.patch(&json!({ "holderIdentity": null }))
    }

    fn patch(&self, spec: &Value) -> Value {
        json!({ "metadata": { "resourceVersion": self.version().map(|version| version.to_string()) }, "spec": spec })
    }
}

/// A lease that is `identity`'s for `duration`, to be created.
pub(super) fn created(identity: &str, duration: Duration, wall: Timestamp) -> Value {
    let mut spec = claim(identity, duration, wall);
    spec["leaseTransitions"] = 1.into();
    spec["acquireTime"] = spec["renewTime"].clone();
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": NAME },
        "spec": spec,
    })
}

fn claim(identity: &str, duration: Duration, wall: Timestamp) -> Value {
    json!({
        "holderIdentity": identity,
        "leaseDurationSeconds": duration.as_secs(),
        "renewTime": MicroTime(wall),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn read(text: &str) -> Record {
        let object = LeaseObject::read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        object.unwrap_or_else(|error| panic!("{text}: {error}")).into()
    }

    #[test]
    fn what_others_wrote_into_a_lease_does_not_make_it_unreadable() {
        let record = read(
            r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{
                "name":"konductor-operator","uid":"u","resourceVersion":"18446744073709551615",
                "creationTimestamp":"9999-12-31T23:59:60Z","deletionTimestamp":"0000-01-01T00:00:00-23:59",
                "annotations":{"a":"b"},"managedFields":[{"time":"9999-12-31T23:59:59Z","fieldsV1":{"f:spec":{}}}]},
              "spec":{"holderIdentity":"other","leaseDurationSeconds":10,"leaseTransitions":3,"strategy":"OldestEmulationVersion",
                "renewTime":"9999-12-31T23:59:59.999999Z","acquireTime":"0001-01-01T00:00:00.0000000000001Z"}}"#,
        );
        assert_eq!((record.holder(), record.duration()), (Some("other"), Some(10 * SECOND)));
        assert_eq!((record.uid(), record.version()), (Some("u"), Some(u64::MAX)));
    }

    #[test]
    fn a_lease_without_a_holder_is_nobodys() {
        for text in [
            r#"{"metadata":{"name":"l"}}"#,
            r#"{"metadata":{"name":"l"},"spec":null}"#,
            r#"{"metadata":{"name":"l"},"spec":{}}"#,
            r#"{"metadata":{"name":"l"},"spec":{"holderIdentity":""}}"#,
        ] {
            assert_eq!(read(text).holder(), None, "{text}");
        }
    }

    #[test]
    fn a_renewal_changes_the_time_and_nothing_else_and_a_takeover_is_counted() {
        let at = Timestamp::UNIX_EPOCH;
        let text =
            r#"{"metadata":{"name":"l","resourceVersion":"7"},"spec":{"holderIdentity":"a","leaseTransitions":3}}"#;
        let claim =
            json!({ "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "1970-01-01T00:00:00.000000Z" });
        let version = json!({ "resourceVersion": "7" });
        assert_eq!(read(text).claimed("a", 15 * SECOND, at), json!({ "metadata": version, "spec": claim }));
        let taken = read(text).claimed("b", 15 * SECOND, at);
        assert_eq!((&taken["spec"]["holderIdentity"], &taken["spec"]["leaseTransitions"]), (&json!("b"), &json!(4)));
        assert_eq!(taken["spec"]["acquireTime"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(read(text).released(), json!({ "metadata": version, "spec": { "holderIdentity": null } }));
    }

    #[test]
    fn the_count_of_takeovers_stays_within_its_32_bits() {
        for (before, after) in [(i64::from(i32::MAX), i32::MAX), (i64::MAX, i32::MAX), (-5, 1)] {
            let text = format!(r#"{{"metadata":{{"name":"l"}},"spec":{{"leaseTransitions":{before}}}}}"#);
            let taken = read(&text).claimed("b", SECOND, Timestamp::UNIX_EPOCH);
            assert_eq!(taken["spec"]["leaseTransitions"], after, "{before}");
        }
    }
}
