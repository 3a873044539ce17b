//! What people copy is true: a real API server accepts the examples and the README's objects as they are, and images
//! are of this version.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use k8s_openapi::api::rbac::v1::ClusterRole;
use konductor_tests::{ControlPlane, apply, helm_template, install_crds, parse, workspace};
use kube::{Api, Client};

/// What the chart would install, but for the operator.
async fn installed() -> Client {
    let client = ControlPlane::shared().await.client().await;
    install_crds(&client).await;
    let mut roles = helm_template("konductor", "konductor-system", &[("crds.enabled", "false")]);
    roles.retain(|object| object.types.as_ref().is_some_and(|types| types.kind == "ClusterRole"));
    apply(&client, "default", &roles).await;
    client
}

#[tokio::test]
async fn the_api_server_accepts_the_examples() {
    let client = installed().await;
    for (file, text) in examples() {
        let objects = parse(&text);
        assert!(!objects.is_empty(), "{} is empty", file.display());
        assert!(
            text.contains(&format!("kubectl apply -f {}", file.display())),
            "{} says how to use it",
            file.display()
        );
        apply(&client, "default", &objects).await;
    }
}

#[tokio::test]
async fn the_api_server_accepts_what_the_readme_shows() {
    let client = installed().await;
    let namespace = ControlPlane::shared().await.namespace("readme").await;
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("read the README");
    let blocks: Vec<_> = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "the README shows no objects");
    for block in blocks {
        apply(&client, &namespace.name, &parse(block)).await;
    }
    // Its Jobs may do what they have to.
    let role = Api::<ClusterRole>::all(client).get("konductor-workload").await.expect("read the chart's role");
    namespace.wait_allowed("importer", Some(&namespace.name), &role.rules.expect("it has rules")).await;
}

#[test]
fn images_are_of_this_version() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("read the README");
    let mut found = 0;
    for (file, text) in examples().into_iter().chain([(PathBuf::from("README.md"), readme)]) {
        for image in ["konductor/run", "konductor/operator", "konductor/demo"] {
            for (at, _) in text.match_indices(image) {
                let rest = &text[at + image.len()..];
                // A path is no image.
                if rest.starts_with('/') || rest.starts_with('-') {
                    continue;
                }
                let tag = rest.strip_prefix(':').unwrap_or_else(|| panic!("{image} has no tag in {}", file.display()));
                let tag: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
                assert_eq!(tag, env!("CARGO_PKG_VERSION"), "tag of {image} in {}", file.display());
                found += 1;
            }
        }
    }
    assert!(found > 0, "no example names an image");
}

/// A page may name an image without a tag, where it says what it is; with one, it is what people copy.
#[test]
fn images_in_pages_are_of_this_version() {
    let mut pages = Vec::new();
    collect(&workspace().join("docs"), "md", &mut pages);
    let mut found = 0;
    for (file, text) in pages {
        for image in ["konductor/run:", "konductor/cli:", "konductor/operator:", "konductor/demo:"] {
            for (at, _) in text.match_indices(image) {
                let tag = &text[at + image.len()..];
                assert!(tag.starts_with(env!("CARGO_PKG_VERSION")), "tag of {image} in {}", file.display());
                found += 1;
            }
        }
    }
    assert!(found > 0, "no page names an image");
}

/// `kubectl apply` goes from top to bottom: a Job that comes first starts without what it needs.
#[test]
fn a_job_comes_after_the_right_to_take_what_it_waits_for() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("read the README");
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let blocks = blocks.map(|block| (PathBuf::from("README.md"), block.to_owned()));
    let mut jobs = 0;
    for (file, text) in examples().into_iter().chain(blocks) {
        let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
        let works = |kind: &&str| ["Job", "CronJob", "Deployment"].contains(kind);
        if let Some(first) = kinds.iter().position(works) {
            jobs += 1;
            let before = &kinds[..first];
            assert!(before.contains(&"RoleBinding") && before.contains(&"ServiceAccount"), "{}", file.display());
            assert!(kinds[first..].iter().all(works), "{}: {kinds:?}", file.display());
        }
    }
    assert!(jobs > 1, "the README and the examples have Jobs");
}

/// The first command of the README, and of its example, as a person would paste it.
#[test]
fn the_first_command_shows_that_one_waited_for_the_other() {
    let read = |file: &str| std::fs::read_to_string(workspace().join(file)).expect("read a page");
    let readme = read("README.md");
    let block = readme.split("```sh\n").nth(1).expect("the README has a command");
    let line = block.lines().next().expect("it is one line");
    assert!(read("examples/turns/README.md").contains(line), "the example's page has the same command");
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(workspace()).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KONDUCTOR_")) {
        shell.env_remove(name);
    }
    let output = shell.output().expect("there is a shell");
    let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{log}");
    let lines: Vec<_> = out.lines().collect();
    let (one, two) = (["one works", "one is done"], ["two works", "two is done"]);
    assert!(lines == [one, two].concat() || lines == [two, one].concat(), "{out}{log}");
    let at = |said: &str| log.find(said).unwrap_or_else(|| panic!("{said}: {log}"));
    assert!(
        at("waiting for semaphore turns: next in line") < log.rfind("holding semaphore turns").unwrap_or(0),
        "{log}"
    );
    assert_eq!(log.matches("holding semaphore turns, fencing token").count(), 2, "{log}");
}

/// The YAML files of the examples, named from the workspace's root.
fn examples() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(&workspace().join("examples"), "yaml", &mut found);
    assert!(!found.is_empty(), "there are no examples");
    found
}

/// The files with this extension.
fn collect(folder: &Path, wanted: &str, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).expect("list a folder") {
        let path = entry.expect("list a folder").path();
        if path.is_dir() {
            collect(&path, wanted, found);
        } else if path.extension().is_some_and(|extension| extension == wanted) {
            let text = std::fs::read_to_string(&path).expect("read a file");
            let name = path.strip_prefix(workspace()).expect("it is in the workspace");
            found.push((name.to_owned(), text));
        }
    }
}
