//! What every claim has in common: who asks, and what the operator answered.

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    GoDuration,
    conditions::{GRANTED, REVOKED},
    limits::{MAX_CONDITIONS, MAX_COUNT, MAX_HOLDER, MAX_ID, MAX_MESSAGE, MAX_NAME, MAX_NAMESPACE, MAX_TERM},
};

/// The pod, container and start of the container that a claim speaks for. With it the operator can tell from the pod's
/// status that the holder is dead.
///
/// A claim may speak for its whole pod instead, and for no container of it: one that a container acquires and another
/// one releases. It then says neither container nor start, and its holder is dead when the pod has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodReference {
    /// The pod's name.
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub name: String,
    /// The pod's UID.
    #[schemars(length(min = 1, max = MAX_ID))]
    pub uid: String,
    /// The container that runs the holder; absent (empty) when the claim speaks for the whole pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub container: String,
    /// An id that is new at each start of the container, so that a restarted container knows its predecessor's claim;
    /// absent (empty) when the claim speaks for the whole pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = MAX_ID))]
    pub start: String,
    /// The pod's namespace; absent (empty) when it is that of the claim.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = MAX_NAMESPACE))]
    pub namespace: String,
}

impl PodReference {
    /// The whole pod, and no container of it, in the namespace of the claim.
    pub fn whole(name: impl Into<String>, uid: impl Into<String>) -> Self {
        let (container, start, namespace) = (String::new(), String::new(), String::new());
        Self { name: name.into(), uid: uid.into(), container, start, namespace }
    }

    /// The same as an object in this namespace names it: where the pod is, is said only if that is elsewhere.
    #[must_use]
    pub fn named_in(mut self, namespace: &str) -> Self {
        if self.namespace == namespace {
            self.namespace.clear();
        }
        self
    }

    /// Where the pod is that an object in this namespace names.
    pub fn namespace_from<'a>(&'a self, namespace: &'a str) -> &'a str {
        if self.namespace.is_empty() { namespace } else { &self.namespace }
    }

    /// Whether it is the whole pod that is spoken for.
    pub fn is_whole(&self) -> bool {
        self.container.is_empty()
    }
}

/// What a claim says beside what it is on; the fields stand in the claim's own spec. Only `renewTime` ever changes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.ttl) == has(oldSelf.ttl) && has(self.pod) == has(oldSelf.pod)")
        .message("only renewTime can change: delete the claim and create another"),
    validation = Rule::new("!has(self.pod) || has(self.pod.container) == has(self.pod.start)")
        .message("a pod is named with container and start, or as a whole with neither")
)]
pub struct ClaimSpec {
    /// Higher goes first; within a priority, first come first served.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("priority cannot change"))]
    pub priority: i32,
    /// Who asks, as shown to people.
    #[schemars(length(min = 1, max = MAX_HOLDER))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("holder cannot change"))]
    pub holder: String,
    /// Random, one per attempt to acquire: tells a repeated create from somebody else's claim of the same name.
    #[schemars(length(min = 1, max = MAX_ID))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("instance cannot change"))]
    pub instance: String,
    /// The pod that the claim speaks for, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("pod cannot change"))]
    pub pod: Option<PodReference>,
    /// Time to live without a renewal, 5s to 24h; that of what is claimed when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("ttl cannot change"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('24h')").message("ttl must be from 5s to 24h"))]
    pub ttl: Option<GoDuration>,
    /// When the holder last renewed, by its own clock. That it changes is what counts, not its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<RenewTime>,
}

/// A time that a client wrote, as it wrote it. Whoever reads it only compares it: Kubernetes stores times that no time
/// type holds (any year, any fraction of a second), and what one client writes must not make a claim unreadable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RenewTime(pub Box<str>);

impl From<Timestamp> for RenewTime {
    fn from(at: Timestamp) -> Self {
        // As Kubernetes prints a MicroTime.
        let at = at.round(jiff::Unit::Microsecond).unwrap_or(at);
        Self(format!("{at:.6}").into())
    }
}

impl JsonSchema for RenewTime {
    fn inline_schema() -> bool {
        MicroTime::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        MicroTime::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        MicroTime::json_schema(generator)
    }
}

/// Where a claim stands. A claim without a phase has not been seen by the operator yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ClaimPhase {
    /// Waits for its turn.
    Pending,
    /// Granted in the term of the status. A client trusts it only when the parent's term is the same.
    Granted,
    /// The holder was asked to end; it still counts until it has released or its TTL has passed.
    Revoking,
    /// Over. The claim frees nothing and holds nothing; it is kept a while for people to see.
    Expired,
}

