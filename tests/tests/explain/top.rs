//! The live view, in a real terminal.

use std::{path::Path, process::Command, time::Duration};

use http::Method;
use konductor_api::{ClaimPhase, Permit, Semaphore};
use konductor_tests::{Binaries, ControlPlane, Fate, Gateway, Network, Process, Proxy, Rule, TestNamespace, wait_for};
use kube::api::DeleteParams;
use serde_json::json;

use crate::{
    scene::{LIMIT, create, namespace, permit, phase},
    terminal::Terminal,
};

/// A terminal in whose shell `$koncli` is the program, and the namespace is chosen.
async fn terminal(size: (u16, u16), kubeconfig: &Path, namespace: &TestNamespace) -> Terminal {
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let variables = [
        ("koncli", path(Binaries::built().koncli())),
        ("KUBECONFIG", path(kubeconfig)),
        ("KONCLI_NAMESPACE", namespace.name.clone()),
    ];
    Terminal::open(size, &variables).await
}

/// A semaphore of two permits that are held, for which two wait.
async fn crowd(namespace: &TestNamespace) {
    create::<Semaphore>(namespace, "warehouse", &json!({ "permits": 2 })).await;
    for (name, wanted) in [("a", ClaimPhase::Granted), ("b", ClaimPhase::Granted), ("c", ClaimPhase::Pending)] {
        permit(namespace, name, "warehouse", &json!({ "ttl": "24h" })).await;
        phase(namespace, name, wanted).await;
    }
}

/// The screen without the time, what is measured in time, and the namespace; runs of blanks as one.
fn steady(screen: &str, namespace: &TestNamespace) -> Vec<String> {
    let screen = screen.replace(&namespace.name, "NS");
    let word = |word: &str| {
        let is_clock = word.len() == 9 && word.ends_with('Z') && word.contains(':');
        let is_span = word.starts_with(|c: char| c.is_ascii_digit())
            && word.ends_with(['s', 'm', 'h'])
            && word.chars().all(|c| c.is_ascii_digit() || "hms".contains(c));
        let is_drawn = word.chars().all(|c| ('▁'..='█').contains(&c));
        if is_clock {
            "TIME".to_owned()
        } else if is_span {
            "#".into()
        } else if is_drawn {
            "~".into()
        } else {
            word.to_owned()
        }
    };
    let lines = screen.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" "));
    lines.collect()
}

