//! What is said of objects in a real cluster.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Node, Pod},
    rbac::v1::PolicyRule,
};
use konductor_api::{Arrival, Barrier, ClaimPhase, Gate, RendezvousPhase, Semaphore};
use konductor_tests::{ControlPlane, wait_for};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::scene::{LIMIT, create, koncli, namespace, permit, phase, status, steady};

#[tokio::test]
async fn a_waiting_claim_is_told_who_holds_and_what_would_free_it() {
    let namespace = namespace("why").await;
    let admin = ControlPlane::shared().await.admin_kubeconfig().to_owned();
    let nodes: Api<Node> = Api::all(namespace.client.clone());
    let node = format!("node-{}", namespace.name);
    let object = serde_json::from_value(json!({ "metadata": { "name": node } })).expect("a node");
    nodes.create(&PostParams::default(), &object).await.expect("create a node");
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "lastHeartbeatTime": "2026-01-01T00:00:00Z" }]);
    status(&nodes, &node, &json!({ "conditions": ready })).await;
    let spec = json!({ "nodeName": node, "containers": [{ "name": "main", "image": "none" }] });
    let pod: Pod = create(&namespace, "etl-0", &spec).await;
    namespace.pod_status("etl-0", "Running", &[]).await;
    let uid = pod.metadata.uid.expect("a UID");

    create::<Semaphore>(&namespace, "warehouse", &json!({ "permits": 1 })).await;
    let of_pod = json!({ "pod": { "name": "etl-0", "uid": uid, "container": "main", "start": "s" } });
    permit(&namespace, "a", "warehouse", &of_pod).await;
    phase(&namespace, "a", ClaimPhase::Granted).await;
    permit(&namespace, "b", "warehouse", &json!({})).await;
    phase(&namespace, "b", ClaimPhase::Pending).await;

    let holder = "permit/a (holder a) has held 1 permit of semaphore/warehouse for #, TTL #\n\
         \x20 its pod/etl-0, container main, is Running on node node-NS, which is ready\n\
         \x20 free when its holder releases it; or its container ends; or it is not renewed for # more; or it is asked to \
         end: koncli revoke semaphore/warehouse --holder a -n NS\n";
    let indented: Vec<_> = holder.lines().map(|line| format!("    {line}\n")).collect();
    let waits = format!(
        "permit/b (holder b) has waited for # for 1 permit of semaphore/warehouse\n\
         \x20 semaphore/warehouse: 1 of 1 permit in use by 1 claim, 1 claim waits\n{}\
         \x20 nobody is in front: its turn is when 1 permit is free, now 0\n\
         \x20 when its turn is cannot be told: no holder is known to have ended so far\n",
        indented.concat()
    );
    let (code, out, error) = koncli(&admin, &namespace, &["why", "permit/b"]).await;
    assert_eq!((code, steady(&out, &namespace), error.as_str()), (0, waits, ""));
    let (code, out, _) = koncli(&admin, &namespace, &["why", "pod/etl-0"]).await;
    let of_pod = format!("pod/etl-0 is Running on node node-NS\n{holder}");
    assert_eq!((code, steady(&out, &namespace)), (0, of_pod));

    let (code, out, _) = koncli(&admin, &namespace, &["why", "permit/b", "-o", "json"]).await;
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &answer["kind"], &answer["reasons"][0]["code"]), (0, &json!("Why"), &json!("Waits")));
    let (_, out, _) =
        koncli(&admin, &namespace, &["why", "permit/b", "-o", "jsonpath={.reasons[0].because[*].code}"]).await;
    assert_eq!(out, "Lock Next Estimate\n");

    nodes.delete(&node, &DeleteParams::default()).await.expect("delete the node");
    let (_, out, _) = koncli(&admin, &namespace, &["why", "pod/etl-0"]).await;
    let out = steady(&out, &namespace);
    assert!(out.contains("node node-NS does not exist any more\n  free when it is not renewed for # more\n"), "{out}");
}

#[tokio::test]
async fn what_does_not_exist_names_the_nearest_and_has_the_exit_code_for_it() {
    let namespace = namespace("absent").await;
    let admin = ControlPlane::shared().await.admin_kubeconfig().to_owned();
    create::<Semaphore>(&namespace, "warehouse", &json!({ "permits": 0 })).await;
    let (code, out, error) = koncli(&admin, &namespace, &["why", "semaphore/warehuose"]).await;
    let absent = "semaphore/warehuose does not exist in namespace NS; did you mean semaphore/warehouse?\n";
    assert_eq!((code, steady(&out, &namespace).as_str(), error.as_str()), (78, absent, ""));
    permit(&namespace, "lost", "warehose", &json!({})).await;
    phase(&namespace, "lost", ClaimPhase::Pending).await;
    let (code, out, _) = koncli(&admin, &namespace, &["why", "permit/lost"]).await;
    let lost = "permit/lost (holder lost) has waited for # for 1 permit of semaphore/warehose\n  semaphore/warehose does \
                not exist in namespace NS; did you mean semaphore/warehouse?\n";
    assert_eq!((code, steady(&out, &namespace).as_str()), (0, lost));
    let (code, _, error) = koncli(&admin, &namespace, &["why", "arrival/x"]).await;
    assert_eq!(code, 64, "{error}");
}

