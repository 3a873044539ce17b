//! The operator and `konductor-run` together, both as the programs that people run, against a real API server: under
//! contention, and while the API server, operators and holders are frozen, killed and brought back.
//!
//! What is asserted comes from the commands themselves: each writes down when it is alive, and an independent check
//! looks for moments with more of them than there are permits ([`record`]).

mod api_server;
mod contention;
mod endings;
mod everything;
mod faults;
mod holders;
mod init;
mod leases;
mod network;
mod operators;
mod record;
mod rendezvous;
mod scene;
mod several;
mod stages;
mod stress;
mod told;
mod upgrade;
mod versions;
mod watchdog;
