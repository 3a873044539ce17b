//! Reading little of an object, whatever others have stored in it.
//!
//! An API server stores what Rust's types refuse: years of five digits, any fraction of a second, thousands of
//! finalizers, strings of a megabyte. None of that is ours to need. So metadata is read member by member: what is
//! needed, as text where it is only compared or handed on, bounded, and never in a way that can fail. Spec and status
//! are read on their own as the types that the caller names; if one does not fit, that is a [`Misfit`], with metadata
//! and the reason.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use konductor_api::{GATES_FROM_ANNOTATION, REVOKE_ANNOTATION};
use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::time::unix_seconds;

/// The annotations that Konductor knows. All others are somebody else's, and not kept.
pub const ANNOTATIONS: [&str; 2] = [GATES_FROM_ANNOTATION, REVOKE_ANNOTATION];

/// The seconds since 1970 of a time that is none: before everything that exists.
pub const NO_TIME: i64 = 0;

/// The version of an object that names none: before every other.
pub const NO_VERSION: u64 = 0;

/// Bytes of an annotation's value: two hundred namespaces of the longest name. A longer one is cut and ends with
/// [`CUT`], which no name can contain, so that none is taken for another.
const ANNOTATION: usize = 16 << 10;

/// Bytes of memory that all labels of an object may take: thirty of the longest, a hundred as they usually are. An
/// object may have a megabyte of them, and a hundred thousand; those beyond are left out.
const LABELS: usize = 16 << 10;

/// Bytes of memory that a label takes beside its text: the two strings, and what the map and the allocator add.
const LABEL: usize = 96;

/// Owners of an object that are read; those beyond are left out.
const OWNERS: usize = 64;

/// Finalizers of an object that are read: enough to name who holds it back.
const FINALIZERS: usize = 16;

/// Bytes of each text of an owner. UIDs and kinds that Kubernetes makes are shorter; owners with longer ones are left
/// out.
const OWNER: usize = 256;

/// Bytes of what is told of a reason that an object cannot be read: serde repeats what it does not like.
pub(crate) const REASON: usize = 500;

/// Bytes of a phase that is told.
const PHASE: usize = 64;

/// What stands at the end of a text that was cut.
pub(crate) const CUT: char = '…';

/// What is read of an object's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its namespace; empty of what has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion; [`NO_VERSION`] if it has none.
    pub version: u64,
    /// Its generation, if it has one.
    pub generation: Option<i64>,
    /// When it was created, in seconds since 1970; [`NO_TIME`] if that is no time.
    pub created: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its labels, as far as they fit into 16 KiB of memory.
    pub labels: BTreeMap<String, String>,
    /// Those of [`ANNOTATIONS`] that it has, each up to 16 KiB.
    pub annotations: BTreeMap<String, String>,
    /// Who owns it, up to 64.
    pub owners: Vec<Owner>,
    /// What keeps it from going once it is deleted, up to 16.
    pub finalizers: Vec<String>,
}

/// What is deleted before an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The API version of the owner.
    pub api_version: String,
    /// The owner's kind.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's UID.
    pub uid: String,
}

/// What is read of a resource `K`: its metadata, and of spec and status as much as `S` and `T` say.
#[derive(Clone, Debug)]
pub struct Object<K, S = IgnoredAny, T = IgnoredAny> {
    /// Its metadata.
    pub metadata: Metadata,
    /// Its spec; read of an object without one as if it were empty.
    pub spec: S,
    /// Its status; the default of an object without one.
    pub status: T,
    kind: PhantomData<fn() -> K>,
}

/// An object, or why it is none. That concerns nobody else.
pub type Lenient<O> = Result<O, Box<Misfit>>;

/// An object whose spec or status is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Misfit {
    /// Its metadata; that part can always be read.
    pub metadata: Metadata,
    /// What its `status.phase` says, if it has one; cut.
    pub phase: Option<String>,
    /// What does not fit; cut.
    pub error: String,
}

/// A text that is no object of an API server, so that nothing is known of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an object: {0}")]
pub struct Illegible(pub String);

/// What has metadata.
pub trait Described {
    /// Its metadata.
    fn metadata(&self) -> &Metadata;

    /// The same, to leave out what nobody asks for.
    fn metadata_mut(&mut self) -> &mut Metadata;
}

