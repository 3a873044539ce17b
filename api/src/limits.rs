//! Every limit has a name and a reason here.

use std::time::Duration;

/// Most permits that a semaphore can have, and that one claim can ask for: far above any real fleet, and sums of
/// [`MAX_CLAIMS_COUNTED`] such weights stay within 64 bits.
pub const MAX_PERMITS: u64 = 1_000_000;

/// Claims of one parent for which sums of weights are proven not to overflow; etcd holds far fewer objects.
pub const MAX_CLAIMS_COUNTED: u64 = 1 << 40;

/// Shortest TTL: a renewal is sent every third of it and must survive one slow answer.
pub const MIN_TTL: Duration = Duration::from_secs(5);

/// Longest TTL: a lost node may lock others out for that long.
pub const MAX_TTL: Duration = Duration::from_hours(24);

/// TTL of a claim when neither it nor its parent names one. Long on purpose: a pod that ended frees its claim at once
/// by proof of death, so the TTL only matters when a node is lost, and it should outlast an upgrade of the API server.
pub const DEFAULT_TTL: Duration = Duration::from_mins(5);

/// A grant whose client has not shown itself for this long is confirmed only after a renewal was answered with
/// `Granted` (or after a third of the TTL, if that is shorter). Keeps a grant to a dead waiter harmless.
pub const FRESH: Duration = Duration::from_secs(5);

/// A claim that waited longer than this by the operator's clock since its creation or last renewal has a client that
/// renews before it starts anything: twice [`FRESH`], so that no client that starts without a renewal can be meant.
pub const WAITED_LONG: Duration = Duration::from_secs(10);

/// A client that was granted something after it had [`WAITED_LONG`], or that was asked whether it lives, must renew
/// this soon, or its claim is over. It learns of both by its watch, and it takes time to notice that a watch is dead
/// and to ask anew; the client library's own limits are held against this one when it is compiled.
pub const PROOF_OF_LIFE: Duration = Duration::from_mins(1);

/// So many claims at the head of the queue are asked, ahead of their turn and all at once, whether their clients live,
/// if they name no pod and have [`WAITED_LONG`]. A waiting client that is told a position below this renews, unless it
/// has done so within [`FRESH`]. The more, the fewer rounds of [`PROOF_OF_LIFE`] a row of dead waiters costs.
pub const ASKED_AHEAD: u64 = 32;

/// A waiter is asked again whether it lives when something is granted this long after it was last asked: while a queue
/// stands still, nobody in it costs anything.
pub const ASK_AGAIN: Duration = Duration::from_mins(5);

/// So many claims at the head of the queue have their pods looked at ahead of their turn. Fewer than [`ASKED_AHEAD`],
/// as a look takes milliseconds where an answer takes up to a minute.
pub const LOOKED_AHEAD: usize = 8;

/// A claim's pod is looked at again at its grant if the last look is older than this.
pub const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// A holder has missed a renewal when it is silent for this part of its TTL, as (numerator, denominator): renewals come
/// each third, and one that is a quarter of that late is no cause for a look at its pod.
pub const MISSED_RENEWAL: (u32, u32) = (5, 12);

/// A grant that went without an answer this many times in a row may never get one (an object that the API server fails
/// on), so its claim is set aside and others are served.
pub const DOUBTED_GRANTS: u32 = 3;

/// A claim whose grants went without answers is set aside for this long at first, twice as long each further time, ...
pub const ASIDE: Duration = Duration::from_mins(1);

/// ... and for no longer than this.
pub const LONGEST_ASIDE: Duration = Duration::from_hours(1);

/// A claim whose end could not be written this many times is deleted instead: it may have become too large to be
/// written.
pub const EXPIRY_TRIES: u32 = 3;

/// A term is raised because of grants without an answer at most this often: it makes the parent's holders be written
/// anew.
pub const DOUBT_RAISES_EVERY: Duration = Duration::from_mins(1);

/// Expired claims are kept this long for people to see.
pub const KEEP_EXPIRED: Duration = Duration::from_hours(1);

/// Expired claims of one parent kept at once; beyond it the oldest go first, so that a crash loop cannot fill etcd.
pub const MAX_EXPIRED: usize = 100;

/// Claims of one namespace, of each kind, that an operator keeps: ten thousand on one lock and some beside them. Each
/// is some 2 kB, up to 3 where each has the longest names and a lock of its own: with both kinds of locks 72 MB at
/// most, which is well below what the chart allows in all, so one namespace cannot take everybody's memory. What is
/// held is kept in any case; claims that wait beyond this are taken in as there is room.
pub const MAX_KEPT_CLAIMS: usize = 12_000;

/// Locks of one namespace, of each kind, that an operator keeps: far above what anybody names, and each is some 2 kB.
pub const MAX_KEPT_LOCKS: usize = 4_000;

/// Holder names shown in a parent's status.
pub const HOLDERS_SHOWN: usize = 10;

/// Writes decided in one plan; the next plan follows as soon as these are under way. Bounds one decision's time.
pub const WRITES_PER_PLAN: usize = 256;

/// A parent's derived status is written at most this often: a few times a second is as fast as a person reads.
pub const STATUS_EVERY: Duration = Duration::from_millis(500);

/// Waiters are told their position in rounds this far apart.
pub const TELL_EVERY: Duration = Duration::from_millis(250);

/// Positions told in one round while grants are being given: grants come first, and the API server is the bottleneck.
pub const TOLD_WHILE_BUSY: usize = 4;

