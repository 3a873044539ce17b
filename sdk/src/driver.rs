//! What the drivers of the protocols share.

use konductor_cluster::process;

use crate::{
    kubernetes::Calling,
    protocol::{Draw, Failure},
};

/// A request that may be under way.
pub(crate) struct InFlight<T>(Option<Calling<T>>);

impl<T> InFlight<T> {
    /// No request.
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// This request.
    pub(crate) fn with(request: Calling<T>) -> Self {
        Self(Some(request))
    }

    /// The request's answer, once; never, when there is none.
    pub(crate) async fn answer(&mut self) -> Result<T, Failure> {
        let Some(request) = &mut self.0 else { return std::future::pending().await };
        let answer = request.await;
        self.0 = None;
        answer
    }
}

/// What one step may use of chance.
pub(crate) fn draw() -> std::io::Result<Draw> {
    let mut bytes = [0; 20];
    process::fill(&mut bytes)?;
    let (id, jitter) = bytes.split_at(16);
    let both = id.try_into().map(u128::from_le_bytes).ok().zip(jitter.try_into().map(u32::from_le_bytes).ok());
    let (id, jitter) = both.expect("16 and 4 bytes of 20");
    Ok(Draw { id, jitter })
}
