//! The `CustomResourceDefinition`s, as the chart ships them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use crate::{Arrival, Barrier, Gate, Lease, LeaseRequest, Permit, Semaphore};

/// One definition a kind.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        Semaphore::crd(),
        Permit::crd(),
        Lease::crd(),
        LeaseRequest::crd(),
        Barrier::crd(),
        Arrival::crd(),
        Gate::crd(),
    ];
    for version in all.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            name_known_formats(schema);
            let spec = schema.properties.as_mut().and_then(|properties| properties.get_mut("spec"));
            spec.into_iter().filter(|spec| spec.required.is_none()).for_each(need_not_be_said);
        }
    }
    all
}

/// A spec in which nothing is required can be left out.
fn need_not_be_said(spec: &mut JSONSchemaProps) {
    spec.default = Some(JSON(serde_json::json!({})));
}

/// Kubernetes knows no unsigned formats and warns about them; the bounds of each field say the same.
fn name_known_formats(schema: &mut JSONSchemaProps) {
    match schema.format.as_deref() {
        Some("uint32") => schema.format = Some("int32".into()),
        Some("uint64") => schema.format = Some("int64".into()),
        _ => {}
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| name_known_formats(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        name_known_formats(items);
    }
}
