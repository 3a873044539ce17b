//! The book, `docs/`, and what is read beside it: every block is run, every link leads somewhere, and what people copy is true.
//!
//! What a page can say about a block is in `tests/src/book/mod.rs`. Pages that need an empty cluster are run by the tests
//! of the chart, those that need a node by `tests/node/test`.

mod examples;
mod listed;
mod pages;
mod pictures;
mod runner;
mod words;
