//! The ways to a cluster: a proxy, somebody else's name; and as a plugin of kubectl.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
};

use konductor_tests::{Binaries, Process, eventually, executable};
use serde_json::Value;

use crate::scene::{LIMIT, Scene, deaf, ended};

/// The kubeconfig of a `ServiceAccount` that may look, changed.
async fn kubeconfig(scene: &Scene, change: impl FnOnce(&mut Value)) -> PathBuf {
    scene.namespace.service_account("looker").await;
    scene.namespace.bind_cluster_role("looker", "konductor-view").await;
    let path = scene.namespace.service_account_kubeconfig("looker").await;
    let text = std::fs::read_to_string(&path).expect("a kubeconfig");
    let mut config: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    change(&mut config);
    std::fs::write(&path, config.to_string()).expect("written");
    path
}

fn koncli(kubeconfig: &Path) -> Command {
    let mut command = Command::new(Binaries::built().koncli());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nowhere").env("KUBECONFIG", kubeconfig);
    command
}

/// A proxy that forwards one connection after the other, and tells what it was asked and how it was authorized.
fn proxy() -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (told, asked) = mpsc::channel();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let told = told.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(client.try_clone().expect("a connection")).lines();
                let head: Vec<_> = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let target = head[0].split(' ').nth(1).expect("a target").to_owned();
                let _ = told.send(head.join("\n"));
                let mut server = TcpStream::connect(target).expect("the API server");
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("an answer");
                let (mut from, mut to) =
                    (client.try_clone().expect("a connection"), server.try_clone().expect("a connection"));
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut server, &mut client);
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_proxy_is_gone_through_when_the_kubeconfig_or_the_environment_names_one() {
    let scene = Scene::new("koncli-proxy").await;
    scene.semaphore("s", 1).await;
    let (port, asked) = proxy();
    let path = kubeconfig(&scene, |config| {
        config["clusters"][0]["cluster"]["proxy-url"] = format!("http://me:p%40ss@127.0.0.1:{port}").into();
    })
    .await;
    let mut command = koncli(&path);
    command.args(["semaphore", "list", "-o", "name"]);
    let ran = ended(Process::spawn("koncli", command)).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "semaphore.konductor.io/s\n"), "{}", ran.stderr);
    let head = asked.try_recv().expect("it was asked");
    assert!(head.starts_with("CONNECT 127.0.0.1:") && head.contains("Basic bWU6cEBzcw=="), "{head}");
    let plain = scene.namespace.service_account_kubeconfig("looker").await;
    let mut command = koncli(&plain);
    command.args(["semaphore", "list", "-o", "name"]).env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"));
    let ran = ended(Process::spawn("koncli", command)).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(asked.try_recv().is_ok(), "it was asked");
    // Perhaps more than once, on a machine that stands still.
    while asked.try_recv().is_ok() {}
    let mut command = koncli(&plain);
    command.args(["semaphore", "list", "-o", "name"]);
    command.env("HTTPS_PROXY", format!("http://127.0.0.1:{port}")).env("NO_PROXY", "127.0.0.1");
    let ran = ended(Process::spawn("koncli", command)).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(asked.try_recv().is_err(), "not for this address");
    // It is servers that are excepted, and not proxies.
    let mut command = koncli(&plain);
    command.args(["semaphore", "list", "-o", "name"]);
    command.env("HTTPS_PROXY", format!("http://localhost:{port}")).env("NO_PROXY", "localhost,");
    let ran = ended(Process::spawn("koncli", command)).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(asked.try_recv().is_ok(), "it was asked");
    // It is also gone through for what waits, and named when it is in the way.
    let mut command = koncli(&plain);
    command.args(["wait", "semaphore/s", "--for", "condition=Ready", "--timeout", "2m"]);
    command.env("https_proxy", format!("127.0.0.1:{port}"));
    let ran = ended(Process::spawn("koncli", command)).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(asked.try_recv().is_ok(), "it was asked");
    let (_kept, dead) = deaf();
    let mut command = koncli(&plain);
    command.args(["semaphore", "list"]).env("HTTPS_PROXY", format!("http://me:secret@{dead}"));
    let ran = ended(Process::spawn("koncli", command)).await;
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    let by = format!(" by the proxy {dead} about semaphores: ");
    assert!(ran.stderr.contains(&by) && !ran.stderr.contains("secret"), "{}", ran.stderr);
}

