//! `koncli` before an API server that a test makes up, answer by answer: what no real one does when it is wanted.

mod resets;
mod waits;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
    thread,
};

use konductor_tests::{Process, Signal, eventually};
use serde_json::{Value, json};

use crate::scene::{LIMIT, Ran, ended, koncli};

/// A request: its method, its path without parameters, and its body.
struct Asked {
    method: String,
    path: String,
    is_watch: bool,
    /// Whether it is to change nothing, by its parameters.
    is_dry_run: bool,
    body: Value,
}

/// What is answered to it.
enum Answer {
    /// An object, or a status.
    Json(u16, Value),
    /// What somebody says who is no API server.
    Page(u16),
    /// Nothing, for as long as it is waited for.
    Silence,
    /// A watch in which nothing happens.
    Watch,
    /// A watch that tells these as they come.
    Events(Receiver<Value>),
}

/// An API server that is made up.
pub(crate) struct StandIn {
    asked: Arc<Mutex<Vec<String>>>,
    kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl StandIn {
    fn new(answer: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(Mutex::new(answer)));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                // A connection that breaks has nothing more to ask.
                thread::spawn(move || serve(&stream, &log, &answer));
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = folder.path().join("config");
        let config = json!({
            "current-context": "c", "users": [{ "name": "u", "user": { "token": "t" } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u", "namespace": "etl" } }],
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("a kubeconfig");
        Self { asked, kubeconfig, _folder: folder }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = koncli(&self.kubeconfig);
        command.args(line.split(' '));
        command
    }

    fn start(&self, line: &str) -> Process {
        Process::spawn("koncli", self.command(line))
    }

    async fn run(&self, line: &str) -> Ran {
        ended(self.start(line)).await
    }

    /// The requests of this method so far, without parameters; a creation that is to change nothing is a `DRY POST`.
    fn asked(&self, method: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|asked| asked.starts_with(method)).cloned().collect()
    }

    async fn wait_asked(&self, method: &str, count: usize) {
        eventually(LIMIT, &format!("{count} times {method}"), || async {
            let asked = self.asked(method);
            if asked.len() >= count { Ok(()) } else { Err(format!("{asked:?}")) }
        })
        .await;
    }
}

fn serve(
    stream: &TcpStream,
    log: &Mutex<Vec<String>>,
    answer: &Mutex<impl FnMut(&Asked) -> Answer>,
) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(found) = line.strip_prefix("content-length:") {
                length = found.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = head.split(' ');
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        let (path, parameters) = target.split_once('?').unwrap_or((target, ""));
        let asked = Asked {
            method: method.to_owned(),
            path: path.to_owned(),
            is_watch: parameters.contains("watch=true"),
            is_dry_run: parameters.contains("dryRun=All"),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        let dry = if asked.is_dry_run { "DRY " } else { "" };
        log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{dry}{method} {path}"));
        let answered = answer.lock().unwrap_or_else(PoisonError::into_inner)(&asked);
        let (code, kind, text) = match answered {
            Answer::Json(code, value) => (code, "application/json", value.to_string()),
            Answer::Page(code) => (code, "text/html", "<html>page not found</html>".to_owned()),
            Answer::Silence => {
                // Until the connection is given up.
                reader.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            Answer::Watch => {
                writer.write_all(WATCH)?;
                reader.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            Answer::Events(events) => {
                writer.write_all(WATCH)?;
                for event in events {
                    let line = format!("{event}\n");
                    writer.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
                }
                reader.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
        };
        let length = text.len();
        let head = format!("HTTP/1.1 {code} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        writer.write_all(format!("{head}{text}").as_bytes())?;
    }
}

/// How a watch begins.
const WATCH: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

const BASE: &str = "/apis/konductor.io/v1/namespaces/etl";

fn status(code: u16, reason: &str, name: &str) -> Answer {
    let details = json!({ "name": name });
    Answer::Json(
        code,
        json!({ "kind": "Status", "code": code, "reason": reason, "message": reason, "details": details }),
    )
}

fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A semaphore that has granted, and confirms, what says that its term is 7.
fn semaphore() -> Answer {
    Answer::Json(
        200,
        json!({
            "apiVersion": "konductor.io/v1", "kind": "Semaphore",
            "metadata": { "name": "s", "namespace": "etl", "uid": "U", "resourceVersion": "5" },
            "spec": { "permits": 1 }, "status": { "term": 7, "settledTerm": 7 },
        }),
    )
}

/// A permit of it.
fn permit(name: &str, uid: &str, instance: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "konductor.io/v1", "kind": "Permit",
        "metadata": { "name": name, "namespace": "etl", "uid": uid, "resourceVersion": "20" },
        "spec": { "semaphore": "s", "holder": "nightly", "instance": instance },
        "status": {
            "phase": phase, "term": 7, "parentUid": "U", "fencingToken": 7_u64 << 20, "ttl": "5m0s", "message": "waits",
            "ahead": 1,
        },
    })
}

/// What is granted at once, by an API server that then answers each look at it like this.
fn granting(mut looked_at: impl FnMut(&str) -> Answer + Send + 'static) -> StandIn {
    StandIn::new(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", _) if asked.is_watch => Answer::Watch,
        ("GET", path) if path.contains("/semaphores/") => semaphore(),
        ("GET", path) => looked_at(path),
        ("POST", _) => {
            let (name, instance) = (asked.body["metadata"]["name"].as_str(), asked.body["spec"]["instance"].as_str());
            Answer::Json(201, permit(name.expect("a name"), "P", instance.expect("an instance"), "Granted"))
        }
        _ => Answer::Json(200, json!({ "kind": "Status", "status": "Success" })),
    })
}

/// Nothing has the name before the create, and after it nothing can be read.
fn unreadable() -> StandIn {
    let mut looks = 0;
    granting(move |path| {
        looks += 1;
        if looks == 1 { status(404, "NotFound", &name_of(path)) } else { status(503, "ServiceUnavailable", "") }
    })
}

#[tokio::test]
async fn what_is_held_is_shown_by_what_is_known_when_it_cannot_be_read() {
    for (output, expected) in [("json", "\"fencingToken\": 7340032"), ("name", "permit.konductor.io/s-")] {
        let cluster = unreadable();
        let ran = cluster.run(&format!("semaphore acquire s --holder nightly -o {output}")).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.contains(expected) && ran.stderr.contains("cannot be read"), "{ran:?}");
        assert_eq!(cluster.asked("DELETE"), [""; 0], "it is held");
    }
}

#[tokio::test]
async fn what_nobody_can_be_told_of_is_given_back() {
    let cluster = unreadable();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full disk");
    let child = cluster.command("semaphore acquire s --holder nightly").stdout(full).stderr(Stdio::piped()).spawn();
    let ran = tokio::task::spawn_blocking(|| child.expect("koncli").wait_with_output()).await.expect("a thread");
    let ran = ran.expect("koncli");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(70), "{said}");
    assert!(said.contains("nobody can be told") && said.contains("handed back"), "{said}");
    assert_eq!(cluster.asked("DELETE").len(), 1, "{said}");
}

#[tokio::test]
async fn what_a_gateway_says_is_not_there_is_not_released() {
    for line in ["semaphore release s --holder nightly", "revoke semaphore/s --holder nightly --force -y"] {
        for (answer, is_done) in [(false, false), (true, true)] {
            let cluster = StandIn::new(move |asked| match asked.method.as_str() {
                "GET" => {
                    let items = [permit("s-1", "P", "holder-1", "Granted")];
                    Answer::Json(200, json!({ "metadata": { "resourceVersion": "9" }, "items": items }))
                }
                _ if answer => status(404, "NotFound", "s-1"),
                _ => Answer::Page(404),
            });
            let ran = cluster.run(line).await;
            assert_eq!((ran.code == 0, ran.stdout.contains("s-1")), (is_done, is_done), "{line}: {ran:?}");
            assert_eq!(cluster.asked("DELETE"), [format!("DELETE {BASE}/permits/s-1")]);
        }
    }
}

/// Two commands ask in one holder's name. The other one has created the claim, is granted it and works under it, while
/// this one gives up and the API server is slow.
#[tokio::test]
async fn a_claim_that_another_command_has_created_and_works_under_is_left() {
    let (mut looks, mut instance) = (0, String::new());
    let granted = Arc::new(Mutex::new(None::<usize>));
    let now = granted.clone();
    let cluster = StandIn::new(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", _) if asked.is_watch => Answer::Watch,
        ("GET", path) if path.contains("/semaphores/") => semaphore(),
        ("GET", path) => {
            let name = name_of(path);
            looks += 1;
            let mut granted = now.lock().unwrap_or_else(PoisonError::into_inner);
            match (looks, granted.as_mut()) {
                (1, _) => status(404, "NotFound", &name),
                (_, None) => Answer::Json(200, permit(&name, "theirs", &instance, "Pending")),
                (_, Some(looks)) => {
                    *looks += 1;
                    let claim = permit(&name, "theirs", &instance, "Granted");
                    if *looks == 1 { Answer::Silence } else { Answer::Json(200, claim) }
                }
            }
        }
        ("POST", _) => {
            instance = asked.body["spec"]["instance"].as_str().expect("an instance").to_owned();
            status(409, "AlreadyExists", asked.body["metadata"]["name"].as_str().expect("a name"))
        }
        ("PATCH", _) => status(503, "ServiceUnavailable", ""),
        _ => Answer::Json(200, json!({ "kind": "Status", "status": "Success" })),
    });
    let mut second = cluster.start("semaphore acquire s --holder nightly");
    second.wait_stderr(LIMIT, "waiting for semaphore/s").await;
    *granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(0);
    second.signal(Signal::SIGINT);
    let ran = ended(second).await;
    assert_eq!(cluster.asked("DELETE"), [""; 0], "the other one works under it: {ran:?}");
    assert_eq!(ran.code, -2, "{ran:?}");
}

/// The same when the other one's claim is granted in the moment in which the request to delete it arrives.
#[tokio::test]
async fn a_claim_that_is_granted_while_it_is_withdrawn_is_left_to_who_created_it() {
    let (mut instance, mut phase, mut version) = (String::new(), None, "20");
    let deleted = Arc::new(Mutex::new(false));
    let gone = deleted.clone();
    let cluster = StandIn::new(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", _) if asked.is_watch => Answer::Watch,
        ("GET", path) if path.contains("/semaphores/") => semaphore(),
        ("GET", path) => match phase {
            None => status(404, "NotFound", &name_of(path)),
            Some(phase) => {
                let mut claim = permit(&name_of(path), "theirs", &instance, phase);
                claim["metadata"]["resourceVersion"] = json!(version);
                Answer::Json(200, claim)
            }
        },
        ("POST", _) => {
            instance = asked.body["spec"]["instance"].as_str().expect("an instance").to_owned();
            phase = Some("Pending");
            status(409, "AlreadyExists", asked.body["metadata"]["name"].as_str().expect("a name"))
        }
        ("DELETE", path) => {
            (phase, version) = (Some("Granted"), "21");
            let seen = &asked.body["preconditions"]["resourceVersion"];
            if !seen.is_null() && *seen != version {
                return status(409, "Conflict", &name_of(path));
            }
            *gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
            Answer::Json(200, json!({ "kind": "Status", "status": "Success" }))
        }
        _ => status(503, "ServiceUnavailable", ""),
    });
    let mut second = cluster.start("semaphore acquire s --holder nightly");
    second.wait_stderr(LIMIT, "waiting for semaphore/s").await;
    second.signal(Signal::SIGINT);
    let ran = ended(second).await;
    assert!(!*deleted.lock().unwrap_or_else(PoisonError::into_inner), "the other one works under it: {ran:?}");
    assert_eq!((ran.code, cluster.asked("DELETE").len()), (-2, 1), "{ran:?}");
}

