//! Arbiter.
