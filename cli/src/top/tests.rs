//! Screens, as text: golden scripts of what happens and what is then on the screen.
//!
//! - `> size 80x24` is a new size, `> all` looks at all namespaces;
//! - `> KIND NAME JSON` is an object that is new or has changed, `> listed KIND` that all of a kind have been listed,
//!   `> delete KIND NAME`; in a JSON `@40s` is a moment so long before the beginning;
//! - `> pass 5s` lets time pass, `> tick` has it seen, `> sample` takes a sample of each parent's use;
//! - `> trouble KIND why` is an API server that is away, `> well KIND` one that is back;
//! - `> press KEY...`: keys by name, or text to be typed in quotes; effects follow;
//! - `> explained TITLE: line | line`, `> done TEXT`: what became of what was asked for;
//! - `> show` is the screen.

use jiff::{SignedDuration, Timestamp};
use konductor_api::GoDuration;
use ratatui::{Terminal, backend::TestBackend};
use serde_json::Value;

use super::{
    state::{Event, FOLLOWED, Key, Place, State},
    svg::svg,
    view,
};
use crate::why::{Kind, read};

fn begin() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

fn kind(name: &str) -> Kind {
    FOLLOWED.into_iter().find(|kind| kind.name() == name).unwrap_or_else(|| panic!("no kind {name}"))
}

struct Play {
    state: State,
    now: Timestamp,
    size: (u16, u16),
    version: u64,
}

impl Play {
    fn new() -> Self {
        Self {
            state: State::new(Place::Cluster(Some("team".into())), true),
            now: begin(),
            size: (80, 24),
            version: 100,
        }
    }

    fn object(&mut self, of: Kind, name: &str, json: &str) -> Event {
        let mut object: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        times(&mut object);
        self.version += 1;
        let metadata = &mut object["metadata"];
        if metadata["namespace"].is_null() {
            metadata["namespace"] = "team".into();
        }
        metadata["name"] = name.into();
        metadata["uid"] = format!("{name}-uid").into();
        metadata["generation"] = 1.into();
        metadata["resourceVersion"] = self.version.to_string().into();
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = "2026-01-01T11:00:00Z".into();
        }
        if matches!(of, Kind::Permit | Kind::LeaseRequest) {
            object["spec"]["instance"] = "i".into();
        }
        Event::Changed(of, Box::new(read(of, &object.to_string()).expect("an object")))
    }

    fn step(&mut self, event: Event) -> String {
        let effects = self.state.step(event, self.now, view::lines(self.size.1));
        effects.into_iter().fold(String::new(), |text, effect| text + &format!("{effect:?}\n"))
    }

    fn play(&mut self, line: &str) -> String {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        let event = match word {
            "size" => {
                let (width, height) = rest.split_once('x').expect("WIDTHxHEIGHT");
                self.size = (width.parse().expect("a width"), height.parse().expect("a height"));
                return String::new();
            }
            "all" => {
                self.state.place = Place::Cluster(None);
                return String::new();
            }
            "pass" => {
                let span: GoDuration = rest.parse().expect("a duration");
                self.now += SignedDuration::try_from(span.0).expect("a short one");
                return String::new();
            }
            "press" => {
                let keys = match rest.strip_prefix('"') {
                    Some(text) => text.trim_end_matches('"').chars().map(Key::Char).collect(),
                    None => rest.split(' ').map(key).collect::<Vec<_>>(),
                };
                return keys.into_iter().map(|key| self.step(Event::Key(key))).collect();
            }
            "show" => return self.screen().0,
            "sample" => Event::Sample,
            "tick" => Event::Tick,
            "listed" if rest == "all" => {
                return FOLLOWED.map(|kind| self.step(Event::Listed(kind, Vec::new()))).concat();
            }
            "listed" => Event::Listed(kind(rest), Vec::new()),
            "delete" => Event::Deleted(kind(first), "team".into(), second.into()),
            "trouble" => Event::Trouble(kind(first), Some(second.into())),
            "well" => Event::Trouble(kind(rest), None),
            "explained" => {
                let (title, lines) = rest.split_once(": ").expect("TITLE: lines");
                Event::Explained(title.into(), lines.split(" | ").map(str::to_owned).collect())
            }
            "done" => Event::Done(rest.into()),
            "many" => {
                // `many N KIND NAME JSON`, with # for the number.
                let mut words = rest.splitn(4, ' ');
                let mut word = || words.next().expect("many N KIND NAME JSON");
                let (count, of, name, json) = (word(), word(), word(), word());
                for number in 0..count.parse().expect("a number") {
                    let json = json.replace('#', &number.to_string());
                    let event = self.object(kind(of), &format!("{name}-{number:02}"), &json);
                    self.step(event);
                }
                return String::new();
            }
            of => self.object(kind(of), first, second),
        };
        self.step(event)
    }

    /// The screen as text, and as a picture.
    fn screen(&self) -> (String, String) {
        let (width, height) = self.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| view::draw(frame, &self.state, self.now, true)).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let line = |line: u16| {
            let text: String = (0..width).map(|column| buffer[(column, line)].symbol()).collect();
            let chosen =
                (0..width).any(|column| buffer[(column, line)].modifier.contains(ratatui::style::Modifier::REVERSED));
            format!("{}{}", if chosen { "»" } else { "|" }, text.trim_end())
        };
        let lines: Vec<_> = (0..height).map(line).collect();
        (lines.join("\n") + "\n", svg(&buffer, "koncli top: semaphores, leases, barriers and gates of a namespace"))
    }
}

