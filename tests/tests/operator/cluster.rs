//! What all these tests need: an operator to talk to, and short ways to say what they want.

use std::{fmt::Debug, marker::PhantomData, time::Duration};

use konductor_api::{ClaimPhase, ClaimStatus, Lock, Semaphore};
use konductor_tests::{ControlPlane, Installed, Process, TestNamespace, wait_for};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::object::{HasSpec, HasStatus};
use kube::{Api, Client};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Far more than anything here takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// The operator that all tests share that do not end it.
pub(crate) async fn shared() -> &'static Process {
    static SHARED: OnceCell<Process> = OnceCell::const_new();
    SHARED.get_or_init(|| async { installed().await.operator_alone("shared", LIMIT).await }).await
}

/// Konductor as the chart installs it in the control plane that tests share.
pub(crate) async fn installed() -> &'static Installed {
    static INSTALLED: OnceCell<Installed> = OnceCell::const_new();
    INSTALLED.get_or_init(|| async { Installed::on(ControlPlane::shared().await, true).await }).await
}

/// A namespace of a cluster with an operator, to play with semaphores in.
pub(crate) async fn namespace(prefix: &str) -> Scene {
    scene(prefix).await
}

/// A namespace of a cluster with an operator, to play with locks of any kind in.
pub(crate) async fn scene<L: Kind>(prefix: &str) -> Scene<L> {
    shared().await;
    Scene::of(ControlPlane::shared().await.namespace(prefix).await)
}

/// What is needed of a resource here.
pub(crate) trait Object: HasSpec + Serialize + DeserializeOwned + Clone + Debug + Send {}

impl<O: HasSpec + Serialize + DeserializeOwned + Clone + Debug + Send> Object for O {}

/// A kind of lock.
pub(crate) trait Kind: Lock<Claim: Object> + HasStatus<Status: Clone> + Object {}

impl<L: Lock<Claim: Object> + HasStatus<Status: Clone> + Object> Kind for L {}

/// A test's namespace, and what can be done in it with locks of one kind.
pub(crate) struct Scene<L = Semaphore> {
    pub(crate) namespace: TestNamespace,
    kind: PhantomData<fn() -> L>,
}

impl Scene {
    /// Creates a semaphore of so many permits.
    pub(crate) async fn semaphore(&self, name: &str, permits: u32) {
        self.create(name, &json!({ "permits": permits })).await;
    }
}

impl<L: Kind> Scene<L> {
    pub(crate) fn of(namespace: TestNamespace) -> Self {
        Self { namespace, kind: PhantomData }
    }

    pub(crate) fn client(&self) -> Client {
        self.namespace.client.clone()
    }

    pub(crate) fn claims(&self) -> Api<L::Claim> {
        self.namespace.api()
    }

    pub(crate) fn locks(&self) -> Api<L> {
        self.namespace.api()
    }

    /// Creates a lock with this spec.
    pub(crate) async fn create(&self, name: &str, spec: &Value) {
        let lock = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a lock");
        self.locks().create(&PostParams::default(), &lock).await.expect("create a lock");
    }

    /// Changes a lock's spec.
    pub(crate) async fn change(&self, name: &str, spec: &Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.locks().patch(name, &PatchParams::default(), &patch).await.expect("change a lock");
    }

    /// Creates a claim on a lock.
    pub(crate) async fn claim(&self, lock: &str, name: &str) {
        self.claim_with(lock, name, &json!({})).await;
    }

    /// Creates a claim with these fields in its spec.
    pub(crate) async fn claim_with(&self, lock: &str, name: &str, fields: &Value) {
        let mut spec = json!({ L::KIND.name: lock, "holder": name, "instance": name });
        spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let claim = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a claim");
        self.claims().create(&PostParams::default(), &claim).await.expect("create a claim");
    }

    /// Releases or withdraws a claim.
    pub(crate) async fn release(&self, name: &str) {
        self.claims().delete(name, &DeleteParams::default()).await.expect("delete a claim");
    }

    /// Waits until the claim is in this phase.
    pub(crate) async fn phase(&self, name: &str, phase: ClaimPhase) -> ClaimStatus {
        self.claim_status(name, |status| status.phase == Some(phase)).await
    }

    /// Waits until the claim is granted.
    pub(crate) async fn granted(&self, name: &str) -> ClaimStatus {
        self.phase(name, ClaimPhase::Granted).await
    }

    /// Waits until the claim is told that so many are ahead of it.
    pub(crate) async fn ahead(&self, name: &str, ahead: u64) -> ClaimStatus {
        self.claim_status(name, |status| status.phase == Some(ClaimPhase::Pending) && status.ahead == Some(ahead)).await
    }

    /// Waits until the claim's status is as wanted.
    pub(crate) async fn claim_status(&self, name: &str, wanted: impl Fn(&ClaimStatus) -> bool) -> ClaimStatus {
        let found = wait_for(&self.claims(), name, LIMIT, |claim| claim.status().is_some_and(&wanted)).await;
        found.status().cloned().expect("it has one")
    }

    /// What the claim's status is now.
    pub(crate) async fn now(&self, name: &str) -> ClaimStatus {
        self.claims().get(name).await.expect("read a claim").status().cloned().unwrap_or_default()
    }

    /// Waits until the lock's status is as wanted.
    pub(crate) async fn status(&self, name: &str, wanted: impl Fn(&L::Status) -> bool) -> L::Status {
        let found = wait_for(&self.locks(), name, LIMIT, |lock| lock.status().is_some_and(&wanted)).await;
        found.status().cloned().expect("it has one")
    }

    /// Waits for a Kubernetes event with this reason about this object, and returns its note.
    pub(crate) async fn event(&self, kind: &str, name: &str, reason: &str) -> String {
        let events: Api<k8s_openapi::api::events::v1::Event> = self.namespace.api();
        konductor_tests::eventually(LIMIT, &format!("an event {reason} about {kind} {name}"), || async {
            let list = events.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
            let about = |event: &&k8s_openapi::api::events::v1::Event| {
                event.reason.as_deref() == Some(reason)
                    && event.regarding.as_ref().is_some_and(|regarding| {
                        regarding.kind.as_deref() == Some(kind) && regarding.name.as_deref() == Some(name)
                    })
            };
            let found = list.items.iter().find(about).and_then(|event| event.note.clone());
            found.ok_or_else(|| format!("{} other events", list.items.len()))
        })
        .await
    }
}

/// The status of the condition of this type, and its reason.
pub(crate) fn condition<'a>(
    conditions: &'a [k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    kind: &str,
) -> Option<(&'a str, &'a str)> {
    let condition = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((condition.status.as_str(), condition.reason.as_str()))
}
