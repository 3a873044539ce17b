//! `koncli why` and `koncli top`, and the line that tells of waiting, as the program that people run, against a real API server with a real operator: what
//! they say, with which permissions, and what is left of a terminal after every kind of end.

mod progress;
mod scene;
mod terminal;
mod top;
mod why;
