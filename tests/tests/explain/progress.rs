//! What who waits at a terminal is told.

use konductor_api::{ClaimPhase, Semaphore};
use konductor_tests::{Binaries, ControlPlane};
use serde_json::json;

use crate::{
    scene::{LIMIT, create, namespace, permit, phase},
    terminal::Terminal,
};

#[tokio::test]
async fn one_line_tells_the_position_the_holder_and_the_time_and_nothing_of_it_is_a_result() {
    let namespace = namespace("progress").await;
    create::<Semaphore>(&namespace, "warehouse", &json!({ "permits": 1 })).await;
    for (name, wanted) in [("first", ClaimPhase::Granted), ("second", ClaimPhase::Pending)] {
        permit(&namespace, name, "warehouse", &json!({ "ttl": "24h" })).await;
        phase(&namespace, name, wanted).await;
    }
    let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
    let variables = [
        ("koncli", path(Binaries::built().koncli())),
        ("KUBECONFIG", path(ControlPlane::shared().await.admin_kubeconfig())),
        ("KONCLI_NAMESPACE", namespace.name.clone()),
    ];
    let terminal = Terminal::open((120, 24), &variables).await;
    terminal.line("$koncli semaphore acquire warehouse --holder me >$folder/result");
    let is_told = |screen: &str| {
        let line = screen.lines().find(|line| line.starts_with("waiting for semaphore/warehouse: 1 ahead; "));
        line.is_some_and(|line| line.contains("; held by first (") && line.ends_with("s)"))
    };
    let screen = terminal.until(LIMIT, "position, holder and time on one line", is_told).await;
    assert_eq!(screen.matches("waiting for").count(), 1, "it is written over: {screen}");
    terminal.press(&["C-c"]);
    // What is typed before the line is cleared would move the cursor away from it.
    terminal.until(LIMIT, "nothing is left of it", |screen| !screen.contains("waiting for")).await;
    // What stands behind it on a line is not done any more: a shell sees that a signal has ended it.
    terminal.line("echo ended with $?");
    terminal.until(LIMIT, "its end", |screen| screen.contains("ended with 130")).await;
    assert_eq!(terminal.note("result"), "");
}
