//! What barriers need beside decisions.
//!
//! - [`arrivals`]: who has arrived at which barrier, kept by watches;
//! - [`round`]: the requests that precede a phase and the next round;
//! - [`orphans`]: arrivals that came without an owner, to be adopted so that they are collected with their barrier;
//! - [`requests`]: carries these out.

mod arrivals;
mod orphans;
mod requests;
mod round;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use konductor_api::{
    Arrival, Barrier,
    arbiter::Now,
    rendezvous::{Change, Plan, Write, barrier::decide},
};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tracing::warn;

use self::{
    arrivals::{Adoption, Arrivals, Arrived, Sightings, view},
    round::{End, Round, Step},
};
use crate::{
    arbiter::{Common, Key},
    clock::Clock,
    metrics::Metrics,
    rendezvous::{ARRIVALS, Agenda, Failure, Kind, Sight, StatusOf, patch},
};
use konductor_cluster::{
    Lenient,
    watch::{Seen, Source},
};

/// Arrivals in one page of a list: about a third of a megabyte of text.
const PAGE: u32 = 500;

/// Looks at arrivals in one turn of the loop: each is some hundred nanoseconds, so that a turn stays well below 5 ms.
const LOOKS: usize = 4096;

/// All barriers.
pub(crate) struct Barriers {
    arrivals: Arrivals,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Kind for Barriers {
    type Parent = Barrier;
    type Sight = Seen<Option<Arrived>>;
    type Chore = Adoption;
    type Done = (Arc<str>, bool);

    fn start(common: &Common, inbox: mpsc::Sender<Sight<Self>>) -> Self {
        let source: Source<Arrival> = Source { api: Api::all(common.client.clone()), fields: None, page: PAGE };
        tokio::spawn(source.follow(inbox, |seen| Some(Sight::Other(seen.map(Arrived::of)))));
        Self { arrivals: Arrivals::default(), clock: common.clock, metrics: common.metrics.clone() }
    }

    fn lead(&mut self, leading: bool) {
        self.arrivals.lead(leading);
    }

    fn parent(&mut self, key: &Key, barrier: Option<&Barrier>, now: Now, _agenda: &mut Agenda) {
        self.arrivals.barrier(key, barrier, now);
    }

    fn parents_listed(&mut self, _agenda: &mut Agenda) {
        self.arrivals.barriers_listed();
    }

    fn take(&mut self, sight: Self::Sight, now: Now, _agenda: &mut Agenda) {
        self.arrivals.take(sight, now);
        if self.arrivals.is_listed() {
            self.metrics.filled(ARRIVALS);
        }
    }

    fn prepare(&mut self, _now: Now, agenda: &mut Agenda) -> bool {
        let turn = self.arrivals.work(LOOKS);
        for barrier in self.arrivals.take_marked() {
            agenda.mark(&barrier);
        }
        turn.more
    }

    fn decide(&self, key: &Key, barrier: &Barrier, now: Now) -> Option<Plan<StatusOf<Self>>> {
        self.arrivals.decide(key, barrier, now)
    }

    fn write(
        &self,
        client: Client,
        key: &Key,
        barrier: Arc<Barrier>,
        write: Write<StatusOf<Self>>,
    ) -> impl Future<Output = Result<Option<Lenient<Barrier>>, Failure>> + Send + 'static {
        let (seen, clock) = (self.arrivals.seen(key), self.clock);
        carry_out(client, barrier, write, seen, clock)
    }

    fn next_chore(&mut self, now: Now) -> Option<Adoption> {
        self.arrivals.next_adoption(now)
    }

    async fn work(client: Client, adoption: Adoption) -> Self::Done {
        let uid = adoption.uid.clone();
        (uid, requests::adopt(client, adoption).await)
    }

    fn done(&mut self, (uid, done): Self::Done, now: Now) {
        self.arrivals.adopted(&uid, done, now);
    }
}

/// Carries out a write, up to the first pause of what precedes it: then it is decided anew.
async fn carry_out(
    client: Client,
    barrier: Arc<Barrier>,
    write: Write<StatusOf<Barriers>>,
    seen: Sightings,
    clock: Clock,
) -> Result<Option<Lenient<Barrier>>, Failure> {
    let barrier = &*barrier;
    let metadata = &barrier.metadata;
    let (uid, version) =
        (metadata.uid.clone().unwrap_or_default(), metadata.resource_version.clone().unwrap_or_default());
    let mut round = match write.change {
        Change::Accept | Change::Tell => return patch(client, barrier, &write.status).await,
        Change::Decide => Round::count(uid, version),
        Change::NextRound => Round::clear(uid, version),
    };
    loop {
        let step = round.next();
        match step {
            Step::Page { .. } | Step::Look | Step::Delete(_) => {
                let (answer, failure) = requests::carry_out(&client, barrier, step).await;
                round.answered(answer);
                if let Some(failure) = failure {
                    return Err(failure);
                }
            }
            Step::Rest(_) => {
                if let Some(stuck) = round.stuck() {
                    warn!(namespace = metadata.namespace, name = metadata.name, "{stuck}");
                }
                return Ok(None);
            }
            Step::Over => break,
        }
    }
    match round.end() {
        Some(End::Counted(crowd)) => match decide(&view(&crowd, barrier, &seen), clock.now()).write {
            // It may only be a figure, after all: then that is right, too.
            Some(found) if found.change != Change::NextRound => patch(client, barrier, &found.status).await,
            _ => Ok(None),
        },
        Some(End::Cleared) => patch(client, barrier, &write.status).await,
        Some(End::Overtaken) | None => Ok(None),
    }
}
