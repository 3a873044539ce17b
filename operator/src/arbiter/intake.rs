//! Takes in what the watches and the requests say: into the notes, the views, the metrics and the events.

use konductor_api::arbiter::{ClaimChange, ClaimWrite, Happening, Now, Outcome, ParentWrite, Write};
use kube::Resource;
use tracing::{debug, info, warn};

use super::{
    Key, ParentKey,
    book::Missing,
    engine::{CACHES, Engine, Sight},
    kind::{Found, Kind, SeenClaim, SeenParent},
    outbox::Urgency,
    requests::{Done, Reading, Written},
};
use crate::{
    events::{News, Severity, reference},
    metrics::{ExpiryLabels, KindLabels, WriteLabels},
};
use konductor_cluster::watch::Seen;

/// Numbers of an engine's caches, for readiness.
const PARENTS: u32 = 0;
const CLAIMS: u32 = 1;
const PODS: u32 = 2;

impl<K: Kind> Engine<K> {
    pub(super) fn take_sight(&mut self, sight: Sight, now: Now) {
        match sight {
            Sight::Parent(Seen::Listing) => self.book.parents_listing(),
            Sight::Parent(Seen::Listed) => {
                // An unfinished look for what the last list missed is part of this one.
                self.probes.retain(|missing| !matches!(missing, Missing::Parent { .. }));
                self.probes.extend(self.book.parents_listed());
                self.filled(PARENTS);
            }
            Sight::Parent(Seen::Present(found)) => self.observe_parent(*found, now),
            Sight::Parent(Seen::Gone(gone)) => {
                self.parent_gone(&ParentKey { namespace: gone.namespace, name: gone.name }, &gone.uid, now);
            }
            Sight::Claim(Seen::Listing) => self.book.claims_listing(),
            Sight::Claim(Seen::Listed) => {
                self.probes.retain(|missing| !matches!(missing, Missing::Claim { .. }));
                self.probes.extend(self.book.claims_listed());
                self.filled(CLAIMS);
            }
            Sight::Claim(Seen::Present(found)) => self.observe_claim(*found, now),
            Sight::Claim(Seen::Gone(gone)) => self.claim_gone(&gone.uid, now),
            Sight::Pod(source, Seen::Listing) => self.book.pods_listing(source),
            Sight::Pod(source, Seen::Listed) => {
                self.book.pods_listed(source);
                self.filled(PODS + source as u32);
            }
            Sight::Pod(source, Seen::Present(ended)) => {
                self.book.pod_ended(source, ended, now);
            }
            Sight::Pod(_, Seen::Gone(gone)) => self.book.pod_gone(&gone.uid),
        }
    }

    fn filled(&self, cache: u32) {
        self.metrics.filled(K::KIND as u32 * CACHES + cache);
    }

    fn observe_parent(&mut self, found: Found<SeenParent>, now: Now) {
        let Some((key, seen)) = self.readable::<K, _>(found) else { return };
        self.book.note_parent(&key, &seen, now).observe_parent(seen.parent, now);
    }

    fn observe_claim(&mut self, found: Found<SeenClaim>, now: Now) {
        let Some((_, SeenClaim { key, claim, conditions })) = self.readable::<K::Claim, _>(found) else { return };
        let uid = claim.uid.clone();
        let key = self.book.note_claim(&key, &claim, conditions, now);
        if let Some(slot) = self.book.slot(&key) {
            slot.view.observe_claim(claim, now);
        }
        self.book.check_for_death(&uid, now);
    }

    fn parent_gone(&mut self, key: &ParentKey, uid: &str, now: Now) {
        self.faults.clear::<K>(uid);
        self.book.parent_gone(key, uid, now);
    }

    fn claim_gone(&mut self, uid: &str, now: Now) {
        self.faults.clear::<K::Claim>(uid);
        self.book.claim_gone(uid, now);
    }

