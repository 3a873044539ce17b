//! `--local DIR`: what a folder has in a cluster's place, for commands that look.
//!
//! A view of the folder is made into objects as the API has them (`objects`), so that all that is said of them is said
//! by the same code as in a cluster: summaries, verdicts of waits, the walk of `why`, the screen of `top`. What a folder
//! cannot have is refused by its name (`refusal`).

mod follow;
mod list;
mod objects;
mod refusal;
mod views;

use jiff::Timestamp;
use konductor::{
    Exit, Local,
    local::{Snapshot, SnapshotError},
};
use serde_json::Value;

pub(crate) use self::{
    follow::wait,
    list::{list, summaries, summaries_of},
    objects::objects,
    refusal::refusal,
    views::Changes,
};
use crate::{
    args::SelectionArgs,
    error::Error,
    kind::{LEASE, LEASE_REQUEST, PERMIT, Resource, SEMAPHORE},
    trouble::nearest,
    why::{Answer, Batch, Kind, Known, Question, Step, Which, explain, read},
};

/// The kinds that a folder has.
pub(crate) const KINDS: [Resource; 4] = [SEMAPHORE, LEASE, PERMIT, LEASE_REQUEST];

/// What has no namespace, as the walk of `why` and the view of `top` have it.
pub(crate) const NO_NAMESPACE: &str = "";

/// That a folder cannot be looked at, with the code of `konductor-run` for it.
pub(crate) fn unreadable(error: &SnapshotError) -> Error {
    Error::new(Exit::Refused, error.to_string())
}

/// That a folder has nothing of this kind.
pub(crate) fn only_in_a_cluster(resource: Resource) -> Error {
    Error::usage(format!("a folder (--local) has no {}: it knows semaphores and leases", resource.plural))
        .advise("leave --local (and KONCLI_LOCAL) out to ask a cluster")
}

/// Refuses what selects by what objects in a folder do not have.
pub(crate) fn check(selection: &SelectionArgs) -> Result<(), Error> {
    if selection.selector.is_some() || selection.field_selector.is_some() {
        return Err(Error::usage(
            "in a folder (--local) nothing can be selected by labels or fields: name what is meant",
        ));
    }
    Ok(())
}

/// The object of this name, or that there is none.
pub(crate) fn one<'a>(all: &'a [Value], resource: Resource, name: &str) -> Result<&'a Value, Error> {
    let found = all.iter().find(|object| object["metadata"]["name"] == name);
    found.ok_or_else(|| {
        let error = Error::new(Exit::NoSuchPrimitive, format!("no manifest of the folder defines {resource}/{name}"));
        let names: Vec<_> =
            all.iter().filter_map(|object| object["metadata"]["name"].as_str()).map(str::to_owned).collect();
        match nearest(name, &names) {
            Some(near) => error.advise(format!("did you mean {resource}/{near}?")),
            None if names.is_empty() => error.advise("the folder's *.yaml define what there is"),
            None => error.advise(format!("it has: {}", names.join(", "))),
        }
    })
}

/// Why something in a folder is as it is.
pub(crate) fn why(folder: &Local, kind: Kind, name: &str, now: Timestamp) -> Result<Answer, Error> {
    let view = folder.snapshot().map_err(|error| unreadable(&error))?;
    Ok(why_in(&view, kind, name, now))
}

/// The same in a view: the walk is that in a cluster. All that it asks for is there, or is nothing that a folder has, so
/// that it ends.
fn why_in(view: &Snapshot, kind: Kind, name: &str, now: Timestamp) -> Answer {
    let question =
        Question { kind, namespace: NO_NAMESPACE.to_owned(), name: name.to_owned(), operator_namespace: None };
    let mut known = Known::new();
    loop {
        match explain(&question, &known, now) {
            Step::Answer(answer) => return *answer,
            Step::Read(needs) => known.extend(needs.into_iter().map(|need| {
                let is_there = KINDS.contains(&need.kind.resource());
                let all = if is_there { objects(view, need.kind.resource()) } else { Vec::new() };
                let chosen = all.iter().filter(|object| is_meant(object, &need.which));
                let items = chosen.filter_map(|object| read(need.kind, &object.to_string())).collect();
                (need, Ok(Batch { items, more: false }))
            })),
        }
    }
}

/// Whether an object is among these.
fn is_meant(object: &Value, which: &Which) -> bool {
    match which {
        Which::Named(name) => object["metadata"]["name"] == *name,
        Which::Fields(fields, _) => fields.split(',').all(|field| {
            let Some((path, value)) = field.split_once('=') else { return false };
            object.pointer(&format!("/{}", path.replace('.', "/"))).is_some_and(|found| *found == *value)
        }),
        // Nothing in a folder has labels.
        Which::Labels(..) => false,
        Which::Any(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use konductor::local::{ClaimShown, LockShown};
    use konductor_api::{Lock as _, Queueing, Semaphore};

    use super::*;

    pub(super) fn view() -> Snapshot {
        let at = |text: &str| Some(text.parse().expect("a time"));
        let claim = |name: &str, permits, token: Option<u64>, ahead| ClaimShown {
            name: name.to_owned(),
            holder: format!("host-{name}"),
            permits,
            priority: 0,
            ticket: 1,
            fencing_token: token,
            acquired_at: token.and_then(|_| at("2026-01-01T11:50:00Z")),
            ahead,
            message: ahead.map(|_| "2 of 3 permits in use".to_owned()),
            since: at("2026-01-01T11:45:00Z"),
        };
        let lock = |name: &str, permits, claims, trouble| LockShown {
            kind: Semaphore::KIND,
            name: name.to_owned(),
            permits,
            queueing: Queueing::StrictFIFO,
            term: 7,
            settled_term: 7,
            claims,
            trouble,
        };
        let claims =
            vec![claim("a", 2, Some(7 << 20), None), claim("b", 2, None, Some(0)), claim("c", 1, None, Some(1))];
        Snapshot {
            locks: vec![
                lock("broken", Some(1), Vec::new(), Some("cannot believe state.json".to_owned())),
                lock("gpu", Some(3), claims, None),
                lock("undefined", None, vec![claim("d", 1, None, Some(0))], None),
            ],
        }
    }

    #[test]
    fn the_walk_goes_through_a_folder_as_through_a_cluster() {
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let answer = |kind, name: &str| why_in(&view(), kind, name, now).text();
        let expected = "\
permit/b (holder host-b) has waited for 15m for 2 permits of semaphore/gpu
  semaphore/gpu: 2 of 3 permits in use by 1 claim, 2 claims wait
    permit/a (holder host-a) has held 2 permits of semaphore/gpu for 10m
      free when its holder releases it; or its process ends
  nobody is in front: its turn is when 2 permits are free, now 1
  when its turn is cannot be told: no holder is known to have ended so far
";
        assert_eq!(answer(Kind::Permit, "b"), expected);
        let missing = answer(Kind::Permit, "d");
        assert!(missing.contains("semaphore/undefined does not exist\n"), "{missing}");
        let broken = answer(Kind::Semaphore, "broken");
        assert!(broken.contains("semaphore/broken"), "{broken}");
    }
}