/// Positions told in one round while nothing was granted for [`QUIET_AFTER`].
pub const TOLD_WHILE_QUIET: usize = 128;

/// No grant for this long makes a parent quiet.
pub const QUIET_AFTER: Duration = Duration::from_secs(1);

/// An operator that met a higher term than its own leaves the parent alone for this long; if it still leads then, the
/// other one does not, and it takes over again.
pub const STOOD_DOWN: Duration = Duration::from_secs(30);

/// A write whose outcome is unknown, or that was refused, is decided again after this long at first, twice as long each
/// further time in a row, ...
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// ... and after no longer than this. A change of the object starts that anew.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);

/// Bits of a fencing token below the term.
pub const SEQUENCE_BITS: u32 = 20;

/// Grants within one term; when they are used up the term is raised.
pub const MAX_SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;

/// Highest term: keeps fencing tokens below 2^53, so that they survive JSON readers that use doubles. As terms follow
/// unix seconds, it is reached in the year 2242.
pub const MAX_TERM: u64 = (1 << (53 - SEQUENCE_BITS)) - 1;

/// Length of a Kubernetes object name.
pub const MAX_NAME: u32 = 253;

/// Length of a namespace's name in Kubernetes.
pub const MAX_NAMESPACE: u32 = 63;

/// Length of a label's name in Kubernetes: a prefix, a slash and a name.
pub const MAX_LABEL_KEY: u32 = 253 + 1 + 63;

/// Length of a label's value in Kubernetes.
pub const MAX_LABEL_VALUE: u32 = 63;

/// Length of a claim's or arrival's `holder`, shown to people.
pub const MAX_HOLDER: u32 = 253;

/// Length of an arrival's `key`: that of a name, as a `holder` can be one.
pub const MAX_KEY: u32 = 253;

/// Length of `instance`, of a pod's UID and of the id of a container's start: all are short random ids.
pub const MAX_ID: u32 = 64;

/// Length of a message in a status.
pub const MAX_MESSAGE: u32 = 1024;

/// Conditions in a status: there are three, and room for more.
pub const MAX_CONDITIONS: u32 = 8;

/// Highest count, ticket and fencing token in a status: the largest whole number that JSON readers that use doubles
/// keep.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// Most arrivals that a barrier can expect: far above any real fleet, and the operator keeps a key of each (some 30 MB
/// in all).
pub const MAX_EXPECTED: u32 = 100_000;

/// Shortest timeout of a barrier or gate, and shortest time before a barrier's next round: whoever waits must have a
/// chance to see the end.
pub const MIN_WAIT: Duration = Duration::from_secs(1);

/// Longest timeout of a barrier or gate, and longest time before a barrier's next round: a year.
pub const MAX_WAIT: Duration = Duration::from_hours(8760);

/// Kubernetes notes times of creation in whole seconds, rounded down.
pub const CREATION_GRAIN: Duration = Duration::from_secs(1);

/// Conditions of one gate. Gates can depend on gates, so more is always possible.
pub const MAX_GATE_CONDITIONS: u32 = 32;

/// Labels and expressions of one selector, each.
pub const MAX_SELECTOR_TERMS: u32 = 16;

/// Values of one expression of a selector.
pub const MAX_SELECTOR_VALUES: u32 = 32;

/// Gates named in the message about a cycle of gates; what is left out is said.
pub const CYCLE_SHOWN: usize = 8;

/// An operator that finds a wait of a barrier or gate that began before it did counts at least this much of it itself:
/// more than clocks differ that anybody looks after, and no more than a restart may make a long wait late.
pub const OWN_WAIT: Duration = Duration::from_hours(1);

/// A wait is called over by an operator that has been answered for so long: while the API server or all operators were
/// away, what was waited for could neither come nor be seen. Clients ask again within 15 seconds, watches within 5.
pub const ANSWERED_FOR: Duration = Duration::from_secs(30);

/// What an operator asks of a healthy API server is answered sooner: when it takes longer and nothing else is answered
/// meanwhile, nobody was for a while. No longer than that, as who arrives may have failed within it and comes later.
pub const SLOW_ANSWER: Duration = Duration::from_secs(1);

/// Of outages that end within this time after each other the first one counts. Twice [`ANSWERED_FOR`]: however often
/// requests fail, waits that have run out end in half of all time, and late by [`ANSWERED_FOR`] and what it takes to be
/// answered.
pub const OUTAGES_APART: Duration = Duration::from_mins(1);

/// Different selections of objects that the gates of one namespace can ask about: each costs a look at every object
/// that changes where it looks. A selector that asks more of it than [`SELECTION`] counts as several. More are not met,
/// and say so.
pub const MAX_SELECTIONS: usize = 1024;

/// Labels and values that one of [`MAX_SELECTIONS`] may ask about: with so many a change of an object costs at most
/// some milliseconds, where all that gates may ask is asked.
pub const SELECTION: usize = 8;

/// Bytes of what an operator keeps of one namespace for the gates that look there, of each kind: ten thousand Jobs with
/// the labels that one usually has take two thirds of it. Where there is more, none of it is kept, and gates that look
/// there are not met, and say so.
pub const MAX_LOOKED_AT: usize = 8 << 20;

/// Ways between gates, each selector counted once, among which cycles are looked for: some megabytes while that lasts.
/// Where namespaces let each other look and have more, no gate that waits for another one is met, and it says so.
pub const MAX_WAYS: usize = 1 << 20;
