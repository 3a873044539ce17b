//! What a failed request says of its effect.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::object::{Illegible, REASON, shortened};

/// What an API server says of a write that its etcd refuses for its size, or whose size keeps it from being sent there.
/// It answers with 500 as if it did not know.
const TOO_LARGE: [&str; 2] = ["etcdserver: request is too large", "trying to send message larger than max"];

/// How long to honour an API server that says when to come back, as the client library does.
const RETRY_AFTER: Duration = Duration::from_mins(1);

/// Why a request did not do what it should.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// The API server says no, or that something is wrong with itself.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No whole answer came, or not in time.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// It was done, and the answer is no object, or a list with an item that is none.
    #[error("the API server's answer cannot be read: {0}")]
    Illegible(Illegible),
    /// It cannot be put into words, as a name is empty, or would ask for something else.
    #[error("the request cannot be made: {0}")]
    Unsendable(String),
}

/// What an API server says of a request that it has not carried out, or does not know whether it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// In a word, like `NotFound`; empty if whoever answered is no API server.
    pub reason: String,
    /// In a sentence; cut.
    pub message: String,
    /// The name of the object that it is about; empty if it is about none.
    pub name: String,
    /// The UID of that object, if it tells.
    pub uid: String,
    /// How long it wants to be left alone, if it says so: a minute at most.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Reads the answer to a request.
    pub(crate) fn read(status: StatusCode, body: &[u8]) -> Self {
        Self::of(&String::from_utf8_lossy(body), Some(status))
    }

    /// The same, with what the headers say of when to come back.
    pub(crate) fn with(self, headers: &HeaderMap) -> Self {
        let is_busy = matches!(self.code, 429 | 503);
        let said = headers.get(header::RETRY_AFTER).filter(|_| is_busy);
        // In seconds: API servers do not send dates.
        let seconds = said.and_then(|said| said.to_str().ok()?.trim().parse().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER));
        Self { retry_after, ..self }
    }

    /// Reads what a watch says of its end.
    pub(crate) fn told(body: &str) -> Self {
        Self::of(body, None)
    }

    fn of(body: &str, status: Option<StatusCode>) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Status<'a> {
            code: u16,
            message: String,
            reason: String,
            #[serde(borrow)]
            details: Option<&'a RawValue>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Details {
            name: String,
            uid: String,
        }
        let Status { code, message, reason, details } = serde_json::from_str(body).unwrap_or_default();
        let code = status.map_or(code, |status| status.as_u16());
        let details = details.and_then(|details| serde_json::from_str(details.get()).ok());
        let Details { name, uid } = details.unwrap_or_default();
        let message = match message.trim() {
            "" => body.trim().to_owned(),
            message => message.to_owned(),
        };
        let short = |text: String| shortened(&text, REASON);
        let [reason, message, name, uid] = [reason, message, name, uid].map(short);
        Self { code, reason, message, name, uid, retry_after: None }
    }

    /// Whether it says that the object of this name is not there. An API server that does not serve the resource (yet)
    /// says 404 too, but names no object.
    pub fn is_absent(&self, name: &str) -> bool {
        self.code == 404 && self.name == name
    }

    /// Whether the write was larger than what can be stored.
    fn is_too_large(&self) -> bool {
        self.code == 413 || TOO_LARGE.iter().any(|text| self.message.contains(text))
    }
}

