//! The operator, played by hand: the test writes what an operator would, when it wants to. And a claim whose events a
//! test waits for one by one.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::PolicyRule;
use konductor::protocol::limits::WITHDRAW_WITHIN;
use konductor::{Boottime, Client, Command, Config, ConnectOptions, Event, Request, Wanted, run};
use konductor_api::{Permit, Semaphore};
use konductor_tests::{ControlPlane, TestNamespace, install_crds, wait_for};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Far more than anything takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// What is renewed each third of it outlives a machine that stands still for ten seconds.
pub(crate) const TTL: Duration = Duration::from_secs(18);

/// For how long a machine may stand still.
pub(crate) const STALL: Duration = Duration::from_secs(15);

pub(crate) const SEMAPHORE: &str = "warehouse";

/// A namespace with a semaphore, and a hand that plays its operator.
pub(crate) struct Hand {
    pub(crate) namespace: TestNamespace,
    /// A workload's client, with a workload's permissions.
    pub(crate) client: Client,
}

impl Hand {
    pub(crate) async fn new(control_plane: &ControlPlane, prefix: &str) -> Self {
        let namespace = control_plane.namespace(prefix).await;
        install_crds(&namespace.client).await;
        namespace.allow("default", &workload_rules()).await;
        let kubeconfig = namespace.service_account_kubeconfig("default").await;
        let client = connect(&kubeconfig).await;
        let semaphore = json!({ "metadata": { "name": SEMAPHORE }, "spec": { "permits": 1, "ttl": "18s" } });
        let semaphore: Semaphore = serde_json::from_value(semaphore).expect("a Semaphore");
        namespace.api().create(&PostParams::default(), &semaphore).await.expect("create a semaphore");
        Self { namespace, client }
    }