#[tokio::test]
async fn a_second_signal_ends_the_cleaning_up() {
    // Nothing can be deleted, or looked at, any more.
    let mut looks = 0;
    let cluster = StandIn::new(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", _) if asked.is_watch => Answer::Watch,
        ("GET", path) if path.contains("/semaphores/") => semaphore(),
        ("GET", path) => {
            looks += 1;
            if looks == 1 { status(404, "NotFound", &name_of(path)) } else { Answer::Silence }
        }
        ("POST", _) => {
            let (name, instance) = (asked.body["metadata"]["name"].as_str(), asked.body["spec"]["instance"].as_str());
            Answer::Json(201, permit(name.expect("a name"), "P", instance.expect("an instance"), "Pending"))
        }
        _ => Answer::Silence,
    });
    let mut waiting = cluster.start("semaphore acquire s --holder nightly");
    waiting.wait_stderr(LIMIT, "waiting for semaphore/s").await;
    waiting.signal(Signal::SIGINT);
    cluster.wait_asked("DELETE", 1).await;
    waiting.signal(Signal::SIGTERM);
    let ran = ended(waiting).await;
    assert_eq!(ran.code, -15, "{ran:?}");
    assert!(ran.stderr.contains("may be left behind"), "{ran:?}");
}

/// How a barrier is reset at which somebody arrives meanwhile, and that somebody else creates anew as this.
fn keeper(created: Option<Value>) -> (StandIn, Arc<Mutex<Vec<String>>>) {
    let arrivals = Arc::new(Mutex::new(vec!["before".to_owned()]));
    let (all, mut uid) = (arrivals.clone(), Some("OLD"));
    let mut spec = json!({ "expected": 2 });
    let barrier = |uid: &str, spec: &Value| {
        let metadata = json!({ "name": "b", "namespace": "etl", "uid": uid, "resourceVersion": "9" });
        json!({ "apiVersion": "konductor.io/v1", "kind": "Barrier", "metadata": metadata, "spec": spec })
    };
    let cluster = StandIn::new(move |asked| {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        match (asked.method.as_str(), asked.path.contains("/arrivals")) {
            ("GET", true) => {
                let item =
                    |name: &String| json!({ "metadata": { "name": name, "uid": name }, "spec": { "barrier": "b" } });
                let items: Vec<_> = all.iter().map(item).collect();
                Answer::Json(200, json!({ "metadata": { "resourceVersion": "9" }, "items": items }))
            }
            ("DELETE", true) => {
                let name = name_of(&asked.path);
                // All of them, when none is named.
                all.retain(|arrival| name != "arrivals" && *arrival != name);
                Answer::Json(200, json!({ "kind": "Status", "status": "Success" }))
            }
            ("GET", false) => match uid {
                Some(uid) => Answer::Json(200, barrier(uid, &spec)),
                None => status(404, "NotFound", "b"),
            },
            ("DELETE", false) => {
                all.push("after".to_owned());
                uid = created.as_ref().map(|_| "THEIRS");
                spec = created.clone().unwrap_or_default();
                Answer::Json(200, json!({ "kind": "Status", "status": "Success" }))
            }
            _ if asked.is_dry_run => Answer::Json(201, asked.body.clone()),
            _ if uid.is_some() => status(409, "AlreadyExists", "b"),
            _ => {
                spec = asked.body["spec"].clone();
                uid = Some("NEW");
                Answer::Json(201, barrier("NEW", &spec))
            }
        }
    });
    (cluster, arrivals)
}

