//! Beside other processes in a terminal: each signal in each situation with a bare command, and the same with
//! `konductor-run` before it. What the terminal shows, what the command hears, and how it all ends is the same.
//!
//! The command is `listen` of the actors. It goes on until it is told to end, so that whatever else is on its way to it
//! is heard; a mark, sent to the started process alone, comes after everything that was sent before.

use std::{fs, os::unix::process::ExitStatusExt as _, path::PathBuf, process::Command};

use crate::{
    actors::{CHANGE, LAST, MARK, READ},
    harness::{KONDUCTOR_RUN, eventually, executable, is_alive, kill, signal_process},
    terminal::{INTERRUPT, PROMPT, SHELLS, SUSPEND, Terminal, state},
};

const QUIT: &str = "\x1c";
const CONT: i32 = 18;
const TERM: i32 = 15;

/// Where the command is, seen from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// In the job that the shell has in front.
    InFront,
    /// In a job in the background.
    Behind,
    /// In the background, in a group of its own that somebody other than the shell has made.
    Apart,
    /// In front, as the first process of a session, or PID 1: nobody could continue it.
    Alone,
    /// In front, with a shell above it that does not control jobs: nobody could continue it either.
    Orphaned,
}
use Stands::{Alone, Apart, Behind, InFront, Orphaned};

/// A situation that a shell's command line makes.
struct Situation {
    name: &'static str,
    line: &'static str,
    stands: Stands,
    /// Whether what is shown can be compared: it does not depend on a program's way to draw, nor on when a shell tells
    /// what has become of a job behind it.
    shows: bool,
}

const fn typed(name: &'static str, line: &'static str, stands: Stands) -> Situation {
    Situation { name, line, stands, shows: true }
}

const fn drawn(name: &'static str, line: &'static str, stands: Stands) -> Situation {
    Situation { name, line, stands, shows: false }
}

const SITUATIONS: [Situation; 24] = [
    typed("a command", "./job", InFront),
    typed("in a script", "sh ./script", InFront),
    typed("in a script of bash", "bash ./script", InFront),
    typed("in a loop", "for i in 1 2; do ./job; echo turn=$?; done", InFront),
    typed("in a loop in a script", "sh -c 'for i in 1 2; do ./job; echo turn=$?; done'", InFront),
    typed("make", "make -s -j3", InFront),
    typed("first in a pipeline", "./job | ./beside", InFront),
    typed("in the middle of a pipeline", "echo | ./job | ./beside", InFront),
    typed("last in a pipeline", "echo | ./job", InFront),
    typed("timeout", "timeout 1000 ./job", InFront),
    typed("timeout in a script", "sh ./limited", Apart),
    typed("timeout in front in a script", "sh -c 'timeout --foreground 1000 ./job; echo next=$?'", InFront),
    typed("sudo", "sudo -n ./job", InFront),
    typed("nohup", "nohup ./job", InFront),
    drawn("nohup in the background", "nohup ./job &", Behind),
    drawn("in the background", "./job &", Behind),
    typed("in the background of a script", "sh -c './job & wait; echo next=$?'", InFront),
    typed("xargs", "echo | xargs ./job", InFront),
    drawn("watch", "TERM=xterm watch -t -n 1000 ./job", InFront),
    typed("script", "script -qec 'exec ./job' /dev/null", Alone),
    typed("script with a shell that stays", "script -qec './job; exit $?' /dev/null", Orphaned),
    drawn("tmux", "TERM=xterm tmux -S ./tmux -f /dev/null new-session 'exec ./job'", Alone),
    typed("the first process of a session, as by ssh -t", "exec ./job", Alone),
    typed("PID 1 with a terminal, as by docker run -it", "exec ./contained", Alone),
];

/// What happens to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    Int,
    Quit,
    Tstp,
    Ttin,
    Ttou,
    Hup,
    Cont,
    Winch,
    /// TERM for its group, as a shell's `kill %1`.
    TermForAll,
    /// TERM for the started process alone.
    TermForOne,
}
use Happens::{Cont, Hup, Int, Quit, TermForAll, TermForOne, Tstp, Ttin, Ttou, Winch};

const ALL: [Happens; 10] = [Int, Quit, Tstp, Ttin, Ttou, Hup, Cont, Winch, TermForAll, TermForOne];

/// What there is to compare.
#[derive(Debug, PartialEq, Eq)]
struct Story {
    heard: Vec<String>,
    shown: String,
    code: Option<i32>,
}

