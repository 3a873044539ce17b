//! Plays a story, as somebody would who types it in.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::book::check::check;
use crate::book::likeness::{is_like, is_like_in_any_order};
use crate::book::marker::Marker;
use crate::book::page::Block;
use crate::book::story::Story;
use crate::process::{Process, code};
use crate::reaper;
use crate::tools::workspace;
use crate::wait::INTERVAL;

/// Far more than any block takes on an idle machine.
const LIMIT: Duration = Duration::from_mins(2);

/// How long a block that is run again rests before that.
const PAUSE: Duration = Duration::from_millis(200);

/// What is copied into a page's folder, if it speaks of it.
const CHECKOUT: [&str; 2] = ["examples", "charts"];

/// What a story is played in.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The cluster, and the namespace of the story in it.
    pub cluster: Option<(PathBuf, String)>,
    /// The programs under test by the names that people call them by.
    pub programs: Vec<(String, PathBuf)>,
}

/// A story that is being played.
struct Player<'a> {
    surroundings: &'a Surroundings,
    /// What the blocks see as theirs.
    folder: PathBuf,
    /// What they do not see.
    behind: PathBuf,
    /// The socket of its database, when there is one.
    database: String,
    /// What has begun goes on until the end of the story.
    begun: Vec<Process>,
    /// What the page should show, by the lines of its blocks.
    changes: Vec<(usize, String)>,
}

/// Plays a story to its end, or up to the first block that fails: with what is wrong. With `update` an output that is
/// another one than shown is no fault: what there is to show is returned, with the line of its block.
pub async fn play(
    story: &Story<'_>,
    surroundings: &Surroundings,
    update: bool,
) -> Result<Vec<(usize, String)>, String> {
    let mut player = Player::new(story, surroundings);
    for (block, output) in &story.steps {
        let done = player.step(block, *output, update).await;
        done.map_err(|error| story.page.at(block.line, &format!("{error}\n{}", indented(&block.text))))?;
    }
    Ok(player.changes)
}

impl<'a> Player<'a> {
    fn new(story: &Story<'_>, surroundings: &'a Surroundings) -> Self {
        let all = reaper::folder("page");
        let (folder, behind) = (all.join("page"), all.join("behind"));
        for made in [&folder, &behind, &behind.join("bin"), &behind.join("home")] {
            std::fs::create_dir(made).expect("make a folder");
        }
        for (name, program) in &surroundings.programs {
            symlink(program, behind.join("bin").join(name)).expect("make a link");
        }
        for name in CHECKOUT {
            if story.page.text.contains(&format!("{name}/")) {
                copy(&workspace().join(name), &folder.join(name));
            }
        }
        // One that nobody else has: test processes have folders of their own, and stories in them.
        let names = all.iter().rev().take(2).map(|name| name.to_string_lossy()).collect::<Vec<_>>();
        let database = format!("@{}", names.join("-"));
        Self { surroundings, folder, behind, database, begun: Vec::new(), changes: Vec::new() }
    }

    async fn step(&mut self, block: &Block, output: Option<&Block>, update: bool) -> Result<(), String> {
        match block.marker.as_ref().map_err(Clone::clone)? {
            Marker::Run { code, until, background, with, .. } => {
                let text = with.iter().fold(block.text.clone(), |text, (word, ours)| instead(&text, word, ours));
                let wanted = Wanted { code: *code, output, update };
                if *background { self.begin(&text, &wanted).await } else { self.run(&text, &wanted, *until).await }
            }
            Marker::File(name) => {
                let path = self.folder.join(name);
                let folder = path.parent().expect("it is in a folder");
                std::fs::create_dir_all(folder)
                    .and_then(|()| std::fs::write(&path, &block.text))
                    .map_err(|error| format!("write {name}: {error}"))
            }
            marker @ (Marker::Apply(_) | Marker::Dry(_)) => {
                let file = self.behind.join("manifest.yaml");
                std::fs::write(&file, &block.text).expect("write a file");
                let dry = if matches!(marker, Marker::Dry(_)) { " --dry-run=server" } else { "" };
                let line = format!("kubectl apply{dry} --filename '{}'\n", file.display());
                self.run(&line, &Wanted { code: 0, output, update }, false).await
            }
            Marker::Check { language, .. } if language == "sql" => {
                let file = self.behind.join("checked.sql");
                std::fs::write(&file, &block.text).expect("write a file");
                let line = format!("psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --file '{}'\n", file.display());
                self.run(&line, &Wanted { code: 0, output: None, update }, false).await
            }
            Marker::Check { language, .. } => check(language, &block.text, &self.behind),
            Marker::Output { .. } | Marker::NotRun(_) => Ok(()),
        }
    }

