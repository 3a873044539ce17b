//! The committed CRDs, admission policies and reference pages are those that the code says. `UPDATE_CRDS=1 cargo test -p
//! konductor-api --test crds` rewrites the former, `UPDATE_DOCS=1` the latter.

mod reference;

use std::{collections::BTreeSet, env, fs, path::Path, time::Duration};

use konductor_api::{Barrier, Gate, GoDuration, Lease, Lock, LockClaim, Rendezvous, Semaphore, limits::*};
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

/// The file of the chart with this object, which is rewritten when that is wanted.
fn is_current(file: &str, object: &impl Serialize) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/konductor/files").join(file);
    let generated = serde_yaml_ng::to_string(object).unwrap();
    if env::var_os("UPDATE_CRDS").is_some() {
        fs::write(&file, &generated).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is not current: run UPDATE_CRDS=1 cargo test -p konductor-api --test crds",
        file.display()
    );
}

#[test]
fn committed_crds_are_current() {
    for crd in konductor_api::crds::all() {
        is_current(&format!("crds/{}.yaml", crd.spec.names.plural), &crd);
    }
}

#[test]
fn committed_admission_policies_are_current() {
    let mut files = BTreeSet::new();
    for policy in konductor_api::admission::policies() {
        let file = format!("{}.yaml", policy.metadata.name.as_deref().expect("a name"));
        is_current(&format!("admission/{file}"), &policy);
        files.insert(file);
    }
    for binding in konductor_api::admission::bindings() {
        let file = format!("{}-binding.yaml", binding.metadata.name.as_deref().expect("a name"));
        is_current(&format!("admission/{file}"), &binding);
        files.insert(file);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/konductor/files/admission");
    let there = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), files, "a policy that is no more leaves no file behind");
}

/// What a kind says of itself is what its resource says.
#[test]
fn kinds_are_described_as_their_resources_are() {
    fn lock<L: Lock<Claim: CustomResourceExt> + CustomResourceExt>() {
        let (crd, kind) = (serde_json::to_value(L::crd()).expect("JSON"), L::KIND);
        names(&crd, kind.name, kind.plural);
        assert_eq!(kind.read, format!("read the {kind}"));
        let status = field(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "status");
        assert_eq!(!field(status, "holder").is_null(), kind.exclusive, "{kind}");
        assert_eq!(!field(status, "holders").is_null(), !kind.exclusive, "{kind}");
        let claims = serde_json::to_value(L::Claim::crd()).expect("JSON");
        let path = format!(".{}", L::Claim::LOCK_FIELD);
        let selectable = claims["spec"]["versions"][0]["selectableFields"].as_array().expect("selectable fields");
        assert!(selectable.contains(&json!({ "jsonPath": path })), "{kind}: {path}");
    }
    fn rendezvous<R: Rendezvous + CustomResourceExt>() {
        let (crd, kind) = (serde_json::to_value(R::crd()).expect("JSON"), R::KIND);
        names(&crd, kind.name, kind.plural);
        assert_eq!((kind.read, kind.watch), (&*format!("read the {kind}"), &*format!("watch the {kind}")));
    }
    fn names(crd: &Value, name: &str, plural: &str) {
        let names = &crd["spec"]["names"];
        assert_eq!((&names["singular"], &names["plural"]), (&json!(name), &json!(plural)));
    }
    lock::<Lease>();
    lock::<Semaphore>();
    rendezvous::<Barrier>();
    rendezvous::<Gate>();
}

/// The schema of a field: a path of properties, with `[]` for the items of a list and `{}` for the values of a map.
fn field<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |schema, step| match step {
        "[]" => &schema["items"],
        "{}" => &schema["additionalProperties"],
        name => &schema["properties"][name],
    })
}

fn schemas() -> impl Iterator<Item = (String, Value)> {
    konductor_api::crds::all().into_iter().map(|crd| {
        let schema = crd.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        (crd.spec.names.kind.clone(), serde_json::to_value(schema.expect("a schema")).expect("JSON"))
    })
}