/// A terminal with a command in it.
struct Stage {
    folder: tempfile::TempDir,
    terminal: Terminal,
    /// How many lines of the log have been waited for.
    waited: usize,
    /// Whether the command is told when the terminal is hung up.
    is_told_of_hangups: bool,
    listener: i32,
    /// What was started: the listener, or `konductor-run` above it.
    job: i32,
}

/// `make` with the command between others that run at the same time.
const MAKEFILE: &str = "all: one two\none: ; @./job\ntwo: one ; @echo two\n";

impl Stage {
    fn set(situation: &Situation, with: bool, shell: &str) -> Self {
        let is_told_of_hangups = match situation.stands {
            // It keeps its own terminal.
            _ if situation.line.starts_with("script ") => false,
            InFront | Alone | Orphaned => true,
            // Not every shell tells those that are not in front.
            Behind => shell.starts_with("bash"),
            Apart => false,
        };
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            if situation.line.contains(name) || name == "job" {
                executable(&folder.path().join(name), text);
            }
        };
        let own = std::env::current_exe().unwrap();
        let before = if with { format!("{KONDUCTOR_RUN} -- ") } else { String::new() };
        let log = folder.path().join("log");
        let command = format!("{before}{} actor:listener {}", own.display(), log.display());
        // A loop comes to its second turn, or not.
        write("job", &format!("#!/bin/sh\nif [ -e ran ]; then echo again; exit; fi\n>ran\nexec {command}\n"));
        // Until it is there it is still the shell, and ignores what the shell ignores.
        write("beside", "#!/bin/sh\n>there\nexec cat\n");
        write("script", "./job\necho next=$?\n");
        write("limited", "timeout 1000 ./job\necho next=$?\n");
        let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
        let contained = format!("unshare {rootless} --fork --pid --mount-proc --kill-child setsid --ctty ./job");
        write("contained", &format!("#!/bin/sh\nexec {contained}\n"));
        fs::write(folder.path().join("Makefile"), MAKEFILE).unwrap();
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&format!("cd {}", folder.path().display()));
        terminal.expect(PROMPT);
        Self { folder, terminal, waited: 0, is_told_of_hangups, listener: 0, job: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the command has written this, after all that was waited for before.
    fn hear(&mut self, what: &str) {
        let what = what.to_owned();
        let at = eventually(&format!("the command hears {what}: {:?}", self.log()), || {
            self.log().iter().skip(self.waited).position(|line| line.contains(&what))
        });
        self.waited += at + 1;
    }

    /// Types a line, and finds out who runs then.
    fn begin(&mut self, line: &str, with: bool) {
        self.terminal.line(line);
        // A key that sends a signal takes away what is on its way to be shown. So does tmux when it starts, and then it may
        // never be.
        if !line.contains("tmux") {
            self.terminal.expect(&format!("{line}\r\n"));
        }
        if line.starts_with("nohup") && !line.ends_with('&') {
            self.terminal.expect("nohup.out");
            self.terminal.expect("\r\n");
        }
        self.hear("ready");
        if line.contains("./beside") {
            eventually("the rest of the pipeline is there", || self.path("there").exists().then_some(()));
        }
        let log = self.path("log").into_os_string().into_string().unwrap();
        self.listener = all_processes().into_iter().find(|pid| is_listener(*pid, &log)).expect("it is ready");
        self.job = if with { field(self.listener, 1) } else { self.listener };
    }

    fn both_are_stopped(&self) {
        let both = [self.job, self.listener];
        eventually("the job is stopped", || both.iter().all(|pid| state(*pid) == 'T').then_some(()));
    }

    /// Brings a job to the front that has stopped behind it.
    fn bring_back(&mut self) {
        self.both_are_stopped();
        self.terminal.line("fg");
    }

    /// The terminal's key for a signal, or a shell's way to send it to a job that is not in front.
    fn press(&mut self, key: &str, name: &str, stands: Stands) {
        match stands {
            Behind => {
                self.terminal.line(&format!("kill -{name} %1"));
                self.terminal.expect(PROMPT);
            }
            _ => self.terminal.write(key),
        }
        match stands {
            // The terminal shows the key when it has sent the signal.
            Apart => self.terminal.expect(&format!("^{}", char::from(key.as_bytes()[0] + 64))),
            _ => self.hear(&format!("SIG{name}")),
        }
    }

    /// Lets it happen. Whether the command is in front of the shell afterwards, that waits for it.
    fn happen(&mut self, what: Happens, stands: Stands) {
        match what {
            Int => self.press(INTERRUPT, "INT", stands),
            Quit => self.press(QUIT, "QUIT", stands),
            Tstp => {
                self.press(SUSPEND, "TSTP", stands);
                match stands {
                    InFront | Apart => {
                        self.terminal.expect("Stopped");
                        self.terminal.expect(PROMPT);
                        self.terminal.line("fg");
                    }
                    Behind => self.bring_back(),
                    Alone | Orphaned => {}
                }
                if [InFront, Behind].contains(&stands) {
                    self.hear("SIGCONT");
                }
            }
            Ttin | Ttou => {
                signal_process(self.job, if what == Ttin { READ } else { CHANGE });
                match stands {
                    InFront | Alone | Orphaned => {}
                    Behind => self.bring_back(),
                    Apart => return self.both_are_stopped(),
                }
                if what == Ttin {
                    self.terminal.line("typed");
                }
                self.hear(if what == Ttin { "read Ok(6) \"typed\\n\"" } else { "changed Ok(())" });
            }
            Hup => {
                if self.path("tmux").exists() {
                    // Its terminals are not ours to hang up.
                    let path = self.path("tmux");
                    let done = Command::new("tmux").arg("-S").arg(path).arg("kill-server").status().unwrap();
                    assert!(done.success());
                }
                self.terminal.near = fs::File::open("/dev/null").unwrap();
                if self.is_told_of_hangups {
                    self.hear("SIGHUP");
                }
            }
            Cont => {
                signal_process(-field(self.job, 2), CONT);
                self.hear("SIGCONT");
            }
            Winch => {
                self.terminal.resize(33, 44);
                if [InFront, Alone, Orphaned].contains(&stands) {
                    self.hear("SIGWINCH");
                }
            }
            TermForAll => {
                signal_process(-field(self.job, 2), TERM);
                self.hear("SIGTERM");
            }
            TermForOne => {
                signal_process(self.job, TERM);
                self.hear("SIGTERM");
            }
        }
    }

    /// Ends the command, when it has heard all there was, and waits until nothing of it is left.
    fn end(&mut self, what: Happens, stands: Stands) {
        if stands == Apart && [Ttin, Ttou].contains(&what) {
            // Nobody could bring it to the front.
            signal_process(-field(self.job, 2), 9);
        } else {
            signal_process(self.job, MARK);
            self.hear(&MARK.to_string());
            signal_process(self.job, LAST);
        }
        let both = [self.job, self.listener];
        eventually("both have ended", || both.iter().all(|pid| !is_alive(*pid)).then_some(()));
    }

    /// What the shell says in the end. `goes_on`: what runs the command does not end with it, but by Ctrl-C.
    fn code(&mut self, what: Happens, stands: Stands, goes_on: bool) -> Option<i32> {
        if what == Hup {
            return None;
        }
        let is_behind = stands == Behind && ![Tstp, Ttin, Ttou].contains(&what);
        let terminal = &mut self.terminal;
        if goes_on && ![Int, Quit, TermForAll].contains(&what) {
            terminal.write(INTERRUPT);
        }
        if is_behind {
            terminal.line("wait %1; echo \"co\"de=$?.");
        } else {
            terminal.expect(PROMPT);
            terminal.line("echo \"co\"de=$?.");
        }
        terminal.expect("code=");
        let from = terminal.expected();
        terminal.expect(".");
        terminal.shown[from..].split('.').next().and_then(|code| code.parse().ok())
    }
}

