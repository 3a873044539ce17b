//! The chart as people meet it: what it renders and refuses, what its files say, and what becomes of a cluster in which
//! it is installed, upgraded, rolled back and removed, by Helm 3 and by Helm 4.

mod cluster;
mod files;
mod helm;
mod life;
mod pages;
mod rendered;