#[tokio::test]
async fn the_screen_shows_what_is_there_as_it_changes_and_is_given_back() {
    let namespace = namespace("top").await;
    crowd(&namespace).await;
    let terminal = terminal((80, 24), ControlPlane::shared().await.admin_kubeconfig(), &namespace).await;
    terminal.line("$koncli top; echo ended with $?");
    // Who waits is counted a little after it does, and the last word of the line is its past, once there is some.
    let first = [
        "koncli top · namespace NS · sorted by name TIME",
        "",
        "KIND NAME USE WAIT STATE FOR LAST #",
        "semaphore warehouse ~ 2/2 1 full # ~",
    ];
    let keys = "↑↓ choose Enter look into it w why / filter s sort q quit";
    let is_list = |screen: &str| {
        let list = steady(screen, &namespace);
        list.len() == 24 && list[..4] == first && list[23] == keys
    };
    terminal.until(LIMIT, "the list", is_list).await;

    terminal.press(&["Enter"]);
    let head = "koncli top · namespace NS · semaphore/warehouse full, 2 of 2 in use, 1 waiting";
    let rows = [
        "STATE HOLDER PERMITS FOR RENEWED EXPIRES IN PRIORITY",
        "holds a 1 # # 0",
        "holds b 1 # # 0",
        "waits 1 c 1 # 0",
    ];
    let are_claims = |screen: &str| {
        let claims = steady(screen, &namespace);
        claims.len() >= 7 && head.starts_with(claims[0].trim_end_matches(" TIME")) && claims[3..7] == rows
    };
    terminal.until(LIMIT, "the claims", are_claims).await;

    // Somebody is asked to end: not before the question is answered.
    terminal.press(&["Down", "r"]);
    terminal.until(LIMIT, "a question", |screen| screen.contains("Revoke permit/b of b?")).await;
    terminal.press(&["y"]);
    let revoked = phase(&namespace, "b", ClaimPhase::Revoking).await;
    assert_eq!(revoked.metadata.annotations.expect("annotations")["konductor.io/revoke"], "by koncli top");
    terminal.until(LIMIT, "that it ends", |screen| screen.contains("ends") && screen.contains("is asked to end")).await;

    // It watches: what changes is on the screen without a key.
    namespace.api::<Permit>().delete("b", &DeleteParams::default()).await.expect("release");
    terminal.until(LIMIT, "the next holder", |screen| screen.contains("holds      c")).await;

    terminal.press(&["w"]);
    let reasons =
        ["2 of 2 permits in use by 2 claims", "permit/c (holder c) has held 1 permit of semaphore/warehouse for"];
    terminal.until(LIMIT, "why", |screen| reasons.iter().all(|reason| screen.contains(reason))).await;

    terminal.press(&["Escape"]);
    terminal.until(LIMIT, "the claims again", |screen| screen.contains("EXPIRES IN")).await;
    terminal.press(&["Escape"]);
    terminal.until(LIMIT, "the list again", |screen| screen.contains("sorted by name")).await;
    terminal.resize((100, 30));
    let is_larger = |screen: &str| screen.lines().nth(29).is_some_and(|line| line.starts_with("↑↓ choose"));
    terminal.until(LIMIT, "a larger screen", is_larger).await;
    terminal.press(&["/"]);
    terminal.press(&["n", "o", "n", "e"]);
    terminal.until(LIMIT, "nothing", |screen| screen.contains("Nothing here has that")).await;
    // An escape with a letter right behind it would be another key.
    terminal.press(&["Escape"]);
    terminal.until(LIMIT, "the list without a filter", |screen| screen.contains("↑↓ choose")).await;
    terminal.press(&["q"]);
    let screen = terminal.until(LIMIT, "the shell", |screen| screen.contains("ended with 0")).await;
    assert!(!screen.contains("warehouse"), "the view is gone: {screen}");
    assert_eq!(terminal.modes(), (false, true));
}

#[tokio::test]
async fn a_terminal_is_as_it_was_after_every_kind_of_end() {
    let namespace = namespace("ends").await;
    create::<Semaphore>(&namespace, "s", &json!({ "permits": 1 })).await;
    let terminal = terminal((80, 24), ControlPlane::shared().await.admin_kubeconfig(), &namespace).await;
    for (end, code) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("C-c", 130), ("q", 0)] {
        // In a script: a terminal's shell leaves out the rest of a line when INT has ended what it runs.
        let top = r#"sh -c "echo \$\$ > \$folder/pid; exec \$koncli top""#;
        terminal.line(&format!("clear; sh -c '{top}; echo {end}: $?; stty -a | grep -c -e -icanon'"));
        terminal.until(LIMIT, "the view", |screen| screen.contains("semaphore s ")).await;
        assert_eq!(terminal.modes(), (true, false), "{end}");
        match end {
            "C-c" | "q" => terminal.press(&[end]),
            signal => {
                let status = Command::new("kill").args(["-s", signal, terminal.note("pid").trim()]).status();
                assert!(status.expect("run kill").success());
            }
        }
        let ended = format!("{end}: {code}\n0");
        terminal.until(LIMIT, &ended, |screen| screen.contains(&ended)).await;
        assert_eq!(terminal.modes(), (false, true), "{end}");
    }
}

#[tokio::test]
async fn an_api_server_that_is_lost_is_shown_and_survived() {
    let namespace = namespace("lost").await;
    crowd(&namespace).await;
    let (network, through) = Proxy::start(ControlPlane::shared().await.admin_kubeconfig()).await;
    let terminal = terminal((80, 24), &through, &namespace).await;
    terminal.line("$koncli top; echo ended with $?");
    terminal.until(LIMIT, "the list", |screen| screen.contains("2/2")).await;
    network.set(Network::Cut);
    // What was known stays.
    let is_old = |screen: &str| screen.contains("may be old:") && screen.contains("2/2");
    terminal.until(LIMIT, "what is wrong", is_old).await;
    permit(&namespace, "d", "warehouse", &json!({})).await;
    wait_for(&namespace.api::<Permit>(), "d", LIMIT, |permit| permit.status.is_some()).await;
    network.set(Network::Fine);
    let is_back = |screen: &str| !screen.contains("may be old:") && screen.contains("2 full");
    terminal.until(LIMIT, "all of it again", is_back).await;
    network.set(Network::Cut);
    terminal.until(LIMIT, "what is wrong again", |screen| screen.contains("may be old:")).await;
    terminal.press(&["q"]);
    terminal.until(LIMIT, "the shell", |screen| screen.contains("ended with 0")).await;
    assert_eq!(terminal.modes(), (false, true));
}

