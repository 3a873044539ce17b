//! Whoever asks for whatever: the whole matrix, and the rules beside the first one.

use konductor_api::{MAX_PRIORITY_ANNOTATION, REVOKE_ANNOTATION, admission::SPEAKS_FOR_NO_POD};
use konductor_tests::{ControlPlane, Installed, apply, client, workspace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::clients::{ended, koncli};
use super::{Scene, create, delete, merge, object, objects, refusal, shown_in};
use crate::cluster::{LIMIT, installed};

/// What can be done to a claim.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Create,
    Renew,
    Annotate,
    Delete,
    DeleteCollection,
}

impl Act {
    /// All that a client may want to do to this kind of object.
    fn on(kind: &str) -> &'static [Act] {
        match kind {
            // An arrival never changes.
            "Arrival" => &[Act::Create, Act::Annotate, Act::Delete, Act::DeleteCollection],
            _ => &[Act::Create, Act::Renew, Act::Annotate, Act::Delete, Act::DeleteCollection],
        }
    }

    /// Tries it on an object of this name, which `admin` has made.
    async fn tried(
        self,
        client: &Client,
        admin: &Client,
        kind: &str,
        name: &str,
        pod: &Value,
    ) -> Result<(), kube::Error> {
        let labels = json!({ "labels": { "one": name } });
        let object = object(kind, name, pod, &labels, &json!({}));
        if self == Self::Create {
            return create(client, &object).await.map(drop);
        }
        let uid = create(admin, &object).await.expect("create").uid();
        let result = match self {
            Self::Renew => {
                let renewal =
                    json!({ "metadata": { "uid": uid }, "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } });
                merge(client, kind, name, &renewal).await.map(drop)
            }
            Self::Annotate => {
                merge(client, kind, name, &json!({ "metadata": { "annotations": { "a": "b" } } })).await.map(drop)
            }
            Self::Delete => delete(client, kind, name).await,
            Self::Create | Self::DeleteCollection => {
                let these = ListParams::default().labels(&format!("one={name}"));
                objects(client, kind).delete_collection(&DeleteParams::default(), &these).await.map(drop)
            }
        };
        // What was refused has not happened.
        let there = objects(admin, kind).get_opt(name).await.expect("read");
        let gone = result.is_ok() && matches!(self, Self::Delete | Self::DeleteCollection);
        assert_eq!(there.is_none(), gone, "{self:?} of {kind} {name}");
        result
    }
}

#[tokio::test]
async fn a_pod_writes_what_speaks_for_itself_and_who_is_no_pod_what_speaks_for_none() {
    let scene = Scene::new("matrix").await;
    let admin = scene.admin().await;
    let (first, second, none) = (&scene.first, &scene.second, &Value::Null);
    let callers: [(&str, Client, &[&Value]); 5] = [
        ("first", scene.pod("first").await, &[first]),
        ("second", scene.pod("second").await, &[second]),
        ("unbound", scene.unbound().await, &[none]),
        ("person", scene.person("ann").await, &[none]),
        ("administrator", scene.with_verb("boss", "administer").await, &[first, second, none]),
    ];
    for (who, client, allowed) in &callers {
        for kind in ["Permit", "LeaseRequest", "Arrival"] {
            for (whose, pod) in [("first", first), ("second", second), ("none", none)] {
                for act in Act::on(kind) {
                    let name = format!("{who}-{whose}-{act:?}").to_lowercase();
                    let tried = act.tried(client, &admin, kind, &name, pod).await;
                    // Earlier versions arrive without a word of their pod.
                    let is_earlier = (kind, *act, pod) == ("Arrival", Act::Create, none);
                    if allowed.contains(&pod) || is_earlier {
                        tried.unwrap_or_else(|error| panic!("{who} may {act:?} {kind} of {whose}: {error}"));
                    } else {
                        let said = refusal(tried);
                        let noun =
                            if kind == "Arrival" { "this arrival speaks for " } else { "this claim speaks for " };
                        assert!(said.starts_with(noun) && said.contains("takes the verb administer on "), "{said}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_names_both_sides() {
    let scene = Scene::new("words").await;
    let (first, unbound) = (scene.pod("first").await, scene.unbound().await);
    let uid = |pod: &Value| pod["uid"].as_str().expect("a UID").to_owned();
    let claim = |pod: &Value| object("Permit", "claim", pod, &json!({}), &json!({}));
    let you = format!("the pod first (UID {})", uid(&scene.first));
    let end = "; to write what speaks for others takes the verb administer on permits";
    let said = refusal(create(&first, &claim(&scene.second)).await);
    assert_eq!(
        said,
        format!("this claim speaks for the pod second (UID {}), and you are {you}{end}", uid(&scene.second))
    );
    let said = refusal(create(&first, &claim(&Value::Null)).await);
    assert_eq!(said, format!("this claim speaks for no pod, and you are {you}{end}"));
    assert!(said.contains(SPEAKS_FOR_NO_POD), "clients look for these words");
    let said = refusal(create(&unbound, &claim(&scene.first)).await);
    let account = format!("system:serviceaccount:{}:worker", scene.namespace.name);
    assert_eq!(said, format!("this claim speaks for {you}, and you are {account}, who is no pod{end}"));
    // The UID is right, and people would read the wrong name.
    let misnamed = json!({ "name": "second", "uid": scene.first["uid"] });
    let said = refusal(create(&first, &claim(&misnamed)).await);
    assert_eq!(said, "this claim names the pod second, and you are the pod first");
}

#[tokio::test]
async fn the_operator_deletes_what_speaks_for_pods_and_adopts_arrivals() {
    let scene = Scene::new("janitor").await;
    let admin = scene.admin().await;
    let operator = client(installed().await.kubeconfig()).await;
    let there = |kind: &str| {
        let resource = kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("konductor.io", "v1", kind));
        Api::<kube::api::DynamicObject>::namespaced_with(operator.clone(), &scene.namespace.name, &resource)
    };
    for kind in ["Permit", "LeaseRequest", "Arrival"] {
        for (name, pod) in [("of-first", &scene.first), ("of-none", &Value::Null)] {
            create(&admin, &object(kind, name, pod, &json!({}), &json!({}))).await.expect("create");
            if kind == "Arrival" {
                let owner =
                    json!([{ "apiVersion": "konductor.io/v1", "kind": "Barrier", "name": "nowhere", "uid": "u" }]);
                let patch = json!({ "metadata": { "ownerReferences": owner } });
                let adopted = there(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
                assert_eq!(adopted.expect("adopt").owner_references().len(), 1);
            }
            there(kind).delete(name, &DeleteParams::default()).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
    }
}

/// As who is not refused by a policy, but by RBAC.
fn lacks_the_right(result: Result<(), kube::Error>) {
    match result {
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains(" cannot ") => {}
        other => panic!("not refused by RBAC: {other:?}"),
    }
}

#[tokio::test]
async fn the_operator_does_to_claims_of_whomever_what_its_role_says_and_nothing_else() {
    let scene = Scene::new("operator").await;
    let admin = scene.admin().await;
    // With the rights that the chart gives it, and none of the pods'.
    let token = installed().await.kubeconfig().with_file_name("token");
    let token = std::fs::read_to_string(token).expect("read the operator's token");
    let access = ControlPlane::shared().await.access();
    let operator = client(&access.token_kubeconfig(&token, &scene.namespace.name)).await;
    for kind in ["Permit", "LeaseRequest", "Arrival"] {
        for (whose, pod) in [("first", &scene.first), ("none", &Value::Null)] {
            for act in Act::on(kind) {
                let tried = act.tried(&operator, &admin, kind, &format!("{whose}-{act:?}").to_lowercase(), pod).await;
                match (kind, act) {
                    // It writes into the metadata of arrivals, whose owner is their barrier.
                    (_, Act::Delete) | ("Arrival", Act::Annotate) => {
                        tried.unwrap_or_else(|error| panic!("{act:?} {kind} of {whose}: {error}"));
                    }
                    _ => lacks_the_right(tried),
                }
            }
        }
    }
}

#[tokio::test]
async fn what_kubernetes_itself_cleans_up_with_is_let_through_by_its_exact_name() {
    let scene = Scene::new("cleaners").await;
    let admin = scene.admin().await;
    for (number, (name, is_let_through)) in [
        ("system:serviceaccount:kube-system:namespace-controller", true),
        ("system:serviceaccount:kube-system:generic-garbage-collector", true),
        ("system:kube-controller-manager", true),
        ("system:serviceaccount:kube-system:job-controller", false),
        ("system:serviceaccount:default:namespace-controller", false),
        ("system:kube-scheduler", false),
    ]
    .into_iter()
    .enumerate()
    {
        let client = scene.person(name).await;
        for kind in ["Permit", "LeaseRequest", "Arrival"] {
            for act in Act::on(kind) {
                let object = format!("{number}-{act:?}").to_lowercase();
                let tried = act.tried(&client, &admin, kind, &object, &scene.first).await;
                // To clean up, nobody creates anything.
                if is_let_through && *act != Act::Create {
                    tried.unwrap_or_else(|error| panic!("{name} may {act:?} {kind}: {error}"));
                } else {
                    let said = refusal(tried);
                    assert!(said.contains(&format!("you are {name}, who is no pod")), "{said}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_claim_has_nothing_that_would_be_in_the_way_of_its_deletion() {
    let scene = Scene::new("clutter").await;
    let (first, admin) = (scene.pod("first").await, scene.admin().await);
    let finalizers = json!({ "finalizers": ["example.com/keep"] });
    let owners = json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "first", "uid": scene.first["uid"] }] });
    for kind in ["Permit", "LeaseRequest"] {
        let plain = object(kind, "plain", &scene.first, &json!({}), &json!({}));
        create(&first, &plain).await.expect("create");
        for (name, metadata) in [("finalizers", &finalizers), ("owners", &owners)] {
            let said = "a claim has no finalizers and no owner references";
            let cluttered = object(kind, name, &scene.first, metadata, &json!({}));
            assert_eq!(refusal(create(&first, &cluttered).await), said, "{kind} with {name}");
            assert_eq!(refusal(merge(&first, kind, "plain", &json!({ "metadata": metadata })).await), said);
            // What somebody else has put there does not keep its holder from renewing.
            create(&admin, &cluttered).await.expect("create");
            let renewal = json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } });
            merge(&first, kind, name, &renewal).await.expect("renew");
            merge(&first, kind, name, &json!({ "metadata": { "finalizers": null, "ownerReferences": null } }))
                .await
                .expect("take away what is in the way");
        }
    }
    // An arrival has its barrier.
    let owned = |name: &str, kind: &str, owner: &str| {
        let owner = json!({ "apiVersion": "konductor.io/v1", "kind": kind, "name": owner, "uid": "u" });
        object("Arrival", name, &scene.first, &json!({ "ownerReferences": [owner] }), &json!({}))
    };
    create(&first, &owned("owned", "Barrier", "nowhere")).await.expect("arrive");
    let said = "an arrival has no finalizers, and no owner but its barrier";
    for arrival in [
        owned("other", "Barrier", "elsewhere"),
        owned("gate", "Gate", "nowhere"),
        object("Arrival", "kept", &scene.first, &finalizers, &json!({})),
    ] {
        assert_eq!(refusal(create(&first, &arrival).await), said);
    }
}

#[tokio::test]
async fn a_namespace_can_have_a_highest_priority() {
    let scene = Scene::new("ceiling").await;
    let (first, boss) = (scene.pod("first").await, scene.with_verb("boss", "administer").await);
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(scene.namespace.client.clone());
    let limit = async |limit: &str| {
        let patch = json!({ "metadata": { "annotations": { MAX_PRIORITY_ANNOTATION: limit } } });
        let patch = Patch::Merge(patch);
        namespaces.patch(&scene.namespace.name, &PatchParams::default(), &patch).await.expect("annotate");
    };
    let claim = |kind: &str, name: &str, priority: i64| {
        object(kind, name, &scene.first, &json!({}), &json!({ "priority": priority }))
    };
    create(&first, &claim("Permit", "highest", i64::from(i32::MAX))).await.expect("no limit");
    limit("5").await;
    // The API server knows a namespace from its cache.
    konductor_tests::eventually(LIMIT, "the limit is in force", || async {
        let name = format!("probe-{}", konductor::Boottime::now().0.as_nanos());
        match create(&first, &claim("Permit", &name, 6)).await {
            Ok(_) => Err("no limit"),
            Err(_) => Ok(()),
        }
    })
    .await;
    for kind in ["Permit", "LeaseRequest"] {
        let said = refusal(create(&first, &claim(kind, "above", 6)).await);
        assert_eq!(
            said,
            "the priority 6 is above 5, which is the annotation konductor.io/max-priority of the namespace"
        );
        for (name, priority) in [("at", 5), ("below", -5)] {
            create(&first, &claim(kind, name, priority)).await.expect("within the limit");
        }
        create(&boss, &claim(kind, "administrators", 6)).await.expect("an administrator has no limit");
    }
    limit("lots").await;
    let said = konductor_tests::eventually(LIMIT, "the limit is no number", || async {
        let said = refusal(create(&first, &claim("Permit", "unclear", 6)).await);
        if said.starts_with("the annotation") { Ok(said) } else { Err(said) }
    })
    .await;
    assert_eq!(said, "the annotation konductor.io/max-priority of the namespace is no whole number: lots");
    refusal(create(&first, &claim("Permit", "unclear", -5)).await);
    let silent = object("Permit", "silent", &scene.first, &json!({}), &json!({}));
    refusal(create(&first, &silent).await);
}

#[tokio::test]
async fn to_revoke_takes_a_verb_and_the_verb_allows_nothing_else() {
    let scene = Scene::new("revoke").await;
    // As docs/security.md has it.
    let shown = shown_in(&workspace().join("docs/security.md"));
    let on_call: Vec<_> = shown.into_iter().filter(|object| object.name_any() == "konductor-revoker").collect();
    assert_eq!(on_call.len(), 2, "a role and its binding");
    apply(&scene.namespace.client, &scene.namespace.name, &on_call).await;
    let kubeconfig = scene.namespace.user_kubeconfig("ann", Some("on-call"));
    let ann = client(&kubeconfig).await;
    konductor_tests::eventually(LIMIT, "the role is in force", || async {
        objects(&ann, "Permit").list(&ListParams::default()).await.map(drop)
    })
    .await;

    let (first, unbound) = (scene.pod("first").await, scene.unbound().await);
    // Has the verb beside what it takes to hold claims.
    let both = scene.with_verb("both", "revoke").await;
    let revocation = |reason: Value| json!({ "metadata": { "annotations": { REVOKE_ANNOTATION: reason } } });
    let mine = "this claim speaks for the pod first";
    for (kind, lock) in [("Permit", "semaphore"), ("LeaseRequest", "lease")] {
        create(&first, &object(kind, "claim", &scene.first, &json!({}), &json!({}))).await.expect("create");
        let said = "to write the annotation konductor.io/revoke takes the verb revoke or administer on ";
        let refused = refusal(merge(&first, kind, "claim", &revocation(json!("x"))).await);
        assert!(refused.starts_with(said), "{refused}");
        merge(&ann, kind, "claim", &revocation(json!("maintenance"))).await.expect("revoke");
        // The pod cannot take back what it was told.
        for instead in [Value::Null, json!(""), json!("never mind")] {
            let refused = refusal(merge(&first, kind, "claim", &revocation(instead)).await);
            assert!(refused.starts_with(said), "{refused}");
        }
        let with = |more: Value| {
            let mut patch = revocation(json!("more"));
            for part in ["metadata", "spec"] {
                if let Some(more) = more[part].as_object() {
                    let part = patch.as_object_mut().expect("an object").entry(part).or_insert(json!({}));
                    part.as_object_mut().expect("an object").extend(more.clone());
                }
            }
            patch
        };
        // Nor of claims that speak for no pod, which others who are none may write.
        create(&unbound, &object(kind, "loose", &Value::Null, &json!({}), &json!({}))).await.expect("create");
        merge(&ann, kind, "loose", &revocation(json!("maintenance"))).await.expect("revoke");
        let no_more = "who may revoke claims, and create none, may change nothing else of them";
        for (what, patch) in [
            ("renew", json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } })),
            ("renew with a revocation", with(json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } }))),
            ("label", json!({ "metadata": { "labels": { "a": "b" } } })),
            ("label with a revocation", with(json!({ "metadata": { "labels": { "a": "b" } } }))),
            ("finalize with a revocation", with(json!({ "metadata": { "finalizers": ["example.com/keep"] } }))),
            ("annotate", json!({ "metadata": { "annotations": { "a": "b" } } })),
            (
                "annotate with a revocation",
                json!({ "metadata": { "annotations": { REVOKE_ANNOTATION: "more", "a": "b" } } }),
            ),
        ] {
            for (claim, said) in [("claim", mine), ("loose", no_more)] {
                let refused = refusal(merge(&ann, kind, claim, &patch).await);
                assert!(refused.starts_with(said), "{what} {claim}: {refused}");
            }
        }
        merge(&ann, kind, "loose", &revocation(Value::Null)).await.expect("take it back");
        merge(&unbound, kind, "loose", &json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } }))
            .await
            .expect("who created it renews it");
        merge(&both, kind, "loose", &with(json!({ "spec": { "renewTime": "2026-01-02T00:00:00.000000Z" } })))
            .await
            .expect("who may create claims and revoke them does both");
        let deletion = delete(&ann, kind, "claim").await.expect_err("the role has no right to delete");
        assert!(deletion.to_string().contains("cannot delete resource"), "{deletion}");
        merge(&ann, kind, "claim", &revocation(Value::Null)).await.expect("take it back");
        // And by the command that the page names; to take away by force is to delete.
        let nightly = object(kind, "nightly", &scene.first, &json!({}), &json!({ "holder": "nightly" }));
        create(&first, &nightly).await.expect("create");
        let line = format!("revoke {lock}/nowhere --holder nightly");
        let (code, said) = ended(koncli(&kubeconfig, &[], &format!("{line} --force -y"))).await;
        assert_eq!(code, 77, "koncli {line} --force: {said}");
        assert!(said.contains("cannot delete resource"), "koncli {line} --force: {said}");
        let (code, said) = ended(koncli(&kubeconfig, &[], &line)).await;
        assert_eq!(code, 0, "koncli {line}: {said}");
        let nightly = objects(&ann, kind).get("nightly").await.expect("read");
        assert!(nightly.annotations().contains_key(REVOKE_ANNOTATION), "koncli {line}: {nightly:?}");
    }
}

#[tokio::test]
async fn roles_that_administer_are_the_operators_and_that_of_editors() {
    use k8s_openapi::api::rbac::v1::ClusterRole;
    let namespace = Scene::new("roles").await.namespace;
    let api: Api<ClusterRole> = Api::all(namespace.client.clone());
    for (role, expected) in [
        ("konductor-operator", &["administer"][..]),
        ("konductor-edit", &["administer", "revoke"]),
        ("konductor-view", &[]),
        (Installed::WORKLOAD, &[]),
    ] {
        let rules = api.get(role).await.expect("read a role").rules.unwrap_or_default();
        let verbs = rules.iter().flat_map(|rule| &rule.verbs).map(String::as_str);
        let found: Vec<_> = verbs.filter(|verb| matches!(*verb, "administer" | "revoke" | "*")).collect();
        assert_eq!(found, expected, "{role}");
    }
}
