//! Manifests of the first konductor (github.com/LogicIQ/konductor, group `sync.konductor.io`), written anew for this one.
//!
//! What is understood is a table of fields for each kind. Whatever is not in it is refused by its line and not left out
//! in silence, and if anything is refused, nothing is written. What means something else here, or is left out because
//! somebody else says it here, is noted. Objects of other kinds stay as they are, to the letter; only
//! each line ends as lines do here, with a line feed (not CR LF), the last one too.
//!
//! Why a field becomes what it becomes is said in `docs/migration.md`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use konductor::{
    local::yaml::{Field, Mistake, Node, Value, documents},
    name::{is_label, is_name},
};
use konductor_api::{
    GROUP, GoDuration,
    limits::{MAX_EXPECTED, MAX_GATE_CONDITIONS, MAX_PERMITS, MAX_TTL, MAX_WAIT, MIN_TTL, MIN_WAIT},
};
use serde_json::{Map, Value as Json, json};

/// The group of the first konductor's resources.
const FORMER: &str = "sync.konductor.io";

/// What is to be converted.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file, for people.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) text: String,
}

/// What comes of it.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    /// All manifests.
    pub(crate) text: String,
    /// What people should know of them, each with its file and line.
    pub(crate) notes: Vec<String>,
}

/// Writes manifests anew. The error is all that cannot be converted, each with its file and line.
pub(crate) fn convert(sources: &[Source]) -> Result<Converted, Vec<String>> {
    let (mut converted, mut mistakes) = (Converted::default(), Vec::new());
    let mut seen = Seen::new();
    for Source { name, text } in sources {
        let mut work = Work { file: name, before: 0, seen: &mut seen, notes: Vec::new(), mistakes: Vec::new() };
        let mut written = String::new();
        for (before, chunk) in chunks(text) {
            work.before = before;
            written += &work.chunk(&chunk);
        }
        let told = |Mistake { line, what }: Mistake| format!("{name}:{line}: {what}");
        let Work { mut notes, mistakes: mut new, .. } = work;
        notes.sort_by_key(|note| note.line);
        new.sort_by_key(|mistake| mistake.line);
        converted.notes.extend(notes.into_iter().map(told));
        mistakes.extend(new.into_iter().map(told));
        if !converted.text.is_empty() && !written.starts_with("---") {
            converted.text += "---\n";
        }
        converted.text += &written;
    }
    if mistakes.is_empty() { Ok(converted) } else { Err(mistakes) }
}

/// A text's documents as they stand there, each with its `---`, and how many lines are before it. In YAML these three
/// characters begin a document wherever they begin a line.
fn chunks(text: &str) -> Vec<(usize, String)> {
    let mut all = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        let begins = line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if begins && number > 0 {
            all.push((number, String::new()));
        }
        if let Some((_, chunk)) = all.last_mut() {
            chunk.push_str(line);
            chunk.push('\n');
        }
    }
    all
}

/// Where each object (kind, namespace, name) was defined.
type Seen = BTreeMap<(&'static str, String, String), String>;

/// One file.
struct Work<'a> {
    file: &'a str,
    /// How many lines are before the document at hand.
    before: usize,
    seen: &'a mut Seen,
    notes: Vec<Mistake>,
    mistakes: Vec<Mistake>,
}