fn key(name: &str) -> Key {
    match name {
        "enter" => Key::Enter,
        "escape" => Key::Escape,
        "backspace" => Key::Backspace,
        "up" => Key::Up,
        "down" => Key::Down,
        "page-up" => Key::PageUp,
        "page-down" => Key::PageDown,
        "home" => Key::Home,
        "end" => Key::End,
        "interrupt" => Key::Interrupt,
        one => Key::Char(one.chars().next().filter(|_| one.chars().count() == 1).unwrap_or_else(|| panic!("{one}"))),
    }
}

/// Replaces `@40s` by a moment.
fn times(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(ago) = text.strip_prefix('@') {
                let span: GoDuration = ago.parse().expect("a duration");
                *text = (begin() - SignedDuration::try_from(span.0).expect("a short one")).to_string();
            }
        }
        Value::Array(all) => all.iter_mut().for_each(times),
        Value::Object(all) => all.values_mut().for_each(times),
        _ => {}
    }
}

#[test]
fn screens_are_as_written() {
    konductor_golden::check_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/top"), |_, script| {
        konductor_golden::replay_sections(script, |_| {
            let mut play = Play::new();
            move |line| play.play(line)
        })
    });
}

/// The picture in the documentation: `UPDATE_DOCS=1 cargo test -p konductor-cli screenshot` makes it anew.
#[test]
fn the_screenshot_is_of_this_view() {
    let script = include_str!("../../tests/top/screenshot.txt");
    let mut play = Play::new();
    script.lines().filter_map(|line| line.strip_prefix("> ")).for_each(|line| {
        play.play(line);
    });
    let picture = play.screen().1;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/top.svg");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &picture).expect("write the picture");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == picture, "docs/top.svg is not of this view: UPDATE_DOCS=1 makes it anew");
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let script = include_str!("../../tests/top/screenshot.txt");
    let mut play = Play::new();
    script.lines().filter_map(|line| line.strip_prefix("> ")).for_each(|line| {
        play.play(line);
    });
    for pages in [vec![], vec![Key::Enter], vec![Key::Enter, Key::Char('r')], vec![Key::Char('w')]] {
        let mut play = Play { state: play.state.clone(), ..play };
        for key in pages {
            play.step(Event::Key(key));
        }
        for size in [(1, 1), (0, 0), (5, 3), (20, 5), (80, 2), (300, 100)] {
            play.size = size;
            play.screen();
        }
    }
}

#[test]
fn what_is_kept_of_the_past_is_bounded() {
    let mut play = Play::new();
    play.play(r#"semaphore s {"spec":{"permits":2}}"#);
    (0..1000).for_each(|_| {
        play.play("sample");
    });
    let id = super::state::Id::new(Kind::Semaphore, "team", "s");
    assert_eq!(play.state.history(&id).count(), super::limits::SAMPLES);
    play.play("delete semaphore s");
    assert_eq!(play.state.history(&id).count(), 0);
}

#[test]
fn of_what_was_selected_nothing_else_is_shown() {
    let claim = r#"{"metadata":{"name":"c","namespace":"team"},"spec":{"semaphore":"s","holder":"h","instance":"i"}}"#;
    for (is_whole, rows) in [(true, 1), (false, 0)] {
        let mut state = State::new(Place::Cluster(Some("team".into())), is_whole);
        let claim = read(Kind::Permit, claim).expect("a claim");
        state.step(Event::Listed(Kind::Permit, vec![claim]), begin(), 10);
        assert_eq!(state.rows().len(), rows, "a lock that is missing, or was not selected");
    }
}
