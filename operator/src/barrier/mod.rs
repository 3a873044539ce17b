//! Who has arrived at which barrier, and what barriers need beside decisions.
//!
//! Of an arrival its key is kept, and what tells one from another. What is counted here says when to look; that it is right
//! is shown by a consistent read before a phase is written ([`round`]).
//!
//! The chore of barriers is to adopt arrivals that came without an owner, so that they are collected with their barrier.

mod round;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use konductor_api::{
    Arrival, Barrier,
    arbiter::Version,
    rendezvous::{
        Plan, Write,
        barrier::{View, decide},
    },
};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;

use self::round::Adoption;
use crate::{
    arbiter::{Common, Key, ParentKey},
    health::CacheId,
    metrics::Metrics,
    rendezvous::{Agenda, Failure, Kind, Sight, StatusOf},
};
use konductor_cluster::{
    Lenient,
    watch::{Seen, Source},
};

/// Arrivals in one page of a list: about a third of a megabyte of text.
const PAGE: u32 = 500;

/// An arrival, as far as it counts.
#[derive(Debug)]
pub(crate) struct Arrived {
    uid: Box<str>,
    version: Version,
    key: Key,
    name: Box<str>,
    /// What arrived.
    token: Arc<str>,
    owner: Owner,
    created: i64,
    epoch: u32,
}

/// Whose an arrival is.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    /// The barrier with this UID.
    Barrier(Box<str>),
    /// Something else, that somebody has put there.
    Other,
}

impl Arrived {
    /// Reads an arrival. One that cannot be read has not arrived.
    fn of(arrival: Lenient<Arrival>) -> Option<Self> {
        let Arrival { metadata, spec } = arrival.0.ok()?;
        let ObjectMeta { namespace, name, uid, resource_version, creation_timestamp, owner_references, .. } = metadata;
        let owners = owner_references.unwrap_or_default();
        let of_ours = |owner: &&OwnerReference| {
            owner.kind == Barrier::kind(&()) && owner.api_version == Barrier::api_version(&())
        };
        let owner = match owners.iter().find(of_ours) {
            Some(owner) => Owner::Barrier(owner.uid.as_str().into()),
            None if owners.is_empty() => Owner::Nobody,
            None => Owner::Other,
        };
        let key = ParentKey { namespace: namespace.unwrap_or_default(), name: spec.barrier };
        Some(Self {
            uid: uid.unwrap_or_default().into(),
            version: resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
            key: key.into(),
            name: name.unwrap_or_default().into(),
            token: spec.key.into(),
            owner,
            created: creation_timestamp.map_or(0, |at| at.0.as_second()),
            epoch: 0,
        })
    }

    /// Whether it counts for the barrier with this UID: not if it arrived at another one of the same name.
    fn counts_for(&self, barrier: &str) -> bool {
        match &self.owner {
            Owner::Barrier(uid) => **uid == *barrier,
            Owner::Nobody | Owner::Other => true,
        }
    }
}

/// Those who have arrived at a barrier.
#[derive(Debug, Default, PartialEq, Eq)]
struct Crowd {
    /// Arrivals of each key.
    keys: HashMap<Arc<str>, u32>,
    /// Arrivals of each second.
    times: BTreeMap<i64, u32>,
}

impl Crowd {
    fn add(&mut self, arrived: &Arrived) {
        *self.keys.entry(arrived.token.clone()).or_default() += 1;
        *self.times.entry(arrived.created).or_default() += 1;
    }

    fn remove(&mut self, arrived: &Arrived) {
        if let Some(count) = self.keys.get_mut(&arrived.token) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&arrived.token);
            }
        }
        if let Some(count) = self.times.get_mut(&arrived.created) {
            *count -= 1;
            if *count == 0 {
                self.times.remove(&arrived.created);
            }
        }
    }

    /// The barrier with this crowd before it.
    fn view<'a>(&self, barrier: &'a Barrier) -> View<'a> {
        let second = |second: i64| Timestamp::from_second(second).ok();
        View {
            spec: &barrier.spec,
            generation: barrier.metadata.generation,
            created: barrier.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0),
            status: barrier.status.as_ref(),
            arrived: self.keys.len() as u64,
            first: self.times.keys().next().and_then(|at| second(*at)),
        }
    }
}

/// A barrier that exists.
#[derive(Debug, Default)]
struct Place {
    uid: Box<str>,
    crowd: Crowd,
}

/// All barriers.
pub(crate) struct Barriers {
    places: HashMap<Key, Place>,
    arrivals: HashMap<Box<str>, Arrived>,
    /// UIDs of arrivals that nobody owned when they were last looked at.
    orphans: VecDeque<Box<str>>,
    epoch: u32,
    listed: bool,
    cache: CacheId,
    metrics: Arc<Metrics>,
}

