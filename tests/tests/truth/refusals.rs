//! What others than the server itself refuse: RBAC, and admission by a quota, a webhook and a policy.
//!
//! Webhook and policy are about one namespace, and the limit of requests about one user: other tests see nothing of them.

use std::net::TcpListener;

use futures::future::select;
use http::{Method, header};
use http_body_util::BodyExt;
use k8s_openapi::api::{
    admissionregistration::v1::{
        ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
    },
    core::v1::ResourceQuota,
    flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
    rbac::v1::PolicyRule,
};
use konductor_sim::server::{Answer, Refusal, Request, no_right};
use konductor_tests::{TestNamespace, client, config, eventually};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Ask, ELECTIONS, LIMIT, NAMESPACES, PODS, Scene, Until, ask, create, create_namespace, delete, get, list, namespace,
    of, patch, permit, send, status, watch,
};

/// The kinds that admission refuses here, and a spec of each.
const KINDS: [(&str, &str); 3] = [("permits", "Permit"), ("leaserequests", "LeaseRequest"), ("arrivals", "Arrival")];

fn spec(kind: &str, name: &str) -> Value {
    match kind {
        "Permit" => permit(name),
        "LeaseRequest" => json!({ "lease": "l", "holder": "h", "instance": name }),
        _ => json!({ "barrier": "b", "holder": "h", "key": name }),
    }
}

fn make(name: &str) -> [Ask; 3] {
    KINDS.map(|(plural, kind)| create(plural, kind, name, &spec(kind, name)))
}

fn labels(value: &str) -> Value {
    json!({ "metadata": { "labels": { "x": value } } })
}

/// Creates an object of which there is one in the cluster.
async fn install<K>(client: &Client, object: Value) -> K
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    K::DynamicType: Default,
{
    let object: K = serde_json::from_value(object).expect("an object");
    Api::<K>::all(client.clone()).create(&PostParams::default(), &object).await.expect("create")
}

