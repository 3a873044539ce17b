//! What one sees on call: metrics as a real Prometheus has them, alerts, and the dashboard. They need Debian's package
//! `prometheus`, or `prometheus` and `promtool` of one's own in the path.

mod dashboard;
mod night;
mod picture;
mod prometheus;
mod rules;
mod scraped;
