//! Many who want the same.

use std::time::Duration;

use kube::api::DeleteParams;

use crate::scene::{LIMIT, Scene, all_succeed, exclusive, shared};

/// Long enough that holders overlap, whatever the machine is busy with.
const HOLD: Duration = Duration::from_millis(50);

#[tokio::test]
async fn two_hundred_share_five_permits() {
    let scene = shared("crowd").await;
    scene.semaphore(5).await;
    all_succeed(&mut scene.crowd(200, &[], HOLD)).await;
    scene.record.assert_complete(200, 5);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn one_permit_goes_from_hand_to_hand() {
    let scene = shared("single").await;
    scene.semaphore(1).await;
    all_succeed(&mut scene.crowd(20, &[], HOLD)).await;
    scene.record.assert_complete(20, 1);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn weights_count() {
    let scene = shared("weights").await;
    scene.semaphore(5).await;
    all_succeed(&mut scene.crowd(20, &["--semaphore", "s:2"], HOLD)).await;
    scene.record.assert_complete(20, 2);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_semaphore_that_is_made_anew_counts_those_who_held_the_old_one() {
    let scene = shared("anew").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &[]);
    scene.record.started(LIMIT, 1).await;
    scene.semaphores().delete("s", &DeleteParams::default()).await.expect("delete a Semaphore");
    let waiter = scene.witness("waiter", &[], HOLD);
    waiter.wait_stderr(LIMIT, "waiting for semaphore s, which does not exist yet").await;
    scene.semaphore(1).await;
    waiter.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
    assert_eq!(holder.status(), None, "{}", holder.output());
    scene.let_go();
    all_succeed(&mut [holder, waiter]).await;
    scene.record.assert_complete(2, 1);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn two_operators_that_both_lead_never_let_in_too_many() {
    let (control_plane, installed) = exclusive().await;
    let _both =
        [installed.operator("one", &["--election", "always"]), installed.operator("two", &["--election", "always"])];
    let scene = Scene::new(&control_plane, "both").await;
    scene.semaphore(3).await;
    all_succeed(&mut scene.crowd(40, &[], HOLD)).await;
    scene.record.assert_complete(40, 3);
    scene.assert_no_claims().await;
}