impl RequestError {
    /// What the API server said, if it did.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unanswered(_) | Self::Illegible(_) | Self::Unsendable(_) => None,
        }
    }

    /// How long to pause after this, if it would have been so long otherwise.
    pub fn pause(&self, otherwise: Duration) -> Duration {
        self.refusal().and_then(|refusal| refusal.retry_after).map_or(otherwise, |wanted| wanted.max(otherwise))
    }

    /// Whether the object of this name is known not to be there.
    pub fn is_absent(&self, name: &str) -> bool {
        self.refusal().is_some_and(|refusal| refusal.is_absent(name))
    }

    /// Whether the object is not what the request was meant for: another version, or another UID.
    pub fn is_conflict(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code == 409)
    }

    /// Whether this process may not do it: its credentials or its rights do not suffice.
    pub fn is_forbidden(&self) -> bool {
        self.refusal().is_some_and(|refusal| matches!(refusal.code, 401 | 403))
    }

    /// Whether the version or the token that was asked for is too old.
    pub fn is_outdated(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code == 410)
    }

    /// Whether a write has certainly not taken effect. Of all else it is unknown whether it has, or will.
    pub fn is_not_applied(&self) -> bool {
        match self {
            Self::Unsendable(_) => true,
            // Too many requests (429) is said before anything is done; a timeout (408) is not.
            Self::Refused(refusal) => {
                (400..500).contains(&refusal.code) && refusal.code != 408 || refusal.is_too_large()
            }
            Self::Unanswered(_) | Self::Illegible(_) => false,
        }
    }

    /// In a word, for metrics. What a request is for is gone only if the answer names it (see [`Refusal::is_absent`]).
    pub fn label(&self) -> &'static str {
        match self {
            Self::Illegible(_) => "unreadable",
            Self::Refused(refusal) if refusal.code == 404 && !refusal.name.is_empty() => "gone",
            _ if self.is_conflict() => "conflict",
            _ if self.is_not_applied() => "refused",
            _ => "unanswered",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: u16, message: &str) -> RequestError {
        let body = json!({ "kind": "Status", "status": "Failure", "message": message, "reason": "R", "code": code });
        let status = StatusCode::from_u16(code).expect("a status");
        RequestError::Refused(Box::new(Refusal::read(status, body.to_string().as_bytes())))
    }

    #[test]
    fn only_a_definite_refusal_counts_as_not_applied() {
        for (code, not_applied, label) in [
            (400, true, "refused"),
            (403, true, "refused"),
            (404, true, "refused"),
            (408, false, "unanswered"),
            (409, true, "conflict"),
            (413, true, "refused"),
            (422, true, "refused"),
            (429, true, "refused"),
            (500, false, "unanswered"),
            (503, false, "unanswered"),
            (504, false, "unanswered"),
        ] {
            let error = refused(code, "no");
            assert_eq!((error.is_not_applied(), error.label()), (not_applied, label), "{code}");
        }
        assert!(!RequestError::Unanswered(String::new()).is_not_applied());
        assert!(!RequestError::Illegible(Illegible(String::new())).is_not_applied());
    }

    #[test]
    fn an_object_that_is_not_there_any_more_is_gone_and_one_that_nobody_serves_is_refused() {
        let named = json!({ "message": "no a", "details": { "name": "a" }, "code": 404 }).to_string();
        for (body, label) in [(&*named, "gone"), ("404 page not found", "refused")] {
            let error = RequestError::Refused(Box::new(Refusal::read(StatusCode::NOT_FOUND, body.as_bytes())));
            assert_eq!((error.is_not_applied(), error.label()), (true, label), "{body}");
        }
    }

    #[test]
    fn what_is_too_large_for_etcd_is_not_applied_whatever_the_status_says() {
        assert!(refused(500, "etcdserver: request is too large").is_not_applied());
        let message = "rpc error: code = ResourceExhausted desc = trying to send message larger than max (9 vs. 2)";
        assert!(refused(500, message).is_not_applied());
    }

    #[test]
    fn only_who_names_the_object_says_that_it_is_absent() {
        let details = json!({ "name": "a", "uid": "u", "causes": 5 });
        let named = json!({ "message": "m", "reason": "NotFound", "details": details, "code": 404 });
        for (code, body, expected) in [
            (404, named.to_string(), true),
            (409, named.to_string(), false),
            (404, named.to_string().replace("\"a\"", "\"b\""), false),
            (404, json!({ "message": "404 page not found" }).to_string(), false),
            (404, "404 page not found".to_owned(), false),
            (404, json!({ "message": "m", "details": "a" }).to_string(), false),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(Refusal::read(status, body.as_bytes()).is_absent("a"), expected, "{code} {body}");
        }
    }

    #[test]
    fn what_is_told_is_short_whoever_answers() {
        for body in [json!({ "message": "é".repeat(1 << 20) }).to_string(), "é".repeat(1 << 20)] {
            let refusal = Refusal::read(StatusCode::BAD_GATEWAY, body.as_bytes());
            assert!(refusal.message.len() <= REASON && refusal.message.ends_with("é…"), "{}", refusal.message.len());
        }
        let refusal = Refusal::read(StatusCode::BAD_GATEWAY, b"<html>nginx</html>\n");
        assert_eq!(refusal.to_string(), "<html>nginx</html> (502)");
    }
}
