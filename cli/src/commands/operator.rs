//! `koncli operator`: whether one runs, who leads, and what is installed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use konductor_api::GROUP;
use serde_json::{Value, json};

use crate::{
    args::OutputArgs,
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::{ARRIVAL, BARRIER, GATE, LEASE, LEASE_REQUEST, PERMIT, POD, Resource, SEMAPHORE},
    output::Format,
    output::table::{aligned, plain},
    trouble::explain,
    why::{ELECTION, OPERATOR_NAMESPACE, leads},
};
use konductor::Exit;

/// How operators are labelled by the chart.
const LABELS: &str = "app.kubernetes.io/name=konductor,app.kubernetes.io/component=operator";

const ELECTIONS: Resource = Resource::foreign("coordination.k8s.io", "Lease", "leases", "lease");
const DEFINITIONS: Resource =
    Resource::foreign("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", "definition");
const DEPLOYMENTS: Resource = Resource::foreign("apps", "Deployment", "deployments", "deployment");
const ADMISSION: &str = "admissionregistration.k8s.io";
const POLICIES: Resource =
    Resource::foreign(ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", "policy");
const BINDINGS: Resource =
    Resource::foreign(ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "binding");

/// Konductor's custom resources.
const OURS: [Resource; 7] = [ARRIVAL, BARRIER, GATE, LEASE_REQUEST, LEASE, PERMIT, SEMAPHORE];

/// What the names of Konductor's admission policies begin with.
const POLICY: &str = "konductor-";

/// How to print it.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows it. What may not be read is a line of the answer.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    if *args.output.format() == Format::Name {
        return Err(Error::usage("what is installed has no name: use json, yaml or jsonpath={.leader}"));
    }
    let cluster = context.cluster().await?;
    let said = context.globals.operator_namespace.clone().or_else(|| context.globals.namespace.clone());
    #[expect(clippy::disallowed_methods, reason = "ages are shown to people")]
    let now = Timestamp::now();
    let namespace = match said {
        Some(namespace) => namespace,
        None => installed_in(&cluster, now).await?,
    };
    let (summary, unknown) = summary(&cluster, &namespace, now).await;
    match args.output.print(summary.clone())? {
        Some(text) => context.screen.text(&text),
        None => context.screen.text(&screen(&summary, unknown.is_none(), now)),
    }
    Ok(match unknown {
        Some(exit) => exit,
        None if summary["leader"].is_null() => Exit::NoSuchPrimitive,
        None => DONE,
    })
}

/// The namespace in which operators elect their leader, if it may be looked for.
async fn installed_in(cluster: &Cluster, now: Timestamp) -> Result<String, Error> {
    let call = Call::get(ELECTIONS.path(None)).with("fieldSelector", format!("metadata.name={ELECTION}"));
    match cluster.call(call).await {
        Ok(list) => Ok(likeliest(&list, now).unwrap_or(OPERATOR_NAMESPACE).to_owned()),
        Err(ApiError::Refused { .. }) => Ok(OPERATOR_NAMESPACE.to_owned()),
        Err(error) => Err(explain(cluster, error, ELECTIONS, None).await),
    }
}

/// Where the operator most likely is: anybody may call a lease like its own, so that one whose holder renews it is
/// believed first, and of such the one in the usual namespace.
fn likeliest(list: &Value, now: Timestamp) -> Option<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    let namespace = |election: &&Value| election["metadata"]["namespace"].as_str() == Some(OPERATOR_NAMESPACE);
    let best = items.min_by_key(|election| (!leads(election, now), !namespace(election)));
    best.and_then(|election| election["metadata"]["namespace"].as_str())
}

