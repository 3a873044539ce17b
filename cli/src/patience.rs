//! How long to wait, and what to say when it was in vain.

use std::time::Duration;

use konductor::{Boottime, Exit};
use konductor_api::GoDuration;

use crate::error::Error;

/// How long the API server may leave everything unanswered, as `konductor-run` has it.
const FIRST_CONTACT: Duration = Duration::from_secs(30);

/// How long "try once" waits for the operator's word, as `konductor-run` has it.
pub(crate) const TRY_ONCE: Duration = Duration::from_secs(30);

/// What to do when the operator says nothing.
const NO_WORD: &str = "koncli operator shows whether one runs";

/// What happens while something is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The API server has answered.
    Contact,
    /// It is not there yet, for this reason.
    Waiting {
        /// What is waited for, as in `barrier/stage-1`.
        object: String,
        /// What the operator says to people.
        message: String,
        /// How many go first, if that is known.
        ahead: Option<u64>,
        /// Whether it does not exist.
        missing: bool,
    },
    /// The operator has not spoken of it yet, and this is how that shows.
    Unsaid {
        /// What is waited for, as in `semaphore/warehouse`.
        object: String,
        /// How it shows.
        message: String,
    },
    /// Who holds what is waited for.
    Holder(String),
    /// Something failed and is tried again.
    Trouble(String),
    /// People should know this.
    Note(String),
}

/// What was heard last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Nothing(Option<String>),
    Contact,
    Unsaid { message: String },
    Waiting { message: String, missing: bool },
}

/// The patience of one command.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// What is waited for: `barrier/stage-1 to open`.
    what: String,
    /// Who is asked: `the API server` and its address.
    server: String,
    since: Boottime,
    timeout: Option<Duration>,
    heard: Heard,
}

impl Patience {
    /// From `now` on; for ever without a timeout.
    pub(crate) fn new(what: String, now: Boottime, timeout: Option<Duration>) -> Self {
        let server = "the API server".to_owned();
        Self { what, server, since: now, timeout, heard: Heard::Nothing(None) }
    }

    /// The same, for the API server at this address.
    pub(crate) fn with(self, address: &str) -> Self {
        Self { server: format!("the API server at {address}"), ..self }
    }

    fn tries_once(&self) -> bool {
        self.timeout == Some(Duration::ZERO)
    }

    /// Takes news in. Returns whether that is all there is to hear, as it was to be tried once.
    pub(crate) fn hears(&mut self, news: &News) -> bool {
        match news {
            News::Contact if matches!(self.heard, Heard::Nothing(_)) => self.heard = Heard::Contact,
            News::Waiting { message, missing, .. } => {
                self.heard = Heard::Waiting { message: message.clone(), missing: *missing };
                return self.tries_once();
            }
            // No word to end by for who tries once.
            News::Unsaid { message, .. } => self.heard = Heard::Unsaid { message: message.clone() },
            News::Trouble(why) => {
                if let Heard::Nothing(trouble) = &mut self.heard {
                    *trouble = Some(why.clone());
                }
            }
            News::Contact | News::Note(_) | News::Holder(_) => {}
        }
        false
    }

    /// When it ends, if nothing more is heard.
    pub(crate) fn ends(&self) -> Boottime {
        let timeout = match self.timeout {
            Some(Duration::ZERO) => Some(TRY_ONCE),
            other => other,
        };
        let contact = matches!(self.heard, Heard::Nothing(_)).then_some(FIRST_CONTACT);
        let shortest = timeout.into_iter().chain(contact).min();
        shortest.map_or(Boottime::NEVER, |shortest| self.since + shortest)
    }

    /// Why it has ended without what was waited for.
    pub(crate) fn in_vain(&self, now: Boottime) -> Error {
        let what = &self.what;
        let waited = GoDuration(Duration::from_secs(now.since(self.since).as_secs()));
        match &self.heard {
            Heard::Nothing(why) => {
                let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                Error::new(Exit::Unreachable, format!("{} has not answered within {waited}{why}", self.server))
                    .advise("see that there is a way to the API server: kubectl version; then try again")
            }
            Heard::Unsaid { message } if !message.is_empty() => {
                Error::new(Exit::TimedOut, format!("waited {waited} in vain for {what}: {message}")).advise(NO_WORD)
            }
            Heard::Contact | Heard::Unsaid { .. } => Error::new(
                Exit::TimedOut,
                format!("waited {waited} for {what}, and the operator has said nothing about it"),
            )
            .advise(NO_WORD),
            Heard::Waiting { missing: true, .. } if self.tries_once() => {
                Error::new(Exit::NoSuchPrimitive, format!("waited for {what}, which does not exist"))
                    .advise("create it, or wait longer for it with --timeout")
            }
            Heard::Waiting { missing: true, .. } => {
                Error::new(Exit::TimedOut, format!("waited {waited} for {what}, which does not exist"))
            }
            Heard::Waiting { message, .. } => {
                let why = if message.is_empty() { String::new() } else { format!(": {message}") };
                let waited = if self.tries_once() { String::new() } else { format!(" {waited}") };
                Error::new(Exit::TimedOut, format!("waited{waited} in vain for {what}{why}"))
            }
        }
    }
}

