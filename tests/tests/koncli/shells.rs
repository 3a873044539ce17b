//! Completion: the shells that run it, and that nobody waits for a cluster that does not answer.

use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::symlink,
    process::Command,
    thread,
    time::Duration,
};

use konductor::Boottime;
use konductor_tests::{Binaries, Process, eventually};

use crate::scene::{LIMIT, Scene, ended, koncli};

/// Runs a script in a shell that finds `koncli`.
async fn shell(scene: &Scene, shell: &str, script: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    symlink(Binaries::built().koncli(), folder.path().join("koncli")).expect("a link");
    let mut command = Command::new(shell);
    command.args(["-c", script]).env("KUBECONFIG", &scene.kubeconfig).env("HOME", folder.path());
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH")));
    let ran = ended(Process::spawn(shell, command)).await;
    assert_eq!(ran.code, 0, "{shell} (is it installed? .ci/run does): {}{}", ran.stdout, ran.stderr);
    ran.stdout
}

#[tokio::test]
async fn zsh_and_fish_complete_names_by_the_scripts_that_they_read() {
    let scene = Scene::new("koncli-shells").await;
    scene.semaphore("warehouse", 1).await;
    // What zsh's own completion would do with the words is shown instead of done.
    let zsh = r"
        compdef() { : }
        compadd() { print -r -- compadd ${(q)@} ${(P)@[-1]} }
        _files() { print -r -- files }
        source <(koncli completion zsh)
        words=(koncli semaphore acquire w) CURRENT=4; _koncli
        words=(koncli wait bar) CURRENT=3; _koncli
        words=(koncli --kubeconfig '') CURRENT=3; _koncli
    ";
    // Names are waited for half a second, which a busy machine may need for something else.
    eventually(LIMIT, "zsh completes", || async {
        let printed = shell(&scene, "zsh", zsh).await;
        let expected = "compadd -a found warehouse\ncompadd -S '' -a found barrier/\nfiles\n";
        if printed == expected { Ok(()) } else { Err(printed) }
    })
    .await;
    let fish = "
        koncli completion fish | source
        complete --do-complete 'koncli semaphore acquire w'
        complete --do-complete 'koncli semaphore re'
    ";
    eventually(LIMIT, "fish completes", || async {
        let printed = shell(&scene, "fish", fish).await;
        let names: Vec<_> = printed.lines().map(|line| line.split('\t').next().unwrap_or_default()).collect();
        if names == ["warehouse", "release", "renew", "resize"] { Ok(()) } else { Err(printed) }
    })
    .await;
}

/// A server that takes connections and says nothing, and its port.
fn silence() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    port
}

#[tokio::test]
async fn nobody_waits_for_names_of_a_cluster_that_does_not_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("config");
    let server = format!("https://127.0.0.1:{}", silence());
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": server, "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&kubeconfig, config.to_string()).expect("written");
    let run = |line: &'static str| {
        let mut command = koncli(&kubeconfig);
        command.args(line.split(' ').map(|word| if word == "EMPTY" { "" } else { word }));
        Process::spawn("koncli", command)
    };
    // How long it takes to do the same without asking anybody, on this machine and now.
    let began = Boottime::now();
    ended(run("__complete -- sem")).await;
    let bare = Boottime::now().since(began);
    let began = Boottime::now();
    let ran = ended(run("__complete -- semaphore acquire EMPTY")).await;
    let took = Boottime::now().since(began);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, ":4\n", ""));
    assert!(took >= Duration::from_millis(500), "it was asked: {took:?}");
    // Half a second; the rest is a machine that has other things to do.
    assert!(took < Duration::from_secs(20) + bare, "{took:?}, and {bare:?} without a cluster");
    // Waiting for what cannot be reached ends about when it is asked for.
    for line in ["semaphore acquire s --holder h --timeout 1s", "barrier wait b --timeout 1s"] {
        let began = Boottime::now();
        let ran = ended(run(line)).await;
        let took = Boottime::now().since(began);
        assert_eq!(ran.code, 69, "{line}: {}", ran.stderr);
        assert!(took >= Duration::from_secs(1), "{line}: never earlier, and it took {took:?}");
    }
}

#[tokio::test]
async fn acquiring_from_nobody_ends_about_when_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("config");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        // Nobody listens there.
        "clusters": [{ "name": "c", "cluster": { "server": "https://127.0.0.1:1" } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&kubeconfig, config.to_string()).expect("written");
    let took = |timeout: &'static str| {
        let kubeconfig = kubeconfig.clone();
        async move {
            let mut command = koncli(&kubeconfig);
            command.args(["lease", "acquire", "l", "--holder", "h", "--timeout", timeout]);
            let began = Boottime::now();
            let ran = ended(Process::spawn("koncli", command)).await;
            assert_eq!(ran.code, 69, "{}", ran.stderr);
            Boottime::now().since(began)
        }
    };
    // The machine may stand still: one of some tries shows what koncli itself takes.
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        let took = took("2s").await;
        assert!(took >= Duration::from_secs(2), "never earlier: {took:?}");
        shortest = shortest.min(took);
        if shortest < Duration::from_secs(5) {
            return;
        }
    }
    panic!("it ends long after the time that was asked for: {shortest:?}");
}
