//! Every command with its output.

use serde_json::Value;

use crate::scene::{Scene, ages};

#[tokio::test]
async fn a_semaphore_from_its_creation_to_its_end() {
    let scene = Scene::new("koncli-semaphore").await;
    scene
        .says(
            "semaphore create warehouse --permits 2 --ttl 1m --queueing BestEffortFIFO",
            "semaphore.konductor.io/warehouse created\n",
        )
        .await;
    scene.says("wait sem/warehouse --for condition=Ready", "semaphore.konductor.io/warehouse Ready\n").await;
    let table = "\
NAME        PHASE       PERMITS   IN USE   WAITING   AGE
warehouse   Available   2         0        0         AGE
";
    scene.says("semaphore list", table).await;
    scene.says("sem ls --no-headers", "warehouse   Available   2   0   0   AGE\n").await;
    scene.says("semaphore list -o name", "semaphore.konductor.io/warehouse\n").await;
    scene.says("semaphore list -l app=none", "").await;
    scene
        .says("semaphore list --field-selector metadata.name=warehouse -o name", "semaphore.konductor.io/warehouse\n")
        .await;
    scene.says("semaphore list -o jsonpath={.items[*].spec.queueing}", "BestEffortFIFO\n").await;
    let token: u64 = scene.prints("semaphore acquire warehouse --holder a").await.trim().parse().expect("a token");
    let next: u64 = scene.prints("semaphore acquire warehouse --holder b").await.trim().parse().expect("a token");
    assert!(next > token, "fencing tokens rise");
    scene.comes_to_say("semaphore status warehouse -o jsonpath={.available}", "0\n").await;
    scene.says("status semaphore warehouse -o jsonpath={.holders[*]}", "a b\n").await;
    let screen = "\
semaphore/warehouse   Full   2 of 2 in use, 0 waiting
  held by a                  for AGE, expires in AGE
  held by b                  for AGE, expires in AGE
";
    let shown = scene.prints("status").await;
    assert_eq!(ages(&shown.replace("s,", "s ,")).replace("AGE ,", "AGE,"), screen);
    scene.says("semaphore resize warehouse --permits 3", "semaphore.konductor.io/warehouse resized\n").await;
    let claim: Value =
        serde_json::from_str(&scene.prints("semaphore acquire warehouse --holder c -o json").await).expect("JSON");
    assert_eq!(
        (&claim["kind"], &claim["spec"]["holder"], &claim["status"]["phase"]),
        (&"Permit".into(), &"c".into(), &"Granted".into())
    );
    let name = claim["metadata"]["name"].as_str().expect("a name").to_owned();
    scene.says("semaphore renew warehouse --holder c", &format!("permit.konductor.io/{name} renewed for AGE\n")).await;
    scene.says("semaphore release warehouse --holder c", &format!("permit.konductor.io/{name} released\n")).await;
    scene.says("semaphore release warehouse --holder c --ignore-not-found", "").await;
    scene.says("semaphore delete warehouse", "semaphore.konductor.io \"warehouse\" deleted\n").await;
    scene.says("semaphore delete warehouse --ignore-not-found", "").await;
}

#[tokio::test]
async fn a_lease_from_its_creation_to_its_end() {
    let scene = Scene::new("koncli-lease").await;
    scene.says("lease create report --ttl 10m", "lease.konductor.io/report created\n").await;
    scene.says("wait lease/report --for condition=Ready", "lease.konductor.io/report Ready\n").await;
    scene.comes_to_say("lease status report -o jsonpath={.available}", "1\n").await;
    let token = scene.prints("lease acquire report --holder nightly").await;
    scene.says("lease acquire report --holder nightly", &token).await;
    scene.comes_to_say("lease status report -o jsonpath={.holder}", "nightly\n").await;
    scene.comes_to_say("lease status report -o jsonpath={.fencingToken}", &token).await;
    let name = scene.prints("lease acquire report --holder nightly -o name").await.trim().to_owned();
    scene.says("lease renew report --holder nightly", &format!("{name} renewed for AGE\n")).await;
    scene.says("lease release report --holder nightly -q", "").await;
    scene.says("lease delete report -o name", "lease.konductor.io/report\n").await;
}

