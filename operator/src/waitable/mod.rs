//! What is waited for: carries out what [`konductor_api::rendezvous`] decides, the statuses of barriers and gates.
//!
//! It is simpler than with locks, because nothing is granted to anybody:
//!
//! - a decision is a whole status, so it can be forgotten and made again; nothing waits in a lane but a name, and what
//!   is sent is decided when there is a place to send it;
//! - every write is on the version that it was decided on. A deposed operator's late write fails once anybody else
//!   wrote the parent, so it cannot take back what its successor decided;
//! - whatever goes wrong with a write, the parent is decided on again a little later; when it is not as it was known, as it
//!   is read then, since the watch that is to tell may be silent;
//! - while nobody answers, nothing is decided by the time: who is to say that it is over looks at the parent first, and
//!   decides anew once it is answered ([`Answers`](konductor_api::rendezvous::Answers)).
//!
//! What is special about a kind is in its [`Kind`]: what else it observes, and which [`Errand`]s it runs: what takes
//! more than one request, like a write that must not rest on what a watch has shown so far.

mod kind;
mod plugin;

#[cfg(test)]
pub(crate) use self::plugin::{Answer, Purpose, Request};
pub(crate) use self::{
    kind::{Chore, EndpointOf, Errand, Kind, Next, ObjectOf, StatusOf, Verdict, kept},
    plugin::{Seen, Waitables},
};