    /// Runs to its end, once or until it has ended and printed as wanted.
    async fn run(&mut self, text: &str, wanted: &Wanted<'_>, until: bool) -> Result<(), String> {
        if text.contains("psql") {
            self.database().await?;
        }
        let began = tokio::time::Instant::now();
        let mut last = None;
        loop {
            let mut process = self.spawn(text);
            let ended = loop {
                match process.status() {
                    None if began.elapsed() < LIMIT => tokio::time::sleep(INTERVAL).await,
                    ended => break ended,
                }
            };
            let printed = self.printed(&process);
            let Err(error) = wanted.by(ended, &printed) else {
                // What it has left running goes on, as it would behind a prompt.
                self.begun.push(process);
                return Ok(());
            };
            if !until || began.elapsed() >= LIMIT {
                // Of what was run again and again, the last one that has ended says more.
                let (ended, printed, error) = last.filter(|_| ended.is_none()).unwrap_or((ended, printed, error));
                return self.settle(wanted, ended, &printed, error);
            }
            last = Some((ended, printed, error));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Brings up a database, if there is none yet.
    async fn database(&mut self) -> Result<(), String> {
        let folder = self.behind.join("database");
        if folder.exists() {
            return Ok(());
        }
        std::fs::create_dir(&folder).expect("make a folder");
        let script = self.behind.join("database.sh");
        std::fs::write(&script, include_str!("database.sh")).expect("write a file");
        let mut command = Command::new("bash");
        command.arg(script).arg(&self.database).current_dir(&folder);
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(says_otherwise) {
                command.env_remove(variable);
            }
        }
        let mut server = Process::spawn_quiet("database", command);
        let began = tokio::time::Instant::now();
        while !server.stderr().contains("ready to accept connections") {
            if server.status().is_some() || began.elapsed() > LIMIT {
                return Err(format!("the database does not come up:\n{}", indented(&server.output())));
            }
            tokio::time::sleep(INTERVAL).await;
        }
        self.begun.push(server);
        Ok(())
    }

    /// What is other than wanted is shown from now on, if that is what is asked for.
    fn settle(
        &mut self,
        wanted: &Wanted<'_>,
        ended: Option<ExitStatus>,
        printed: &str,
        error: String,
    ) -> Result<(), String> {
        let ended_well = ended.is_some_and(|ended| code(ended) == wanted.code);
        match wanted.output.filter(|_| wanted.update && ended_well) {
            Some(output) => {
                self.changes.push((output.line, printed.to_owned()));
                Ok(())
            }
            None => Err(error),
        }
    }

    /// Begins something, and waits until it has printed what is shown, if anything is.
    async fn begin(&mut self, text: &str, wanted: &Wanted<'_>) -> Result<(), String> {
        let mut process = self.spawn(text);
        let began = tokio::time::Instant::now();
        let mut seen = Ok(());
        if let Some(output) = wanted.output {
            loop {
                // First whether it has ended: then what it has printed is all.
                let ended = process.status().is_some();
                let printed = self.printed(&process);
                if is_shown(output, &printed) {
                    break;
                }
                if ended || began.elapsed() > LIMIT {
                    seen = Err(differs(&output.text, &printed));
                    break;
                }
                tokio::time::sleep(INTERVAL).await;
            }
        }
        self.begun.push(process);
        seen
    }

    fn spawn(&self, text: &str) -> Process {
        let mut command = Command::new("bash");
        // As the page's own shell would name itself.
        command.args(["-eu", "-c", text, "bash"]).current_dir(&self.folder);
        let path = std::env::var("PATH").unwrap_or_default();
        let home = self.behind.join("home");
        command.env("PATH", format!("{}:{path}", self.behind.join("bin").display()));
        command.env("HOME", &home).env("USER", "ann").env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env_remove("TERM");
        for variable in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "PAGER", "EDITOR"] {
            command.env_remove(variable);
        }
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(says_otherwise) {
                command.env_remove(variable);
            }
        }
        let begin = self.behind.join("begin.sh");
        std::fs::write(&begin, include_str!("shell.sh")).expect("write a file");
        command.env("BASH_ENV", begin).env("BOOK_STATE", self.behind.join("state.sh"));
        command.env("PGHOST", &self.database).env("PGUSER", "ann").env("PGDATABASE", "postgres");
        if let Some((kubeconfig, _)) = &self.surroundings.cluster {
            command.env("KUBECONFIG", kubeconfig);
        }
        Process::spawn_quiet("page", command)
    }

    /// What it has printed, with what only the test knows by the names that a page has for it.
    fn printed(&self, process: &Process) -> String {
        let mut printed = process.stdout();
        for (folder, name) in [(&self.folder, "."), (&self.behind.join("home"), "~")] {
            printed = printed.replace(&*folder.to_string_lossy(), name);
        }
        if let Some((_, namespace)) = &self.surroundings.cluster {
            printed = printed.replace(namespace, "default");
        }
        if let Some(host) = hostname() {
            printed = printed.replace(&format!("ann@{host}"), "ann@laptop");
        }
        printed
    }
}

