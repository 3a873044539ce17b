//! Konductor's way to the API server, for all of its programs.
//!
//! - [`connect`], [`login`], [`link`]: finding the cluster, credentials, and a connection whose resolver works in a
//!   static binary;
//! - [`endpoint`], [`follow`]: requests about the objects of a kind, and following all of them through whatever goes
//!   wrong;
//! - [`object`], `sieve`: reading little of each object, and each on its own, as others may have written anything into
//!   it;
//! - [`backoff`], [`clock`], [`server_time`], [`cause`]: waiting, time, and errors for people;
//! - [`process`]: what a process has of its own, which a simulation has many of;
//! - [`moments`]: when steps were taken, for whoever looks where time goes;
//! - [`apart`]: work that would keep everything else waiting;
//! - [`repeats`]: what is said again and again.

#![forbid(unsafe_code)]

pub mod apart;
pub mod backoff;
pub mod cause;
pub mod clock;
pub mod connect;
pub mod endpoint;
#[cfg(test)]
mod fake;
pub mod follow;
pub mod link;
pub mod login;
pub mod moments;
pub mod object;
pub mod process;
pub mod program;
#[cfg(feature = "proxy")]
mod proxy;
pub mod refusal;
pub mod repeats;
mod resolve;
pub mod server_time;
mod sieve;
mod time;

pub use cause::{causes, chain};
pub use clock::Boottime;
pub use connect::{Choice, ConnectError, Way, find_cluster, kube_client, read_kubeconfig};
pub use endpoint::{Endpoint, Page, PageRequest};
pub use link::{Failure, Line, Link};
pub use login::{Login, LoginError};
pub use program::Program;
pub use refusal::{Refusal, RequestError};
pub use repeats::{Repeated, Repeats};
