//! The engine of a kind of lock that only tests know, from the first sight of a lock and a claim to the grant. Nothing
//! in this crate knows the kind, so nothing has to be changed for another one.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use konductor_cluster::{Program, Way, follow::Event, object::Object};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use self::rwlock::RwLock;
use super::{
    kind::{read_claim, read_parent},
    observe::Seen,
    plugin::Locks,
};
use crate::{
    clock::Clock,
    crowd::Kept,
    engine::{Common, Engine, Plugin},
    events::Recorder,
    metrics::Metrics,
};

#[path = "../../../api/tests/rwlock/mod.rs"]
mod rwlock;

/// An API server with the lock `s` and the writer `w`: it lists claims, writes statuses, and notes what it was asked.
#[derive(Clone)]
struct Server {
    objects: Arc<Mutex<[Value; 2]>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new() -> Self {
        let metadata = |name: &str, version: &str| -> Value {
            json!({ "namespace": "n", "name": name, "uid": name, "generation": 1, "resourceVersion": version })
        };
        let lock = json!({ "metadata": metadata("s", "1"), "spec": {} });
        let spec = json!({ "rwlock": "s", "write": true, "holder": "h", "instance": "i" });
        let claim = json!({ "metadata": metadata("w", "2"), "spec": spec });
        Self { objects: Arc::new(Mutex::new([lock, claim])), asked: Arc::default() }
    }

    fn object(&self, index: usize) -> Value {
        self.objects.lock().expect("no panic")[index].clone()
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                let answer = server.answer(&head.method, &head.uri.to_string(), &body);
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer.to_string()))))
            }
        });
        Client::new(service, "n")
    }

    fn answer(&self, method: &Method, uri: &str, body: &[u8]) -> Value {
        self.asked.lock().expect("no panic").push(format!("{method} {uri}"));
        if method == Method::GET {
            return json!({ "metadata": { "resourceVersion": "2" }, "items": [self.object(1)] });
        }
        let patch: Value = serde_json::from_slice(body).expect("a patch");
        let mut objects = self.objects.lock().expect("no panic");
        let object = &mut objects[usize::from(uri.contains("rwlockrequests"))];
        let version: u64 =
            object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("one");
        object["status"] = patch["status"].clone();
        object["metadata"]["resourceVersion"] = json!((version + 10).to_string());
        object.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn another_kind_of_lock_is_taken_over_and_granted() {
    let server = Server::new();
    let (client, clock) = (server.client(), Clock::start());
    let metrics = Metrics::new(clock);
    let recorder = Recorder::start(client.clone(), "test".into(), metrics.clone());
    let (_, leading) = watch::channel(true);
    let (restored, _) = mpsc::channel(1);
    let way = Way::Found(Program::OPERATOR);
    let common =
        Common { way, client: client.clone(), leading, recorder, metrics, clock, restored, kept: Kept::default() };
    let mut engine = Engine::new(Locks::<RwLock>::new(&common.metrics, &common.recorder, common.kept));
    engine.lead(true, clock.now());
    let lock = Object::read(&server.object(0).to_string()).expect("an object");
    engine.observe(Seen::Parent(Event::Apply(Box::new(read_parent::<RwLock>(lock)))), clock.now());
    let claim = Object::read(&server.object(1).to_string()).expect("an object");
    engine.observe(Seen::Claim(Event::Apply(Box::new(read_claim::<RwLock>(claim)))), clock.now());
    while server.object(1)["status"]["phase"] != "Granted" {
        let requests = engine.turn(clock.now(), || false);
        assert!(!requests.is_empty(), "nothing is left to do, and nothing is granted");
        for (ticket, request) in requests {
            let answer = Locks::<RwLock>::perform(client.clone(), request).await;
            engine.answered(&ticket, answer, clock.now());
        }
    }
    let asked = server.asked.lock().expect("no panic").clone();
    let expected = [
        "PATCH rwlocks/s/status?&fieldManager=konductor-operator",
        "GET rwlockrequests?&fieldSelector=spec.rwlock%3Ds&limit=500",
        "PATCH rwlocks/s/status?&fieldManager=konductor-operator",
        "PATCH rwlockrequests/w/status?&fieldManager=konductor-operator",
    ];
    assert_eq!(asked, expected.map(|request| request.replacen(' ', " /apis/konductor.io/v1/namespaces/n/", 1)));
}