#[test]
fn bounds_are_those_of_their_limits() {
    let schemas: Vec<_> = schemas().collect();
    let check = |kind: &str, path: &str, bound: &str, limit: u64| {
        let (_, schema) = schemas.iter().find(|(one, _)| one == kind).expect("a kind");
        let found = field(schema, path)[bound].as_f64();
        assert_eq!(found, Some(limit as f64), "{kind} {path} {bound}");
    };
    for kind in ["Permit", "LeaseRequest"] {
        check(kind, "spec.holder", "maxLength", MAX_HOLDER.into());
        check(kind, "spec.instance", "maxLength", MAX_ID.into());
        check(kind, "spec.pod.name", "maxLength", MAX_NAME.into());
        check(kind, "spec.pod.uid", "maxLength", MAX_ID.into());
        check(kind, "spec.pod.container", "maxLength", MAX_NAME.into());
        check(kind, "spec.pod.start", "maxLength", MAX_ID.into());
        check(kind, "spec.pod.namespace", "maxLength", MAX_NAMESPACE.into());
        check(kind, "status.term", "maximum", MAX_TERM);
        check(kind, "status.fencingToken", "maximum", MAX_COUNT);
        check(kind, "status.ticket", "maximum", MAX_COUNT);
        check(kind, "status.ahead", "maximum", MAX_COUNT);
        check(kind, "status.message", "maxLength", MAX_MESSAGE.into());
    }
    check("Permit", "spec.semaphore", "maxLength", MAX_NAME.into());
    check("Permit", "spec.permits", "maximum", MAX_PERMITS);
    check("LeaseRequest", "spec.lease", "maxLength", MAX_NAME.into());
    check("Semaphore", "spec.permits", "maximum", MAX_PERMITS);
    check("Semaphore", "status.holders", "maxItems", HOLDERS_SHOWN as u64);
    check("Semaphore", "status.holders.[]", "maxLength", MAX_HOLDER.into());
    check("Lease", "status.holder", "maxLength", MAX_HOLDER.into());
    check("Lease", "status.fencingToken", "maximum", MAX_COUNT);
    for kind in ["Semaphore", "Lease"] {
        check(kind, "status.term", "maximum", MAX_TERM);
        check(kind, "status.settledTerm", "maximum", MAX_TERM);
    }
    check("Barrier", "spec.expected", "maximum", MAX_EXPECTED.into());
    check("Barrier", "spec.quorum", "maximum", MAX_EXPECTED.into());
    check("Barrier", "status.arrived", "maximum", MAX_COUNT);
    check("Barrier", "status.round", "maximum", MAX_COUNT);
    check("Arrival", "spec.barrier", "maxLength", MAX_NAME.into());
    check("Arrival", "spec.holder", "maxLength", MAX_HOLDER.into());
    check("Arrival", "spec.key", "maxLength", MAX_KEY.into());
    check("Arrival", "spec.pod.name", "maxLength", MAX_NAME.into());
    check("Arrival", "spec.pod.uid", "maxLength", MAX_ID.into());
    check("Arrival", "spec.pod.namespace", "maxLength", MAX_NAMESPACE.into());
    check("Gate", "spec.conditions", "maxItems", MAX_GATE_CONDITIONS.into());
    check("Gate", "spec.conditions.[].name", "maxLength", MAX_NAME.into());
    check("Gate", "spec.conditions.[].namespace", "maxLength", MAX_NAMESPACE.into());
    check("Gate", "spec.conditions.[].value", "maximum", MAX_PERMITS);
    let selector = "spec.conditions.[].selector";
    check("Gate", &format!("{selector}.matchLabels"), "maxProperties", MAX_SELECTOR_TERMS.into());
    check("Gate", &format!("{selector}.matchLabels.{{}}"), "maxLength", MAX_LABEL_VALUE.into());
    check("Gate", &format!("{selector}.matchExpressions"), "maxItems", MAX_SELECTOR_TERMS.into());
    check("Gate", &format!("{selector}.matchExpressions.[].key"), "maxLength", MAX_LABEL_KEY.into());
    check("Gate", &format!("{selector}.matchExpressions.[].values"), "maxItems", MAX_SELECTOR_VALUES.into());
    check("Gate", &format!("{selector}.matchExpressions.[].values.[]"), "maxLength", MAX_LABEL_VALUE.into());
    check("Gate", "status.met", "maximum", MAX_GATE_CONDITIONS.into());
    check("Gate", "status.total", "maximum", MAX_GATE_CONDITIONS.into());
    check("Gate", "status.conditionStatuses", "maxItems", MAX_GATE_CONDITIONS.into());
    check("Gate", "status.conditionStatuses.[].message", "maxLength", MAX_MESSAGE.into());
    for (kind, _) in schemas.iter().filter(|(kind, _)| kind != "Arrival") {
        check(kind, "status.conditions", "maxItems", MAX_CONDITIONS.into());
    }
}

/// Rules are text, so their bounds cannot be the constants.
#[test]
fn durations_are_ruled_by_their_limits() {
    let (ttl, wait) = ((MIN_TTL, MAX_TTL), (MIN_WAIT, MAX_WAIT));
    for (kind, path, (least, most)) in [
        ("Semaphore", "spec.ttl", ttl),
        ("Lease", "spec.ttl", ttl),
        ("Permit", "spec.ttl", ttl),
        ("LeaseRequest", "spec.ttl", ttl),
        ("Barrier", "spec.timeout", wait),
        ("Barrier", "spec.resetAfter", wait),
        ("Gate", "spec.timeout", wait),
    ] {
        let (_, schema) = schemas().find(|(one, _)| one == kind).expect("a kind");
        let rules = field(&schema, path)["x-kubernetes-validations"].as_array().expect("rules").clone();
        let said: Vec<Duration> = rules
            .iter()
            .filter_map(|rule| rule["rule"].as_str())
            .flat_map(|rule| rule.split("duration('").skip(1))
            .map(|rest| rest.split('\'').next().unwrap_or_default())
            .map(|text| serde_json::from_value::<GoDuration>(json!(text)).expect("a duration").0)
            .collect();
        assert_eq!(said, [least, most], "{kind} {path}");
    }
}