/// A text with something else instead of a word, wherever that stands alone.
fn instead(text: &str, word: &str, ours: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        told += before;
        told += if is_letter(told.chars().next_back()) || is_letter(after.chars().next()) { word } else { ours };
        rest = after;
    }
    told + rest
}

/// How a block is to end.
struct Wanted<'a> {
    code: i32,
    output: Option<&'a Block>,
    update: bool,
}

impl Wanted<'_> {
    fn by(&self, ended: Option<ExitStatus>, printed: &str) -> Result<(), String> {
        match ended.map(code) {
            None => Err(format!("still runs after {LIMIT:?}; it has printed:\n{}", indented(printed))),
            Some(code) if code != self.code => {
                Err(format!("wanted exit code {}, found {code}; it has printed:\n{}", self.code, indented(printed)))
            }
            Some(_) => match self.output {
                Some(output) if !is_shown(output, printed) => Err(differs(&output.text, printed)),
                _ => Ok(()),
            },
        }
    }
}

fn is_shown(output: &Block, printed: &str) -> bool {
    match output.marker {
        Ok(Marker::Output { any_order: true }) => is_like_in_any_order(&output.text, printed),
        _ => is_like(&output.text, printed),
    }
}

fn differs(shown: &str, printed: &str) -> String {
    format!("shown is:\n{}\nprinted was:\n{}\nby", indented(shown), indented(printed))
}

fn indented(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

fn hostname() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// Copies a folder of the workspace, but for what is behind a dot.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a folder");
    for entry in std::fs::read_dir(from).expect("read a folder") {
        let entry = entry.expect("read a folder");
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().expect("look at a file").is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).expect("copy a file");
        }
    }
}

/// Whether a variable may have the programs of a page do otherwise than the page says: settings of theirs, a proxy.
fn says_otherwise(variable: &str) -> bool {
    let begins = |begin: &&str| variable.starts_with(begin);
    ["KONCLI_", "KONDUCTOR_", "HELM_", "PG"].iter().any(begins) || variable.to_ascii_lowercase().ends_with("_proxy")
}
