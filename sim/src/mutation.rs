//! Rules taken out, to see whether the observers notice. Nothing of Konductor is compiled differently: what a rule does
//! is undone on the way, where it can be seen, or the world breaks what the rule relies on.

use http::Method;
use serde_json::Value;

use crate::{plan::Who, server::Request};

/// A rule that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// What an operator writes names no version: a late write of one that was deposed lands on whatever is there.
    WritesNameNoVersion,
    /// What clients renew and delete names no UID: it may be another claim of the same name.
    ClaimsHaveNoUid,
    /// A client confirms its grant by a read that may be old.
    ConfirmationIsStale,
    /// An operator's lists may be old: a takeover misses holders.
    ListsAreStale,
    /// The clocks of operators are faster than a client may assume.
    OperatorsAreFast,
    /// The clocks of clients are slower than they may be.
    ClientsAreSlow,
    /// What a client protects goes on for some seconds after its deadline.
    CommandsOutliveTheirDeadline,
    /// What a client protects goes on for a moment after its release.
    CommandsOutliveTheirRelease,
    /// Kubelets say that containers have ended that run on.
    KubeletsLie,
    /// Renewals are accepted and not stored.
    RenewalsAreForgotten,
    /// No operator stores which term is settled, so that its successor adopts whatever was granted before.
    SettledTermIsForgotten,
    /// Watches do not tell of what was deleted.
    DeletionsAreNotTold,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::WritesNameNoVersion,
        Self::ClaimsHaveNoUid,
        Self::ConfirmationIsStale,
        Self::ListsAreStale,
        Self::OperatorsAreFast,
        Self::ClientsAreSlow,
        Self::CommandsOutliveTheirDeadline,
        Self::CommandsOutliveTheirRelease,
        Self::KubeletsLie,
        Self::RenewalsAreForgotten,
        Self::SettledTermIsForgotten,
        Self::DeletionsAreNotTold,
    ];

    /// By how many millionths it makes the clock of a process faster.
    pub(crate) fn drift(self, who: Who) -> i64 {
        match (self, who) {
            (Self::OperatorsAreFast, Who::Operator(_)) => 100_000,
            (Self::ClientsAreSlow, Who::Client(_)) => -100_000,
            _ => 0,
        }
    }

    /// Makes of a request what it is without the rule. Returns whether it may be answered from the past.
    pub(crate) fn rewrite(self, by_operator: bool, request: &mut Request) -> bool {
        let is_claim = request.path.contains("/permits") || request.path.contains("/leaserequests");
        let is_ours = request.path.contains("/konductor.io/");
        match self {
            Self::WritesNameNoVersion if by_operator && is_ours => {
                change(request, |body| remove(body, &["metadata", "resourceVersion"]));
                change(request, |body| remove(body, &["preconditions", "resourceVersion"]));
            }
            Self::ClaimsHaveNoUid if !by_operator && is_claim => {
                change(request, |body| remove(body, &["metadata", "uid"]));
                change(request, |body| remove(body, &["preconditions", "uid"]));
            }
            Self::RenewalsAreForgotten if !by_operator && is_claim => {
                change(request, |body| remove(body, &["spec", "renewTime"]));
            }
            Self::SettledTermIsForgotten if by_operator => {
                change(request, |body| remove(body, &["status", "settledTerm"]));
            }
            Self::ConfirmationIsStale => {
                let is_read = request.method == Method::GET && is_ours && !is_claim && !is_watch(request);
                return make_stale(!by_operator && is_read, request);
            }
            Self::ListsAreStale => {
                // Those of a takeover: of what follows everything, it is noticed that versions go back.
                let selects = request.query.iter().any(|(_, value)| value.starts_with("spec."));
                let is_list = request.method == Method::GET && is_claim && selects && !is_watch(request);
                return make_stale(by_operator && is_list, request);
            }
            _ => {}
        }
        false
    }
}

fn is_watch(request: &Request) -> bool {
    request.query.iter().any(|(name, _)| name == "watch" || name == "continue")
}

fn make_stale(stale: bool, request: &mut Request) -> bool {
    if stale {
        request.query.push(("resourceVersion".into(), "0".into()));
    }
    stale
}

fn change(request: &mut Request, change: impl FnOnce(&mut Value)) {
    if request.method != Method::POST
        && let Ok(mut body) = serde_json::from_slice::<Value>(&request.body)
    {
        change(&mut body);
        request.body = body.to_string().into_bytes();
    }
}

fn remove(body: &mut Value, path: &[&str; 2]) {
    if let Some(members) = body.get_mut(path[0]).and_then(Value::as_object_mut) {
        members.remove(path[1]);
    }
}
