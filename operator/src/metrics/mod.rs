//! What can be measured from outside.
//!
//! - [`parents`]: the figures of each parent, as long as it exists, and no more parents than there is a place for;
//! - `process`: what the kernel says of this process;
//! - [`exposition`]: the formats.
//!
//! All else is counted by what there are few of: kinds, resources, event loops. Counters and histograms that will be
//! there some day are there from the start, at 0: an increase from nothing is none to Prometheus. (Not so those of
//! writes: most of their many changes and outcomes never come.)

pub mod exposition;
pub mod parents;
mod process;
#[cfg(test)]
mod reference;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use self::{exposition::Exposition, parents::Parents, process::Process};
use crate::{
    clock::Clock,
    health::{Health, WatchId},
};

pub use crate::health::{CacheId, LoopId};

/// Upper bounds, in seconds, of the buckets of the grant latency: an uncontended grant is one write of a few
/// milliseconds; waiting is counted in minutes and hours.
const LATENCY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0];

/// Upper bounds, in seconds, of the buckets of what one turn of an event loop takes. More than 5 ms is too long: all
/// else waits for it meanwhile.
const TURN_BUCKETS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

/// Upper bounds, in seconds, of the buckets of how long claims wait and are held: from what no person notices to the
/// night that a long job takes, and a day.
const SPAN_BUCKETS: [f64; 14] =
    [0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0, 86_400.0];

/// Labels of what is counted per kind of parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// The kind, in small letters.
    pub kind: &'static str,
}

/// Labels of the counter of writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    /// The parent's kind, in small letters.
    pub kind: &'static str,
    /// What was changed: a name of `konductor_api::arbiter::Change` or `konductor_api::rendezvous::Change`.
    pub change: &'static str,
    /// What became of it: applied; not sent, as a closer look showed that it was not time yet (premature); overtaken
    /// by somebody else's write (conflict) or deletion (gone); refused, unanswered or unreadable, which are errors.
    pub outcome: &'static str,
}

/// Reasons of [`ExpiryLabels`].
pub const EXPIRY_REASONS: [&str; 5] = ["died", "silent", "unused", "unreadable", "waiting"];

/// Why a claim ended without its holder's doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExpiryLabels {
    /// The parent's kind, in small letters.
    pub kind: &'static str,
    /// `died`: its container had ended. `silent`: it was not renewed in time. `unused`: nobody was there any more when
    /// its turn came. `unreadable`: nobody could read it. `waiting`: it was not held, but revoked, or its client was gone.
    pub reason: &'static str,
}

/// Labels of what is counted per kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResourceLabels {
    /// The resource's plural name.
    pub resource: String,
}

/// Labels of what is measured per event loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LoopLabels {
    /// Its name.
    pub event_loop: &'static str,
}

/// Which program it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    architecture: &'static str,
}

