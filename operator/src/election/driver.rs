//! Reads and writes the lease as [`Candidate`] says.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use konductor_cluster::{
    Endpoint, Program, RequestError,
    backoff::{Backoff, random},
    follow::{Event, Source},
    object::{Described, Lenient},
    process,
};
use kube::Client;
use serde::de::IgnoredAny;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    Candidate, NAME, Outcome, Pod, Step, Write,
    record::{LeaseObject, Record, Spec},
};
use crate::{
    clock::{Clock, wall},
    pods::PodEndpoint,
};

/// How long one read or write of the lease may take. The leader's own deadline can cut it shorter.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a release is tried: the process is about to end, and the lease ends by itself.
const RELEASE_ATTEMPTS: usize = 3;

/// Takes part in the election.
pub struct Elector {
    /// A client that nothing else uses, so that nothing else takes the streams of its connection.
    pub client: Client,
    /// The lease's namespace.
    pub namespace: String,
    /// The rule.
    pub candidate: Candidate,
    /// The clock.
    pub clock: Clock,
    /// Told whether this process leads.
    pub leading: watch::Sender<bool>,
}

impl Elector {
    /// Takes part until `resigned`, then gives the lease up, so that a standby takes over at once.
    pub async fn run(mut self, mut resigned: oneshot::Receiver<()>) {
        let (sightings, mut seen) = mpsc::channel(16);
        let requests = Requests::new(self.client.clone(), &self.namespace);
        let source = Source { endpoint: requests.endpoint.clone(), fields: Some(FIELDS.into()), page: 10 };
        let watcher = process::spawn(watch_lease(source, sightings));
        let mut complaint = None;
        loop {
            let now = self.clock.monotonic();
            self.tell(now);
            let until = match self.candidate.step(now, wall()) {
                Step::Wait(until) => until,
                Step::Look(pod) => {
                    let looked = timeout(REQUEST_TIMEOUT, requests.is_gone(&pod)).await;
                    let gone = looked.unwrap_or(false);
                    if gone {
                        info!(pod = pod.name, "the pod that held the lease of the election is gone");
                    }
                    self.candidate.looked(gone, self.clock.monotonic());
                    continue;
                }
                Step::Write(write) => {
                    let problem = self.write(&requests, write, now).await;
                    if problem != complaint {
                        if let Some(problem) = &problem {
                            warn!("cannot write the lease {}/{NAME} of the election: {problem}", self.namespace);
                        }
                        complaint = problem;
                    }
                    continue;
                }
            };
            let until = self.candidate.leads_until().map_or(until, |end| end.min(until));
            tokio::select! {
                () = sleep_until(self.clock.instant(until)) => {}
                sight = seen.recv() => {
                    let now = self.clock.monotonic();
                    match sight {
                        Some(Seen::Lease(lease)) => self.candidate.observe(lease.map(|lease| *lease), now),
                        Some(Seen::Deleted { uid }) => self.candidate.observe_deletion(&uid, now),
                        None => break,
                    }
                }
                _ = &mut resigned => break,
            }
        }
        watcher.abort();
        self.leading.send_replace(false);
        self.release(&requests).await;
    }

    fn tell(&mut self, now: Duration) {
        self.candidate.expire(now);
        let leads = self.candidate.leads_until().is_some();
        if self.leading.send_if_modified(|leading| std::mem::replace(leading, leads) != leads) {
            info!(leads, "{}", if leads { "this process leads" } else { "this process does not lead any more" });
        }
    }

    /// One attempt, which the candidate is told the outcome of. Returns why it failed.
    async fn write(&mut self, requests: &Requests, write: Write, now: Duration) -> Option<String> {
        // Not past the end of its own leadership: that has to be told in time.
        let limit =
            self.candidate.leads_until().map_or(REQUEST_TIMEOUT, |end| end.saturating_sub(now).min(REQUEST_TIMEOUT));
        let (outcome, problem) = match timeout(limit, requests.write(write)).await {
            Ok(Ok(outcome)) => (outcome, None),
            Ok(Err(problem)) => (Outcome::Failed, Some(problem)),
            Err(_) => (Outcome::Failed, Some(NO_ANSWER.to_owned())),
        };
        if let Some(back) = self.candidate.answered(outcome, now, self.clock.monotonic(), random()) {
            warn!("the lease {}/{NAME} of the election is taken as it is now: {back}", self.namespace);
        }
        problem
    }

