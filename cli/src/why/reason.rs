//! Reasons: what bears on an object, each of a type of its own, in a small tree.
//!
//! The same tree is printed for people ([`Answer::text`]) and as JSON. That has a schema, which is generated from these
//! types and kept in `docs/why.schema.json`: codes and fields stay what they are, new ones may come, and `text` is for
//! people and may say the same in other words.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{seen::Kind, sentence};

/// The version of the JSON.
pub(crate) const API_VERSION: &str = "cli.konductor.io/v1";

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ref {
    /// Its kind in small letters, as before the slash in `pod/etl-0`.
    pub(crate) kind: String,
    /// Its namespace; absent of what has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// Its name.
    pub(crate) name: String,
}

impl Ref {
    /// The object of this kind, namespace (empty of what has none) and name.
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty());
        Self { kind: kind.name().into(), namespace, name: name.into() }
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// A moment, in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct At(pub(crate) Timestamp);

impl JsonSchema for At {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// Why an object is as it is: what `koncli why -o json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// `cli.konductor.io/v1`.
    pub(crate) api_version: String,
    /// `Why`.
    pub(crate) kind: String,
    /// What was asked about.
    pub(crate) subject: Ref,
    /// The moment that ages are counted to.
    pub(crate) at: At,
    /// What bears on it, what matters most first.
    pub(crate) reasons: Vec<Reason>,
    /// What could not be read, and so is not in `reasons`.
    pub(crate) unread: Vec<Reason>,
}

/// One reason, and what is behind it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reason {
    /// What it is.
    #[serde(flatten)]
    pub(crate) cause: Cause,
    /// The same for people. It may be worded otherwise by another version.
    pub(crate) text: String,
    /// What is behind it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) because: Vec<Self>,
}

impl Reason {
    /// With nothing behind it, in words of this moment.
    pub(crate) fn new(cause: Cause, now: Timestamp) -> Self {
        let text = sentence::of(&cause, now);
        Self { cause, text, because: Vec::new() }
    }

    /// With this behind it.
    #[must_use]
    pub(crate) fn because(mut self, because: impl IntoIterator<Item = Self>) -> Self {
        self.because.extend(because);
        self
    }
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unseen {
    /// `get` or `list`.
    pub(crate) verb: String,
    /// The resource, as in `kubectl auth can-i get pods`.
    pub(crate) resource: String,
    /// Where; absent of what has no namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// Whether it is not allowed, not there, or has failed.
    pub(crate) why: UnseenWhy,
    /// What the API server said.
    pub(crate) message: String,
    /// What would help, where that is one command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
}

/// Why something could not be read, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) enum UnseenWhy {
    /// RBAC does not allow it.
    Forbidden,
    /// The cluster has no such resource: its CRD is not installed.
    NotServed,
    /// The request has failed.
    Failed,
}

/// What a look at a holder's pod shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) enum Fate {
    /// Nothing shows that the container has ended.
    Lives,
    /// The container has ended for good, which frees the claim.
    Ended,
    /// The pod does not exist any more, which proves nothing: its node may be out of reach.
    Gone,
}

/// What would free a claim.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Way {
    /// What it is.
    pub(crate) how: How,
    /// When that is, if it happens by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<At>,
    /// How to bring it about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
}

/// How a claim becomes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) enum How {
    /// Its holder releases it.
    Release,
    /// Its container ends.
    ContainerEnds,
    /// Its pod ends, for which as a whole it speaks.
    PodEnds,
    /// Its process ends, without a cluster.
    ProcessEnds,
    /// It is not renewed for its time to live.
    Expiry,
    /// Somebody has it revoked.
    Revocation,
    /// Its pod has ended: the operator frees it when it sees that.
    Proof,
}

/// A claim in front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Front {
    /// The claim.
    pub(crate) claim: Ref,
    /// Who asks.
    pub(crate) holder: String,
    /// Permits asked for.
    pub(crate) permits: u64,
    /// Its priority.
    pub(crate) priority: i32,
    /// It came later and has passed by its priority.
    pub(crate) passes: bool,
}