impl<K, S, T> Described for Object<K, S, T> {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

impl<O: Described> Described for Lenient<O> {
    fn metadata(&self) -> &Metadata {
        match self {
            Ok(object) => object.metadata(),
            Err(misfit) => &misfit.metadata,
        }
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        match self {
            Ok(object) => object.metadata_mut(),
            Err(misfit) => &mut misfit.metadata,
        }
    }
}

impl<K, S, T> Object<K, S, T> {
    /// Of these parts.
    pub fn new(metadata: Metadata, spec: S, status: T) -> Self {
        Self { metadata, spec, status, kind: PhantomData }
    }
}

impl<K, S: DeserializeOwned, T: DeserializeOwned + Default> Object<K, S, T> {
    /// Reads an object from its JSON.
    pub fn read(text: &str) -> Result<Lenient<Self>, Illegible> {
        Self::read_beginning(text, None)
    }

    /// Reads an object of whose JSON only the beginning was kept, for this reason.
    pub(crate) fn read_cut(text: &str, why: &str) -> Result<Lenient<Self>, Illegible> {
        Self::read_beginning(text, Some(why))
    }

    fn read_beginning(text: &str, cut: Option<&str>) -> Result<Lenient<Self>, Illegible> {
        let (members, error) = members(text);
        let error = cut.map(str::to_owned).or(error.map(|error| error.to_string()));
        let metadata = members.get("metadata").map(|text| Metadata::read(text)).unwrap_or_default();
        if metadata.name.is_empty() {
            return Err(Illegible(shortened(error.as_deref().unwrap_or("it has no name"), REASON)));
        }
        let (spec, status) = (present(&members, "spec"), present(&members, "status"));
        let content = || {
            let spec = serde_json::from_str(spec.unwrap_or("{}")).map_err(|error| format!("spec: {error}"))?;
            let status = status.map(serde_json::from_str).transpose().map_err(|error| format!("status: {error}"))?;
            Ok::<_, String>((spec, status.unwrap_or_default()))
        };
        match error.map_or_else(content, Err) {
            Ok((spec, status)) => Ok(Ok(Self::new(metadata, spec, status))),
            Err(error) => {
                let phase = status.and_then(phase);
                Ok(Err(Box::new(Misfit { metadata, phase, error: shortened(&error, REASON) })))
            }
        }
    }
}

/// What a status says of its phase, whatever type that has.
fn phase(status: &str) -> Option<String> {
    let (members, _) = members(status);
    let phase = present(&members, "phase")?;
    Some(shortened(&text(phase).unwrap_or_else(|| phase.to_owned()), PHASE))
}

impl Metadata {
    /// Reads what is needed of the metadata of an object, whatever else that is.
    pub(crate) fn of(object: &str) -> Self {
        members(object).0.get("metadata").map(|json| Self::read(json)).unwrap_or_default()
    }

    /// Reads what is needed of an object's metadata. What has not the type that an API server gives it counts as
    /// absent.
    pub fn read(json: &str) -> Self {
        let (members, _) = members(json);
        let of = |name| present(&members, name);
        let string = |name| of(name).and_then(text).unwrap_or_default();
        Self {
            namespace: string("namespace"),
            name: string("name"),
            uid: string("uid"),
            version: string("resourceVersion").parse().unwrap_or(NO_VERSION),
            generation: of("generation").and_then(|number| number.parse().ok()),
            created: of("creationTimestamp").and_then(text).and_then(|at| unix_seconds(&at)).unwrap_or(NO_TIME),
            deleting: of("deletionTimestamp").is_some(),
            labels: of("labels").map(labels).unwrap_or_default(),
            annotations: of("annotations").map(annotations).unwrap_or_default(),
            owners: of("ownerReferences").map(owners).unwrap_or_default(),
            finalizers: of("finalizers").map(finalizers).unwrap_or_default(),
        }
    }
}

fn labels(json: &str) -> BTreeMap<String, String> {
    let (mut labels, mut left) = (BTreeMap::new(), LABELS);
    let take = |key: String, value: &str| {
        let Some(value) = text(value) else { return true };
        let size = key.len() + value.len() + LABEL;
        let fits = size <= left;
        if fits {
            left -= size;
            labels.insert(key, value);
        }
        fits
    };
    // An error, or that not all was read, is no reason not to take what is there.
    let _ = Each(take).deserialize(&mut serde_json::Deserializer::from_str(json));
    labels
}

fn annotations(json: &str) -> BTreeMap<String, String> {
    let (members, _) = members(json);
    let known = ANNOTATIONS.into_iter().filter_map(|key| {
        let value = text(present(&members, key)?)?;
        Some((key.to_owned(), shortened(&value, ANNOTATION)))
    });
    known.collect()
}

fn owners(json: &str) -> Vec<Owner> {
    let read = |owner: &RawValue| {
        let (members, _) = members(owner.get());
        let of = |name| present(&members, name).and_then(text).filter(|text| text.len() <= OWNER);
        Some(Owner { api_version: of("apiVersion")?, kind: of("kind")?, name: of("name")?, uid: of("uid")? })
    };
    first(json, OWNERS).into_iter().filter_map(read).collect()
}

fn finalizers(json: &str) -> Vec<String> {
    let read = |one: &RawValue| Some(shortened(&text(one.get())?, OWNER));
    first(json, FINALIZERS).into_iter().filter_map(read).collect()
}

/// The first elements of a JSON array, so many at most. None of what is no array.
fn first(json: &str, count: usize) -> Vec<&RawValue> {
    struct First<'e, 'a>(&'e mut Vec<&'a RawValue>, usize);

    impl<'a> Visitor<'a> for First<'_, 'a> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
            while self.0.len() < self.1
                && let Some(element) = seq.next_element()?
            {
                self.0.push(element);
            }
            Ok(())
        }
    }

    let mut elements = Vec::new();
    // That not all was read is an error, too.
    let _ = serde_json::Deserializer::from_str(json).deserialize_seq(First(&mut elements, count));
    elements
}