    /// What the object says, and the key of its name; `None` if it is known to be gone, or cannot be read, which is
    /// reported on the object itself.
    fn readable<O: Resource<DynamicType = ()>, T>(&mut self, found: Found<T>) -> Option<(ParentKey, T)> {
        if self.book.is_gone(&found.uid) {
            return None;
        }
        if let Err(fault) = &found.content {
            self.book.saw_unreadable(&found);
            let key = ParentKey { namespace: found.namespace.clone(), name: found.name.clone() };
            self.faults.report::<O>(&key, &found.uid, &fault.error, self.is_leading());
            return None;
        }
        self.faults.clear::<O>(&found.uid);
        let content = found.content.ok()?;
        Some((ParentKey { namespace: found.namespace, name: found.name }, content))
    }

    pub(super) fn take_done(&mut self, done: Done, now: Now) {
        match done {
            Done::Parent(key, write, written) => self.parent_written(&key, &write, written, now),
            Done::Claim(key, write, written) => self.claim_written(&key, &write, written, now),
            Done::Listed(key, term, claims) => self.listed(&key, term, claims, now),
            Done::ProbedParent(key, uid, reading) => {
                self.probes_under_way -= 1;
                self.parent_read(&key, &uid, reading, now);
            }
            Done::ProbedClaim(uid, reading) => {
                self.probes_under_way -= 1;
                self.claim_read(&uid, reading, now);
            }
        }
    }

    fn parent_written(&mut self, key: &Key, write: &ParentWrite, written: Written<SeenParent>, now: Now) {
        let kept = Write::Parent(write.clone());
        self.account(key, &kept, &written);
        match written {
            Written::Applied(found) => {
                if let Some((_, seen)) = self.readable::<K, _>(*found) {
                    self.book.note_parent(key, &seen, now).acknowledged_parent(write, seen.parent, now);
                }
            }
            Written::Deleted => {}
            Written::Failed { outcome, reading, .. } => {
                self.parent_read(key, &write.uid, reading, now);
                if let Some(slot) = self.book.slot(key) {
                    slot.view.failed(&kept, outcome, now);
                }
            }
        }
        self.book.mark(key);
    }

    fn claim_written(&mut self, key: &Key, write: &ClaimWrite, written: Written<SeenClaim>, now: Now) {
        let kept = Write::Claim(write.clone());
        self.account(key, &kept, &written);
        let uid = &*write.uid;
        match written {
            Written::Applied(found) => {
                if let Some((_, SeenClaim { claim, conditions, .. })) = self.readable::<K::Claim, _>(*found) {
                    self.celebrate(key, write, now);
                    self.book.note_claim(key, &claim, conditions, now);
                    if let Some(slot) = self.book.slot(key) {
                        slot.view.acknowledged_claim(write, claim, now);
                    }
                    self.book.check_for_death(uid, now);
                } else if let Some(slot) = self.book.slot(key) {
                    // Deleted meanwhile: there is nothing to observe, but the view waits for an answer.
                    slot.view.failed(&kept, Outcome::NotApplied, now);
                }
            }
            Written::Deleted => self.claim_gone(uid, now),
            Written::Failed { outcome, reading, .. } => {
                self.claim_read(uid, reading, now);
                if let Some(slot) = self.book.slot(key) {
                    slot.view.failed(&kept, outcome, now);
                }
            }
        }
        self.book.mark(key);
    }

    /// Frees the place that the write had, and counts it.
    fn account<T>(&mut self, key: &Key, write: &Write, written: &Written<T>) {
        let change = write.name();
        self.outbox.done(key, write.into());
        if Urgency::from(write) == Urgency::Urgent {
            self.urgent.remove(write.uid());
        }
        let outcome = match written {
            Written::Applied(_) | Written::Deleted => "applied",
            Written::Failed { label, error, .. } => {
                let (namespace, name, subject) = (&key.namespace, &key.name, write.uid());
                if matches!(*label, "conflict" | "gone") {
                    debug!(namespace, name, subject, change, "overtaken: {error}");
                } else {
                    self.metrics.errors.get_or_create(&of::<K>()).inc();
                    warn!(namespace, name, subject, change, "not written, to be decided again: {error}");
                }
                label
            }
        };
        self.metrics.writes.get_or_create(&WriteLabels { kind: K::KIND.name(), change, outcome }).inc();
    }

