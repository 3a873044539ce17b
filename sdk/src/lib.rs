//! Client library of Konductor: hold permits of a semaphore, or a lease, that lives in a Kubernetes cluster; wait for a
//! barrier or a gate, and arrive at a barrier.
//!
//! ```no_run
//! use konductor::{Client, ConnectOptions};
//!
//! # async fn reindex(fencing_token: u64) {}
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect(ConnectOptions::default()).await?;
//!     let permit = client.semaphore("warehouse").permits(2).acquire().await?;
//!     tokio::select! {
//!         () = reindex(permit.fencing_token()) => {}
//!         reason = permit.lost() => eprintln!("stopped: {reason}"),
//!     }
//!     permit.release().await?;
//!     Ok(())
//! }
//! ```
//!
//! A lease is held in the same way, and its holder is the only one:
//!
//! ```no_run
//! # async fn lead(client: konductor::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let lease = client.lease("leader").ttl(std::time::Duration::from_secs(15)).acquire().await?;
//! println!("this process leads, with fencing token {}", lease.fencing_token());
//! # lease.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What is held is held until it is released, lost, or not renewed for its time to live. The library renews it; a
//! program whose renewals do not get through hears of it by [`Guard::lost`] at its deadline at the latest, and nobody
//! else is let in before. Work that cannot be stopped at once should pass [`Guard::fencing_token`] to storage that
//! refuses older ones.
//!
//! A barrier opens when enough have arrived, a gate while other things are as wanted. Both are waited for without being
//! held:
//!
//! ```no_run
//! # async fn extract() {}
//! # async fn transform() {}
//! # async fn stages(client: konductor::Client) -> Result<(), Box<dyn std::error::Error>> {
//! client.gate("business-hours").wait().await?;
//! extract().await;
//! // The same key is the same arrival, however often it is made.
//! client.barrier("extracted").key("orders/2026-01-31").arrive().await?;
//! client.barrier("extracted").wait().await?;
//! transform().await;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`] and [`Guard`] are all that most programs need;
//! - [`run`] is the same as a stream of events, for supervisors;
//! - [`local`] is the same between the processes of one machine, without a cluster;
//! - [`rendezvous`] is waiting and arriving as a stream of events;
//! - [`exit`], [`identity`] and [`name`] are what command lines have in common: exit codes, who asks, and what can be a
//!   name;
//! - [`protocol`] says how it works and why it is right.

#![forbid(unsafe_code)]

pub mod claim;
pub mod connect;
mod driver;
pub mod exit;
pub mod guard;
pub mod identity;
mod kubernetes;
pub mod local;
pub mod name;
pub mod protocol;
pub mod rendezvous;
mod run;

pub use claim::{AcquireError, Command, Event, LockSeen, LossReason, Request, Wanted};
pub use connect::{Choice, Client, ConnectError, ConnectOptions, Program};
pub use exit::Exit;
pub use guard::{Acquiring, Guard, ReleaseError};
pub use konductor_api::{LockKind, PodReference, RendezvousKind, arbiter::WAITS_FOR};
pub use konductor_cluster::{Boottime, clock};
#[doc(hidden)]
pub use konductor_cluster::{Repeats, apart::on_thread_start, chain, moments};
pub use kube::Config;
pub use local::Local;
pub use rendezvous::{BarrierHandle, GateHandle, RendezvousError};
pub use run::{claim_of_holder, instance_of_holder, is_of_holder, run, run_for_holder};
