//! Client library of Konductor: hold permits of a semaphore, or a lease, that lives in a Kubernetes cluster; wait for a
//! barrier or a gate, and arrive at a barrier.
//!
//! This page is a tutorial. It begins without a cluster and ends in a pod. What the words mean, and what is guaranteed,
//! is in the book: [concepts]. If a whole program is to run while something is held, nothing needs to be written at
//! all: [konductor-run] does it around any command.
//!
//! # 1. Hold something
//!
//! A semaphore has so many permits, and whoever wants one waits for its turn. In a folder of this machine that needs no
//! cluster and no daemon, so this example runs as it is:
//!
//! ```
//! use konductor::Client;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! // What one would `kubectl apply`.
//! let warehouse = "
//! apiVersion: konductor.io/v1
//! kind: Semaphore
//! metadata: {name: warehouse}
//! spec: {permits: 3}";
//! std::fs::write(folder.join("warehouse.yaml"), warehouse)?;
//!
//! let client = Client::local(folder);
//! let first = client.semaphore("warehouse").permits(2).acquire().await?;
//! let token = first.fencing_token();
//! println!("holds two permits, with fencing token {token}");
//! first.release().await?;
//!
//! let second = client.semaphore("warehouse").permits(3).holder("the nightly import").priority(10).acquire().await?;
//! assert!(second.fencing_token() > token);
//! second.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`acquire`](Acquiring::acquire) waits however long it takes, and returns a [`Guard`]: it is held until the guard is
//! [released](Guard::release) or dropped. Releasing says how that went; dropping does it in the background.
//!
//! # 2. The same in a cluster
//!
//! Only the client is another one. [`Client::connect`] finds the cluster as kubectl does, and in a pod by its
//! `ServiceAccount`; there it also finds out which pod it is, so that what the pod holds is free as soon as the pod has
//! ended.
//!
//! ```no_run
//! use konductor::{Client, ConnectOptions};
//!
//! # async fn import(fencing_token: u64) {}
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect(ConnectOptions::default()).await?;
//!     let permit = client.semaphore("warehouse").permits(2).acquire().await?;
//!     tokio::select! {
//!         () = import(permit.fencing_token()) => {}
//!         reason = permit.lost() => eprintln!("stopped: {reason}"),
//!     }
//!     permit.release().await?;
//!     Ok(())
//! }
//! ```
//!
//! The semaphore has to be there sometime (a claim on one that does not exist waits), and the pod's `ServiceAccount`
//! needs the `ClusterRole` `konductor-workload`: [rights].
//!
//! # 3. What is held can be lost
//!
//! In a cluster, what is held is held until it is released, lost, or not renewed for its time to live. The library
//! renews it. When renewals do not get through, or somebody asks for it back, the program hears of that by
//! [`Guard::lost`], at its [deadline](Guard::deadline) at the latest, and nobody else is let in before. So run the work
//! beside `lost()`, as above, and end it when that returns: a future that is dropped ends at its next await; a thread,
//! a process or a query of a database has to be ended by the program.
//!
//! Work that cannot be ended at once should pass [`Guard::fencing_token`] to storage that refuses older ones: [fencing
//! tokens].
//!
//! The tasks that renew run on the program's own tokio runtime. One that is blocked for long (by computing without an
//! await, on the only thread) renews too late and loses what it holds: use `spawn_blocking`, or a runtime of several
//! threads.
//!
//! # 4. Wait no longer than that
//!
//! Dropping the future of `acquire` withdraws, so a timeout is tokio's own:
//!
//! ```no_run
//! # async fn unless_busy(client: konductor::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let wait = std::time::Duration::from_secs(30);
//! match tokio::time::timeout(wait, client.lease("nightly").acquire()).await {
//!     Ok(lease) => lease?.release().await?,
//!     Err(_) => println!("still held by the last run: not today"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # 5. One holder: a lease
//!
//! A lease has one holder at a time, as for a leader among replicas. A short time to live lets another take over soon
//! after a node was lost; it is also how long an outage of the API server this leader survives.
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
//! # 6. Stages: barriers and gates
//!
//! A barrier opens when enough have arrived, a gate while other things are as wanted. Both are waited for without being
//! held, and nothing has to be given back:
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
//! # 7. What goes wrong
//!
//! Whatever may be over in a moment is tried again: an API server that does not answer, a quota that is used up. An
//! error is what a person has to see to, and says what to do: [`AcquireError::Refused`] names the right that is
//! missing, [`AcquireError::Revoked`] why somebody did not want it to be held. [`Exit`] has the [exit codes] of the
//! command lines, for programs that want to end with the same ones. What is tried again is logged with `tracing`.
//!
//! # Where to go from here
//!
//! - [`Client`] and [`Guard`] are all that most programs need;
//! - [`run`] is the same as a stream of events, for supervisors;
//! - [`local`] is the same between the processes of one machine, without a cluster;
//! - [`rendezvous`] is waiting and arriving as a stream of events;
//! - [`exit`], [`identity`] and [`name`] are what command lines have in common: exit codes, who asks, and what can be a
//!   name;
//! - [`protocol`] says how it works and why it is right.
//!
//! In the book: [semaphore], [lease], [barrier] and [gate], with every field; [when something is free again];
//! [security].
//!
//! [concepts]: https://github.com/konductor-io/konductor/blob/main/docs/introduction/concepts.md
//! [konductor-run]: https://github.com/konductor-io/konductor/blob/main/docs/konductor-run.md
//! [rights]: https://github.com/konductor-io/konductor/blob/main/docs/guides/installation.md#rights
//! [fencing tokens]: https://github.com/konductor-io/konductor/blob/main/docs/introduction/concepts.md#fencing-tokens
//! [exit codes]: https://github.com/konductor-io/konductor/blob/main/docs/exit-codes.md
//! [semaphore]: https://github.com/konductor-io/konductor/blob/main/docs/api/semaphore.md
//! [lease]: https://github.com/konductor-io/konductor/blob/main/docs/api/lease.md
//! [barrier]: https://github.com/konductor-io/konductor/blob/main/docs/api/barrier.md
//! [gate]: https://github.com/konductor-io/konductor/blob/main/docs/api/gate.md
//! [when something is free again]: https://github.com/konductor-io/konductor/blob/main/docs/cluster.md#when-something-is-free-again
//! [security]: https://github.com/konductor-io/konductor/blob/main/docs/security.md

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
pub use connect::{Choice, Client, ConnectError, ConnectOptions, Login, Program};
pub use exit::Exit;
pub use guard::{Acquiring, Guard, ReleaseError};
pub use konductor_api::{LockKind, PodReference, RendezvousKind, arbiter::WAITS_FOR};
pub use konductor_cluster::{Boottime, clock};
#[doc(hidden)]
pub use konductor_cluster::{Repeats, apart::on_thread_start, chain, login::on_login, moments};
pub use kube::Config;
pub use local::Local;
pub use rendezvous::{BarrierHandle, GateHandle, RendezvousError};
pub use run::{claim_of_holder, instance_of_holder, is_of_holder, run, run_for_holder};
