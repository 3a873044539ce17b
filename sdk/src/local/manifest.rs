//! Manifests: the same YAML that one would `kubectl apply`, read as strictly as the API server would.
//!
//! What a definition may say is one table here, and a test compares that table with the schemas of the custom
//! resources, so that a manifest that is accepted here is accepted by a cluster and means the same there. Whatever is
//! not in the table is refused by name and line, instead of being ignored. What a cluster adds by itself (`kubectl get -o
//! yaml`) is as good here as there: read, and of no consequence.

use std::{fmt, ops::RangeInclusive};

use jiff::Timestamp;
use konductor_api::{
    GROUP, GoDuration, Lease, Lock, LockKind, Queueing, Semaphore,
    limits::{MAX_PERMITS, MAX_TTL, MIN_TTL},
};

use super::yaml::{Field, Mistake, Node, Value, documents};
use crate::name::is_name;

/// What a manifest says of one lock, as far as it matters in a folder. (Nothing expires here, so a `ttl` is only
/// checked.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) kind: LockKind,
    pub(super) name: String,
    /// How much may be held at once.
    pub(super) capacity: u64,
    /// Whether smaller claims may pass the first in line.
    pub(super) queueing: Queueing,
    /// Where it says so.
    pub(super) at: Position,
}

/// A line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) file: String,
    pub(super) line: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file, self.line)
    }
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub(super) struct ManifestError {
    at: Position,
    what: String,
}

/// What a field of a spec may be.
#[derive(Debug)]
enum Shape {
    Number(RangeInclusive<u64>),
    /// From [`MIN_TTL`] to [`MAX_TTL`].
    Ttl,
    Choice(&'static [(&'static str, Queueing)]),
}

/// A field of a spec.
#[derive(Debug)]
struct Rule {
    name: &'static str,
    shape: Shape,
    required: bool,
}

const TTL: Rule = Rule { name: "ttl", shape: Shape::Ttl, required: false };

/// The kinds, as manifests name them, and what their specs may say.
const KINDS: [(&str, LockKind, &[Rule]); 2] = [
    ("Lease", Lease::KIND, &[TTL]),
    (
        "Semaphore",
        Semaphore::KIND,
        &[
            Rule { name: "permits", shape: Shape::Number(0..=MAX_PERMITS), required: true },
            Rule {
                name: "queueing",
                shape: Shape::Choice(&[
                    ("StrictFIFO", Queueing::StrictFIFO),
                    ("BestEffortFIFO", Queueing::BestEffortFIFO),
                ]),
                required: false,
            },
            TTL,
        ],
    ),
];

/// Kinds that need a cluster. Their manifests may be in the folder, and are left to it.
const IN_A_CLUSTER: [&str; 2] = ["Barrier", "Gate"];

impl Definition {
    /// Adds those of one file to those of others.
    pub(super) fn read(file: &str, text: &str, all: &mut Vec<Self>) -> Result<(), ManifestError> {
        let error = |Mistake { line, what }| ManifestError { at: Position { file: file.to_owned(), line }, what };
        let mut found = Vec::new();
        for document in documents(text).map_err(error)? {
            definitions(&document, file, &mut found).map_err(error)?;
        }
        for definition in found {
            let same = |other: &&Self| (other.kind, &other.name) == (definition.kind, &definition.name);
            if let Some(other) = all.iter().find(same) {
                let what = format!("{} {} is defined twice: also in {}", definition.kind, definition.name, other.at);
                return Err(ManifestError { at: definition.at, what });
            }
            all.push(definition);
        }
        Ok(())
    }
}

/// What people and clusters write beside the name, and what it has to be.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Text,
    /// Texts by name.
    Texts,
    Time,
    Number,
    List,
}

/// The metadata of an object in Kubernetes, but for what matters here.
const METADATA: [(&str, Beside); 13] = [
    ("labels", Beside::Texts),
    ("annotations", Beside::Texts),
    ("generateName", Beside::Text),
    ("selfLink", Beside::Text),
    ("uid", Beside::Text),
    ("resourceVersion", Beside::Text),
    ("generation", Beside::Number),
    ("creationTimestamp", Beside::Time),
    ("deletionTimestamp", Beside::Time),
    ("deletionGracePeriodSeconds", Beside::Number),
    ("ownerReferences", Beside::List),
    ("finalizers", Beside::List),
    ("managedFields", Beside::List),
];

