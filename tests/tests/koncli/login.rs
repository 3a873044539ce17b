//! Logins: what a kubeconfig runs for credentials, as those of EKS, GKE and AKS do, and what is said when there are none.
//!
//! The programs are shell scripts, the API server and its tokens and certificates are real.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use konductor_tests::{Binaries, Pid, Process, eventually, executable};
use nix::sys::signal::kill;
use serde_json::{Value, json};

use crate::scene::{LIMIT, Ran, Scene, ended};

const V1: &str = "client.authentication.k8s.io/v1";
const V1BETA1: &str = "client.authentication.k8s.io/v1beta1";

/// Somebody who may look, and the programs that they log in by, which are in a folder of their own.
struct Looker {
    programs: tempfile::TempDir,
    kubeconfig: Value,
    token: String,
    started: AtomicUsize,
}

impl Looker {
    async fn new(scene: &Scene) -> Self {
        scene.namespace.service_account("looker").await;
        scene.namespace.bind_cluster_role("looker", "konductor-view").await;
        let path = scene.namespace.service_account_kubeconfig("looker").await;
        let text = fs::read_to_string(&path).expect("a kubeconfig");
        let token = scene.namespace.service_account_token("looker").await;
        let programs = tempfile::tempdir().expect("a folder");
        let kubeconfig = serde_yaml_ng::from_str(&text).expect("YAML");
        Self { programs, kubeconfig, token, started: AtomicUsize::new(0) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.programs.path().join(name)
    }

    /// A program that notes each of its runs in a file of its name with `.told`, and then does this.
    fn program(&self, name: &str, script: &str) {
        let path = self.path(name);
        let note = r#"{ echo "args: $*"; echo "info: $KUBERNETES_EXEC_INFO"; echo "stdin: $(cat)"; } >>"$0.told""#;
        executable(&path, &format!("#!/bin/sh\n{note}\n{script}\n"));
    }

    /// Prints this as the program's answer.
    fn answers(version: &str, status: &Value) -> String {
        let answer = json!({ "apiVersion": version, "kind": "ExecCredential", "status": status });
        format!("cat <<'END'\n{answer}\nEND")
    }

    /// What its runs have noted.
    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.told"))).unwrap_or_default()
    }

    fn runs(&self, name: &str) -> usize {
        self.told(name).matches("args: ").count()
    }

    /// Starts `koncli` as a user who logs in like this.
    fn start(&self, user: &Value, line: &str) -> Process {
        let mut kubeconfig = self.kubeconfig.clone();
        kubeconfig["users"][0]["user"] = user.clone();
        // A file of its own: it may be read when the next one is started already.
        let path = self.path(&format!("kubeconfig{}", self.started.fetch_add(1, Ordering::Relaxed)));
        fs::write(&path, kubeconfig.to_string()).expect("written");
        Process::spawn("koncli", self.koncli(&path, line))
    }

    fn koncli(&self, kubeconfig: &Path, line: &str) -> Command {
        let mut command = Command::new(Binaries::built().koncli());
        command.args(line.split(' ')).env_clear().env("KUBECONFIG", kubeconfig).env("HOME", "/nowhere");
        command.env("PATH", format!("{}:/usr/bin:/bin", self.programs.path().display()));
        command
    }

    async fn run(&self, user: &Value, line: &str) -> Ran {
        ended(self.start(user, line)).await
    }
}

