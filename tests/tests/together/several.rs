//! Several semaphores at once, and more than one permit of each.

use std::time::Duration;

use konductor_tests::{Process, Signal};

use crate::scene::{IN_VAIN, LIMIT, Scene, WITNESS, all_succeed, shared};

/// What is taken last is asked for first.
const OPPOSITE: [&str; 4] = ["--semaphore", "b", "--semaphore", "a"];

/// A namespace with the semaphores `a` and `b` of so many permits.
async fn two(prefix: &str, permits: [u32; 2]) -> Scene {
    let scene = shared(prefix).await;
    for (name, permits) in ["a", "b"].into_iter().zip(permits) {
        scene.semaphore_called(name, permits).await;
    }
    scene
}

/// A witness, with its token of `semaphore`, that holds for so long.
fn witness(scene: &Scene, holder: &str, flags: &[&str], semaphore: &str, hold: Duration) -> Process {
    let script = format!("export KONDUCTOR_FENCING_TOKEN=$KONDUCTOR_TOKEN_SEMAPHORE_{semaphore}; exec \"$@\"");
    let record = scene.record.path().to_str().expect("test folders have UTF-8 names");
    scene.run(holder, flags, &["sh", "-c", &script, "sh", WITNESS, record, &hold.as_millis().to_string()])
}

#[tokio::test]
async fn a_crowd_that_asks_in_opposite_orders_gets_through() {
    let scene = two("crowd", [2, 3]).await;
    let weights: [&[&str]; 4] = [
        &["--semaphore", "a:2", "--semaphore", "b"],
        &["--semaphore", "b:3", "--semaphore", "a"],
        &["--semaphore", "b:2", "--semaphore", "a:2"],
        &["--semaphore", "a", "--semaphore", "b:2"],
    ];
    let start = |number: usize| {
        let flags = weights[number % weights.len()];
        // `b` is taken last, so its tokens are in the order in which they have everything.
        witness(&scene, &format!("client-{number}"), flags, "B", Duration::from_millis(20))
    };
    let mut crowd: Vec<_> = (0..24).map(start).collect();
    all_succeed(&mut crowd).await;
    // Any two of them want more of `a` or of `b` than there is.
    scene.record.assert_complete(24, 1);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn weights_count() {
    let scene = two("weights", [5, 1]).await;
    // Three and three are more than five.
    let flags = ["--semaphore", "a:3"];
    let start = |number: usize| witness(&scene, &format!("client-{number}"), &flags, "A", Duration::from_millis(20));
    let mut crowd: Vec<_> = (0..6).map(start).collect();
    all_succeed(&mut crowd).await;
    scene.record.assert_complete(6, 1);
}

#[tokio::test]
async fn the_command_is_told_all_that_it_holds() {
    let scene = two("all", [1, 3]).await;
    let script = "echo $KONDUCTOR_HELD; test -z \"${KONDUCTOR_FENCING_TOKEN+set}\" && \
                  test \"$KONDUCTOR_TOKEN_SEMAPHORE_A\" -gt 0 && test \"$KONDUCTOR_TOKEN_SEMAPHORE_B\" -gt 0";
    let mut command = scene.command("client", &[], &["sh", "-c", script]);
    // An outer one's token is not that of what is held here.
    command.env("KONDUCTOR_SEMAPHORE", "b:2, a").env("KONDUCTOR_FENCING_TOKEN", "7");
    let mut client = Process::spawn("client", command);
    client.expect_exit(LIMIT, 0).await;
    assert_eq!(client.stdout(), "semaphore/a,semaphore/b\n");
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn what_was_taken_is_given_back_when_the_rest_cannot_be_had() {
    let scene = two("partial", [1, 1]).await;
    let mut other = scene.run("other", &["--semaphore", "b"], &["sleep", "600"]);
    other.wait_stderr(LIMIT, "holding semaphore b").await;
    for (flags, signal, code) in [
        (["--wait-timeout", IN_VAIN, "--on-timeout", "fail"], None, 75),
        (["--wait-timeout", IN_VAIN, "--on-timeout", "skip"], None, 0),
        (["--wait-timeout", "0", "--on-timeout", "fail"], None, 75),
        (["--wait-timeout", "1h", "--on-timeout", "skip"], Some(Signal::SIGTERM), 143),
    ] {
        let flags: Vec<_> = OPPOSITE.into_iter().chain(flags).collect();
        let mut client = witness(&scene, "client", &flags, "A", Duration::ZERO);
        client.wait_stderr(LIMIT, "holding semaphore a").await;
        if let Some(signal) = signal {
            client.wait_stderr(LIMIT, "waiting for semaphore b: next in line").await;
            client.signal(signal);
        }
        client.expect_exit(LIMIT, code).await;
        // Free for others at once, long before any TTL.
        witness(&scene, "next", &["--semaphore", "a"], "A", Duration::ZERO).expect_exit(LIMIT, 0).await;
    }
    scene.record.assert_complete(4, 1);
    other.signal(Signal::SIGTERM);
    other.expect_exit(LIMIT, 143).await;
    scene.assert_no_claims().await;
}
