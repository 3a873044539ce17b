//! The file that says who holds one lock and who waits for it: its format, and what makes it believable.
//!
//! It is always replaced as a whole. What cannot have been written by this code is not believed, and not taken for empty
//! unless the power has failed since (`super::store`): an empty state would let a second holder in.

use std::collections::BTreeSet;

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase,
    limits::{MAX_HOLDER, MAX_MESSAGE, MAX_NAME, MAX_PERMITS, MAX_SEQUENCE, MAX_TERM, SEQUENCE_BITS},
};
use serde::{Deserialize, Serialize};

use super::limits;

/// The version of the format that is written here.
const VERSION: u32 = 2;

/// The one before, which is understood as well. It was on the disk before anything rested on it, and said nothing of what
/// is reserved. Programs of that time must not take a state of today for one of theirs: it may not be the last one.
const DURABLE: u32 = 1;

/// One lock with its claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    pub(super) version: u32,
    /// How much can be held at once, when this was written; absent when no manifest named the lock.
    pub(super) permits: Option<u64>,
    /// As in the status of a lock in a cluster.
    pub(super) term: u64,
    /// As in the status of a lock in a cluster.
    pub(super) settled_term: u64,
    /// Up to which term tokens can be given out, as the disk knows of it; zero where all that is here is on the disk.
    #[serde(default)]
    pub(super) reserved: u64,
    /// The mark of the mount by which this was written, if that has one.
    #[serde(default)]
    pub(super) mount: Option<String>,
    /// The place in the queue of the next claim.
    pub(super) next_ticket: u64,
    pub(super) claims: Vec<Claim>,
}

/// One claim: what it asks for, and what was decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) holder: String,
    pub(super) permits: u64,
    pub(super) priority: i32,
    pub(super) ticket: u64,
    pub(super) phase: ClaimPhase,
    pub(super) term: u64,
    pub(super) fencing_token: Option<u64>,
    pub(super) ahead: Option<u64>,
    pub(super) acquired_at: Option<Timestamp>,
    pub(super) message: Option<String>,
    /// Its turn came and it did not take it: it is out of the queue until it says something again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) passed_over: bool,
}

impl Claim {
    /// One that waits, and of which nothing has been decided.
    pub(super) fn waiting(name: String, holder: String, permits: u64, priority: i32, ticket: u64) -> Self {
        Self {
            name,
            holder,
            permits,
            priority,
            ticket,
            phase: ClaimPhase::Pending,
            term: 0,
            fencing_token: None,
            ahead: None,
            acquired_at: None,
            message: None,
            passed_over: false,
        }
    }
}

/// Why a file's content is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unbelievable {
    /// Another program's, or half of ours.
    #[error("it is not what konductor writes: {0}")]
    Corrupt(String),
    /// A later version's.
    #[error("its format is version {0}, and this program knows version {VERSION}")]
    Version(u64),
}

impl Default for State {
    /// Nobody has ever asked for this lock.
    fn default() -> Self {
        Self {
            version: VERSION,
            permits: None,
            term: 0,
            settled_term: 0,
            reserved: 0,
            mount: None,
            next_ticket: 1,
            claims: Vec::new(),
        }
    }
}

impl State {
    /// The state that is written in a file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unbelievable> {
        // A later version may have any other field.
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let corrupt = |error: serde_json::Error| Unbelievable::Corrupt(error.to_string());
        let Versioned { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if ![DURABLE, VERSION].map(u64::from).contains(&version) {
            return Err(Unbelievable::Version(version));
        }
        let state: Self = serde_json::from_slice(bytes).map_err(corrupt)?;
        let state = Self { version: VERSION, ..state };
        state.check().map_err(|what| Unbelievable::Corrupt(what.to_owned()))?;
        Ok(state)
    }

