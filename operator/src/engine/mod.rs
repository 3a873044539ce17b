//! One engine for everything that is decided: it observes, decides and acts, for all parents of one kind.
//!
//! One task a kind owns everything that is known. It takes in what the watches show and what requests are answered,
//! decides for each parent that something was heard of, and sends what there is a place for. So a flood costs one
//! decision, not one each; and nothing is locked, because nothing is shared.
//!
//! - [`WorkQueue`]: which parents to decide on, and when;
//! - [`Lanes`]: what waits to be sent, with places for each namespace and parent;
//! - [`Plugin`]: what is decided about: locks, or what is waited for. The engine knows none of them;
//! - [`Engine`]: these three as a state machine: over what was seen, answers and time, to requests. It can be driven
//!   without a network;
//! - [`run`]: the loop around it.
//!
//! # Why one party cannot stop others
//! A job is one request and keeps its place for that one request ([`Lanes`]). A turn of the loop ends when it has taken
//! long enough, whatever is left is due at once, and other tasks get their turn in between. Parents and namespaces take
//! turns. What cannot be read is told apart and left alone by the plugins.

mod core;
mod driver;
mod lanes;
mod plugin;
#[cfg(test)]
mod tests;
mod work_queue;

/// How many entries are kept of what, by what it is called.
pub type Sizes = Vec<(&'static str, usize)>;

pub use self::{
    core::{Engine, Ticket},
    driver::{Census, Common, Inbox, run},
    lanes::{Lane, Lanes},
    plugin::{Plugin, Turn},
    work_queue::WorkQueue,
};