impl Drop for Stage {
    /// Shows how it stood when a test has failed, and kills what is left.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let session = self.terminal.program.id().to_string();
            let columns = "pid,ppid,pgid,tpgid,stat,wchan:20,pending,blocked,args";
            let processes = Command::new("ps").args(["-o", columns, "-s", &session]).output();
            let processes = processes.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
            println!(
                "heard {:?}, shown {:?}, running {}",
                self.log(),
                self.terminal.shown,
                processes.unwrap_or_default()
            );
        }
        let log = self.path("log").into_os_string().into_string().unwrap();
        all_processes().into_iter().filter(|pid| is_listener(*pid, &log)).for_each(kill);
        if self.path("tmux").exists() {
            // It may have ended already.
            let _ = Command::new("tmux").arg("-S").arg(self.path("tmux")).arg("kill-server").output();
        }
    }
}

fn all_processes() -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// Whether this is the command itself, and not `konductor-run` or a shell that has it among its arguments.
fn is_listener(pid: i32, log: &str) -> bool {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').skip(1).take(2).eq(["actor:listener", log])
}

/// A field of /proc/PID/stat, counted from the state: 1 is the parent, 2 the process group.
fn field(pid: i32, at: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    let (_, fields) = stat.rsplit_once(") ").expect("its name ends");
    fields.split(' ').nth(at).and_then(|field| field.parse().ok()).expect("a number")
}

