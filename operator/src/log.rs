//! The log, on standard error: what is logged, and how often.
//!
//! - A level is about what Konductor itself says. Of the libraries below only warnings are logged, as whatever else
//!   they say is wanted only when looking for a defect there, by a filter that names the module.
//! - A warning that repeats is logged ever more seldom, with a count ([`Repeats`]): thousands of objects may each have
//!   the same to say for as long as an API server is away. With `debug` each is logged.

use std::{
    fmt::{self, Write as _},
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use konductor_cluster::{Boottime, Repeats};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::config::LogFormat;

/// What the names of all modules of Konductor begin with.
const OURS: &str = "konductor";

/// Libraries that report what whoever calls them reports better.
const QUIET: [&str; 3] = ["kube_client", "tower", "hyper_util"];

const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// What is logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    targets: Targets,
    /// Each warning, however often it comes.
    is_verbose: bool,
}

impl Filter {
    /// Reads a level, and then levels of modules: `info`, `debug,kube=warn`.
    pub fn read(text: &str) -> Result<Self, String> {
        let (mut level, mut modules) = (None, Vec::new());
        for part in text.split(',') {
            match part.split_once('=') {
                None if level.is_none() => level = Some(read_level(part)?),
                None => return Err(format!("{part:?} is a second level: of a module it is MODULE={part}")),
                Some((module, _)) if !is_module(module) => return Err(format!("no module is called {module:?}")),
                Some((module, "off")) => modules.push((module.to_owned(), LevelFilter::OFF)),
                Some((module, level)) => modules.push((module.to_owned(), read_level(level)?)),
            }
        }
        let level = level.unwrap_or(LevelFilter::INFO);
        let others = if level == LevelFilter::TRACE { LevelFilter::DEBUG } else { level.min(LevelFilter::WARN) };
        let quiet = QUIET.into_iter().filter(|_| level != LevelFilter::TRACE).map(|module| (module, LevelFilter::OFF));
        let targets = Targets::new().with_default(others).with_target(OURS, level).with_targets(quiet);
        Ok(Self { targets: targets.with_targets(modules), is_verbose: level > LevelFilter::INFO })
    }
}

fn read_level(text: &str) -> Result<LevelFilter, String> {
    let found = LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level);
    found.ok_or_else(|| format!("wanted error, warn, info, debug or trace, found {text:?}"))
}

/// Whether it can be the path of a module.
fn is_module(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || [b'_', b':'].contains(&b))
}

/// Sets up the log for the whole process.
pub fn init(filter: &Filter, format: LogFormat) {
    let repeats = (!filter.is_verbose).then(Mutex::default);
    let now: fn() -> Duration = || Boottime::now().0;
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter.targets.clone());
    match format {
        LogFormat::Text => {
            registry.with(layer.map_event_format(|format| Counted { format, style: Style::Text, repeats, now })).init();
        }
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true);
            registry.with(layer.map_event_format(|format| Counted { format, style: Style::Json, repeats, now })).init();
        }
    }
}

/// How a count is added to a line.
#[derive(Clone, Copy)]
enum Style {
    Text,
    Json,
}

/// A format whose warnings are counted.
struct Counted<F> {
    format: F,
    style: Style,
    repeats: Option<Mutex<Repeats>>,
    now: fn() -> Duration,
}

impl<S, N, F> FormatEvent<S, N> for Counted<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(repeats) = self.repeats.as_ref().filter(|_| *event.metadata().level() == Level::WARN) else {
            return self.format.format_event(context, out, event);
        };
        let mut said = Said(event.metadata().target().to_owned());
        event.record(&mut said);
        let again = repeats.lock().unwrap_or_else(PoisonError::into_inner).take(&said.0, (self.now)());
        match again {
            None => Ok(()),
            Some(again) if again.times == 0 => self.format.format_event(context, out, event),
            Some(again) => {
                let mut line = String::new();
                self.format.format_event(context, Writer::new(&mut line), event)?;
                out.write_str(&self.style.add(line.trim_end(), again.times, &again.to_string()))
            }
        }
    }
}

impl Style {
    /// The line with the count.
    fn add(self, line: &str, times: u32, words: &str) -> String {
        match (self, line.strip_suffix('}')) {
            (Self::Json, Some(fields)) => format!("{fields},\"repeated\":{times}}}\n"),
            _ => format!("{line}{words}\n"),
        }
    }
}

/// All that an event says, but for the time.
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_level_is_about_what_we_say_ourselves() {
        for (text, ours, hyper, kube) in [
            ("error", Level::ERROR, Some(Level::ERROR), None),
            ("info", Level::INFO, Some(Level::WARN), None),
            ("debug", Level::DEBUG, Some(Level::WARN), None),
            ("trace", Level::TRACE, Some(Level::DEBUG), Some(Level::DEBUG)),
            ("info,hyper=debug", Level::INFO, Some(Level::DEBUG), None),
            ("info,kube_client=info,hyper=off", Level::INFO, None, Some(Level::INFO)),
            ("hyper=debug", Level::INFO, Some(Level::DEBUG), None),
        ] {
            let filter = Filter::read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
            let most = |target| levels.into_iter().find(|level| filter.targets.would_enable(target, level));
            assert_eq!(most("konductor_operator::engine"), Some(ours), "{text}");
            assert_eq!(most("konductor_cluster::follow"), Some(ours), "{text}");
            assert_eq!(most("hyper::proto"), hyper, "{text}");
            assert_eq!(most("kube_client::client"), kube, "{text}");
        }
        let filter = Filter::read("info,konductor_operator=debug").expect("a filter");
        assert!(filter.targets.would_enable("konductor_operator", &Level::DEBUG));
        assert!(!filter.targets.would_enable("konductor_cluster", &Level::DEBUG));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for (text, expected) in [
            ("loud", "wanted error, warn, info, debug or trace, found \"loud\""),
            ("INFO", "wanted error, warn, info, debug or trace, found \"INFO\""),
            ("", "wanted error, warn, info, debug or trace, found \"\""),
            ("info,", "\"\" is a second level: of a module it is MODULE="),
            ("info,debug", "\"debug\" is a second level: of a module it is MODULE=debug"),
            ("info,kube=loud", "wanted error, warn, info, debug or trace, found \"loud\""),
            ("info,[span]=debug", "no module is called \"[span]\""),
            ("info,=debug", "no module is called \"\""),
        ] {
            assert_eq!(Filter::read(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nothing panics").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_warning_that_repeats_is_logged_once() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).without_time();
        let layer = layer.json().flatten_event(true).map_event_format(|format| Counted {
            format,
            style: Style::Json,
            repeats: Some(Mutex::default()),
            now: || Duration::ZERO,
        });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for name in ["a", "b", "a"] {
                tracing::warn!(name, "not written");
            }
            for _ in 0..2 {
                tracing::info!("told");
            }
        });
        let text = String::from_utf8(kept.0.lock().expect("nothing panics").clone()).expect("text");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let said: Vec<_> = lines.map(|line| format!("{} {}", line["message"], line["name"])).collect();
        assert_eq!(said, [r#""not written" "a""#, r#""not written" "b""#, r#""told" null"#, r#""told" null"#]);
    }

    #[test]
    fn a_count_is_added_to_text_and_to_json() {
        assert_eq!(Style::Text.add("WARN no", 3, " (3 more times within 10s)"), "WARN no (3 more times within 10s)\n");
        assert_eq!(Style::Json.add(r#"{"message":"no"}"#, 3, " (3)"), "{\"message\":\"no\",\"repeated\":3}\n");
    }
}
