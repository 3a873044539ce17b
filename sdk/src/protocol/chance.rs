//! Chance as an argument: each step of the machine is given one draw.

use std::time::Duration;

use super::limits::FIRST_PAUSE;

/// What one step may use of chance. The driver draws it anew for each step.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// 128 random bits, for an id that nobody else has.
    pub id: u128,
    /// Random, all values equally likely: a part of `u32::MAX`.
    pub jitter: u32,
}

impl Draw {
    /// Between half and all of `span`, so that many clients do not act as one.
    pub fn spread(self, span: Duration) -> Duration {
        span / 2 + self.part(span / 2)
    }

    /// When to renew after a renewal: between nine tenths of and a full third of the TTL.
    pub fn renewal(self, ttl: Duration) -> Duration {
        let third = ttl / 3;
        third.saturating_sub(self.part(third / 10))
    }

    /// How long to pause after so many failures in a row: doubling up to `most`.
    pub fn pause(self, failures: u32, most: Duration) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
        self.spread(doubled.min(most))
    }

    fn part(self, span: Duration) -> Duration {
        let nanos = span.as_nanos() * u128::from(self.jitter) / u128::from(u32::MAX);
        Duration::from_nanos(nanos as u64)
    }
}
