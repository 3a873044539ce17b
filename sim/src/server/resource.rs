//! What the API server serves: the custom resources, by the definitions that the chart installs, and of Kubernetes' own
//! what Konductor and its users touch.

use std::{collections::BTreeMap, sync::OnceLock};

use konductor_api::crds;
use serde_json::Value;

use super::schema::{Fault, Schema};

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
    /// Where the counts are that it can be scaled by.
    pub scale: Vec<String>,
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
            scale: Vec::new(),
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

    /// What is wrong with the counts that an object can be scaled by, besides what its schema says.
    pub(super) fn scale_faults(&self, object: &Value) -> Vec<Fault> {
        let wrong = |path: &String| {
            let found = path.split('.').filter(|name| !name.is_empty()).fold(object, |at, name| &at[name]);
            let fits =
                found.is_null() || found.as_i64().is_some_and(|count| (0..=i64::from(i32::MAX)).contains(&count));
            (!fits).then(|| Fault::invalid(path, found, "should be a non-negative integer"))
        };
        self.scale.iter().filter_map(wrong).collect()
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
        scale: ["specReplicasPath", "statusReplicasPath"]
            .iter()
            .filter_map(|path| version["subresources"]["scale"][*path].as_str().map(str::to_owned))
            .collect(),
        grace: None,
    }
}