/// The JSON of each member.
type Members<'a> = BTreeMap<String, &'a str>;

/// The members of a JSON object. Of a name that is there twice the last one counts, as it does to the API server. Of
/// what is no object, or breaks off, what is there, and what is wrong with it.
fn members(json: &str) -> (Members<'_>, Option<serde_json::Error>) {
    let mut members = Members::new();
    let mut reader = serde_json::Deserializer::from_str(json);
    let take = |name, value| {
        members.insert(name, value);
        true
    };
    let result = Each(take).deserialize(&mut reader).and_then(|()| reader.end());
    (members, result.err())
}

/// Hands on members as they come, so that those before an error are kept; and no more once `false` is returned.
struct Each<F>(F);

impl<'a, F: FnMut(String, &'a str) -> bool> DeserializeSeed<'a> for Each<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, F: FnMut(String, &'a str) -> bool> Visitor<'a> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<String, &'a RawValue>()?
            && (self.0)(name, value.get())
        {}
        Ok(())
    }
}

/// The JSON of a member that is there and not null.
fn present<'a>(members: &Members<'a>, name: &str) -> Option<&'a str> {
    members.get(name).copied().filter(|json| *json != "null")
}

/// The text that a JSON string stands for.
fn text(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// At most `limit` bytes of a text, with [`CUT`] at the end if that is not all.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit - CUT.len_utf8());
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use konductor_api::{ClaimStatus, Permit, PermitSpec};
    use serde_json::{Value, json};

    use super::*;

    type Claim = Object<Permit, PermitSpec, Option<ClaimStatus>>;

    fn permit(metadata: &Value, status: &Value) -> String {
        let spec = json!({ "semaphore": "s", "holder": "h", "instance": "i" });
        json!({ "apiVersion": "v1", "kind": "Permit", "metadata": metadata, "spec": spec, "status": status })
            .to_string()
    }

    fn read(text: &str) -> Lenient<Claim> {
        Claim::read(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn an_object_whose_status_does_not_fit_is_told_with_its_metadata_and_phase() {
        for (status, phase, error) in [
            (json!({ "phase": "Granted", "ttl": 5 }), Some("Granted"), "status: invalid type: integer `5`"),
            (json!({ "phase": 1 }), Some("1"), "status: expected value"),
            (json!({ "phase": "é".repeat(1000) }), Some(&*("é".repeat(30) + "…")), "status: unknown variant `éé"),
            (json!({ "phase": null, "term": -1 }), None, "status: invalid value: integer `-1`"),
            (json!(7), None, "status: invalid type: integer `7`"),
        ] {
            let misfit = read(&permit(&json!({ "name": "n", "uid": "u" }), &status)).expect_err("no status");
            assert_eq!((misfit.metadata.uid.as_str(), misfit.phase.as_deref()), ("u", phase), "{status}");
            assert!(misfit.error.starts_with(error) && misfit.error.len() <= REASON, "{}", misfit.error);
        }
    }

    #[test]
    fn what_an_object_does_not_say_is_the_default() {
        for status in [Value::Null, json!({ "conditions": [] })] {
            let claim = read(&permit(&json!({ "name": "n" }), &status)).expect("readable");
            assert_eq!(claim.status, (!status.is_null()).then(ClaimStatus::default));
            assert_eq!(claim.metadata, Metadata { name: "n".into(), ..Metadata::default() });
        }
        let bare = read(r#"{"metadata":{"name":"n"}}"#).expect_err("no spec");
        assert!(bare.error.contains("missing field `semaphore`"), "{bare}");
        assert!(Object::<Permit>::read(r#"{"metadata":{"name":"n"},"status":[]}"#).expect("an object").is_ok());
    }

    #[test]
    fn what_has_no_name_is_no_object() {
        for text in
            ["", "7", "[]", "{", r#"{"metadata":7}"#, r#"{"metadata":{"uid":"u"}}"#, r#"{"metadata":{"name":7}}"#]
        {
            assert!(Claim::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_object_of_which_only_the_beginning_is_there_is_told_with_its_metadata() {
        let text = permit(&json!({ "name": "n", "uid": "u" }), &Value::Null);
        let spec = text.find(r#""spec""#).expect("a spec");
        for end in [spec, spec + 10, text.len() - 1] {
            let misfit = Claim::read_cut(&text[..end], "too long").expect("its metadata is there").expect_err("cut");
            assert_eq!((misfit.metadata.uid.as_str(), misfit.error.as_str()), ("u", "too long"));
        }
        assert!(Claim::read_cut(&text[..text.find("uid").expect("a UID")], "too long").is_err());
    }

    #[test]
    fn what_is_kept_of_metadata_is_bounded() {
        let labels = |length: usize| -> serde_json::Map<_, _> {
            (0..1000).map(|number| (format!("{number:03}"), json!("x".repeat(length)))).collect()
        };
        let long = "é".repeat(ANNOTATION);
        let owner = |number: usize| json!({ "apiVersion": "v1", "kind": "K", "name": "n", "uid": number.to_string() });
        let too_long = json!({ "apiVersion": "v1", "kind": "x".repeat(OWNER + 1), "name": "n", "uid": "u" });
        let owners: Vec<_> = std::iter::once(too_long).chain((0..1000).map(owner)).collect();
        let annotations = json!({ REVOKE_ANNOTATION: long, "konductor.io/other": "x", "other": "x" });
        let metadata =
            json!({ "name": "n", "labels": labels(97), "annotations": annotations, "ownerReferences": owners });
        let metadata = read(&permit(&metadata, &Value::Null)).expect("readable").metadata;
        assert_eq!(metadata.labels.len(), LABELS / (100 + LABEL));
        let short = Metadata::read(&json!({ "labels": labels(0) }).to_string());
        assert_eq!(short.labels.len(), LABELS / (3 + LABEL));
        assert_eq!(metadata.annotations.keys().collect::<Vec<_>>(), [REVOKE_ANNOTATION]);
        let reason = &metadata.annotations[REVOKE_ANNOTATION];
        assert!(reason.len() <= ANNOTATION && reason.ends_with("é…"), "{}", reason.len());
        assert_eq!(metadata.owners.len(), OWNERS - 1);
    }

    #[test]
    fn what_is_read_of_metadata_is_what_it_says() {
        let metadata = json!({
            "name": "n", "namespace": "ns", "uid": "u", "resourceVersion": "18446744073709551615",
            "generation": i64::MAX, "creationTimestamp": "9999-12-31T23:59:59Z", "deletionTimestamp": "?",
            "deletionGracePeriodSeconds": i64::MIN, "finalizers": ["f"], "labels": { "a": "b", "c": "" },
            "annotations": { GATES_FROM_ANNOTATION: "a,b" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "K", "name": "o", "uid": "ou", "controller": true }],
            "managedFields": [{ "time": "10000-01-01T00:00:00Z" }],
        });
        let text = |text: &str| text.to_owned();
        let owner = Owner { api_version: text("v1"), kind: text("K"), name: text("o"), uid: text("ou") };
        let expected = Metadata {
            namespace: text("ns"),
            name: text("n"),
            uid: text("u"),
            version: u64::MAX,
            generation: Some(i64::MAX),
            created: 253_402_300_799,
            deleting: true,
            labels: [(text("a"), text("b")), (text("c"), text(""))].into(),
            annotations: [(text(GATES_FROM_ANNOTATION), text("a,b"))].into(),
            owners: vec![owner],
            finalizers: vec![text("f")],
        };
        assert_eq!(Metadata::read(&metadata.to_string()), expected);
    }
}
