//! The pages as such, and the stories that need no node.

use konductor_tests::book::{Book, Page, Place, Telling};
use konductor_tests::{ControlPlane, Installed, Process, workspace};
use tokio::sync::OnceCell;

#[test]
fn each_block_says_what_becomes_of_it() {
    let book = Book::of(workspace());
    let wrong: Vec<_> = book.pages.values().flat_map(Page::mistakes).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn links_lead_somewhere_and_the_summary_lists_all_pages() {
    let book = Book::of(workspace());
    let wrong = book.mistakes();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // Where pages lead to outside is for people to look at: no test asks the Internet.
    println!("outside:");
    for address in book.outside() {
        println!("    {address}");
    }
}

#[tokio::test]
async fn stories_without_a_cluster() {
    Telling::all(Place::Local).told(async |_| None).await;
}

#[tokio::test]
async fn stories_with_an_api_server() {
    let told = Telling::all(Place::Api).told(async |name| {
        let control_plane = ControlPlane::shared().await;
        operator().await;
        let namespace = control_plane.namespace(name).await;
        Some((namespace.user_kubeconfig("ann", Some("system:masters")), namespace.name))
    });
    told.await;
}

/// The operator that all pages share.
async fn operator() -> &'static (Installed, Process) {
    static SHARED: OnceCell<(Installed, Process)> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let installed = Installed::on(ControlPlane::shared().await, true).await;
            let operator = installed.operator_alone("shared", std::time::Duration::from_mins(2)).await;
            (installed, operator)
        })
        .await
}
