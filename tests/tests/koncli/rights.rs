//! No command needs more rights than its documented role.

use crate::scene::Scene;

#[tokio::test]
async fn who_may_look_can_look() {
    let admin = Scene::new("koncli-view").await;
    admin.semaphore("s", 1).await;
    admin.prints("semaphore acquire s --holder me").await;
    admin.prints("barrier create b --expected 1").await;
    admin.prints("barrier arrive b me --wait --timeout 60s").await;
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
    ] {
        viewer.prints(line).await;
    }
    for line in ["semaphore create x --permits 1", "semaphore acquire s --timeout 0", "barrier arrive b", "gate open g"]
    {
        assert_eq!(viewer.run(line).await.code, 77, "{line}");
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
        "semaphore acquire s --holder me --timeout 60s",
        "semaphore acquire s --holder me --timeout 60s -o json",
        "semaphore renew s --holder me",
        "semaphore release s --holder me",
        "lease acquire l --holder me --timeout 60s",
        "lease renew l --holder me",
        "lease release l --holder me",
        "barrier arrive b me",
        "barrier wait b --timeout 60s",
        "gate wait g --timeout 60s",
        "wait barrier/b gate/g --timeout 60s",
    ] {
        workload.prints(line).await;
    }
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
        "semaphore acquire s --holder me --timeout 60s",
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