impl Kind for Barriers {
    type Parent = Barrier;
    type Sight = Seen<Option<Arrived>>;
    type Chore = Adoption;

    fn start(common: &Common, inbox: mpsc::Sender<Sight<Self>>) -> Self {
        let arrivals: Source<Arrival> = Source { api: Api::all(common.client.clone()), fields: None, page: PAGE };
        tokio::spawn(arrivals.follow(inbox, |seen| Some(Sight::Other(seen.map(Arrived::of)))));
        Self {
            places: HashMap::new(),
            arrivals: HashMap::new(),
            orphans: VecDeque::new(),
            epoch: 0,
            listed: false,
            cache: common.metrics.register_cache(Arrival::plural(&())),
            metrics: common.metrics.clone(),
        }
    }

    fn parent(&mut self, key: &Key, barrier: Option<&Barrier>, _agenda: &mut Agenda) {
        let Some(uid) = barrier.and_then(|barrier| barrier.metadata.uid.as_deref()) else {
            self.places.remove(key);
            return;
        };
        if self.places.get(key).is_some_and(|place| *place.uid == *uid) {
            return;
        }
        let mut place = Place { uid: uid.into(), crowd: Crowd::default() };
        for arrived in self.arrivals.values().filter(|arrived| arrived.key == *key) {
            if arrived.owner == Owner::Nobody {
                self.orphans.push_back(arrived.uid.clone());
            }
            if arrived.counts_for(uid) {
                place.crowd.add(arrived);
            }
        }
        self.places.insert(key.clone(), place);
    }

    fn take(&mut self, sight: Self::Sight, agenda: &mut Agenda) {
        match sight {
            Seen::Listing => self.epoch += 1,
            Seen::Listed => {
                let epoch = self.epoch;
                let old: Vec<_> = self.arrivals.values().filter(|arrived| arrived.epoch != epoch).collect();
                let old: Vec<_> = old.iter().map(|arrived| arrived.uid.clone()).collect();
                for uid in old {
                    self.leave(&uid, agenda);
                }
                self.arrivals.shrink_to_fit();
                self.listed = true;
                self.metrics.filled(self.cache);
                agenda.mark_all();
            }
            Seen::Present(Some(arrived)) => self.arrive(Arrived { epoch: self.epoch, ..arrived }, agenda),
            Seen::Present(None) => {}
            Seen::Gone(gone) => self.leave(&gone.uid, agenda),
        }
    }

    fn decide(&self, key: &Key, barrier: &Barrier, now: Timestamp) -> Option<Plan<StatusOf<Self>>> {
        let place = self.places.get(key).filter(|_| self.listed)?;
        Some(decide(&place.crowd.view(barrier), now))
    }

    async fn write(
        client: Client,
        barrier: Arc<Barrier>,
        write: Write<StatusOf<Self>>,
    ) -> Result<Option<Lenient<Barrier>>, Failure> {
        round::write(client, &barrier, &write).await
    }

    fn next_chore(&mut self) -> Option<Adoption> {
        while let Some(uid) = self.orphans.pop_front() {
            let Some(arrived) = self.arrivals.get(&uid).filter(|arrived| arrived.owner == Owner::Nobody) else {
                continue;
            };
            // Without a barrier it is found again when one appears.
            let Some(place) = self.places.get(&arrived.key) else { continue };
            return Some(Adoption {
                barrier: arrived.key.clone(),
                barrier_uid: place.uid.to_string(),
                name: arrived.name.to_string(),
                uid: uid.to_string(),
                version: arrived.version,
            });
        }
        self.orphans.shrink_to_fit();
        None
    }

    async fn work(client: Client, adoption: Adoption) {
        adoption.carry_out(client).await;
    }
}

impl Barriers {
    fn arrive(&mut self, mut arrived: Arrived, agenda: &mut Agenda) {
        if let Some(place) = self.places.get_key_value(&arrived.key) {
            // One copy of the name for all.
            arrived.key = place.0.clone();
        }
        self.leave(&arrived.uid.clone(), agenda);
        if let Some(place) = self.places.get_mut(&arrived.key).filter(|place| arrived.counts_for(&place.uid)) {
            place.crowd.add(&arrived);
            agenda.mark(&arrived.key);
        }
        if arrived.owner == Owner::Nobody {
            self.orphans.push_back(arrived.uid.clone());
        }
        self.arrivals.insert(arrived.uid.clone(), arrived);
    }

    fn leave(&mut self, uid: &str, agenda: &mut Agenda) {
        let Some(arrived) = self.arrivals.remove(uid) else { return };
        if let Some(place) = self.places.get_mut(&arrived.key).filter(|place| arrived.counts_for(&place.uid)) {
            place.crowd.remove(&arrived);
            agenda.mark(&arrived.key);
        }
    }
}
