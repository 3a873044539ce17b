//! Whether the process is well: what `/healthz` and `/readyz` answer.
//!
//! It is alive while its event loops turn; a kubelet starts it anew when they do not. It is ready once its caches are
//! filled, and as long as everything that it decides by can be listed and watched. What is not ready decides all the
//! same, by what it saw last, and is told from the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use konductor_api::GoDuration;

/// The event loop is stuck when it has not turned for this long; it turns every second even with nothing to do.
pub const STUCK: Duration = Duration::from_secs(10);

/// How long lists and watches may fail before the process is not ready: longer than an API server takes to start again
/// beside others, shorter than what a person takes to wonder.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The most that is told of why a list or watch fails, in bytes: others wrote it, and an event of a failed probe holds
/// 1 kB.
const REASON: usize = 500;

/// An event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopId(usize);

/// A cache that is filled once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheId(usize);

/// Something that is listed and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(u64);

/// What is known of the parts of the process. Times are on its monotonic clock.
#[derive(Debug, Default)]
pub struct Health {
    loops: Vec<EventLoop>,
    caches: Vec<Cache>,
    watches: BTreeMap<WatchId, Watch>,
    next_watch: u64,
}

#[derive(Debug)]
struct EventLoop {
    name: &'static str,
    turned: Duration,
}

#[derive(Debug)]
struct Cache {
    name: String,
    filled: bool,
}

#[derive(Debug)]
struct Watch {
    resource: String,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Duration,
    reason: String,
}

impl Health {
    /// There is an event loop of this name, which turns from now on.
    pub fn register_loop(&mut self, name: &'static str, now: Duration) -> LoopId {
        self.loops.push(EventLoop { name, turned: now });
        LoopId(self.loops.len() - 1)
    }

    /// There is a cache of this name, not filled yet.
    pub fn register_cache(&mut self, name: String) -> CacheId {
        self.caches.push(Cache { name, filled: false });
        CacheId(self.caches.len() - 1)
    }

    /// Objects of this resource are listed and watched from now on.
    pub fn register_watch(&mut self, resource: String) -> WatchId {
        self.next_watch += 1;
        let id = WatchId(self.next_watch);
        self.watches.insert(id, Watch { resource, failing: None });
        id
    }

    /// They are not any more. Returns the resource's name.
    pub fn forget_watch(&mut self, id: WatchId) -> Option<String> {
        self.watches.remove(&id).map(|watch| watch.resource)
    }

    /// The event loop turned.
    pub fn turned(&mut self, LoopId(index): LoopId, now: Duration) {
        self.loops[index].turned = now;
    }

    /// The event loop's name.
    pub fn loop_name(&self, LoopId(index): LoopId) -> &'static str {
        self.loops[index].name
    }

    /// The cache is filled.
    pub fn filled(&mut self, CacheId(index): CacheId) {
        self.caches[index].filled = true;
    }

    /// A list or watch succeeded, or failed for this reason. Returns the resource's name if it is followed.
    pub fn watched(&mut self, id: WatchId, result: Result<(), String>, now: Duration) -> Option<&str> {
        let watch = self.watches.get_mut(&id)?;
        let since = watch.failing.as_ref().map_or(now, |failing| failing.since);
        watch.failing = result.err().map(|reason| Failing { since, reason: cut(reason) });
        Some(&watch.resource)
    }

    /// Whether a list or watch of this resource fails; `None` when there is none.
    pub fn is_failing(&self, resource: &str) -> Option<bool> {
        let of_resource = self.watches.values().filter(|watch| watch.resource == resource);
        of_resource.map(|watch| watch.failing.is_some()).reduce(|one, other| one || other)
    }

    /// Why the process should be started anew, if it should.
    pub fn fatal(&self, now: Duration) -> Option<String> {
        let stuck = self.loops.iter().find(|event_loop| now.saturating_sub(event_loop.turned) >= STUCK)?;
        let since = whole_seconds(now.saturating_sub(stuck.turned));
        Some(format!("the event loop of {} has not turned for {since}\n", stuck.name))
    }

    /// Why the process is not ready, if it is not.
    pub fn unready(&self, now: Duration) -> Option<String> {
        let unfilled: BTreeSet<_> =
            self.caches.iter().filter(|cache| !cache.filled).map(|cache| cache.name.as_str()).collect();
        let mut text = String::new();
        for name in &unfilled {
            // A string takes everything.
            let _ = writeln!(text, "the cache of {name} is not filled yet");
        }
        // One of each resource is enough: there may be many namespaces.
        let mut worst: BTreeMap<&str, &Failing> = BTreeMap::new();
        for watch in self.watches.values() {
            let Some(failing) = &watch.failing else { continue };
            // While nothing is known yet, every reason is worth telling.
            if unfilled.is_empty() && now.saturating_sub(failing.since) < PATIENCE {
                continue;
            }
            let known = worst.entry(&watch.resource).or_insert(failing);
            if failing.since < known.since {
                *known = failing;
            }
        }
        for (resource, Failing { since, reason }) in worst {
            let since = whole_seconds(now.saturating_sub(*since));
            let _ = writeln!(text, "{resource} could not be listed or watched for {since}: {reason}");
        }
        (!text.is_empty()).then_some(text)
    }
}

