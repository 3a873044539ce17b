//! Many `koncli` at once: never more hold than may.

use konductor_api::{ClaimPhase, LeaseRequest, LockClaim, Permit};
use kube::Api;

use crate::scene::{LIMIT, Scene, ended};

const CROWD: usize = 50;
const ROUNDS: usize = 20;
const PERMITS: usize = 3;

/// Fifty at a time ask for what only a few can hold. Each that is let in looks how many hold, and gives back.
#[tokio::test]
async fn of_fifty_that_acquire_at_once_three_hold() {
    let scene = Scene::new("koncli-crowd").await;
    scene.semaphore("s", PERMITS as u32).await;
    let mut times = 0;
    for round in 0..ROUNDS {
        let held = let_in(&scene, "semaphore acquire s", round).await;
        // All may be told to wait when the operator has not seen the last release yet.
        assert!(held.len() <= PERMITS, "round {round}: {held:?} hold");
        times += held.len();
        assert!(granted::<Permit>(&scene.namespace.api()).await <= PERMITS, "round {round}");
        for one in held {
            scene.prints(&format!("semaphore release s --holder h{one}")).await;
        }
        free(&scene, "semaphore/s").await;
    }
    assert!(times > 0, "nobody ever held");
}

#[tokio::test]
async fn of_fifty_that_acquire_a_lease_at_once_one_holds() {
    let scene = Scene::new("koncli-leases").await;
    scene.prints("lease create l").await;
    scene.prints("wait lease/l --for condition=Ready --timeout 2m").await;
    let mut times = 0;
    for round in 0..ROUNDS {
        let held = let_in(&scene, "lease acquire l", round).await;
        assert!(held.len() <= 1, "round {round}: {held:?} hold");
        assert!(granted::<LeaseRequest>(&scene.namespace.api()).await <= 1, "round {round}");
        times += held.len();
        for one in held {
            scene.prints(&format!("lease release l --holder h{one}")).await;
        }
        free(&scene, "lease/l").await;
    }
    assert!(times > 0, "nobody ever held");
}

/// Those of a crowd that are let in when all try once, at the same time.
async fn let_in(scene: &Scene, acquire: &str, round: usize) -> Vec<usize> {
    let crowd: Vec<_> =
        (0..CROWD).map(|one| (one, scene.start(&format!("{acquire} --holder h{one} --timeout 0 -q")))).collect();
    let mut held = Vec::new();
    for (one, process) in crowd {
        let ran = ended(process).await;
        match ran.code {
            0 => held.push(one),
            75 => {}
            code => panic!("round {round}, holder {one}: {code}\n{}", ran.stderr),
        }
    }
    held
}

async fn granted<C>(claims: &Api<C>) -> usize
where
    C: LockClaim + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let list = claims.list(&kube::api::ListParams::default()).await.expect("a list");
    let held = |claim: &&C| claim.status().and_then(|status| status.phase) == Some(ClaimPhase::Granted);
    list.items.iter().filter(held).count()
}

/// Waits until nobody holds or waits any more.
async fn free(scene: &Scene, lock: &str) {
    konductor_tests::eventually(LIMIT, &format!("{lock} is free"), || async {
        let (kind, name) = lock.split_once('/').expect("a kind and a name");
        let claims = scene.prints(&format!("{kind} status {name} -o jsonpath={{.claims[*].name}}")).await;
        if claims.trim().is_empty() { Ok(()) } else { Err(claims) }
    })
    .await;
}
