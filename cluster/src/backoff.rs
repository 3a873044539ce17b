//! Waiting between attempts: longer after each failure, and never in step with others that failed at the same time.

use std::time::Duration;

use konductor_api::duration::doubling_pause;

use crate::{process, refusal::RequestError};

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause: how late the operator may notice that the API server is back.
const LONGEST: Duration = Duration::from_secs(5);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    failures: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Backoff {
    /// With pauses up to this length.
    pub fn up_to(longest: Duration) -> Self {
        Self { failures: 0, longest }
    }

    /// Failures since the last success.
    pub fn failures(self) -> u32 {
        self.failures
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// An attempt failed: how long to pause, given a random number.
    pub fn next(&mut self, random: u32) -> Duration {
        let pause = doubling_pause(FIRST, self.failures, self.longest);
        self.failures = self.failures.saturating_add(1);
        jittered(pause, random)
    }

    /// An attempt failed: pauses.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next(random())).await;
    }

    /// An attempt failed like this: pauses, as long as the API server wants to be left alone.
    pub async fn pause_after(&mut self, error: &RequestError) {
        tokio::time::sleep(error.pause(self.next(random()))).await;
    }
}

/// From half of `pause` to all of it.
pub fn jittered(pause: Duration, random: u32) -> Duration {
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// A random number; it spreads load and makes names unlikely to clash, nothing more.
pub fn random() -> u32 {
    // Linux has had the system call since 3.17; without it a constant costs the spreading, not correctness.
    let mut bytes = [0; 4];
    process::fill(&mut bytes).map_or(0, |()| u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX), FIRST);
    }

    #[test]
    fn chance_takes_away_half_at_most() {
        assert_eq!(jittered(Duration::from_secs(2), 0), Duration::from_secs(1));
        assert_eq!(jittered(Duration::from_secs(2), u32::MAX), Duration::from_secs(2));
    }
}
