//! The claim that belongs to a holder by its name: what it was before, what it is when it is held, and what becomes of it
//! when it is given up.

use std::time::Duration;

use konductor::{Request, Wanted, claim_of_holder, instance_of_holder};
use konductor_api::GoDuration;
use konductor_cluster::backoff::Backoff;
use serde_json::{Value, json};

use crate::{
    args::DryRun,
    cluster::{ApiError, Call, Cluster},
    error::Error,
    holder::Who,
    kind::Resource,
    trouble::explain,
};

/// What is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) fencing_token: u64,
    pub(super) ttl: Duration,
}

/// The claim that belongs to the holder by its name.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) kind: Resource,
    pub(super) name: String,
    instance: String,
}

impl Ours {
    pub(super) fn of(kind: Resource, wanted: &Wanted, who: &Who) -> Self {
        let pod = who.pod.as_ref();
        let name = claim_of_holder(wanted, &who.holder, pod);
        Self { kind, name, instance: instance_of_holder(wanted, &who.holder, pod) }
    }

    /// Looks what has its name before anything is asked for, which must be for the same.
    pub(super) async fn found_before(&self, cluster: &Cluster, request: &Request) -> Result<Before, Error> {
        let answer = cluster.call(Call::get(cluster.path(self.kind, &self.name))).await;
        match Before::told(answer, &self.name) {
            Ok(Before::There(claim)) => match differs(&claim, request) {
                Some(difference) if claim["status"]["phase"] != "Expired" => Err(Error::usage(format!(
                    "{} has a claim on {} already, {difference}",
                    request.holder, request.wanted
                ))
                .advise("release it first, or name another --holder")),
                _ => Ok(Before::There(claim)),
            },
            Ok(before) => Ok(before),
            Err(error) => Err(explain(cluster, error, self.kind, Some(&self.name)).await),
        }
    }

    /// What is to be done about a claim that may be left behind. `known` is its UID, when one was seen before; `made` is
    /// the claim that was created here. All who ask in the holder's name have the same instance, so one that is held and
    /// was not created here may be another's, who works under it.
    fn fate(&self, claim: &Value, made: Option<&Made>, known: Option<&str>) -> Fate {
        let uid = claim["metadata"]["uid"].as_str();
        let is_same = claim["spec"]["instance"] == *self.instance && known.is_none_or(|known| uid == Some(known));
        let is_held = matches!(claim["status"]["phase"].as_str(), Some("Granted" | "Revoking"));
        match (is_same, is_held, made) {
            (false, ..) => Fate::Anothers,
            (true, true, Some(made)) if uid == Some(&*made.uid) => Fate::Deleted,
            (true, true, _) => Fate::Left,
            (true, false, _) => Fate::Deleted,
        }
    }

    /// Whether this claim is what is held.
    pub(super) fn is_held(&self, claim: &Value, held: Held) -> bool {
        claim["spec"]["instance"] == *self.instance && claim["status"]["fencingToken"] == held.fencing_token
    }

    /// That it may be there still.
    pub(super) fn left_behind(&self) -> String {
        let Self { kind, name, .. } = self;
        format!("{kind}/{name} may be left behind: nobody renews it, so it ends with its time to live")
    }

    /// That it is there still, and held.
    fn left_held(&self) -> String {
        let Self { kind, name, .. } = self;
        format!("{kind}/{name} is held, and left: another command of the same holder may have acquired it")
    }

    /// What is asked for.
    pub(super) fn spec(&self, request: &Request, namespace: &str) -> Value {
        let field = match request.wanted {
            Wanted::Lease { .. } => "lease",
            Wanted::Semaphore { .. } => "semaphore",
        };
        let mut spec = json!({
            field: request.wanted.name(), "holder": request.holder, "priority": request.priority,
            "instance": self.instance,
        });
        if let Wanted::Semaphore { permits, .. } = request.wanted {
            spec["permits"] = json!(permits);
        }
        if let Some(ttl) = request.ttl {
            spec["ttl"] = json!(GoDuration(ttl));
        }
        if let Some(pod) = &request.pod {
            spec["pod"] = json!(pod.clone().named_in(namespace));
        }
        spec
    }