    /// Raises the semaphore's term.
    pub(crate) async fn term(&self, term: u64) {
        let status = json!({ "status": { "term": term, "settledTerm": term } });
        let semaphores = self.namespace.api::<Semaphore>();
        semaphores
            .patch_status(SEMAPHORE, &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("raise the term");
    }

    /// Writes a claim's status.
    pub(crate) async fn write(&self, claim: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        let permits = self.namespace.api::<Permit>();
        permits.patch_status(claim, &PatchParams::default(), &patch).await.expect("write a claim's status");
    }

    pub(crate) async fn grant(&self, claim: &str, term: u64, token: u64) {
        self.grant_for("18s", claim, term, token).await;
    }

    /// As [`Hand::grant`], with this TTL.
    pub(crate) async fn grant_for(&self, ttl: &str, claim: &str, term: u64, token: u64) {
        let semaphore = self.namespace.api::<Semaphore>().get(SEMAPHORE).await.expect("read the semaphore");
        let status = json!({
            "phase": "Granted", "term": term, "parentUid": semaphore.metadata.uid, "fencingToken": token, "ttl": ttl,
            "message": null,
        });
        self.write(claim, status).await;
    }

    /// The only claim there is, once there is one.
    pub(crate) async fn only_claim(&self) -> Permit {
        konductor_tests::eventually(LIMIT, "there is one claim", || async {
            let mut claims = self.claims().await;
            if claims.len() == 1 { Ok(claims.remove(0)) } else { Err(format!("there are {}", claims.len())) }
        })
        .await
    }

    pub(crate) async fn claims(&self) -> Vec<Permit> {
        self.namespace.api::<Permit>().list(&kube::api::ListParams::default()).await.expect("list claims").items
    }

    /// A claim that is held, and its name.
    pub(crate) async fn held(&self) -> (Claim, String) {
        self.term(1).await;
        let mut claim = Claim::start(&self.client, request());
        let name = self.only_claim().await.name_any();
        self.grant(&name, 1, 11).await;
        claim.held(11).await;
        (claim, name)
    }

    pub(crate) async fn wait_for(&self, claim: &str, wanted: impl FnMut(&Permit) -> bool) -> Permit {
        wait_for(&self.namespace.api::<Permit>(), claim, LIMIT, wanted).await
    }
}

/// What a workload needs.
pub(crate) fn workload_rules() -> Vec<PolicyRule> {
    let rule = |resource: &str, verbs: &[&str]| PolicyRule {
        api_groups: Some(vec!["konductor.io".into()]),
        resources: Some(vec![resource.into()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    vec![
        rule("permits", &["create", "get", "watch", "patch", "delete"]),
        rule("semaphores", &["get"]),
        rule("barriers", &["list", "watch"]),
        rule("gates", &["list", "watch"]),
        rule("arrivals", &["create", "get"]),
    ]
}

pub(crate) async fn connect(kubeconfig: &std::path::Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("read a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("use it");
    Client::from_config(config, ConnectOptions::default()).expect("connect")
}

/// One permit.
pub(crate) fn semaphore(name: &str) -> Wanted {
    Wanted::Semaphore { name: name.to_owned(), permits: 1 }
}

pub(crate) fn request() -> Request {
    Request { wanted: semaphore(SEMAPHORE), priority: 0, ttl: None, holder: "test".into(), pod: None }
}

/// A claim that runs.
pub(crate) struct Claim {
    events: UnboundedReceiver<Event>,
    commands: UnboundedSender<Command>,
    pub(crate) task: JoinHandle<()>,
}

impl Claim {
    pub(crate) fn start(client: &Client, request: Request) -> Self {
        let (tell, events) = unbounded_channel();
        let (commands, orders) = unbounded_channel();
        let task = tokio::spawn(run(client.clone(), request, orders, move |event| {
            // Told to nobody once the test has ended.
            let _ = tell.send(event);
        }));
        Self { events, commands, task }
    }

    /// The next event; the end of the claim is an event, too.
    pub(crate) async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(LIMIT, self.events.recv()).await.expect("an event in time");
        let event = event.expect("an event before the end");
        eprintln!("{:?}: {event:?}", Boottime::now().0);
        event
    }

    /// The next event that is neither trouble nor routine.
    pub(crate) async fn next_but_trouble(&mut self) -> Event {
        loop {
            let event = self.next().await;
            if !matches!(event, Event::Retrying { .. } | Event::Asked | Event::Granted) {
                return event;
            }
        }
    }

    /// Waits until the claim is made, which nothing but trouble may come before.
    pub(crate) async fn asked(&mut self) {
        loop {
            match self.next().await {
                Event::Asked => return,
                Event::Retrying { .. } => {}
                event => panic!("not asked: {event:?}"),
            }
        }
    }

    /// Waits for the claim to be held with this token, which nothing but trouble may come before.
    pub(crate) async fn held(&mut self, token: u64) {
        let event = self.next_but_trouble().await;
        let Event::Held { fencing_token, ttl, .. } = event else { panic!("not held: {event:?}") };
        assert_eq!((fencing_token, ttl), (token, TTL));
    }

    /// Waits for a renewal, which nothing but trouble may come before.
    pub(crate) async fn extended(&mut self) -> Boottime {
        let event = self.next_but_trouble().await;
        let Event::Extended { deadline } = event else { panic!("not extended: {event:?}") };
        deadline
    }

    pub(crate) fn release(&self) {
        self.commands.send(Command::Release).expect("the claim runs");
    }

    /// Withdraws a claim that was never held: whether that was done in time. A machine that is busy may not manage it;
    /// then it has been tried for as long as is promised.
    pub(crate) async fn withdraw(&mut self) -> bool {
        let begun = Boottime::now();
        self.release();
        match self.next_but_trouble().await {
            Event::Released => true,
            Event::Abandoned { error } => {
                let tried = Boottime::now().since(begun);
                assert!(tried >= WITHDRAW_WITHIN, "given up after {tried:?}: {error}");
                false
            }
            event => panic!("not withdrawn: {event:?}"),
        }
    }

    /// Waits for the end after a release of a claim that was held.
    pub(crate) async fn released(&mut self) {
        loop {
            match self.next_but_trouble().await {
                Event::Released => return,
                Event::Extended { .. } => {}
                event => panic!("not released: {event:?}"),
            }
        }
    }
}