    async fn release(&self, requests: &Requests) {
        let mut backoff = Backoff::default();
        for attempt in 1..=RELEASE_ATTEMPTS {
            let problem = match timeout(REQUEST_TIMEOUT, requests.release(&self.candidate)).await {
                Ok(Ok(())) => return,
                Ok(Err(problem)) => problem,
                Err(_) => NO_ANSWER.to_owned(),
            };
            warn!("cannot give up the lease of the election: {problem}");
            if attempt < RELEASE_ATTEMPTS {
                backoff.pause().await;
            }
        }
    }
}

/// Where the lease is.
type Leases = Endpoint<Lease, Spec, IgnoredAny>;

/// Requests about the lease.
struct Requests {
    endpoint: Leases,
    pods: PodEndpoint,
    namespace: String,
}

impl Requests {
    fn new(client: Client, namespace: &str) -> Self {
        let endpoint = Endpoint::namespaced(client.clone(), Program::OPERATOR, namespace);
        let pods = Endpoint::namespaced(client, Program::OPERATOR, namespace);
        Self { endpoint, pods, namespace: namespace.to_owned() }
    }

    /// Writes, and looks at the lease if it is not what the write takes it for.
    async fn write(&self, write: Write) -> Result<Outcome, String> {
        let creates = matches!(write, Write::Create(_));
        let result = match write {
            Write::Create(lease) => self.endpoint.create(&lease).await,
            Write::Patch(patch) => self.endpoint.patch(NAME, &patch).await,
        };
        match result {
            Ok(lease) => read(lease).map(Outcome::Written),
            // What is created need not be there, so what is missing is where it belongs.
            Err(RequestError::Refused(refusal)) if creates && refusal.code == 404 => Err(format!(
                "there is no namespace {0}: create it, or name another one with --namespace or KONDUCTOR_NAMESPACE ({1})",
                self.namespace, refusal.message
            )),
            Err(error) if error.is_conflict() || error.is_absent(NAME) => self.get().await.map(Outcome::Overtaken),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The lease as it is at this moment, if there is one.
    async fn get(&self) -> Result<Option<Record>, String> {
        match self.endpoint.get(NAME).await {
            Ok(lease) => read(lease).map(Some),
            Err(error) if error.is_absent(NAME) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether this pod is known not to exist any more.
    async fn is_gone(&self, pod: &Pod) -> bool {
        match self.pods.get(&pod.name).await {
            Ok(found) => found.metadata().uid != pod.uid,
            Err(error) => error.is_absent(&pod.name),
        }
    }

    /// Gives the lease up if it is this candidate's.
    async fn release(&self, candidate: &Candidate) -> Result<(), String> {
        let Some(patch) = self.get().await?.and_then(|lease| candidate.release(&lease)) else { return Ok(()) };
        self.endpoint.patch(NAME, &patch).await.map(drop).map_err(|error| error.to_string())
    }
}

fn read(lease: Lenient<LeaseObject>) -> Result<Record, String> {
    lease.map(Record::from).map_err(|misfit| format!("the lease cannot be read: {misfit}"))
}

const NO_ANSWER: &str = "the API server did not answer in time";

/// Selects the one lease, so that permission to watch it is enough.
const FIELDS: &str = "metadata.name=konductor-operator";

/// What a watch shows.
enum Seen {
    /// The lease; `None` when a list is without it.
    Lease(Option<Box<Record>>),
    /// A lease was deleted.
    Deleted { uid: String },
}

/// Sends each state of the lease that a watch shows.
async fn watch_lease(source: Source<Lease, Spec, IgnoredAny>, sightings: mpsc::Sender<Seen>) {
    let mut listed = None;
    let wrap = move |event| match event {
        Event::Init => {
            listed = None;
            None
        }
        Event::InitDone { .. } => Some(Seen::Lease(listed.take())),
        Event::Apply(Ok(lease)) => {
            let lease: Box<Record> = Box::new(lease);
            listed = Some(lease.clone());
            Some(Seen::Lease(Some(lease)))
        }
        Event::Apply(Err(why)) => {
            warn!("{why}");
            None
        }
        Event::Delete(deleted) => Some(Seen::Deleted { uid: deleted.uid }),
    };
    // How it goes is logged already, and that the store went back is found out by a write.
    source.follow(sightings, read, wrap, |_| ()).await;
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Method, StatusCode};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Bytes;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::{
        task::JoinHandle,
        time::{Instant, sleep},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An API server with one lease, or none.
    #[derive(Debug, Default)]
    struct Server {
        without_namespace: bool,
        /// Answers no request at all.
        mute: bool,
        /// Every write loses against somebody else's, who leaves the lease to nobody.
        contended: bool,
        version: u64,
        lease: Option<Value>,
        /// The UID of the pod `operator-a`, if there is one.
        pod: Option<&'static str>,
        /// What was written, and when.
        writes: Vec<Instant>,
        reads: usize,
        /// How often a pod was looked at.
        looks: usize,
    }

    impl Server {
        /// Also after very many writes: time, which is not real here, would never go on for one that spins.
        fn is_silent(&self) -> bool {
            self.mute || self.writes.len() > 1000
        }

        fn put(&mut self, mut lease: Value) -> Value {
            self.version += 1;
            lease["metadata"]["resourceVersion"] = self.version.to_string().into();
            lease["metadata"]["uid"] = "u".into();
            lease["metadata"]["name"] = NAME.into();
            // What no type of ours can hold, but the API server keeps.
            lease["metadata"]["creationTimestamp"] = "9999-12-31T23:59:60Z".into();
            lease["metadata"]["managedFields"] = json!([{ "time": "9999-12-31T23:59:59Z" }]);
            lease["spec"]["renewTime"] = "9999-12-31T23:59:59.999999Z".into();
            self.lease = Some(lease.clone());
            lease
        }

        /// The store is that of an earlier time.
        fn restore(&mut self, version: u64) {
            self.version = version - 1;
            let lease = self.lease.clone().expect("a lease");
            self.put(lease);
        }

        fn holder(&self) -> Option<&str> {
            self.lease.as_ref()?["spec"]["holderIdentity"].as_str()
        }

        fn answer(&mut self, method: &Method, path: &str, is_list: bool, body: &[u8]) -> (StatusCode, Value) {
            if path.ends_with("/pods/operator-a") {
                self.looks += 1;
                return match self.pod {
                    Some(uid) => (StatusCode::OK, json!({ "metadata": { "name": "operator-a", "uid": uid } })),
                    None => absent("operator-a"),
                };
            }
            let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).expect("JSON") };
            match *method {
                Method::GET if is_list => {
                    let items: Vec<_> = self.lease.iter().collect();
                    (
                        StatusCode::OK,
                        json!({ "metadata": { "resourceVersion": self.version.to_string() }, "items": items }),
                    )
                }
                Method::GET => {
                    self.reads += 1;
                    self.lease.clone().map_or_else(no_lease, |lease| (StatusCode::OK, lease))
                }
                _ => {
                    self.writes.push(Instant::now());
                    self.write(method, &body)
                }
            }
        }

        fn write(&mut self, method: &Method, body: &Value) -> (StatusCode, Value) {
            if self.without_namespace {
                return failure(404, r#"namespaces "here" not found"#);
            }
            if self.contended {
                self.put(json!({ "metadata": {}, "spec": {} }));
                return failure(409, "the object has been modified");
            }
            match (method, self.lease.clone()) {
                (&Method::POST, None) => (StatusCode::CREATED, self.put(body.clone())),
                (&Method::POST, Some(_)) => failure(409, "it exists"),
                (_, None) => no_lease(),
                (_, Some(lease)) if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] => {
                    failure(409, "the object has been modified")
                }
                (_, Some(mut lease)) => {
                    for (field, value) in body["spec"].as_object().expect("a spec") {
                        lease["spec"][field] = value.clone();
                    }
                    (StatusCode::OK, self.put(lease))
                }
            }
        }
    }

    fn no_lease() -> (StatusCode, Value) {
        absent(NAME)
    }

    fn absent(name: &str) -> (StatusCode, Value) {
        let (code, mut status) = failure(404, "there is none");
        status["details"] = json!({ "name": name });
        (code, status)
    }

    fn failure(code: u16, message: &str) -> (StatusCode, Value) {
        let status =
            json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code });
        (StatusCode::from_u16(code).expect("a code"), status)
    }