    /// A claim that is held, as far as it is known without reading it.
    pub(super) fn known(
        &self,
        name: &str,
        made: Option<&Made>,
        held: Held,
        request: &Request,
        namespace: &str,
    ) -> Value {
        let mut metadata = json!({ "name": name, "namespace": namespace });
        if let Some(made) = made {
            metadata["uid"] = json!(made.uid);
        }
        let ttl = GoDuration(held.ttl);
        json!({
            "apiVersion": self.kind.api_version(), "kind": self.kind.kind, "metadata": metadata,
            "spec": self.spec(request, namespace),
            "status": { "phase": "Granted", "fencingToken": held.fencing_token, "ttl": ttl },
        })
    }
}

/// A claim that was created here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) uid: String,
}

/// What becomes of a claim that may be left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is none that was asked for here.
    Anothers,
    /// It is held, and others may work under it.
    Left,
    /// Nobody can rely on it.
    Deleted,
}

/// What had the claim's name before anything was asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Before {
    /// It could not be seen.
    Unknown,
    /// Nothing.
    Absent,
    /// This claim.
    There(Value),
}

impl Before {
    /// What an answer says of it. A failure that may pass is no answer: the asking itself tells whether it does.
    fn told(answer: Result<Value, ApiError>, name: &str) -> Result<Self, ApiError> {
        match answer {
            Ok(claim) => Ok(Self::There(claim)),
            Err(error) if error.is_absent(name) => Ok(Self::Absent),
            Err(error) if error.is_passing() => Ok(Self::Unknown),
            Err(error) => Err(error),
        }
    }