fn cut(mut reason: String) -> String {
    if reason.len() > REASON {
        reason.truncate(reason.floor_char_boundary(REASON));
        reason.push_str("...");
    }
    reason
}

fn whole_seconds(duration: Duration) -> GoDuration {
    GoDuration(Duration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed() -> Result<(), String> {
        Err("permits is forbidden (403)".into())
    }

    #[test]
    fn alive_while_all_loops_turn() {
        let mut health = Health::default();
        let [locks, gates] = ["locks", "gates"].map(|name| health.register_loop(name, SECOND));
        assert_eq!(health.fatal(10 * SECOND), None);
        health.turned(locks, 10 * SECOND);
        assert_eq!(health.fatal(11 * SECOND).as_deref(), Some("the event loop of gates has not turned for 10s\n"));
        health.turned(gates, 11 * SECOND);
        assert_eq!(health.fatal(19 * SECOND), None);
    }

    #[test]
    fn ready_when_every_cache_is_filled() {
        let mut health = Health::default();
        let [first, second] = ["permits", "gates"].map(|name| health.register_cache(name.into()));
        health.filled(second);
        assert_eq!(health.unready(SECOND).as_deref(), Some("the cache of permits is not filled yet\n"));
        health.filled(first);
        assert_eq!(health.unready(SECOND), None);
    }

    #[test]
    fn not_ready_while_something_has_failed_to_be_watched_for_long() {
        let mut health = Health::default();
        let permits = health.register_watch("permits".into());
        health.watched(permits, failed(), SECOND);
        assert_eq!((health.is_failing("permits"), health.unready(30 * SECOND)), (Some(true), None));
        // Failing again is failing still.
        health.watched(permits, failed(), 20 * SECOND);
        let reason = "permits could not be listed or watched for 30s: permits is forbidden (403)\n";
        assert_eq!(health.unready(31 * SECOND).as_deref(), Some(reason));
        health.watched(permits, Ok(()), 40 * SECOND);
        assert_eq!((health.is_failing("permits"), health.unready(80 * SECOND)), (Some(false), None));
        // It begins anew.
        health.watched(permits, failed(), 90 * SECOND);
        assert_eq!(health.unready(100 * SECOND), None);
    }

    #[test]
    fn one_of_several_watches_of_a_resource_is_enough_for_it_to_fail_and_is_told_once() {
        let mut health = Health::default();
        let [first, second, third] = [(); 3].map(|()| health.register_watch("jobs".into()));
        health.watched(first, Ok(()), SECOND);
        health.watched(second, Err("late".into()), 2 * SECOND);
        health.watched(third, Err("early".into()), SECOND);
        assert_eq!(health.is_failing("jobs"), Some(true));
        let text = health.unready(60 * SECOND);
        assert_eq!(text.as_deref(), Some("jobs could not be listed or watched for 59s: early\n"));
        health.forget_watch(second);
        health.forget_watch(third);
        assert_eq!((health.is_failing("jobs"), health.unready(60 * SECOND)), (Some(false), None));
        health.forget_watch(first);
        assert_eq!(health.is_failing("jobs"), None);
        assert_eq!(health.watched(first, failed(), SECOND), None);
    }

    #[test]
    fn while_a_cache_is_empty_it_is_told_at_once_why() {
        let mut health = Health::default();
        let permits = health.register_watch("permits".into());
        health.register_cache("permits".into());
        health.watched(permits, failed(), SECOND);
        let text = health.unready(2 * SECOND).expect("it is not ready");
        assert!(text.contains("not filled yet\npermits could not be listed or watched for 1s: "), "{text}");
    }

    #[test]
    fn a_long_reason_is_cut() {
        let mut health = Health::default();
        let permits = health.register_watch("permits".into());
        health.watched(permits, Err("ö".repeat(1_000_000)), SECOND);
        let text = health.unready(60 * SECOND).expect("it is not ready");
        assert!(text.len() < 600 && text.ends_with("ö...\n"), "{text}");
    }
}