/// What an estimate rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Basis {
    /// Holders of the parent that have ended ...
    pub(crate) ended: u64,
    /// ... in so many seconds.
    pub(crate) seconds: i64,
}

/// What a reason is. A field that is not known is absent.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "code", rename_all_fields = "camelCase")]
pub(crate) enum Cause {
    /// The object does not exist.
    NotFound {
        /// Which one.
        object: Ref,
        /// The existing name that was probably meant.
        #[serde(skip_serializing_if = "Option::is_none")]
        nearest: Option<String>,
    },
    /// A claim waits for its turn.
    Waits {
        /// The claim.
        claim: Ref,
        /// Who asks.
        holder: String,
        /// What it is on.
        lock: Ref,
        /// Permits asked for.
        permits: u64,
        /// Its priority.
        priority: i32,
        /// Since when.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<At>,
        /// How many are in front.
        #[serde(skip_serializing_if = "Option::is_none")]
        ahead: Option<u64>,
    },
    /// A claim holds what it asked for.
    Holds {
        /// The claim.
        claim: Ref,
        /// Who holds.
        holder: String,
        /// What it is on.
        lock: Ref,
        /// Permits held.
        permits: u64,
        /// Since when.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<At>,
        /// When it was last renewed, by the holder's clock.
        #[serde(skip_serializing_if = "Option::is_none")]
        renewed: Option<At>,
        /// Its time to live without a renewal.
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl_seconds: Option<u64>,
        /// Its fencing token.
        #[serde(skip_serializing_if = "Option::is_none")]
        fencing_token: Option<u64>,
        /// It was asked to end, for this reason.
        #[serde(skip_serializing_if = "Option::is_none")]
        revoked: Option<String>,
    },
    /// A claim is over. It holds nothing and frees nothing.
    Over {
        /// The claim.
        claim: Ref,
        /// Whose it was.
        holder: String,
        /// What it was on.
        lock: Ref,
        /// When that was.
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<At>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The operator has not answered yet.
    Unanswered {
        /// What it has not answered.
        object: Ref,
    },
    /// Where a lock stands.
    Lock {
        /// The lock.
        lock: Ref,
        /// Permits that there are.
        permits: u64,
        /// Permits held.
        in_use: u64,
        /// Claims that hold.
        #[serde(skip_serializing_if = "Option::is_none")]
        holders: Option<u64>,
        /// Claims that wait.
        waiting: u64,
    },
    /// The semaphore has 0 permits: nothing is granted.
    Paused {
        /// The semaphore.
        lock: Ref,
        /// How to have it go on.
        command: String,
    },
    /// The claim asks for more than there are.
    TooLarge {
        /// The semaphore.
        lock: Ref,
        /// Permits asked for.
        asked: u64,
        /// Permits that there are.
        permits: u64,
    },
    /// Others are in front.
    InFront {
        /// How many.
        count: u64,
        /// The first of them.
        claims: Vec<Front>,
    },
    /// The first in line does not fit, and nobody passes it.
    Blocked {
        /// The first in line.
        claim: Ref,
        /// Permits that it asks for.
        asked: u64,
        /// Permits free.
        free: u64,
    },
    /// Nobody is in front: it goes as soon as enough is free.
    Next {
        /// Permits asked for.
        asked: u64,
        /// Permits free.
        free: u64,
    },
    /// It fits, and nobody is in front that does: it is for the operator to grant it.
    Due {
        /// What it is on.
        lock: Ref,
        /// It passes those in front, which do not fit.
        passes: bool,
    },
    /// A leader is taking the lock over: nothing is granted until it has confirmed all holders.
    TakenOver {
        /// The lock.
        lock: Ref,
        /// Its term.
        term: u64,
        /// The last term whose leader had confirmed all.
        settled_term: u64,
    },
    /// How long it may take, from what is known of how long holders of this parent take.
    Estimate {
        /// So many seconds; absent when nothing is known to tell from.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<i64>,
        /// What it was told from.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Basis>,
    },
    /// What a look at a holder's pod shows.
    HolderPod {
        /// The pod.
        pod: Ref,
        /// The container that holds; absent when the claim speaks for the whole pod.
        #[serde(skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// Whether it lives.
        fate: Fate,
        /// The pod's phase.
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<String>,
        /// Its node.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Whether the node is ready: its kubelet is heard of.
        #[serde(skip_serializing_if = "Option::is_none")]
        node_ready: Option<bool>,
        /// Since when the node is or is not.
        #[serde(skip_serializing_if = "Option::is_none")]
        node_since: Option<At>,
    },
    /// The node of a holder does not exist any more.
    NodeGone {
        /// The node.
        node: String,
    },
    /// What would free a claim.
    FreedBy {
        /// The claim.
        claim: Ref,
        /// Each of these does.
        ways: Vec<Way>,
    },
    /// No operator is installed, as far as can be seen.
    NoOperator {
        /// Where it was looked for; all namespaces if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// No operator leads: nothing is granted, opened or expired.
    NoLeader {
        /// The operator's namespace.
        namespace: String,
        /// The last leader.
        #[serde(skip_serializing_if = "Option::is_none")]
        last: Option<String>,
        /// When that one last renewed.
        #[serde(skip_serializing_if = "Option::is_none")]
        renewed: Option<At>,
    },
    /// The operator's Deployment.
    Deployment {
        /// The Deployment.
        deployment: Ref,
        /// Replicas wanted.
        replicas: i64,
        /// Replicas that are ready.
        ready: i64,
    },
    /// Where a gate stands.
    Gate {
        /// The gate.
        gate: Ref,
        /// `Open`, `Waiting` or `Failed`.
        phase: String,
        /// Conditions met.
        met: u64,
        /// Conditions that there are.
        total: u64,
        /// One met condition is enough.
        any: bool,
        /// Since when it waits.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<At>,
        /// When it fails if it has not opened.
        #[serde(skip_serializing_if = "Option::is_none")]
        fails_at: Option<At>,
    },
    /// Somebody has decided over the gate's conditions.
    Overridden {
        /// The gate.
        gate: Ref,
        /// `Open` or `Closed`.
        to: String,
        /// How to let the conditions decide again, or to change it where there are none.
        command: String,
    },
    /// A condition of a gate.
    Condition {
        /// Which one: counts from 0, as in the spec.
        index: u64,
        /// Whether it is met; absent before the operator has said so.
        #[serde(skip_serializing_if = "Option::is_none")]
        met: Option<bool>,
        /// What it asks of which objects.
        wanted: String,
        /// What the operator has found.
        #[serde(skip_serializing_if = "Option::is_none")]
        found: Option<String>,
    },
    /// Where the object of a condition stands.
    State {
        /// The object.
        object: Ref,
        /// In words: `is active`.
        state: String,
        /// Since when.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<At>,
        /// What it says of why.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// What would meet a condition.
    MetBy {
        /// In words.
        what: String,
        /// How to bring it about, where that is one command.
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<String>,
    },
    /// Gates wait for each other.
    Cycle {
        /// The gates, each waits for the next and the last for the first.
        gates: Vec<Ref>,
    },
    /// A namespace does not let gates of another one look.
    NamespaceClosed {
        /// The namespace.
        namespace: String,
        /// The gate's namespace.
        gates_of: String,
        /// How to let them.
        command: String,
    },
    /// Where a barrier stands.
    Barrier {
        /// The barrier.
        barrier: Ref,
        /// `Open`, `Waiting` or `Failed`.
        phase: String,
        /// How many have arrived in this round.
        arrived: u64,
        /// How many are to.
        expected: u64,
        /// How many are enough at the deadline.
        #[serde(skip_serializing_if = "Option::is_none")]
        quorum: Option<u64>,
        /// The round, from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        round: Option<u64>,
        /// When it opened or failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<At>,
        /// When it opens by quorum or fails.
        #[serde(skip_serializing_if = "Option::is_none")]
        deadline: Option<At>,
        /// When the next round begins.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_round: Option<At>,
    },
    /// Somebody has arrived.
    Arrived {
        /// Who.
        holder: String,
        /// What arrives once.
        key: String,
        /// When.
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<At>,
    },
    /// A Job that is to arrive, by its template, and has not, or not as often as it is to.
    NotArrived {
        /// The Job.
        job: Ref,
        /// In words: `is active`.
        state: String,
        /// Arrivals of it.
        arrived: u64,
        /// Arrivals expected of it.
        expected: u64,
    },
    /// How many are to arrive of whom no Job tells.
    NotKnown {
        /// So many.
        count: u64,
    },
    /// A pod is not started.
    Pending {
        /// The pod.
        pod: Ref,
        /// In a word.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What Kubernetes says.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Since when.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<At>,
    },
    /// A container cannot be started, or ends again and again.
    Crashing {
        /// The pod.
        pod: Ref,
        /// The container.
        container: String,
        /// In a word: `CrashLoopBackOff`, `ImagePullBackOff`.
        reason: String,
        /// How often it was started again.
        restarts: i64,
        /// How it ended last.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_exit_code: Option<i64>,
        /// What Kubernetes says.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// Where a pod stands.
    Pod {
        /// The pod.
        pod: Ref,
        /// Its phase.
        phase: String,
        /// Its node.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Whether the node is ready.
        #[serde(skip_serializing_if = "Option::is_none")]
        node_ready: Option<bool>,
        /// What it says of why.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// Where a Job stands.
    Job {
        /// The Job.
        job: Ref,
        /// In words: `is active`.
        state: String,
        /// Pods that run or are to.
        active: u64,
        /// Pods that have succeeded.
        succeeded: u64,
        /// Pods that have failed.
        failed: u64,
        /// Since when it is so.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<At>,
        /// What it says of why.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// What a pod is to hold, wait for or arrive at by what its containers say, beside what it has claimed.
    Wants {
        /// The container that says so.
        container: String,
        /// What.
        object: Ref,
        /// `Hold`, `WaitFor` or `ArriveAt`.
        to: Wish,
        /// Of what it is to hold: false, it has no claim on it now; absent when that is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        claimed: Option<bool>,
    },
    /// It neither holds nor waits for anything that Konductor knows of.
    Nothing {
        /// The object.
        object: Ref,
    },
    /// More than is shown here.
    NotShown {
        /// So many; absent when that is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        /// Of what.
        of: String,
    },
    /// Not read.
    Unseen(Unseen),
    /// An object that is there, of which others have made something that cannot be read.
    Unreadable {
        /// The object.
        object: Ref,
        /// What is wrong with it.
        error: String,
    },
    /// Not read, because so much had been read for this answer already.
    Bounded {
        /// Requests that an answer takes at most.
        reads: usize,
    },
}

/// What a container asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub(crate) enum Wish {
    /// To hold it.
    Hold,
    /// To wait for it.
    WaitFor,
    /// To arrive at it.
    ArriveAt,
}

impl Answer {
    /// For people: a line for each reason, below what it is behind of.
    pub(crate) fn text(&self) -> String {
        let mut lines = String::new();
        self.reasons.iter().for_each(|reason| print(reason, 0, &mut lines));
        if !self.unread.is_empty() {
            lines.push_str("Not known:\n");
            self.unread.iter().for_each(|reason| print(reason, 1, &mut lines));
        }
        lines
    }

    /// In short, for who waits no longer: what matters most, and what is right behind it.
    pub(crate) fn short(&self) -> String {
        let mut lines = String::new();
        if self.reasons.is_empty() {
            self.unread.iter().take(SHORT).for_each(|reason| print(reason, 0, &mut lines));
        }
        for reason in self.reasons.iter().take(SHORT) {
            print(&Reason { because: Vec::new(), ..reason.clone() }, 0, &mut lines);
            for behind in reason.because.iter().take(SHORT) {
                print(&Reason { because: Vec::new(), ..behind.clone() }, 1, &mut lines);
            }
        }
        lines
    }
}

/// Reasons in a short answer, and what is behind each: together they fit on a screen.
const SHORT: usize = 4;

fn print(reason: &Reason, depth: usize, lines: &mut String) {
    lines.push_str(&"  ".repeat(depth));
    lines.push_str(&reason.text);
    lines.push('\n');
    reason.because.iter().for_each(|behind| print(behind, depth + 1, lines));
}