#[tokio::test]
async fn who_arrives_while_a_barrier_is_reset_arrives_at_the_new_one() {
    for (created, code) in [(None, 0), (Some(json!({ "expected": 2 })), 0), (Some(json!({ "expected": 3 })), 77)] {
        let (cluster, arrivals) = keeper(created.clone());
        let ran = cluster.run("barrier reset b").await;
        assert_eq!(ran.code, code, "{created:?}: {ran:?}");
        assert_eq!(*arrivals.lock().unwrap_or_else(PoisonError::into_inner), ["after"], "{created:?}: {ran:?}");
        if code == 0 {
            assert_eq!(ran.stdout, "barrier.konductor.io/b reset\n");
        } else {
            assert!(ran.stderr.contains("created anew by somebody else"), "{}", ran.stderr);
        }
    }
}

/// What a script does after `koncli`, when the terminal's Ctrl-C has reached both.
#[tokio::test]
async fn a_script_that_is_interrupted_while_koncli_waits_does_not_do_its_work() {
    let cluster = StandIn::new(|asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", _) if asked.is_watch => Answer::Watch,
        ("GET", path) if path.contains("/semaphores/") => semaphore(),
        ("GET", path) => status(404, "NotFound", &name_of(path)),
        ("POST", _) => {
            let (name, instance) = (asked.body["metadata"]["name"].as_str(), asked.body["spec"]["instance"].as_str());
            Answer::Json(201, permit(name.expect("a name"), "P", instance.expect("an instance"), "Pending"))
        }
        _ => Answer::Json(200, json!({ "kind": "Status", "status": "Success" })),
    });
    let program = cluster.command("version").get_program().to_owned();
    let mut script = Command::new("bash");
    script.args(["-c", "\"$0\" semaphore acquire s --holder nightly\necho the work\n"]).arg(program);
    script.env_clear().env("PATH", "/usr/bin:/bin").env("KUBECONFIG", &cluster.kubeconfig).env("HOME", "/nowhere");
    let mut script = Process::spawn("bash", script);
    script.wait_stderr(LIMIT, "waiting for semaphore/s").await;
    script.signal_group(Signal::SIGINT);
    let ran = ended(script).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (-2, ""), "{ran:?}");
    assert_eq!(cluster.asked("DELETE").len(), 1, "it has withdrawn");
}
