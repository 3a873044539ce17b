//! The operator as a process, with the permissions that the chart gives it, against a real API server. The tests do
//! what clients and kubelets would.

mod admission;
mod barrier;
mod claims;
mod cluster;
mod crowd;
mod death;
mod failover;
mod gate;
mod hostile;
mod leases;
mod news;
mod oncall;
mod rendezvous;
mod surroundings;