    /// The file's content.
    pub(super) fn print(&self) -> Result<Vec<u8>, Unbelievable> {
        self.check().map_err(|what| Unbelievable::Corrupt(what.to_owned()))?;
        let mut bytes = serde_json::to_vec(self).map_err(|error| Unbelievable::Corrupt(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// What the rules keep true, whatever happens.
    fn check(&self) -> Result<(), &'static str> {
        let all = |holds: fn(&Self, &Claim) -> bool| self.claims.iter().all(|claim| holds(self, claim));
        let short = |text: &str, most: u32| text.chars().count() <= most as usize;
        let names: BTreeSet<_> = self.claims.iter().map(|claim| &claim.name).collect();
        let tickets: BTreeSet<_> = self.claims.iter().map(|claim| claim.ticket).collect();
        let checks = [
            (self.claims.len() <= limits::CLAIMS, "too many claims"),
            (self.settled_term <= self.term && self.term.max(self.reserved) <= MAX_TERM, "term out of range"),
            (names.len() == self.claims.len(), "a claim is there twice"),
            (tickets.len() == self.claims.len(), "two claims have one ticket"),
            (all(|state, claim| claim.ticket < state.next_ticket), "a ticket of the future"),
            (all(|_, claim| is_claim_name(&claim.name)), "a claim with an impossible name"),
            (all(|_, claim| (1..=MAX_PERMITS).contains(&claim.permits)), "a claim with an impossible weight"),
            (all(|state, claim| claim.term <= state.term), "a claim of a future term"),
            (all(|_, claim| matches!(claim.phase, ClaimPhase::Pending | ClaimPhase::Granted)), "an impossible phase"),
            (all(|state, claim| claim.phase != ClaimPhase::Granted || state.has_token(claim)), "a grant without token"),
            (
                all(|state, claim| claim.phase != ClaimPhase::Granted || claim.term == state.term),
                "a grant that was not confirmed",
            ),
            (
                all(|_, claim| claim.phase != ClaimPhase::Granted || !claim.passed_over),
                "a grant to who was passed over",
            ),
            (
                self.claims.iter().all(|claim| {
                    short(&claim.holder, MAX_HOLDER) && short(claim.message.as_deref().unwrap_or(""), MAX_MESSAGE)
                }),
                "a text that is too long",
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }

    fn has_token(&self, claim: &Claim) -> bool {
        let highest = self.term << SEQUENCE_BITS | MAX_SEQUENCE;
        claim.fencing_token.is_some_and(|token| token <= highest)
    }
}

/// Whether this is the name of a claim and of its file, which must not lead anywhere else.
pub(super) fn is_claim_name(name: &str) -> bool {
    (1..=MAX_NAME as usize).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(name: &str, ticket: u64) -> Claim {
        Claim::waiting(name.to_owned(), "h".to_owned(), 1, 0, ticket)
    }

    fn state() -> State {
        State {
            term: 7,
            settled_term: 7,
            next_ticket: 3,
            claims: vec![claim("a1", 1), claim("b2", 2)],
            ..State::default()
        }
    }

    #[test]
    fn the_format_is_this_one() {
        let text = r#"{"version":2,"permits":2,"term":7,"settledTerm":7,"reserved":9,"mount":"b/1","nextTicket":2,"claims":[{"name":"a1","holder":"h","permits":1,"priority":0,"ticket":1,"phase":"Granted","term":7,"fencingToken":7340032,"ahead":null,"acquiredAt":"2026-01-02T03:04:05Z","message":null}]}"#;
        let state = State::parse(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(state.print().unwrap()).unwrap(), format!("{text}\n"));
        let before = text.replace(r#""reserved":9,"mount":"b/1","#, "").replace(r#""version":2"#, r#""version":1"#);
        let durable = State { reserved: 0, mount: None, ..state };
        assert_eq!(State::parse(before.as_bytes()), Ok(durable), "the one before is understood");
    }

    #[test]
    fn what_was_not_written_here_is_not_believed() {
        type Edit = fn(&mut State);
        let edits: [(&str, Edit); 11] = [
            ("term out of range", |state| state.settled_term = 8),
            ("term out of range", |state| state.reserved = MAX_TERM + 1),
            ("term out of range", |state| state.term = MAX_TERM + 1),
            ("a claim is there twice", |state| state.claims[0].name = "b2".to_owned()),
            ("two claims have one ticket", |state| state.claims[0].ticket = 2),
            ("a ticket of the future", |state| state.next_ticket = 2),
            ("a claim with an impossible name", |state| state.claims[0].name = "../x".to_owned()),
            ("a claim with an impossible weight", |state| state.claims[0].permits = 0),
            ("a claim of a future term", |state| state.claims[0].term = 8),
            ("a grant without token", |state| state.claims[0].phase = ClaimPhase::Granted),
            ("a grant to who was passed over", |state| {
                let fencing_token = Some(7 << SEQUENCE_BITS);
                let name = state.claims[0].name.clone();
                state.claims[0] =
                    Claim { phase: ClaimPhase::Granted, term: 7, fencing_token, passed_over: true, ..claim(&name, 1) };
            }),
        ];
        assert_eq!(State::parse(&state().print().unwrap()), Ok(state()));
        for (what, edit) in edits {
            let mut state = state();
            edit(&mut state);
            assert_eq!(state.print(), Err(Unbelievable::Corrupt(what.to_owned())));
            let bytes = serde_json::to_vec(&state).unwrap();
            assert_eq!(State::parse(&bytes), Err(Unbelievable::Corrupt(what.to_owned())));
        }
    }

    #[test]
    fn half_a_file_and_later_versions_are_told_apart() {
        let bytes = state().print().unwrap();
        for end in 0..bytes.len() - 2 {
            assert!(matches!(State::parse(&bytes[..end]), Err(Unbelievable::Corrupt(_))), "{end} bytes");
        }
        assert_eq!(State::parse(br#"{"version":3,"other":[]}"#), Err(Unbelievable::Version(3)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = State::parse(&bytes);
        }

        /// One byte changed anywhere: refused, or a state that is written back as it was read.
        #[test]
        fn a_damaged_file_is_refused_or_means_what_it_says(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = state().print().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(state) = State::parse(&bytes) {
                prop_assert_eq!(State::parse(&state.print().unwrap()), Ok(state));
            }
        }

        #[test]
        fn every_state_survives_the_file(
            claims in prop::collection::vec((any::<i32>(), 1..=MAX_PERMITS, ".{0,50}", any::<bool>()), 0..20),
            passed_over in any::<bool>(),
            term in 0..=MAX_TERM,
        ) {
            let claims = claims.into_iter().zip(1..).map(|((priority, permits, holder, granted), ticket)| Claim {
                permits,
                priority,
                holder,
                phase: if granted { ClaimPhase::Granted } else { ClaimPhase::Pending },
                fencing_token: granted.then_some(term << SEQUENCE_BITS),
                term: if granted { term } else { 0 },
                passed_over: passed_over && !granted,
                ..claim(&format!("c{ticket}"), ticket)
            });
            let state = State { term, next_ticket: 21, claims: claims.collect(), ..State::default() };
            prop_assert_eq!(State::parse(&state.print().unwrap()), Ok(state));
        }
    }
}
