//! What an API server has in its etcd: every version of every object since the last compaction.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde_json::Value;

use super::resource::ResourceId;

/// Where an object is.
pub type Key = (ResourceId, String, String);

/// An object at one version.
#[derive(Debug)]
pub struct Stored {
    /// The object.
    pub value: Value,
    /// Its text.
    pub text: String,
}

impl Stored {
    fn new(value: Value) -> Arc<Self> {
        let text = value.to_string();
        Arc::new(Self { value, text })
    }
}

/// What has happened to an object at one version.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version.
    pub version: u64,
    /// Which object.
    pub key: Key,
    /// What it was.
    pub before: Option<Arc<Stored>>,
    /// What it is; of one that was deleted, what it was at the end.
    pub object: Arc<Stored>,
    /// Whether it is gone.
    pub deleted: bool,
}

/// By how much versions are raised after a backup is restored.
const RAISE: u64 = 1_000_000_000;

/// An object at the version since which it is this; `None`: gone.
type Revision = (u64, Option<Arc<Stored>>);

/// The store.
#[derive(Debug, Default)]
pub struct Store {
    version: u64,
    compacted: u64,
    revisions: BTreeMap<Key, Vec<Revision>>,
    changes: Vec<Change>,
}

impl Store {
    /// The latest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version before which nothing is known.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// An object as it is.
    pub fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.revisions.get(key).and_then(|revisions| revisions.last()).and_then(|(_, object)| object.as_ref())
    }

    /// An object as it was at this version.
    pub fn get_at(&self, key: &Key, version: u64) -> Option<&Arc<Stored>> {
        at(self.revisions.get(key)?, version)
    }

    /// What an object was, one after the other, from the first of these versions to the last; `None` where it was not
    /// there.
    pub fn states(&self, key: &Key, first: u64, last: u64) -> impl Iterator<Item = Option<&Arc<Stored>>> {
        let revisions = self.revisions.get(key).map(Vec::as_slice).unwrap_or_default();
        let later = revisions.iter().filter(move |(version, _)| *version > first && *version <= last);
        std::iter::once(at(revisions, first)).chain(later.map(|(_, object)| object.as_ref()))
    }

    /// All objects of a resource as they were at this version, after a key if one is given.
    pub fn list<'a>(
        &'a self,
        resource: ResourceId,
        namespace: Option<&'a str>,
        after: Option<&Key>,
        version: u64,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Stored>)> {
        let first = (resource, namespace.unwrap_or_default().to_owned(), String::new());
        let from = after.map_or(Bound::Included(first), |key| Bound::Excluded(key.clone()));
        self.revisions
            .range((from, Bound::Unbounded))
            .take_while(move |((of, within, _), _)| {
                *of == resource && namespace.is_none_or(|namespace| namespace == within.as_str())
            })
            .filter_map(move |(key, revisions)| Some((key, at(revisions, version)?)))
    }

    /// What has happened after this version.
    pub fn changes_after(&self, version: u64) -> &[Change] {
        let first = self.changes.partition_point(|change| change.version <= version);
        &self.changes[first..]
    }

    /// Stores an object, which is given its version; returns it.
    pub fn put(&mut self, key: Key, mut value: Value) -> Arc<Stored> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Stored::new(value);
        let before = self.get(&key).cloned();
        self.revisions.entry(key.clone()).or_default().push((self.version, Some(object.clone())));
        self.changes.push(Change { version: self.version, key, before, object: object.clone(), deleted: false });
        object
    }

    /// Deletes an object that was this at its end.
    pub fn delete(&mut self, key: Key, mut value: Value) -> Arc<Stored> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Stored::new(value);
        let before = self.get(&key).cloned();
        self.revisions.entry(key.clone()).or_default().push((self.version, None));
        self.changes.push(Change { version: self.version, key, before, object: object.clone(), deleted: true });
        object
    }

    /// Goes back to this version, or to the oldest that is known: what an etcd restored from a backup has. What is
    /// written then takes the versions of what is forgotten.
    pub fn rewind(&mut self, version: u64) {
        self.version = version.clamp(self.compacted, self.version);
        let version = self.version;
        let kept = self.changes.partition_point(|change| change.version <= version);
        self.changes.truncate(kept);
        self.revisions.retain(|_, revisions| {
            revisions.retain(|(of, _)| *of <= version);
            !revisions.is_empty()
        });
    }

    /// Goes on at a version that is far above all that were, and knows nothing of what was before: what those do who
    /// restore a backup as etcd's guide says (`--bump-revision`, `--mark-compacted`).
    pub fn raise(&mut self) {
        self.version += RAISE;
        self.compact(self.version);
    }

    /// Forgets what was before this version.
    pub fn compact(&mut self, version: u64) {
        self.compacted = self.compacted.max(version.min(self.version));
        let compacted = self.compacted;
        let kept = self.changes.partition_point(|change| change.version <= compacted);
        self.changes.drain(..kept);
        self.revisions.retain(|_, revisions| {
            let first = revisions.partition_point(|(version, _)| *version <= compacted).saturating_sub(1);
            revisions.drain(..first);
            !(revisions.len() == 1 && revisions[0].1.is_none() && revisions[0].0 <= compacted)
        });
    }
}

fn at(revisions: &[Revision], version: u64) -> Option<&Arc<Stored>> {
    let after = revisions.partition_point(|(of, _)| *of <= version);
    revisions[..after].last().and_then(|(_, object)| object.as_ref())
}