#[tokio::test]
async fn a_barrier_from_its_creation_to_its_end() {
    let scene = Scene::new("koncli-barrier").await;
    scene.says("barrier create stage --expected 2 --reset-after 24h", "barrier.konductor.io/stage created\n").await;
    scene.says("barrier arrive stage worker-1", "barrier.konductor.io/stage arrived (worker-1)\n").await;
    scene.says("barrier arrive stage --holder worker-1", "barrier.konductor.io/stage arrived (worker-1)\n").await;
    let waiting = scene.start("barrier wait stage --timeout 2m");
    waiting.wait_stderr(crate::scene::LIMIT, "waiting for barrier/stage: 1 of 2 have arrived").await;
    scene
        .says(
            "barrier arrive stage --key worker-2 --wait --timeout 2m",
            "barrier.konductor.io/stage arrived (worker-2)\nbarrier.konductor.io/stage open\n",
        )
        .await;
    let waited = crate::scene::ended(waiting).await;
    assert_eq!((waited.code, waited.stdout.as_str()), (0, "barrier.konductor.io/stage open\n"));
    scene.comes_to_say("barrier status stage -o jsonpath={.missing}", "0\n").await;
    scene.says("barrier status stage -o jsonpath={.open}", "true\n").await;
    scene.says("barrier reset stage", "barrier.konductor.io/stage reset\n").await;
    scene
        .says("wait barrier/stage --for condition=Open=False --timeout 2m", "barrier.konductor.io/stage Open=False\n")
        .await;
    scene.says("barrier status stage -o jsonpath={.arrived}", "0\n").await;
    let table = "\
NAME    PHASE     ARRIVED   EXPECTED   ROUND   AGE
stage   Waiting   0         2          1       AGE
";
    scene.says("barrier list", table).await;
    scene.says("barrier delete stage", "barrier.konductor.io \"stage\" deleted\n").await;
}

#[tokio::test]
async fn a_gate_from_its_creation_to_its_end() {
    let scene = Scene::new("koncli-gate").await;
    scene.says("gate create by-hand", "gate.konductor.io/by-hand created\n").await;
    scene
        .says("wait gate/by-hand --for condition=Open=False --timeout 2m", "gate.konductor.io/by-hand Open=False\n")
        .await;
    scene.says("gate open by-hand", "gate.konductor.io/by-hand opened\n").await;
    scene.says("gate wait by-hand --timeout 2m", "gate.konductor.io/by-hand open\n").await;
    scene.says("gate close by-hand", "gate.konductor.io/by-hand closed\n").await;
    scene
        .says("wait gate/by-hand --for condition=Open=False --timeout 2m", "gate.konductor.io/by-hand Open=False\n")
        .await;
    scene
        .fails(
            "gate auto by-hand",
            77,
            "error: Gate.konductor.io \"by-hand\" is invalid: spec: Invalid value: a gate without conditions is opened and closed by hand: set override\n",
        )
        .await;
    scene.semaphore("s", 1).await;
    scene
        .says(
            "gate create free --condition semaphore/s=Available --gate-timeout 1h",
            "gate.konductor.io/free created\n",
        )
        .await;
    scene.says("gate wait free --timeout 2m", "gate.konductor.io/free open\n").await;
    scene.says("gate close free", "gate.konductor.io/free closed\n").await;
    scene.says("gate auto free", "gate.konductor.io/free left to its conditions\n").await;
    scene.says("gate wait free --timeout 2m", "gate.konductor.io/free open\n").await;
    scene.says("gate status free -o jsonpath={.met}", "1\n").await;
    scene.says("gate status free -o jsonpath={.conditions[0].met}", "true\n").await;
    scene
        .says("gate delete by-hand free", "gate.konductor.io \"by-hand\" deleted\ngate.konductor.io \"free\" deleted\n")
        .await;
}

