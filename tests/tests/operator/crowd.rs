//! A namespace with more claims than an operator keeps of one. The operator is part of this process, as the limit is no
//! setting.

use std::{future::pending, sync::Arc};

use konductor_api::{ClaimPhase, Semaphore};
use konductor_cluster::Way;
use konductor_operator::{Operator, clock::Clock, crowd::Kept, metrics::Metrics};
use konductor_tests::{ControlPlane, Installed};

use crate::cluster::Scene;

#[tokio::test]
async fn what_a_namespace_has_beyond_the_limit_is_served_when_there_is_room_and_others_at_once() {
    let control_plane = ControlPlane::start().await;
    let _installed = Installed::on(&control_plane, true).await;
    let crowd = Scene::<Semaphore>::of(control_plane.namespace("crowd").await);
    crowd.semaphore("s", 100).await;
    for number in 0..8 {
        crowd.claim("s", &format!("c{number}")).await;
    }
    let (client, clock) = (control_plane.client().await, Clock::start());
    let shared = client.clone();
    let way = Way::Made(Arc::new(move || shared.clone()));
    let kept = Kept { claims: 5, ..Kept::default() };
    let operator = Operator::start_keeping(kept, way, client, "here".into(), None, Metrics::new(clock), clock);
    let operator = tokio::spawn(operator.await.expect("it starts").run(pending()));

    for number in 0..5 {
        crowd.granted(&format!("c{number}")).await;
    }
    // What comes last is seen last.
    let quiet = Scene::<Semaphore>::of(control_plane.namespace("quiet").await);
    quiet.semaphore("s", 1).await;
    quiet.claim("s", "c").await;
    quiet.granted("c").await;
    for number in 5..8 {
        assert_eq!(crowd.now(&format!("c{number}")).await.phase, None::<ClaimPhase>, "c{number}");
    }
    for number in 0..3 {
        crowd.release(&format!("c{number}")).await;
    }
    for number in 5..8 {
        crowd.granted(&format!("c{number}")).await;
    }
    operator.abort();
}
