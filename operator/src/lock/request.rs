//! The requests that carry out a plan, each a single attempt. They make no choices.
//!
//! A write takes effect on exactly the version that it was decided on, or not at all. When it is not known to have
//! taken effect, the object is read again, until somebody answers: what is decided next rests on what is there.

use std::time::Duration;

use konductor_api::{
    LockClaim,
    arbiter::{ClaimWrite, Look, Outcome, PodSight, Uid, Write},
    duration::doubling_pause,
};
use konductor_cluster::{Endpoint, Page, PageRequest, Program, RequestError};
use kube::{
    Client,
    core::object::{HasSpec, HasStatus},
};
use serde_json::{Value, json};

use super::{
    index::Kin,
    kind::{Found, Kind, SeenClaim, SeenParent, read_claim, read_parent},
};
use crate::{
    key::Key,
    pods::{PodEndpoint, sight},
};

/// Claims in one page of a list, and the least of them.
const PAGE: (u32, u32) = (500, 8);

/// Claims in a page that has failed so often: what others have stored in them can be more than comes in time.
fn page_limit(failures: u32) -> u32 {
    (PAGE.0 >> failures.min(16)).max(PAGE.1)
}

/// The first pause before an attempt is repeated, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long to wait before the next attempt after so many failures in a row. Without chance: places bound how many go
/// at once.
pub(super) fn pause(failures: u32) -> Duration {
    doubling_pause(PAUSES.0, failures, PAUSES.1)
}

/// Something to be sent.
#[derive(Debug)]
pub(crate) enum Job {
    /// A write of the plan.
    Write(Write),
    /// What a write was for is read again, as the write is not known to be done.
    Read { write: Write, outcome: Outcome, failures: u32 },
    /// A page of the claims of a lock, for the takeover in this term.
    Page { term: u64, from: Option<String>, failures: u32 },
    /// A page of what one namespace has, for what was left out.
    Intake { of: Kin, from: Option<String>, failures: u32 },
    /// A pod.
    Look(Look),
}

/// A request of this lock.
#[derive(Debug)]
pub(crate) enum Request {
    /// Writes this status.
    Patch { key: Key, write: Write, status: Value },
    /// Deletes a claim.
    Delete { key: Key, write: ClaimWrite },
    /// Reads what this write was for.
    Read { key: Key, write: Write, outcome: Outcome, failures: u32 },
    /// Lists claims, from where the last page ended.
    Page { key: Key, term: u64, from: Option<String>, failures: u32 },
    /// Lists what a namespace has, from where the last page ended.
    Intake { key: Key, of: Kin, from: Option<String>, failures: u32 },
    /// Reads a pod.
    Look { key: Key, look: Look },
}

/// What became of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// Done, with this result.
    Applied(Box<Subject>),
    /// Deleted.
    Deleted,
    /// Not known to be done.
    Failed(RequestError),
}

