//! Lists what a namespace has of a kind when the first gate looks there: until then nothing of it was kept.
//!
//! One page is asked for at a time, and namespaces take turns, so that one with very much keeps nobody else waiting for
//! longer than a page takes. One whose page fails waits, and the others go on.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use k8s_openapi::api::batch::v1::Job;
use konductor_api::{
    Barrier, Lease, Semaphore,
    duration::doubling_pause,
    rendezvous::fact::{Dependency, Evidence},
};
use konductor_cluster::{
    Endpoint, Page, PageRequest, Program, RequestError,
    object::{NO_VERSION, Object},
    process,
};
use kube::{Client, Resource, core::object::HasStatus};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::sleep};
use tracing::warn;

use super::{
    Gates,
    sources::{
        Content, GateSeen, JOB_PAGE, JobObject, JobSpec, JobStatus, Listed, OwnObject, PAGE, Shown, Sighted, Subject,
        Wish, job, own, sighted,
    },
};
use crate::{engine::Common, waitable::Seen};

/// The first pause before a page that has failed is asked for again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// The least objects that a page is asked for, however often it fails.
const LEAST_PAGE: u32 = 8;

/// A list that is under way.
#[derive(Debug)]
struct Listing {
    wish: Wish,
    from: Option<String>,
    /// Whether all that its pages have shown so far could be read.
    is_whole: bool,
    failures: u32,
}

/// The number of the latest wish of each namespace and kind: what was wished before is not carried on, so that no more
/// is under way than there are namespaces, however often a list fails and is wished for again.
#[derive(Debug, Default)]
struct Latest(HashMap<(Dependency, String), u32>);

impl Latest {
    /// Whether no later one is known.
    fn is(&mut self, wish: &Wish) -> bool {
        let latest = self.0.entry((wish.kind, wish.place.clone())).or_insert(wish.number);
        *latest = wish.number.max(*latest);
        *latest == wish.number
    }

    /// It is fulfilled.
    fn ends(&mut self, wish: &Wish) {
        self.0.remove(&(wish.kind, wish.place.clone()));
    }
}

/// Where wishes are handed in. Each is fulfilled, or asked for again until it is.
#[derive(Debug)]
pub(super) struct Lister {
    listings: mpsc::UnboundedSender<Listing>,
}

impl Lister {
    /// What it lists comes to this inbox; it ends with it.
    pub(super) fn start(common: &Common, inbox: mpsc::Sender<Seen<Gates>>) -> Self {
        let (listings, asked) = mpsc::unbounded_channel();
        process::spawn(run(common.client.clone(), listings.clone(), asked, inbox));
        Self { listings }
    }

    /// One that lists nothing.
    #[cfg(test)]
    pub(super) fn idle() -> Self {
        let (listings, _) = mpsc::unbounded_channel();
        Self { listings }
    }

    /// Has this listed. Of a namespace and kind, what was wished before is not.
    pub(super) fn list(&self, wish: Wish) {
        // At the end of the process nobody listens.
        let _ = self.listings.send(Listing { wish, from: None, is_whole: true, failures: 0 });
    }
}

async fn run(
    client: Client,
    again: mpsc::UnboundedSender<Listing>,
    mut asked: mpsc::UnboundedReceiver<Listing>,
    inbox: mpsc::Sender<Seen<Gates>>,
) {
    let mut turns = VecDeque::new();
    let mut latest = Latest::default();
    loop {
        if turns.is_empty() {
            tokio::select! {
                listing = asked.recv() => turns.extend(listing),
                () = inbox.closed() => return,
            }
        }
        while let Ok(listing) = asked.try_recv() {
            turns.push_back(listing);
        }
        let Some(mut listing) = turns.pop_front() else { return };
        if !latest.is(&listing.wish) {
            continue;
        }
        match page(&client, &listing).await {
            Ok(Page { items, illegible, version, continue_token }) => {
                let is_first = listing.from.is_none();
                listing.is_whole = (is_first || listing.is_whole) && illegible.is_empty();
                let version = if listing.is_whole { version } else { NO_VERSION };
                let last = continue_token.is_none().then_some(Shown::All(version));
                for shown in items.into_iter().map(Shown::One).chain(last) {
                    let listed = Listed { wish: listing.wish.clone(), shown };
                    if inbox.send(Seen::Other(GateSeen::Listed(listed))).await.is_err() {
                        return;
                    }
                }
                if continue_token.is_some() {
                    listing.from = continue_token;
                    turns.push_back(listing);
                } else {
                    latest.ends(&listing.wish);
                }
            }
            Err(error) => {
                let Wish { kind, place, .. } = &listing.wish;
                warn!(%kind, namespace = place, "cannot list, trying again: {error}");
                let pause = error.pause(doubling_pause(PAUSES.0, listing.failures, PAUSES.1));
                listing.failures = listing.failures.saturating_add(1);
                listing.from = listing.from.filter(|_| !error.is_outdated());
                let again = again.clone();
                process::spawn(async move {
                    sleep(pause).await;
                    // The same.
                    let _ = again.send(listing);
                });
            }
        }
    }
}

async fn page(client: &Client, listing: &Listing) -> Result<Page<Sighted>, RequestError> {
    match listing.wish.kind {
        Dependency::Job => {
            let read = |one: &JobObject| Content::Object(job(one));
            read_page::<Job, JobSpec, JobStatus>(client, listing, JOB_PAGE, read).await
        }
        Dependency::Semaphore => own_page::<Semaphore>(client, listing).await,
        Dependency::Lease => own_page::<Lease>(client, listing).await,
        Dependency::Barrier => own_page::<Barrier>(client, listing).await,
        Dependency::Gate => unreachable!("the engine follows gates"),
    }
}

async fn own_page<K>(client: &Client, listing: &Listing) -> Result<Page<Sighted>, RequestError>
where
    K: Resource<DynamicType = ()> + HasStatus<Status: Evidence + DeserializeOwned + Send> + Send,
{
    read_page(client, listing, PAGE, |one: &OwnObject<K>| Content::Object(own(one))).await
}

async fn read_page<K, S, T>(
    client: &Client,
    listing: &Listing,
    most: u32,
    read: impl Fn(&Object<K, S, T>) -> Content + Send + Sync,
) -> Result<Page<Sighted>, RequestError>
where
    K: Resource<DynamicType = ()> + Send,
    S: DeserializeOwned + Send,
    T: DeserializeOwned + Default + Send,
{
    let Listing { wish, from, failures, .. } = listing;
    let endpoint = Endpoint::<K, S, T>::namespaced(client.clone(), Program::OPERATOR, &wish.place);
    let limit = (most >> failures.min(&16)).max(LEAST_PAGE);
    let request = PageRequest { fields: None, limit, continue_token: from.clone() };
    endpoint.page(&request, |object| sighted(Subject::Objects(wish.kind), &object, &read)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_namespace_and_kind_only_the_latest_wish_is_carried_on() {
        let wish = |place: &str, number| Wish { kind: Dependency::Job, place: place.into(), number };
        let mut latest = Latest::default();
        assert!(latest.is(&wish("a", 1)) && latest.is(&wish("a", 1)), "its next page, or the same one again");
        assert!(latest.is(&wish("a", 3)) && !latest.is(&wish("a", 1)));
        assert!(latest.is(&wish("b", 2)), "of another namespace");
        latest.ends(&wish("a", 3));
        latest.ends(&wish("b", 2));
        assert!(latest.0.is_empty());
    }
}
