//! What the API server serves: the custom resources, by the definitions that the chart installs, and of Kubernetes' own
//! what Konductor and its users touch.

use std::{collections::BTreeMap, sync::OnceLock};

use konductor_api::crds;
use serde_json::Value;

use super::schema::Schema;

/// A resource.
#[derive(Debug)]
pub struct Resource {
    /// Its group; empty of the core's.
    pub group: String,
    /// Its version.
    pub version: &'static str,
    /// Its name in paths.
    pub plural: String,
    /// The kind of its objects.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What its objects may be, if it is a custom one.
    pub schema: Option<Schema>,
    /// Whether its status is a resource of its own.
    pub has_status: bool,
    /// Where each field is that a selector may name, besides name and namespace.
    pub fields: BTreeMap<String, Vec<String>>,
    /// How long an object is shown after it was deleted, for somebody on a node to end it first; in seconds.
    pub grace: Option<u64>,
}

/// Its place in [`all`].
pub type ResourceId = usize;

/// Namespaces.
pub const NAMESPACES: ResourceId = 0;
/// Pods.
pub const PODS: ResourceId = 1;

impl Resource {
    fn builtin(
        group: &str,
        version: &'static str,
        plural: &str,
        kind: &str,
        namespaced: bool,
        has_status: bool,
    ) -> Self {
        Self {
            group: group.into(),
            version,
            plural: plural.into(),
            kind: kind.into(),
            namespaced,
            schema: None,
            has_status,
            fields: BTreeMap::new(),
            grace: None,
        }
    }

    /// Its group and version as objects say them.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }

    /// As errors name it.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// As errors name the kind.
    pub fn full_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }
}

/// All resources. They are the same for every server, and read once.
pub fn all() -> &'static [Resource] {
    static ALL: OnceLock<Vec<Resource>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut pods = Resource::builtin("", "v1", "pods", "Pod", true, true);
        pods.grace = Some(30);
        pods.fields.insert("status.phase".into(), vec!["status".into(), "phase".into()]);
        let mut all = vec![
            Resource::builtin("", "v1", "namespaces", "Namespace", false, true),
            pods,
            Resource::builtin("batch", "v1", "jobs", "Job", true, true),
            Resource::builtin("coordination.k8s.io", "v1", "leases", "Lease", true, false),
            Resource::builtin("events.k8s.io", "v1", "events", "Event", true, false),
        ];
        all.extend(crds::all().iter().map(|crd| {
            let crd = serde_json::to_value(crd).expect("a definition is JSON");
            custom(&crd["spec"])
        }));
        all
    })
}

fn custom(spec: &Value) -> Resource {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let [version] = &spec["versions"].as_array().expect("versions")[..] else { panic!("more than one version") };
    assert_eq!(version["name"], "v1");
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    let fields = selectable.map(|field| {
        let path = text(&field["jsonPath"]);
        let path = path.trim_start_matches('.');
        (path.to_owned(), path.split('.').map(str::to_owned).collect())
    });
    Resource {
        group: text(&spec["group"]),
        version: "v1",
        plural: text(&spec["names"]["plural"]),
        kind: text(&spec["names"]["kind"]),
        namespaced: spec["scope"] == "Namespaced",
        schema: Some(Schema::read(&version["schema"]["openAPIV3Schema"])),
        has_status: version["subresources"]["status"].is_object(),
        fields: fields.collect(),
        grace: None,
    }
}
