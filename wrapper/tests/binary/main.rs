//! The real binary, without a cluster: what it is as an init, and every way to fail before anything is held.

mod cluster;
mod exits;
mod harness;
mod init;
mod pid1;
mod usage;