impl Work<'_> {
    /// Says something of a line of the document at hand.
    fn note(&mut self, line: usize, what: impl Into<String>) {
        self.notes.push(Mistake::new(self.before + line, what));
    }

    /// Says what cannot be converted, and on which of its lines that is.
    fn refuse(&mut self, line: usize, what: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.before + line, what));
    }

    /// What becomes of one document.
    fn chunk(&mut self, chunk: &str) -> String {
        // What names no group of ours is not looked into: others write YAML that is not understood here.
        if !chunk.contains(&format!("{GROUP}/")) {
            self.mentions(chunk);
            return chunk.to_owned();
        }
        let nodes = match documents(chunk) {
            Ok(nodes) => nodes,
            Err(Mistake { line, what }) => {
                self.refuse(line, what);
                return String::new();
            }
        };
        let objects: Vec<&Node> = nodes.iter().flat_map(items).collect();
        let (former, others): (Vec<&Node>, Vec<&Node>) = objects.into_iter().partition(|node| is_former(node));
        if former.is_empty() {
            self.mentions(chunk);
            return chunk.to_owned();
        }
        if let Some(other) = others.first() {
            self.refuse(
                other.line,
                "a list with objects of others among those to convert: give these a file of their own",
            );
        }
        let written: Vec<String> = former.into_iter().filter_map(|node| self.object(node)).collect();
        let head: String = comments(chunk).flat_map(|line| [line, "\n"]).collect();
        head + &written.join("---\n")
    }

    /// What objects of others say that concerns us.
    fn mentions(&mut self, chunk: &str) {
        for (number, line) in (1..).zip(chunk.lines()) {
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.contains("logiciq/koncli") || line.contains("konductor/koncli") {
                self.note(number, "this image is the first konductor's: ours are konductor/run and konductor/cli");
            }
            if line.contains(FORMER) {
                self.note(
                    number,
                    format!("{FORMER} is the first konductor's group: bind the chart's ClusterRole konductor-workload"),
                );
            }
            let plain = line.replace(['"', '\'', ',', '[', ']'], " ");
            let words: Vec<&str> = plain.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| pair[0].ends_with("koncli")) {
                match pair[1] {
                    "mutex" => {
                        self.note(number, "koncli mutex lock and unlock are koncli lease acquire and release here");
                    }
                    "rwmutex" | "once" | "waitgroup" => {
                        self.note(
                            number,
                            format!("there is no koncli {}: docs/migration.md says what takes its place", pair[1]),
                        );
                    }
                    _ => {}
                }
            }
        }
    }

    fn object(&mut self, node: &Node) -> Option<String> {
        let mut top = Fields::of(self, node, "a manifest")?;
        let (api, kind) = (top.take("apiVersion"), top.take("kind"));
        let (metadata, spec, _status) = (top.take("metadata"), top.take("spec"), top.take("status"));
        top.end(self);
        let api = text(api);
        if api != format!("{FORMER}/v1") && api != format!("{GROUP}/v1") {
            self.refuse(node.line, format!("apiVersion: wanted {FORMER}/v1, found {api:?}"));
            return None;
        }
        let line = kind.map_or(node.line, |kind| kind.line);
        let former = text(kind);
        let kind = self.kind(line, former)?;
        let Some(metadata) = metadata else {
            self.refuse(node.line, "metadata is missing");
            return None;
        };
        let metadata = self.metadata(metadata, kind)?;
        let empty = Node { line: node.line, value: Value::Map(Vec::new()) };
        let spec = spec.unwrap_or(&empty);
        let spec = match former {
            "Semaphore" => self.semaphore(spec),
            "Lease" => self.lease(spec),
            "Mutex" => self.mutex(line, spec),
            "Barrier" => self.barrier(spec),
            _ => self.gate(spec),
        }?;
        let object = json!({ "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata, "spec": spec });
        match serde_yaml_ng::to_string(&object) {
            Ok(text) => Some(text),
            Err(error) => {
                self.refuse(node.line, format!("this cannot be written: {error}"));
                None
            }
        }
    }

    /// The kind that takes another one's place.
    fn kind(&mut self, line: usize, former: &str) -> Option<&'static str> {
        let reason = match former {
            "Semaphore" => return Some("Semaphore"),
            "Lease" | "Mutex" => return Some("Lease"),
            "Barrier" => return Some("Barrier"),
            "Gate" => return Some("Gate"),
            "Permit" | "LeaseRequest" | "Arrival" => {
                "it belongs to whoever has made it, and ends with that: take it out, and let who holds it end"
                    .to_owned()
            }
            "RWMutex" => "there is none: write a Semaphore with as many permits as there may be readers, of which a \
                          reader takes one and a writer all"
                .to_owned(),
            "Once" => "there is none: write a Barrier with expected: 1, at which whoever has done it arrives, and a \
                       Lease that is held meanwhile"
                .to_owned(),
            "WaitGroup" => "there is none: write a Barrier that expects as many as there are to come; koncli barrier \
                            arrive says that one is done"
                .to_owned(),
            other => {
                self.refuse(line, format!("kind: wanted one of the first konductor's, found {other:?}"));
                return None;
            }
        };
        self.refuse(line, format!("{former}: {reason}"));
        None
    }

    fn metadata(&mut self, node: &Node, kind: &'static str) -> Option<Json> {
        let mut fields = Fields::of(self, node, "metadata")?;
        let mut written = Map::new();
        let (name, namespace) = (fields.take("name"), fields.take("namespace"));
        let (labels, annotations) = (fields.take("labels"), fields.take("annotations"));
        // What a cluster adds.
        for added in ["uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "managedFields"] {
            fields.take(added);
        }
        fields.end(self);
        let Some(name) = name.filter(|name| name.text().is_some_and(is_name)) else {
            let found = name.map_or("nothing".to_owned(), Node::shown);
            self.refuse(
                node.line,
                format!("metadata.name: wanted lower-case letters, digits, hyphens and dots, found {found}"),
            );
            return None;
        };
        written.insert("name".to_owned(), json!(text(Some(name))));
        if let Some(namespace) = namespace {
            if !namespace.text().is_some_and(is_label) {
                self.refuse(namespace.line, format!("metadata.namespace: wanted a name, found {}", namespace.shown()));
            }
            written.insert("namespace".to_owned(), json!(text(Some(namespace))));
        }
        for (whose, node) in [("labels", labels), ("annotations", annotations)] {
            if let Some(texts) = node.and_then(|node| self.texts(whose, node)).filter(|texts| !texts.is_empty()) {
                written.insert(whose.to_owned(), Json::Object(texts));
            }
        }
        let at = format!("{}:{}", self.file, self.before + node.line);
        match self.seen.entry((kind, text(namespace).to_owned(), text(Some(name)).to_owned())) {
            Entry::Vacant(place) => {
                place.insert(at);
            }
            Entry::Occupied(place) => {
                let what =
                    format!("a {kind} of that name comes from {}, too: give one of them another name", place.get());
                self.refuse(name.line, what);
            }
        }
        Some(Json::Object(written))
    }

    /// Texts by name, without what kubectl notes for itself.
    fn texts(&mut self, whose: &str, node: &Node) -> Option<Map<String, Json>> {
        let fields = Fields::of(self, node, whose)?;
        let mut texts = Map::new();
        for Field { name, node, .. } in fields.left {
            if name == "kubectl.kubernetes.io/last-applied-configuration" {
                continue;
            }
            match node.text() {
                Some(text) => {
                    texts.insert(name.clone(), json!(text));
                }
                None => self
                    .refuse(node.line, format!("{whose}: {name}: wanted a text (in quotes), found {}", node.shown())),
            }
        }
        Some(texts)
    }

    fn semaphore(&mut self, spec: &Node) -> Option<Json> {
        let mut fields = Fields::of(self, spec, "spec")?;
        let (permits, ttl) = (fields.take("permits"), fields.take("ttl"));
        fields.end(self);
        let mut written = Map::new();
        self.number(&mut written, "permits", permits, 1, MAX_PERMITS);
        self.required(spec, "permits", permits);
        self.duration(&mut written, "ttl", ttl, MIN_TTL, MAX_TTL);
        Some(Json::Object(written))
    }

    fn lease(&mut self, spec: &Node) -> Option<Json> {
        let mut fields = Fields::of(self, spec, "spec")?;
        let (ttl, priority) = (fields.take("ttl"), fields.take("priority"));
        fields.end(self);
        if let Some(priority) = priority {
            let what = "priority is left out: here whoever asks says it (konductor-run --priority, koncli lease acquire --priority)";
            self.note(priority.line, what);
        }
        let mut written = Map::new();
        self.duration(&mut written, "ttl", ttl, MIN_TTL, MAX_TTL);
        Some(Json::Object(written))
    }

    fn mutex(&mut self, line: usize, spec: &Node) -> Option<Json> {
        let mut fields = Fields::of(self, spec, "spec")?;
        let ttl = fields.take("ttl");
        fields.end(self);
        let mut what =
            "this Mutex becomes a Lease: konductor-run --lease, or koncli lease acquire and release".to_owned();
        if ttl.is_none() {
            what += "; without a ttl it was never unlocked by itself, and now is 5m after its holder's last renewal";
        }
        self.note(line, what);
        let mut written = Map::new();
        self.duration(&mut written, "ttl", ttl, MIN_TTL, MAX_TTL);
        Some(Json::Object(written))
    }

    fn barrier(&mut self, spec: &Node) -> Option<Json> {
        let mut fields = Fields::of(self, spec, "spec")?;
        let (expected, quorum, timeout) = (fields.take("expected"), fields.take("quorum"), fields.take("timeout"));
        fields.end(self);
        let mut written = Map::new();
        let most = u64::from(MAX_EXPECTED);
        self.number(&mut written, "expected", expected, 1, most);
        self.required(spec, "expected", expected);
        if let Some(quorum) = quorum {
            // It opened with this arrival, however many were expected.
            let mut opens = Map::new();
            self.number(&mut opens, "quorum", Some(quorum), 1, most);
            if let Some(opens) = opens.remove("quorum") {
                let all = written.insert("expected".to_owned(), opens.clone()).unwrap_or_default();
                let what = format!(
                    "quorum: it opened with arrival {opens} of {all}, so {opens} are expected now; here a quorum counts once the timeout has passed"
                );
                self.note(quorum.line, what);
            }
        }
        if let Some(timeout) = timeout {
            self.note(
                timeout.line,
                "timeout counts from the first arrival here, and no longer from the barrier's creation",
            );
        }
        self.duration(&mut written, "timeout", timeout, MIN_WAIT, MAX_WAIT);
        Some(Json::Object(written))
    }

    fn gate(&mut self, spec: &Node) -> Option<Json> {
        let mut fields = Fields::of(self, spec, "spec")?;
        let (conditions, timeout) = (fields.take("conditions"), fields.take("timeout"));
        fields.end(self);
        let mut written = Map::new();
        self.required(spec, "conditions", conditions);
        let conditions = conditions?;
        let Value::List(all) = &conditions.value else {
            self.refuse(conditions.line, format!("spec.conditions: wanted a list, found {}", conditions.shown()));
            return None;
        };
        if all.len() > MAX_GATE_CONDITIONS as usize {
            self.refuse(
                conditions.line,
                format!("spec.conditions: {} of them, and there can be {MAX_GATE_CONDITIONS}", all.len()),
            );
        }
        if all.is_empty() {
            self.note(
                conditions.line,
                "a gate without conditions is opened and closed by hand (koncli gate open, close): it begins closed",
            );
            written.insert("override".to_owned(), json!("Closed"));
        }
        let all: Vec<Json> = all.iter().filter_map(|condition| self.condition(condition)).collect();
        written.insert("conditions".to_owned(), Json::Array(all));
        self.duration(&mut written, "timeout", timeout, MIN_WAIT, MAX_WAIT);
        Some(Json::Object(written))
    }

    fn condition(&mut self, node: &Node) -> Option<Json> {
        let mut fields = Fields::of(self, node, "a condition")?;
        let (kind, name, namespace) = (fields.take("type"), fields.take("name"), fields.take("namespace"));
        let (state, value) = (fields.take("state"), fields.take("value"));
        fields.end(self);
        let former = text(kind);
        let line = kind.map_or(node.line, |kind| kind.line);
        let (kind, states): (_, &[(&str, &str)]) = match former {
            "Job" => ("Job", &[("Complete", "Complete"), ("Failed", "Failed"), ("Active", "Active")]),
            // Whatever the state, it was met with enough permits free.
            "Semaphore" => ("Semaphore", &[("Available", "Available"), ("", "Available")]),
            "Lease" => ("Lease", &[("Available", "Available"), ("Acquired", "Acquired")]),
            "Mutex" => ("Lease", &[("Unlocked", "Available"), ("Locked", "Acquired")]),
            "Barrier" | "Gate" => {
                (if former == "Gate" { "Gate" } else { "Barrier" }, &[("Open", "Open"), ("Closed", "Closed")])
            }
            other => {
                self.refuse(
                    line,
                    format!("a condition on type {other:?} has no counterpart: a Barrier can take its place"),
                );
                return None;
            }
        };
        let wanted = text(state);
        let Some((_, state)) = states.iter().find(|(known, _)| *known == wanted) else {
            let known: Vec<_> = states.iter().map(|(known, _)| *known).filter(|known| !known.is_empty()).collect();
            self.refuse(
                state.map_or(line, |state| state.line),
                format!("state: of a {former} wanted {}, found {wanted:?}", known.join(" or ")),
            );
            return None;
        };
        let mut written = Map::new();
        let Some(name) = name.filter(|name| name.text().is_some_and(is_name)) else {
            self.refuse(line, "name: wanted the name of what is waited for");
            return None;
        };
        written.insert("type".to_owned(), json!(kind));
        written.insert("name".to_owned(), json!(text(Some(name))));
        written.insert("state".to_owned(), json!(state));
        if let Some(namespace) = namespace {
            let Some(found) = namespace.text().filter(|found| is_label(found)) else {
                self.refuse(namespace.line, format!("namespace: wanted a name, found {}", namespace.shown()));
                return None;
            };
            self.note(
                namespace.line,
                format!("namespace {found} has to allow this: by its annotation konductor.io/gates-from"),
            );
            written.insert("namespace".to_owned(), json!(found));
        }
        if let Some(value) = value {
            if kind == "Semaphore" {
                self.number(&mut written, "value", Some(value), 1, MAX_PERMITS);
            } else {
                self.refuse(value.line, format!("value: a {former} has none"));
            }
        }
        Some(Json::Object(written))
    }

    fn required(&mut self, spec: &Node, name: &str, node: Option<&Node>) {
        if node.is_none() {
            self.refuse(spec.line, format!("spec.{name} is missing"));
        }
    }

    fn number(&mut self, to: &mut Map<String, Json>, name: &str, node: Option<&Node>, least: u64, most: u64) {
        let Some(node) = node else { return };
        match node.number().filter(|number| (least..=most).contains(number)) {
            Some(number) => {
                to.insert(name.to_owned(), json!(number));
            }
            None => self.refuse(
                node.line,
                format!("{name}: wanted a whole number from {least} to {most}, found {}", node.shown()),
            ),
        }
    }

    fn duration(
        &mut self,
        to: &mut Map<String, Json>,
        name: &str,
        node: Option<&Node>,
        least: Duration,
        most: Duration,
    ) {
        let Some(node) = node else { return };
        let duration = node.text().and_then(|text| text.parse::<GoDuration>().ok());
        if let Some(duration) = duration.filter(|duration| (least..=most).contains(&duration.0)) {
            to.insert(name.to_owned(), json!(duration.to_string()));
        } else {
            let (least, most) = (GoDuration(least), GoDuration(most));
            let found = node.shown();
            self.refuse(node.line, format!("{name}: wanted a duration from {least} to {most}, found {found}"));
        }
    }
}