    fn client_of(server: &Arc<Mutex<Server>>) -> Client {
        let server = Arc::clone(server);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                let is_watch = parts.uri.query().is_some_and(|query| query.contains("watch="));
                let is_list = !parts.uri.path().ends_with(NAME);
                if is_watch || server.lock().expect("no panic").is_silent() {
                    return std::future::pending().await;
                }
                let (status, answer) =
                    server.lock().expect("no panic").answer(&parts.method, parts.uri.path(), is_list, &body);
                let body = Full::new(Bytes::from(answer.to_string()));
                Ok::<_, Infallible>(http::Response::builder().status(status).body(body).expect("a response"))
            }
        });
        Client::new(service, "here")
    }

    /// An operator `me` in the election of this server.
    struct Scene {
        server: Arc<Mutex<Server>>,
        leading: watch::Receiver<bool>,
        resign: oneshot::Sender<()>,
        elector: JoinHandle<()>,
    }

    impl Scene {
        fn begin(server: Server) -> Self {
            let server = Arc::new(Mutex::new(server));
            let (leading_sender, leading) = watch::channel(false);
            let (resign, resigned) = oneshot::channel();
            let elector = Elector {
                client: client_of(&server),
                namespace: "here".into(),
                candidate: Candidate::new("me".into(), 15 * SECOND),
                clock: Clock::start(),
                leading: leading_sender,
            };
            Self { server, leading, resign, elector: tokio::spawn(elector.run(resigned)) }
        }

        fn server(&self) -> std::sync::MutexGuard<'_, Server> {
            self.server.lock().expect("no panic")
        }

        fn leads(&self) -> bool {
            *self.leading.borrow()
        }

        async fn resign(self) -> Arc<Mutex<Server>> {
            self.resign.send(()).expect("it takes part");
            self.elector.await.expect("no panic");
            self.server
        }
    }

    fn lease_of(holder: &str) -> Value {
        json!({ "metadata": {}, "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15 } })
    }

    /// The most writes within any second.
    fn most_in_a_second(writes: &[Instant]) -> usize {
        let within = |first: &Instant| writes.iter().filter(|at| (*first..*first + SECOND).contains(at)).count();
        writes.iter().map(within).max().unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn leads_renews_and_gives_the_lease_back() {
        let scene = Scene::begin(Server::default());
        sleep(60 * SECOND).await;
        assert!(scene.leads());
        assert_eq!(scene.server().holder(), Some("me"));
        let writes = scene.server().writes.len();
        assert!((12..=14).contains(&writes), "{writes} writes in a minute");
        let server = scene.resign().await;
        assert_eq!(server.lock().expect("no panic").holder(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn leaves_anothers_lease_alone_at_the_end() {
        let mut server = Server::default();
        server.put(lease_of("other"));
        let scene = Scene::begin(server);
        sleep(SECOND).await;
        assert!(!scene.leads());
        let server = scene.resign().await;
        let server = server.lock().expect("no panic");
        assert_eq!((server.holder(), server.writes.len()), (Some("other"), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_left_its_lease_behind_with_its_pod_keeps_nobody_waiting() {
        // There is no such pod; another one has its name; it is still about to end.
        for (pod, at_most) in [(None, SECOND), (Some("another"), SECOND), (Some("u-1"), 9 * SECOND)] {
            let mut server = Server { pod, ..Server::default() };
            server.put(lease_of("operator-a_u-1"));
            let mut scene = Scene::begin(server);
            let begun = Instant::now();
            sleep(SECOND / 2).await;
            scene.server().pod.take_if(|uid| *uid == "u-1");
            scene.leading.wait_for(|leads| *leads).await.expect("it takes part");
            assert!(begun.elapsed() <= at_most, "{pod:?}: {:?}", begun.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pod_of_a_leader_that_renews_is_looked_at_once() {
        let mut server = Server { pod: Some("u-1"), ..Server::default() };
        server.put(lease_of("operator-a_u-1"));
        let scene = Scene::begin(server);
        sleep(6 * SECOND).await;
        assert_eq!(scene.server().looks, 1);
        // It is silent now.
        sleep(5 * SECOND).await;
        assert!((2..=5).contains(&scene.server().looks), "{} looks", scene.server().looks);
        assert!(!scene.leads());
    }

    #[tokio::test(start_paused = true)]
    async fn without_its_namespace_it_rests_between_attempts() {
        let scene = Scene::begin(Server { without_namespace: true, ..Server::default() });
        sleep(60 * SECOND).await;
        {
            let server = scene.server();
            assert!((30..=90).contains(&server.writes.len()), "{} writes in a minute", server.writes.len());
            assert!(most_in_a_second(&server.writes) <= 2);
        }
        scene.server().without_namespace = false;
        sleep(2 * SECOND).await;
        assert!(scene.leads());
    }

    #[tokio::test]
    async fn it_is_said_which_namespace_is_missing_and_what_to_do() {
        let server = Arc::new(Mutex::new(Server { without_namespace: true, ..Server::default() }));
        let requests = Requests::new(client_of(&server), "here");
        let problem = requests.write(Write::Create(lease_of("me"))).await.expect_err("there is no namespace");
        assert!(problem.contains("no namespace here: create it, or name another one with --namespace"), "{problem}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_somebody_else_always_writes_first_is_not_fought_for_without_a_pause() {
        let scene = Scene::begin(Server { contended: true, ..Server::default() });
        sleep(60 * SECOND).await;
        let server = scene.server();
        assert!((30..=90).contains(&server.writes.len()), "{} writes in a minute", server.writes.len());
        assert!(most_in_a_second(&server.writes) <= 2);
        // One look after each write that did not take effect.
        assert!(server.reads <= server.writes.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_steps_down_and_stands_again_when_the_store_was_restored_from_a_backup() {
        let mut scene = Scene::begin(Server { version: 1000, ..Server::default() });
        scene.leading.wait_for(|leads| *leads).await.expect("it takes part");
        scene.server().restore(500);
        let before = scene.server().writes.len();
        scene.leading.wait_for(|leads| !*leads).await.expect("it takes part");
        scene.leading.wait_for(|leads| *leads).await.expect("it takes part");
        let server = scene.server();
        // One that fails, one that succeeds.
        assert_eq!((server.writes.len() - before, server.version), (2, 501));
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_takes_over_when_the_store_was_restored_from_a_backup_and_the_leader_is_gone() {
        let mut server = Server { version: 1000, ..Server::default() };
        server.put(lease_of("other"));
        let mut scene = Scene::begin(server);
        sleep(SECOND).await;
        scene.server().restore(500);
        let begun = Instant::now();
        scene.leading.wait_for(|leads| *leads).await.expect("it takes part");
        // The whole duration for the version that is lost, and again for the one that is there.
        assert!(begun.elapsed() <= 32 * SECOND, "{:?}", begun.elapsed());
        assert_eq!(scene.server().writes.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_gets_no_answer_steps_down_before_anybody_else_may_take_over() {
        let mut scene = Scene::begin(Server::default());
        scene.leading.wait_for(|leads| *leads).await.expect("it takes part");
        let begun = Instant::now();
        scene.server().mute = true;
        scene.leading.wait_for(|leads| !*leads).await.expect("it takes part");
        assert!(begun.elapsed() <= 10 * SECOND, "{:?}", begun.elapsed());
    }
}
