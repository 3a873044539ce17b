//! One module a command, and what they have in common.

pub(crate) mod acquire;
pub(crate) mod barrier;
pub(crate) mod claim;
pub(crate) mod completion;
pub(crate) mod convert;
pub(crate) mod events;
pub(crate) mod gate;
pub(crate) mod lease;
pub(crate) mod list;
pub(crate) mod object;
pub(crate) mod operator;
pub(crate) mod revoke;
pub(crate) mod run;
pub(crate) mod semaphore;
pub(crate) mod version;
pub(crate) mod wait;
