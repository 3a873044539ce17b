//! Konductor's operator: a driver around [`konductor_api::arbiter`] and [`konductor_api::rendezvous`].
//!
//! - [`arbiter`]: watches, decides, writes; one engine per kind of parent;
//! - [`rendezvous`]: the same for what is waited for; what is special about `barrier`s and `gate`s;
//! - [`election`]: who leads, for liveness only;
//! - [`faults`]: what cannot be read;
//! - [`pods`]: proof of death;
//! - [`events`], [`metrics`], [`health`], [`http`]: what can be seen from outside;
//! - [`config`], [`clock`]: the surroundings.

#![forbid(unsafe_code)]

pub mod arbiter;
mod barrier;
pub mod clock;
pub mod config;
pub mod election;
pub mod events;
pub mod faults;
mod gate;
pub mod health;
pub mod http;
pub mod metrics;
pub mod pods;
pub mod rendezvous;
mod run;
mod tasks;

pub use run::main;
