//! A real terminal: a pane of a tmux of its own, whose screen is read as text.

use std::{path::PathBuf, process::Command, time::Duration};

use konductor_tests::{Process, eventually};

use crate::scene::LIMIT;

/// A terminal with a shell in it.
pub(crate) struct Terminal {
    socket: PathBuf,
    /// Its end ends everything in it.
    _server: Process,
    folder: tempfile::TempDir,
}

impl Terminal {
    /// A terminal of this size, in which a shell runs with these variables.
    pub(crate) async fn open(size: (u16, u16), variables: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("tmux");
        let mut command = Command::new("tmux");
        // In the foreground, so that it is a child of the test and ends with it.
        command.args(["-f", "/dev/null", "-D", "-S"]).arg(&socket);
        command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env("SHELL", "/bin/sh").env("ENV", "").env("PS1", "$ ");
        command.env("folder", folder.path()).envs(variables.iter().map(|(name, value)| (name, value)));
        let server = Process::spawn("tmux", command);
        let terminal = Self { socket, _server: server, folder };
        let (width, height) = (size.0.to_string(), size.1.to_string());
        eventually(LIMIT, "a tmux that answers (is it installed?)", || async {
            let new = ["new-session", "-d", "-x", &width, "-y", &height, "/bin/sh"];
            terminal.ask(&new).map(drop)
        })
        .await;
        terminal.ask(&["set-option", "-g", "status", "off"]).expect("no status line");
        terminal.resize(size);
        terminal
    }

    /// What the shell has written into this file of `$folder`.
    pub(crate) fn note(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).expect("a note")
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        // -N: this one is no server, should there be none yet.
        // This one must not become a server where there is none yet: it would be nobody's child.
        let output = Command::new("tmux").args(["-N", "-S"]).arg(&self.socket).args(arguments).output();
        let output = output.map_err(|error| format!("run tmux (install it): {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub(crate) fn resize(&self, (width, height): (u16, u16)) {
        self.ask(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]).expect("another size");
    }

    /// Types a line.
    pub(crate) fn line(&self, text: &str) {
        self.ask(&["send-keys", "-l", text]).expect("type");
        self.press(&["Enter"]);
    }

    /// Presses keys, as tmux names them.
    pub(crate) fn press(&self, keys: &[&str]) {
        let all: Vec<_> = ["send-keys"].iter().chain(keys).copied().collect();
        self.ask(&all).expect("press keys");
    }

    /// The screen, without what is empty at its end.
    pub(crate) fn screen(&self) -> String {
        let screen = self.ask(&["capture-pane", "-p"]).expect("the screen");
        let lines: Vec<_> = screen.trim_end().lines().map(str::trim_end).collect();
        lines.join("\n")
    }

    /// Waits until the screen is as wanted, and returns it.
    pub(crate) async fn until(&self, limit: Duration, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(limit, what, || async {
            let screen = self.screen();
            if wanted(&screen) { Ok(screen) } else { Err(screen) }
        })
        .await
    }

    /// Whether a program has the screen for itself, and whether the cursor is shown.
    pub(crate) fn modes(&self) -> (bool, bool) {
        let modes = self.ask(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).expect("the modes");
        let (alternate, cursor) = modes.trim().split_once(' ').expect("two modes");
        (alternate == "1", cursor == "1")
    }
}
