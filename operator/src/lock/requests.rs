//! The API requests that carry out a plan. They make no choices.
//!
//! A write takes effect on exactly the version that it was decided on, or not at all. When it is not known to have taken
//! effect, the object is read again, until somebody answers: what is decided next rests on what is there.

use std::time::Duration;

use konductor_api::{
    LockClaim,
    arbiter::{ClaimWrite, Outcome, ParentWrite, Version, Write},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    core::Status,
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};
use tracing::warn;

use super::{
    Key,
    kind::{Found, Kind, SeenClaim, SeenParent, read_claim, read_parent},
};
use konductor_cluster::{Lenient, Object, backoff::Backoff};

/// How long one request may take; the API server itself gives up after a minute, when nobody needs the answer any more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest pause between attempts to read an object again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Claims in one page of a list.
const PAGE: u32 = 500;

/// What a read found.
#[derive(Debug)]
pub(super) enum Reading<T> {
    /// It does not exist.
    Absent,
    /// It is there, or another one of its name.
    Present(Box<Found<T>>),
    /// Nobody answered while it mattered, or the answer is not ours to see.
    Unanswered,
}

/// What became of a write.
#[derive(Debug)]
pub(super) enum Written<T> {
    /// Done, with this result.
    Applied(Box<Found<T>>),
    /// Deleted.
    Deleted,
    /// Not known to be done.
    Failed {
        /// What is known.
        outcome: Outcome,
        /// In a word, for the metric.
        label: &'static str,
        /// Why.
        error: String,
        /// What is there now.
        reading: Reading<T>,
    },
}

/// What became of a request that ran beside the event loop.
#[derive(Debug)]
pub(super) enum Done {
    /// A write to a parent.
    Parent(Key, ParentWrite, Written<SeenParent>),
    /// A write to a claim.
    Claim(Key, ClaimWrite, Written<SeenClaim>),
    /// All claims of a parent, for the takeover in this term; `None` if they could not be had.
    Listed(Key, u64, Option<Vec<Found<SeenClaim>>>),
    /// A parent that a list did not show.
    ProbedParent(Key, String, Reading<SeenParent>),
    /// A claim that a list did not show.
    ProbedClaim(String, Reading<SeenClaim>),
}

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Requests {
    client: Client,
    /// Reading again ends when this process does not lead any more.
    leading: watch::Receiver<bool>,
}

impl Requests {
    pub(super) fn new(client: Client, leading: watch::Receiver<bool>) -> Self {
        Self { client, leading }
    }

    /// Carries out a write with this status; `None` deletes.
    pub(super) async fn write<K: Kind>(self, key: Key, write: Write, status: Option<Value>) -> Done {
        match write {
            Write::Parent(write) => {
                let written = self.change(&key, &key.name, &write.uid, write.version, status, read_parent::<K>).await;
                Done::Parent(key, write, written)
            }
            Write::Claim(write) => {
                let written = self.change(&key, &write.name, &write.uid, write.version, status, read_claim::<K>).await;
                Done::Claim(key, write, written)
            }
        }
    }

    async fn change<O: Object, T>(
        &self,
        key: &Key,
        name: &str,
        uid: &str,
        version: Version,
        status: Option<Value>,
        read: fn(Lenient<O>) -> Found<T>,
    ) -> Written<T> {
        let api: Api<Lenient<O>> = Api::namespaced(self.client.clone(), &key.namespace);
        let version = version.to_string();
        let attempt = async {
            if let Some(status) = status {
                let patch = json!({ "metadata": { "uid": uid, "resourceVersion": version }, "status": status });
                api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(Some)
            } else {
                let preconditions = Preconditions { uid: Some(uid.into()), resource_version: Some(version) };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                api.delete(name, &params).await.map(|_| None)
            }
        };
        let (outcome, label, error) = match timeout(REQUEST_TIMEOUT, attempt).await {
            Ok(Ok(Some(object))) => {
                let found = read(object);
                match &found.content {
                    Ok(_) => return Written::Applied(Box::new(found)),
                    Err(fault) => (Outcome::Unknown, "unreadable", fault.error.clone()),
                }
            }
            Ok(Ok(None)) => return Written::Deleted,
            // A client has withdrawn or released it meanwhile: nothing is left to be read.
            Ok(Err(kube::Error::Api(status))) if is_absent(&status, name) => {
                let error = status.message.clone();
                return Written::Failed {
                    outcome: Outcome::NotApplied,
                    label: "gone",
                    error,
                    reading: Reading::Absent,
                };
            }
            Ok(Err(error)) => {
                let (outcome, label) = judge(&error);
                (outcome, label, konductor_cluster::explain(&error))
            }
            Err(_) => (Outcome::Unknown, "unanswered", "the API server did not answer in time".into()),
        };
        let reading = self.read(&api, name, read, true).await;
        // Without a look at the object, a refusal may hide an earlier write of ours that did take effect.
        let outcome = if matches!(reading, Reading::Unanswered) { Outcome::Unknown } else { outcome };
        Written::Failed { outcome, label, error, reading }
    }

