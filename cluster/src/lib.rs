//! Konductor's way to the API server, for all of its programs.
//!
//! - [`connect`], [`link`]: finding the cluster, and a connection whose resolver works in a static binary;
//! - [`watch`]: following all objects of a kind, through whatever goes wrong;
//! - [`lenient`], [`partial`](crate::partial!): reading little of each object, and each on its own, as others may have written anything into it;
//! - [`backoff`], [`clock`], [`cause`]: waiting, time, and errors for people.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod cause;
pub mod clock;
pub mod connect;
pub mod lenient;
pub mod link;
mod partial;
mod resolve;
pub mod watch;

pub use cause::{chain, explain};
pub use clock::Boottime;
pub use connect::{ConnectError, find_cluster, kube_client};
pub use lenient::{Lenient, Misfit, Object};
pub use link::{Failure, Line, Link};