/// The fields of a mapping, to be taken one after the other.
struct Fields<'a> {
    whose: String,
    left: Vec<&'a Field>,
}

impl<'a> Fields<'a> {
    fn of(work: &mut Work<'_>, node: &'a Node, whose: &str) -> Option<Self> {
        let left = match &node.value {
            Value::Map(fields) => fields.iter().collect(),
            _ if node.is_empty() => Vec::new(),
            _ => {
                work.refuse(node.line, format!("{whose}: wanted fields, found {}", node.shown()));
                return None;
            }
        };
        Some(Self { whose: whose.to_owned(), left })
    }

    /// The field of this name. One that is null is as good as absent.
    fn take(&mut self, name: &str) -> Option<&'a Node> {
        let at = self.left.iter().position(|field| field.name == name)?;
        Some(&self.left.remove(at).node).filter(|node| !node.is_empty())
    }

    /// Refuses all that is left.
    fn end(self, work: &mut Work<'_>) {
        for field in self.left {
            work.refuse(field.line, format!("{}.{} has no counterpart", self.whose, field.name));
        }
    }
}

/// A text, or nothing.
fn text(node: Option<&Node>) -> &str {
    node.and_then(Node::text).unwrap_or_default()
}

/// A field of a mapping.
fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Map(fields) => fields.iter().find(|field| field.name == name).map(|field| &field.node),
        _ => None,
    }
}

/// The objects of a list, or the object that it is.
fn items(node: &Node) -> Vec<&Node> {
    let is_list = text(field(node, "kind")).ends_with("List");
    match field(node, "items").map(|items| &items.value) {
        Some(Value::List(items)) if is_list => items.iter().collect(),
        _ => vec![node],
    }
}

/// Whether it is the first konductor's. Its pages write our group; where these kinds are ours, too, they are taken for
/// ours.
fn is_former(node: &Node) -> bool {
    let (api, kind) = (text(field(node, "apiVersion")), text(field(node, "kind")));
    let group = api.split_once('/').map_or("", |(group, _)| group);
    group == FORMER || (group == GROUP && ["Mutex", "RWMutex", "Once", "WaitGroup"].contains(&kind))
}

/// The `---` and the comments that a document begins with.
fn comments(chunk: &str) -> impl Iterator<Item = &str> {
    let is_head = |line: &&str| line.starts_with("---") || line.trim_start().starts_with('#') || line.trim().is_empty();
    chunk.lines().take_while(is_head)
}

#[cfg(test)]
mod tests;