    /// Looks for a parent that a list did not show.
    pub(super) async fn probe_parent<K: Kind>(self, key: Key, uid: String) -> Done {
        let api = Api::namespaced(self.client.clone(), &key.namespace);
        let reading = self.read(&api, &key.name, read_parent::<K>, false).await;
        Done::ProbedParent(key, uid, reading)
    }

    /// Looks for a claim that a list did not show.
    pub(super) async fn probe_claim<K: Kind>(self, namespace: String, name: String, uid: String) -> Done {
        let api = Api::namespaced(self.client.clone(), &namespace);
        let reading = self.read(&api, &name, read_claim::<K>, false).await;
        Done::ProbedClaim(uid, reading)
    }

    /// Reads an object, again and again until somebody answers.
    async fn read<O: Object, T>(
        &self,
        api: &Api<Lenient<O>>,
        name: &str,
        read: fn(Lenient<O>) -> Found<T>,
        only_while_leading: bool,
    ) -> Reading<T> {
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        loop {
            let error = match timeout(REQUEST_TIMEOUT, api.get(name)).await {
                Ok(Ok(object)) => return Reading::Present(Box::new(read(object))),
                Ok(Err(kube::Error::Api(status))) if is_absent(&status, name) => return Reading::Absent,
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
                    warn!(name, resource = %O::plural(&()), "may not read: {}", status.message);
                    return Reading::Unanswered;
                }
                Ok(Err(error)) => konductor_cluster::explain(&error),
                Err(_) => "the API server did not answer in time".into(),
            };
            if only_while_leading && !*self.leading.borrow() {
                return Reading::Unanswered;
            }
            if backoff.failures() == 0 {
                warn!(name, resource = %O::plural(&()), "cannot read, trying again: {error}");
            }
            backoff.pause().await;
        }
    }

    /// All claims of a parent by one consistent read.
    pub(super) async fn list<K: Kind>(self, key: Key, term: u64) -> Done {
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        loop {
            let error = match self.list_once::<K>(&key).await {
                Ok(claims) if !claims.iter().any(is_in_the_way) => return Done::Listed(key, term, Some(claims)),
                Ok(claims) => {
                    let stuck: Vec<_> = claims.iter().filter(|claim| is_in_the_way(claim)).collect();
                    let names: Vec<_> = stuck.iter().map(|claim| claim.name.as_str()).take(3).collect();
                    format!("{} claims may be held but cannot be read, such as {}", stuck.len(), names.join(", "))
                }
                Err(error) => error,
            };
            if !*self.leading.borrow() {
                return Done::Listed(key, term, None);
            }
            if backoff.failures() == 0 {
                warn!(namespace = key.namespace, name = key.name, "cannot take over yet, trying again: {error}");
            }
            backoff.pause().await;
        }
    }

    async fn list_once<K: Kind>(&self, key: &Key) -> Result<Vec<Found<SeenClaim>>, String> {
        let api: Api<Lenient<K::Claim>> = Api::namespaced(self.client.clone(), &key.namespace);
        let selector = format!("{}={}", K::Claim::LOCK_FIELD, key.name);
        // No version: the API server answers with what was current when it was asked.
        let mut params = ListParams::default().fields(&selector).limit(PAGE);
        let mut claims = Vec::new();
        loop {
            let page = timeout(REQUEST_TIMEOUT, api.list(&params)).await;
            let page = page
                .map_err(|_| "the API server did not answer in time")?
                .map_err(|error| konductor_cluster::explain(&error))?;
            claims.extend(page.items.into_iter().map(read_claim::<K>));
            // The token makes the next page of the same moment; one that has become too old is an error, and all begins anew.
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(claims);
            }
        }
    }
}

/// A takeover must know the weight of everything that may be held.
fn is_in_the_way(claim: &Found<SeenClaim>) -> bool {
    claim.content.as_ref().is_err_and(|fault| fault.may_hold)
}

/// The object is not there; an API server that does not serve the resource (yet) says 404 too, but names no object.
fn is_absent(status: &Status, name: &str) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.name == name)
}

/// What a failed write's error says of its effect.
fn judge(error: &kube::Error) -> (Outcome, &'static str) {
    match error {
        kube::Error::Api(status) if status.code == 409 => (Outcome::NotApplied, "conflict"),
        // Too many requests (429) is said before anything is done; a timeout (408) is not.
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 408 => {
            (Outcome::NotApplied, "refused")
        }
        _ => (Outcome::Unknown, "unanswered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_definite_refusal_counts_as_not_applied() {
        for (code, expected) in [
            (400, Outcome::NotApplied),
            (403, Outcome::NotApplied),
            (404, Outcome::NotApplied),
            (408, Outcome::Unknown),
            (409, Outcome::NotApplied),
            (422, Outcome::NotApplied),
            (429, Outcome::NotApplied),
            (500, Outcome::Unknown),
            (503, Outcome::Unknown),
            (504, Outcome::Unknown),
        ] {
            let error = kube::Error::Api(Status::failure("no", "No").with_code(code).boxed());
            assert_eq!(judge(&error).0, expected, "{code}");
        }
    }
}