/// The metadata of a list.
const LIST_METADATA: [(&str, Beside); 4] = [
    ("resourceVersion", Beside::Text),
    ("selfLink", Beside::Text),
    ("continue", Beside::Text),
    ("remainingItemCount", Beside::Number),
];

/// Adds what a document defines: an object, or a list of objects.
fn definitions(document: &Node, file: &str, all: &mut Vec<Definition>) -> Result<(), Mistake> {
    match items(document)? {
        Some(items) => items.iter().try_for_each(|item| object(item, file, all)),
        None => object(document, file, all),
    }
}

/// The items of a list; none when it is something else.
fn items(document: &Node) -> Result<Option<Vec<Node>>, Mistake> {
    let mut top = Fields::of(document, "a manifest")?;
    let (api, kind) = (top.take("apiVersion"), top.take("kind"));
    let text =
        |field: &Option<Field>| field.as_ref().and_then(|field| field.node.text()).unwrap_or_default().to_owned();
    let (api, kind) = (text(&api), text(&kind));
    match kind.strip_suffix("List") {
        Some("") if api == "v1" => {}
        Some(of) if api == format!("{GROUP}/v1") && is_kind(of) => {}
        _ => return Ok(None),
    }
    let (metadata, items) = (top.take("metadata"), top.take("items"));
    top.end()?;
    if let Some(metadata) = metadata {
        let mut metadata = Fields::of(&metadata.node, "metadata")?;
        metadata.read_beside(&LIST_METADATA)?;
        metadata.end()?;
    }
    match items.map(|items| items.node) {
        None => Ok(Some(Vec::new())),
        Some(Node { value: Value::List(items), .. }) => Ok(Some(items)),
        Some(other) => Err(Mistake::new(other.line, format!("items: wanted a list, found {}", other.shown()))),
    }
}

/// Adds what an object defines, if that is something for us.
fn object(document: &Node, file: &str, all: &mut Vec<Definition>) -> Result<(), Mistake> {
    let mut top = Fields::of(document, "a manifest")?;
    let api = top.take("apiVersion").ok_or_else(|| top.missing("apiVersion"))?;
    let kind = top.take("kind").ok_or_else(|| top.missing("kind"))?;
    let version = format!("{GROUP}/v1");
    let wanted = kind.node.text().unwrap_or_default();
    if api.node.text() != Some(&version) {
        let found = api.node.shown();
        return Err(Mistake::new(
            api.node.line,
            format!("unknown apiVersion {found}: wanted {version} (other objects go into another folder)"),
        ));
    }
    if IN_A_CLUSTER.contains(&wanted) {
        return Ok(());
    }
    let Some((_, known, rules)) = KINDS.iter().find(|(name, ..)| *name == wanted) else {
        let names: Vec<_> = KINDS.iter().map(|(name, ..)| *name).collect();
        let what = format!("unknown kind {}: without a cluster there is {}", kind.node.shown(), names.join(" and "));
        return Err(Mistake::new(kind.node.line, what));
    };
    let metadata = top.take("metadata").ok_or_else(|| top.missing("metadata"))?;
    let (spec, status) = (top.take("spec"), top.take("status"));
    top.end()?;
    if let Some(status) = status {
        Fields::of(&status.node, "status")?;
    }
    let name = metadata_name(&metadata.node)?;
    let mut definition = Definition {
        kind: *known,
        name,
        capacity: 1,
        queueing: Queueing::default(),
        at: Position { file: file.to_owned(), line: document.line },
    };
    let nothing = Node { line: document.line, value: Value::Map(Vec::new()) };
    read_spec(spec.as_ref().map_or(&nothing, |spec| &spec.node), rules, &mut definition)?;
    all.push(definition);
    Ok(())
}

fn is_kind(name: &str) -> bool {
    KINDS.iter().any(|(kind, ..)| *kind == name) || IN_A_CLUSTER.contains(&name)
}

fn metadata_name(metadata: &Node) -> Result<String, Mistake> {
    let mut metadata = Fields::of(metadata, "metadata")?;
    let name = metadata.take("name");
    let missing = metadata.missing("name");
    // A folder is like one namespace, whatever the cluster's is called.
    if let Some(Field { node, .. }) = metadata.take("namespace")
        && node.text().is_none_or(|text| !is_name(text))
    {
        return Err(Mistake::new(node.line, format!("namespace: wanted a name, found {}", node.shown())));
    }
    metadata.read_beside(&METADATA)?;
    metadata.end()?;
    let name = name.ok_or(missing)?;
    if let Some(name) = name.node.text().filter(|text| is_name(text)) {
        return Ok(name.to_owned());
    }
    let found = name.node.shown();
    let what = format!("name: wanted lower-case letters, digits, hyphens and dots, found {found}");
    Err(Mistake::new(name.node.line, what))
}

