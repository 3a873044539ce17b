//! What becomes of writes: counted and logged in one way, whatever is written.

use konductor_cluster::RequestError;
use tracing::{debug, warn};

use crate::{
    key::ParentKey,
    metrics::{KindLabels, Metrics, WriteLabels},
};

/// A write that was tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// The kind of parent that it is about, in small letters.
    pub(crate) kind: &'static str,
    /// That parent.
    pub(crate) parent: &'a ParentKey,
    /// The name of the object that was to be written: the parent itself, or something that belongs to it.
    pub(crate) object: &'a str,
    /// What was to change, in a word.
    pub(crate) change: &'static str,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate<'a> {
    /// It was done.
    Applied,
    /// It was not sent, as a closer look showed that it was not time yet.
    Premature,
    /// It is not known to be done.
    Failed(&'a RequestError),
}

/// Counts what became of a write, and logs it if that is a failure. Somebody else's write that was first is none: what
/// was decided is decided anew.
pub(crate) fn account(metrics: &Metrics, attempt: Attempt<'_>, fate: Fate<'_>) {
    let Attempt { kind, parent, object, change } = attempt;
    let outcome = match fate {
        Fate::Applied => "applied",
        Fate::Premature => "premature",
        Fate::Failed(error) => {
            let (namespace, name, label) = (&parent.namespace, &parent.name, error.label());
            if matches!(label, "conflict" | "gone") {
                debug!(kind, namespace, name, object, change, "overtaken: {error}");
            } else {
                metrics.errors.get_or_create(&KindLabels { kind }).inc();
                warn!(kind, namespace, name, object, change, "not written, to be decided again: {error}");
            }
            label
        }
    };
    metrics.writes.get_or_create(&WriteLabels { kind, change, outcome }).inc();
}

#[cfg(test)]
mod tests {
    use konductor_cluster::Refusal;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_failure_is_counted_as_one_and_who_was_overtaken_is_none() {
        let metrics = Metrics::new(Clock::start());
        let parent = ParentKey::new("n", "s");
        let attempt = Attempt { kind: "barrier", parent: &parent, object: "a", change: "adopt" };
        let refused = |code| RequestError::Refused(Box::new(Refusal { code, ..Refusal::default() }));
        let (conflict, forbidden) = (refused(409), refused(403));
        let unanswered = RequestError::Unanswered("nothing".into());
        let fates =
            [Fate::Applied, Fate::Premature].into_iter().chain([&conflict, &forbidden, &unanswered].map(Fate::Failed));
        for fate in fates {
            account(&metrics, attempt, fate);
        }
        let outcomes = ["applied", "premature", "conflict", "refused", "unanswered"];
        let counted = outcomes.map(|outcome| {
            metrics.writes.get_or_create(&WriteLabels { kind: "barrier", change: "adopt", outcome }).get()
        });
        assert_eq!(counted, [1; 5]);
        assert_eq!(metrics.errors.get_or_create(&KindLabels { kind: "barrier" }).get(), 2);
    }
}
