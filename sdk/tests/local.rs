//! The library without a cluster: several clients of one folder, in one process and beside others.

use std::{fs, process::Stdio, time::Duration};

use konductor::{AcquireError, Boottime, Client, Guard};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn folder(permits: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {{name: s}}\nspec: {{permits: {permits}}}\n---\n\
         apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {{name: l}}\n"
    );
    fs::write(folder.path().join("all.yaml"), text).unwrap();
    folder
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn acquire(client: &Client) -> Guard {
    in_time(client.semaphore("s").acquire()).await.unwrap()
}

#[tokio::test]
async fn guards_take_turns_and_need_no_renewal() {
    let folder = folder(1);
    let client = Client::local(folder.path());
    let first = acquire(&client).await;
    assert_eq!((first.deadline(), client.namespace()), (Boottime::NEVER, ""));
    let second = tokio::spawn({
        let client = client.clone();
        async move { acquire(&client).await }
    });
    assert!(!second.is_finished());
    let token = first.fencing_token();
    first.release().await.unwrap();
    let second = in_time(second).await.unwrap();
    assert!(second.fencing_token() > token);
    // Dropping it is enough.
    drop(second);
    drop(acquire(&client).await);
    let lease = in_time(client.lease("l").acquire()).await.unwrap();
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_wait_that_is_dropped_is_in_nobodys_way() {
    let folder = folder(1);
    let client = Client::local(folder.path());
    let holder = acquire(&client).await;
    let dropped = tokio::time::timeout(Duration::from_millis(100), client.semaphore("s").priority(9).acquire()).await;
    assert!(dropped.is_err(), "there is one permit");
    let waiter = tokio::spawn({
        let client = client.clone();
        async move { acquire(&client).await }
    });
    holder.release().await.unwrap();
    in_time(waiter).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn what_a_program_starts_does_not_hold_unless_wanted() {
    let folder = folder(1);
    let client = Client::local(folder.path());
    let holder = acquire(&client).await;
    let mut child = std::process::Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    holder.release().await.unwrap();
    acquire(&client).await.release().await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_is_said() {
    let missing = Client::local("/nonexistent/folder").semaphore("s").acquire().await.unwrap_err();
    let AcquireError::Folder(said) = &missing else { panic!("{missing:?}") };
    assert!(said.starts_with("cannot open the folder /nonexistent/folder: No such file"), "{said}");
    let folder = folder(1);
    let client = Client::local(folder.path());
    for (request, expected) in [
        (client.semaphore("s").permits(0), "wanted 1 to 1000000 permits, found 0"),
        (client.semaphore("s").holder("h".repeat(254)), "wanted a holder of 1 to 253 characters, found 254"),
    ] {
        assert_eq!(request.acquire().await.unwrap_err(), AcquireError::Folder(expected.to_owned()));
    }
    let name = Client::local("/nonexistent").semaphore("..").acquire().await.unwrap_err();
    assert_eq!(name, AcquireError::Name("..".to_owned()));
}

#[tokio::test]
async fn many_in_one_process() {
    let folder = folder(3);
    let client = Client::local(folder.path());
    let inside = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let all: Vec<_> = (0..60)
        .map(|_| {
            let (client, inside) = (client.clone(), inside.clone());
            tokio::spawn(async move {
                let guard = acquire(&client).await;
                let count = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                tokio::task::yield_now().await;
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                let token = guard.fencing_token();
                guard.release().await.unwrap();
                (count, token)
            })
        })
        .collect();
    let mut tokens = std::collections::BTreeSet::new();
    for one in all {
        let (count, token) = in_time(one).await.unwrap();
        assert!(count <= 3, "{count} at once");
        assert!(tokens.insert(token), "{token} was given twice");
    }
}
