//! Waiting: until it is so, until the time is up, until a signal comes; and never longer.

use k8s_openapi::api::batch::v1::Job;
use konductor_tests::Signal;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::scene::{LIMIT, Scene, ended};

#[tokio::test]
async fn a_wait_that_is_in_vain_says_for_what_and_ends_with_75() {
    let scene = Scene::new("koncli-vain").await;
    scene.prints("barrier create b --expected 2").await;
    scene.prints("wait barrier/b --for condition=Ready --timeout 2m").await;
    let ran = scene.run("barrier wait b --timeout 15s").await;
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("in vain for barrier/b: 0 of 2 have arrived"), "{}", ran.stderr);
    let ran = scene.run("barrier wait b --timeout 0").await;
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let ran = scene.run("barrier wait none --timeout 0").await;
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let ran = scene.run("gate wait none --timeout 15s").await;
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("gate/none, which does not exist"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_barrier_that_has_failed_ends_the_waiting_with_76() {
    let scene = Scene::new("koncli-failed").await;
    scene.prints("barrier create b --expected 2 --timeout 1s").await;
    scene.prints("barrier arrive b me").await;
    let ran = scene.run("barrier wait b --timeout 2m").await;
    assert_eq!(ran.code, 76, "{}", ran.stderr);
    scene.says("wait barrier/b --for failed", "barrier.konductor.io/b failed\n").await;
}

#[tokio::test]
async fn a_job_is_waited_for_until_it_is_complete_or_has_failed() {
    let scene = Scene::new("koncli-job").await;
    let jobs = scene.namespace.api::<Job>();
    let job = |name: &str| {
        let template =
            json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "none" }] } });
        serde_json::from_value::<Job>(
            json!({ "metadata": { "name": name }, "spec": { "template": template, "suspend": false } }),
        )
        .expect("a job")
    };
    for name in ["good", "bad"] {
        jobs.create(&PostParams::default(), &job(name)).await.expect("create a job");
    }
    let waiting = scene.start("wait job/good --timeout 2m");
    waiting.wait_stderr(LIMIT, "waiting for job/good").await;
    let at = "2026-01-01T00:00:00Z";
    let ended_with = |kind: &str, before: &str| {
        let condition = |kind: &str| json!({ "type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": at });
        let mut status = json!({ "startTime": at, "conditions": [condition(before), condition(kind)] });
        if kind == "Complete" {
            status["completionTime"] = json!(at);
            status["succeeded"] = json!(1);
        }
        Patch::Merge(json!({ "status": status }))
    };
    let parameters = PatchParams::default();
    jobs.patch_status("good", &parameters, &ended_with("Complete", "SuccessCriteriaMet")).await.expect("complete it");
    let ran = ended(waiting).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "job.batch/good complete\n"), "{}", ran.stderr);
    jobs.patch_status("bad", &parameters, &ended_with("Failed", "FailureTarget")).await.expect("fail it");
    scene.fails("wait job/bad", 76, "error: job/bad will not be complete: it has failed (R: m)\n").await;
    let both = scene.run("wait job/good job/bad").await;
    assert_eq!(both.code, 76, "{}", both.stderr);
    scene.says("wait job/bad --for failed", "job.batch/bad failed\n").await;
}

#[tokio::test]
async fn a_signal_ends_the_waiting_and_withdraws() {
    let scene = Scene::new("koncli-signal").await;
    scene.semaphore("s", 1).await;
    scene.prints("semaphore acquire s --holder first").await;
    for (signal, code) in [(Signal::SIGINT, -2), (Signal::SIGTERM, -15)] {
        let mut waiting = scene.start("semaphore acquire s --holder second");
        waiting.wait_stderr(LIMIT, "waiting for semaphore/s: next in line").await;
        waiting.signal(signal);
        let ran = ended(waiting).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
        scene.comes_to_say("semaphore status s -o jsonpath={.claims[*].holder}", "first\n").await;
    }
}

#[tokio::test]
async fn an_acquire_waits_for_its_turn_and_gives_up_in_time() {
    let scene = Scene::new("koncli-turn").await;
    scene.semaphore("s", 2).await;
    scene.prints("semaphore acquire s --holder first --permits 2").await;
    let ran = scene.run("semaphore acquire s --holder second --timeout 0").await;
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let ran = scene.run("semaphore acquire s --holder second --timeout 15s").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (75, ""), "{}", ran.stderr);
    scene.comes_to_say("semaphore status s -o jsonpath={.claims[*].holder}", "first\n").await;
    let waiting = scene.start("semaphore acquire s --holder second --timeout 2m");
    waiting.wait_stderr(LIMIT, "waiting for semaphore/s: next in line").await;
    scene.prints("semaphore release s --holder first").await;
    let ran = ended(waiting).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.trim().parse::<u64>().is_ok(), "{}", ran.stdout);
    let ran = scene.run("semaphore acquire none --timeout 0").await;
    assert_eq!(ran.code, 78, "{}", ran.stderr);
}

#[tokio::test]
async fn what_is_not_renewed_is_free_after_its_time_to_live() {
    let scene = Scene::new("koncli-ttl").await;
    scene.semaphore("s", 1).await;
    scene.prints("semaphore acquire s --holder first --ttl 5s").await;
    let ran = scene.run("semaphore acquire s --holder second --timeout 2m").await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let renewed = scene.run("semaphore renew s --holder first").await;
    assert_eq!(renewed.code, 78, "it has expired: {}", renewed.stderr);
    // What has expired makes room for the same holder.
    scene.prints("semaphore release s --holder second").await;
    let token = scene.prints("semaphore acquire s --holder first --timeout 2m").await;
    assert!(token.trim().parse::<u64>().is_ok(), "{token}");
}
