//! The screen: taken for the view, and given back as it was whatever ends the program: by [`Drop`] where functions
//! return, by a hook where they panic (release builds abort then, and drop nothing), and by the driver, which hears of
//! signals and returns.

use std::{
    io::{self, Stdout},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor::{Hide, Show},
    event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};
use tokio::sync::mpsc;

use super::state::Key;

/// Whether the screen is the view's.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The screen.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the screen.
    pub(super) fn take() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let taken = execute!(io::stdout(), EnterAlternateScreen, Hide).and_then(|()| {
            let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
            Ok(Self { terminal })
        });
        taken.inspect_err(|_| give_back())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the screen back, once. A terminal that is gone takes nothing, and needs nothing.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// What comes from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Key(Key),
    /// The size has changed.
    Resized,
    /// The terminal is gone.
    Gone,
}

/// Reads keys in a thread of its own, which waits in the kernel and ends with the program or with the terminal.
pub(super) fn keys() -> io::Result<mpsc::Receiver<Input>> {
    // Who types faster waits for the view.
    let (sender, receiver) = mpsc::channel(64);
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        loop {
            let input = match event::read() {
                Ok(event::Event::Key(key)) => key_of(key).map(Input::Key),
                Ok(event::Event::Resize(..)) => Some(Input::Resized),
                Ok(_) => None,
                Err(_) => Some(Input::Gone),
            };
            let is_gone = input == Some(Input::Gone);
            if let Some(input) = input
                && (sender.blocking_send(input).is_err() || is_gone)
            {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn key_of(KeyEvent { code, modifiers, kind, .. }: KeyEvent) -> Option<Key> {
    if kind == KeyEventKind::Release {
        return None;
    }
    Some(match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(c) if !modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Whoever finds this in its environment is to panic with the screen taken.
    const PANIC: &str = "KONCLI_TEST_PANIC";

    #[test]
    fn a_panic_gives_the_screen_back_before_it_is_told() {
        if std::env::var_os(PANIC).is_some() {
            let screen = Screen::take().expect("a terminal");
            assert!(screen.terminal.size().is_err(), "as the test wants it");
            return;
        }
        let this = std::env::current_exe().expect("this program");
        let test = "top::terminal::tests::a_panic_gives_the_screen_back_before_it_is_told";
        let line = format!("{} --exact {test} --nocapture; stty -a", this.display());
        // In a terminal of its own.
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .env(PANIC, "1")
            .env("TERM", "xterm")
            .stdin(std::process::Stdio::null());
        let output = command.output().expect("run script (of util-linux: install it)");
        let said = String::from_utf8_lossy(&output.stdout);
        let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text:?} in {said}"));
        assert!(at("\u{1b}[?1049h") < at("\u{1b}[?1049l"), "taken, then given back");
        assert!(at("\u{1b}[?1049l") < at("as the test wants it"), "given back before the panic is told");
        assert!(at("\u{1b}[?25h") < at("as the test wants it"), "with its cursor");
        assert!(at(" icanon") > at("as the test wants it") && !said.contains("-icanon"), "reading lines again");
    }
}
