//! Holds one permit of the semaphore that is named on the command line, until Enter is pressed or the permit is lost.
//!
//! `cargo run -p konductor --example hold -- warehouse`

use std::error::Error;

use konductor::{Client, ConnectOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("which semaphore? usage: hold NAME")?;
    let client = Client::connect(ConnectOptions::default()).await?;
    eprintln!("waiting for {name} in namespace {}", client.namespace());
    let permit = client.semaphore(name).acquire().await?;
    eprintln!("held with fencing token {}; press Enter to release", permit.fencing_token());
    let enter = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    tokio::select! {
        read = enter => {
            read??;
            permit.release().await?;
        }
        reason = permit.lost() => {
            eprintln!("lost: {reason}");
            // The thread that reads the terminal cannot be stopped, and would keep the runtime.
            permit.release().await?;
            std::process::exit(79);
        }
    }
    Ok(())
}