#[tokio::test]
async fn the_logins_of_eks_gke_and_aks_are_run_once_and_told_what_kubectl_tells_them() {
    let scene = Scene::new("koncli-logins").await;
    scene.semaphore("s", 1).await;
    let looker = Looker::new(&scene).await;
    let status = json!({ "token": looker.token, "expirationTimestamp": "2026-01-01T00:00:00Z" });
    // As the providers' own tools write them.
    let eks = json!({
        "apiVersion": V1BETA1, "command": "aws", "env": [{ "name": "AWS_PROFILE", "value": "prod" }],
        "args": ["--region", "eu-west-1", "eks", "get-token", "--cluster-name", "c", "--output", "json"],
    });
    let gke = json!({
        "apiVersion": V1BETA1, "command": "gke-gcloud-auth-plugin", "installHint": "Install it",
        "provideClusterInfo": true,
    });
    let aks = json!({
        "apiVersion": V1BETA1, "command": "kubelogin", "env": null, "provideClusterInfo": false,
        "interactiveMode": "IfAvailable", "args": ["get-token", "--login", "azurecli", "--server-id", "x"],
    });
    let own = json!({ "apiVersion": V1, "command": "./own", "interactiveMode": "Never" });
    for (exec, name, arguments) in [
        (eks, "aws", "args: --region eu-west-1 eks get-token --cluster-name c --output json\n"),
        (gke, "gke-gcloud-auth-plugin", "args: \n"),
        (aks, "kubelogin", "args: get-token --login azurecli --server-id x\n"),
        // Beside the kubeconfig.
        (own, "own", "args: \n"),
    ] {
        let version = exec["apiVersion"].as_str().expect("a version").to_owned();
        let script = Looker::answers(&version, &status);
        looker.program(name, &format!("echo \"profile: $AWS_PROFILE\" >>\"$0.told\"\n{script}"));
        let ran = looker.run(&json!({ "exec": exec }), "semaphore list -o name").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "semaphore.konductor.io/s\n"), "{name}: {}", ran.stderr);
        let told = looker.told(name);
        assert!(told.starts_with(arguments) && looker.runs(name) == 1, "{name}: {told}");
        let info = format!(r#"info: {{"apiVersion":"{version}","kind":"ExecCredential","spec":{{"interactive":false"#);
        assert!(told.contains(&info) && told.contains("\nstdin: \n"), "{name}: {told}");
        let server = looker.kubeconfig["clusters"][0]["cluster"]["server"].as_str().expect("a server");
        let has_cluster = told.contains(&format!(r#""cluster":{{"server":"{server}""#));
        assert_eq!(has_cluster, name.starts_with("gke"), "{name}: {told}");
        assert_eq!(told.contains("profile: prod"), name == "aws", "{name}: {told}");
    }
}

#[tokio::test]
async fn a_login_may_give_a_certificate() {
    let scene = Scene::new("koncli-certificate").await;
    let looker = Looker::new(&scene).await;
    let ann = fs::read_to_string(scene.namespace.user_kubeconfig("ann", Some("system:masters"))).expect("a kubeconfig");
    let ann: Value = serde_yaml_ng::from_str(&ann).expect("YAML");
    let file =
        |field: &str| fs::read_to_string(ann["users"][0]["user"][field].as_str().expect("a path")).expect("a PEM file");
    let status = json!({ "clientCertificateData": file("client-certificate"), "clientKeyData": file("client-key") });
    looker.program("login", &Looker::answers(V1, &status));
    let exec = json!({ "exec": { "apiVersion": V1, "command": "login", "interactiveMode": "Never" } });
    let ran = looker.run(&exec, "gate create g").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "gate.konductor.io/g created\n"), "{}", ran.stderr);
    assert_eq!(looker.runs("login"), 1);
}

