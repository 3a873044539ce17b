//! Golden scripts of answers: what is in a cluster, and what is said of it.
//!
//! - `> KIND NAME path=value ...` is an object; a value is JSON where it can be, and `@40s` or `@-5m` a moment so long
//!   before or after now. Of a path `a.b.c` each part is a member; namespaces are `team`, as far as there are any, and
//!   each object is an hour old, if nothing else is said;
//! - `> forbid VERB KIND` and `> fail VERB KIND` is an API server that says no, or nothing;
//! - `> uninstalled KIND` is one that has no such resource;
//! - `> why KIND/NAME` is the answer, `> json KIND/NAME` the same as JSON, `> short KIND/NAME` in short,
//!   `> reads KIND/NAME` what is read for it, round by round, and `> rest KIND/NAME` how much, and what is not known.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use konductor_api::GoDuration;
use serde_json::{Value, json};

use super::{
    Question, Step, explain,
    read::read,
    reason::{Answer, Unseen, UnseenWhy},
    seen::Kind,
    world::{Batch, Known, Need, Which},
};

const ALL: [Kind; 13] = [
    Kind::Semaphore,
    Kind::Lease,
    Kind::Permit,
    Kind::LeaseRequest,
    Kind::Barrier,
    Kind::Arrival,
    Kind::Gate,
    Kind::Pod,
    Kind::Job,
    Kind::Node,
    Kind::Namespace,
    Kind::Election,
    Kind::Deployment,
];

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

fn kind(name: &str) -> Kind {
    let name = if name == "election" { Kind::Election.name() } else { name };
    ALL.into_iter().find(|kind| kind.name() == name).unwrap_or_else(|| panic!("no kind {name}"))
}

#[derive(Default)]
struct Cluster {
    objects: BTreeMap<(Kind, String, String), Value>,
    said_no: Vec<(String, Kind, UnseenWhy)>,
}

fn value(text: &str) -> Value {
    if let Some(ago) = text.strip_prefix('@') {
        let (sign, ago) = ago.strip_prefix('-').map_or((-1, ago), |later| (1, later));
        let span: GoDuration = ago.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let at = now() + SignedDuration::from_secs(sign * span.0.as_secs() as i64);
        return json!(at.to_string());
    }
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn set(object: &mut Value, path: &str, to: Value) {
    let mut at = object;
    for part in path.split('.') {
        // Names of labels and annotations have dots in them: `konductor_io/revoke`.
        at = &mut at[part.replace('_', ".")];
    }
    *at = to;
}

/// Words, but for those within quotes or brackets, which are JSON.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut depth, mut quoted) = (Vec::new(), String::new(), 0, false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ' ' if !quoted && depth == 0 => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn get<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    path.split('.').try_fold(object, |at, part| at.get(part))?.as_str()
}

impl Cluster {
    fn add(&mut self, kind: Kind, name: &str, members: &[String]) {
        let namespaced = !matches!(kind, Kind::Node | Kind::Namespace);
        let namespace = if namespaced { "team" } else { "" };
        let version = 100 + self.objects.len();
        let mut object = json!({ "metadata": {
            "name": name, "namespace": namespace, "uid": format!("{name}-uid"), "generation": 1,
            "resourceVersion": version.to_string(), "creationTimestamp": value("@1h"),
        } });
        for member in members {
            let (path, text) = member.split_once('=').unwrap_or_else(|| panic!("{member}: path=value"));
            let path = match path {
                "age" => "metadata.creationTimestamp",
                path => path,
            };
            set(&mut object, path, value(text));
        }
        if matches!(kind, Kind::Semaphore | Kind::Lease) {
            let spec = &mut object["spec"];
            if kind == Kind::Lease && spec.is_null() {
                *spec = json!({});
            }
        }
        if matches!(kind, Kind::Permit | Kind::LeaseRequest) && get(&object, "spec.instance").is_none() {
            object["spec"]["instance"] = json!("i");
        }
        let namespace = get(&object, "metadata.namespace").unwrap_or_default().to_owned();
        self.objects.insert((kind, namespace, name.to_owned()), object);
    }