    pub(super) fn uid(&self) -> Option<&str> {
        match self {
            Self::There(claim) => claim["metadata"]["uid"].as_str(),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// Whether this grant was there.
    pub(super) fn granted(&self, fencing_token: u64) -> bool {
        matches!(self, Self::There(claim)
            if claim["status"]["phase"] == "Granted" && claim["status"]["fencingToken"] == fencing_token)
    }
}

/// In what a claim differs from what is asked for now, if it does.
fn differs(claim: &Value, request: &Request) -> Option<String> {
    if let Wanted::Semaphore { permits, .. } = request.wanted {
        let has = claim["spec"]["permits"].as_u64().unwrap_or(1);
        if has != u64::from(permits) {
            return Some(format!("for {has} permits and not for {permits}"));
        }
    }
    let has = claim["spec"]["ttl"].as_str().and_then(|ttl| ttl.parse::<GoDuration>().ok()).map(|ttl| ttl.0);
    match request.ttl {
        Some(wanted) if has != Some(wanted) => {
            let has = has.map_or("the lock's own".to_owned(), |has| GoDuration(has).to_string());
            Some(format!("with a time to live of {has} and not {}", GoDuration(wanted)))
        }
        _ => None,
    }
}

/// Deletes the claim if it is there, is still the one that was asked for here, and nobody else can rely on it. Returns
/// what people must know of what is left.
pub(super) async fn clean_up(
    cluster: &Cluster,
    ours: &Ours,
    before: &Before,
    made: Option<&Made>,
    limit: Duration,
) -> Option<String> {
    let name = made.map_or(&ours.name, |made| &made.name);
    let path = cluster.path(ours.kind, name);
    let deleting = async {
        let mut known = made.map(|made| &*made.uid).or(before.uid()).map(str::to_owned);
        let mut backoff = Backoff::default();
        loop {
            let outcome = match cluster.call(Call::get(path.clone())).await {
                Ok(claim) => match ours.fate(&claim, made, known.as_deref()) {
                    Fate::Anothers => return None,
                    Fate::Left if before.uid().is_some() => return None,
                    Fate::Left => return Some(ours.left_held()),
                    Fate::Deleted => {
                        let (uid, version) = (&claim["metadata"]["uid"], &claim["metadata"]["resourceVersion"]);
                        known = uid.as_str().map(str::to_owned);
                        // As it was seen: it may be granted, and relied on, meanwhile.
                        let options = json!({ "preconditions": { "uid": uid, "resourceVersion": version } });
                        cluster.call(Call::delete(path.clone(), &options, DryRun::None)).await.map(|_| ())
                    }
                },
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => return None,
                Err(error) if error.is_absent(name) => return None,
                // A gateway's 404 says nothing, and what has changed is looked at again.
                Err(error) if error.is_passing() || matches!(error.code(), Some(404 | 409)) => backoff.pause().await,
                Err(_) => return Some(ours.left_behind()),
            }
        }
    };
    tokio::time::timeout(limit, deleting).await.unwrap_or_else(|_| Some(ours.left_behind()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn ours() -> Ours {
        let who = Who { holder: "h".to_owned(), person: "ann@laptop".to_owned(), pod: None };
        Ours::of(crate::kind::PERMIT, &Wanted::Semaphore { name: "s".to_owned(), permits: 1 }, &who)
    }

    fn claim(uid: &str, instance: &str, phase: &str) -> Value {
        let status = json!({ "phase": phase, "fencingToken": 7 });
        json!({ "metadata": { "uid": uid }, "spec": { "instance": instance }, "status": status })
    }

    pub(crate) fn refused(code: u16, name: &str) -> ApiError {
        let text = String::new;
        ApiError::Refused {
            code,
            reason: text(),
            message: text(),
            name: name.to_owned(),
            kind: text(),
            fields: Vec::new(),
        }
    }

    #[test]
    fn only_what_was_made_here_is_deleted_when_it_is_held() {
        let ours = ours();
        let own = ours.instance.as_str();
        let made = Made { name: ours.name.clone(), uid: "a".to_owned() };
        for (claim, made, known, expected) in [
            (claim("a", own, "Granted"), Some(&made), Some("a"), Fate::Deleted),
            (claim("a", own, "Pending"), None, None, Fate::Deleted),
            (claim("a", own, "Granted"), None, None, Fate::Left),
            (claim("a", own, "Granted"), None, Some("a"), Fate::Left),
            (claim("a", own, "Revoking"), None, Some("a"), Fate::Left),
            (claim("a", own, "Expired"), None, Some("a"), Fate::Deleted),
            (claim("b", own, "Pending"), None, Some("a"), Fate::Anothers),
            (claim("b", own, "Granted"), Some(&made), Some("a"), Fate::Anothers),
            (claim("a", "0123", "Pending"), None, None, Fate::Anothers),
        ] {
            assert_eq!(ours.fate(&claim, made, known), expected, "{claim} {made:?} {known:?}");
        }
    }

    #[test]
    fn what_may_pass_does_not_end_the_first_look() {
        let passing = [ApiError::Unanswered("connection refused".to_owned()), refused(429, ""), refused(500, "")];
        for error in passing {
            assert_eq!(Before::told(Err(error), "s-1").expect("it goes on"), Before::Unknown);
        }
        assert_eq!(Before::told(Err(refused(404, "s-1")), "s-1").expect("it goes on"), Before::Absent);
        for code in [401, 403, 404] {
            assert!(Before::told(Err(refused(code, "")), "s-1").is_err(), "{code}");
        }
    }

    #[test]
    fn held_already_is_the_same_grant() {
        let before = Before::There(claim("a", "i", "Granted"));
        assert!(before.granted(7) && !before.granted(8));
        assert!(!Before::There(claim("a", "i", "Expired")).granted(7) && !Before::Absent.granted(7));
    }

    #[test]
    fn a_claim_that_is_there_must_be_for_the_same() {
        let request = |permits, ttl: Option<u64>| Request {
            wanted: Wanted::Semaphore { name: "s".to_owned(), permits },
            priority: 0,
            ttl: ttl.map(Duration::from_secs),
            holder: "h".to_owned(),
            pod: None,
        };
        let claim = json!({ "spec": { "permits": 2, "ttl": "1m0s" } });
        assert_eq!(differs(&claim, &request(2, None)), None);
        assert_eq!(differs(&claim, &request(2, Some(60))), None);
        assert_eq!(differs(&claim, &request(1, None)).as_deref(), Some("for 2 permits and not for 1"));
        let difference = differs(&claim, &request(2, Some(5)));
        assert_eq!(difference.as_deref(), Some("with a time to live of 1m and not 5s"));
    }
}
