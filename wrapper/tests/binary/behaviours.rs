//! docs/behaviours.md says which test shows which behaviour. This shows that they exist.

use std::{fs, path::Path};

/// What is between backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a file of tests has this one.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.contains(&format!("fn {name}(")));
    let above = at.map(|at| &lines[..at]).unwrap_or_default();
    above.iter().rev().take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"))
}

#[test]
fn every_behaviour_has_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above");
    let page = fs::read_to_string(root.join("docs/behaviours.md")).expect("the page is there");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")).collect();
    assert_eq!(rows.len(), 20, "one row for each behaviour");
    for (number, row) in (1..).zip(rows) {
        assert!(row.starts_with(&format!("| {number} |")), "wanted behaviour {number}, found {row}");
        let mut tests = 0;
        for reference in quoted(row) {
            let (file, name) = reference.split_once('#').unwrap_or((reference, ""));
            let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{reference}: {error}"));
            let found = if name.is_empty() { !text.is_empty() } else { has_test(&text, name) };
            assert!(found, "there is no test {reference}");
            tests += 1;
        }
        assert!(tests > 0, "nothing shows behaviour {number}");
    }
}