#[tokio::test]
async fn a_gate_and_a_barrier_say_what_is_missing() {
    let namespace = namespace("missing").await;
    let admin = ControlPlane::shared().await.admin_kubeconfig().to_owned();
    let container =
        json!({ "name": "main", "image": "none", "env": [{ "name": "KONDUCTOR_BARRIER", "value": "done" }] });
    let template = json!({ "spec": { "restartPolicy": "Never", "containers": [container] } });
    create::<Job>(&namespace, "load", &json!({ "template": template })).await;
    create::<Barrier>(&namespace, "done", &json!({ "expected": 2 })).await;
    create::<Arrival>(&namespace, "a", &json!({ "barrier": "done", "holder": "somebody", "key": "k" })).await;
    let conditions = json!([{ "type": "Barrier", "name": "done", "state": "Open" }]);
    create::<Gate>(&namespace, "g", &json!({ "conditions": conditions })).await;
    wait_for(&namespace.api::<Barrier>(), "done", LIMIT, |barrier| {
        barrier.status.as_ref().and_then(|status| status.arrived) == Some(1)
    })
    .await;
    wait_for(&namespace.api::<Gate>(), "g", LIMIT, |gate| {
        gate.status.as_ref().is_some_and(|status| {
            status.phase == Some(RendezvousPhase::Waiting)
                && status.condition_statuses.iter().any(|one| one.message.contains("is waiting"))
        })
    })
    .await;
    let (code, out, _) = koncli(&admin, &namespace, &["why", "gate/g"]).await;
    let expected = "gate/g has waited for #: 0 of 1 condition met\n\
        \x20 condition 1, barrier done is to be Open: not met: Barrier done is waiting, wanted Open\n\
        \x20   barrier/done waits: 1 of 2 have arrived, round 1\n\
        \x20     not arrived: job/load, which is active\n\
        \x20     arrived # ago: somebody, key k\n\
        \x20   met when barrier/done is open\n";
    assert_eq!((code, steady(&out, &namespace).as_str()), (0, expected));

    // Who has waited in vain is told the same in short.
    let (code, _, error) = koncli(&admin, &namespace, &["barrier", "wait", "done", "--timeout", "15s"]).await;
    assert_eq!(code, 75, "{error}");
    assert!(error.contains("barrier/done waits: 1 of 2 have arrived, round 1"), "{error}");
    assert!(error.contains("not arrived: job/load, which is active"), "{error}");
}

#[tokio::test]
async fn who_may_only_view_gets_an_answer_with_its_gaps_named() {
    let namespace = namespace("view").await;
    namespace.service_account("viewer").await;
    namespace.service_account("nobody").await;
    namespace.bind_cluster_role("viewer", "konductor-view").await;
    create::<Semaphore>(&namespace, "s", &json!({ "permits": 1 })).await;
    let of_pod = json!({ "pod": { "name": "etl-0", "uid": "u", "container": "main", "start": "s" } });
    permit(&namespace, "a", "s", &of_pod).await;
    phase(&namespace, "a", ClaimPhase::Granted).await;
    permit(&namespace, "b", "s", &json!({})).await;
    phase(&namespace, "b", ClaimPhase::Pending).await;
    let viewer = namespace.service_account_kubeconfig("viewer").await;
    let (code, out, _) = koncli(&viewer, &namespace, &["why", "permit/b"]).await;
    let out = steady(&out, &namespace);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("permit/a (holder a) has held 1 permit of semaphore/s for #, TTL #\n"), "{out}");
    let gaps = "Not known:\n  leases.coordination.k8s.io in namespace konductor-system: RBAC does not allow to get them\n  \
                pods in namespace NS: RBAC does not allow to get them; kubectl create rolebinding koncli-view \
                --clusterrole=view --serviceaccount=NS:viewer --namespace=NS would\n";
    assert!(out.ends_with(gaps), "{out}");

    let nobody = namespace.service_account_kubeconfig("nobody").await;
    let (code, out, error) = koncli(&nobody, &namespace, &["why", "permit/b"]).await;
    let help = "kubectl create rolebinding koncli-konductor-view --clusterrole=konductor-view \
                --serviceaccount=NS:nobody --namespace=NS";
    assert_eq!((code, out.as_str()), (77, ""));
    assert!(steady(&error, &namespace).contains(help), "{error}");
    let (code, out, _) = koncli(&nobody, &namespace, &["why", "permit/b", "-o", "jsonpath={.unread[0].why}"]).await;
    assert_eq!((code, out.as_str()), (77, "Forbidden\n"));
    let rule = PolicyRule {
        api_groups: Some(vec!["konductor.io".into()]),
        resources: Some(vec!["permits".into()]),
        verbs: vec!["get".into()],
        ..PolicyRule::default()
    };
    namespace.allow("nobody", &[rule]).await;
    let (code, out, _) = koncli(&nobody, &namespace, &["why", "permit/b"]).await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("semaphores.konductor.io"), "{out}");
}
