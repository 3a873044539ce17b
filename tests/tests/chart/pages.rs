//! The pages' stories that begin with an empty cluster.

use konductor_tests::book::{Place, Telling};
use tokio::sync::Mutex;

use crate::cluster::Cluster;

#[tokio::test]
async fn stories_with_an_empty_cluster() {
    // One after the other, as all have the whole cluster. The one before lets go of it when the next one comes.
    let turn = Mutex::new(None);
    let telling = Telling { at_once: 1, ..Telling::all(Place::Helm) };
    let told = telling.told(async |_| {
        let mut turn = turn.lock().await;
        drop(turn.take());
        let cluster = Cluster::alone().await;
        let releases = ["delete", "secrets", "--all-namespaces", "--selector", "owner=helm"];
        cluster.kubectl(&releases).expect("forget the releases of other stories");
        let kubeconfig = cluster.control_plane.admin_kubeconfig().to_owned();
        *turn = Some(cluster);
        Some((kubeconfig, "default".to_owned()))
    });
    told.await;
}
