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

use std::error::Error;

pub use run::main;

/// An error with its causes, each said once.
fn chain(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