/// The object that a write is for, as it was found.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are claims")]
pub(super) enum Subject {
    Parent(Found<SeenParent>),
    Claim(Found<SeenClaim>),
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Answer(pub(super) Answered);

#[derive(Debug)]
pub(super) enum Answered {
    Written {
        write: Write,
        written: Written,
    },
    /// `None`: the object does not exist.
    Read {
        write: Write,
        outcome: Outcome,
        failures: u32,
        found: Result<Option<Box<Subject>>, RequestError>,
    },
    Page {
        term: u64,
        from: Option<String>,
        failures: u32,
        page: Result<ClaimPage, RequestError>,
    },
    Intake {
        of: Kin,
        failures: u32,
        from: Option<String>,
        page: Result<IntakePage, RequestError>,
    },
    Looked {
        claim: Uid,
        sight: PodSight,
    },
}

/// Some of the claims of a lock.
#[derive(Debug)]
pub(super) struct ClaimPage {
    pub(super) claims: Vec<Found<SeenClaim>>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
}

/// Some of what a namespace has.
#[derive(Debug)]
pub(super) struct IntakePage {
    pub(super) found: Vec<Subject>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
}

/// Sends a request.
pub(super) async fn perform<K: Kind>(client: Client, request: Request) -> Answer {
    Answer(match request {
        Request::Patch { key, write, status } => {
            let written = patch::<K>(client, &key, &write, status).await;
            Answered::Written { write, written }
        }
        Request::Delete { key, write } => {
            let ClaimWrite { uid, name, version, .. } = &write;
            let deleted = claims::<K>(client, &key).delete(name, uid, Some(*version)).await;
            let written = deleted.map_or_else(Written::Failed, |()| Written::Deleted);
            Answered::Written { write: Write::Claim(write), written }
        }
        Request::Read { key, write, outcome, failures } => {
            let found = read::<K>(client, &key, &write).await;
            Answered::Read { write, outcome, failures, found }
        }
        Request::Page { key, term, from, failures } => {
            let page = page::<K>(client, &key, from.clone(), page_limit(failures)).await;
            Answered::Page { term, from, failures, page }
        }
        Request::Intake { key, of, from, failures } => {
            let page = intake_page::<K>(client, &key, of, from.clone(), page_limit(failures)).await;
            Answered::Intake { of, from, failures, page }
        }
        Request::Look { key, look } => {
            let namespace = look.pod.namespace_from(&key.namespace);
            let pods: PodEndpoint = Endpoint::namespaced(client, Program::OPERATOR, namespace);
            let sight = sight(pods.get(&look.pod.name).await, &look.pod);
            Answered::Looked { claim: look.claim, sight }
        }
    })
}

type EndpointOf<K> = Endpoint<K, <K as HasSpec>::Spec, Option<<K as HasStatus>::Status>>;

fn parents<K: Kind>(client: Client, key: &Key) -> EndpointOf<K> {
    Endpoint::namespaced(client, Program::OPERATOR, &key.namespace)
}

fn claims<K: Kind>(client: Client, key: &Key) -> EndpointOf<K::Claim> {
    Endpoint::namespaced(client, Program::OPERATOR, &key.namespace)
}

async fn patch<K: Kind>(client: Client, key: &Key, write: &Write, status: Value) -> Written {
    let metadata = json!({ "uid": write.uid(), "resourceVersion": write.version().to_string() });
    let patch = json!({ "metadata": metadata, "status": status });
    let found = match write {
        Write::Parent(_) => {
            let found = parents::<K>(client, key).patch_status(&key.name, &patch).await;
            found.map(|object| Subject::Parent(read_parent::<K>(object)))
        }
        Write::Claim(ClaimWrite { name, .. }) => {
            let found = claims::<K>(client, key).patch_status(name, &patch).await;
            found.map(|object| Subject::Claim(read_claim::<K>(object)))
        }
    };
    found.map_or_else(Written::Failed, |subject| Written::Applied(Box::new(subject)))
}

async fn read<K: Kind>(client: Client, key: &Key, write: &Write) -> Result<Option<Box<Subject>>, RequestError> {
    let (name, found) = match write {
        Write::Parent(_) => {
            let found = parents::<K>(client, key).get(&key.name).await;
            (&key.name, found.map(|object| Subject::Parent(read_parent::<K>(object))))
        }
        Write::Claim(ClaimWrite { name, .. }) => {
            let found = claims::<K>(client, key).get(name).await;
            (name, found.map(|object| Subject::Claim(read_claim::<K>(object))))
        }
    };
    match found {
        Ok(subject) => Ok(Some(Box::new(subject))),
        Err(error) if error.is_absent(name) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A page of the claims of a lock, by a consistent read. Its permits are free but for what the pages show, so one with
/// an item of which nothing can be read is none: that may be a holder.
async fn page<K: Kind>(client: Client, key: &Key, from: Option<String>, limit: u32) -> Result<ClaimPage, RequestError> {
    let fields = Some(format!("{}={}", K::Claim::LOCK_FIELD, key.name));
    let request = PageRequest { fields, limit, continue_token: from };
    let Page { items, continue_token, .. } =
        claims::<K>(client, key).page(&request, read_claim::<K>).await?.complete()?;
    Ok(ClaimPage { claims: items, next: continue_token })
}

/// A page of all locks or claims of a namespace, by a consistent read. One of which nothing can be read is passed over,
/// as it is by who follows them.
async fn intake_page<K: Kind>(
    client: Client,
    key: &Key,
    of: Kin,
    from: Option<String>,
    limit: u32,
) -> Result<IntakePage, RequestError> {
    let request = PageRequest { fields: None, limit, continue_token: from };
    Ok(match of {
        Kin::Locks => {
            let page = parents::<K>(client, key).page(&request, |one| Subject::Parent(read_parent::<K>(one))).await?;
            IntakePage { found: page.items, next: page.continue_token }
        }
        Kin::Claims => {
            let page = claims::<K>(client, key).page(&request, |one| Subject::Claim(read_claim::<K>(one))).await?;
            IntakePage { found: page.items, next: page.continue_token }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::body::Bytes;
    use konductor_api::Semaphore;
    use kube::client::Body;
    use tokio::sync::mpsc;

    use super::*;

    /// The page that comes after so many failures, if the API server answers with this; and the query.
    async fn page_after(failures: u32, answer: Value) -> (Result<ClaimPage, RequestError>, String) {
        let (asked, mut queries) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            asked.send(request.uri().query().unwrap_or_default().to_owned()).expect("somebody listens");
            let response = http::Response::new(Full::new(Bytes::from(answer.to_string())));
            async { Ok::<_, Infallible>(response) }
        });
        let key = Key::from(crate::key::ParentKey::new("n", "s"));
        let request = Request::Page { key, term: 1, from: None, failures };
        let Answer(answered) = perform::<Semaphore>(Client::new(service, "n"), request).await;
        let Answered::Page { page, .. } = answered else { panic!("{answered:?}") };
        (page, queries.recv().await.expect("a query"))
    }

    #[tokio::test]
    async fn a_page_that_failed_is_asked_for_in_smaller_pieces() {
        for (failures, limit) in [(0, 500), (1, 250), (5, 15), (6, 8), (u32::MAX, 8)] {
            let (page, query) =
                page_after(failures, json!({ "metadata": { "resourceVersion": "5" }, "items": [] })).await;
            assert!(page.is_ok() && query.ends_with(&format!("&limit={limit}")), "{failures}: {query}");
        }
    }

    #[tokio::test]
    async fn a_page_in_which_nothing_can_be_read_of_a_claim_is_none() {
        let items = json!([{ "metadata": {} }]);
        let (page, _) = page_after(0, json!({ "metadata": { "resourceVersion": "5" }, "items": items })).await;
        assert!(matches!(page, Err(RequestError::Illegible(_))), "{page:?}");
    }
}
