//! The pictures of the pages, drawn here and compared with what is committed.
//!
//! `UPDATE_DOCS=1 cargo test --workspace --test book pictures` draws them anew. Those of who ran when are drawn by
//! `tests/node/test` from what has run there.

mod courses;
mod states;

use std::collections::BTreeMap;
use std::path::PathBuf;

use konductor_tests::book::Book;
use konductor_tests::book::drawing::By;
use konductor_tests::workspace;

/// Where they are.
const FOLDER: &str = "docs/pictures";

fn pictures() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("semaphore.svg", states::semaphore()),
        ("lease.svg", states::lease()),
        ("barrier.svg", states::barrier()),
        ("gate.svg", states::gate()),
        ("claim-protocol.svg", courses::claim_protocol()),
        ("lost-node.svg", courses::lost_node()),
    ])
}

#[test]
fn pictures_are_as_they_are_drawn() {
    for (name, svg) in pictures() {
        let path = workspace().join(FOLDER).join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &svg).expect("write a picture");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == svg,
            "{} is another one: UPDATE_DOCS=1 cargo test --workspace --test book pictures",
            path.display()
        );
    }
}

/// A picture that no page shows is in nobody's way, and nobody's.
#[test]
fn each_picture_is_shown() {
    let book = Book::of(workspace());
    let shown: Vec<_> = book.pages.values().flat_map(|page| &page.links).map(|link| link.to.as_str()).collect();
    for entry in std::fs::read_dir(workspace().join(FOLDER)).expect("list the pictures") {
        let name = entry.expect("list the pictures").file_name().into_string().expect("UTF-8");
        assert!(shown.iter().any(|to| to.ends_with(&format!("pictures/{name}"))), "no page shows {name}");
    }
}

/// Every colour has two values: one is for the dark. And who does not see a picture is told what it shows.
#[test]
fn each_picture_is_light_and_dark_and_has_words() {
    let book = Book::of(workspace());
    let svg =
        |path: &&PathBuf| path.starts_with("docs") && path.extension().is_some_and(|extension| extension == "svg");
    let mut found = 0;
    // The icon is one thing on one ground.
    for path in book.others.iter().filter(svg).filter(|path| !path.ends_with("icon.svg")) {
        let picture = std::fs::read_to_string(workspace().join(path)).expect("read a picture");
        let wrong = mistake(&picture);
        assert_eq!(wrong, None, "{}", path.display());
        found += 1;
    }
    assert!(found >= pictures().len() + 2, "there are pictures of states, runs and screens");
}

/// What is wrong with how a picture looks.
fn mistake(picture: &str) -> Option<String> {
    let Some((style, body)) = picture.split_once("</style>") else { return Some("it has no style".to_owned()) };
    let Some((light, dark)) = style.split_once("@media (prefers-color-scheme: dark)") else {
        return Some("there is no dark one".to_owned());
    };
    let names = |part: &str| -> Vec<String> {
        let all = part.split("--").skip(1).filter_map(|rest| Some(rest.split_once(": #")?.0.to_owned()));
        all.filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase())).collect()
    };
    let words = |tag: &str| {
        style.split_once(tag).is_some_and(|(_, rest)| rest.find('<') > Some(rest.find('>').unwrap_or(0) + 10))
    };
    if names(light).is_empty() || names(light) != names(dark) {
        Some(format!("it is light with {:?}, and dark with {:?}", names(light), names(dark)))
    } else if body.contains("=\"#") {
        Some("a colour is the same on paper and in the dark".to_owned())
    } else if !picture.contains("role=\"img\"") || !words("<title") {
        Some("nothing says what it shows".to_owned())
    } else {
        None
    }
}

#[test]
fn a_picture_of_one_colour_or_without_words_is_found() {
    let picture = pictures().remove("gate.svg").expect("it is there");
    assert_eq!(mistake(&picture), None);
    for (from, to, complaint) in [
        ("@media (prefers-color-scheme: dark)", "@media print", "no dark one"),
        ("--faint: #9aa4af", "", "it is light with"),
        ("</style>", "</style><rect fill=\"#fff\"/>", "the same on paper"),
        ("role=\"img\"", "", "nothing says"),
        ("<title", "<text", "nothing says"),
    ] {
        let found = mistake(&picture.replacen(from, to, 1)).expect(from);
        assert!(found.contains(complaint), "{from}: {found}");
    }
}

#[test]
fn each_doer_has_a_colour() {
    for (name, svg) in pictures() {
        for by in By::ALL {
            assert!(svg.contains(&format!(".{} {{", by.class())), "{name}: {by:?}");
        }
    }
}