    /// Tells of what was done: to the metrics, and to people.
    fn celebrate(&mut self, key: &Key, write: &ClaimWrite, now: Now) {
        let claim = self.book.claim(&write.uid);
        match &write.change {
            ClaimChange::Grant(_) => {
                self.metrics.grants.get_or_create(&of::<K>()).inc();
                if let Some(claim) = claim {
                    let latency = now.monotonic.saturating_sub(claim.first_seen);
                    self.metrics.grant_latency.get_or_create(&of::<K>()).observe(latency.as_secs_f64());
                }
            }
            ClaimChange::Expire(_) => {
                let reason = if claim.is_some_and(|claim| claim.dead) { "died" } else { "silent" };
                self.metrics.expiries.get_or_create(&ExpiryLabels { kind: K::KIND.name(), reason }).inc();
                if write.happening.is_some() {
                    self.metrics.losses.get_or_create(&of::<K>()).inc();
                }
            }
            ClaimChange::Revoke(_) => {
                self.metrics.revocations.get_or_create(&of::<K>()).inc();
            }
            _ => {}
        }
        let Some(Happening { reason, message }) = &write.happening else { return };
        info!(namespace = key.namespace, name = key.name, reason, "{message}");
        let regarding = match self.book.parent(key) {
            Some(parent) => reference::<K>(&key.namespace, &key.name, &parent.uid),
            None => reference::<K::Claim>(&key.namespace, &write.name, &write.uid),
        };
        self.publisher.tell(News {
            regarding,
            severity: Severity::Warning,
            reason,
            action: verb(&write.change),
            note: message.clone(),
        });
    }

    fn listed(&mut self, key: &Key, term: u64, claims: Option<Vec<Found<SeenClaim>>>, now: Now) {
        self.lists_under_way -= 1;
        let answered = claims.is_some();
        let mut readable = Vec::new();
        for found in claims.into_iter().flatten() {
            if let Some((_, SeenClaim { claim, conditions, .. })) = self.readable::<K::Claim, _>(found) {
                self.book.note_claim(key, &claim, conditions, now);
                readable.push(claim);
            }
        }
        let uids: Vec<_> = readable.iter().map(|claim| claim.uid.clone()).collect();
        let Some(slot) = self.book.slot(key) else { return };
        slot.lists -= 1;
        if answered {
            slot.view.page(term, readable, now);
            slot.view.listed(term, now);
        } else {
            slot.view.list_failed();
        }
        for uid in uids {
            self.book.check_for_death(&uid, now);
        }
        self.book.mark(key);
    }

    /// A parent was read again because of the one with this UID.
    fn parent_read(&mut self, key: &Key, uid: &str, reading: Reading<SeenParent>, now: Now) {
        match reading {
            Reading::Absent => self.parent_gone(key, uid, now),
            Reading::Present(found) => {
                if found.uid != uid {
                    self.parent_gone(key, uid, now);
                }
                self.observe_parent(*found, now);
            }
            Reading::Unanswered => {}
        }
    }

    /// A claim was read again because of the one with this UID.
    fn claim_read(&mut self, uid: &str, reading: Reading<SeenClaim>, now: Now) {
        match reading {
            Reading::Absent => self.claim_gone(uid, now),
            Reading::Present(found) => {
                if found.uid != uid {
                    self.claim_gone(uid, now);
                }
                self.observe_claim(*found, now);
            }
            Reading::Unanswered => {}
        }
    }
}

fn of<K: Kind>() -> KindLabels {
    KindLabels { kind: K::KIND.name() }
}

/// What the operator did, for an event.
fn verb(change: &ClaimChange) -> &'static str {
    match change {
        ClaimChange::Revoke(_) => "Revoke",
        ClaimChange::Expire(_) => "Expire",
        _ => "Write",
    }
}
