//! Client library of Konductor.

#![forbid(unsafe_code)]

pub mod claim;
pub mod clock;
pub mod connect;
pub mod protocol;

pub use claim::{AcquireError, Command, Event, LossReason, Request};
pub use clock::Boottime;
pub use connect::{Client, ConnectError, ConnectOptions};
pub use konductor_api::PodReference;

use tokio::sync::mpsc::UnboundedReceiver;

/// Acquires and holds one claim until it is released or has failed.
#[expect(clippy::unused_async, reason = "")]
pub async fn run(
    client: Client,
    request: Request,
    mut commands: UnboundedReceiver<Command>,
    mut on_event: impl FnMut(Event),
) {
    let _ = (client, request, commands.recv().await);
    on_event(Event::Released);
}
