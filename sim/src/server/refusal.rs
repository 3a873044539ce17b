//! What is refused by others than the server itself: by RBAC, which is asked before it, and by admission, which is asked
//! about what would otherwise be stored. In the words of a real API server.

use http::Method;
use serde_json::json;

use super::{
    Answer, Place, Request, Server,
    answer::details,
    place,
    resource::{self, Resource},
};

/// What cannot be written while admission refuses anything.
const REFUSED: [&str; 3] = ["permits", "leaserequests", "arrivals"];

/// How admission refuses claims and arrivals, in the order in which it is asked: the first one answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The policy `mood` has every write refused: `not today`.
    Policy,
    /// Nobody answers for the webhook `mood.example.com`, at [`Refusal::WEBHOOK`], that is to be asked about every write.
    Webhook,
    /// The quota `claims` has room for none.
    Quota,
}

impl Refusal {
    /// Where the webhook is that does not answer.
    pub const WEBHOOK: &str = "127.0.0.1:1";

    /// What it answers to a write of this object. A quota is only asked about new ones.
    fn answer(self, resource: &Resource, name: &str, creates: bool) -> Option<Answer> {
        let full_name = resource.full_name();
        match self {
            Self::Policy => {
                let why = "ValidatingAdmissionPolicy 'mood' with binding 'mood' denied request: not today";
                let mut details = details(resource, name);
                details["causes"] = json!([{ "message": why }]);
                let message = format!("{full_name} \"{name}\" is forbidden: {why}");
                Some(Answer::failure(422, "Invalid", &message, details))
            }
            Self::Webhook => {
                let address = Self::WEBHOOK;
                Some(Answer::broken(&format!(
                    "failed calling webhook \"mood.example.com\": failed to call webhook: Post \
                     \"https://{address}/?timeout=10s\": dial tcp {address}: connect: connection refused"
                )))
            }
            Self::Quota => creates.then(|| {
                let count = format!("count/{full_name}");
                let why = format!("exceeded quota: claims, requested: {count}=1, used: {count}=0, limited: {count}=0");
                Answer::forbidden(resource, name, &why)
            }),
        }
    }
}

impl Server {
    /// What admission answers to a write that is otherwise fine, if it refuses it.
    pub(super) fn admission(&self, resource: &Resource, name: &str, creates: bool) -> Option<Answer> {
        if !REFUSED.contains(&&*resource.plural) {
            return None;
        }
        self.refusals.iter().find_map(|refusal| refusal.answer(resource, name, creates))
    }
}

/// What RBAC answers to a user who may do nothing, but what everybody may.
pub fn no_right(user: &str, request: &Request) -> Option<Answer> {
    if request.path == "/readyz" {
        return None;
    }
    let Some(Place { resource, namespace, name, subresource }) = place(&request.path) else {
        let message = format!("forbidden: User \"{user}\" cannot {} path \"{}\"", verb(request, true), request.path);
        return Some(Answer::failure(403, "Forbidden", &message, json!({})));
    };
    let resource = &resource::all()[resource];
    let verb = verb(request, name.is_some());
    // A namespace is taken to be in itself.
    let namespace = namespace.or_else(|| name.clone().filter(|_| resource.plural == "namespaces"));
    // Who lists or watches one object asks for its name.
    let selected = || request.parameter("fieldSelector").strip_prefix("metadata.name=").map(str::to_owned);
    let name = name.or_else(selected).unwrap_or_default();
    let place = namespace.map_or("at the cluster scope".to_owned(), |name| format!("in the namespace \"{name}\""));
    let what = subresource.map_or(resource.plural.clone(), |part| format!("{}/{part}", resource.plural));
    let why = format!("User \"{user}\" cannot {verb} resource \"{what}\" in API group \"{}\" {place}", resource.group);
    Some(Answer::forbidden(resource, &name, &why))
}

/// As RBAC calls what is asked for.
fn verb(request: &Request, of_one: bool) -> &'static str {
    match request.method {
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::DELETE if of_one => "delete",
        Method::DELETE => "deletecollection",
        _ if of_one => "get",
        _ if request.is_set("watch") => "watch",
        _ => "list",
    }
}
