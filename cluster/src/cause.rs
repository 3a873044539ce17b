//! Errors with their causes, for people.

use std::error::Error;

/// What the TLS library says when the other side has gone without a farewell, as servers do that are killed. An address
/// of its manual follows.
const CUT_OFF: &str = "peer closed connection without sending TLS close_notify";

/// What that means.
const CLOSED: &str = "the API server closed the connection";

/// An error and its causes in one line. Causes that their effect already tells are not told again.
pub fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (plain(error.to_string()), error.source());
    while let Some(error) = cause {
        let told = plain(error.to_string());
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

/// An error and its causes.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| <dyn Error>::source(*error))
}

/// The same in words that are about this program.
fn plain(text: String) -> String {
    let Some((before, after)) = text.split_once(CUT_OFF) else { return text };
    let rest = after.strip_prefix(": ").filter(|after| after.starts_with("https://")).map_or(after, |address| {
        let end = address.find(char::is_whitespace).unwrap_or(address.len());
        &address[end..]
    });
    format!("{before}{CLOSED}{rest}")
}

#[cfg(test)]
mod tests {
    use std::{fmt, io};

    use super::*;

    /// An error with a text and a cause.
    #[derive(Debug)]
    struct Effect(&'static str, Option<Box<dyn Error + 'static>>);

    impl fmt::Display for Effect {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Effect {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref()
        }
    }

    /// As the TLS library says it.
    const TOLD: &str = "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest/rustls/\
                        manual/_03_howto/index.html#unexpected-eof";

    #[test]
    fn what_an_effect_tells_is_not_told_again() {
        let cause = Effect("connection refused", Some(Box::new(Effect("refused", None))));
        let error = Effect("cannot connect", Some(Box::new(cause)));
        assert_eq!(chain(&error), "cannot connect: connection refused");
    }

    #[test]
    fn a_connection_that_was_cut_off_is_said_once_and_without_an_address() {
        let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, TOLD);
        let told = "connection error: the API server closed the connection";
        for error in [
            Effect("connection error", Some(Box::new(cut_off()))),
            Effect("connection error", Some(Box::new(Effect(TOLD, Some(Box::new(cut_off())))))),
        ] {
            assert_eq!(chain(&error), told);
        }
        let text = format!("read: {TOLD} (at byte 7)");
        assert_eq!(plain(text), "read: the API server closed the connection (at byte 7)");
        assert_eq!(chain(&io::Error::other(CUT_OFF)), CLOSED);
    }
}