/// All that is known, with what could not be read; and how the program ends when it is not known who leads.
async fn summary(cluster: &Cluster, namespace: &str, now: Timestamp) -> (Value, Option<Exit>) {
    let mut unread = Vec::new();
    let mut read = |what: &str, answer: Result<Value, ApiError>| match answer {
        Ok(value) => value,
        Err(error) => {
            if !matches!(error, ApiError::Refused { code: 404, .. }) {
                unread.push(format!("{what}: {error}"));
            }
            Value::Null
        }
    };
    let election = cluster.call(Call::get(format!("{}/{ELECTION}", ELECTIONS.path(Some(namespace))))).await;
    let unknown = match &election {
        Err(error) if error.code() != Some(404) => {
            Some(explain(cluster, error.clone(), ELECTIONS, Some(ELECTION)).await.exit)
        }
        _ => None,
    };
    let election = read("the election", election);
    let labelled = |resource: Resource| Call::get(resource.path(Some(namespace))).with("labelSelector", LABELS);
    let deployments = read("the deployment", cluster.list(labelled(DEPLOYMENTS)).await);
    let pods = read("the replicas", cluster.list(labelled(POD)).await);
    let definitions = cluster.list(Call::get(DEFINITIONS.path(None))).await;
    let are_defined = definitions.is_ok();
    let definitions = read("the custom resources", definitions);
    let policies = cluster.list(Call::get(POLICIES.path(None))).await;
    let are_told = policies.is_ok();
    let policies = read("the admission policies", policies);
    let bindings = read("what the admission policies are bound to", cluster.list(Call::get(BINDINGS.path(None))).await);
    let each = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let deployments: Vec<_> = each(&deployments).iter().map(deployment).collect();
    let replicas: Vec<_> = each(&pods).iter().map(replica).collect();
    let definitions = each(&definitions);
    let definitions: Vec<_> = definitions.iter().filter(|crd| crd["spec"]["group"] == GROUP).collect();
    let missing = OURS.iter().map(Resource::qualified_plural);
    let missing: Vec<_> =
        missing.filter(|name| definitions.iter().all(|crd| crd["metadata"]["name"] != name.as_str())).collect();
    let definitions: Vec<_> = definitions
        .iter()
        .map(|crd| json!({ "name": crd["metadata"]["name"], "version": version(crd), "created": crd["metadata"]["creationTimestamp"] }))
        .collect();
    let bindings = (!bindings.is_null()).then(|| each(&bindings));
    let policies = each(&policies);
    let policies = policies.iter().filter(|policy| is_ours(policy));
    let policies: Vec<_> = policies
        .map(|policy| {
            let name = &policy["metadata"]["name"];
            let actions = bindings.as_ref().map(|bindings| actions(bindings, name));
            json!({ "name": name, "version": version(policy), "actions": actions })
        })
        .collect();
    let holder = election["spec"]["holderIdentity"].clone();
    let running = deployments.first().or(replicas.first()).map(|first| first["version"].clone());
    let summary = json!({
        "namespace": namespace,
        "version": running,
        "leader": if leads(&election, now) { holder } else { Value::Null },
        "leaderSince": election["spec"]["acquireTime"],
        "leaderRenewed": election["spec"]["renewTime"],
        "transitions": election["spec"]["leaseTransitions"],
        "deployments": deployments,
        "replicas": replicas,
        "customResources": are_defined.then_some(definitions),
        "missingCustomResources": are_defined.then_some(missing),
        "admissionPolicies": are_told.then_some(policies),
        "unread": unread,
    });
    (summary, unknown)
}

/// The version that an object is of: by the tag of the image that it runs, or else by its label.
fn version(object: &Value) -> Value {
    let label = &object["metadata"]["labels"]["app.kubernetes.io/version"];
    let pod = if object["spec"]["template"].is_null() { object } else { &object["spec"]["template"] };
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    // A port of the registry has a colon, too; a digest tells nothing to people.
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    let tag = name.rsplit('/').next().and_then(|name| name.split_once(':'));
    tag.map_or_else(|| label.clone(), |(_, tag)| json!(tag))
}

/// Whether an admission policy is Konductor's.
fn is_ours(policy: &Value) -> bool {
    let name = policy["metadata"]["name"].as_str().unwrap_or_default();
    policy["metadata"]["labels"]["app.kubernetes.io/name"] == "konductor" || name.starts_with(POLICY)
}

/// What is done about what a policy does not allow, by all that binds it: nothing when it is not bound.
fn actions(bindings: &[Value], policy: &Value) -> Vec<String> {
    let of = bindings.iter().filter(|binding| binding["spec"]["policyName"] == *policy);
    let actions = of.flat_map(|binding| binding["spec"]["validationActions"].as_array().into_iter().flatten());
    let mut actions: Vec<_> = actions.filter_map(Value::as_str).map(str::to_owned).collect();
    actions.sort();
    actions.dedup();
    actions
}

fn deployment(deployment: &Value) -> Value {
    json!({
        "name": deployment["metadata"]["name"], "version": version(deployment),
        "image": deployment["spec"]["template"]["spec"]["containers"][0]["image"],
        "replicas": deployment["spec"]["replicas"],
        "ready": deployment["status"]["readyReplicas"].as_u64().unwrap_or(0),
        "created": deployment["metadata"]["creationTimestamp"],
    })
}

