//! Konductor's operator: a driver around [`konductor_api::arbiter`].
//!
//! - [`arbiter`]: watches, decides, writes; one engine per kind of parent;
//! - [`election`]: who leads, for liveness only;
//! - [`reflect`], [`lenient`]: lists and watches that outlive whatever goes wrong;
//! - [`pods`]: proof of death;
//! - [`events`], [`metrics`], [`http`]: what can be seen from outside;
//! - [`config`], [`clock`], [`backoff`]: the surroundings.

#![forbid(unsafe_code)]

pub mod arbiter;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod election;
pub mod events;
pub mod http;
pub mod lenient;
pub mod metrics;
pub mod pods;
pub mod reflect;
mod run;

pub use run::main;

/// An error with its causes, each said once.
fn chain(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    konductor::chain(error)
}