#[tokio::test]
async fn it_watches_and_asks_for_nothing_again() {
    let namespace = namespace("watch").await;
    crowd(&namespace).await;
    namespace.service_account("viewer").await;
    namespace.bind_cluster_role("viewer", "konductor-view").await;
    let viewer = namespace.service_account_kubeconfig("viewer").await;
    let (gateway, through) = Gateway::start(&viewer).await;
    let terminal = terminal((80, 24), &through, &namespace).await;
    let began = tokio::time::Instant::now();
    terminal.line("$koncli top; echo ended with $?");
    terminal.until(LIMIT, "the list", |screen| screen.contains("2/2")).await;
    // The watches are open when what has changed since the list is seen.
    create::<Semaphore>(&namespace, "first", &json!({ "permits": 3 })).await;
    terminal.until(LIMIT, "a semaphore", |screen| screen.contains("semaphore first")).await;
    permit(&namespace, "d", "warehouse", &json!({})).await;
    let waits = |count: usize| move |screen: &str| screen.contains(&format!("{count} full"));
    terminal.until(LIMIT, "one more that waits", waits(2)).await;
    gateway.rule(Some(Rule(Method::GET, "/konductor.io/", Fate::Answered(503, None))));
    for (name, count) in [("e", 3), ("f", 4), ("g", 5)] {
        permit(&namespace, name, "warehouse", &json!({})).await;
        terminal.until(LIMIT, "one more that waits", waits(count)).await;
    }
    // A watch lasts a minute, and the next one is a request; on a machine that is that slow nothing is told by it.
    assert!(gateway.met() == 0 || began.elapsed() > Duration::from_secs(50), "{} requests", gateway.met());
    terminal.press(&["q"]);
    terminal.until(LIMIT, "the shell", |screen| screen.contains("ended with 0")).await;
}

#[tokio::test]
async fn without_a_terminal_it_says_what_to_use_instead() {
    let mut command = Command::new(Binaries::built().koncli());
    command.arg("top");
    let mut process = Process::spawn("koncli", command);
    process.expect_exit(LIMIT, 64).await;
    assert_eq!(
        process.stderr(),
        "error: top needs a terminal that can be drawn on\n  koncli status all prints the same once\n"
    );
}

#[tokio::test]
async fn a_folder_is_looked_at_as_a_cluster_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = |permits: u32| {
        let text = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: gpu\nspec:\n  permits:";
        std::fs::write(folder.path().join("gpu.yaml"), format!("{text} {permits}\n")).expect("a manifest");
    };
    manifest(2);
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let variables = [("koncli", path(Binaries::built().koncli())), ("KONCLI_LOCAL", path(folder.path()))];
    let terminal = Terminal::open((100, 24), &variables).await;
    terminal.line("$koncli run --holder me --semaphore gpu -- sleep 600 2>/dev/null & $koncli top; echo ended with $?");
    let words = ["koncli top · folder ", "1/2", "gpu"];
    terminal.until(LIMIT, "who holds", |screen| words.iter().all(|word| screen.contains(word))).await;
    manifest(1);
    terminal.until(LIMIT, "a change of the manifest", |screen| screen.contains("1/1")).await;
    terminal.press(&["Enter"]);
    terminal.until(LIMIT, "the claims", |screen| screen.contains("me")).await;
    terminal.press(&["w"]);
    terminal.until(LIMIT, "the reasons", |screen| screen.contains("or its process ends")).await;
    terminal.press(&["q"]);
    terminal.until(LIMIT, "its end", |screen| screen.contains("ended with 0")).await;
}
