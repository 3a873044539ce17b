//! Konductor as a whole, in a world that a seed makes: real operators and real clients, an API server in memory, a
//! network that loses, clocks that drift, and people.
//!
//! Nothing of Konductor is a model here: an operator is `konductor_operator`'s own engine, watches and election, a
//! client is the `konductor` library with its backend for Kubernetes, and each talks HTTP to a server behind
//! `tower::Service`. Only that server, the network, the clocks and chance are made. Time is tokio's, which goes on when
//! nothing is left to do; so a minute of the world takes milliseconds, and a seed always tells the same story.
//!
//! - [`server`]: the API server, as a function of requests;
//! - [`plan`]: what a seed makes, as data;
//! - [`world`]: network, clocks, processes and people;
//! - [`observe`]: what must be true at every step; [`claims`] and [`machines`]: of each claim, and what may come of what,
//!   also where somebody watches a real API server; `sizes`: how much may be kept;
//! - [`mutation`]: rules taken out, to see whether that is noticed; [`shrink`]: the shortest history that fails;
//! - [`chance`]: numbers from a seed.

#![forbid(unsafe_code)]

pub mod chance;
pub mod claims;
pub mod machines;
pub mod mutation;
pub mod observe;
pub mod plan;
pub mod server;
pub mod shrink;
mod sizes;
#[cfg(test)]
mod tests;
pub mod world;
