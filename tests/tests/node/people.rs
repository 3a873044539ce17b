//! What a person sees and does with kubectl.

use konductor_api::{ClaimPhase, Permit, Semaphore};
use konductor_tests::{eventually, wait_for};
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::{LIMIT, Scene, delete, object};

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn kubectl_shows_who_holds_and_who_waits() {
    let scene = Scene::new("people").await;
    scene.semaphore("warehouse", json!({ "permits": 2, "ttl": "30m" })).await;
    claim(&scene, "first", 1).await;
    in_phase(&scene, "first", ClaimPhase::Granted).await;
    claim(&scene, "second", 2).await;
    in_phase(&scene, "second", ClaimPhase::Pending).await;
    claim(&scene, "third", 1).await;
    wait_for(&scene.api::<Permit>(), "third", LIMIT, |permit| {
        permit.status.as_ref().is_some_and(|status| status.ahead == Some(1))
    })
    .await;
    wait_for(&scene.api::<Semaphore>(), "warehouse", LIMIT, |semaphore| {
        semaphore.status.as_ref().is_some_and(|status| status.waiting == Some(2))
    })
    .await;

    for asked in ["semaphores", "sem"] {
        let table = Table::of(&scene.kubectl(&["get", asked]).await);
        assert_eq!(table.header, ["NAME", "PHASE", "PERMITS", "IN USE", "WAITING", "AGE"]);
        assert_eq!(table.row("warehouse")[..5], ["warehouse", "Available", "2", "1", "2"]);
    }
    for asked in ["permits", "pmt"] {
        let table = Table::of(&scene.kubectl(&["get", asked]).await);
        let columns = ["NAME", "SEMAPHORE", "PHASE", "PERMITS", "AHEAD", "HOLDER", "HELD", "RENEWED", "AGE"];
        assert_eq!(table.header, columns);
        assert_eq!(table.row("first")[..6], ["first", "warehouse", "Granted", "1", "", "first's job"]);
        assert!(!table.row("first")[6].is_empty() && table.row("second")[6].is_empty(), "{table:?}");
        assert_eq!(table.row("second")[..6], ["second", "warehouse", "Pending", "2", "0", "second's job"]);
        assert_eq!(table.row("third")[..6], ["third", "warehouse", "Pending", "1", "1", "third's job"]);
    }
    let all = scene.kubectl(&["get", "konductor", "--output", "name"]).await;
    let names = ["permit.konductor.io/first", "permit.konductor.io/second", "permit.konductor.io/third"];
    assert_eq!(all.lines().collect::<Vec<_>>(), [&names[..], &["semaphore.konductor.io/warehouse"]].concat());
    let theirs = scene.kubectl(&["get", "permits", "--field-selector", "spec.holder=third's job", "--output", "name"]);
    assert_eq!(theirs.await.trim(), "permit.konductor.io/third");

    let semaphore = scene.kubectl(&["describe", "semaphore", "warehouse"]).await;
    for fact in ["Ready", "Saturated", "1 of 2 permits in use, 2 waiting", "first's job"] {
        assert!(semaphore.contains(fact), "no {fact:?} in\n{semaphore}");
    }
    let waiter = scene.kubectl(&["describe", "permit", "third"]).await;
    for fact in ["Pending", "Ahead:", "waits for semaphore warehouse"] {
        assert!(waiter.contains(fact), "no {fact:?} in\n{waiter}");
    }
    let holder = scene.kubectl(&["describe", "permit", "first"]).await;
    for fact in ["Granted", "Fencing Token:", "Acquired At:", "Expires At:"] {
        assert!(holder.contains(fact), "no {fact:?} in\n{holder}");
    }
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn kubectl_waits_for_a_grant() {
    let scene = Scene::new("waits").await;
    scene.semaphore("one", json!({ "permits": 1, "ttl": "30m" })).await;
    claim(&scene, "first", 1).await;
    let granted = "--for=condition=Granted";
    scene.kubectl(&["wait", granted, "permit/first", "--timeout=3m"]).await;

    claim(&scene, "second", 1).await;
    in_phase(&scene, "second", ClaimPhase::Pending).await;
    let mut refused = scene.start_kubectl(&["wait", granted, "permit/second", "--timeout=1s"]);
    refused.expect_exit(LIMIT, 1).await;

    let mut waiting = scene.start_kubectl(&["wait", granted, "permit/second", "--timeout=3m"]);
    delete(&scene.api::<Permit>(), "first").await;
    waiting.expect_exit(LIMIT, 0).await;
    assert_eq!(waiting.stdout(), "permit.konductor.io/second condition met\n");
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn kubectl_scales_a_semaphore() {
    let scene = Scene::new("scales").await;
    scene.semaphore("one", json!({ "permits": 1, "ttl": "30m" })).await;
    for name in ["first", "second", "third"] {
        claim(&scene, name, 1).await;
    }
    in_phase(&scene, "first", ClaimPhase::Granted).await;
    in_phase(&scene, "third", ClaimPhase::Pending).await;

    scene.kubectl(&["scale", "semaphore/one", "--replicas=2"]).await;
    in_phase(&scene, "second", ClaimPhase::Granted).await;
    // Nobody loses a permit; nothing new is granted.
    scene.kubectl(&["scale", "semaphore/one", "--replicas=0"]).await;
    wait_for(&scene.api::<Semaphore>(), "one", LIMIT, |semaphore| {
        semaphore.status.as_ref().is_some_and(|status| status.in_use == Some(2) && status.available == Some(0))
    })
    .await;
    delete(&scene.api::<Permit>(), "first").await;
    eventually(LIMIT, "it is shown as paused", || async {
        let table = Table::of(&scene.kubectl(&["get", "semaphores"]).await);
        let row = &table.row("one")[..5];
        if row == ["one", "Paused", "0", "1", "1"] { Ok(()) } else { Err(row.join(" ")) }
    })
    .await;
    in_phase(&scene, "third", ClaimPhase::Pending).await;
}

/// Asks for permits as a person could, by an object.
async fn claim(scene: &Scene, name: &str, permits: u32) {
    let semaphores = scene.api::<Semaphore>().list(&kube::api::ListParams::default()).await.expect("list semaphores");
    let semaphore = semaphores.items[0].metadata.name.as_deref();
    let spec =
        json!({ "semaphore": semaphore, "permits": permits, "holder": format!("{name}'s job"), "instance": name });
    let permit = object(json!({ "metadata": { "name": name }, "spec": spec }));
    scene.api::<Permit>().create(&PostParams::default(), &permit).await.expect("make a permit");
}

async fn in_phase(scene: &Scene, name: &str, phase: ClaimPhase) {
    wait_for(&scene.api::<Permit>(), name, LIMIT, |permit| {
        permit.status.as_ref().is_some_and(|status| status.phase == Some(phase))
    })
    .await;
}

/// A table as kubectl prints it: columns begin where their headings do.
#[derive(Debug)]
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn of(text: &str) -> Self {
        let heading = text.lines().next().expect("a table has a heading");
        // Headings are set apart by three spaces at least; "IN USE" is one.
        let starts: Vec<_> = (0..heading.len())
            .filter(|at| *at == 0 || heading[..*at].ends_with("   ") && !heading[*at..].starts_with(' '))
            .collect();
        let cells = |line: &str| -> Vec<String> {
            let ends = starts.iter().skip(1).copied().chain([line.len()]);
            let cell = |(start, end): (&usize, usize)| line.get(*start..end.min(line.len())).unwrap_or("");
            starts.iter().zip(ends).map(cell).map(|cell| cell.trim().to_owned()).collect()
        };
        Self { header: cells(heading), rows: text.lines().skip(1).map(cells).collect() }
    }

    fn row(&self, name: &str) -> &[String] {
        self.rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.rows))
    }
}