#[tokio::test]
async fn who_impersonates_has_the_rights_of_whom_it_is() {
    let scene = Scene::new("koncli-as").await;
    scene.namespace.service_account("nobody").await;
    let nobody = format!("system:serviceaccount:{}:nobody", scene.namespace.name);
    let ran = scene.run(&format!("semaphore list --as {nobody}")).await;
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(ran.stderr.contains(&nobody), "{}", ran.stderr);
    let ran = scene.run(&format!("semaphore list --as {nobody} --as-group system:masters")).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn run_goes_to_the_cluster_that_was_chosen_as_who_was_named() {
    let scene = Scene::new("koncli-run-in").await;
    scene.semaphore("s", 1).await;
    scene.namespace.service_account("nobody").await;
    let admin = scene.namespace.user_kubeconfig("ann", Some("system:masters"));
    let text = std::fs::read_to_string(&admin).expect("a kubeconfig");
    let mut config: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    // The current context is one that leads nowhere.
    config["contexts"][0]["name"] = "there".into();
    config["current-context"] = "nowhere".into();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config");
    std::fs::write(&path, config.to_string()).expect("written");
    let run = |words: &[&str]| {
        let mut command = koncli(Path::new("/nowhere/config"));
        command.args(words);
        Process::spawn("koncli", command)
    };
    let file = path.to_str().expect("a path in UTF-8");
    let command = ["--holder", "me", "--wait-timeout", "2m", "--semaphore", "s", "--", "echo", "held"];
    let chosen = ["--kubeconfig", file, "--context", "there"];
    for words in
        [[&chosen[..], &["run"][..], &command[..]].concat(), [&["run"][..], &chosen[..], &command[..]].concat()]
    {
        let ran = ended(run(&words)).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "held\n"), "{words:?}: {}", ran.stderr);
    }
    let nobody = format!("system:serviceaccount:{}:nobody", scene.namespace.name);
    let ran = ended(run(&[&chosen[..], &["run", "--as", &nobody][..], &command[..]].concat())).await;
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(ran.stderr.contains(&nobody), "{}", ran.stderr);
    let ran = ended(run(&[&["--kubeconfig", file, "run"][..], &command[..]].concat())).await;
    assert_eq!(ran.code, 69, "its current context leads nowhere: {}", ran.stderr);
}

#[tokio::test]
async fn kubectl_runs_it_as_its_plugin_and_completes_its_names() {
    let scene = Scene::new("koncli-plugin").await;
    scene.semaphore("warehouse", 1).await;
    let folder = tempfile::tempdir().expect("a folder");
    symlink(Binaries::built().koncli(), folder.path().join("kubectl-konductor")).expect("a link");
    let script = folder.path().join("kubectl_complete-konductor");
    executable(&script, &scene.prints("completion kubectl").await);
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
    let kubeconfig = scene.namespace.user_kubeconfig("ann", Some("system:masters"));
    let kubectl = |words: &[&str]| {
        let mut command = Command::new("kubectl");
        command.args(words).env("KUBECONFIG", &kubeconfig).env("PATH", &path);
        Process::spawn("kubectl", command)
    };
    let ran = ended(kubectl(&["konductor", "semaphore", "list", "-o", "name"])).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "semaphore.konductor.io/warehouse\n"), "{}", ran.stderr);
    let ran = ended(kubectl(&["konductor", "semaphore", "acquire"])).await;
    assert!(ran.stderr.contains("Usage: kubectl konductor semaphore acquire"), "{}", ran.stderr);
    // Names are waited for half a second, which a busy machine may need for something else.
    eventually(LIMIT, "names are completed", || async {
        let ran = ended(kubectl(&["__complete", "konductor", "semaphore", "acquire", "w"])).await;
        if ran.stdout.starts_with("warehouse\n:4\n") { Ok(()) } else { Err(format!("{ran:?}")) }
    })
    .await;
}

#[tokio::test]
async fn bash_completes_names_by_the_script_that_it_reads() {
    let scene = Scene::new("koncli-bash").await;
    scene.semaphore("warehouse", 1).await;
    let folder = tempfile::tempdir().expect("a folder");
    symlink(Binaries::built().koncli(), folder.path().join("koncli")).expect("a link");
    let script = r#"
        source <(koncli completion bash)
        COMP_WORDS=(koncli semaphore acquire w) COMP_CWORD=3
        _koncli
        printf '%s\n' "${COMPREPLY[@]}"
        COMP_WORDS=(koncli sem) COMP_CWORD=1
        _koncli
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let kubeconfig = scene.namespace.user_kubeconfig("ann", Some("system:masters"));
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
    eventually(LIMIT, "names are completed", || async {
        let mut command = Command::new("bash");
        command.args(["-c", script]).env("KUBECONFIG", &kubeconfig).env("PATH", &path);
        let ran = ended(Process::spawn("bash", command)).await;
        if ran.stdout == "warehouse\nsemaphore\n" { Ok(()) } else { Err(format!("{ran:?}")) }
    })
    .await;
}
