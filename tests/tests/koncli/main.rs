//! `koncli` against a real API server and a real operator: what it prints, to the letter (ages are shown as AGE), how it
//! ends, and what it changes.

mod codes;
mod commands;
mod connect;
mod crowd;
mod dry;
mod errors;
mod folder;
mod golden;
mod holders;
mod login;
mod old;
mod operator;
mod rights;
mod scene;
mod shells;
mod signals;
mod stand_in;
mod waits;
