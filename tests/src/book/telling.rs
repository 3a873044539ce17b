//! All stories of a place, side by side.

use std::path::PathBuf;

use futures::StreamExt;

use crate::book::{Book, Place, Story, Surroundings, play};
use crate::tools::{Binaries, tool, workspace};

/// How many stories are played at a time. Most wait for something.
const AT_ONCE: usize = 4;

/// Part of the path of the pages that are of interest; all are, when it is not set.
const ONLY: &str = "BOOK";

/// Writes into the pages what was printed, instead of failing.
const UPDATE: &str = "UPDATE_DOCS";

/// Plays all stories of a place, each in a cluster and a namespace that `cluster` names, which is told a name for it.
/// Fails with all that was wrong.
pub async fn told(place: Place, cluster: impl AsyncFn(&str) -> Option<(PathBuf, String)>) {
    told_with(place, programs, cluster).await;
}

/// As [`told`], with these programs.
pub async fn told_with(
    place: Place,
    programs: impl FnOnce() -> Vec<(String, PathBuf)>,
    cluster: impl AsyncFn(&str) -> Option<(PathBuf, String)>,
) {
    let update = std::env::var_os(UPDATE).is_some();
    let only = std::env::var(ONLY).unwrap_or_default();
    let book = Book::of(workspace());
    let pages = book.pages.values().filter(|page| page.path.to_string_lossy().contains(&only));
    let stories: Vec<_> = pages.flat_map(Story::of).filter(|story| story.place == place).collect();
    if stories.is_empty() {
        return;
    }
    let (cluster, programs) = (&cluster, &programs());
    let played = stories.iter().map(|story| async move {
        let name = story.page.path.file_stem().and_then(|name| name.to_str()).unwrap_or("page").to_lowercase();
        let surroundings = Surroundings { cluster: cluster(&name).await, programs: programs.clone() };
        let changes = play(story, &surroundings, update).await?;
        if !changes.is_empty() {
            std::fs::write(workspace().join(&story.page.path), story.page.with(&changes)).expect("write a page");
        }
        Ok(())
    });
    let ended: Vec<Result<(), String>> = futures::stream::iter(played).buffer_unordered(AT_ONCE).collect().await;
    let mut wrong: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
    wrong.sort();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

/// What pages call by name.
pub fn programs() -> Vec<(String, PathBuf)> {
    let built = Binaries::built();
    let ours = [
        ("konductor-run", built.run().to_owned()),
        ("koncli", built.koncli().to_owned()),
        ("kubectl-konductor", built.koncli().to_owned()),
        ("helm", tool("helm")),
    ];
    ours.into_iter().map(|(name, path)| (name.to_owned(), path)).collect()
}
