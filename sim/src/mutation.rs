//! Rules taken out, to see whether the observers notice. Nothing of Konductor is compiled differently: what a rule does
//! is undone on the way, where it can be seen (in what is asked, in what is answered), or the world breaks what the rule
//! relies on.

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    plan::Who,
    server::{Answer, Request, Server, merge, resource},
    world::TEAM,
};

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule that is taken out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Mutation {
            $($(#[$doc])* $name,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

mutations! {
    /// What an operator writes names no version: a late write of one that was deposed lands on whatever is there.
    WritesNameNoVersion,
    /// What clients renew and delete names no UID: it may be another claim of the same name.
    ClaimsHaveNoUid,
    /// A client confirms its grant by a read that may be old.
    ConfirmationIsStale,
    /// An operator's lists may be old: a takeover misses holders.
    ListsAreStale,
    /// The clocks of operators are faster than a client may assume.
    OperatorsAreFast,
    /// The clocks of clients are slower than they may be.
    ClientsAreSlow,
    /// What a client protects goes on for some seconds after its deadline.
    CommandsOutliveTheirDeadline,
    /// What a client protects goes on for a moment after its release.
    CommandsOutliveTheirRelease,
    /// Kubelets say that containers have ended that run on.
    KubeletsLie,
    /// Who collects the pods of lost nodes says that their containers have ended.
    LostPodsAreCalledDead,
    /// Renewals are accepted and not stored.
    RenewalsAreForgotten,
    /// No operator stores which term is settled, so that its successor adopts whatever was granted before.
    SettledTermIsForgotten,
    /// Watches do not tell of what was deleted.
    DeletionsAreNotTold,
    /// Operators do not see that a claim was renewed.
    OperatorsSeeNoRenewal,
    /// Clients take a TTL for ten seconds longer than it is.
    ClientsSeeLongTtls,
    /// Operators see one permit more than a semaphore has.
    OperatorsSeeMorePermits,
    /// Operators take each claim for one of one permit.
    OperatorsSeeNoWeight,
    /// Operators take what another team claims for claims of the first one.
    OperatorsMixUpNamespaces,
    /// Operators do not see a claim's priority.
    OperatorsSeeNoPriority,
    /// Operators do not see what is to be given back.
    OperatorsSeeNoRevocation,
    /// Operators take every job for complete.
    OperatorsSeeJobsComplete,
    /// Operators hear of what gates depend on long after they were told.
    ConditionsAreHeardLate,
    /// Operators expect one less at a barrier.
    OperatorsExpectLess,
    /// Operators expect one more at a barrier.
    OperatorsExpectMore,
    /// Operators see no quorum of a barrier.
    OperatorsSeeNoQuorum,
    /// Operators see no timeout of a barrier.
    OperatorsSeeNoTimeouts,
    /// Operators see a barrier's round as its last one.
    OperatorsSeeNoRounds,
    /// Operators see half of a barrier's or a gate's timeout.
    OperatorsSeeShortTimeouts,
    /// Operators see half of the pause between a barrier's rounds.
    OperatorsSeeShortRounds,
    /// Operators see half of all arrivals twice, under another key.
    OperatorsCountTwice,
    /// No operator stores a claim's ticket.
    TicketsAreForgotten,
    /// All that is granted of a lock in one term has the same token.
    SequencesAreForgotten,
    /// Every other grant of a semaphore has the token of the one after it.
    TokensAreSwapped,
    /// All that is granted has the same token.
    TokensRepeat,
    /// No operator stores the term that it has begun.
    TermsAreForgotten,
    /// What a new leader adopts is not given its term.
    RestampsAreForgotten,
    /// No operator stores how much of a lock is in use.
    UseIsForgotten,
    /// Some of an operator's writes on claims are acknowledged and lost.
    WritesAreLost,
    /// Operators read a lock as it was a while ago.
    OperatorsReadStaleLocks,
    /// Who leads is written without a version: two may lead.
    ElectionNamesNoVersion,
    /// Clients read their claims as they were a while ago.
    ClientsReadStaleClaims,
    /// Clients take every term for the one that is settled.
    ClientsConfirmAnything,
    /// Clients do not see that their claim was taken from them.
    ClientsSeeNoLoss,
    /// Clients do not see that their claim is to be given back.
    ClientsSeeNoRevocation,
    /// Releases are accepted and not carried out.
    ReleasesAreForgotten,
    /// Arrivals are accepted and not stored.
    ArrivalsAreForgotten,
    /// What is made anew has the UID of its predecessor.
    UidsAreKept,
    /// A watch that stands before what is known is not told so.
    LostHistoryIsNotTold,
    /// Bookmarks name versions of which the watch has not told.
    BookmarksRunAhead,
    /// Lists end with their first page.
    PagesAreMissing,
    /// The watchdog of a `konductor-run` does nothing.
    WatchdogsSleep,
    /// What is killed lives on for ten seconds.
    KillsAreLate,
    /// `konductor-run` is told that a tree is empty when the command has ended and others of it have not.
    TreesAreCalledEmptyEarly,
    /// What a process has given up to wait for waits on.
    GivenUpRequestsAreKept,
    /// Clients that are cut off are answered all the same.
    CutOffAreAnswered,
    /// Operators take what has expired for what waits.
    OperatorsForgetExpiry,
    /// Every other time when an operator writes of a barrier that it is open, it is stored as one that waits.
    EndsAreTakenBack,
    /// Operators see every container run.
    OperatorsSeeNoDeaths,
    /// Operators take a TTL for half a minute longer than it is.
    OperatorsSeeLongTtls,
    /// Operators let whoever fits overtake.
    OperatorsSeeBestEffort,
    /// Operators take arrivals at a former barrier of that name, which nobody collects, for arrivals at this one.
    OperatorsMixUpBarriers,
    /// Clients that use the library are not told that their deadline has passed.
    DeadlinesAreNotTold,
    /// Clients see every eighth version of their claim as one that has expired.
    ClientsSeeFalseExpiry,
    /// Half of all take several locks in the opposite order.
    ClaimsAreTakenInAnyOrder,
}

impl Mutation {
    /// Why nobody in this world sees that it is taken out, and what does instead, where that is so.
    pub fn unseen(self) -> Option<&'static str> {
        match self {
            Self::ConfirmationIsStale | Self::ClientsConfirmAnything => Some(
                "it takes a late grant of a deposed leader whose term was never settled: without_the_confirmation_two_hold \
                 in api/tests/interleavings.rs finds it",
            ),
            Self::ClientsReadStaleClaims => {
                Some("a watch goes on from the version that was read, and tells what has come since")
            }
            Self::ElectionNamesNoVersion => Some(
                "two leaders at once are safe, as terms tell them apart: every search of api/tests/interleavings.rs has two",
            ),
            Self::WritesAreLost => {
                Some("the operator's watch shows that the write is not there, and it is decided again")
            }
            _ => None,
        }
    }

    /// By how many millionths it makes the clock of a process faster.
    pub(crate) fn drift(self, who: Who) -> i64 {
        match (self, who) {
            (Self::OperatorsAreFast, Who::Operator(_)) => 100_000,
            (Self::ClientsAreSlow, Who::Client(_)) => -100_000,
            _ => 0,
        }
    }

    /// Makes of a request what it is without the rule. Returns whether it may be answered from the past.
    pub(crate) fn rewrite(self, by_operator: bool, request: &mut Request) -> bool {
        let is_claim = is_claim(&request.path);
        let is_ours = request.path.contains("/konductor.io/");
        let is_lock = is_ours && (request.path.contains("/semaphores") || request.path.contains("/leases"));
        let reads = request.method == Method::GET && !is_watch(request);
        match self {
            Self::WritesNameNoVersion if by_operator && is_ours => {
                change(request, |body| remove(body, &["metadata", "resourceVersion"]));
                change(request, |body| remove(body, &["preconditions", "resourceVersion"]));
            }
            Self::ElectionNamesNoVersion if by_operator && request.path.contains("/coordination.k8s.io/") => {
                change(request, |body| remove(body, &["metadata", "resourceVersion"]));
            }
            Self::ClaimsHaveNoUid if !by_operator && is_claim => {
                change(request, |body| remove(body, &["metadata", "uid"]));
                change(request, |body| remove(body, &["preconditions", "uid"]));
            }
            Self::EndsAreTakenBack if by_operator && request.path.contains("/barriers/") => {
                change(request, |body| {
                    let version = body["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
                    let is_other = version.is_some_and(|version: u64| version.is_multiple_of(2));
                    if is_other && body["status"]["phase"] == "Open" {
                        body["status"]["phase"] = "Waiting".into();
                    }
                });
            }
            Self::RenewalsAreForgotten if !by_operator && is_claim => {
                change(request, |body| remove(body, &["spec", "renewTime"]));
            }
            Self::SettledTermIsForgotten if by_operator => {
                change(request, |body| remove(body, &["status", "settledTerm"]));
            }
            Self::TermsAreForgotten if by_operator && is_lock => {
                change(request, |body| remove(body, &["status", "term"]));
            }
            Self::UseIsForgotten if by_operator && is_lock => {
                change(request, |body| remove(body, &["status", "inUse"]));
                change(request, |body| remove(body, &["status", "phase"]));
            }
            Self::TicketsAreForgotten if by_operator && is_claim => {
                change(request, |body| remove(body, &["status", "ticket"]));
            }
            Self::TokensAreSwapped if by_operator && request.path.contains("/permits/") => {
                change(request, |body| {
                    if let Some(token) = body["status"]["fencingToken"].as_u64() {
                        body["status"]["fencingToken"] = (token ^ 1).into();
                    }
                });
            }
            Self::SequencesAreForgotten | Self::TokensRepeat if by_operator && is_claim => {
                change(request, |body| {
                    if let Some(token) = body["status"]["fencingToken"].as_u64() {
                        let same = if self == Self::TokensRepeat { 1 << 20 } else { token & !0xf_ffff | 1 };
                        body["status"]["fencingToken"] = same.into();
                    }
                });
            }
            Self::ConfirmationIsStale => return make_stale(!by_operator && reads && is_ours && !is_claim, request),
            Self::ClientsReadStaleClaims => return make_stale(!by_operator && reads && is_claim, request),
            Self::OperatorsReadStaleLocks => {
                // Of lists it is noticed that versions go back.
                let is_one = request.path.contains("/semaphores/") || request.path.contains("/leases/");
                return make_stale(by_operator && reads && is_lock && is_one, request);
            }
            Self::ListsAreStale => {
                // Those of a takeover: of what follows everything, it is noticed that versions go back.
                let selects = request.query.iter().any(|(_, value)| value.starts_with("spec."));
                return make_stale(by_operator && reads && is_claim && selects, request);
            }
            _ => {}
        }
        false
    }

    /// The answer to a request that is not carried out, if it is one of these.
    pub(crate) fn pretend(
        self,
        by_operator: bool,
        request: &Request,
        server: &Server,
        now: Timestamp,
    ) -> Option<Answer> {
        let is_claim = is_claim(&request.path);
        match self {
            Self::ReleasesAreForgotten if !by_operator && is_claim && request.method == Method::DELETE => {
                let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
                Some(Answer::object(200, &done.to_string()))
            }
            Self::ArrivalsAreForgotten
                if !by_operator && request.path.ends_with("/arrivals") && request.method == Method::POST =>
            {
                let mut made: Value = serde_json::from_slice(&request.body).ok()?;
                made["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000".into();
                made["metadata"]["resourceVersion"] = server.store.version().to_string().into();
                made["metadata"]["creationTimestamp"] = now.to_string().into();
                Some(Answer::object(201, &made.to_string()))
            }
            Self::WritesAreLost | Self::RestampsAreForgotten
                if by_operator && is_claim && request.method == Method::PATCH =>
            {
                let mut parts = request.path.split('/').skip_while(|part| *part != "namespaces").skip(1);
                let (namespace, plural, name) = (parts.next()?, parts.next()?, parts.next()?);
                let id = resource::all().iter().position(|resource| resource.plural == plural)?;
                let stored = server.store.get(&(id, namespace.to_owned(), name.to_owned()))?;
                let mut patch: Value = serde_json::from_slice(&request.body).ok()?;
                let patched_version = &patch["metadata"]["resourceVersion"];
                if !patched_version.is_null() && *patched_version != stored.value["metadata"]["resourceVersion"] {
                    return None;
                }
                let is_restamp = stored.value["status"]["phase"] == "Granted"
                    && patch["status"]["phase"].as_str().is_none_or(|phase| phase == "Granted")
                    && !patch["status"]["term"].is_null()
                    && patch["status"]["term"] != stored.value["status"]["term"];
                let is_lost =
                    if self == Self::WritesAreLost { server.store.version().is_multiple_of(4) } else { is_restamp };
                is_lost.then(|| {
                    remove(&mut patch, &["metadata", "resourceVersion"]);
                    let mut merged = stored.value.clone();
                    merge(&mut merged, &patch);
                    Answer::object(200, &merged.to_string())
                })
            }
            _ => None,
        }
    }

    /// Makes of what is answered what somebody sees who does not keep the rule.
    pub(crate) fn see_answer(self, by_operator: bool, answer: &mut Answer) {
        if answer.code >= 300 || !self.changes_sight() {
            return;
        }
        let Ok(mut body) = serde_json::from_str::<Value>(&answer.body) else { return };
        let kind = body["kind"].as_str().unwrap_or_default().to_owned();
        if let Some(of) = kind.strip_suffix("List") {
            if self == Self::PagesAreMissing {
                body["metadata"]["continue"] = "".into();
            }
            if let Some(items) = body["items"].as_array_mut() {
                let copies = self.copies(by_operator, of, items);
                for item in items.iter_mut() {
                    self.see(by_operator, of, item);
                }
                items.extend(copies);
            }
        } else {
            self.see(by_operator, &kind, &mut body);
        }
        answer.body = body.to_string();
    }

    /// The same of a watch's events.
    pub(crate) fn see_events(self, by_operator: bool, events: &mut Vec<String>) {
        if self == Self::DeletionsAreNotTold {
            events.retain(|event| !event.contains("\"DELETED\""));
        }
        if !self.changes_sight() {
            return;
        }
        for event in events {
            let Ok(mut told) = serde_json::from_str::<Value>(event) else { continue };
            let kind = told["object"]["kind"].as_str().unwrap_or_default().to_owned();
            self.see(by_operator, &kind, &mut told["object"]);
            *event = format!("{told}\n");
        }
    }

    fn changes_sight(self) -> bool {
        matches!(
            self,
            Self::OperatorsSeeNoRenewal
                | Self::ClientsSeeLongTtls
                | Self::OperatorsSeeMorePermits
                | Self::OperatorsSeeNoWeight
                | Self::OperatorsSeeNoPriority
                | Self::OperatorsMixUpNamespaces
                | Self::OperatorsSeeNoRevocation
                | Self::OperatorsSeeNoDeaths
                | Self::OperatorsSeeLongTtls
                | Self::OperatorsSeeBestEffort
                | Self::OperatorsMixUpBarriers
                | Self::OperatorsForgetExpiry
                | Self::OperatorsSeeJobsComplete
                | Self::OperatorsExpectLess
                | Self::OperatorsExpectMore
                | Self::OperatorsSeeNoQuorum
                | Self::OperatorsSeeNoTimeouts
                | Self::OperatorsSeeNoRounds
                | Self::OperatorsSeeShortTimeouts
                | Self::OperatorsSeeShortRounds
                | Self::OperatorsCountTwice
                | Self::ClientsConfirmAnything
                | Self::ClientsSeeNoLoss
                | Self::ClientsSeeFalseExpiry
                | Self::ClientsSeeNoRevocation
                | Self::PagesAreMissing
        )
    }

    /// What is in a list besides what is.
    fn copies(self, by_operator: bool, kind: &str, items: &[Value]) -> Vec<Value> {
        if self != Self::OperatorsCountTwice || !by_operator || kind != "Arrival" {
            return Vec::new();
        }
        let mut copies = items[..items.len() / 2].to_vec();
        for copy in &mut copies {
            for path in ["/metadata/name", "/metadata/uid", "/spec/key"] {
                if let Some(text) = copy.pointer_mut(path) {
                    *text = format!("{}-again", text.as_str().unwrap_or_default()).into();
                }
            }
        }
        copies
    }

    fn see(self, by_operator: bool, kind: &str, object: &mut Value) {
        let is_claim = kind == "Permit" || kind == "LeaseRequest";
        let halve = |value: &mut Value| {
            if let Some(seconds) = seconds(value) {
                *value = format!("{}s", (seconds / 2).max(1)).into();
            }
        };
        match (self, by_operator) {
            (Self::OperatorsSeeNoRenewal, true) if is_claim => remove(object, &["spec", "renewTime"]),
            (Self::ClientsSeeLongTtls, false) if is_claim => {
                if let Some(seconds) = seconds(&object["status"]["ttl"]) {
                    object["status"]["ttl"] = format!("{}s", seconds + 10).into();
                }
            }
            (Self::OperatorsSeeMorePermits, true) if kind == "Semaphore" && object["spec"].is_object() => {
                let permits = object["spec"]["permits"].as_u64().unwrap_or(0);
                object["spec"]["permits"] = (permits + 1).into();
            }
            (Self::OperatorsSeeNoWeight, true) if kind == "Permit" => object["spec"]["permits"] = 1.into(),
            (Self::OperatorsMixUpNamespaces, true) if is_claim && object["metadata"]["namespace"] != "neighbour" => {
                object["metadata"]["namespace"] = TEAM.into();
            }
            (Self::OperatorsForgetExpiry, true) if is_claim && object["status"]["phase"] == "Expired" => {
                object["status"]["phase"] = "Pending".into();
            }
            (Self::OperatorsSeeNoPriority, true) if is_claim => remove(object, &["spec", "priority"]),
            (Self::OperatorsSeeNoRevocation, true) if is_claim => remove(object, &["metadata", "annotations"]),
            (Self::OperatorsSeeNoDeaths, true) if kind == "Pod" => {
                object["status"] = json!({ "phase": "Running" });
            }
            (Self::OperatorsSeeLongTtls, true) if is_claim => {
                if let Some(seconds) = seconds(&object["spec"]["ttl"]) {
                    object["spec"]["ttl"] = format!("{}s", seconds + 30).into();
                }
            }
            (Self::OperatorsSeeBestEffort, true) if kind == "Semaphore" && object["spec"].is_object() => {
                object["spec"]["queueing"] = "BestEffortFIFO".into();
            }
            (Self::OperatorsMixUpBarriers, true) if kind == "Arrival" => {
                remove(object, &["metadata", "ownerReferences"]);
            }
            (Self::OperatorsSeeJobsComplete, true) if kind == "Job" => {
                object["status"] = json!({ "succeeded": 1, "conditions": [
                    { "type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" },
                ]});
            }
            (Self::OperatorsExpectLess, true) if kind == "Barrier" => {
                let expected = object["spec"]["expected"].as_u64().unwrap_or(1);
                object["spec"]["expected"] = expected.saturating_sub(1).max(1).into();
            }
            (Self::OperatorsExpectMore, true) if kind == "Barrier" => {
                let expected = object["spec"]["expected"].as_u64().unwrap_or(1);
                object["spec"]["expected"] = (expected + 1).into();
            }
            (Self::OperatorsSeeNoQuorum, true) if kind == "Barrier" => remove(object, &["spec", "quorum"]),
            (Self::OperatorsSeeNoTimeouts, true) if kind == "Barrier" => remove(object, &["spec", "timeout"]),
            (Self::OperatorsSeeNoRounds, true) if kind == "Barrier" => remove(object, &["spec", "resetAfter"]),
            (Self::OperatorsSeeShortTimeouts, true) if kind == "Barrier" || kind == "Gate" => {
                object["spec"].get_mut("timeout").into_iter().for_each(halve);
            }
            (Self::OperatorsSeeShortRounds, true) if kind == "Barrier" => {
                object["spec"].get_mut("resetAfter").into_iter().for_each(halve);
            }
            (Self::ClientsConfirmAnything, false) if kind == "Semaphore" || kind == "Lease" => {
                let term = object["status"]["term"].clone();
                object["status"]["settledTerm"] = term;
            }
            (Self::ClientsSeeNoLoss, false)
                if is_claim
                    && !object["status"]["fencingToken"].is_null()
                    && object["status"]["phase"] != "Granted" =>
            {
                object["status"]["phase"] = "Granted".into();
            }
            (Self::ClientsSeeFalseExpiry, false) if is_claim && object["status"]["phase"] == "Granted" => {
                let version = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
                if version.is_some_and(|version: u64| version.is_multiple_of(8)) {
                    object["status"]["phase"] = "Expired".into();
                }
            }
            (Self::ClientsSeeNoRevocation, false) if is_claim => {
                remove(object, &["metadata", "annotations"]);
                if object["status"]["phase"] == "Revoking" {
                    object["status"]["phase"] = "Granted".into();
                }
            }
            _ => {}
        }
    }
}

/// Of a span in whole seconds, how many.
pub(crate) fn seconds(span: &Value) -> Option<u64> {
    span.as_str()?.strip_suffix('s')?.parse().ok()
}

fn is_claim(path: &str) -> bool {
    path.contains("/permits") || path.contains("/leaserequests")
}

fn is_watch(request: &Request) -> bool {
    request.query.iter().any(|(name, _)| name == "watch" || name == "continue")
}

fn make_stale(stale: bool, request: &mut Request) -> bool {
    if stale {
        request.query.push(("resourceVersion".into(), "0".into()));
    }
    stale
}

fn change(request: &mut Request, change: impl FnOnce(&mut Value)) {
    if request.method != Method::POST
        && let Ok(mut body) = serde_json::from_slice::<Value>(&request.body)
    {
        change(&mut body);
        request.body = body.to_string().into_bytes();
    }
}

fn remove(body: &mut Value, path: &[&str; 2]) {
    if let Some(members) = body.get_mut(path[0]).and_then(Value::as_object_mut) {
        members.remove(path[1]);
    }
}
