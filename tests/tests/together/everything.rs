//! All kinds of trouble in one run.

use std::time::Duration;

use konductor_tests::{Process, Signal};

use crate::holders::{contained, kill_wrapper};
use crate::scene::{LIMIT, SHORT, Scene, WITNESS, all_succeed, exclusive};

/// Holders are killed without proof of their death, leaders and the API server right after them: each new leader has to
/// wait for what it has not seen itself, and nobody may be let in early or be kept out for good.
#[tokio::test]
async fn holders_leaders_and_the_api_server_end_one_after_another() {
    const PERMITS: usize = 3;
    let (mut control_plane, installed) = exclusive().await;
    let start = |name: &str| installed.operator(name, &["--lease-duration", "2s"]);
    let mut operators = [start("first"), start("second")];
    let scene = Scene::new(&control_plane, "everything").await;
    scene.semaphore(0).await;
    let mut crowd = scene.crowd(40, &["--ttl", "20s", "--grace", "1s"], Duration::from_millis(200));
    scene.waiting(40).await;
    scene.resize(PERMITS as u32).await;
    for round in 0..4 {
        let record = scene.record.path().to_str().expect("test folders have UTF-8 names");
        let endless = [WITNESS, record, "600000"];
        let flags = [&["--priority", "1"][..], &SHORT].concat();
        let run = scene.command(&format!("victim-{round}"), &flags, &endless);
        let mut victim = Process::spawn("victim", contained(&run, None));
        victim.wait_stderr(LIMIT, "holding semaphore s").await;
        kill_wrapper(&mut victim).await;
        if round % 2 == 0 {
            let operator = &mut operators[round / 2];
            operator.signal(Signal::SIGKILL);
            operator.expect_exit(LIMIT, 137).await;
            *operator = start(&format!("next-{round}"));
        } else {
            control_plane.api_server.stop();
            control_plane.api_server.start().await;
        }
    }
    all_succeed(&mut crowd).await;
    scene.record.assert_never_more_than(PERMITS);
    let ended = scene.record.runs().iter().filter(|run| run.ended).count();
    assert_eq!(ended, 40, "{:?}", scene.record.runs());
}