/// All metrics, and what the health checks ask.
pub struct Metrics {
    registry: Registry,
    /// The figures of each parent.
    pub parents: Arc<Parents>,
    /// Grants that were acknowledged.
    pub grants: Family<KindLabels, Counter>,
    /// Claims that were ended by the operator.
    pub expiries: Family<ExpiryLabels, Counter>,
    /// Those of them that were held.
    pub losses: Family<KindLabels, Counter>,
    /// Holders that were asked to end.
    pub revocations: Family<KindLabels, Counter>,
    /// From the first sight of a claim to the acknowledgement of its grant.
    pub grant_latency: Family<KindLabels, Histogram, fn() -> Histogram>,
    /// From the creation of a claim to its grant, whoever led meanwhile.
    pub wait: Family<KindLabels, Histogram, fn() -> Histogram>,
    /// From the grant of a claim to its end.
    pub hold: Family<KindLabels, Histogram, fn() -> Histogram>,
    /// Writes, by what became of them.
    pub writes: Family<WriteLabels, Counter>,
    /// Writes, and lists of takeovers, that were refused, not answered, or answered unreadably; tried again.
    pub errors: Family<KindLabels, Counter>,
    /// Objects that cannot be read at the moment.
    pub unreadable: Family<ResourceLabels, Gauge>,
    /// Objects that cannot be read, beyond those that are remembered and told of.
    pub unreadable_untold: Family<ResourceLabels, Counter>,
    /// Namespaces that have more objects than are kept of one.
    pub crowded: Family<ResourceLabels, Gauge>,
    /// Objects that were seen and not kept, as their namespace has too many.
    pub left_out: Family<ResourceLabels, Counter>,
    /// Objects of which nothing could be read, not even a name.
    pub illegible: Family<ResourceLabels, Counter>,
    /// Kubernetes events that were left out because there were too many.
    pub events_dropped: Counter,
    /// 1 while this process leads.
    pub leader: Gauge,
    turn: Family<LoopLabels, Histogram, fn() -> Histogram>,
    turn_work: Family<LoopLabels, Histogram, fn() -> Histogram>,
    watch_failing: Family<ResourceLabels, Gauge>,
    watch_restarts: Family<ResourceLabels, Counter>,
    ready: Gauge,
    health: Mutex<Health>,
    clock: Clock,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// With nothing counted.
    pub fn new(clock: Clock) -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::default(),
            parents: Arc::default(),
            grants: Family::default(),
            expiries: Family::default(),
            losses: Family::default(),
            revocations: Family::default(),
            grant_latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            wait: Family::new_with_constructor(|| Histogram::new(SPAN_BUCKETS)),
            hold: Family::new_with_constructor(|| Histogram::new(SPAN_BUCKETS)),
            writes: Family::default(),
            errors: Family::default(),
            unreadable: Family::default(),
            unreadable_untold: Family::default(),
            crowded: Family::default(),
            left_out: Family::default(),
            illegible: Family::default(),
            events_dropped: Counter::default(),
            leader: Gauge::default(),
            turn: Family::new_with_constructor(|| Histogram::new(TURN_BUCKETS)),
            turn_work: Family::new_with_constructor(|| Histogram::new(TURN_BUCKETS)),
            watch_failing: Family::default(),
            watch_restarts: Family::default(),
            ready: Gauge::default(),
            health: Mutex::default(),
            clock,
        };
        let registry = metrics.registry.sub_registry_with_prefix("konductor");
        let build = BuildLabels { version: env!("CARGO_PKG_VERSION"), architecture: std::env::consts::ARCH };
        registry.register("build", "Which program it is", Info::new(build));
        registry.register_collector(Box::new(Arc::clone(&metrics.parents)));
        registry.register("grants", "Grants", metrics.grants.clone());
        registry.register("expiries", "Claims ended by the operator", metrics.expiries.clone());
        registry.register("losses", "Claims ended by the operator while held", metrics.losses.clone());
        registry.register("revocations", "Holders asked to end", metrics.revocations.clone());
        registry.register(
            "grant_latency_seconds",
            "From the first sight of a claim to its acknowledged grant",
            metrics.grant_latency.clone(),
        );
        registry.register(
            "wait_seconds",
            "From the creation of a claim to its grant, whoever led meanwhile",
            metrics.wait.clone(),
        );
        registry.register("hold_seconds", "From the grant of a claim to its end", metrics.hold.clone());
        registry.register("writes", "Writes to the API server by what became of them", metrics.writes.clone());
        registry.register(
            "reconcile_errors",
            "Writes, and lists of takeovers, that failed and are tried again",
            metrics.errors.clone(),
        );
        registry.register("unreadable", "Objects that cannot be read and are left alone", metrics.unreadable.clone());
        let (crowded, left_out) = (metrics.crowded.clone(), metrics.left_out.clone());
        registry.register("crowded_namespaces", "Namespaces that have more objects than are kept of one", crowded);
        registry.register(
            "left_out",
            "Times that an object was seen and not kept, as its namespace has too many",
            left_out,
        );
        let (untold, illegible) = (metrics.unreadable_untold.clone(), metrics.illegible.clone());
        registry.register("unreadable_untold", "Objects that cannot be read, beyond those that are told of", untold);
        registry.register("illegible", "Objects of which nothing could be read, not even a name", illegible);
        registry.register("events_dropped", "Kubernetes events left out as too many", metrics.events_dropped.clone());
        registry.register("leader", "1 while this process leads", metrics.leader.clone());
        registry.register("turn_seconds", "What one turn of an event loop takes", metrics.turn.clone());
        registry.register(
            "turn_processor_seconds",
            "The processor's time in one turn of an event loop: without what it waited for a processor",
            metrics.turn_work.clone(),
        );
        registry.register(
            "watch_failing",
            "1 while objects of a resource cannot be listed or watched",
            metrics.watch_failing.clone(),
        );
        registry.register(
            "watch_restarts",
            "Lists and watches that failed and were begun anew",
            metrics.watch_restarts.clone(),
        );
        registry.register("ready", "1 while this process is ready, as /readyz says", metrics.ready.clone());
        metrics.registry.sub_registry_with_prefix("process").register_collector(Box::new(Process));
        Arc::new(metrics)
    }

    /// All of it as text.
    pub fn text(&self, exposition: Exposition) -> Result<String, fmt::Error> {
        self.ready.set(self.unready().is_none().into());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(exposition.of(text))
    }

    /// There are parents of this kind.
    pub fn register_kind(&self, kind: &'static str) {
        drop(self.errors.get_or_create(&KindLabels { kind }));
    }

    /// There are locks of this kind.
    pub fn register_locks(&self, kind: &'static str) {
        self.register_kind(kind);
        let labels = KindLabels { kind };
        for counter in [&self.grants, &self.losses, &self.revocations] {
            drop(counter.get_or_create(&labels));
        }
        for histogram in [&self.grant_latency, &self.wait, &self.hold] {
            drop(histogram.get_or_create(&labels));
        }
        for reason in EXPIRY_REASONS {
            drop(self.expiries.get_or_create(&ExpiryLabels { kind, reason }));
        }
    }

    /// Of these objects no more than so many of each namespace are kept.
    pub fn register_kept(&self, resource: String) {
        let labels = ResourceLabels { resource };
        drop(self.crowded.get_or_create(&labels));
        drop(self.left_out.get_or_create(&labels));
    }

    /// There is an event loop of this name: it is stuck when it does not turn.
    pub fn register_loop(&self, name: &'static str) -> LoopId {
        self.health().register_loop(name, self.clock.monotonic())
    }

    /// The event loop turned: how long that took from its waking to its waiting again, and how much of it was work, as
    /// other processes also want a processor.
    pub fn turn(&self, event_loop: LoopId, took: Duration, worked: Duration) {
        let now = self.clock.monotonic();
        let mut health = self.health();
        health.turned(event_loop, now);
        let event_loop = health.loop_name(event_loop);
        drop(health);
        let labels = LoopLabels { event_loop };
        self.turn.get_or_create(&labels).observe(took.as_secs_f64());
        self.turn_work.get_or_create(&labels).observe(worked.as_secs_f64());
    }

    /// There is a cache of this name: the process is not ready before it is filled.
    pub fn register_cache(&self, name: impl Into<String>) -> CacheId {
        self.health().register_cache(name.into())
    }

    /// The cache is filled.
    pub fn filled(&self, cache: CacheId) {
        self.health().filled(cache);
    }

    /// Objects of this resource, which decisions rest on, are listed and watched as long as what is returned lives.
    pub fn register_watch(self: &Arc<Self>, resource: impl Into<String>) -> WatchReporter {
        let resource = resource.into();
        let id = self.health().register_watch(resource.clone());
        self.show_watches(&resource);
        let labels = ResourceLabels { resource };
        for counter in [&self.watch_restarts, &self.unreadable_untold, &self.illegible] {
            drop(counter.get_or_create(&labels));
        }
        drop(self.unreadable.get_or_create(&labels));
        WatchReporter { metrics: Arc::clone(self), id }
    }

    /// Why the process should be started anew, if it should.
    pub fn fatal(&self) -> Option<String> {
        self.health().fatal(self.clock.monotonic())
    }

    /// Why the process is not ready, if it is not.
    pub fn unready(&self) -> Option<String> {
        self.health().unready(self.clock.monotonic())
    }

    fn show_watches(&self, resource: &str) {
        let labels = ResourceLabels { resource: resource.to_owned() };
        match self.health().is_failing(resource) {
            Some(fails) => {
                self.watch_failing.get_or_create(&labels).set(fails.into());
            }
            None => {
                self.watch_failing.remove(&labels);
            }
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports how the lists and watches of one resource go.
#[derive(Debug)]
pub struct WatchReporter {
    metrics: Arc<Metrics>,
    id: WatchId,
}

impl WatchReporter {
    /// A list or watch of this resource has failed, and is begun anew.
    pub fn restarts(&self, resource: &str) {
        self.metrics.watch_restarts.get_or_create(&ResourceLabels { resource: resource.to_owned() }).inc();
    }

    /// The last list or watch succeeded, or failed for this reason.
    pub fn report(&self, result: Result<(), String>) {
        let now = self.metrics.clock.monotonic();
        let resource = self.metrics.health().watched(self.id, result, now).map(str::to_owned);
        if let Some(resource) = resource {
            self.metrics.show_watches(&resource);
        }
    }
}

impl Drop for WatchReporter {
    fn drop(&mut self) {
        let resource = self.metrics.health().forget_watch(self.id);
        if let Some(resource) = resource {
            self.metrics.show_watches(&resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{parents::Figures, *};
    use crate::key::ParentKey;

    #[test]
    fn the_text_has_the_names_that_are_documented() {
        let metrics = Metrics::new(Clock::start());
        let key = ParentKey::new("etl", "warehouse").into();
        metrics.parents.show(
            "semaphore",
            &key,
            Figures::Lock { permits: Some(5), in_use: Some(2), waiting: 3, oldest: None },
        );
        metrics.grants.get_or_create(&KindLabels { kind: "lease" }).inc();
        metrics.expiries.get_or_create(&ExpiryLabels { kind: "lease", reason: "silent" }).inc();
        metrics.grant_latency.get_or_create(&KindLabels { kind: "lease" }).observe(0.02);
        metrics.turn(metrics.register_loop("locks"), Duration::from_millis(4), Duration::from_millis(2));
        let permits = metrics.register_watch("permits");
        permits.report(Err("forbidden".into()));
        permits.restarts("permits");
        let text = metrics.text(Exposition::OpenMetrics).expect("it can be written");
        for line in [
            r#"konductor_waiting{namespace="etl",kind="semaphore",name="warehouse"} 3"#,
            r#"konductor_grants_total{kind="lease"} 1"#,
            r#"konductor_expiries_total{kind="lease",reason="silent"} 1"#,
            r#"konductor_grant_latency_seconds_bucket{le="0.025",kind="lease"} 1"#,
            r#"konductor_permits{namespace="etl",kind="semaphore",name="warehouse"} 5"#,
            r#"konductor_oldest_waiter_seconds{namespace="etl",kind="semaphore",name="warehouse"} 0"#,
            "konductor_parents_left_out 0",
            "konductor_leader 0",
            r#"konductor_turn_seconds_bucket{le="0.0025",event_loop="locks"} 0"#,
            r#"konductor_turn_seconds_bucket{le="0.005",event_loop="locks"} 1"#,
            r#"konductor_turn_processor_seconds_bucket{le="0.0025",event_loop="locks"} 1"#,
            r#"konductor_watch_failing{resource="permits"} 1"#,
            r#"konductor_watch_restarts_total{resource="permits"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn a_watch_that_is_given_up_is_shown_no_longer() {
        let metrics = Metrics::new(Clock::start());
        let [first, second] = [(); 2].map(|()| metrics.register_watch("jobs"));
        let shown = |line: &str| {
            metrics.text(Exposition::OpenMetrics).expect("it can be written").lines().any(|found| found == line)
        };
        assert!(shown(r#"konductor_watch_failing{resource="jobs"} 0"#));
        first.report(Err("forbidden".into()));
        assert!(shown(r#"konductor_watch_failing{resource="jobs"} 1"#));
        drop(first);
        assert!(shown(r#"konductor_watch_failing{resource="jobs"} 0"#));
        drop(second);
        assert!(!shown(r#"konductor_watch_failing{resource="jobs"} 0"#));
    }
}
