//! Whether somebody is there to decide.

use jiff::{SignedDuration, Timestamp};

use super::{
    limits::CLOCK_SLACK_SECONDS,
    reason::{At, Cause, Reason, Ref},
    seen::{DeploymentSeen, ElectionSeen, Kind},
    world::{Look, Several, Walk, Which},
};

/// The lease by which operators know their leader.
pub(crate) const ELECTION: &str = "konductor-operator";

/// Where the operator is looked for when not all namespaces may be: where its documentation installs it.
pub(crate) const NAMESPACE: &str = "konductor-system";

/// Where a Deployment says that it is Konductor's operator.
const DEPLOYMENTS: &str = "app.kubernetes.io/name=konductor,app.kubernetes.io/component=operator";

/// What is wrong with the operator. That there is no lease is only told where something `is_unanswered`: an operator
/// can run without an election.
pub(super) fn troubles(walk: &Walk<'_>, is_unanswered: bool) -> Vec<Reason> {
    if walk.is_local {
        return Vec::new();
    }
    let (election, place) = find(walk);
    match election {
        Look::There(election) if !leads(election, walk.now) => {
            let namespace = &election.metadata.namespace;
            let cause = Cause::NoLeader {
                namespace: namespace.clone(),
                last: holder(election).map(str::to_owned),
                renewed: renewed(election).map(At),
            };
            vec![walk.reason(cause).because(deployments(walk, namespace))]
        }
        Look::Absent if is_unanswered => {
            let place = place.map(str::to_owned);
            let because = place.as_ref().map(|namespace| deployments(walk, namespace)).unwrap_or_default();
            vec![walk.reason(Cause::NoOperator { namespace: place }).because(because)]
        }
        _ => Vec::new(),
    }
}

/// Since when the leader leads.
pub(super) fn leads_since(walk: &Walk<'_>) -> Option<Timestamp> {
    if walk.is_local {
        return None;
    }
    find(walk).0.there()?.spec.acquire_time.as_ref()?.parse().ok()
}

/// The lease, and where it was looked for.
fn find<'a>(walk: &Walk<'a>) -> (Look<&'a ElectionSeen>, Option<&'a str>) {
    if let Some(namespace) = walk.operator_namespace {
        return (walk.one(Kind::Election, Some(namespace), ELECTION), Some(namespace));
    }
    let named = Which::Fields(format!("metadata.name={ELECTION}"), 2);
    let Several { items, read, .. } = walk.tried::<ElectionSeen>(Kind::Election, None, named.clone());
    if read {
        // Of several installations nobody can tell whose this is: one that leads is enough.
        let best = items.iter().find(|election| leads(election, walk.now)).or(items.first()).copied();
        return (best.map_or(Look::Absent, Look::There), None);
    }
    if walk.awaits(Kind::Election, None, &named) {
        return (Look::Dark, None);
    }
    match walk.one(Kind::Election, Some(NAMESPACE), ELECTION) {
        // It may be installed elsewhere.
        Look::Absent => (Look::Dark, None),
        look => (look, Some(NAMESPACE)),
    }
}

fn deployments(walk: &Walk<'_>, namespace: &str) -> Vec<Reason> {
    let labelled = Which::Labels(DEPLOYMENTS.into(), 2);
    let found = walk.tried::<DeploymentSeen>(Kind::Deployment, Some(namespace), labelled).items;
    let one = |found: &&DeploymentSeen| {
        walk.reason(Cause::Deployment {
            deployment: Ref::new(Kind::Deployment, namespace, &found.metadata.name),
            replicas: found.spec.replicas.unwrap_or(1),
            ready: found.status.ready_replicas,
        })
    };
    found.iter().map(one).collect()
}

fn holder(election: &ElectionSeen) -> Option<&str> {
    election.spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn renewed(election: &ElectionSeen) -> Option<Timestamp> {
    election.spec.renew_time.as_ref()?.parse().ok()
}

/// Whether its holder has renewed it in time. What cannot be told is not blamed on anybody.
pub(super) fn leads(election: &ElectionSeen, now: Timestamp) -> bool {
    if holder(election).is_none() {
        return false;
    }
    let lasts = election.spec.lease_duration_seconds.map(|lasts| lasts.saturating_add(CLOCK_SLACK_SECONDS));
    let ends =
        renewed(election).zip(lasts).and_then(|(at, lasts)| at.checked_add(SignedDuration::from_secs(lasts)).ok());
    ends.is_none_or(|ends| ends > now)
}
