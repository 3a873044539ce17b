//! No command needs more rights than its documented role.

use k8s_openapi::api::{core::v1::ResourceQuota, rbac::v1::PolicyRule};
use konductor_api::Barrier;
use konductor_tests::eventually;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::scene::{LIMIT, Scene};

#[tokio::test]
async fn who_may_look_can_look() {
    let admin = Scene::new("koncli-view").await;
    admin.semaphore("s", 1).await;
    admin.prints("semaphore acquire s --holder me").await;
    admin.prints("barrier create b --expected 1").await;
    admin.prints("barrier arrive b me --wait --timeout 2m").await;
    admin.prints("gate create g").await;
    let viewer = admin.with_role("konductor-view").await;
    for line in [
        "semaphore list",
        "lease list",
        "barrier list -o wide",
        "gate list -o json",
        "status",
        "status -o json",
        "semaphore status s",
        "barrier status b",
        "events",
        "events semaphore/s",
        "barrier wait b",
        "wait barrier/b",
        "wait semaphore/s --for condition=Ready",
        "wait semaphore/s --for condition=Ready -o yaml",
        "why semaphore/s",
        "why barrier/b",
        "why gate/g",
    ] {
        viewer.prints(line).await;
    }
    let claim = admin.prints("semaphore acquire s --holder me -o name").await.trim().replace(".konductor.io", "");
    viewer.prints(&format!("wait {claim}")).await;
    viewer.prints(&format!("why {claim}")).await;
    viewer.comes_to_say("__complete -- semaphore status s", "s\n:4\n").await;
    viewer.comes_to_say("__complete -- why barrier/", "barrier/b\n:4\n").await;
    // What it may not complete, it is silent about.
    viewer.says("__complete -- semaphore list -n kube", ":4\n").await;
    let (events, status) = (viewer.start("events -w"), viewer.start("semaphore status s -w -o jsonpath={.permits}"));
    status.wait_stdout(crate::scene::LIMIT, "1\n").await;
    admin.prints("revoke semaphore/s --holder me --reason maintenance").await;
    admin.prints("semaphore resize s --permits 7").await;
    events.wait_stdout(crate::scene::LIMIT, "maintenance").await;
    status.wait_stdout(crate::scene::LIMIT, "7\n").await;
    // Of the operator it may see nothing: that is told, and how to see more; nothing else is made of it.
    let operator = viewer.run(&format!("operator -n {}", admin.system)).await;
    assert_eq!(operator.code, 77, "{operator:?}");
    assert!(operator.stdout.contains("Leader:") && operator.stdout.contains("not known"), "{operator:?}");
    assert!(operator.stdout.contains("Not read:") && operator.stdout.contains("the election: "), "{operator:?}");
    for line in ["semaphore create x --permits 1", "semaphore acquire s --timeout 0", "barrier arrive b", "gate open g"]
    {
        assert_eq!(viewer.run(line).await.code, 77, "{line}");
    }
}

