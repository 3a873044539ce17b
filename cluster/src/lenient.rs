//! Objects that may be unreadable, one by one.
//!
//! One object that does not fit its type (written under another version of its schema, or with validation switched off)
//! must not spoil the list or watch that it comes in.

use std::{borrow::Cow, fmt::Debug};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::NamespaceResourceScope};
use serde::{Deserialize, Deserializer, de, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A namespaced resource that is known at compile time.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// An object of type `K`, or why it is none.
#[derive(Clone, Debug)]
pub struct Lenient<K>(pub Result<K, Misfit>);

/// An object that cannot be read as what it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct Misfit {
    /// Its metadata; that part every object has.
    pub metadata: ObjectMeta,
    /// What its `status.phase` says, if it has one.
    pub phase: Option<String>,
    /// What does not fit.
    pub error: String,
}

#[derive(Deserialize)]
struct Outline {
    metadata: ObjectMeta,
    #[serde(default)]
    status: serde_json::Value,
}

impl<K: Resource<DynamicType = ()>> Lenient<K> {
    /// Its metadata, readable or not.
    pub fn metadata(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(misfit) => &misfit.metadata,
        }
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        serde_json::from_str(text.get()).map(|object| Self(Ok(object))).or_else(|error| {
            let Outline { metadata, status } = serde_json::from_str(text.get()).map_err(de::Error::custom)?;
            let phase =
                status.get("phase").map(|phase| phase.as_str().map_or_else(|| phase.to_string(), str::to_owned));
            Ok(Self(Err(Misfit { metadata, phase, error: error.to_string() })))
        })
    }
}

impl<K> Resource for Lenient<K>
where
    K: Resource<DynamicType = ()>,
{
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(dynamic: &()) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &()) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &()) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &()) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(misfit) => &mut misfit.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use konductor_api::{ClaimPhase, Permit};
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::json;

    use super::*;

    fn permit(name: &str, status: &serde_json::Value) -> serde_json::Value {
        json!({
            "apiVersion": "konductor.io/v1", "kind": "Permit", "metadata": { "name": name, "uid": name },
            "spec": { "semaphore": "s", "holder": "h", "instance": "i" }, "status": status,
        })
    }

    #[test]
    fn one_misfit_leaves_the_rest_of_a_list_readable() {
        let list = json!({
            "apiVersion": "konductor.io/v1", "kind": "PermitList", "metadata": { "resourceVersion": "7" },
            "items": [permit("good", &json!({ "phase": "Granted" })), permit("bad", &json!({ "phase": "Granted", "ttl": 5 }))],
        });
        let list: ObjectList<Lenient<Permit>> = serde_json::from_str(&list.to_string()).expect("a list");
        let good = list.items[0].0.as_ref().expect("the first one is readable");
        assert_eq!(good.status.as_ref().and_then(|status| status.phase), Some(ClaimPhase::Granted));
        let bad = list.items[1].0.as_ref().expect_err("the second one is not");
        assert_eq!((bad.metadata.uid.as_deref(), bad.phase.as_deref()), (Some("bad"), Some("Granted")));
        assert!(bad.error.contains("invalid type: integer `5`"), "{}", bad.error);
    }

    #[test]
    fn a_misfit_in_a_watch_is_an_event_like_others() {
        let event = format!(r#"{{"type":"MODIFIED","object":{}}}"#, permit("bad", &json!({ "phase": 1 })));
        let event: WatchEvent<Lenient<Permit>> = serde_json::from_str(&event).expect("an event");
        let WatchEvent::Modified(Lenient(Err(misfit))) = event else { panic!("{event:?}") };
        assert_eq!(misfit.phase.as_deref(), Some("1"));
    }
}
