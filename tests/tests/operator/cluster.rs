//! What all these tests need: an operator to talk to, and short ways to say what they want.

use std::time::Duration;

use konductor_api::{ClaimPhase, ClaimStatus, Permit, Semaphore, SemaphoreStatus};
use konductor_tests::{ControlPlane, Installed, Process, TestNamespace, wait_for};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Far more than anything here takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// The operator that all tests share that do not end it, and the namespace that it is installed in.
pub(crate) async fn shared() -> &'static Process {
    static SHARED: OnceCell<Process> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let installed = Installed::on(ControlPlane::shared().await, true).await;
            installed.operator("shared", &[])
        })
        .await
}

/// A namespace of a cluster with an operator.
pub(crate) async fn namespace(prefix: &str) -> Scene {
    shared().await;
    Scene { namespace: ControlPlane::shared().await.namespace(prefix).await }
}

/// A test's namespace, and what can be done in it.
pub(crate) struct Scene {
    pub(crate) namespace: TestNamespace,
}

impl Scene {
    pub(crate) fn client(&self) -> Client {
        self.namespace.client.clone()
    }

    pub(crate) fn permits(&self) -> Api<Permit> {
        self.namespace.api()
    }

    pub(crate) fn semaphores(&self) -> Api<Semaphore> {
        self.namespace.api()
    }

    /// Creates a semaphore of so many permits.
    pub(crate) async fn semaphore(&self, name: &str, permits: u32) {
        self.semaphore_with(name, &json!({ "permits": permits })).await;
    }

    /// Creates a semaphore with this spec.
    pub(crate) async fn semaphore_with(&self, name: &str, spec: &Value) {
        let semaphore = json!({ "metadata": { "name": name }, "spec": spec });
        let semaphore = serde_json::from_value(semaphore).expect("a Semaphore");
        self.semaphores().create(&PostParams::default(), &semaphore).await.expect("create a Semaphore");
    }

    /// Changes a semaphore's spec.
    pub(crate) async fn change(&self, name: &str, spec: &Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.semaphores().patch(name, &PatchParams::default(), &patch).await.expect("change a Semaphore");
    }

    /// Creates a claim on one permit.
    pub(crate) async fn claim(&self, semaphore: &str, name: &str) {
        self.claim_with(semaphore, name, &json!({})).await;
    }

    /// Creates a claim with these fields in its spec.
    pub(crate) async fn claim_with(&self, semaphore: &str, name: &str, fields: &Value) {
        let mut spec = json!({ "semaphore": semaphore, "holder": name, "instance": name });
        spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let permit = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a Permit");
        self.permits().create(&PostParams::default(), &permit).await.expect("create a Permit");
    }

    /// Releases or withdraws a claim.
    pub(crate) async fn release(&self, name: &str) {
        self.permits().delete(name, &DeleteParams::default()).await.expect("delete a Permit");
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
        let found = wait_for(&self.permits(), name, LIMIT, |permit| permit.status.as_ref().is_some_and(&wanted)).await;
        found.status.expect("it has one")
    }

    /// What the claim's status is now.
    pub(crate) async fn now(&self, name: &str) -> ClaimStatus {
        self.permits().get(name).await.expect("read a Permit").status.unwrap_or_default()
    }

    /// Waits until the semaphore's status is as wanted.
    pub(crate) async fn semaphore_status(
        &self,
        name: &str,
        wanted: impl Fn(&SemaphoreStatus) -> bool,
    ) -> SemaphoreStatus {
        let found =
            wait_for(&self.semaphores(), name, LIMIT, |semaphore| semaphore.status.as_ref().is_some_and(&wanted)).await;
        found.status.expect("it has one")
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
