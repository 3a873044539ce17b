//! What commands print, to the letter: golden scripts.
//!
//! - `koncli ...` is run to its end: what it prints follows, what it says on stderr behind `2>`, and its exit code behind
//!   `=>` unless it is 0;
//! - `until TEXT: koncli ...` runs it until it prints that: a status is written a little after what it tells of; all that
//!   it printed then follows;
//! - `do: koncli ...` must end well, and what it prints is of no interest here;
//! - `watch NAME: koncli ...` begins one, `seen NAME TEXT` waits until it has printed that, and `end NAME` ends it: all
//!   that it has printed follows.
//!
//! Ages, times, UIDs, versions, tokens and the test's namespace are replaced by words, which moves what is behind them.

use std::{collections::BTreeMap, path::PathBuf};

use konductor_tests::{Process, eventually};

use crate::scene::{LIMIT, Ran, Scene, ages};

/// Plays a script in a namespace of its own.
async fn play(name: &str) {
    let scene = Scene::new(&format!("koncli-{name}")).await;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/koncli/golden/{name}.txt"));
    let script = std::fs::read_to_string(&path).expect("a script");
    let (mut played, mut watches) = (String::new(), BTreeMap::new());
    for line in script.lines().filter(|line| !line.starts_with("    ")) {
        played += line;
        played.push('\n');
        for said in follow(&scene, line, &mut watches).await {
            // An empty line would be an input when it is played again.
            for part in ["    ", if said.is_empty() { "(empty)" } else { &said }, "\n"] {
                played += part;
            }
        }
    }
    konductor_golden::check_file(&path, |_| played);
}

/// What follows from a line.
async fn follow(scene: &Scene, line: &str, watches: &mut BTreeMap<String, Process>) -> Vec<String> {
    if line.is_empty() || line.starts_with('#') {
        return Vec::new();
    }
    if let Some(words) = line.strip_prefix("koncli ") {
        let words = words.replace("NAMESPACE", &scene.namespace.name);
        return said(scene, &scene.run(&words).await);
    }
    if let Some(words) = line.strip_prefix("do: koncli ") {
        scene.prints(words).await;
        return Vec::new();
    }
    if let Some((text, words)) = line.strip_prefix("until ").and_then(|rest| rest.split_once(": koncli ")) {
        let what = format!("koncli {words} prints {text:?}");
        let ran = eventually(LIMIT, &what, || async {
            let ran = scene.run(words).await;
            if ran.stdout.contains(text) { Ok(ran) } else { Err(format!("{ran:?}")) }
        });
        return said(scene, &ran.await);
    }
    if let Some((name, words)) = line.strip_prefix("watch ").and_then(|rest| rest.split_once(": koncli ")) {
        watches.insert(name.to_owned(), scene.start(words));
        return Vec::new();
    }
    if let Some((name, text)) = line.strip_prefix("seen ").and_then(|rest| rest.split_once(' ')) {
        watches[name].wait_stdout(LIMIT, text).await;
        return Vec::new();
    }
    if let Some(name) = line.strip_prefix("end ") {
        let mut watch = watches.remove(name).expect("one that was begun");
        watch.kill();
        return lines(scene, &watch.stdout(), "");
    }
    panic!("nobody knows what this is: {line}");
}

/// What a command has come to.
fn said(scene: &Scene, ran: &Ran) -> Vec<String> {
    let mut all = lines(scene, &ran.stdout, "");
    all.extend(lines(scene, &ran.stderr, "2> "));
    all.extend((ran.code != 0).then(|| format!("=> {}", ran.code)));
    all
}

fn lines(scene: &Scene, text: &str, before: &str) -> Vec<String> {
    let text = text.replace(&scene.namespace.name, "NAMESPACE").replace(&scene.system, "SYSTEM");
    text.lines().map(|line| format!("{before}{}", plain(line)).trim_end().to_owned()).collect()
}

/// A line without what is another one each time.
fn plain(line: &str) -> String {
    let trimmed = line.trim_start().trim_start_matches('"');
    if trimmed.starts_with("resourceVersion") {
        let (name, _) = line.split_once(':').expect("a field");
        return format!("{name}: VERSION");
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let (mut plain, mut word) = (String::new(), String::new());
    for c in line.chars().chain(['\n']) {
        if is_part(c) {
            word.push(c);
            continue;
        }
        plain += &replaced(&word);
        word.clear();
        plain.push(c);
    }
    // How many blanks follow an age depends on how long that is.
    let mut parts = plain.trim_end().split("AGE   ");
    let mut steady = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        steady += "AGE   ";
        steady += part.trim_start();
    }
    steady
}

fn replaced(word: &str) -> String {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hyphens = word.matches('-').count();
    let bare = word.trim_end_matches([':', '.']);
    if ages(bare) == "AGE" {
        return word.replace(bare, "AGE");
    }
    match word {
        _ if word.ends_with('Z') && word.contains('T') && word.starts_with("20") => "TIME".to_owned(),
        // Tokens, terms and tickets.
        _ if is_digits(word) && word.len() >= 9 => "NUMBER".to_owned(),
        _ if word.len() == 36 && hyphens == 4 => "UID".to_owned(),
        _ => word.to_owned(),
    }
}

#[tokio::test]
async fn what_is_printed_of_the_program_itself() {
    play("program").await;
}

#[tokio::test]
async fn what_is_printed_of_locks() {
    play("locks").await;
}

#[tokio::test]
async fn what_is_printed_of_barriers_and_gates() {
    play("rendezvous").await;
}

#[tokio::test]
async fn what_is_printed_of_events_and_the_operator() {
    play("events").await;
}

#[test]
fn what_changes_from_run_to_run_is_replaced() {
    for (line, expected) in [
        ("warehouse   Full   2   5m3s", "warehouse   Full   2   AGE"),
        ("for 12s, expires in 4m48s", "for AGE, expires in AGE"),
        ("a   12s   b", "a   AGE   b"),
        ("a   5s    b", "a   AGE   b"),
        (r#"    "uid": "0f8fad5b-d9cb-469f-a165-70867728950e","#, r#"    "uid": "UID","#),
        (r#"    "resourceVersion": "1234""#, r#"    "resourceVersion": VERSION"#),
        ("    creationTimestamp: 2026-01-01T12:00:00Z", "    creationTimestamp: TIME"),
        ("held with token 1872600000000000", "held with token NUMBER"),
        ("semaphore.konductor.io/s created", "semaphore.konductor.io/s created"),
    ] {
        assert_eq!(plain(line), expected);
    }
}
