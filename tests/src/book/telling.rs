//! All stories of a place, side by side.

use std::path::{Path, PathBuf};

use futures::StreamExt;

use crate::book::{Book, Place, Story, Surroundings, play};
use crate::tools::{Binaries, tool, workspace};

/// Part of the path of the pages that are of interest; all are, when it is not set.
const ONLY: &str = "BOOK";

/// Writes into the pages what was printed, instead of failing.
const UPDATE: &str = "UPDATE_DOCS";

/// Which stories are told, and how.
#[derive(Clone, Copy, Debug)]
pub struct Telling {
    /// Those of this place.
    pub place: Place,
    /// Those of the pages for which this holds.
    pub of: fn(&Path) -> bool,
    /// So many at a time. Most wait for something.
    pub at_once: usize,
    /// What the pages call by name.
    pub programs: fn() -> Vec<(String, PathBuf)>,
}

impl Telling {
    /// All of a place, with the programs that are built for tests.
    pub fn all(place: Place) -> Self {
        Self { place, of: |_| true, at_once: 4, programs }
    }

    /// Plays them, each with the kubeconfig and namespace that `cluster` has for it, which is told a name that can be a
    /// namespace's. Fails with all that was wrong, after all have ended.
    pub async fn told(self, cluster: impl AsyncFn(&str) -> Option<(PathBuf, String)>) {
        let update = std::env::var_os(UPDATE).is_some();
        let only = std::env::var(ONLY).unwrap_or_default();
        let book = Book::of(workspace());
        let is_wanted = |path: &Path| path.to_string_lossy().contains(&only) && (self.of)(path);
        let pages = book.pages.values().filter(|page| is_wanted(&page.path));
        let stories: Vec<_> = pages.flat_map(Story::of).filter(|story| story.place == self.place).collect();
        if stories.is_empty() {
            return;
        }
        let (cluster, programs) = (&cluster, &(self.programs)());
        let played = stories.iter().map(|story| async move {
            let name = story.page.path.file_stem().and_then(|name| name.to_str()).expect("a page's name is UTF-8");
            let cluster = cluster(&name.to_lowercase()).await;
            let surroundings = Surroundings { cluster, programs: programs.clone() };
            let changes = play(story, &surroundings, update).await?;
            if !changes.is_empty() {
                std::fs::write(workspace().join(&story.page.path), story.page.with(&changes)).expect("write a page");
            }
            Ok(())
        });
        let ended: Vec<Result<(), String>> =
            futures::stream::iter(played).buffer_unordered(self.at_once).collect().await;
        let mut wrong: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
        wrong.sort();
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
    }
}

fn programs() -> Vec<(String, PathBuf)> {
    let built = Binaries::built();
    let ours =
        [("konductor-run", built.run().to_owned()), ("koncli", built.koncli().to_owned()), ("helm", tool("helm"))];
    ours.into_iter().map(|(name, path)| (name.to_owned(), path)).collect()
}