#[tokio::test]
async fn events_and_revocation() {
    let scene = Scene::new("koncli-events").await;
    scene.semaphore("s", 1).await;
    let name = scene.prints("semaphore acquire s --holder me -o name").await.trim().to_owned();
    scene.says("revoke semaphore/s --holder me --reason maintenance", &format!("{name} revoked\n")).await;
    scene
        .says(
            &format!("wait {} --for condition=Granted=False --timeout 2m", name.replace(".konductor.io", "")),
            &format!("{name} Granted=False\n"),
        )
        .await;
    let screen = ages(&scene.prints("status semaphore s").await);
    assert!(screen.contains("held by me") && screen.contains("was asked to end"), "{screen}");
    let renewed = scene.run("semaphore renew s --holder me").await;
    assert_eq!(renewed.code, 79, "{}", renewed.stderr);
    assert!(renewed.stderr.contains("asked to end") && renewed.stderr.contains("maintenance"), "{}", renewed.stderr);
    konductor_tests::eventually(crate::scene::LIMIT, "an event", || async {
        let events = scene.run("events semaphore/s").await;
        if events.code == 0 && events.stdout.contains("maintenance") { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    let events = scene.prints("events -o json").await;
    assert!(events.contains("\"kind\": \"Event"), "{events}");
    let refused = scene.run("revoke semaphore/s --holder me --force").await;
    assert_eq!(refused.code, 64, "nobody was asked: {}", refused.stderr);
    assert!(refused.stderr.contains("goes on beside the next holder"), "what it risks: {}", refused.stderr);
    let forced = scene.run("revoke semaphore/s --holder me --force -y").await;
    assert_eq!((forced.code, forced.stdout), (0, format!("{name} deleted\n")));
    assert!(forced.stderr.contains("goes on beside the next holder"), "also who is sure is told: {}", forced.stderr);
}

#[tokio::test]
async fn a_watch_shows_what_happens() {
    let scene = Scene::new("koncli-watch").await;
    let watching = scene.start("semaphore list -w --no-headers");
    scene.prints("semaphore create first --permits 1").await;
    watching.wait_stdout(crate::scene::LIMIT, "first").await;
    scene.prints("semaphore resize first --permits 7").await;
    watching.wait_stdout(crate::scene::LIMIT, "   7   ").await;
}

#[tokio::test]
async fn the_operator_is_shown_with_what_is_installed() {
    let scene = Scene::new("koncli-operator").await;
    let (installed, _) = crate::scene::shared().await;
    scene.comes_to_say(&format!("operator -n {} -o jsonpath={{.leader}}", installed.system.name), "shared\n").await;
    let line = format!("operator -n {}", installed.system.name);
    let summary: Value = serde_json::from_str(&scene.prints(&format!("{line} -o json")).await).expect("JSON");
    assert_eq!(summary["leader"], "shared");
    let crds: Vec<_> =
        summary["customResources"].as_array().expect("a list").iter().map(|crd| crd["name"].clone()).collect();
    assert_eq!(crds.len(), 7, "{crds:?}");
    assert_eq!(summary["unread"], serde_json::json!([]));
    let screen = scene.prints(&line).await;
    assert!(screen.contains("Leader:") && screen.contains("shared, for "), "{screen}");
    // Found without being told where.
    scene.says("operator -o jsonpath={.leader}", "shared\n").await;
    let none = scene.run(&format!("operator -n {}", scene.namespace.name)).await;
    assert_eq!(none.code, 78, "{none:?}");
}

#[tokio::test]
async fn names_are_completed_from_the_cluster() {
    let scene = Scene::new("koncli-complete").await;
    scene.semaphore("warehouse", 1).await;
    scene.prints("barrier create stage --expected 1").await;
    scene.comes_to_say("__complete -- semaphore acquire w", "warehouse\n:4\n").await;
    scene.comes_to_say("__complete -- wait barrier/", "barrier/stage\n:4\n").await;
    scene.comes_to_say("__complete -- wait bar", "barrier/\n:6\n").await;
    scene.comes_to_say("__complete -- status semaphore ware", "warehouse\n:4\n").await;
    let name = &scene.namespace.name;
    scene.comes_to_say(&format!("__complete -- semaphore list -n {name}"), &format!("{name}\n:4\n")).await;
    scene.comes_to_say("__complete -- --context te", "test\n:4\n").await;
    // Silent without a cluster.
    scene.says("__complete -- --kubeconfig /nowhere/config semaphore acquire w", ":4\n").await;
    let script = scene.prints("completion kubectl").await;
    assert!(script.starts_with("#!/bin/sh\n") && script.contains("kubectl-konductor __complete"), "{script}");
}

#[tokio::test]
async fn lists_are_lists_that_kubectl_reads() {
    let scene = Scene::new("koncli-lists").await;
    scene.semaphore("a", 1).await;
    scene.semaphore("b", 2).await;
    let list: Value = serde_json::from_str(&scene.prints("semaphore list -o json").await).expect("JSON");
    assert_eq!((&list["kind"], &list["apiVersion"]), (&"List".into(), &"v1".into()));
    let items = list["items"].as_array().expect("items");
    assert!(
        items.iter().all(|item| item["kind"] == "Semaphore" && item["apiVersion"] == "konductor.io/v1"),
        "{items:?}"
    );
    assert!(items.iter().all(|item| item["metadata"]["managedFields"].is_null()));
    let yaml = scene.prints("semaphore list -o yaml").await;
    assert!(yaml.contains("kind: List\n"), "{yaml}");
    let everywhere =
        scene.prints(&format!("semaphore list -A --field-selector metadata.namespace={}", scene.namespace.name)).await;
    let expected = format!("{}   a      Available", scene.namespace.name);
    assert!(everywhere.starts_with("NAMESPACE"), "{everywhere} {expected}");
    let created: Value =
        serde_json::from_str(&scene.prints("semaphore create c --permits 1 -o json").await).expect("JSON");
    assert_eq!(created["metadata"]["managedFields"], Value::Null);
    let shown = scene.prints("semaphore list -o json --show-managed-fields").await;
    assert!(shown.contains("\"manager\": \"koncli\""), "whose fields they are");
}

#[test]
fn the_chart_says_which_version_its_custom_resources_are_of() {
    let objects = konductor_tests::helm_template("konductor", "system", &[]);
    let definitions: Vec<_> = objects
        .iter()
        .filter(|object| object.types.as_ref().is_some_and(|types| types.kind == "CustomResourceDefinition"))
        .collect();
    assert_eq!(definitions.len(), 7);
    for definition in definitions {
        let labels = definition.metadata.labels.as_ref().expect("labels");
        assert_eq!(labels.get("app.kubernetes.io/version").map(String::as_str), Some(env!("CARGO_PKG_VERSION")));
    }
}
