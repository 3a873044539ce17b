//! What can be measured from outside, in the OpenMetrics format.
//!
//! Series per parent exist only while the parent does, so their number is bounded by what people created.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use konductor_api::{LockKind, RendezvousKind};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Upper bounds, in seconds, of the buckets of the grant latency: an uncontended grant is one write of a few
/// milliseconds; waiting is counted in minutes and hours.
const LATENCY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0];

/// The event loop is stuck when it has not turned for this long; it turns every second even with nothing to do.
const STUCK: Duration = Duration::from_secs(10);

/// Event loops: one a kind of parent.
const LOOPS: usize = LockKind::ALL.len() + RendezvousKind::ALL.len();

/// Labels of a series per parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ParentLabels {
    /// Its namespace.
    pub namespace: String,
    /// Its kind, in small letters.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

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
    /// What became of it: applied; not sent, as a closer look showed that it was not time yet (premature); overtaken by somebody
    /// else's write (conflict) or deletion (gone); refused, unanswered or unreadable, which are errors.
    pub outcome: &'static str,
}

/// Why a claim ended without its holder's doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExpiryLabels {
    /// The parent's kind, in small letters.
    pub kind: &'static str,
    /// `died`: its container had ended. `silent`: it was not renewed in time.
    pub reason: &'static str,
}

/// Labels of what is counted per kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResourceLabels {
    /// The resource's plural name.
    pub resource: String,
}

/// All metrics, and what the health checks ask.
pub struct Metrics {
    registry: Registry,
    /// Claims that wait.
    pub waiting: Family<ParentLabels, Gauge>,
    /// Permits in use.
    pub in_use: Family<ParentLabels, Gauge>,
    /// 1 for a barrier or gate that is open, 0 for one that is not.
    pub open: Family<ParentLabels, Gauge>,
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
    /// Writes, by what became of them.
    pub writes: Family<WriteLabels, Counter>,
    /// Writes that were refused, not answered, or answered unreadably; decided again.
    pub errors: Family<KindLabels, Counter>,
    /// Objects that cannot be read at the moment.
    pub unreadable: Family<ResourceLabels, Gauge>,
    /// Kubernetes events that were left out because there were too many.
    pub events_dropped: Counter,
    /// 1 while this process leads.
    pub leader: Gauge,
    /// When the event loop of each kind last turned, in milliseconds since the process's start.
    beats: [AtomicU64; LOOPS],
    /// Bits of the caches that are not filled yet.
    unfilled: AtomicU64,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// With nothing counted, and as many caches to fill before the process is ready.
    pub fn new(caches: u32) -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("konductor"),
            waiting: Family::default(),
            in_use: Family::default(),
            open: Family::default(),
            grants: Family::default(),
            expiries: Family::default(),
            losses: Family::default(),
            revocations: Family::default(),
            grant_latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            writes: Family::default(),
            errors: Family::default(),
            unreadable: Family::default(),
            events_dropped: Counter::default(),
            leader: Gauge::default(),
            beats: Default::default(),
            unfilled: AtomicU64::new((1 << caches) - 1),
        };
        let registry = &mut metrics.registry;
        registry.register("waiting", "Claims that wait", metrics.waiting.clone());
        registry.register("in_use", "Permits in use", metrics.in_use.clone());
        registry.register("open", "1 while a barrier or gate is open", metrics.open.clone());
        registry.register("grants", "Grants", metrics.grants.clone());
        registry.register("expiries", "Claims ended by the operator", metrics.expiries.clone());
        registry.register("losses", "Claims ended by the operator while held", metrics.losses.clone());
        registry.register("revocations", "Holders asked to end", metrics.revocations.clone());
        registry.register(
            "grant_latency_seconds",
            "From the first sight of a claim to its acknowledged grant",
            metrics.grant_latency.clone(),
        );
        registry.register("writes", "Writes to the API server by what became of them", metrics.writes.clone());
        registry.register("reconcile_errors", "Writes that failed and are decided again", metrics.errors.clone());
        registry.register("unreadable", "Objects that cannot be read and are left alone", metrics.unreadable.clone());
        registry.register("events_dropped", "Kubernetes events left out as too many", metrics.events_dropped.clone());
        registry.register("leader", "1 while this process leads", metrics.leader.clone());
        Arc::new(metrics)
    }

    /// All of it as text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The event loop with this number turned.
    pub fn beat(&self, number: usize, now: Duration) {
        self.beats[number].store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether all event loops turn.
    pub fn is_alive(&self, now: Duration) -> bool {
        let beats = self.beats.iter().map(|beat| Duration::from_millis(beat.load(Ordering::Relaxed)));
        beats.into_iter().all(|beat| now.saturating_sub(beat) < STUCK)
    }

    /// The cache with this number is filled.
    pub fn filled(&self, cache: u32) {
        self.unfilled.fetch_and(!(1 << cache), Ordering::Relaxed);
    }

    /// Whether all caches are filled.
    pub fn is_ready(&self) -> bool {
        self.unfilled.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_names_that_are_documented() {
        let metrics = Metrics::new(0);
        let parent = ParentLabels { namespace: "etl".into(), kind: "semaphore", name: "warehouse".into() };
        metrics.waiting.get_or_create(&parent).set(3);
        metrics.grants.get_or_create(&KindLabels { kind: "lease" }).inc();
        metrics.expiries.get_or_create(&ExpiryLabels { kind: "lease", reason: "silent" }).inc();
        metrics.grant_latency.get_or_create(&KindLabels { kind: "lease" }).observe(0.02);
        let text = metrics.text().expect("it can be written");
        for line in [
            r#"konductor_waiting{namespace="etl",kind="semaphore",name="warehouse"} 3"#,
            r#"konductor_grants_total{kind="lease"} 1"#,
            r#"konductor_expiries_total{kind="lease",reason="silent"} 1"#,
            r#"konductor_grant_latency_seconds_bucket{le="0.025",kind="lease"} 1"#,
            "konductor_leader 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn ready_when_every_cache_is_filled() {
        let metrics = Metrics::new(2);
        metrics.filled(1);
        assert!(!metrics.is_ready());
        metrics.filled(0);
        assert!(metrics.is_ready());
    }

    #[test]
    fn alive_while_all_loops_turn() {
        let metrics = Metrics::new(0);
        for number in 0..LOOPS {
            metrics.beat(number, Duration::from_secs(if number == 1 { 100 } else { 105 }));
        }
        assert!(metrics.is_alive(Duration::from_secs(109)));
        assert!(!metrics.is_alive(Duration::from_secs(110)));
    }
}
