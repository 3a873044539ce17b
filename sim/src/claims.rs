//! What must be true of each claim from one look to the next, whoever looks: the simulation at every write, and tests on
//! a real API server at what their watches tell.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::machines::Machine;

/// The state of a claim, as [`machines`](crate::machines) calls it.
pub fn state_of(claim: &Value) -> &str {
    match claim["status"]["phase"].as_str() {
        None | Some("") => "new",
        Some(phase) => phase,
    }
}

/// What is wrong with a claim's place in the order, after `before`: it has one as soon as it has been seen, and keeps it.
pub fn ticket(before: &Value, claim: &Value) -> Option<String> {
    let (had, has) = (&before["status"]["ticket"], &claim["status"]["ticket"]);
    let is_seen = matches!(state_of(claim), "Pending" | "Granted" | "Revoking");
    let is_kept = !has.is_null() && (had.is_null() || had == has);
    (is_seen && !is_kept)
        .then(|| format!("I8: the claim {} has the ticket {has}, and had {had}", claim["metadata"]["name"]))
}

/// A claim as it was seen last.
#[derive(Debug)]
struct Seen {
    claim: Value,
    /// Something may have been missed since.
    is_old: bool,
}

/// All claims, as somebody sees them who watches them.
#[derive(Debug, Default)]
pub struct Claims {
    /// By UID.
    seen: BTreeMap<String, Seen>,
    /// How often each state has come of which.
    transitions: BTreeMap<(String, String), u64>,
    broken: Vec<String>,
}

impl Claims {
    /// What must not have been.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// How many of how many transitions were seen.
    pub fn coverage(&self) -> (usize, usize) {
        let machine = Machine::of("claim");
        let seen =
            machine.transitions().filter(|(from, to)| self.transitions.keys().any(|(was, is)| was == from && is == to));
        (seen.count(), machine.transitions().count())
    }

    /// The watch has ended: until it tells of a claim again, anything may happen to that unseen.
    pub fn looks_away(&mut self) {
        self.seen.values_mut().for_each(|seen| seen.is_old = true);
    }

    /// These are all, after something may have been missed.
    pub fn list(&mut self, all: impl IntoIterator<Item = Value>) {
        self.looks_away();
        all.into_iter().for_each(|claim| self.see(claim, false));
        self.seen.retain(|_, seen| !seen.is_old);
    }

    /// A claim is so now, or is gone and was so last.
    pub fn see(&mut self, claim: Value, gone: bool) {
        let uid = claim["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let before = self.seen.remove(&uid);
        let (was, is_old) = before.as_ref().map_or(("new", true), |seen| (state_of(&seen.claim), seen.is_old));
        // What was deleted is told as it was last, which may be news, too.
        for (was, is) in [(was, state_of(&claim))].into_iter().chain(gone.then(|| (state_of(&claim), "gone"))) {
            if was == is {
                continue;
            }
            let machine = Machine::of("claim");
            *self.transitions.entry((was.to_owned(), is.to_owned())).or_default() += u64::from(machine.has(was, is));
            if !(machine.has(was, is) || is_old && machine.leads(was, is)) {
                self.broken.push(format!("transition: the claim {} was {was} and is {is}", claim["metadata"]["name"]));
            }
        }
        self.broken.extend(ticket(before.as_ref().map_or(&Value::Null, |seen| &seen.claim), &claim));
        if !gone {
            self.seen.insert(uid, Seen { claim, is_old: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(phase: Option<&str>, ticket: Option<u64>) -> Value {
        json!({ "metadata": { "name": "c", "uid": "u" }, "status": { "phase": phase, "ticket": ticket } })
    }

    fn broken(steps: &[(Option<&str>, Option<u64>)]) -> usize {
        let mut claims = Claims::default();
        claims.see(claim(None, None), false);
        for (phase, ticket) in steps {
            claims.see(claim(*phase, *ticket), false);
        }
        claims.broken().len()
    }

    #[test]
    fn a_claim_goes_on_as_it_may_with_the_ticket_that_it_has() {
        assert_eq!(broken(&[(Some("Pending"), Some(7)), (Some("Granted"), Some(7)), (Some("Expired"), None)]), 0);
        assert_eq!(broken(&[(Some("Pending"), None)]), 1);
        assert_eq!(broken(&[(Some("Pending"), Some(7)), (Some("Granted"), Some(8))]), 1);
        assert_eq!(broken(&[(Some("Granted"), Some(7)), (Some("Expired"), None), (Some("Granted"), Some(7))]), 1);
    }

    #[test]
    fn what_happens_while_nobody_looks_is_what_may_come_of_it() {
        let mut claims = Claims::default();
        claims.see(claim(Some("Pending"), Some(7)), false);
        claims.looks_away();
        claims.see(claim(Some("Revoking"), Some(7)), false);
        assert_eq!(claims.broken().len(), 0, "it was granted meanwhile");
        claims.see(claim(Some("Pending"), Some(7)), false);
        assert_eq!(claims.broken().len(), 1, "nobody has looked away");
        claims.see(claim(Some("Expired"), None), true);
        assert_eq!((claims.broken().len(), claims.coverage()), (1, (3, 14)));
    }
}
