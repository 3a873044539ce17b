//! The pictures of the pages, drawn here and compared with what is committed.
//!
//! `UPDATE_DOCS=1 cargo test --workspace --test book pictures` draws them anew. Those of who ran when are drawn by
//! `tests/node/test` from what has run there.

mod courses;
mod states;

use std::collections::BTreeMap;

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

/// Every colour has two values: one is for the dark.
#[test]
fn each_colour_is_light_and_dark() {
    for (name, svg) in pictures() {
        let (light, dark) = svg.split_once("@media (prefers-color-scheme: dark)").expect("there is a dark one");
        let names = |part: &str| -> Vec<String> {
            let all = part.split("--").skip(1).filter_map(|rest| Some(rest.split_once(": #")?.0.to_owned()));
            all.filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase())).collect()
        };
        let dark = dark.split_once("</style>").map_or(dark, |(style, _)| style);
        assert_eq!(names(light), names(dark), "{name}");
        for by in By::ALL {
            assert!(svg.contains(&format!(".{} {{", by.class())), "{name}: {by:?}");
        }
    }
}