/// What is told of waiting: `barrier/stage-1: 2 of 3 have arrived`.
pub(crate) fn told(object: &str, message: &str, ahead: Option<u64>, missing: bool) -> String {
    match (missing, ahead) {
        (true, _) => format!("waiting for {object}, which does not exist yet"),
        (false, Some(0)) => format!("waiting for {object}: next in line; {message}"),
        (false, Some(ahead)) => format!("waiting for {object}: {ahead} ahead; {message}"),
        (false, None) if message.is_empty() => format!("waiting for {object}"),
        (false, None) => format!("waiting for {object}: {message}"),
    }
}

/// The line that is written over on a terminal: what was told last, who holds it, and for how long it is waited for.
pub(crate) fn live(told: &str, holder: Option<&str>, waited: Duration) -> String {
    let holder = holder.map(|holder| format!("; {holder}")).unwrap_or_default();
    format!("{told}{holder} ({})", GoDuration(Duration::from_secs(waited.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_on_a_terminal_says_the_position_the_holder_and_the_time() {
        let told = told("semaphore/s", "3 of 3 permits in use", Some(2), false);
        let line = live(&told, Some("held by a, b and others"), Duration::from_millis(61_500));
        let expected = "waiting for semaphore/s: 2 ahead; 3 of 3 permits in use; held by a, b and others (1m1s)";
        assert_eq!(line, expected);
        assert_eq!(live("waiting for gate/g", None, Duration::ZERO), "waiting for gate/g (0s)");
    }

    fn at(seconds: u64) -> Boottime {
        Boottime(Duration::from_secs(1000 + seconds))
    }

    fn patience(timeout: Option<u64>) -> Patience {
        Patience::new("gate/g to open".to_owned(), at(0), timeout.map(Duration::from_secs))
    }

    fn waiting(missing: bool) -> News {
        News::Waiting { object: "gate/g".to_owned(), message: "0 of 1".to_owned(), ahead: None, missing }
    }

    #[test]
    fn it_ends_when_asked_for_and_never_earlier() {
        let mut patience = patience(Some(60));
        assert_eq!(patience.ends(), at(30), "without an answer of the API server");
        assert!(!patience.hears(&News::Contact));
        assert_eq!(patience.ends(), at(60));
        assert!(!patience.hears(&waiting(false)));
        assert_eq!(patience.ends(), at(60));
        assert_eq!(patience.in_vain(at(60)).message, "waited 1m in vain for gate/g to open: 0 of 1");
    }

    #[test]
    fn without_a_timeout_it_does_not_end() {
        let mut patience = patience(None);
        patience.hears(&News::Contact);
        assert_eq!(patience.ends(), Boottime::NEVER);
        patience.hears(&News::Trouble("outage".to_owned()));
        assert_eq!(patience.ends(), Boottime::NEVER, "an outage is waited through");
    }

    #[test]
    fn once_is_until_the_operators_word() {
        let mut patience = patience(Some(0));
        assert!(!patience.hears(&News::Contact));
        assert_eq!(patience.ends(), at(30));
        let unsaid = News::Unsaid { object: "gate/g".to_owned(), message: "it has no condition Ready yet".to_owned() };
        assert!(!patience.hears(&unsaid), "that is no word of the operator");
        assert_eq!(patience.ends(), at(30));
        let error = patience.in_vain(at(30));
        assert_eq!(error.message, "waited 30s in vain for gate/g to open: it has no condition Ready yet");
        assert_eq!((error.exit, &*error.advice), (Exit::TimedOut, &[NO_WORD.to_owned()][..]));
        assert!(patience.hears(&waiting(true)));
        assert_eq!(patience.in_vain(at(0)).exit, Exit::NoSuchPrimitive);
        assert!(!patience.hears(&unsaid), "it is there now");
        assert_eq!(patience.in_vain(at(0)).exit, Exit::TimedOut);
        assert!(patience.hears(&waiting(false)));
        assert_eq!(patience.in_vain(at(0)).message, "waited in vain for gate/g to open: 0 of 1");
    }

    #[test]
    fn each_silence_has_its_exit_code() {
        let mut silent = patience(Some(10));
        silent.hears(&News::Trouble("connection refused".to_owned()));
        let error = silent.in_vain(at(10));
        assert_eq!(
            (error.exit, error.message.as_str()),
            (Exit::Unreachable, "the API server has not answered within 10s: connection refused")
        );
        let known = silent.clone().with("https://a:6443 by the proxy b:3128").in_vain(at(10)).message;
        assert!(known.starts_with("the API server at https://a:6443 by the proxy b:3128 has not answered"), "{known}");
        silent.hears(&News::Contact);
        assert_eq!(silent.in_vain(at(10)).exit, Exit::TimedOut);
        silent.hears(&waiting(true));
        assert_eq!(silent.in_vain(at(10)).exit, Exit::TimedOut);
    }
}