fn replica(pod: &Value) -> Value {
    let ready = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = ready.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    json!({
        "name": pod["metadata"]["name"], "ready": ready, "node": pod["spec"]["nodeName"],
        "image": image, "version": version(pod), "since": pod["status"]["startTime"],
    })
}

/// The same for people; whether anybody leads may not be known.
fn screen(summary: &Value, known: bool, now: Timestamp) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let age = |value: &Value| {
        value.as_str().and_then(|at| at.parse().ok()).map_or("-".to_owned(), |at| crate::output::age(at, now))
    };
    let list = |field: &str| summary[field].as_array().cloned().unwrap_or_default();
    let mut rows = vec![vec!["Namespace:".to_owned(), text(&summary["namespace"])]];
    let leader = match summary["leader"].as_str() {
        _ if !known => "not known".to_owned(),
        Some(leader) => format!("{leader}, for {}", age(&summary["leaderSince"])),
        None if summary["leaderRenewed"].is_string() => {
            format!("none; the last one was heard {} ago", age(&summary["leaderRenewed"]))
        }
        None => "none: nothing is granted, and no barrier or gate opens".to_owned(),
    };
    rows.push(vec!["Leader:".to_owned(), leader]);
    let deployed = list("deployments");
    for (at, deployment) in deployed.iter().enumerate() {
        let head = if at == 0 { "Operator:" } else { "" };
        let line = format!(
            "version {}, {} of {} ready, {}",
            text(&deployment["version"]),
            deployment["ready"],
            deployment["replicas"].as_u64().unwrap_or(1),
            text(&deployment["image"])
        );
        rows.push(vec![head.to_owned(), line]);
    }
    for (at, replica) in list("replicas").iter().enumerate() {
        let head = if at == 0 { "Replicas:" } else { "" };
        let ready = if replica["ready"] == true { "ready" } else { "not ready" };
        let line = format!(
            "{}, {ready}, version {}, for {}",
            text(&replica["name"]),
            text(&replica["version"]),
            age(&replica["since"])
        );
        rows.push(vec![head.to_owned(), line]);
    }
    for (at, line) in resources(summary).into_iter().enumerate() {
        rows.push(vec![if at == 0 { "Custom resources:" } else { "" }.to_owned(), line]);
    }
    for (at, line) in policies(summary).into_iter().enumerate() {
        rows.push(vec![if at == 0 { "Admission policies:" } else { "" }.to_owned(), line]);
    }
    rows.extend(list("unread").iter().map(|line| vec!["Not read:".to_owned(), text(line)]));
    // A lease can be a stranger's, and so can what it says.
    for cell in rows.iter_mut().flatten() {
        *cell = plain(cell);
    }
    aligned(&rows)
}

/// The custom resources, a line for each version; with one that is not the operator's, what to do.
fn resources(summary: &Value) -> Vec<String> {
    let Some(found) = summary["customResources"].as_array() else { return vec!["not known".to_owned()] };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut versions = BTreeMap::<_, Vec<_>>::new();
    for crd in found {
        let name = text(&crd["name"]);
        let plural = name.split_once('.').map_or(name.as_str(), |(plural, _)| plural).to_owned();
        versions.entry(text(&crd["version"])).or_default().push(plural);
    }
    let running = text(&summary["version"]);
    let mut lines: Vec<_> = versions
        .iter()
        .map(|(version, names)| {
            let names = names.join(", ");
            match version.as_str() {
                "" => format!("version not known: {names}"),
                version if running.is_empty() || version == running => format!("version {version}: {names}"),
                version => {
                    format!(
                        "version {version}, while the operator's is {running} (helm upgrade brings both there): {names}"
                    )
                }
            }
        })
        .collect();
    let missing: Vec<_> = summary["missingCustomResources"].as_array().into_iter().flatten().map(text).collect();
    if !missing.is_empty() {
        lines.push(format!("not installed: {}", missing.join(", ")));
    }
    lines
}

