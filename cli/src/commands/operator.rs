//! `koncli operator`: whether one runs, who leads, and what is installed.

use jiff::Timestamp;
use konductor_api::GROUP;
use serde_json::{Value, json};

use crate::{
    args::OutputArgs,
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::{POD, Resource},
    output::table::aligned,
};
use konductor::Exit;

/// The Lease of coordination.k8s.io by which operators elect their leader, and how operators are labelled by the chart.
const ELECTION: &str = "konductor-operator";
const LABELS: &str = "app.kubernetes.io/name=konductor,app.kubernetes.io/component=operator";

/// Where the chart's page says to install it.
const USUAL: &str = "konductor-system";

const ELECTIONS: Resource = Resource::foreign("coordination.k8s.io", "Lease", "leases", "lease");
const DEFINITIONS: Resource =
    Resource::foreign("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", "definition");
const POLICIES: Resource = Resource::foreign(
    "admissionregistration.k8s.io",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    "policy",
);

/// How to print it.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows it. What may not be read is a line of the answer.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    let cluster = context.cluster().await?;
    let said = context.globals.namespace.clone().or_else(|| context.globals.operator_namespace.clone());
    let namespace = match said {
        Some(namespace) => namespace,
        None => installed_in(&cluster).await?,
    };
    #[expect(clippy::disallowed_methods, reason = "ages are shown to people")]
    let now = Timestamp::now();
    let summary = summary(&cluster, &namespace, now).await?;
    match args.output.print(summary.clone())? {
        Some(text) => context.screen.text(&text),
        None => context.screen.text(&screen(&summary, now)),
    }
    Ok(if summary["leader"].is_null() { Exit::NoSuchPrimitive } else { DONE })
}

/// The namespace in which operators elect their leader, if it may be looked for.
async fn installed_in(cluster: &Cluster) -> Result<String, Error> {
    let call = Call::get(ELECTIONS.path(None)).with("fieldSelector", format!("metadata.name={ELECTION}"));
    match cluster.call(call).await {
        Ok(list) => Ok(list["items"][0]["metadata"]["namespace"].as_str().unwrap_or(USUAL).to_owned()),
        Err(ApiError::Unanswered(why)) => {
            Err(Error::new(Exit::Unreachable, format!("cannot reach {}: {why}", cluster.server))
                .advise("see that there is a way to the API server: kubectl version; then try again"))
        }
        Err(ApiError::Refused { .. }) => Ok(USUAL.to_owned()),
    }
}

/// All that is known, with what could not be read.
async fn summary(cluster: &Cluster, namespace: &str, now: Timestamp) -> Result<Value, Error> {
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
    let election = read("the election", election);
    let pods = cluster.list(Call::get(POD.path(Some(namespace))).with("labelSelector", LABELS)).await;
    let pods = read("the replicas", pods);
    let definitions = read("the custom resources", cluster.list(Call::get(DEFINITIONS.path(None))).await);
    let policies = read("the admission policies", cluster.list(Call::get(POLICIES.path(None))).await);
    let each = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let version = |object: &Value| object["metadata"]["labels"]["app.kubernetes.io/version"].clone();
    let replicas: Vec<_> = each(&pods).iter().map(replica).collect();
    let definitions: Vec<_> = each(&definitions)
        .iter()
        .filter(|crd| crd["spec"]["group"] == GROUP)
        .map(|crd| json!({ "name": crd["metadata"]["name"], "version": version(crd), "created": crd["metadata"]["creationTimestamp"] }))
        .collect();
    let policies: Vec<_> = each(&policies)
        .iter()
        .filter(|policy| policy["metadata"]["labels"]["app.kubernetes.io/name"] == "konductor")
        .map(|policy| json!({ "name": policy["metadata"]["name"], "version": version(policy) }))
        .collect();
    let lasts = election["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(0);
    let renewed = election["spec"]["renewTime"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let alive = renewed.is_some_and(|at| now.as_second() - at.as_second() <= lasts);
    let holder = election["spec"]["holderIdentity"].clone();
    Ok(json!({
        "namespace": namespace,
        "leader": if alive && holder.as_str().is_some_and(|holder| !holder.is_empty()) { holder } else { Value::Null },
        "leaderSince": election["spec"]["acquireTime"],
        "leaderRenewed": election["spec"]["renewTime"],
        "transitions": election["spec"]["leaseTransitions"],
        "replicas": replicas,
        "customResources": definitions,
        "admissionPolicies": policies,
        "unread": unread,
    }))
}

fn replica(pod: &Value) -> Value {
    let ready = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = ready.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    json!({
        "name": pod["metadata"]["name"], "ready": ready, "node": pod["spec"]["nodeName"],
        "image": image, "since": pod["status"]["startTime"],
    })
}

/// The same for people.
fn screen(summary: &Value, now: Timestamp) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let age = |value: &Value| {
        value.as_str().and_then(|at| at.parse().ok()).map_or("-".to_owned(), |at| crate::output::age(at, now))
    };
    let list = |field: &str| summary[field].as_array().cloned().unwrap_or_default();
    let mut rows = vec![vec!["Namespace:".to_owned(), text(&summary["namespace"])]];
    let leader = match summary["leader"].as_str() {
        Some(leader) => format!("{leader}, for {}", age(&summary["leaderSince"])),
        None if summary["leaderRenewed"].is_string() => {
            format!("none; the last one was heard {} ago", age(&summary["leaderRenewed"]))
        }
        None => "none: nothing is granted, and no barrier or gate opens".to_owned(),
    };
    rows.push(vec!["Leader:".to_owned(), leader]);
    for (at, replica) in list("replicas").iter().enumerate() {
        let head = if at == 0 { "Replicas:" } else { "" };
        let ready = if replica["ready"] == true { "ready" } else { "not ready" };
        let line =
            format!("{}, {ready}, {}, for {}", text(&replica["name"]), text(&replica["image"]), age(&replica["since"]));
        rows.push(vec![head.to_owned(), line]);
    }
    let names = |field: &str| -> Vec<String> {
        let named = |item: &Value| match item["version"].as_str() {
            Some(version) => format!("{} ({version})", text(&item["name"])),
            None => text(&item["name"]),
        };
        list(field).iter().map(named).collect()
    };
    for (head, field) in [("Custom resources:", "customResources"), ("Admission policies:", "admissionPolicies")] {
        let names = names(field);
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        rows.push(vec![head.to_owned(), names]);
    }
    rows.extend(list("unread").iter().map(|line| vec!["Not read:".to_owned(), text(line)]));
    aligned(&rows)
}
