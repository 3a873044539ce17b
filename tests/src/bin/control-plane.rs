//! A control plane to try things on: prints its kubeconfig's path and runs until it is killed.
//!
//!     cargo run -p konductor-tests --bin control-plane

use konductor_tests::ControlPlane;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let control_plane = ControlPlane::start().await;
    println!("export KUBECONFIG={}", control_plane.admin_kubeconfig().display());
    std::future::pending::<()>().await;
}
