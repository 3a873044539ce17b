//! What barriers need more than one request for: a phase, the next round, the adoption of an arrival.

use std::sync::Arc;

use futures::{StreamExt, stream};
use konductor_api::{
    Barrier, BarrierStatus,
    arbiter::{Now, Version},
    rendezvous::{Change, barrier::decide},
};
use konductor_cluster::{
    Endpoint, PageRequest, Program, RequestError,
    object::{Described, Lenient},
};
use kube::{Client, Resource};
use serde_json::{Value, json};

use super::{
    Barriers, PAGE,
    arrivals::{Adoption, ArrivalObject, Arrived, BarrierObject, Crowd, view},
    round::{self, End, Listed, Round, Step, Target},
};
use crate::{
    key::Key,
    waitable::{self, Chore, EndpointOf, Next, ObjectOf, Verdict, kept},
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) enum Errand {
    /// To a phase or to the next round: what precedes the write, and then the write.
    Round(Box<Way>),
    /// An arrival is to be owned by its barrier.
    Adopt(Adoption),
}

/// The way to a write of a barrier.
#[derive(Debug)]
pub(crate) struct Way {
    key: Key,
    /// The version of the barrier on which all of this is decided.
    barrier: Arc<BarrierObject>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What precedes the write; and what to write if nothing is there to be counted.
    Before(Box<Round>, BarrierStatus),
    Write(BarrierStatus),
}

impl Errand {
    /// To this status of the barrier.
    pub(super) fn round(
        key: &Key,
        barrier: &Arc<BarrierObject>,
        change: Change,
        status: &BarrierStatus,
    ) -> Option<Self> {
        let (uid, version) = (barrier.metadata.uid.clone(), barrier.metadata.version);
        let round = match change {
            Change::Accept | Change::Tell => return None,
            Change::Decide => Round::count(uid, version),
            Change::NextRound => Round::clear(uid, version),
        };
        let stage = Stage::Before(Box::new(round), status.clone());
        Some(Self::Round(Box::new(Way { key: key.clone(), barrier: barrier.clone(), stage })))
    }
}

/// A request.
pub(crate) enum Request {
    /// A step of a round.
    Step(Key, Step),
    /// Writes a status on this version of the barrier.
    Write { key: Key, uid: String, version: Version, status: Value },
    /// Writes the owner into an arrival.
    Adopt(Adoption),
}

/// What became of it.
pub(crate) enum Answer {
    Step(Result<round::Answer, RequestError>),
    Written(Result<Box<Lenient<ObjectOf<Barriers>>>, RequestError>),
    Adopted(Result<(), RequestError>),
}

impl waitable::Errand<Barriers> for Errand {
    type Request = Request;
    type Answer = Answer;

    fn request(&self) -> Request {
        match self {
            Self::Adopt(adoption) => Request::Adopt(adoption.clone()),
            Self::Round(way) => match &way.stage {
                Stage::Before(round, _) => Request::Step(way.key.clone(), round.next()),
                Stage::Write(status) => Request::Write {
                    key: way.key.clone(),
                    uid: way.barrier.metadata.uid.clone(),
                    version: way.barrier.metadata.version,
                    status: serde_json::to_value(status).expect("a status is plain data"),
                },
            },
        }
    }

    fn is_unanswered(answer: &Answer) -> bool {
        let error = match answer {
            Answer::Step(result) => result.as_ref().err(),
            Answer::Written(result) => result.as_ref().err(),
            Answer::Adopted(result) => result.as_ref().err(),
        };
        error.is_some_and(|error| !error.is_not_applied())
    }

    fn answered(self, answer: Answer, kind: &Barriers, now: Now) -> Next<Barriers, Self> {
        let end = |verdict| Next::End(verdict);
        match (self, answer) {
            (Self::Round(way), Answer::Step(Ok(answer))) => way.step(answer, kind, now),
            (Self::Round(_), Answer::Step(Err(error)) | Answer::Written(Err(error))) => end(Verdict::Failed(error)),
            (Self::Round(_), Answer::Written(Ok(barrier))) => end(Verdict::Written(barrier)),
            (Self::Adopt(adoption), Answer::Adopted(result)) => {
                let Adoption { name, uid, .. } = adoption;
                // One that has changed is tried again as it is now: what was seen of that meanwhile was passed over.
                let done = result.as_ref().map_or_else(|error| error.is_absent(&name), |()| true);
                Next::Done(Chore { change: "adopt", object: name, result, report: (uid, done) })
            }
            (Self::Round(_), Answer::Adopted(_)) | (Self::Adopt(_), Answer::Step(_) | Answer::Written(_)) => {
                unreachable!("an answer to another request")
            }
        }
    }

