//! How `koncli` ends: each exit code by a command that comes to it, and what it asks of the API server on the way.

use std::process::Command;

use konductor_tests::{Binaries, Gateway, Process};
use serde_json::Value;

use crate::scene::{Ran, Scene, deaf, ended};

/// Runs it in a shell, with `koncli` as `$0`.
async fn in_shell(scene: &Scene, script: &str) -> Ran {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(Binaries::built().koncli()).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("KUBECONFIG", scene.namespace.user_kubeconfig("ann", Some("system:masters"))).env("HOME", "/nowhere");
    ended(Process::spawn("sh", command)).await
}

#[tokio::test]
async fn each_exit_code_has_a_command_that_comes_to_it() {
    let scene = Scene::new("koncli-codes").await;
    scene.semaphore("s", 1).await;
    scene.prints("semaphore acquire s --holder first --ttl 10m").await;
    scene.prints("barrier create late --expected 2 --timeout 1s").await;
    scene.prints("barrier arrive late me").await;
    scene.says("wait barrier/late --for failed --timeout 2m", "barrier.konductor.io/late failed\n").await;
    let nobody = scene.without_rights("nobody").await;
    for (code, ran, said) in [
        (64, scene.run("semaphore create x").await, "--permits <N>"),
        (70, in_shell(&scene, "\"$0\" semaphore list >/dev/full").await, "the result cannot be written to stdout"),
        (75, scene.run("semaphore acquire s --holder second --timeout 0").await, "waited in vain for semaphore/s"),
        (76, scene.run("barrier wait late --timeout 2m").await, "cannot wait for barrier/late"),
        (77, nobody.run("semaphore acquire s --timeout 2m").await, "kubectl create rolebinding"),
        (78, scene.run("semaphore status none").await, "not found in the namespace"),
        (126, scene.run("run -- /etc/passwd").await, "/etc/passwd"),
        (127, scene.run("run -- no-such-command").await, "no-such-command"),
        // It dies by the same signal: the shell tells it so.
        (143, in_shell(&scene, "\"$0\" run -- sh -c 'kill -TERM $$'; exit $?").await, ""),
        (7, scene.run("run -- sh -c exit${IFS}7").await, ""),
    ] {
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{code}: {}", ran.stderr);
    }
    let help = scene.prints("--help").await;
    for code in [64, 69, 70, 75, 76, 77, 78, 79, 126, 127] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))), "{code}: {help}");
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_with_where_to_look() {
    let scene = Scene::new("koncli-unreachable").await;
    let path = scene.namespace.user_kubeconfig("ann", Some("system:masters"));
    let text = std::fs::read_to_string(&path).expect("a kubeconfig");
    let config: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    let server = config["clusters"][0]["cluster"]["server"].as_str().expect("a server");
    let (_kept, port) = deaf();
    let dead = format!("https://{port}");
    let named = server.replace("127.0.0.1", "no-such-host.invalid");
    for (address, line, expected) in [
        (dead.clone(), "semaphore list", format!("error: cannot reach {dead} about semaphores: ")),
        (dead.clone(), "semaphore status s", format!("error: cannot reach {dead} about semaphore/s: ")),
        (dead.clone(), "operator", format!("error: cannot reach {dead} about leases: ")),
        (
            dead.clone(),
            "barrier wait b --timeout 1s",
            format!("error: the API server at {dead} has not answered within "),
        ),
        (dead.clone(), "semaphore acquire s --timeout 1s", format!("error: the API server at {dead} has not answered")),
        (named.clone(), "semaphore list", format!("error: cannot reach {named} about semaphores: ")),
    ] {
        std::fs::write(&path, text.replace(server, &address)).expect("written");
        let mut command = Command::new(Binaries::built().koncli());
        command.args(line.split(' ')).env_clear().env("KUBECONFIG", &path).env("HOME", "/nowhere");
        let ran = ended(Process::spawn("koncli", command)).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(&expected), "{line}: {}", ran.stderr);
        let advice = "  see that there is a way to the API server: kubectl version; then try again\n";
        assert!(ran.stderr.ends_with(advice), "{line}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn to_wait_for_a_barrier_that_is_open_is_one_request() {
    let scene = Scene::new("koncli-one").await;
    scene.prints("barrier create b --expected 1").await;
    scene.prints("barrier arrive b me --wait --timeout 2m").await;
    scene.namespace.service_account("looker").await;
    scene.namespace.bind_cluster_role("looker", "konductor-workload").await;
    let (gateway, path) = Gateway::start(&scene.namespace.service_account_kubeconfig("looker").await).await;
    let mut command = Command::new(Binaries::built().koncli());
    command.args(["barrier", "wait", "b"]).env_clear().env("KUBECONFIG", path).env("HOME", "/nowhere");
    let ran = ended(Process::spawn("koncli", command)).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "barrier.konductor.io/b open\n"), "{}", ran.stderr);
    let asked = gateway.asked();
    let of = format!("GET /apis/konductor.io/v1/namespaces/{}/barriers", scene.namespace.name);
    assert!(asked.len() == 1 && asked[0].starts_with(&of), "{asked:?}");
}