/// Numbers of processes differ from run to run.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = piece.trim_end_matches(|c: char| !c.is_ascii_digit());
        // A code stands behind an equals sign. A shell puts blanks in front of what it takes for a short number.
        if digits.len() > 2 && !out.ends_with('=') {
            out.truncate(out.trim_end_matches(' ').len() + usize::from(out.ends_with(' ')));
            out += "N";
        } else {
            out += digits;
        }
        out += &piece[digits.len()..];
    }
    out
}

fn play(situation: &Situation, what: Happens, shell: &str, with: bool) -> Story {
    // For a failure on the way.
    println!("{}, {what:?}, {shell}, with konductor-run: {with}", situation.name);
    let mut stage = Stage::set(situation, with, shell);
    let from = stage.terminal.expected();
    stage.begin(situation.line, with);
    stage.happen(what, situation.stands);
    // The shell above is ended by it, too, and the terminal with that. (INT it keeps to itself until the command has ended.)
    let hangs_up = situation.stands == Orphaned && [Quit, TermForAll].contains(&what);
    if hangs_up {
        eventually("the terminal is hung up", || stage.log().contains(&"SIGHUP".to_owned()).then_some(()));
    }
    stage.end(what, situation.stands);
    let replaced = situation.line.starts_with("exec ") && what != Hup;
    let code = if replaced {
        let program = &mut stage.terminal.program;
        let ended = eventually("it ends", || program.try_wait().unwrap());
        Some(ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap()))
    } else {
        stage.code(what, situation.stands, situation.line.contains("watch"))
    };
    let mut heard = stage.log();
    // The shell and the kernel both hang up, `timeout` passes on what its group has got, with a CONT, and `sudo`
    // continues what continues, and tells the size and that it has changed. A shell that ends with its command is the
    // first of a session, whose terminal is hung up then. How much of that is one, and what is shown meanwhile, depends on
    // who is first.
    let at_once = match what {
        Hup => true,
        Int | Quit | TermForAll => {
            let passes_on = ["timeout", "limited", "make"].iter().any(|name| situation.line.contains(name));
            passes_on || hangs_up
        }
        Tstp | Winch => situation.line.contains("sudo"),
        _ => false,
    };
    if at_once {
        heard.retain(|line| line != "SIGCONT");
        heard.sort();
        heard.dedup();
    }
    // `make` waits for its children while it kills them, and tells this or that.
    let either_way = situation.line.contains("make") && [Int, Quit, TermForAll].contains(&what);
    let code = if either_way { code.map(i32::signum) } else { code };
    let shown = if situation.shows && !at_once && !either_way {
        // A shell may or may not see that the line is ended already.
        without_numbers(&stage.terminal.shown[from..stage.terminal.expected()]).replace("\r\n\r\n", "\r\n")
    } else {
        String::new()
    };
    Story { heard, shown, code }
}

/// Plays all of them for some situations.
fn compare(situations: impl Iterator<Item = &'static Situation>) {
    let mut differences = Vec::new();
    for situation in situations {
        let words = situation.line.split([' ', '\'']);
        let is_there = |program: &str| Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        let missing = words.filter(|word| ["sudo", "tmux", "watch", "make", "script"].contains(word));
        if missing.into_iter().any(|program| !is_there(program).unwrap().status.success()) {
            continue;
        }
        for shell in SHELLS {
            for what in ALL {
                let (bare, with) = (play(situation, what, shell, false), play(situation, what, shell, true));
                let mut expected = bare;
                if what == Tstp && situation.stands == Alone {
                    // It has a group of its own there, which is stopped and continued at once.
                    expected.heard.insert(2, "SIGCONT".to_owned());
                }
                if with != expected {
                    differences.push(format!("{}, {what:?}, {shell}:\n{expected:?}\n{with:?}", situation.name));
                }
            }
        }
    }
    assert!(differences.is_empty(), "bare, and with konductor-run:\n{}", differences.join("\n"));
}

/// Those that stand in front of a shell, or all others.
fn those(in_front: bool) -> impl Iterator<Item = &'static Situation> {
    SITUATIONS.iter().filter(move |situation| (situation.stands == InFront) == in_front)
}

#[test]
fn in_front_of_a_shell_signals_do_what_they_do_to_a_bare_command() {
    compare(those(true).step_by(2));
}

#[test]
fn in_front_of_a_shell_among_others_signals_do_what_they_do_to_a_bare_command() {
    compare(those(true).skip(1).step_by(2));
}

#[test]
fn elsewhere_signals_do_what_they_do_to_a_bare_command() {
    compare(those(false));
}
