//! The claim protocol's requests, as requests to the Kubernetes API.
//!
//! Requests and watches of all claims of a [`Client`](crate::Client) share one connection when the server speaks
//! HTTP/2, as API servers do: one TLS handshake from start to release.

mod backend;
mod rendezvous;
mod shape;
mod wire;

pub(crate) use backend::Backend;
pub(crate) use rendezvous::RendezvousBackend;
pub(crate) use wire::{Calling, Spans, Watch};