#[tokio::test]
async fn who_may_list_and_not_watch_is_shown_it_once_and_told_what_is_missing() {
    let admin = Scene::new("koncli-list").await;
    admin.semaphore("s", 1).await;
    let lister = admin.without_rights("lister").await;
    let rule = PolicyRule {
        api_groups: Some(vec!["konductor.io".into()]),
        resources: Some(["semaphores", "permits"].map(Into::into).into()),
        verbs: ["get", "list"].map(Into::into).into(),
        ..PolicyRule::default()
    };
    admin.namespace.allow("lister", &[rule]).await;
    for line in ["semaphore status s", "semaphore status", "status semaphore s"] {
        assert_eq!(lister.run(line).await.code, 0, "{line}");
        let ran = lister.run(&format!("{line} -w -o name")).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (77, "semaphore.konductor.io/s\n"), "{line}: {}", ran.stderr);
        // Whichever of the two is refused first.
        let refused = ["semaphores", "permits"].map(|what| format!("cannot watch resource \"{what}\""));
        assert!(refused.iter().any(|refused| ran.stderr.contains(refused)), "{line}: {}", ran.stderr);
        assert!(!ran.stderr.contains("trying again"), "{line}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn a_workload_can_hold_wait_and_arrive() {
    let admin = Scene::new("koncli-workload").await;
    admin.semaphore("s", 1).await;
    admin.prints("lease create l").await;
    admin.prints("barrier create b --expected 1").await;
    admin.prints("gate create g").await;
    admin.prints("gate open g").await;
    let workload = admin.with_role("konductor-workload").await;
    for line in [
        "semaphore acquire s --holder me --timeout 2m",
        "semaphore acquire s --holder me --timeout 2m -o json",
        "semaphore renew s --holder me",
        "semaphore release s --holder me",
        "lease acquire l --holder me --timeout 2m",
        "lease renew l --holder me",
        "lease release l --holder me",
        "barrier arrive b me",
        "barrier wait b --timeout 2m",
        "gate wait g --timeout 2m",
        "wait barrier/b gate/g --timeout 2m",
        "wait barrier/b --timeout 2m -o json",
        "barrier arrive b me -o json",
    ] {
        workload.prints(line).await;
    }
    let name = workload.prints("semaphore acquire s --holder me --timeout 2m -o name").await;
    let claim = name.trim().replace(".konductor.io", "");
    workload.prints(&format!("wait {claim} --timeout 2m")).await;
    // What it waits for in vain, it is told as far as it may see it.
    let vain = workload.run("semaphore acquire s --holder another --timeout 0").await;
    assert_eq!(vain.code, 75, "{vain:?}");
    assert!(vain.stderr.contains("(holder another) has waited"), "its own place: {}", vain.stderr);
    workload.comes_to_say("__complete -- barrier wait b", "b\n:4\n").await;
    for line in ["semaphore create x --permits 1", "semaphore resize s --permits 5", "gate close g", "semaphore list"] {
        assert_eq!(workload.run(line).await.code, 77, "{line}");
    }
}

#[tokio::test]
async fn who_may_edit_can_do_all_of_it() {
    let admin = Scene::new("koncli-edit").await;
    let editor = admin.with_role("konductor-edit").await;
    for line in [
        "semaphore create s --permits 1",
        "semaphore resize s --permits 2",
        "semaphore acquire s --holder me --timeout 2m",
        "revoke semaphore/s --holder me",
        "revoke semaphore/s --holder me --force -y",
        "lease create l",
        "barrier create b --expected 1",
        "barrier arrive b me",
        "barrier reset b",
        "gate create g",
        "gate open g",
        "gate close g",
        "status",
        "semaphore delete s",
        "lease delete l",
        "barrier delete b",
        "gate delete g",
    ] {
        editor.prints(line).await;
    }
}

#[tokio::test]
async fn a_barrier_is_not_deleted_by_who_may_not_create_it_again() {
    let admin = Scene::new("koncli-reset").await;
    admin.prints("barrier create b --expected 2").await;
    let deleter = admin.without_rights("deleter").await;
    let rule = PolicyRule {
        api_groups: Some(vec!["konductor.io".into()]),
        resources: Some(["barriers", "arrivals"].map(Into::into).into()),
        verbs: ["get", "list", "watch", "delete"].map(Into::into).into(),
        ..PolicyRule::default()
    };
    admin.namespace.allow("deleter", &[rule]).await;
    let barriers = admin.namespace.api::<Barrier>();
    let uid = async || barriers.get("b").await.expect("the barrier").metadata.uid;
    let before = uid().await;
    let ran = deleter.run("barrier reset b").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (77, ""), "{ran:?}");
    assert!(ran.stderr.contains("barrier/b is left as it is") && ran.stderr.contains("cannot create"), "{ran:?}");
    assert!(ran.stderr.contains("--clusterrole=konductor-edit"), "what would help: {ran:?}");
    assert_eq!(uid().await, before);
    // A quota has no room for it beside the old one.
    let quotas = admin.namespace.api::<ResourceQuota>();
    let (count, apply) = ("count/barriers.konductor.io", PatchParams::apply("test").force());
    let spec = json!({ "hard": { count: "1" } });
    let quota =
        json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "barriers" }, "spec": spec });
    quotas.patch("barriers", &apply, &Patch::Apply(&quota)).await.expect("apply a quota");
    let status = json!({ "status": { "hard": { count: "1" }, "used": { count: "1" } } });
    quotas.patch_status("barriers", &PatchParams::default(), &Patch::Merge(&status)).await.expect("write its status");
    eventually(LIMIT, "the quota is in force", || async {
        let ran = admin.run("barrier create other --expected 2 --dry-run=server").await;
        if ran.stderr.contains("exceeded quota") { Ok(()) } else { Err(format!("{ran:?}")) }
    })
    .await;
    let ran = admin.run("barrier reset b").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (77, ""), "{ran:?}");
    assert!(ran.stderr.contains("exceeded quota") && ran.stderr.contains("takes room for one more"), "{ran:?}");
    assert_eq!(uid().await, before);
}