    /// What an API server would answer.
    fn read(&self, need: &Need) -> Result<Batch, Box<Unseen>> {
        let verb = if matches!(need.which, Which::Named(_)) { "get" } else { "list" };
        if let Some((_, _, why)) =
            self.said_no.iter().find(|(no, kind, _)| *kind == need.kind && (no == verb || no == "any"))
        {
            return Err(Box::new(Unseen {
                verb: verb.into(),
                resource: need.kind.resource().qualified_plural(),
                namespace: need.namespace.clone(),
                why: *why,
                message: "no answer within 30 s".into(),
                command: (*why == UnseenWhy::Forbidden && need.kind == Kind::Pod).then(|| "kubectl create ...".into()),
            }));
        }
        let of = self.objects.iter().filter(|((kind, namespace, _), _)| {
            *kind == need.kind && need.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
        });
        let selected = |object: &Value, selector: &str, labels: bool| {
            selector.split(',').all(|term| {
                let (path, wanted) = term.split_once('=').unwrap_or_else(|| panic!("the selector {term}"));
                let found = if labels { object["metadata"]["labels"][path].as_str() } else { get(object, path) };
                found == Some(wanted)
            })
        };
        let (items, most): (Vec<_>, usize) = match &need.which {
            Which::Named(wanted) => (of.filter(|((_, _, name), _)| name == wanted).collect(), 1),
            Which::Fields(selector, most) => {
                (of.filter(|(_, object)| selected(object, selector, false)).collect(), *most)
            }
            Which::Labels(selector, most) => {
                (of.filter(|(_, object)| selected(object, selector, true)).collect(), *most)
            }
            Which::Any(most) => (of.collect(), *most),
        };
        let more = items.len() > most;
        let read = |((kind, ..), object): (&(Kind, String, String), &Value)| {
            read(*kind, &object.to_string()).unwrap_or_else(|| panic!("no object: {object}"))
        };
        Ok(Batch { items: items.into_iter().take(most).map(read).collect(), more })
    }

    fn answer(&self, subject: &str) -> (Answer, Vec<Vec<Need>>) {
        let (of, name) = subject.split_once('/').expect("KIND/NAME");
        let question =
            Question { kind: kind(of), namespace: "team".into(), name: name.into(), operator_namespace: None };
        let (mut known, mut rounds) = (Known::new(), Vec::new());
        loop {
            match explain(&question, &known, now()) {
                Step::Answer(answer) => return (*answer, rounds),
                Step::Read(needs) => {
                    assert!(!needs.is_empty() && needs.iter().all(|need| !known.contains_key(need)), "{needs:?}");
                    known.extend(needs.iter().map(|need| (need.clone(), self.read(need))));
                    rounds.push(needs);
                }
            }
        }
    }

    fn play(&mut self, line: &str) -> String {
        let words = words(line);
        match words[0].as_str() {
            "why" => self.answer(&words[1]).0.text(),
            "short" => self.answer(&words[1]).0.short(),
            "rest" => {
                let (answer, rounds) = self.answer(&words[1]);
                let unread: Vec<_> = answer.unread.iter().map(|reason| reason.text.as_str()).collect();
                let reads: usize = rounds.iter().map(Vec::len).sum();
                format!("{reads} reads; not known: {}\n", unread.join("; "))
            }
            "json" => format!("{:#}\n", serde_json::to_value(self.answer(&words[1]).0).expect("JSON")),
            "reads" => {
                let one = |need: &Need| {
                    let which = match &need.which {
                        Which::Named(name) => format!("/{name}"),
                        Which::Fields(selector, most) => format!(" where {selector} (to {most})"),
                        Which::Labels(selector, most) => format!(" labelled {selector} (to {most})"),
                        Which::Any(most) => format!(" (to {most})"),
                    };
                    format!("{}{which}", need.kind.name())
                };
                let rounds = self.answer(&words[1]).1;
                let rounds = rounds.iter().map(|needs| needs.iter().map(one).collect::<Vec<_>>().join("; ") + "\n");
                rounds.collect()
            }
            verb @ ("forbid" | "fail" | "uninstalled") => {
                let (no, kind) = if verb == "uninstalled" {
                    ("any".to_owned(), kind(&words[1]))
                } else {
                    (words[1].clone(), kind(&words[2]))
                };
                let why = match verb {
                    "forbid" => UnseenWhy::Forbidden,
                    "fail" => UnseenWhy::Failed,
                    _ => UnseenWhy::NotServed,
                };
                self.said_no.push((no, kind, why));
                String::new()
            }
            "many" => {
                // `many N KIND NAME ...`: NAME-0 and so on, with # for the number.
                for number in 0..words[1].parse().expect("a number") {
                    let members: Vec<_> =
                        words[4..].iter().map(|word| word.replace('#', &number.to_string())).collect();
                    self.add(kind(&words[2]), &format!("{}-{number:04}", words[3]), &members);
                }
                String::new()
            }
            of => {
                self.add(kind(of), &words[1], &words[2..]);
                String::new()
            }
        }
    }
}