#[tokio::test]
async fn credentials_that_are_not_accepted_any_more_are_asked_for_again() {
    let scene = Scene::new("koncli-expired").await;
    scene.prints("barrier create b --expected 1").await;
    scene.prints("barrier arrive b me --wait --timeout 2m").await;
    let looker = Looker::new(&scene).await;
    let old = Looker::answers(V1, &json!({ "token": "old" }));
    let new = Looker::answers(V1, &json!({ "token": looker.token }));
    let exec = |name: &str| json!({ "exec": { "apiVersion": V1, "command": name, "interactiveMode": "Never" } });
    for (name, line, output) in [
        ("first", "barrier list -o name", "barrier.konductor.io/b\n"),
        ("second", "barrier wait b --timeout 2m", "barrier.konductor.io/b open\n"),
    ] {
        looker.program(name, &format!("if [ -e \"$0.old\" ]; then\n{new}\nelse\ntouch \"$0.old\"\n{old}\nfi"));
        let ran = looker.run(&exec(name), line).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, output), "{line}: {}", ran.stderr);
        assert_eq!(looker.runs(name), 2, "{line}");
    }
    looker.program("never", &old);
    for line in ["barrier list", "barrier wait b --timeout 2m", "semaphore acquire s --timeout 2m"] {
        let ran = looker.run(&exec("never"), line).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (77, ""), "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains("credentials") && ran.stderr.contains("log in anew"), "{line}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn a_login_that_fails_is_named_with_what_to_do_and_without_its_secrets() {
    let scene = Scene::new("koncli-no-login").await;
    let looker = Looker::new(&scene).await;
    looker.program("fails", "echo 'please run: aws sso login' >&2; exit 255");
    looker.program("chats", "echo 'Welcome!'");
    let secret = json!([{ "name": "AAD_SERVICE_PRINCIPAL_CLIENT_SECRET", "value": "hunter2" }]);
    for (change, expected) in [
        (json!({ "command": "fails" }), "\"fails\" has failed: exit status: 255"),
        (json!({ "command": "fails" }), "please run: aws sso login\n"),
        (json!({ "command": "fails" }), "log in anew, as your provider says"),
        (json!({ "command": "chats" }), "\"chats\" has given no credentials: what it has written is not"),
        (json!({ "command": "no-such-login" }), "there is no login program \"no-such-login\""),
        (json!({ "command": "no-such-login", "installHint": "brew install it" }), "\n  brew install it\n"),
        (json!({ "command": "fails", "interactiveMode": "Always" }), "must ask on a terminal"),
        (json!({ "command": "fails", "apiVersion": "client.authentication.k8s.io/v1alpha1" }), "v1alpha1"),
        (json!({ "command": "/etc/passwd" }), "\"/etc/passwd\" cannot be run: "),
    ] {
        let mut exec = json!({ "apiVersion": V1, "interactiveMode": "Never", "env": secret });
        exec.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let ran = looker.run(&json!({ "exec": exec }), "semaphore list").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{change}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{change}: {}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{change}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn a_login_that_hangs_is_ended_when_the_time_is_up() {
    let scene = Scene::new("koncli-hangs").await;
    let looker = Looker::new(&scene).await;
    // Each has its own, as they are waited for all at once: long enough for a busy machine to have begun to run it.
    let lines = [
        "barrier wait b --timeout 20s",
        "gate wait g --timeout 20s",
        "wait job/j --timeout 20s",
        "semaphore acquire s --timeout 20s",
        "barrier arrive b --wait --timeout 20s",
    ];
    let exec = |name: &str| json!({ "exec": { "apiVersion": V1, "command": name, "interactiveMode": "Never" } });
    let mut hanging = Vec::new();
    for (number, line) in lines.into_iter().enumerate() {
        let name = format!("hangs{number}");
        looker.program(&name, "echo $$ >\"$0.pid\"; exec sleep 1000");
        let process = looker.start(&exec(&name), line);
        hanging.push((name, line, process));
    }
    // Also when it is the second login that hangs, in the middle of the waiting.
    let old = Looker::answers(V1, &json!({ "token": "old" }));
    looker.program("stops", &format!("[ -e \"$0.old\" ] && exec sleep 1000\ntouch \"$0.old\"\n{old}"));
    let stopped = looker.start(&exec("stops"), lines[0]);
    for (name, line, process) in hanging {
        let ran = ended(process).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("\"{name}\" has taken longer than 20s, and was ended")), "{}", ran.stderr);
        let pid = fs::read_to_string(looker.path(&format!("{name}.pid"))).expect("it was run");
        let pid = Pid::from_raw(pid.trim().parse().expect("an id"));
        eventually(LIMIT, "the program is gone", || async {
            if kill(pid, None).is_err() { Ok(()) } else { Err(format!("{pid} is there")) }
        })
        .await;
    }
    let ran = ended(stopped).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("has not answered within"), "{}", ran.stderr);
}

