//! The book: pages of which every block is run, every link leads somewhere, and every word is in the list.
//!
//! A page is Markdown that reads well wherever it is shown, so what the tests need to know about a block stands in a
//! comment on the line before its fence, which no rendering shows:
//!
//! | comment | the block |
//! |---|---|
//! | `run: PLACE` | is run by `bash -eu` in the page's own folder, and ends with 0 |
//! | `run: PLACE; fails: CODE` | ends with this code |
//! | `run: PLACE; until` | is run again until it ends and prints as shown: what is printed follows a little later |
//! | `run: PLACE; background` | runs on until the page ends; an output after it is waited for |
//! | `run: PLACE; with: JOB=import` | is run with `import` for `JOB`, which stands for the reader's own |
//! | `output` | is what the block before it prints |
//! | `output; any order` | is what it prints, in whatever order the lines come |
//! | `file: NAME` | is written to this file of the page's folder |
//! | `apply: PLACE` | is applied with kubectl |
//! | `dry: PLACE` | is accepted by the API server, and not kept |
//! | `check: LANGUAGE` | is parsed (see [`check`]); SQL is run by a database server of `PostgreSQL`, which `psql` in blocks reaches, too |
//! | `check: LANGUAGE; needs internet` | is parsed; all of it takes something from the Internet |
//! | `not run: REASON` | is not run, for a reason that is true; one that begins with `needs internet`, for that |
//!
//! A comment of several lines, the first of which says `run: PLACE`, is run and seen by nobody: the scene that a reader
//! has before their eyes. No test has the Internet; what is not run, and what takes something from there, is listed in
//! `docs/not-run.md`, which is written by `UPDATE_DOCS=1 cargo test --workspace --test book listed`.
//!
//! The places: `local` has no cluster; `api` is a real API server with Konductor's resources, roles and policies and an
//! operator that runs, where nothing runs pods; `helm` is one without Konductor, and has the chart in `charts/konductor`;
//! `node` is a real node. The blocks of a page are one [story](Story) in each place that it has a cluster in: those of
//! the place and all files, and in the first place those that are `local`, too. Variables, functions and the folder go from block
//! to block, as in a terminal; the context's namespace is the page's own, and reads `default` in what is printed. What a
//! story finds in its folder is copies of `examples` and `charts`, as in a checkout.
//!
//! An output is [compared](likeness) line by line: `...` alone on a line stands for any lines, within a line for any
//! text; widths of columns, ages, times, generated names and numbers of many digits may be others.
//!
//! `BOOK=quick-start cargo test --workspace --test book pages` runs the pages with that in their path, and with
//! `UPDATE_DOCS=1` writes what blocks have printed where the page shows something else.

pub mod check;
pub mod drawing;
pub mod likeness;
mod links;
mod marker;
mod page;
pub mod runs;
mod shell;
mod story;
mod telling;

pub use links::{Book, anchor};
pub use marker::{Marker, Place};
pub use page::{Block, Link, Page};
pub use shell::{Surroundings, play};
pub use story::Story;
pub use telling::Telling;
