//! Tables, as the API server makes them of objects: rows of cells under columns that the kind has named.

use serde_json::Value;

/// Blanks between two columns.
const GAP: usize = 3;

/// How to show a table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// Also the columns that are of less interest.
    pub(crate) wide: bool,
    /// Without the names of columns.
    pub(crate) no_headers: bool,
    /// With the namespace of each row.
    pub(crate) namespaces: bool,
}

/// A table that is shown piece by piece, each piece under the same columns.
#[derive(Debug, Default)]
pub(crate) struct Table {
    look: Look,
    /// Which cells of a row are shown.
    shown: Vec<usize>,
    headers: Vec<String>,
    widths: Vec<usize>,
}

impl Table {
    /// A table with the columns that this answer of the API server has.
    pub(crate) fn new(table: &Value, look: Look) -> Self {
        let columns = table["columnDefinitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let shown = columns.iter().enumerate();
        let shown = shown.filter(|(_, column)| look.wide || column["priority"].as_i64().unwrap_or(0) == 0);
        let (shown, mut headers): (Vec<_>, Vec<_>) =
            shown.map(|(at, column)| (at, column["name"].as_str().unwrap_or_default().to_uppercase())).unzip();
        if look.namespaces {
            headers.insert(0, "NAMESPACE".to_owned());
        }
        Self { look, shown, headers, widths: Vec::new() }
    }

    /// The rows of an answer, each with `before` it. The first piece has the headers and decides the widths.
    pub(crate) fn piece(&mut self, table: &Value) -> String {
        let rows = table["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows: Vec<_> = rows.iter().map(|row| self.cells(row)).collect();
        self.lines(rows)
    }

    fn cells(&self, row: &Value) -> Vec<String> {
        let namespace = self.look.namespaces.then(|| text(&row["object"]["metadata"]["namespace"]));
        let cells = self.shown.iter().map(|at| text(&row["cells"][*at]));
        namespace.into_iter().chain(cells).collect()
    }

    fn lines(&mut self, mut rows: Vec<Vec<String>>) -> String {
        if self.widths.is_empty() {
            if !self.look.no_headers && !rows.is_empty() {
                rows.insert(0, self.headers.clone());
            }
            self.widths = widths(&rows);
        }
        rows.iter().map(|row| line(row, &self.widths)).collect()
    }
}

/// Rows as lines, each column as wide as its widest cell.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    (0..columns).map(|column| width(column).unwrap_or_default()).collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (at, cell) in row.iter().enumerate() {
        line.push_str(cell);
        if at + 1 < row.len() {
            let width = widths.get(at).copied().unwrap_or_default();
            let missing = width.saturating_sub(cell.chars().count()) + GAP;
            line.extend(std::iter::repeat_n(' ', missing));
        }
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// A cell as text. What others wrote may hold anything: a line stays a line, and a terminal gets no orders.
fn text(cell: &Value) -> String {
    let text = match cell {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            format!("[{}]", items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    };
    plain(&text)
}

/// A text without anything that a terminal would obey: controls (C0, DEL and C1), and what turns the direction of
/// writing, which shows a text as another one.
pub(crate) fn plain(text: &str) -> String {
    let is_obeyed = |character: char| {
        character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if is_obeyed(character) { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Value {
        json!({
            "columnDefinitions": [
                { "name": "Name", "priority": 0 }, { "name": "In use" }, { "name": "Holders", "priority": 1 },
            ],
            "rows": [
                { "cells": ["a", 3, "x"], "object": { "metadata": { "namespace": "etl" } } },
                { "cells": ["warehouse", null, "evil\u{1b}[2J\n"], "object": { "metadata": { "namespace": "n" } } },
            ],
        })
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut shown = Table::new(&table(), Look::default());
        assert_eq!(shown.piece(&table()), "NAME        IN USE\na           3\nwarehouse   <none>\n");
        let next = json!({ "rows": [{ "cells": ["b", 1, ""] }] });
        assert_eq!(shown.piece(&next), "b           1\n", "what comes later is under the same columns");
    }

    #[test]
    fn more_is_shown_when_asked_for_and_nothing_that_a_terminal_obeys() {
        let look = Look { wide: true, namespaces: true, no_headers: true };
        let shown = Table::new(&table(), look).piece(&table());
        assert_eq!(shown, "etl   a           3        x\nn     warehouse   <none>   evil [2J\n");
    }

    #[test]
    fn nothing_that_is_obeyed_is_left() {
        assert_eq!(plain("a\u{9b}2J\u{7f}b\r\tü"), "a 2J b  ü");
        assert_eq!(plain("\u{202e}gnp\u{202c}.\u{2066}x\u{2069}"), " gnp . x ");
    }

    #[test]
    fn nothing_is_shown_of_nothing() {
        let nothing = json!({ "columnDefinitions": [{ "name": "Name" }], "rows": [] });
        assert_eq!(Table::new(&nothing, Look::default()).piece(&nothing), "");
    }
}
