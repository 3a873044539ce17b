//! The claim client against a real API server. The operator is played by hand, so that it can do what a real one does
//! only when much goes wrong.

mod hand;
mod rendezvous;

use std::collections::HashSet;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use futures::TryStreamExt;
use hand::{Claim, Hand, LIMIT, SEMAPHORE, STALL, connect, request, semaphore};
use konductor::{AcquireError, Boottime, ConnectOptions, Event, LossReason, PodReference, Request};
use konductor_api::Permit;
use konductor_tests::{Binaries, ControlPlane, Process, eventually, wait_gone};
use kube::ResourceExt;
use kube::api::{DeleteParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

#[tokio::test]
async fn a_grant_counts_only_in_the_semaphores_term() {
    let hand = Hand::new(ControlPlane::shared().await, "term").await;
    hand.term(5).await;
    let mut claim = Claim::start(&hand.client, request());
    let name = hand.only_claim().await.name_any();
    // A late write of an operator that no longer leads; then its successor sends the claim back.
    hand.grant(&name, 4, 41).await;
    hand.write(&name, json!({ "phase": "Pending", "ahead": 0, "message": "waits again" })).await;
    let event = claim.next_but_trouble().await;
    assert!(matches!(event, Event::Waiting { parent_missing: false, .. }), "{event:?}");
    // A grant of a term that the semaphore is not in yet counts once it is.
    hand.grant(&name, 6, 61).await;
    hand.term(6).await;
    claim.held(61).await;
    claim.release();
    claim.released().await;
    assert!(hand.claims().await.is_empty());
}

#[tokio::test]
async fn a_claim_is_renewed_until_it_is_released() {
    let hand = Hand::new(ControlPlane::shared().await, "renewed").await;
    let (mut claim, name) = hand.held().await;
    let first = claim.extended().await;
    let seen = hand.wait_for(&name, |permit| permit.spec.claim.renew_time.is_some()).await;
    // A takeover stamps the claim anew; the grant stays the same.
    hand.term(2).await;
    hand.write(&name, json!({ "term": 2 })).await;
    let second = claim.extended().await;
    assert!(second > first && second <= Boottime::now() + hand::TTL);
    hand.wait_for(&name, |permit| permit.spec.claim.renew_time > seen.spec.claim.renew_time).await;
    claim.release();
    claim.released().await;
    assert!(hand.claims().await.is_empty());
}

#[tokio::test]
async fn a_revocation_is_a_loss_and_the_claim_stays_until_released() {
    let hand = Hand::new(ControlPlane::shared().await, "revoked").await;
    let (mut claim, name) = hand.held().await;
    hand.write(&name, json!({ "phase": "Revoking", "message": "revoked: maintenance" })).await;
    let reason = LossReason::Revoked("revoked: maintenance".into());
    assert_eq!(claim.next_but_trouble().await, Event::Lost { reason });
    assert_eq!(hand.only_claim().await.name_any(), name);
    claim.release();
    claim.released().await;
    assert!(hand.claims().await.is_empty());
}

/// A claim that is held for so long that no renewal is due while the test looks on, and its name.
async fn held_for_long(hand: &Hand) -> (Claim, String) {
    hand.term(1).await;
    let mut claim = Claim::start(&hand.client, request());
    let name = hand.only_claim().await.name_any();
    hand.grant_for("1h", &name, 1, 11).await;
    let event = claim.next_but_trouble().await;
    assert!(matches!(event, Event::Held { fencing_token: 11, .. }), "{event:?}");
    (claim, name)
}

#[tokio::test]
async fn what_becomes_of_a_claim_that_is_held_is_seen_long_before_its_next_renewal() {
    let hand = Hand::new(ControlPlane::shared().await, "watched").await;
    let (mut claim, name) = held_for_long(&hand).await;
    // A takeover, and another's edit, change nothing.
    hand.term(2).await;
    hand.write(&name, json!({ "term": 2 })).await;
    hand.write(&name, json!({ "phase": "Revoking", "message": "revoked: maintenance" })).await;
    let revoked = Boottime::now();
    let reason = LossReason::Revoked("revoked: maintenance".into());
    assert_eq!(claim.next_but_trouble().await, Event::Lost { reason });
    let took = Boottime::now().since(revoked);
    assert!(took <= Duration::from_secs(2) + STALL, "{took:?}");
    claim.release();
    claim.released().await;

    let (mut claim, name) = held_for_long(&hand).await;
    hand.namespace.api::<Permit>().delete(&name, &DeleteParams::default()).await.expect("delete");
    assert_eq!(claim.next_but_trouble().await, Event::Lost { reason: LossReason::Deleted });
    claim.release();
    claim.released().await;
}

#[tokio::test]
async fn a_lost_watch_loses_no_claim_and_is_opened_again() {
    let mut control_plane = ControlPlane::start().await;
    let hand = Hand::new(&control_plane, "reopened").await;
    let (mut claim, name) = held_for_long(&hand).await;
    control_plane.api_server.stop();
    let event = claim.next().await;
    assert!(matches!(event, Event::Retrying { .. }), "{event:?}");
    control_plane.api_server.start().await;
    hand.write(&name, json!({ "phase": "Revoking", "message": "revoked: maintenance" })).await;
    let reason = LossReason::Revoked("revoked: maintenance".into());
    assert_eq!(claim.next_but_trouble().await, Event::Lost { reason });
    claim.release();
    claim.released().await;
}

#[tokio::test]
async fn a_claim_that_was_deleted_or_replaced_by_hand_is_lost() {
    let hand = Hand::new(ControlPlane::shared().await, "deleted").await;
    let permits = hand.namespace.api::<Permit>();
    let (mut claim, name) = hand.held().await;
    permits.delete(&name, &DeleteParams::default()).await.expect("delete");
    assert_eq!(claim.next_but_trouble().await, Event::Lost { reason: LossReason::Deleted });
    claim.release();
    claim.released().await;

    let (mut claim, name) = hand.held().await;
    let mut another = permits.get(&name).await.expect("read");
    permits.delete(&name, &DeleteParams::default()).await.expect("delete");
    another.metadata = kube::api::ObjectMeta { name: Some(name), ..Default::default() };
    permits.create(&kube::api::PostParams::default(), &another).await.expect("create another");
    // The watch shows the deletion first.
    assert_eq!(claim.next_but_trouble().await, Event::Lost { reason: LossReason::Deleted });
    claim.release();
    claim.released().await;
    // Not ours to delete.
    assert_eq!(hand.claims().await.len(), 1);
}

#[tokio::test]
async fn a_claim_that_ends_before_it_is_held_is_asked_for_again() {
    let hand = Hand::new(ControlPlane::shared().await, "again").await;
    let permits = hand.namespace.api::<Permit>();
    hand.term(1).await;
    let mut claim = Claim::start(&hand.client, request());
    let mut instances = Vec::new();
    for ending in ["deleted", "Expired"] {
        let permit = eventually(LIMIT, "there is a new claim", || async {
            let found = hand.claims().await.into_iter().find(|permit| !instances.contains(&permit.spec.claim.instance));
            found.ok_or("there is none")
        })
        .await;
        let name = permit.name_any();
        if ending == "deleted" {
            permits.delete(&name, &DeleteParams::default()).await.expect("delete");
        } else {
            hand.write(&name, json!({ "phase": ending })).await;
        }
        instances.push(permit.spec.claim.instance);
    }
    let last = eventually(LIMIT, "there is a new claim", || async {
        let last = hand.only_claim().await;
        if instances.contains(&last.spec.claim.instance) { Err("it is an old one") } else { Ok(last) }
    })
    .await;
    hand.grant(&last.name_any(), 1, 12).await;
    claim.held(12).await;
    claim.release();
    claim.released().await;
    assert!(hand.claims().await.is_empty());
}

#[tokio::test]
async fn a_claim_that_is_revoked_before_it_is_held_is_refused() {
    let hand = Hand::new(ControlPlane::shared().await, "refused").await;
    hand.term(1).await;
    let message = "revoked: maintenance";
    let condition = json!({
        "type": "Granted", "status": "False", "reason": "Revoked", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    for status in [
        json!({ "phase": "Expired", "message": message, "conditions": [condition] }),
        json!({ "phase": "Revoking", "message": message }),
    ] {
        let mut claim = Claim::start(&hand.client, request());
        hand.write(&hand.only_claim().await.name_any(), status).await;
        let event = claim.next_but_trouble().await;
        assert_eq!(event, Event::Failed { error: AcquireError::Revoked(message.into()) });
        assert!(hand.claims().await.is_empty(), "nothing is left, nor asked for again");
    }
}

fn in_pod(start: &str) -> Request {
    let pod =
        PodReference { container: "main".into(), start: start.into(), ..PodReference::whole("etl-0", "7c4f2a5e") };
    Request { pod: Some(pod), ..request() }
}

#[tokio::test]
async fn a_restarted_container_withdraws_its_predecessors_claim_and_no_siblings() {
    let hand = Hand::new(ControlPlane::shared().await, "restarted").await;
    let starts = || async {
        let claims = hand.claims().await;
        let mut all: Vec<_> = claims
            .iter()
            .map(|permit| (permit.name_any(), permit.spec.claim.pod.clone().expect("a pod").start))
            .collect();
        all.sort();
        all
    };
    // Killed, like its container.
    let killed = Claim::start(&hand.client, in_pod("first"));
    let name = hand.only_claim().await.name_any();
    killed.task.abort();

    let mut main = Claim::start(&hand.client, in_pod("second"));
    main.asked().await;
    assert_eq!(starts().await, [(name.clone(), "second".to_owned())]);
    let mut sibling = Claim::start(&hand.client, in_pod("second"));
    sibling.asked().await;
    let both = [(name.clone(), "second".to_owned()), (format!("{name}-2"), "second".to_owned())];
    assert_eq!(starts().await, both);
    let mut left = 0;
    for claim in [&mut main, &mut sibling] {
        left += usize::from(!claim.withdraw().await);
    }
    assert!(starts().await.len() <= left);
}

#[tokio::test]
async fn a_claim_withdrawn_at_any_moment_leaves_nothing_behind() {
    let hand = Hand::new(ControlPlane::shared().await, "withdrawn").await;
    let mut left = 0;
    for attempt in 0..40 {
        let mut claim = Claim::start(&hand.client, request());
        // From before the connection is made until after the claim is.
        for _ in 0..attempt {
            tokio::task::yield_now().await;
        }
        left += usize::from(!claim.withdraw().await);
    }
    assert!(left < 40, "not one was withdrawn in time");
    assert!(hand.claims().await.len() <= left);
}

#[tokio::test]
async fn a_guard_holds_until_it_is_released_or_dropped() {
    let hand = Hand::new(ControlPlane::shared().await, "guard").await;
    hand.term(1).await;
    let acquire = || async {
        let acquired = tokio::spawn(hand.client.semaphore(SEMAPHORE).holder("guard").acquire());
        let name = hand.only_claim().await.name_any();
        hand.grant(&name, 1, 13).await;
        (acquired.await.expect("no panic").expect("acquired"), name)
    };
    let (guard, _) = acquire().await;
    assert_eq!(guard.fencing_token(), 13);
    assert!(guard.deadline() > Boottime::now());
    guard.release().await.expect("released");
    assert!(hand.claims().await.is_empty());

    let (guard, name) = acquire().await;
    drop(guard);
    wait_gone(&hand.namespace.api::<Permit>(), &name, LIMIT).await;

    let (guard, name) = acquire().await;
    hand.namespace.api::<Permit>().delete(&name, &DeleteParams::default()).await.expect("delete");
    assert_eq!(guard.lost().await, LossReason::Deleted);
    guard.release().await.expect("released");

    // Whoever no longer waits for it withdraws. There is less than a second for it, which is enough at least now and then.
    let permits = hand.namespace.api::<Permit>();
    for tries in 1.. {
        let waiting = tokio::spawn(hand.client.semaphore(SEMAPHORE).acquire());
        let name = hand.only_claim().await.name_any();
        waiting.abort();
        if tokio::time::timeout(STALL, wait_gone(&permits, &name, LIMIT)).await.is_ok() {
            break;
        }
        assert!(tries < 5, "five could not withdraw their claims");
        permits.delete(&name, &DeleteParams::default()).await.expect("delete");
    }
}

#[tokio::test]
async fn refusals_say_what_was_refused() {
    let control_plane = ControlPlane::shared().await;
    let hand = Hand::new(control_plane, "refused").await;
    hand.namespace.service_account("nobody").await;
    let nobody = connect(&hand.namespace.service_account_kubeconfig("nobody").await).await;
    let event = Claim::start(&nobody, request()).next_but_trouble().await;
    let Event::Failed { error: AcquireError::Refused { operation, message } } = event else { panic!("{event:?}") };
    assert_eq!(operation, "create the claim");
    assert!(message.contains("cannot create resource \"permits\""), "{message}");

    let event =
        Claim::start(&hand.client, Request { ttl: Some(Duration::from_secs(1)), ..request() }).next_but_trouble().await;
    let Event::Failed { error: AcquireError::Refused { message, .. } } = event else { panic!("{event:?}") };
    assert!(message.contains("ttl must be from 5s to 24h"), "{message}");

    let event =
        Claim::start(&hand.client, Request { wanted: semaphore("a/../b"), ..request() }).next_but_trouble().await;
    assert_eq!(event, Event::Failed { error: AcquireError::Name("a/../b".into()) });

    let config = Kubeconfig::read_from(control_plane.admin_kubeconfig()).expect("read");
    let config = konductor::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("use");
    let options = ConnectOptions { namespace: Some("nowhere".into()), ..ConnectOptions::default() };
    let nowhere = konductor::Client::from_config(config, options).expect("connect");
    let event = Claim::start(&nowhere, request()).next_but_trouble().await;
    let Event::Failed { error: AcquireError::NoNamespace { message, .. } } = event else { panic!("{event:?}") };
    assert!(message.contains("namespaces \"nowhere\" not found"), "{message}");
}

#[tokio::test]
async fn a_missing_semaphore_is_said_to_be_missing() {
    let hand = Hand::new(ControlPlane::shared().await, "missing").await;
    let mut claim = Claim::start(&hand.client, Request { wanted: semaphore("none"), ..request() });
    let name = hand.only_claim().await.name_any();
    hand.write(&name, json!({ "phase": "Pending", "ahead": 3, "message": "does not exist yet" })).await;
    let message = "does not exist yet".to_owned();
    let waiting = Event::Waiting { ahead: Some(3), message, parent_missing: true, lock: None };
    assert_eq!(claim.next_but_trouble().await, waiting);
}

/// The TCP connections of a process.
fn connections(process: &Process) -> Vec<String> {
    let connections = std::fs::read_to_string(format!("/proc/{}/net/tcp", process.pid())).expect("list connections");
    let inodes: HashSet<_> = connections.lines().filter_map(|line| line.split_whitespace().nth(9)).collect();
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("list a process's files");
    let targets =
        files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()?.into_os_string().into_string().ok());
    let is_tcp = |target: &String| {
        let inode = target.strip_prefix("socket:[").and_then(|inode| inode.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    };
    targets.filter(is_tcp).collect()
}

/// HTTP/2: the watch, the requests beside it and the renewals after it share what one TLS handshake has set up.
#[tokio::test]
async fn a_process_makes_one_connection() {
    let hand = Hand::new(ControlPlane::shared().await, "connections").await;
    hand.term(1).await;
    let kubeconfig = hand.namespace.service_account_kubeconfig("default").await;
    // A request that is not answered in time is sent again over another connection, and a busy machine may take long to
    // answer: then once more from the beginning.
    for _ in 0..5 {
        let mut command = Command::new(Binaries::built().run());
        command.args(["--semaphore", SEMAPHORE, "--", "sleep", "600"]).env("KUBECONFIG", &kubeconfig);
        let run = Process::spawn("run", command);
        let name = hand.only_claim().await.name_any();
        hand.write(&name, json!({ "phase": "Pending", "ahead": 0, "message": "waits" })).await;
        run.wait_stderr(LIMIT, "waiting for semaphore warehouse").await;
        let first = connections(&run);
        hand.grant(&name, 1, 16).await;
        hand.wait_for(&name, |permit| permit.spec.claim.renew_time.is_some()).await;
        let last = connections(&run);
        if !run.stderr().contains("trying again") {
            assert_eq!((first.len(), &last), (1, &first));
            return;
        }
        drop(run);
        // It may have deleted its claim itself.
        let _ = hand.namespace.api::<Permit>().delete(&name, &DeleteParams::default()).await;
        wait_gone(&hand.namespace.api::<Permit>(), &name, LIMIT).await;
    }
    panic!("the API server does not answer in time");
}

/// By name, from the hosts file: a resolver of our own.
#[tokio::test]
async fn the_api_server_is_found_by_its_name() {
    let hand = Hand::new(ControlPlane::shared().await, "by-name").await;
    let kubeconfig = hand.namespace.service_account_kubeconfig("default").await;
    let text = std::fs::read_to_string(&kubeconfig).expect("read");
    assert!(text.contains("https://127.0.0.1:"));
    std::fs::write(&kubeconfig, text.replace("https://127.0.0.1:", "https://localhost:")).expect("write");
    let client = connect(&kubeconfig).await;
    hand.term(1).await;
    let mut claim = Claim::start(&client, request());
    hand.grant(&hand.only_claim().await.name_any(), 1, 14).await;
    claim.held(14).await;
    claim.release();
    claim.released().await;
}

/// As the kubelet does: another token in the file, and the first one no longer valid.
#[tokio::test]
async fn a_token_is_replaced_while_a_claim_is_held() {
    let control_plane = ControlPlane::shared().await;
    let hand = Hand::new(control_plane, "token").await;
    for pod in ["first", "second"] {
        hand.namespace.pod(pod, "default", &["main"]).await;
    }
    let kubeconfig = hand.namespace.pod_kubeconfig("first").await;
    let hand = Hand { client: connect(&kubeconfig).await, ..hand };
    let (mut claim, _) = hand.held().await;
    // Editors and shells end a file with a newline.
    let token = format!("{}\n", hand.namespace.pod_token("second").await);
    std::fs::write(kubeconfig.with_file_name("token"), token).expect("write");
    let pods = hand.namespace.api::<k8s_openapi::api::core::v1::Pod>();
    let first = control_plane.access().token_kubeconfig(&hand.namespace.pod_token("first").await, &hand.namespace.name);
    pods.delete("first", &DeleteParams::default().grace_period(0)).await.expect("delete");
    let first = konductor_tests::client(&first).await;
    // The API server believes what it has once checked for some ten seconds.
    eventually(LIMIT, "the first token is no longer accepted", || async {
        match first.apiserver_version().await {
            Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let after = Boottime::now() + hand::TTL * 2;
    while claim.extended().await < after {}
    claim.release();
    claim.released().await;
}

/// The API server goes away: shorter than the TTL, longer than it, and while a claim waits.
#[tokio::test]
async fn an_api_server_may_go_away() {
    let mut control_plane = ControlPlane::start().await;
    let hand = Hand::new(&control_plane, "away").await;
    hand.term(1).await;
    let mut claim = Claim::start(&hand.client, request());
    let name = hand.only_claim().await.name_any();
    control_plane.api_server.stop();
    control_plane.api_server.start().await;
    hand.grant(&name, 1, 15).await;
    claim.held(15).await;

    // Connections stay and nothing is answered, for less than the TTL.
    control_plane.api_server.freeze();
    let event = loop {
        match claim.next().await {
            // It was answered before.
            Event::Extended { .. } => {}
            event => break event,
        }
    };
    assert!(matches!(event, Event::Retrying { operation: "renew the claim", .. }), "{event:?}");
    control_plane.api_server.thaw();
    claim.extended().await;
    let mut deadline = claim.extended().await;

    // Not for long enough: told at the deadline, neither before nor much later.
    control_plane.api_server.stop();
    let lost = loop {
        match claim.next().await {
            Event::Retrying { .. } => {}
            // It was answered before.
            Event::Extended { deadline: later } => deadline = later,
            event => break event,
        }
    };
    assert_eq!(lost, Event::Lost { reason: LossReason::DeadlinePassed });
    let now = Boottime::now();
    assert!(now >= deadline && now - deadline < Duration::from_secs(1) + STALL, "{now} for {deadline}");

    // What is lost is cleaned up as soon as somebody listens.
    claim.release();
    control_plane.api_server.start().await;
    assert_eq!(outdated_watch(&hand).await, 410);
    let end = claim.next_but_trouble().await;
    assert!(matches!(end, Event::Released | Event::Abandoned { .. }), "{end:?}");
    if end == Event::Released {
        assert!(hand.claims().await.is_empty());
    }
}

/// What a server says to a watch from a version that it no longer knows is what the client takes for that.
async fn outdated_watch(hand: &Hand) -> u16 {
    // One that has just started may ask for patience.
    eventually(LIMIT, "a watch is answered", || async {
        let code = match hand.namespace.api::<Permit>().watch(&WatchParams::default(), "1").await {
            Err(kube::Error::Api(status)) => status.code,
            Err(error) => return Err(error.to_string()),
            Ok(events) => match pin!(events).try_next().await {
                Ok(Some(WatchEvent::Error(status))) | Err(kube::Error::Api(status)) => status.code,
                other => return Err(format!("{other:?}")),
            },
        };
        if matches!(code, 429 | 503) { Err(format!("it says {code}")) } else { Ok(code) }
    })
    .await
}
