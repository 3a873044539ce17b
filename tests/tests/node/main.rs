//! Konductor on a real node: installed with helm, its images run by a kubelet, its semaphores held by Jobs.
//!
//! `tests/node/test` runs these. What they have in common is one cluster with one operator ([`cluster`]); each test has
//! a namespace of its own, and those that disturb what is shared run alone. What ran when is not asked of Konductor:
//! the commands under test write it down themselves, and [`records`] judges.

mod arrivals;
mod chaos;
mod cluster;
mod death;
mod example;
mod failover;
mod install;
mod jobs;
mod leader;
mod pages;
mod people;
mod processes;
mod records;
mod scripts;
mod usecases;
mod workload;
