//! The figures as Markdown.

use std::fmt;

use crate::sample::Figure;

/// One line of the table of figures.
#[derive(Debug, Default)]
pub(crate) struct Row {
    what: String,
    found: String,
    beside: String,
    ratio: String,
    goal: String,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), found: found.into(), ..Self::default() }
    }

    /// What stands beside it.
    pub(crate) fn beside(mut self, beside: impl Into<String>) -> Self {
        self.beside = beside.into();
        self
    }

    /// How many times as much it is.
    pub(crate) fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = Figure(ratio).to_string();
        self
    }

    /// What it is meant to be.
    pub(crate) fn goal(mut self, goal: impl Into<String>) -> Self {
        self.goal = goal.into();
        self
    }
}

/// All lines of the table of figures.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        eprintln!("  {}: {} | {} | {}", row.what, row.found, row.beside, row.ratio);
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "| what | Konductor | beside it, in the same run | ratio | goal |")?;
        writeln!(formatter, "|---|---|---|---|---|")?;
        for Row { what, found, beside, ratio, goal } in &self.0 {
            writeln!(formatter, "| {what} | {found} | {beside} | {ratio} | {goal} |")?;
        }
        Ok(())
    }
}