/// The operator's answer to a claim. Everything in it is the operator's to write.
///
/// Absent fields are written as null, so that a merge patch of a whole status leaves nothing of the former one behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// Where the claim stands.
    pub phase: Option<ClaimPhase>,
    /// The time to live in force, fixed when the claim was granted.
    pub ttl: Option<GoDuration>,
    /// The operator's term in which this was written. A grant counts only in the same term as its parent's.
    #[schemars(range(min = 0, max = MAX_TERM))]
    pub term: Option<u64>,
    /// The UID of the parent that granted it: one that was created anew under the same name confirms nothing.
    #[schemars(length(max = MAX_ID))]
    pub parent_uid: Option<String>,
    /// Strictly greater than that of every earlier grant of the same parent, for storage that refuses older ones.
    #[schemars(range(min = 0, max = MAX_COUNT))]
    pub fencing_token: Option<u64>,
    /// Place in the order in which the operator saw the claims of this parent; lower is earlier within a priority.
    #[schemars(range(min = 0, max = MAX_COUNT))]
    pub ticket: Option<u64>,
    /// Waiters in front when this was last written; written again each time it has halved.
    #[schemars(range(min = 0, max = MAX_COUNT))]
    pub ahead: Option<u64>,
    /// When the claim was granted.
    #[serde(default, deserialize_with = "crate::told::time")]
    pub acquired_at: Option<MicroTime>,
    /// While granted: when the claim would expire had its holder not renewed since this status was written. Once
    /// expired: when that was. For people; no decision rests on it.
    #[serde(default, deserialize_with = "crate::told::time")]
    pub expires_at: Option<MicroTime>,
    /// What a person should know.
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,
    /// The generation of the claim's spec that this status answers.
    pub observed_generation: Option<i64>,
    /// `Granted`.
    #[serde(default, deserialize_with = "crate::told::conditions")]
    #[schemars(length(max = MAX_CONDITIONS), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl ClaimStatus {
    /// Whether the claim is over because somebody wanted it revoked while it waited: it is refused, for the reason that
    /// the message gives. (A holder that is to end sees [`ClaimPhase::Revoking`] instead.)
    pub fn is_revoked(&self) -> bool {
        let revoked = |condition: &Condition| condition.type_ == GRANTED && condition.reason == REVOKED;
        self.phase == Some(ClaimPhase::Expired) && self.conditions.iter().any(revoked)
    }
}

/// A renewal: the merge patch that a client sends, valid only for the object with this UID.
pub fn renewal_patch(uid: &str, at: Timestamp) -> serde_json::Value {
    serde_json::json!({ "metadata": { "uid": uid }, "spec": { "renewTime": MicroTime(at) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_that_the_api_server_stores_is_read_as_it_is() {
        for time in [
            "9999-12-31T23:59:59Z",
            "2026-01-01t00:00:00.1234567890123z",
            "2016-12-31T23:59:60Z",
            "0000-01-01T00:00:00+23:59",
        ] {
            let spec = serde_json::json!({ "holder": "h", "instance": "i", "renewTime": time });
            let spec: ClaimSpec = serde_json::from_value(spec).unwrap_or_else(|error| panic!("{time}: {error}"));
            assert_eq!(spec.renew_time, Some(RenewTime(time.into())));
            assert_eq!(serde_json::to_value(&spec).expect("a spec")["renewTime"], time);
        }
    }

    #[test]
    fn a_renewal_is_written_as_kubernetes_writes_it() {
        let at = Timestamp::new(1_700_000_000, 1_000).expect("a time");
        let patch = renewal_patch("u", at);
        assert_eq!(patch["spec"]["renewTime"], "2023-11-14T22:13:20.000001Z");
        assert_eq!(patch["spec"]["renewTime"], serde_json::json!(RenewTime::from(at)));
    }

    #[test]
    fn a_pod_says_where_it_is_only_if_that_is_elsewhere() {
        let pod = PodReference { namespace: "etl".into(), ..PodReference::whole("load", "u") };
        assert_eq!(pod.clone().named_in("etl"), PodReference::whole("load", "u"));
        assert_eq!(pod.clone().named_in("locks"), pod);
        assert_eq!(
            (pod.namespace_from("locks"), PodReference::whole("load", "u").namespace_from("locks")),
            ("etl", "locks")
        );
        assert_eq!(serde_json::to_value(&pod).expect("JSON")["namespace"], "etl");
        // As programs from before it was there have it.
        let before = serde_json::json!({ "name": "load", "uid": "u" });
        assert_eq!(serde_json::to_value(PodReference::whole("load", "u")).expect("JSON"), before);
        assert_eq!(serde_json::from_value::<PodReference>(before).expect("a pod"), PodReference::whole("load", "u"));
    }

    #[test]
    fn only_who_was_refused_while_it_waited_is_revoked() {
        let condition = |reason: &str| Condition {
            type_: GRANTED.into(),
            status: "False".into(),
            reason: reason.into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
        };
        for (phase, reason, expected) in [
            (ClaimPhase::Expired, REVOKED, true),
            (ClaimPhase::Expired, "Expired", false),
            (ClaimPhase::Revoking, "Revoking", false),
        ] {
            let status =
                ClaimStatus { phase: Some(phase), conditions: vec![condition(reason)], ..ClaimStatus::default() };
            assert_eq!(status.is_revoked(), expected, "{reason}");
        }
    }
}