#[test]
fn answers_are_as_written() {
    konductor_golden::check_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/why"), |_, script| {
        konductor_golden::replay_sections(script, |_| {
            let mut cluster = Cluster::default();
            cluster.add(Kind::Election, super::operator::ELECTION, &election());
            move |line| cluster.play(line)
        })
    });
}

/// A leader that renews, in a namespace of its own.
fn election() -> Vec<String> {
    let members = [
        "metadata.namespace=konductor-system",
        "spec.holderIdentity=operator-0",
        "spec.leaseDurationSeconds=15",
        "spec.renewTime=@2s",
    ];
    members.map(str::to_owned).into()
}

/// Everything that a permit's answer rests on: a holder with a pod on a node, in a namespace of many.
fn whole() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.add(Kind::Election, super::operator::ELECTION, &election());
    for line in [
        "semaphore s spec.permits=1 status.term=8 status.settledTerm=8 status.observedGeneration=1",
        "permit a spec.semaphore=s spec.holder=etl-0 spec.pod={\"name\":\"etl-0\",\"uid\":\"etl-0-uid\",\"container\":\"main\",\
         \"start\":\"s\"} status.phase=Granted status.acquiredAt=@40m status.ttl=5m",
        "permit b spec.semaphore=s spec.holder=b status.phase=Pending status.ticket=3 status.ahead=0",
        "pod etl-0 spec.nodeName=n1 status.phase=Running \
         spec.containers=[{\"name\":\"main\",\"env\":[{\"name\":\"KONDUCTOR_GATE\",\"value\":\"g\"}]}]",
        "node n1 status.conditions=[{\"type\":\"Ready\",\"status\":\"True\"}]",
        "gate g spec.conditions=[{\"type\":\"Barrier\",\"name\":\"b\",\"state\":\"Open\"}] status.phase=Waiting",
        "barrier b spec.expected=3",
        "arrival a spec.barrier=b spec.holder=a spec.key=a",
        "job etl status.active=1",
    ] {
        cluster.play(line);
    }
    cluster
}

#[test]
fn what_one_refusal_hides_is_named_and_takes_nothing_else_away() {
    for subject in ["permit/b", "semaphore/s", "pod/etl-0", "gate/g", "barrier/b", "job/etl"] {
        let whole_answer = whole().answer(subject).0;
        assert_eq!(whole_answer.unread, [], "{subject}");
        for refused in ALL {
            let mut cluster = whole();
            cluster.said_no.push(("any".into(), refused, UnseenWhy::Forbidden));
            let (answer, rounds) = cluster.answer(subject);
            let is_subject = subject.starts_with(&format!("{}/", refused.name()));
            assert_eq!(answer.reasons.is_empty(), is_subject, "{subject} without {refused:?}: {}", answer.text());
            let asked = rounds.iter().flatten().any(|need| need.kind == refused);
            assert_eq!(answer.unread.is_empty(), !asked, "{subject} without {refused:?}: {}", answer.text());
        }
    }
}

#[test]
fn the_schema_is_the_one_in_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/why.schema.json");
    let schema = format!("{:#}\n", schemars::schema_for!(Answer).to_value());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &schema).expect("write the schema");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == schema, "docs/why.schema.json is not what the types say: UPDATE_DOCS=1 writes it");
}