    async fn perform(client: Client, request: Request) -> Answer {
        match request {
            Request::Step(key, step) => Answer::Step(take(&client, &key, step).await),
            Request::Write { key, uid, version, status } => {
                let metadata = json!({ "uid": uid, "resourceVersion": version.to_string() });
                let patch = json!({ "metadata": metadata, "status": status });
                Answer::Written(barriers(&client, &key).patch_status(&key.name, &patch).await.map(kept::<Barriers>))
            }
            Request::Adopt(adoption) => Answer::Adopted(adopt(client, adoption).await),
        }
    }
}

impl Way {
    fn step(mut self: Box<Self>, answer: round::Answer, kind: &Barriers, now: Now) -> Next<Barriers, Errand> {
        let Stage::Before(mut round, status) = self.stage else { unreachable!("no step of a round") };
        round.answered(answer);
        let premature = |why| Next::End(Verdict::Premature(why));
        // By what was seen since this was begun, too: leadership may have been lost, or nobody have answered.
        let seen = kind.arrivals.seen(&self.key);
        let decided = |crowd: &Crowd| decide(&view(crowd, &self.barrier, &seen), now).write;
        let is_next = || decided(&Crowd::default()).is_some_and(|write| write.change == Change::NextRound);
        let is_early = round.can_be_left() && !is_next();
        match round.next() {
            Step::Page { .. } | Step::Look | Step::Delete(_) if is_early => return premature(None),
            Step::Page { .. } | Step::Look | Step::Delete(_) => self.stage = Stage::Before(round, status),
            // The barrier is decided on anew after a pause: it may be another one by then.
            Step::Rest => return premature(round.stuck().map(ToString::to_string)),
            Step::Over => match round.end() {
                Some(End::Counted(crowd)) => match decided(&crowd) {
                    // It may only be a figure, after all: then that is right, too.
                    Some(found) if found.change != Change::NextRound => self.stage = Stage::Write(found.status),
                    _ => return premature(None),
                },
                Some(End::Cleared) if is_early => return premature(None),
                Some(End::Cleared) => self.stage = Stage::Write(status),
                Some(End::Overtaken) => return Next::End(Verdict::Overtaken),
                None => return premature(None),
            },
        }
        Next::Step(Errand::Round(self))
    }
}

fn barriers(client: &Client, key: &Key) -> EndpointOf<Barriers> {
    Endpoint::namespaced(client.clone(), Program::OPERATOR, &key.namespace)
}

type Arrivals = Endpoint<konductor_api::Arrival, konductor_api::ArrivalSpec, serde::de::IgnoredAny>;

fn arrivals(client: &Client, key: &Key) -> Arrivals {
    Endpoint::namespaced(client.clone(), Program::OPERATOR, &key.namespace)
}

async fn take(client: &Client, key: &Key, step: Step) -> Result<round::Answer, RequestError> {
    match step {
        Step::Page { continue_token } => {
            let fields = Some(format!("spec.barrier={}", key.name));
            let wanted = PageRequest { fields, limit: PAGE, continue_token };
            let listed = |arrival: Lenient<ArrivalObject>| {
                let metadata = arrival.metadata();
                let target = Target { name: metadata.name.clone(), uid: metadata.uid.clone() };
                let deleted = metadata.deleting.then(|| metadata.finalizers.clone());
                Listed { target, deleted, arrived: Arrived::of(arrival).ok() }
            };
            let page = arrivals(client, key).page(&wanted, listed).await?.complete()?;
            Ok(round::Answer::Page { listed: page.items, continue_token: page.continue_token })
        }
        Step::Look => match barriers(client, key).get(&key.name).await {
            Ok(barrier) => {
                let metadata = barrier.metadata();
                Ok(round::Answer::Barrier(Some((metadata.uid.clone(), metadata.version))))
            }
            Err(error) if error.is_absent(&key.name) => Ok(round::Answer::Barrier(None)),
            Err(error) => Err(error),
        },
        Step::Delete(targets) => {
            let (arrivals, count) = (&arrivals(client, key), targets.len());
            let deletions = stream::iter(targets).map(|Target { name, uid }| async move {
                match arrivals.delete(&name, &uid, None).await {
                    // That somebody else did is as good.
                    Err(error) if error.is_absent(&name) || error.is_conflict() => Ok(()),
                    result => result,
                }
            });
            let mut done = deletions.buffer_unordered(count);
            while let Some(result) = done.next().await {
                result?;
            }
            Ok(round::Answer::Deleted)
        }
        Step::Rest | Step::Over => unreachable!("no request"),
    }
}

/// Writes the owner into the arrival that was seen, if it is still that: one attempt.
async fn adopt(client: Client, adoption: Adoption) -> Result<(), RequestError> {
    let Adoption { barrier, barrier_uid, name, uid, version } = adoption;
    let owner = json!({
        "apiVersion": Barrier::api_version(&()), "kind": Barrier::kind(&()), "name": barrier.name, "uid": barrier_uid,
    });
    let metadata = json!({ "uid": *uid, "resourceVersion": version.to_string(), "ownerReferences": [owner] });
    arrivals(&client, &barrier).patch(&name, &json!({ "metadata": metadata })).await.map(drop)
}
