//! What of the pages is not run, and what takes something from the Internet: each says so, and one page lists all.

use std::fmt::Write as _;

use konductor_tests::book::{Block, Book, Marker, Page};
use konductor_tests::workspace;

/// The page that lists them.
const LIST: &str = "docs/not-run.md";

const HEAD: &str = "# What is not run

Every command and manifest of these pages is run by the tests, and what it prints is compared with what is shown: without a
cluster, against a real API server, against an empty one, or on a real node. What cannot be, stands here, all of it: this page is
made from the others, and a test fails if it is out of date. How a page says what becomes of a block is in
[ARCHITECTURE.md](../ARCHITECTURE.md#where-to-change-what).

";

const OFFLINE: &str = "## Needs internet

The tests of the pages take nothing from there. What does (images of others, packages, sources) is parsed where something can parse it;
what other tests do with it is said.

";

const OTHERWISE: &str = "
## For another reason

";

/// What takes something from the Internet, unless it was taken before.
const FETCHES: [&str; 20] = [
    "FROM ",
    "apk add",
    "apt-get ",
    "bench/run",
    "cargo build",
    "cargo install",
    "cargo test",
    "curl -",
    "curl http",
    "docker pull",
    "examples/demo",
    "from airflow",
    "from dagster",
    "from prefect",
    "git clone",
    "helm repo",
    "images/build",
    "kind create",
    "sim/run",
    "uses: ",
];

/// What of it takes something from the Internet.
fn fetches(text: &str) -> Option<&'static str> {
    // In SQL, a line goes on with FROM.
    let is_there = |what: &&str| match *what {
        "FROM " => text.lines().any(|line| line.starts_with(what)),
        _ => text.contains(what),
    };
    FETCHES.into_iter().find(is_there)
}

/// What is wrong with how a block speaks of the Internet.
fn mistake(block: &Block) -> Option<String> {
    let marker = block.marker.as_ref().ok()?;
    match (fetches(&block.text), marker) {
        (_, Marker::Output { .. } | Marker::File(_)) => None,
        (Some(what), Marker::Check { .. } | Marker::NotRun(_)) if !marker.needs_internet() => {
            Some(format!("{what:?} needs internet, and its marker does not say so"))
        }
        (Some(what), Marker::Run { .. } | Marker::Apply(_) | Marker::Dry(_)) => {
            Some(format!("{what:?} needs internet, which no test has"))
        }
        (None, _) if marker.needs_internet() => Some("nothing is known here of what needs internet".to_owned()),
        _ => None,
    }
}

/// A block as a row of the list.
fn row(page: &Page, block: &Block, what: &str) -> String {
    let path = page
        .path
        .strip_prefix("docs")
        .map_or_else(|_| format!("../{}", page.path.display()), |path| path.display().to_string());
    let first = block.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String =
        if first.chars().count() > 60 { first.chars().take(57).chain("...".chars()).collect() } else { first };
    let title = page.title.as_deref().unwrap_or_default();
    format!("| [{title}]({path}#{}) | `{}` | {what} |\n", page.section(block.line), shown.replace('|', "\\|"))
}

fn list(book: &Book) -> String {
    const TABLE: &str = "| page | begins with | what becomes of it |\n|---|---|---|\n";
    let (mut offline, mut otherwise) = (String::new(), String::new());
    for page in book.pages.values() {
        for block in &page.blocks {
            match &block.marker {
                Ok(Marker::Check { language, needs_internet: true }) => {
                    offline += &row(page, block, &format!("it is parsed, as {language}"));
                }
                Ok(marker @ Marker::NotRun(reason)) if marker.needs_internet() => {
                    offline += &row(page, block, &format!("not run: {reason}"));
                }
                Ok(Marker::NotRun(reason)) => otherwise += &row(page, block, &format!("not run: {reason}")),
                _ => {}
            }
        }
    }
    format!("{HEAD}{OFFLINE}{TABLE}{offline}{OTHERWISE}{TABLE}{otherwise}")
}

#[test]
fn what_needs_internet_says_so() {
    let book = Book::of(workspace());
    let mut wrong = String::new();
    for page in book.pages.values() {
        for block in &page.blocks {
            if let Some(mistake) = mistake(block) {
                writeln!(wrong, "{}", page.at(block.line, &mistake)).expect("write to a string");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_is_not_run_is_listed() {
    let found = list(&Book::of(workspace()));
    let path = workspace().join(LIST);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &found).expect("write the list");
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(shown == found, "{LIST} is out of date: UPDATE_DOCS=1 cargo test --workspace --test book listed\n{found}");
}

#[test]
fn a_block_that_hides_what_it_takes_from_the_internet_is_found() {
    for (marker, text, complaint) in [
        ("not run: needs internet", "git clone x", None),
        ("not run: the names are yours", "git clone x", Some("does not say so")),
        ("not run: needs internet", "echo", Some("nothing is known")),
        ("check: dockerfile", "FROM debian", Some("does not say so")),
        ("check: dockerfile; needs internet", "FROM debian", None),
        ("run: local", "curl https://example.com", Some("which no test has")),
        ("run: local", "echo one", None),
        ("run: local", "psql -c 'SELECT a FROM t'", None),
        ("file: x", "FROM debian", None),
    ] {
        let page = Page::parse("docs/a.md".as_ref(), &format!("# A\n<!-- {marker} -->\n```\n{text}\n```\n"));
        let found = mistake(&page.blocks[0]);
        assert_eq!(found.is_some(), complaint.is_some(), "{marker}: {text}: {found:?}");
        assert!(
            complaint.is_none_or(|complaint| found.is_some_and(|found| found.contains(complaint))),
            "{marker}: {text}"
        );
    }
}
