//! Every limit has a name and a reason here.

use std::time::Duration;

/// Processes that hold or wait for one lock of a folder: each costs a process, and the state, which is written as a
/// whole, stays within [`STATE`].
pub(super) const CLAIMS: usize = 4096;

/// Bytes of a state file: [`CLAIMS`] with the longest texts take less.
pub(super) const STATE: u64 = 16 << 20;

/// Bytes of one manifest, as large as an object can be in Kubernetes.
pub(super) const MANIFEST: u64 = 1 << 20;

/// Manifests of one folder: they are read again for each change.
pub(super) const MANIFESTS: usize = 256;

/// How deep a manifest may be nested: the definitions go four deep.
pub(super) const DEPTH: usize = 16;

/// Pauses after trouble (a full disk, a manifest with a mistake): what nobody tells us of is found out within the
/// longer one.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// How often it is tried again to take part at all, when the system has no room for it for a moment (threads, open files,
/// memory): with the pauses 15 s, after which it is a person's to know.
pub(super) const FIRST_TRIES: u32 = 4;

/// How often a folder that is deleted and made again while it is being opened is opened anew.
pub(super) const REOPEN: usize = 16;

/// How long the first transaction can take before people are told that it does: thousands of others can be served
/// meanwhile.
pub(super) const LOCKED: Duration = Duration::from_secs(5);