/// Waits until a claim that is not stored is refused with these words: the API server knows what has it refuse from
/// caches.
async fn refuses(namespace: &TestNamespace, words: &str) {
    let probe = create("permits", "Permit", "probe", &permit("probe"));
    let path = format!("{}?dryRun=All", probe.path.replace("NS", &namespace.name));
    eventually(LIMIT, words, || async {
        let response = send(&namespace.client, &Method::POST, &path, &probe.body.to_string()).await;
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if text.contains(words) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// Every way of writing, whether it is refused or something is wrong with it in the first place.
fn writes() -> Vec<Ask> {
    let mut script = Vec::new();
    script.extend(make("new"));
    script.extend(make("a"));
    for (plural, kind) in KINDS {
        let another = json!({ "preconditions": { "uid": "00000000-0000-4000-8000-000000000000" } });
        script.extend([
            create(plural, kind, "Not_A_Name", &spec(kind, "i")),
            create(plural, kind, "empty", &json!({})),
            patch(plural, "a", labels("z")),
            // Nothing changes, or too much.
            patch(plural, "a", json!({})),
            patch(plural, "a", json!({ "spec": { "holder": 7 } })),
            patch(plural, "a", json!({ "metadata": { "resourceVersion": "1" } })),
            patch(plural, "a", json!({ "metadata": { "uid": "00000000-0000-4000-8000-000000000000" } })),
            patch(plural, "nobody", labels("z")),
            delete(plural, "nobody", Value::Null),
            delete(plural, "a", another),
            delete(plural, "a", Value::Null),
            get(plural, "a"),
            list(plural, "limit=500"),
        ]);
        script.extend(make("a"));
    }
    script.extend([
        patch("permits", "kept/status", json!({ "status": status(1) })),
        patch("permits", "nobody/status", json!({ "status": status(1) })),
        create("semaphores", "Semaphore", "s", &json!({ "permits": 1 })),
        delete("semaphores", "s", Value::Null),
        create(ELECTIONS, "Lease", "l", &json!({})),
        delete(ELECTIONS, "l", Value::Null),
    ]);
    script
}

#[tokio::test]
async fn what_admission_refuses() {
    let namespace = namespace().await;
    let mut scene = Scene::new(&namespace).await;
    let mut kept = create("permits", "Permit", "kept", &permit("kept"));
    kept.body["metadata"]["finalizers"] = json!(["example.com/kept"]);
    scene.play(&make("a")).await;
    scene.play(&[kept]).await;

    quota(&namespace).await;
    scene.memory.memory.refusals.insert(Refusal::Quota);
    scene.play(&writes()).await;

    // It is asked before the quota is, and the policy before both.
    install_webhook(&namespace, "mood.example.com", Refusal::WEBHOOK).await;
    refuses(&namespace, "failed calling webhook").await;
    scene.memory.memory.refusals.insert(Refusal::Webhook);
    scene.play(&writes()).await;

    let spec = json!({
        "failurePolicy": "Fail", "validations": [{ "expression": "false", "message": "not today" }],
        "matchConstraints": { "resourceRules": rules(), "namespaceSelector": only(&namespace) },
    });
    let policy = json!({ "metadata": { "name": "mood" }, "spec": spec });
    install::<ValidatingAdmissionPolicy>(&namespace.client, policy).await;
    let spec = json!({ "policyName": "mood", "validationActions": ["Deny"] });
    let binding = json!({ "metadata": { "name": "mood" }, "spec": spec });
    install::<ValidatingAdmissionPolicyBinding>(&namespace.client, binding).await;
    refuses(&namespace, "not today").await;
    scene.memory.memory.refusals.insert(Refusal::Policy);
    scene.play(&writes()).await;
    scene.end("admission");
}

/// All writes of what is refused here.
fn rules() -> Value {
    let resources: Vec<_> =
        KINDS.iter().flat_map(|(plural, _)| [(*plural).to_owned(), format!("{plural}/*")]).collect();
    json!([{ "apiGroups": ["konductor.io"], "apiVersions": ["v1"], "operations": ["*"], "resources": resources }])
}

/// Selects a namespace.
fn only(namespace: &TestNamespace) -> Value {
    json!({ "matchLabels": { "kubernetes.io/metadata.name": namespace.name } })
}

/// Has a webhook at this address asked about all writes in a namespace.
async fn install_webhook(namespace: &TestNamespace, name: &str, address: &str) {
    let webhook = json!({
        "name": name, "clientConfig": { "url": format!("https://{address}") }, "rules": rules(),
        "namespaceSelector": only(namespace), "failurePolicy": "Fail", "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    });
    let webhooks = json!({ "metadata": { "name": name }, "webhooks": [webhook] });
    install::<ValidatingWebhookConfiguration>(&namespace.client, webhooks).await;
}

/// Has a quota leave room for nothing. Kubernetes' own controller would say what of it is in force.
async fn quota(namespace: &TestNamespace) {
    let hard: serde_json::Map<_, _> =
        KINDS.iter().map(|(plural, _)| (format!("count/{plural}.konductor.io"), "0".into())).collect();
    let quotas: Api<ResourceQuota> = namespace.api();
    let quota = json!({ "metadata": { "name": "claims" }, "spec": { "hard": hard } });
    let quota = serde_json::from_value(quota).expect("a quota");
    quotas.create(&PostParams::default(), &quota).await.expect("create a quota");
    let steps = [
        (json!({ "hard": hard }), "status unknown for quota: claims, resources: count/permits.konductor.io"),
        (json!({ "used": hard }), "exceeded quota: claims"),
    ];
    for (status, words) in steps {
        let status = Patch::Merge(json!({ "status": status }));
        quotas.patch_status("claims", &PatchParams::default(), &status).await.expect("write its status");
        refuses(namespace, words).await;
    }
}

#[tokio::test]
async fn what_a_user_without_rights_is_refused() {
    let namespace = namespace().await;
    let mut scene = Scene::new(&namespace).await;
    scene.play(&make("a")).await;
    namespace.service_account("nobody").await;
    let user = format!("system:serviceaccount:{}:nobody", namespace.name);
    scene.real.real = Some(client(&namespace.service_account_kubeconfig("nobody").await).await);
    scene.memory.before = Some(Box::new(move |request: &Request| no_right(&user, request)));
    let mut script: Vec<_> = make("new").into();
    for (plural, _) in KINDS {
        script.extend([
            patch(plural, "a", labels("z")),
            patch(plural, "nobody", labels("z")),
            delete(plural, "a", Value::Null),
            get(plural, "a"),
            list(plural, "limit=500"),
            list(plural, "fieldSelector=metadata.name%3Da"),
            list(plural, "fieldSelector=spec.holder%3Dh"),
            watch(plural, "resourceVersion=0", Until::End),
            watch(plural, "resourceVersion=0&fieldSelector=metadata.name%3Da", Until::End),
        ]);
    }
    script.extend([
        patch("permits", "a/status", json!({ "status": status(1) })),
        create("permits", "Permit", "Not_A_Name", &json!({})),
        list("/apis/konductor.io/v1/permits", "limit=500"),
        list("/apis/konductor.io/v1/permits", "watch=true&fieldSelector=metadata.name%3Da"),
        get(PODS, "a"),
        create(ELECTIONS, "Lease", "l", &json!({})),
        patch(ELECTIONS, "l", labels("z")),
        create_namespace("NS-2"),
        get(NAMESPACES, "NS"),
        list(NAMESPACES, "limit=500"),
        list(NAMESPACES, "fieldSelector=metadata.name%3DNS"),
        patch(NAMESPACES, "NS", labels("z")),
        ask(Method::DELETE, &of("permits"), Value::Null),
        // What everybody may, and what nobody serves.
        ask(Method::GET, "/readyz", Value::Null),
        ask(Method::GET, "/nothing", Value::Null),
    ]);
    scene.play(&script).await;
    scene.end("RBAC");
}

/// Who may have one request under way, and makes two.
#[tokio::test]
async fn whose_requests_are_too_many() {
    let namespace = namespace().await;
    namespace.service_account("eager").await;
    let groups = Some(vec!["konductor.io".to_owned()]);
    let [resources, verbs] = [["permits"], ["create"]].map(|words| words.map(str::to_owned).to_vec());
    let rule = PolicyRule { api_groups: groups, resources: Some(resources), verbs, ..PolicyRule::default() };
    namespace.allow("eager", &[rule]).await;
    let mut config = config(&namespace.service_account_kubeconfig("eager").await).await;
    // A client that asks again would not show what it is told.
    config.default_retry = false;
    let client = Client::try_from(config).expect("a client");
    let name = format!("{}-eager", namespace.name);
    // Without any share there is room for one request when there is no other.
    let limited = json!({
        "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": { "type": "Reject" },
    });
    let level = json!({ "metadata": { "name": name }, "spec": { "type": "Limited", "limited": limited } });
    let level = install::<PriorityLevelConfiguration>(&namespace.client, level).await.metadata.uid.expect("a UID");
    let account = json!({ "namespace": namespace.name, "name": "eager" });
    let subject = json!({ "kind": "ServiceAccount", "serviceAccount": account });
    let all = json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"] }]);
    let spec = json!({
        "priorityLevelConfiguration": { "name": name }, "matchingPrecedence": 2,
        "rules": [{ "subjects": [subject], "resourceRules": all }],
    });
    install::<FlowSchema>(&namespace.client, json!({ "metadata": { "name": name }, "spec": spec })).await;

    let claim = create("permits", "Permit", "a", &permit("a"));
    let path = format!("{}?dryRun=All", claim.path.replace("NS", &namespace.name));
    eventually(LIMIT, "the limit is in force", || async {
        let response = send(&client, &Method::POST, &path, "{}").await;
        let found = response.headers().get("X-Kubernetes-PF-PriorityLevel-UID");
        if found.is_some_and(|found| *found == *level) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    // It takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address").to_string();
    install_webhook(&namespace, "silence.example.com", &address).await;
    let response = eventually(LIMIT, "one of two requests is too many", || async {
        let claim = claim.body.to_string();
        let ask = || Box::pin(send(&client, &Method::POST, &path, &claim));
        let response = select(ask(), ask()).await.factor_first().0;
        if response.status() == 429 { Ok(response) } else { Err(response.status()) }
    })
    .await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let Answer { code, body: said, retry_after } = Answer::trouble(429);
    assert_eq!((parts.status.as_u16(), &*String::from_utf8_lossy(&body)), (code, &*said));
    let seconds = parts.headers.get(header::RETRY_AFTER).and_then(|seconds| seconds.to_str().ok());
    assert_eq!(seconds.map(str::to_owned), retry_after.map(|seconds| seconds.to_string()));
}
