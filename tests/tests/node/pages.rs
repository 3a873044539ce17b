//! The pages' stories on the node.

use std::path::{Path, PathBuf};

use konductor_tests::book::{Place, Telling};
use konductor_tests::tool;
use tokio::sync::Mutex;

use crate::cluster::Scene;

/// The pages of the examples, whose stories the [use cases](crate::usecases) and [one example](crate::example) look at.
const EXAMPLES: [&str; 2] = ["docs/examples", "examples"];

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn stories_on_a_node() {
    // Namespaces stay until all stories have been told.
    let scenes = Mutex::new(Vec::new());
    let telling =
        Telling { of: |page| !EXAMPLES.iter().any(|folder| page.starts_with(folder)), at_once: 2, ..on_the_node() };
    let told = telling.told(async |name| {
        let scene = Scene::new(name).await;
        let cluster = scene.kubeconfig();
        scenes.lock().await.push(scene);
        Some(cluster)
    });
    told.await;
}

/// What pages do on the node, with the programs that images have.
pub(crate) fn on_the_node() -> Telling {
    Telling { programs, ..Telling::all(Place::Node) }
}

fn programs() -> Vec<(String, PathBuf)> {
    let koncli = std::env::var_os("KONCLI").expect("KONCLI names the static koncli; run: tests/node/test");
    let koncli = Path::new(&koncli);
    let ours = [
        ("koncli", koncli.to_owned()),
        ("konductor-run", koncli.with_file_name("konductor-run")),
        ("helm", tool("helm")),
    ];
    ours.into_iter().map(|(name, path)| (name.to_owned(), path)).collect()
}
