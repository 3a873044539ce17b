//! What the tests of barriers and gates need: short ways to say what they want.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{Arrival, Barrier, Gate, Rendezvous, RendezvousPhase, RendezvousStatus};
use konductor_tests::{ControlPlane, TestNamespace, wait_for};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

use crate::cluster::{LIMIT, shared};

/// What is needed of a resource here.
pub(crate) trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}

/// A test's namespace.
pub(crate) struct Place(pub(crate) TestNamespace);

/// A namespace of a cluster with an operator.
pub(crate) async fn place(prefix: &str) -> Place {
    shared().await;
    Place(ControlPlane::shared().await.namespace(prefix).await)
}

impl Place {
    pub(crate) fn api<K: Object>(&self) -> Api<K> {
        self.0.api()
    }

    /// Creates an object from what is in it beside its name.
    pub(crate) async fn create<K: Object>(&self, name: &str, content: Value) -> K {
        let mut object = json!({ "metadata": { "name": name } });
        let fields = object.as_object_mut().expect("an object");
        for (field, value) in content.as_object().expect("an object") {
            match (field.as_str(), value) {
                ("metadata", Value::Object(more)) => {
                    fields["metadata"].as_object_mut().expect("an object").extend(more.clone());
                }
                _ => {
                    fields.insert(field.clone(), value.clone());
                }
            }
        }
        let object = serde_json::from_value(object).expect("an object of this kind");
        let created = self.api::<K>().create(&PostParams::default(), &object).await;
        created.unwrap_or_else(|error| panic!("create {} {name}: {error}", K::kind(&())))
    }

    pub(crate) async fn barrier(&self, name: &str, spec: Value) {
        self.create::<Barrier>(name, json!({ "spec": spec })).await;
    }

    pub(crate) async fn gate(&self, name: &str, spec: Value) {
        self.create::<Gate>(name, json!({ "spec": spec })).await;
    }

    /// Arrives, as somebody who knows no more than the barrier's name.
    pub(crate) async fn arrive(&self, barrier: &str, key: &str) {
        let spec = json!({ "barrier": barrier, "holder": key, "key": key });
        self.create::<Arrival>(&format!("{barrier}-{key}"), json!({ "spec": spec })).await;
    }

    /// The names of all arrivals.
    pub(crate) async fn arrivals(&self) -> Vec<String> {
        let list = self.api::<Arrival>().list(&ListParams::default()).await.expect("list arrivals");
        list.iter().map(ResourceExt::name_any).collect()
    }

    /// Changes an object.
    pub(crate) async fn patch<K: Object>(&self, name: &str, patch: Value) {
        let patched = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("change {} {name}: {error}", K::kind(&())));
    }

    /// Writes an object's status, as its controller would.
    pub(crate) async fn patch_status<K: Object>(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        let patched = self.api::<K>().patch_status(name, &PatchParams::default(), &patch).await;
        patched.unwrap_or_else(|error| panic!("write the status of {} {name}: {error}", K::kind(&())));
    }

    /// Deletes an object.
    pub(crate) async fn delete<K: Object>(&self, name: &str) {
        let deleted = self.api::<K>().delete(name, &DeleteParams::background()).await;
        deleted.unwrap_or_else(|error| panic!("delete {} {name}: {error}", K::kind(&())));
    }

    /// Waits until the object is as wanted.
    pub(crate) async fn until<K: Object>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K {
        wait_for(&self.api::<K>(), name, LIMIT, wanted).await
    }

    /// Waits until the operator has taken in the spec and brought the barrier or gate into this phase.
    pub(crate) async fn phase<K: Object + Rendezvous>(&self, name: &str, phase: RendezvousPhase) -> K {
        let decided = |object: &K| {
            let conditions = object.status().map_or(&[][..], RendezvousStatus::conditions);
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
            ready.is_some_and(|ready| ready.observed_generation == object.meta().generation)
                && object.phase() == Some(phase)
        };
        self.until(name, decided).await
    }

    pub(crate) async fn barrier_in(&self, name: &str, phase: RendezvousPhase) -> Barrier {
        self.phase(name, phase).await
    }

    pub(crate) async fn gate_in(&self, name: &str, phase: RendezvousPhase) -> Gate {
        self.phase(name, phase).await
    }
}

/// The conditions of a barrier or gate: each one's type, status and reason.
pub(crate) fn conditions<K: Rendezvous>(object: &K) -> Vec<String> {
    let conditions = object.status().map_or(&[][..], RendezvousStatus::conditions);
    let shown = |condition: &Condition| format!("{} {} {}", condition.type_, condition.status, condition.reason);
    conditions.iter().map(shown).collect()
}

/// The number of arrivals that a barrier shows.
pub(crate) fn arrived(barrier: &Barrier) -> Option<u64> {
    barrier.status.as_ref()?.arrived
}

/// The round that a barrier shows.
pub(crate) fn round(barrier: &Barrier) -> Option<u64> {
    barrier.status.as_ref()?.round
}
