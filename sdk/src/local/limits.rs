//! Every limit has a name and a reason here.

use std::time::Duration;

/// Processes that hold or wait for one lock of a folder: each costs a process, and the state, which is written as a
/// whole, stays within [`STATE`].
pub(super) const CLAIMS: usize = 4096;

/// Bytes of a state file: [`CLAIMS`] with the longest texts take less.
pub(super) const STATE: u64 = 16 << 20;

/// Bytes of the file that says which terms are reserved: one line.
pub(super) const TERMS: u64 = 4096;

/// How many terms more than are needed are reserved by who does not know whether others reserve as often: little is lost
/// where each use of a folder is by another mount, as of containers. With one every 0.1 s, day and night, they last a year.
pub(super) const FIRST_TERMS: u64 = 16;

/// How many more are reserved when these are used up: the disk is waited for once in so many changes.
pub(super) const MORE_TERMS: u64 = 1024;

/// Bytes of one manifest, as large as an object can be in Kubernetes.
pub(super) const MANIFEST: u64 = 1 << 20;

/// Manifests of one folder: they are read again for each change.
pub(super) const MANIFESTS: usize = 256;

/// Bytes of all manifests together, and claims, that take no time worth mentioning: whoever must not wait leaves more to a
/// thread.
pub(super) const AT_ONCE: (u64, usize) = (1 << 16, 64);

/// How often the manifests are listed while one of those that were is not there: whoever renames does not do so each time
/// that somebody reads.
pub(super) const LISTED: usize = 4;

/// How deep a manifest may be nested: the definitions go four deep.
pub(super) const DEPTH: usize = 16;

/// Pauses after trouble (a full disk, a manifest with a mistake, nothing left to watch by): what nobody tells us of is
/// found out within the longer one.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// How often it is tried again to take part at all, when the system has no room for it for a moment (threads, open files,
/// memory): with the pauses 15 s, after which it is a person's to know.
pub(super) const FIRST_TRIES: u32 = 4;

/// The same, when a process lives that the state does not know. One that is killed while it makes its claim gives up the
/// folder and then the claim, within microseconds.
pub(super) const UNKNOWN_TRIES: u32 = 1;

/// How often a folder that is deleted and made again while it is being opened is opened anew.
pub(super) const REOPEN: usize = 16;

/// How long the first transaction can take, so often, before people are told that it does: thousands of others can be
/// served meanwhile. (Where the whole machine stands still, that is only one of these.)
pub(super) const LOCKED: Duration = Duration::from_secs(1);
pub(super) const LOCKED_LOOKS: u32 = 5;

/// How long somebody whose turn has come can leave it untaken before the next one gets it: far longer than it takes to
/// wake up on a machine that has ten times more to do than it can.
pub(super) const UNTAKEN: Duration = Duration::from_secs(3);

/// How much later than it meant to somebody looks who has stood still, alone or with the whole machine, and not only
/// waited for a processor.
pub(super) const LATE: Duration = Duration::from_secs(1);

/// How many at the front of the queue look at the holders and the manifests. One is enough, unless it is stopped.
pub(super) const SENTRIES: usize = 2;

/// Links on the way to one manifest: as many as the kernel follows.
pub(super) const LINKS: usize = 40;

/// Locks of one kind that are shown: more than a folder's manifests define in any setup that people look at.
pub(super) const SHOWN: usize = 1024;

/// How often a lock is read again whose state was replaced while it was read. What is shown then may be of two moments.
pub(super) const STEADY: usize = 4;

/// The shortest time from one view of a folder to the next: people read no faster, and whoever looks on must not be a
/// load on those who take part.
pub(super) const PACE: Duration = Duration::from_millis(100);
