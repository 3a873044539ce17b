//! `koncli` against a real API server and a real operator: what it prints, to the letter (ages are shown as AGE), how it
//! ends, and what it changes.

mod codes;
mod commands;
mod connect;
mod crowd;
mod errors;
mod holders;
mod login;
mod operator;
mod rights;
mod scene;
mod waits;