#[tokio::test]
async fn an_oidc_provider_gives_its_token_and_other_providers_are_refused_by_name() {
    let scene = Scene::new("koncli-oidc").await;
    scene.semaphore("s", 1).await;
    let looker = Looker::new(&scene).await;
    let provider = |name: &str, token: &str| {
        let config = json!({ "id-token": token, "client-id": "c", "idp-issuer-url": "https://127.0.0.1:1" });
        json!({ "auth-provider": { "name": name, "config": config } })
    };
    let ran = looker.run(&provider("oidc", &looker.token), "semaphore list -o name").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "semaphore.konductor.io/s\n"), "{}", ran.stderr);
    // Its middle is {"exp":1}.
    let expired = "e30.eyJleHAiOjF9.sig";
    for (user, expected) in [
        (provider("oidc", expired), "error: the kubeconfig's auth-provider \"oidc\" gives no credentials: "),
        (provider("oidc", expired), "ID token expired"),
        (provider("oidc", expired), "log in anew"),
        (provider("azure", expired), "the kubeconfig logs in by the auth-provider \"azure\", which is not supported"),
        (provider("azure", expired), "kubelogin"),
    ] {
        let ran = looker.run(&user, "semaphore list").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_said_with_what_it_has() {
    let scene = Scene::new("koncli-kubeconfig").await;
    let looker = Looker::new(&scene).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut kubeconfig = looker.kubeconfig.clone();
        change(&mut kubeconfig);
        kubeconfig.to_string()
    };
    for (text, expected) in [
        ("{".to_owned(), "failed to parse kubeconfig YAML"),
        (
            changed(&|config| config["current-context"] = "x".into()),
            "the kubeconfig has no context \"x\"\n  it has: test",
        ),
        (
            changed(&|config| config["current-context"] = "".into()),
            "no current context, and none was named\n  it has: test",
        ),
        (
            changed(&|config| config["contexts"][0]["context"]["user"] = "bob".into()),
            "no user \"bob\", which its context \"test\" names\n  it has: test",
        ),
        (
            changed(&|config| config["contexts"][0]["context"]["cluster"] = "west".into()),
            "no cluster \"west\", which its context \"test\" names\n  it has: test",
        ),
        (changed(&|config| config["clusters"][0]["cluster"]["server"] = Value::Null), "cluster url is missing"),
        (
            changed(&|config| config["clusters"][0]["cluster"]["certificate-authority"] = "/no/ca.crt".into()),
            "/no/ca.crt",
        ),
        (
            changed(&|config| config["users"][0]["user"] = json!({ "tokenFile": "/no/token" })),
            "cannot use the token in /no/token",
        ),
        (
            changed(&|config| config["clusters"][0]["cluster"]["proxy-url"] = "socks5://127.0.0.1:1".into()),
            "a proxy of the kind \"socks5\" is not supported",
        ),
    ] {
        let path = looker.path("kubeconfig");
        fs::write(&path, &text).expect("written");
        for line in ["semaphore list".to_owned(), format!("semaphore list --kubeconfig {}", path.display())] {
            let ran = ended(Process::spawn("koncli", looker.koncli(&path, &line))).await;
            assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{text}: {}", ran.stderr);
            assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
            assert!(ran.stderr.contains("\n  "), "it says what to do: {}", ran.stderr);
        }
    }
    let ran = ended(Process::spawn("koncli", looker.koncli("/no/config".as_ref(), "semaphore list"))).await;
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert!(ran.stderr.contains("/no/config") && ran.stderr.contains("--kubeconfig"), "{}", ran.stderr);
}
