//! Without a cluster to talk to: every way to fail before anything was held. (The ways to succeed need a real one, and
//! are tested beside it.)

use std::{fs, io::Read as _, net::TcpListener, time::Duration};

use crate::harness::{Run, eventually, executable, is_alive, sh, timed, within};

/// A home with a kubeconfig for a server at this address.
fn kubeconfig(server: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
    );
    fs::write(home.path().join("config"), text).unwrap();
    home
}

/// A home with a kubeconfig whose user logs in by this shell script.
fn login(script: &str) -> tempfile::TempDir {
    let home = kubeconfig(&closed());
    let config = home.path().join("config");
    let text = fs::read_to_string(&config).unwrap();
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login}";
    fs::write(&config, text.replace("token: t", exec)).unwrap();
    executable(&home.path().join("login"), &format!("#!/bin/sh\ncd $(dirname $0)\n{script}\n"));
    home
}

fn holding(home: &tempfile::TempDir) -> Run {
    let config = home.path().join("config").display().to_string();
    sh("echo started").flags("--semaphore warehouse").env("KUBECONFIG", &config).env("HOME", "/nonexistent")
}

/// An address where nothing listens: no port that another test could get meanwhile.
fn closed() -> String {
    "http://127.0.0.1:1".to_owned()
}

#[test]
fn without_any_configuration_it_is_69_at_once() {
    let home = tempfile::tempdir().unwrap();
    let ended = within(Duration::from_secs(3), || timed(|| holding(&home).end()));
    assert_eq!((ended.code(), ended.stdout.as_str()), (69, ""), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("konductor-run: error: cannot acquire semaphore warehouse: "), "{}", ended.stderr);
}

#[test]
fn a_pod_without_a_token_is_77_at_once_with_what_to_set() {
    let pod = sh("echo started").flags("--semaphore warehouse").env("HOME", "/nonexistent");
    let pod = pod.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", "1");
    let ended = within(Duration::from_secs(3), || timed(|| pod.end()));
    assert_eq!((ended.code(), ended.stdout.as_str()), (77, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("set automountServiceAccountToken: true in the pod's spec"), "{}", ended.stderr);
}

#[test]
fn a_cluster_that_refuses_connections_is_69_when_the_wait_is_over() {
    let home = kubeconfig(&closed());
    let ended = holding(&home).flags("--wait-timeout 1s --on-timeout skip").end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (69, ""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("error: cannot reach the cluster to ask for semaphore warehouse"),
        "{}",
        ended.stderr
    );
}

#[test]
fn term_while_waiting_is_143_within_a_second() {
    // One server that refuses, and one that accepts and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for server in [closed(), format!("http://{}", silent.local_addr().unwrap())] {
        let home = kubeconfig(&server);
        within(Duration::from_secs(1), || {
            let run = holding(&home).start();
            eventually("it asks", || {
                let threads = fs::read_dir(format!("/proc/{}/task", run.pid())).ok()?;
                (threads.count() > 1).then_some(())
            });
            run.signal(15);
            let (ended, took) = timed(|| run.end());
            assert_eq!((ended.code(), ended.stdout.as_str()), (143, ""), "{server}: {}", ended.stderr);
            ((), took)
        });
    }
}

#[test]
fn it_says_by_its_own_name_who_asks_and_who_writes() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = kubeconfig(&format!("http://{}", server.local_addr().unwrap()));
    let run = holding(&home).start();
    let (mut connection, _) = server.accept().unwrap();
    let mut asked = String::new();
    while !asked.contains("\r\n\r\n") {
        let mut bytes = [0; 1024];
        let count = connection.read(&mut bytes).unwrap();
        assert!(count > 0, "{asked}");
        asked += &String::from_utf8_lossy(&bytes[..count]);
    }
    run.signal(15);
    assert_eq!(run.end().code(), 143);
    let (line, headers) = asked.split_once("\r\n").unwrap();
    assert!(line.starts_with("POST ") && line.contains("/permits?fieldManager=konductor-run "), "{line}");
    let agent = format!("user-agent: konductor-run/{}\r\n", env!("CARGO_PKG_VERSION"));
    assert!(headers.to_lowercase().contains(&agent), "{headers}");
}

#[test]
fn a_misspelt_command_is_said_before_anything_is_asked_for() {
    let home = kubeconfig(&closed());
    let config = home.path().join("config").display().to_string();
    let run =
        crate::harness::run(["konductor-no-such-command"]).flags("--semaphore warehouse").env("KUBECONFIG", &config);
    assert_eq!(within(Duration::from_secs(1), || timed(|| run.code())), 127);
}

#[test]
fn what_fails_again_and_again_is_said_once() {
    let home = kubeconfig(&closed());
    let warning = "konductor-run: warning: semaphore warehouse: cannot create the claim yet, trying again: ";
    let (mut usual, mut verbose) = (holding(&home).start(), holding(&home).flags("-v").start());
    usual.says(warning);
    // Whoever asks for more is told of each attempt. The other one has made about as many.
    for _ in 0..4 {
        verbose.says(warning);
    }
    usual.signal(15);
    let ended = usual.end();
    assert!(!ended.stderr.contains(warning), "{}", ended.stderr);
}

#[test]
fn a_login_program_begins_with_the_signals_as_they_were_and_does_not_outlive_us() {
    // Read by the shell itself: while it starts something, it has signals blocked.
    let home = login(
        "while read -r line; do echo \"$line\"; done </proc/self/status >status.new; mv status.new status; \
         exec sleep 1000",
    );
    for (signal, ended) in [(15, 143), (9, 137)] {
        let status = home.path().join("status");
        let _ = fs::remove_file(&status);
        let run = holding(&home).start();
        let status = eventually("the program runs", || fs::read_to_string(&status).ok());
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is in the status");
            line.trim().to_owned()
        };
        assert_eq!(field("SigBlk:"), field_of("/proc/self/status", "SigBlk:"), "{status}");
        let pid = field("Pid:").parse().unwrap();
        assert!(is_alive(pid));
        run.signal(signal);
        assert_eq!(run.end().code(), ended);
        eventually("the program is gone", || (!is_alive(pid)).then_some(()));
    }
}

fn field_of(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).expect("it is there").trim().to_owned()
}

#[test]
fn a_login_is_waited_for_and_what_is_wrong_with_it_is_said() {
    // Longer than an API server would have.
    let home = login("while [ ! -e go ]; do sleep 0.01; done; exit 3");
    let mut run = holding(&home).start();
    run.says("logging in by");
    fs::write(home.path().join("go"), "").unwrap();
    let ended = run.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (69, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("has failed: exit status: 3"), "{}", ended.stderr);
    let home = login("exec sleep 1000");
    // Whoever has stood still for the whole wait has not begun to log in.
    let ended = eventually("there was time to begin", || {
        let ended = holding(&home).flags("--wait-timeout 1s").end();
        (!ended.stderr.contains("it does not answer")).then_some(ended)
    });
    assert_eq!((ended.code(), ended.stdout.as_str()), (69, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("login\" has not answered yet"), "{}", ended.stderr);
}
