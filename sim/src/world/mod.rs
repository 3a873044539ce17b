//! A world for real operators and clients: one API server, the network to it, clocks, and what goes wrong.

mod actors;
mod neighbour;
mod network;
mod process;
mod servers;
mod sight;
mod tree;
mod wrapper;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    hash::{DefaultHasher, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use konductor::LossReason;
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::actors::holder;
pub use self::actors::{Outcome, live, note_panics};
use self::{
    network::Fate,
    process::Process,
    servers::ApiServer,
    sight::{Connection, Sights},
};
use crate::{
    chance::Chance,
    mutation::Mutation,
    observe::{Observers, Taken},
    plan::{Plan, Weather},
    server::{self, Answer, Key, Refusal, Reply, Request, Server, Watch, resource},
};

/// The namespaces of those who want something: nearly always all of them are in the first one.
pub const TEAMS: [&str; 3] = ["team", "team-1", "team-2"];

/// That in which there are barriers and gates, too.
pub const TEAM: &str = TEAMS[0];

/// That of gates that look into the other one.
pub const ONLOOKERS: &str = "onlookers";

/// When all histories begin.
pub const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// Requests of one operator in one second of the world, at most: it writes no more than its lanes let through.
const OPERATOR_REQUESTS: u32 = 400;

/// The same for each object that there is, where there are many: a write that is refused, and looks at what has come of
/// it, at once and after 0.1, 0.3 and 0.7 s.
const REQUESTS_OF_EACH: u32 = 5;

/// The same of a client: it has no loop without a pause.
const CLIENT_REQUESTS: u32 = 30;

/// Turns of one operator in a second of the world, at most.
const OPERATOR_TURNS: u64 = 100_000;

/// The same of a client.
const CLIENT_TURNS: u64 = 1000;

/// How long nothing happens in the end, while it is counted what is asked for all the same.
const IDLE: Duration = Duration::from_secs(20);

/// Requests of one operator meanwhile, at most: those of the election, and a watch or list that begins anew.
const IDLE_REQUESTS: u64 = 60;

/// How long what was heard may be new to who has not stood still.
const HEARD: Duration = Duration::from_secs(1);

/// The world.
pub struct World {
    inner: Mutex<Inner>,
    changed: Vec<Arc<Notify>>,
    started: Instant,
}

struct Inner {
    server: Server,
    chance: Chance,
    weather: Weather,
    calm: bool,
    /// From when to when nothing goes from or to a process, by its name.
    cuts: BTreeMap<String, (Instant, Instant)>,
    /// Until when a process may do nothing.
    bans: BTreeMap<String, Instant>,
    servers: Vec<ApiServer>,
    /// Which versions etcd had, since when.
    versions: Vec<(Duration, u64)>,
    /// Whether etcd was restored from a backup.
    restored: bool,
    /// Until when admission refuses claims and arrivals, and how.
    admission: BTreeMap<Refusal, Instant>,
    /// Until when each object that cannot be served cannot, by its path.
    unservable: BTreeMap<String, Instant>,
    observers: Observers,
    mutation: Option<Mutation>,
    story: Option<String>,
    digest: DefaultHasher,
    steps: u64,
    seen: u64,
    /// Requests that may still have an effect.
    under_way: i64,
    /// What operators were told, and how many connections there were.
    sights: Sights,
    connections: Connection,
    /// The second of the world that is counted, and requests in it.
    pace: BTreeMap<String, (u64, u32)>,
    /// All requests of each operator.
    asked: BTreeMap<String, u64>,
    /// Who has taken too many turns in a second, which is said once.
    turned: BTreeSet<String>,
}

/// What there is to tell to a watch, and when there may be more; of one that ends, its last words.
struct Told {
    events: Result<Vec<String>, Vec<String>>,
    more_at: Option<Instant>,
}

/// The time at this moment, by a clock that is right.
fn timestamp(at: Instant) -> Timestamp {
    STARTED.with(|started| {
        let since = started.get().map_or(Duration::ZERO, |started| at.saturating_duration_since(started));
        EPOCH.saturating_add(SignedDuration::try_from(since).unwrap_or_default()).unwrap_or(EPOCH)
    })
}

thread_local! {
    /// When the history of this thread began.
    static STARTED: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

impl World {
    fn new(plan: &Plan, tells: bool) -> Arc<Self> {
        let started = Instant::now();
        STARTED.set(Some(started));
        let mut server = Server::default();
        let is = |mutation| plan.mutation == Some(mutation);
        server.page = plan.page;
        server.keeps_uids = is(Mutation::UidsAreKept);
        server.keeps_arrivals = is(Mutation::OperatorsMixUpBarriers);
        let inner = Inner {
            server,
            chance: Chance::new(plan.seed, 2),
            weather: Weather::default(),
            calm: true,
            cuts: BTreeMap::new(),
            bans: BTreeMap::new(),
            servers: (0..plan.servers).map(|_| ApiServer::default()).collect(),
            versions: Vec::new(),
            restored: false,
            admission: BTreeMap::new(),
            unservable: BTreeMap::new(),
            observers: Observers::new(plan),
            mutation: plan.mutation,
            story: tells.then(String::new),
            digest: DefaultHasher::new(),
            steps: 0,
            seen: 0,
            under_way: 0,
            sights: Sights::default(),
            connections: 0,
            pace: BTreeMap::new(),
            asked: BTreeMap::new(),
            turned: BTreeSet::new(),
        };
        let changed = resource::all().iter().map(|_| Arc::default()).collect();
        Arc::new(Self { inner: Mutex::new(inner), changed, started })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the history has lasted.
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Tells the story.
    fn tell(&self, line: impl FnOnce() -> String) {
        let now = self.now();
        self.inner().tell(now, line);
    }

    /// A client hears of something, and has not heard of so much more.
    fn unheard(&self, client: usize, told: usize) {
        let now = self.now();
        self.inner().observers.unheard(now, client, told);
    }

    /// Counts something.
    fn count(&self, what: &str) {
        self.inner().observers.count(what);
    }

    /// What a process asks for is counted, but for the pages of a list after its first: of how many there are, the server
    /// decides.
    fn asked(&self, process: &Process, request: &Request) {
        let now = self.now();
        let mut inner = self.inner();
        let second = now.as_secs();
        let pace = inner.pace.entry(process.name.clone()).or_default();
        if pace.0 != second {
            *pace = (second, 0);
        }
        let is_page = request.query.iter().any(|(name, _)| name == "continue");
        pace.1 += u32::from(!is_page);
        let count = pace.1;
        let (figure, most) = if process.is_operator {
            let most = OPERATOR_REQUESTS.max(REQUESTS_OF_EACH * inner.observers.objects() as u32);
            ("most requests of an operator in a second", most)
        } else {
            ("most requests of a client in a second", CLIENT_REQUESTS)
        };
        inner.observers.most(figure, count.into());
        if process.is_operator {
            *inner.asked.entry(process.name.clone()).or_default() += 1;
        }
        let (figure, most_turns) = if process.is_operator {
            ("most turns of an operator in a second", OPERATOR_TURNS)
        } else {
            ("most turns of a client in a second", CLIENT_TURNS)
        };
        let turns = process.most_turns();
        inner.observers.most(figure, turns);
        if turns > most_turns && inner.turned.insert(process.name.clone()) {
            inner.observers.broken(now, format!("{} takes {turns} turns in a second", process.name));
        }
        if count == most && !is_page {
            inner.observers.broken(now, format!("{} makes {count} requests in a second", process.name));
        }
        let (requests, watches) = (process.open.requests.load(Relaxed), process.open.watches.load(Relaxed));
        inner.observers.waits(now, &process.name, process.is_operator, requests, watches);
        inner.note(now, &process.name, request.method.as_str(), &request.path);
        inner.tell(now, || {
            let mut query = String::new();
            for (number, (name, value)) in request.query.iter().enumerate() {
                let _ = write!(query, "{}{name}={value}", if number == 0 { '?' } else { '&' });
            }
            let body = String::from_utf8_lossy(&request.body);
            format!("{} asks: {} {}{query} {body}", process.name, request.method, request.path)
        });
    }

    /// Nothing happens any more, and nobody asks for much.
    async fn rest(&self) {
        let before = self.inner().asked.clone();
        tokio::time::sleep(IDLE).await;
        let now = self.now();
        let mut inner = self.inner();
        let Inner { asked, observers, .. } = &mut *inner;
        for (operator, asked) in asked.iter() {
            let asked = asked - before.get(operator).copied().unwrap_or(0);
            observers.most("most requests of an operator in 20 s in which nothing happens", asked);
            if asked > IDLE_REQUESTS {
                observers
                    .broken(now, format!("{operator} makes {asked} requests in {IDLE:?} in which nothing happens"));
            }
        }
    }

    /// Whether a process keeps what it has given up.
    fn keeps_what_is_given_up(&self) -> bool {
        self.inner().mutation == Some(Mutation::GivenUpRequestsAreKept)
    }

    /// So many more requests are under way.
    fn under_way(&self, more: i64) {
        self.inner().under_way += more;
    }

    /// What becomes of a request, and how long it and its answer take.
    fn fate(&self, process: &Process, late: u64) -> (Fate, Duration, Duration) {
        let mut inner = self.inner();
        let Inner { chance, weather, observers, .. } = &mut *inner;
        let way = weather.way.max(1);
        let (mut there, back) = (chance.millis(1, way + 1), chance.millis(1, way + 1));
        let fate = if chance.happens(weather.lost) {
            Fate::Lost
        } else if chance.happens(weather.unanswered) {
            Fate::Unanswered
        } else if chance.happens(weather.refused) {
            match chance.below(5) {
                0 => Fate::Refused(429, false),
                1 => Fate::Refused(500, chance.happens(500)),
                2 => Fate::Refused(503, false),
                3 => Fate::Refused(504, true),
                _ => Fate::Refused(504, false),
            }
        } else {
            if chance.happens(weather.late) {
                there += chance.millis(1000, late);
                observers.count("request: late");
            }
            Fate::Answered
        };
        if let Some(what) = match fate {
            Fate::Answered => None,
            Fate::Lost => Some("lost".to_owned()),
            Fate::Unanswered => Some("carried out and not answered".to_owned()),
            Fate::Refused(code, true) => Some(format!("carried out and refused with {code}")),
            Fate::Refused(code, false) => Some(format!("refused with {code}")),
        } {
            observers.count(&format!("request: {what}"));
            let now = self.now();
            inner.tell(now, || format!("  a request of {} will be {fate:?}", process.name));
        }
        (fate, there, back)
    }

    /// How late the next events of a watch are, and whether it is cut off instead: with a word, or without one.
    fn lag(&self) -> (Duration, Option<bool>) {
        let mut inner = self.inner();
        let Inner { chance, weather, observers, .. } = &mut *inner;
        let lag = chance.millis(1, weather.lag + 2);
        let cut = chance.happens(weather.cut).then(|| chance.happens(600));
        if let Some(told) = cut {
            observers.count(if told { "watch: cut off" } else { "watch: silent" });
        }
        (lag, cut)
    }

    /// Nothing goes from or to a process for so long.
    fn cut_off(&self, process: String, span: Duration) {
        let now = Instant::now();
        let mut inner = self.inner();
        let cut = inner.cuts.entry(process).or_insert((now, now));
        *cut = (if cut.1 < now { now } else { cut.0 }, now + span);
    }

    fn cut_until(&self, process: &Process) -> Option<Instant> {
        let inner = self.inner();
        if inner.mutation == Some(Mutation::CutOffAreAnswered) && !process.is_operator {
            return None;
        }
        inner.cuts.get(&process.name).map(|(_, until)| *until).filter(|until| *until > Instant::now())
    }

    /// What RBAC answers to a process that may do nothing at the moment.
    fn forbids(&self, process: &Process, request: &Request) -> Option<Answer> {
        let is_banned = self.inner().bans.get(&process.name).is_some_and(|until| *until > Instant::now());
        let (home, account) = if process.is_operator { ("konductor", "konductor-operator") } else { (TEAM, "worker") };
        let user = format!("system:serviceaccount:{home}:{account}");
        is_banned.then(|| server::no_right(&user, request)).flatten()
    }

    /// The API server that a process asks next.
    fn server_of(&self, process: &Process) -> usize {
        let mut inner = self.inner();
        let Inner { chance, weather, servers, .. } = &mut *inner;
        let home = process.home(servers.len());
        if servers.len() > 1 && (!servers[home].is_there() || chance.happens(weather.moves)) {
            process.move_to(chance.below(servers.len() as u64) as usize);
        }
        process.home(servers.len())
    }

    fn is_there(&self, server: usize) -> bool {
        self.inner().servers[server].is_there()
    }

    fn boots(&self, server: usize) -> u64 {
        self.inner().servers[server].boots
    }

    /// An API server carries out a request.
    fn handle(&self, process: &Process, server: usize, request: &Request) -> Reply {
        let now = self.now();
        let mut inner = self.inner();
        let (mut stale, _) = inner.servers[server].position();
        let mut rewritten;
        let mut request = request;
        if let Some(mutation) = inner.mutation {
            rewritten = request.clone();
            if mutation.rewrite(process.is_operator, &mut rewritten) {
                stale = stale.saturating_sub(inner.chance.below(20));
            }
            request = &rewritten;
        }
        if !inner.can_serve(&request.path) {
            inner.observers.count("request: about an object that cannot be served");
            let code = if inner.chance.happens(500) { 500 } else { 503 };
            return Reply::Answer(Answer::trouble(code));
        }
        let pretended = inner.mutation.and_then(|mutation| {
            let now = timestamp(Instant::now());
            mutation.pretend(process.is_operator, request, &inner.server, now)
        });
        if let Some(answer) = pretended {
            return Reply::Answer(answer);
        }
        let stale = stale.max(inner.server.store.compacted());
        let Inner { server, admission, .. } = &mut *inner;
        admission.retain(|_, until| *until > Instant::now());
        server.refusals = admission.keys().copied().collect();
        let mut reply = server.handle(request, timestamp(Instant::now()), stale);
        // What the world itself changes nobody refuses.
        server.refusals.clear();
        if let (Some(mutation), Reply::Answer(answer)) = (inner.mutation, &mut reply) {
            mutation.see_answer(process.is_operator, answer);
        }
        if let Reply::Answer(answer) = &reply
            && inner.story.is_some()
            && request.method != http::Method::GET
        {
            let text = answer.body.get(..answer.body.len().min(300)).unwrap_or_default().to_owned();
            let code = answer.code;
            inner.tell(now, || format!("  {} of {} {}: {code} {text}", request.method, process.name, request.path));
        }
        self.look(&mut inner, now, Some(process));
        reply
    }

    /// The world itself changes something.
    fn change<T>(&self, change: impl FnOnce(&mut Server, Timestamp) -> T) -> T {
        let now = self.now();
        let mut inner = self.inner();
        let result = change(&mut inner.server, timestamp(Instant::now()));
        self.look(&mut inner, now, None);
        result
    }

    /// Etcd is restored from a backup that is so old.
    fn restore(&self, age: Duration, raised: bool) {
        let now = self.now();
        let mut inner = self.inner();
        let Inner { server, servers, observers, versions, .. } = &mut *inner;
        let back = now.saturating_sub(age);
        let version = versions.iter().rev().find(|(since, _)| *since <= back).map_or(1, |(_, version)| *version);
        // The namespaces and all locks are made in the first moment, and are in every backup.
        let first = versions.iter().take_while(|(since, _)| since.is_zero()).last().map_or(1, |(_, version)| *version);
        let before = Observers::claims(server);
        server.store.rewind(version.max(first));
        if raised {
            server.store.raise();
        }
        let version = server.store.version();
        versions.push((now, version));
        for server in servers.iter_mut() {
            server.restore(version);
        }
        observers.restored(now, &before, server);
        inner.sights.forget();
        (inner.seen, inner.restored) = (version, true);
        inner.tell(now, || format!("etcd is at {version} again"));
        self.changed.iter().for_each(|changed| changed.notify_waiters());
    }

    /// An API server is replaced.
    fn replace(&self, server: usize, away: Duration) {
        self.inner().servers[server].replace(away);
        self.changed.iter().for_each(|changed| changed.notify_waiters());
    }

    /// For so long the object at this path cannot be served.
    fn cannot_serve(&self, path: String, span: Duration) {
        self.inner().unservable.insert(path, Instant::now() + span);
    }

    fn admits_not(&self, how: Refusal, span: Duration) {
        self.inner().admission.insert(how, Instant::now() + span);
    }

    /// The library tells this process that it holds something, or does so for longer: nobody says that to whom no answer
    /// gets through.
    fn is_told_to_hold(&self, process: &Process) {
        let now = self.now();
        let mut inner = self.inner();
        let cut = inner.cuts.get(&process.name).filter(|(_, until)| *until > Instant::now());
        if cut.is_some_and(|(from, _)| Instant::now() > (*from).max(process.runs_since()) + HEARD) {
            let what = format!("I5: {} holds something, and has heard of nobody for a while", process.name);
            inner.observers.broken(now, what);
        }
    }

    /// A client holds a lock.
    fn holds(&self, client: usize, taken: Taken) {
        let now = self.now();
        let mut inner = self.inner();
        let Inner { server, observers, .. } = &mut *inner;
        observers.held(now, client, taken, server);
    }

    /// A client says that it has lost a lock.
    fn loses(&self, client: usize, lock: usize, why: &LossReason) {
        let now = self.now();
        let mut inner = self.inner();
        let Inner { server, observers, .. } = &mut *inner;
        observers.lost(now, client, lock, why, server);
    }

    /// A request that nothing delays, of people and of controllers.
    fn ask(&self, method: http::Method, path: &str, body: &Value) -> (u16, Value) {
        self.change(|server, now| {
            let request = Request {
                method,
                path: path.to_owned(),
                query: Vec::new(),
                content_type: "application/merge-patch+json".into(),
                body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
            };
            let Reply::Answer(answer) = server.handle(&request, now, u64::MAX) else { unreachable!("not a watch") };
            (answer.code, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
        })
    }

    /// Shows what has changed to the observers, and wakes the watches.
    fn look(&self, inner: &mut Inner, now: Duration, by: Option<&Process>) {
        let Inner { server, observers, seen, .. } = inner;
        let mut changed = Vec::new();
        for change in server.store.changes_after(*seen) {
            observers.changed(now, change, by.map(|process| process.name.as_str()), &*server);
            changed.push((change.key.clone(), change.version, change.deleted));
        }
        *seen = server.store.version();
        if !changed.is_empty() {
            let version = *seen;
            inner.versions.push((now, version));
            let Inner { servers, weather, chance, .. } = &mut *inner;
            let several = servers.len() > 1;
            for server in servers {
                let lag = if several { chance.millis(0, weather.behind) } else { Duration::ZERO };
                server.hear(version, lag);
            }
        }
        for ((id, namespace, name), version, deleted) in changed {
            inner.steps += 1;
            inner.digest.write_u64(version);
            inner.digest.write_u64(now.as_millis() as u64);
            inner.note(now, "", &namespace, &name);
            inner.tell(now, || {
                format!(
                    "  {} {namespace}/{name} {} at {version}",
                    resource::all()[id].plural,
                    if deleted { "is gone" } else { "is written" }
                )
            });
            self.changed[id].notify_waiters();
        }
    }

    /// Shows to the observers what has not changed for a while.
    fn look_at_rest(&self) {
        let now = self.now();
        let mut inner = self.inner();
        let Inner { server, observers, sights, .. } = &mut *inner;
        let server = &*server;
        observers.at_rest(now, server);
        let leader = Observers::leader(server);
        let connection = leader.as_deref().and_then(|leader| sights.of(leader));
        let view = connection.map(|connection| (connection, View { server, sights, connection }));
        observers.gates_of_leader(now, server, view);
    }

    /// A process makes a connection.
    fn connect(&self, process: &Arc<Process>) -> Connection {
        let mut inner = self.inner();
        inner.connections += 1;
        let connection = inner.connections;
        inner.sights.connect(process, connection);
        connection
    }

    /// What an operator asks for says what it has decided.
    fn decided(&self, process: &Process, connection: Connection, request: &Request) {
        if !process.is_operator {
            return;
        }
        let now = self.now();
        let mut inner = self.inner();
        let Inner { server, observers, sights, .. } = &mut *inner;
        if request.method == http::Method::GET && request.path.ends_with("/gates") {
            sights.is_of_gates(connection);
        }
        if request.method != http::Method::PATCH || !request.path.contains("/gates/") {
            return;
        }
        let mut parts = request.path.split('/').skip_while(|part| *part != "namespaces").skip(1);
        if let (Some(namespace), Some(_), Some(name)) = (parts.next(), parts.next(), parts.next())
            && let Ok(patch) = serde_json::from_slice::<Value>(&request.body)
        {
            let view = &mut View { server, sights, connection };
            observers.gate_decided(now, &process.name, (namespace, name), &patch["status"], view);
        }
    }

    /// An operator is answered: lists, and what it has written, are part of what it knows.
    fn answered(&self, process: &Process, connection: Connection, request: &Request, answer: &Answer) {
        // Of a list of one object nothing is taken in but its version: it is how a watch finds out where it stands.
        let is_small = request.query.iter().any(|(name, value)| name == "limit" && value == "1");
        if !process.is_operator || answer.code >= 300 || is_small {
            return;
        }
        let mut inner = self.inner();
        if !inner.sights.decides_on_gates(connection) {
            return;
        }
        let (Some(id), Ok(body)) = (server::resource_of(&request.path), serde_json::from_str::<Value>(&answer.body))
        else {
            return;
        };
        let metadata = &body["metadata"];
        let version = metadata["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        // With one object that was read or written, the others are not told.
        let is_whole = body["items"].is_array() && metadata["continue"].as_str().is_none_or(str::is_empty);
        if let Some(version) = version {
            inner.sights.told(connection, id, version, is_whole);
        }
    }

    /// A watch has told an operator all that has happened so far.
    fn told_by_watch(&self, process: &Process, connection: Connection, watch: &Watch) {
        if process.is_operator {
            self.inner().sights.told(connection, watch.resource, watch.position(), true);
        }
    }

    /// How much later an operator hears of what gates depend on than it was told.
    fn deafness(&self, connection: Connection, watch: &Watch) -> Duration {
        let inner = self.inner();
        let is_deaf = inner.mutation == Some(Mutation::ConditionsAreHeardLate)
            && inner.sights.decides_on_gates(connection)
            && resource::all()[watch.resource].kind != "Gate";
        if is_deaf { Duration::from_secs(20) } else { Duration::ZERO }
    }

    fn changed(&self, id: usize) -> Arc<Notify> {
        Arc::clone(&self.changed[id])
    }

    /// What there is to tell to a watch at this server.
    fn told(&self, process: &Process, server: usize, watch: &mut Watch) -> Told {
        let mut inner = self.inner();
        let (version, more_at) = inner.servers[server].position();
        let mut events = inner.server.events(watch, version);
        if let (Ok(events), Some(mutation)) = (&mut events, inner.mutation) {
            mutation.see_events(process.is_operator, events);
        }
        if events.is_err() {
            inner.observers.count("watch: told that its version is gone");
        }
        if inner.mutation == Some(Mutation::LostHistoryIsNotTold) && events.is_err() {
            watch.pass_over(version);
            events = Ok(Vec::new());
        }
        Told { events, more_at }
    }

    fn bookmark(&self, watch: &mut Watch) -> Option<String> {
        let inner = self.inner();
        if inner.mutation == Some(Mutation::BookmarksRunAhead) {
            watch.pass_over(inner.server.store.version());
        }
        inner.server.bookmark(watch)
    }

    /// An object as it is.
    fn object(&self, key: &Key) -> Option<Value> {
        self.inner().server.store.get(key).map(|stored| stored.value.clone())
    }

    /// Creates an object as people do.
    fn create(&self, path: &str, api_version: &str, kind: &str, name: &str, spec: &Value) -> (u16, Value) {
        let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name }, "spec": spec });
        self.ask(http::Method::POST, path, &object)
    }
}

/// What an operator knows on one connection.
pub(crate) struct View<'a> {
    server: &'a Server,
    sights: &'a mut Sights,
    connection: Connection,
}

impl View<'_> {
    /// What the operator may take an object for: one after the other what it was, `None` where it was not there.
    /// Nothing if that is not known: it was never told, or it is too long ago.
    pub(crate) fn states(&mut self, key: &Key) -> Vec<Option<&Value>> {
        let Some((low, high)) = self.sights.range(self.connection, key.0) else { return Vec::new() };
        let store = &self.server.store;
        if low < store.compacted() {
            return Vec::new();
        }
        store.states(key, low, high).map(|state| state.map(|stored| &stored.value)).collect()
    }
}

impl Inner {
    fn can_serve(&self, path: &str) -> bool {
        let object = path.strip_suffix("/status").unwrap_or(path);
        self.unservable.get(object).is_none_or(|until| *until <= Instant::now())
    }

    fn tell(&mut self, now: Duration, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let _ = writeln!(story, "{:>9.3} {}", now.as_secs_f64(), line());
        }
    }

    /// What a history that repeats must repeat.
    fn note(&mut self, now: Duration, who: &str, what: &str, path: &str) {
        self.digest.write_u64(now.as_micros() as u64);
        for text in [who, what, path] {
            self.digest.write(text.as_bytes());
        }
    }
}