/// The admission policies, a line each.
fn policies(summary: &Value) -> Vec<String> {
    let Some(found) = summary["admissionPolicies"].as_array() else { return vec!["not known".to_owned()] };
    if found.is_empty() {
        return vec!["not installed".to_owned()];
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let line = |policy: &Value| {
        let name = text(&policy["name"]).unwrap_or_default();
        let version = text(&policy["version"]).map(|version| format!(", version {version}")).unwrap_or_default();
        let does = match policy["actions"].as_array().map(Vec::as_slice) {
            None => "what it does is not known".to_owned(),
            Some([]) => "not bound, so that it does nothing".to_owned(),
            Some(actions) => actions.iter().filter_map(text).collect::<Vec<_>>().join(" and "),
        };
        format!("{name}{version}: {does}")
    };
    found.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    fn election(namespace: &str, renewed: &str) -> Value {
        json!({
            "metadata": { "name": ELECTION, "namespace": namespace },
            "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": renewed },
        })
    }

    #[test]
    fn of_several_leases_the_one_that_lives_is_believed_and_then_the_usual_one() {
        let (lives, slow, dead) = ("2026-01-01T00:00:55Z", "2026-01-01T00:00:43Z", "2026-01-01T00:00:00Z");
        for (leases, expected) in [
            (vec![], None),
            (vec![("a", dead)], Some("a")),
            (vec![("a", lives), (OPERATOR_NAMESPACE, lives)], Some(OPERATOR_NAMESPACE)),
            (vec![("a", dead), (OPERATOR_NAMESPACE, dead)], Some(OPERATOR_NAMESPACE)),
            (vec![(OPERATOR_NAMESPACE, dead), ("a", lives)], Some("a")),
            // Clocks differ by seconds.
            (vec![(OPERATOR_NAMESPACE, dead), ("a", slow)], Some("a")),
        ] {
            let items: Vec<_> = leases.iter().map(|(namespace, renewed)| election(namespace, renewed)).collect();
            assert_eq!(likeliest(&json!({ "items": items }), now()), expected, "{leases:?}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_image_and_else_of_the_label() {
        let of = |image: &str| {
            let labels = json!({ "app.kubernetes.io/version": "0.1.0" });
            version(&json!({
                "metadata": { "labels": labels },
                "spec": { "template": { "spec": { "containers": [{ "image": image }] } } },
            }))
        };
        for (image, expected) in [
            ("konductor/operator:0.2.0", "0.2.0"),
            ("registry.example.com:5000/konductor/operator:0.2.0@sha256:00", "0.2.0"),
            ("registry.example.com:5000/konductor/operator@sha256:00", "0.1.0"),
            ("operator", "0.1.0"),
        ] {
            assert_eq!(of(image), expected, "{image}");
        }
    }

    #[test]
    fn what_is_installed_is_told_by_its_version() {
        let crd = |name: &str, version: &str| json!({ "name": format!("{name}.{GROUP}"), "version": version });
        let summary = json!({
            "version": "0.2.0",
            "customResources": [crd("gates", "0.1.0"), crd("leases", "0.2.0"), crd("permits", "0.2.0"), crd("x", "")],
            "missingCustomResources": ["semaphores.konductor.io"],
            "admissionPolicies": [
                { "name": "konductor-claims", "version": "0.2.0", "actions": ["Audit", "Deny"] },
                { "name": "konductor-other", "version": null, "actions": [] },
                { "name": "konductor-dark", "version": null, "actions": null },
            ],
        });
        assert_eq!(
            resources(&summary),
            [
                "version not known: x",
                "version 0.1.0, while the operator's is 0.2.0 (helm upgrade brings both there): gates",
                "version 0.2.0: leases, permits",
                "not installed: semaphores.konductor.io",
            ]
        );
        assert_eq!(
            policies(&summary),
            [
                "konductor-claims, version 0.2.0: Audit and Deny",
                "konductor-other: not bound, so that it does nothing",
                "konductor-dark: what it does is not known",
            ]
        );
        assert_eq!(policies(&json!({ "admissionPolicies": [] })), ["not installed"]);
        assert_eq!((resources(&json!({})), policies(&json!({}))), (vec!["not known".into()], vec!["not known".into()]));
        let bindings = [("a", "Deny"), ("a", "Audit"), ("b", "Warn"), ("a", "Deny")]
            .map(|(policy, action)| json!({ "spec": { "policyName": policy, "validationActions": [action] } }));
        assert_eq!(actions(&bindings, &json!("a")), ["Audit", "Deny"]);
    }

    #[test]
    fn what_is_not_known_is_not_claimed_and_nothing_is_obeyed() {
        let nobody = json!({ "namespace": "n", "leader": null, "unread": ["the election: forbidden"] });
        let shown = screen(&nobody, false, now());
        assert!(shown.contains("not known\n") && !shown.contains("nothing is granted"), "{shown}");
        assert!(screen(&nobody, true, now()).contains("nothing is granted"));
        let evil = json!({ "namespace": "n", "leader": "a\u{1b}[2J", "replicas": [{ "name": "b\u{202e}" }] });
        let shown = screen(&evil, true, now());
        assert!(shown.contains("a [2J") && !shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    }
}
