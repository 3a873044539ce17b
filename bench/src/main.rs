//! The program behind `bench/run`.

#[tokio::main(flavor = "current_thread")]
async fn main() {
    konductor_bench::main().await;
}
