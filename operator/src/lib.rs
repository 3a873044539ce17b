//! Konductor's operator: a driver around [`konductor_api::arbiter`] and [`konductor_api::rendezvous`].
//!
//! - [`engine`]: observes, decides and acts, for all parents of one kind; knows no kind;
//! - [`lock`]: what is held; `waitable`: what is waited for, of which `barrier`s and `gate`s are kinds;
//! - [`key`]: the names of parents; `watching`: following objects;
//! - [`election`]: who leads, for liveness only;
//! - `accounts`: what becomes of writes; `faults`: what cannot be read; [`crowd`]: what is not kept, as it is too much;
//! - [`pods`]: proof of death;
//! - [`events`], `claimants`, [`metrics`], [`health`], [`http`]: what can be seen from outside;
//! - [`log`]: what is logged, and how often;
//! - [`config`], [`clock`]: the surroundings.

#![forbid(unsafe_code)]

mod accounts;
mod barrier;
mod claimants;
pub mod clock;
pub mod config;
pub mod crowd;
pub mod election;
pub mod engine;
pub mod events;
mod faults;
mod gate;
pub mod health;
pub mod http;
pub mod key;
pub mod lock;
pub mod log;
pub mod metrics;
pub mod pods;
mod run;
mod tasks;
mod waitable;
mod watching;

pub use run::{Operator, main};
