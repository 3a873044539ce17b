//! `tests/tools/install`, with a compiler that is a stand-in: what is tried here is how it finds, builds and caches. And
//! what a release does that cannot be tried where nothing is published, with stand-ins for what publishes.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use konductor_tests::{executable, minors, workspace};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the script needs of a machine besides a compiler.
const PROGRAMS: [&str; 8] = ["awk", "bash", "chmod", "dirname", "flock", "mkdir", "mv", "sleep"];

/// A machine with these programs only, an empty cache, and no compiler.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("make a folder"));
        std::fs::create_dir(machine.bin()).expect("make a folder");
        for program in PROGRAMS {
            let output =
                Command::new("bash").args(["-c", &format!("command -v {program}")]).output().expect("run bash");
            let path = String::from_utf8(output.stdout).expect("a UTF-8 path");
            assert!(!path.is_empty(), "this test needs {program}: install it");
            symlink(path.trim_end(), machine.bin().join(program)).expect("link a program");
        }
        machine
    }

    /// Adds a compiler that takes a moment, writes `built` as the program, and leaves a line in `builds`.
    fn with_compiler(self) -> Self {
        let script = r#"#!/usr/bin/env bash
while [[ $1 != -o ]]; do shift; done
sleep 0.3
echo built >"$2"
chmod +x "$2"
echo build >>"$BUILDS"
"#;
        executable(&self.bin().join("go"), script);
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }

    fn install(&self, programs: &[&str]) -> Command {
        let mut command = Command::new(workspace().join("tests/tools/install"));
        command
            .args(programs)
            .env_clear()
            .env("PATH", self.bin())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("BUILDS", self.path().join("builds"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn builds(&self) -> usize {
        std::fs::read_to_string(self.path().join("builds")).unwrap_or_default().lines().count()
    }
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

#[test]
fn without_compiler_and_assets_says_what_to_install() {
    let machine = Machine::new();
    let output = machine.install(&["etcd"]).output().expect("run the script");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in ["The tests need etcd v3.", "install Go", "KUBEBUILDER_ASSETS", "setup-envtest"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }

    // And the harness says just that.
    let harness = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .env_clear()
        .env("PATH", machine.bin())
        .env("XDG_CACHE_HOME", machine.path().join("cache"))
        .output()
        .expect("run the harness");
    assert_eq!(harness.status.code(), Some(101));
    let said = String::from_utf8(harness.stderr).expect("UTF-8");
    assert!(said.lines().any(|line| line == message.trim_end()), "{message:?} in {said}");
}

#[test]
fn two_at_once_build_once() {
    let machine = Machine::new().with_compiler();
    let children = [(); 2].map(|()| machine.install(&["etcd", "helm"]).spawn().expect("run the script"));
    let outputs = children.map(|child| child.wait_with_output().expect("wait for the script"));
    assert_eq!(stdout(&outputs[0]), stdout(&outputs[1]));
    assert_eq!(stdout(&outputs[0]).lines().count(), 2);
    for path in stdout(&outputs[0]).lines() {
        assert_eq!(std::fs::read_to_string(path).expect("read the program"), "built\n");
    }
    assert_eq!(machine.builds(), 2, "one for each program");
    // And from the cache afterwards.
    assert_eq!(stdout(&machine.install(&["etcd", "helm"]).output().expect("run the script")), stdout(&outputs[0]));
    assert_eq!(machine.builds(), 2);
}

#[test]
fn assets_win_for_what_they_hold() {
    let machine = Machine::new().with_compiler();
    let assets = machine.path().join("assets");
    std::fs::create_dir(&assets).expect("make a folder");
    executable(&assets.join("etcd"), "");
    let output =
        machine.install(&["etcd", "helm"]).env("KUBEBUILDER_ASSETS", &assets).output().expect("run the script");
    let paths: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(paths[0], assets.join("etcd").to_str().expect("UTF-8"));
    assert!(paths[1].starts_with(machine.path().join("cache").to_str().expect("UTF-8")), "{}", paths[1]);
    assert_eq!(machine.builds(), 1);
}

#[test]
fn the_minor_that_is_named_is_built_whatever_the_assets_hold() {
    let machine = Machine::new().with_compiler();
    let assets = machine.path().join("assets");
    std::fs::create_dir(&assets).expect("make a folder");
    executable(&assets.join("kube-apiserver"), "");
    let install = |minor: Option<&str>| {
        let mut command = machine.install(&["kube-apiserver"]);
        command.env("KUBEBUILDER_ASSETS", &assets).envs(minor.map(|minor| ("KONDUCTOR_TEST_KUBERNETES", minor)));
        command.output().expect("run the script")
    };
    assert_eq!(stdout(&install(None)).trim_end(), assets.join("kube-apiserver").to_str().expect("UTF-8"));
    for version in versions() {
        let output = install(Some(minor(&version)));
        let path = machine.path().join(format!("cache/konductor/tools/kubernetes-v{version}/kube-apiserver"));
        assert_eq!(stdout(&output).trim_end(), path.to_str().expect("UTF-8"));
    }
    assert_eq!(machine.builds(), versions().len());
    // A node is never newer than its control plane, and at most three minors older.
    for version in versions() {
        let output = machine.install(&["kubelet"]).env("KONDUCTOR_TEST_KUBERNETES", minor(&version)).output();
        let path = stdout(output.as_ref().expect("run the script")).trim_end().to_owned();
        let (_, kubelet) = path.trim_end_matches("/kubelet").rsplit_once("-v").expect("a version");
        let number = |version: &str| minor(version).trim_start_matches("1.").parse::<u32>().expect("a minor");
        assert!((0..=3).contains(&number(&version).checked_sub(number(kubelet)).expect("not newer")), "{path}");
    }

    let output = install(Some("1.9"));
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(message.contains("KONDUCTOR_TEST_KUBERNETES: wanted a minor (one of 1."), "{message}");
    assert!(message.ends_with("found '1.9'\n"), "{message}");
}

/// The book of a release becomes its site, and the pictures of its pages can be looked at.
#[test]
fn the_book_is_published_and_its_pictures_are_kept() {
    for (file, line) in [
        ("release/all", "book"),
        ("release/book", "\"$root/docs/build\" \"$out/book\""),
        (".github/workflows/release.yml", "run: release/all dist\n"),
        (".github/workflows/release.yml", "path: dist/book\n"),
        (".github/workflows/release.yml", "uses: actions/deploy-pages@"),
        (".github/workflows/release.yml", "pages: write"),
        (".ci/run", "docs/screenshots"),
        ("docs/screenshots", "\"target/book-screenshots\""),
        (".github/workflows/pull-request.yml", "path: target/book-screenshots\n"),
    ] {
        assert!(read(file).contains(line), "{file} lacks {line}");
    }
}

/// The versions of Kubernetes that are listed, newest first.
fn versions() -> Vec<String> {
    let text = read("tests/tools/kubernetes/versions");
    text.lines().map(|line| line.split(' ').next().expect("a version").to_owned()).collect()
}

fn minor(version: &str) -> &str {
    version.rsplit_once('.').expect("MAJOR.MINOR.PATCH").0
}

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

#[test]
fn every_version_is_pinned_and_said_to_be_supported() {
    let versions = versions();
    assert!(minors().iter().rev().eq(versions.iter().map(|version| minor(version))), "{:?}", minors());
    let mut folders: Vec<_> = std::fs::read_dir(workspace().join("tests/tools/kubernetes"))
        .expect("list the folder")
        .map(|entry| entry.expect("list the folder").path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, minors(), "run tests/tools/pin, and remove what is no longer listed");
    for version in &versions {
        let pinned = read(&format!("tests/tools/kubernetes/{}/go.mod", minor(version)));
        let pin = format!("k8s.io/kubernetes v{version}");
        assert!(pinned.lines().any(|line| line.contains(&pin)), "run tests/tools/pin: it has no {version}");
        let row = format!("\n| {version} | ");
        assert!(read("docs/compatibility.md").contains(&row), "docs/compatibility.md has no row of {version}");
    }
    let oldest = minor(versions.last().expect("a version"));
    assert!(read("charts/konductor/Chart.yaml").contains(&format!("\nkubeVersion: \">={oldest}.0-0\"\n")), "{oldest}");
    for page in ["README.md", "docs/guides/installation.md", "docs/guides/quick-start.md"] {
        assert!(read(page).contains(&format!("Kubernetes {oldest} or newer")), "{page}: {oldest}");
    }
}

#[test]
fn workflows_call_our_scripts_and_pin_what_is_not_ours() {
    let of_release = ["release/previous", "release/all", "release/publish"];
    for (workflow, scripts) in [("pull-request", &[".ci/run"] as &[_]), ("release", &of_release)] {
        let text = read(&format!(".github/workflows/{workflow}.yml"));
        for action in text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("uses: ")) {
            // By commit, as a tag can be moved; and with the version that it is, for people.
            let (commit, version) = action.split_once('@').and_then(|(_, pin)| pin.split_once(" # v")).expect(action);
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{action}");
        }
        for script in scripts {
            assert!(text.contains(script), "{workflow} does not call {script}");
            let mode = std::fs::metadata(workspace().join(script)).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{script}");
        }
    }
}

/// The jobs of a workflow, each with its permissions and with what its steps run and use.
fn jobs(workflow: &str) -> BTreeMap<String, (Value, String)> {
    let workflow: Value = serde_yaml_ng::from_str(&read(workflow)).expect("YAML");
    let jobs = workflow["jobs"].as_object().expect("jobs").iter();
    jobs.map(|(name, job)| (name.clone(), (job["permissions"].clone(), job["steps"].to_string()))).collect()
}

#[test]
fn what_builds_a_release_can_neither_sign_nor_publish_it() {
    let file = ".github/workflows/release.yml";
    let jobs = jobs(file);
    let (permissions, steps) = &jobs["build"];
    assert_eq!(permissions, &json!({ "contents": "read" }));
    assert!(steps.contains("release/all") && steps.contains(r#""persist-credentials":false"#), "{steps}");
    assert!(!steps.contains("secrets."), "{steps}");
    for (name, (permissions, steps)) in &jobs {
        let signs = permissions["id-token"] == "write";
        let builds = ["release/all", "release/binaries", "cargo ", "rustup "].iter().any(|run| steps.contains(run));
        assert!(!(signs && builds), "{name} does both");
        let checks_out = steps.contains("actions/checkout@");
        assert!(!checks_out || steps.contains(r#""persist-credentials":false"#), "{name} leaves a token on the disk");
    }
    let (permissions, steps) = &jobs["publish"];
    assert_eq!(permissions["contents"], "write");
    assert!(steps.contains("release/publish") && steps.contains("actions/attest-build-provenance@"), "{steps}");
    // What one release adds to the chart repository, one beside it would leave out.
    let workflow: Value = serde_yaml_ng::from_str(&read(file)).expect("YAML");
    assert_eq!(workflow["concurrency"], json!({ "group": "release", "cancel-in-progress": false }));
}

/// What `release/all` has made, as far as `release/publish` looks at it; and programs that only note how they are called.
struct Release(TempDir);

impl Release {
    fn new() -> Self {
        let release = Self(tempfile::tempdir().expect("make a folder"));
        let folder = release.0.path();
        for layout in ["images/run", "images/cli", "images/operator", "chart/oci"] {
            let layout = folder.join("dist").join(layout);
            std::fs::create_dir_all(&layout).expect("make a folder");
            let digest = format!("sha256:{}", layout.file_name().and_then(|name| name.to_str()).expect("UTF-8"));
            let index = format!(r#"{{"manifests":[{{"digest":"{digest}"}}]}}"#);
            std::fs::write(layout.join("index.json"), index).expect("write an index");
        }
        std::fs::create_dir(folder.join("dist/files")).expect("make a folder");
        std::fs::write(folder.join("dist/files/SHA256SUMS"), "").expect("write a file");
        std::fs::create_dir(folder.join("bin")).expect("make a folder");
        // Each notes how it is called, and fails if that begins as FAILS says. There are the releases that RELEASES names.
        let program = r#"#!/usr/bin/env bash
line="${0##*/} $*"
line=${line//$'\n'/ }
echo "$line" >>"$CALLS"
[[ ! ${FAILS:-} || $line != "$FAILS"* ]] || exit 1
case $line in
  "gh release list "*) [[ ! ${RELEASES:-} ]] || printf '%s\n' $RELEASES ;;
  "gh release download "*) printf '%s' "${INDEX:-}" >"$OUTPUT" ;;
esac
"#;
        for name in ["skopeo", "cosign", "gh"] {
            executable(&folder.join("bin").join(name), program);
        }
        release
    }

    fn publish(&self, tag: &str, variables: &[(&str, &str)]) -> Output {
        self.step("publish", &[tag], variables)
    }

    /// Runs a step of the release on the folder.
    fn step(&self, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(workspace().join("release").join(name));
        let path = std::env::var("PATH").expect("a path");
        command
            .arg(self.0.path().join("dist"))
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.0.path().join("bin").display()))
            .env("OUTPUT", self.0.path().join("dist/previous-index.yaml"))
            .env("CALLS", self.0.path().join("calls"))
            .env_remove("REGISTRY")
            .envs(variables.iter().copied());
        command.output().expect("run the script")
    }

    /// How the programs were called, without the folder.
    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        let dist = format!("{}/", self.0.path().join("dist").display());
        calls.lines().map(|line| line.replace(&dist, "")).collect()
    }
}

#[test]
fn a_release_is_pushed_and_signed_before_anybody_sees_it() {
    let version = env!("CARGO_PKG_VERSION");
    let (tag, registry) = (format!("v{version}"), ("REGISTRY", "registry.example/konductor"));
    let release = Release::new();
    // Also where there are others, of which one's name begins the same.
    let others = format!("v0.0.9 {tag}-rc.1");
    let output = release.publish(&tag, &[registry, ("RELEASES", &others)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pushed = [
        ("images/run", "run", "run"),
        ("images/cli", "cli", "cli"),
        ("images/operator", "operator", "operator"),
        ("chart/oci", "charts/konductor", "oci"),
    ];
    let list = "gh release list --limit 10000 --json tagName --jq .[].tagName";
    let mut expected = vec![list.to_owned()];
    for (layout, name, digest) in pushed {
        let name = format!("{}/{name}", registry.1);
        expected.push(format!("skopeo copy --all --preserve-digests oci:{layout}:{version} docker://{name}:{version}"));
        expected.push(format!("cosign sign --yes --recursive {name}@sha256:{digest}"));
    }
    expected.push("cosign sign-blob --yes --bundle files/SHA256SUMS.sigstore.json files/SHA256SUMS".to_owned());
    let calls = release.calls();
    assert_eq!(calls[..expected.len()], expected);
    let [draft, published] = &calls[expected.len()..] else { panic!("{calls:#?}") };
    // With what the changelog says of it.
    let start = format!("gh release create {tag} --draft --verify-tag --title {tag} --notes ## {version} ");
    assert!(draft.starts_with(&start) && draft.contains("`Semaphore` and `Permit`"), "{draft}");
    assert!(draft.ends_with(" files/SHA256SUMS"), "{draft}");
    assert_eq!(*published, format!("gh release edit {tag} --draft=false"));

    // What fails is not shown to anybody.
    for call in ["gh release list ", "skopeo copy ", "cosign sign ", "gh release create "] {
        let release = Release::new();
        assert!(!release.publish(&tag, &[registry, ("FAILS", call)]).status.success(), "{call}");
        let calls = release.calls();
        assert!(calls.last().is_some_and(|last| last.starts_with(call)), "{call}: {calls:#?}");
    }
    // What others may have already is not replaced, by whomever the workflow is run again.
    let release = Release::new();
    let output = release.publish(&tag, &[registry, ("RELEASES", &format!("v9.9.9 {tag} v0.0.9"))]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&format!("there is a release {tag} already: ")), "{said}");
    assert_eq!(release.calls(), [list]);
    // Nor is what is not asked for in the right way.
    for (tag, variables, sentence) in [
        (
            "v9.9.9",
            &[registry][..],
            format!("wanted the tag v{version}, which is Cargo.toml's version, found 'v9.9.9'"),
        ),
        (&*tag, &[], "wanted in REGISTRY where images and chart go, found nothing".to_owned()),
    ] {
        let release = Release::new();
        let output = release.publish(tag, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(&sentence), "{said}");
        assert!(release.calls().is_empty(), "{:#?}", release.calls());
    }
}

#[test]
fn the_versions_before_are_asked_for_and_a_failure_is_not_taken_for_none() {
    // The first release has none before it.
    let release = Release::new();
    let output = release.step("previous", &[], &[]);
    assert_eq!(stdout(&output), "");
    let list = "gh release list --exclude-drafts --exclude-pre-releases --limit 1 --json tagName --jq .[].tagName";
    assert_eq!(release.calls(), [list]);

    let release = Release::new();
    let index = "entries:\n  konductor:\n  - name: konductor\n    version: 0.0.9\n";
    let output = release.step("previous", &[], &[("RELEASES", "v0.0.9"), ("INDEX", index)]);
    let file = stdout(&output).trim_end();
    assert_eq!(std::fs::read_to_string(file).expect("read the index"), index);
    let download = "gh release download v0.0.9 --pattern index.yaml --output previous-index.yaml --clobber";
    assert_eq!(release.calls(), [list, download]);

    for (what, variables) in [
        ("GitHub does not answer", &[("FAILS", "gh release list ")][..]),
        ("the index does not come", &[("RELEASES", "v0.0.9"), ("FAILS", "gh release download ")]),
        ("the index is empty", &[("RELEASES", "v0.0.9")]),
    ] {
        let output = Release::new().step("previous", &[], variables);
        assert!(!output.status.success() && output.stdout.is_empty(), "{what}");
    }
}

#[test]
fn a_version_that_a_new_index_lacks_is_named() {
    let release = Release::new();
    let folder = release.0.path();
    // As `helm repo index` writes them.
    let index = |file: &str, versions: &[&str]| {
        let entry = |version: &&str| {
            format!(
                "  - apiVersion: v2\n    dependencies:\n    - name: other\n      version: 7.7.7\n    name: konductor\n    \
                 version: {version}\n"
            )
        };
        let entries: String = versions.iter().map(entry).collect();
        let path = folder.join(file);
        std::fs::write(&path, format!("apiVersion: v1\nentries:\n  konductor:\n{entries}")).expect("write an index");
        path
    };
    let previous = index("previous", &["0.0.9", "0.0.10", "\"1.0\""]);
    for (new, lost) in [
        (&["0.1.0", "0.0.9", "0.0.10", "1.0"][..], ""),
        (&["0.1.0", "0.0.10", "1.0"], "0.0.9\n"),
        (&["0.1.0"], "0.0.10\n0.0.9\n1.0\n"),
    ] {
        let mut command = Command::new("bash");
        command.args(["-c", "source \"$0\" \"$1\"; lost \"$2\" \"$3\""]);
        command.args([workspace().join("release/lib.sh"), folder.join("dist"), previous.clone(), index("new", new)]);
        assert_eq!(stdout(&command.env("LC_ALL", "C").output().expect("run bash")), lost, "{new:?}");
    }
    assert!(read("release/check").contains("lost \"$PREVIOUS_INDEX\" \"$out/chart/index.yaml\""));
}
