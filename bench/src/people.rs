//! What a command costs that people and scripts type, beside kubectl's cheapest request for the same object.

use std::path::Path;

use konductor_api::{Barrier, RendezvousPhase};
use konductor_tests::wait_for;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::Effort;
use crate::footprint::size;
use crate::scene::{LIMIT, Scene};
use crate::table::{Row, Table};
use crate::whole::in_turns;

/// The barrier that is open.
const NAME: &str = "open";

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    let koncli = |arguments: &[&str]| scene.client_program(&scene.programs.koncli, arguments);
    let barriers: Api<Barrier> = scene.namespace.api();
    let barrier = json!({ "metadata": { "name": NAME }, "spec": { "expected": 1 } });
    let barrier = serde_json::from_value(barrier).expect("a Barrier");
    barriers.create(&PostParams::default(), &barrier).await.expect("create a Barrier");
    let arrived = koncli(&["barrier", "arrive", NAME, "--key", "one"]).output().expect("run koncli");
    assert!(arrived.status.success(), "{}", String::from_utf8_lossy(&arrived.stderr));
    let is_open =
        |barrier: &Barrier| barrier.status.as_ref().and_then(|status| status.phase) == Some(RendezvousPhase::Open);
    wait_for(&barriers, NAME, LIMIT, is_open).await;
    let path = format!("/apis/konductor.io/v1/namespaces/{}/barriers/{NAME}", scene.namespace.name);
    let mut commands = [
        ("koncli", koncli(&["barrier", "wait", NAME])),
        ("kubectl", scene.client_program(Path::new("kubectl"), &["get", "--raw", &path])),
    ];
    let samples = in_turns(&mut commands, effort.runs);
    let (ours, theirs) = (&samples[0].1, &samples[1].1);
    let row = Row::new("`koncli barrier wait` on an open barrier, start to exit", ours.show(" ms"));
    table.push(
        row.beside(format!("`kubectl get --raw` of it: {}", theirs.show(" ms")))
            .ratio(ours.median() / theirs.median())
            .goal("<= 1.0"),
    );
    let row = Row::new("`koncli`, size, static", format!("{} MB", size(&scene.programs.koncli)));
    table.push(row.goal("<= 15 MB"));
}
