//! The real binary, without a cluster: what it is as an init, and every way to fail before anything is held.

mod actors;
mod behaviours;
mod cluster;
mod context;
mod copy;
mod exits;
mod harness;
mod init;
mod jobs;
mod local;
mod log;
mod pid1;
mod refused;
mod signals;
mod start;
mod terminal;
mod tree;
mod unseen;
mod usage;
