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
        Err(ApiError::Unanswered(why)) => {
            Err(Error::new(Exit::Unreachable, format!("cannot reach {}: {why}", cluster.server))
                .advise("see that there is a way to the API server: kubectl version; then try again"))
        }
        Err(ApiError::Refused { .. }) => Ok(OPERATOR_NAMESPACE.to_owned()),
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
    let holder = election["spec"]["holderIdentity"].clone();
    let summary = json!({
        "namespace": namespace,
        "leader": if leads(&election, now) { holder } else { Value::Null },
        "leaderSince": election["spec"]["acquireTime"],
        "leaderRenewed": election["spec"]["renewTime"],
        "transitions": election["spec"]["leaseTransitions"],
        "replicas": replicas,
        "customResources": definitions,
        "admissionPolicies": policies,
        "unread": unread,
    });
    (summary, unknown)
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
    // A lease can be a stranger's, and so can what it says.
    for cell in rows.iter_mut().flatten() {
        *cell = plain(cell);
    }
    aligned(&rows)
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