fn read_spec(spec: &Node, rules: &'static [Rule], definition: &mut Definition) -> Result<(), Mistake> {
    let mut fields = Fields::of(spec, "spec")?;
    let mut missing = None;
    for Rule { name, shape, required } in rules {
        let Some(Field { node, .. }) = fields.take(name) else {
            missing = missing.or(required.then(|| fields.missing(name)));
            continue;
        };
        let refused =
            |wanted: String| Err(Mistake::new(node.line, format!("{name}: wanted {wanted}, found {}", node.shown())));
        match shape {
            Shape::Number(range) => match node.number().filter(|number| range.contains(number)) {
                Some(number) => definition.capacity = number,
                None => return refused(format!("a whole number from {} to {}", range.start(), range.end())),
            },
            Shape::Ttl => {
                let ttl = node.text().and_then(|text| text.parse::<GoDuration>().ok());
                if ttl.is_none_or(|ttl| !(MIN_TTL..=MAX_TTL).contains(&ttl.0)) {
                    return refused("a duration from 5s to 24h".to_owned());
                }
            }
            Shape::Choice(choices) => {
                let Some((_, queueing)) = choices.iter().find(|(choice, _)| node.text() == Some(choice)) else {
                    let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
                    return refused(names.join(" or "));
                };
                definition.queueing = *queueing;
            }
        }
    }
    // What is missing may be there with a mistake in its name.
    fields.end()?;
    missing.map_or(Ok(()), Err)
}

/// The fields of a mapping, to be taken one after the other.
struct Fields {
    line: usize,
    whose: &'static str,
    left: Vec<Field>,
    taken: Vec<&'static str>,
}

impl Fields {
    fn of(node: &Node, whose: &'static str) -> Result<Self, Mistake> {
        match &node.value {
            Value::Map(fields) => Ok(Self { line: node.line, whose, left: fields.clone(), taken: Vec::new() }),
            _ if node.is_empty() => Ok(Self { line: node.line, whose, left: Vec::new(), taken: Vec::new() }),
            _ => Err(Mistake::new(node.line, format!("{whose}: wanted fields, found {}", node.shown()))),
        }
    }

    /// The field of this name. One that is null is as good as absent.
    fn take(&mut self, name: &'static str) -> Option<Field> {
        self.taken.push(name);
        let at = self.left.iter().position(|field| field.name == name)?;
        Some(self.left.swap_remove(at)).filter(|field| !field.node.is_empty())
    }

    /// Takes what is of no consequence, if it is what it has to be.
    fn read_beside(&mut self, known: &'static [(&'static str, Beside)]) -> Result<(), Mistake> {
        for (name, wanted) in known {
            let Some(Field { node, .. }) = self.take(name) else { continue };
            let (is_right, words) = match wanted {
                Beside::Text => (node.text().is_some(), "a text (in quotes)"),
                Beside::Time => (node.text().is_some_and(|text| text.parse::<Timestamp>().is_ok()), "a time"),
                Beside::Number => (node.number().is_some(), "a whole number"),
                Beside::List => (matches!(node.value, Value::List(_)), "a list"),
                Beside::Texts => {
                    for Field { name: key, node, .. } in Fields::of(&node, name)?.left {
                        if node.text().is_none() {
                            let what = format!("{name}: {key}: wanted a text (in quotes), found {}", node.shown());
                            return Err(Mistake::new(node.line, what));
                        }
                    }
                    (true, "")
                }
            };
            if !is_right {
                return Err(Mistake::new(node.line, format!("{name}: wanted {words}, found {}", node.shown())));
            }
        }
        Ok(())
    }

    fn missing(&self, name: &str) -> Mistake {
        Mistake::new(self.line, format!("{} has no {name}", self.whose))
    }

    /// Refuses what was not taken.
    fn end(self) -> Result<(), Mistake> {
        let Some(Field { line, name, .. }) = self.left.into_iter().min_by_key(|field| field.line) else {
            return Ok(());
        };
        let known = self.taken.join(", ");
        Err(Mistake::new(line, format!("unknown field {name}: {} can have {known}", self.whose)))
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
