//! Requests that chance makes.

use konductor_sim::chance::Chance;
use serde_json::{Map, Value, json};

use super::{
    Ask, ELECTIONS, PODS, Until, compare, create, delete, get, list, patch, permit, status, versions::watched, watch,
};

/// What `some_request` is about: claims of one kind, rendezvous of another, and the lease of an election.
const OBJECTS: [(&str, &str, &str); 6] = [
    ("permits", "Permit", "a"),
    ("permits", "Permit", "b"),
    ("permits", "Permit", "c"),
    ("barriers", "Barrier", "x"),
    ("barriers", "Barrier", "y"),
    (ELECTIONS, "Lease", "e"),
];

fn some_spec(c: &mut Chance, plural: &str) -> Value {
    match plural {
        "permits" => permit("i"),
        "barriers" => json!({ "expected": c.within(1, 3) }),
        _ => json!({ "holderIdentity": *c.one_of(&["a", "b"]), "leaseDurationSeconds": 15, "leaseTransitions": 1 }),
    }
}

/// Which object a request is about, as far as it says so: mostly the one that there is, at times what there was, another,
/// or none that ever was.
fn identity(c: &mut Chance, name: &str, names: &[&str]) -> Map<String, Value> {
    let mut identity = Map::new();
    for (member, word, invented) in
        [("uid", "uid", "00000000-0000-4000-8000-000000000000"), ("resourceVersion", "version", "1")]
    {
        let other = *c.one_of(names);
        let said = match c.below(12) {
            0..=4 => continue,
            5..=8 => json!(format!("{{{word}:{name}}}")),
            9 => json!(format!("{{former {word}:{name}}}")),
            10 => json!(format!("{{{word}:{other}}}")),
            _ => json!(invented),
        };
        identity.insert(member.to_owned(), said);
    }
    identity
}

/// Makes each of these objects, which has been another before.
pub(super) fn beginning(c: &mut Chance) -> Vec<Ask> {
    let each = OBJECTS.into_iter().flat_map(|(plural, kind, name)| {
        let make = create(plural, kind, name, &some_spec(c, plural));
        [make.clone(), delete(plural, name, Value::Null), make]
    });
    each.collect()
}

/// A hundred requests about a few objects.
pub(super) fn some_requests(c: &mut Chance) -> Vec<Ask> {
    (0..100).map(|_| some_request(c)).collect()
}

/// A request about one of a few objects: most exist when it is made, and of what is asked of them much is refused.
fn some_request(c: &mut Chance) -> Ask {
    let (plural, kind, name) = *c.one_of(&OBJECTS);
    let names = &OBJECTS.map(|(.., name)| name);
    match c.below(20) {
        0..=4 => {
            let mut create = create(plural, kind, name, &some_spec(c, plural));
            if c.happens(250) {
                create.body["metadata"]["finalizers"] = json!(["example.com/kept"]);
            }
            create
        }
        5..=9 => {
            let mut metadata = identity(c, name, names);
            match c.below(8) {
                0 => metadata.insert("labels".into(), json!({ "x": *c.one_of(&["y", "z"]) })),
                1 => metadata.insert("labels".into(), Value::Null),
                2 => metadata.insert("finalizers".into(), json!(["example.com/kept"])),
                3 | 4 => metadata.insert("finalizers".into(), Value::Null),
                _ => None,
            };
            let spec = match (plural, c.below(4)) {
                (_, 0) => json!({}),
                ("permits", 1) => json!({ "holder": *c.one_of(&["h", "somebody else"]) }),
                (ELECTIONS, 1) => json!({ "holderIdentity": null }),
                (ELECTIONS, _) => json!({ "holderIdentity": "b", "renewTime": "2026-01-01T00:00:00.000000Z" }),
                ("permits", _) => json!({ "renewTime": format!("2026-01-01T00:00:0{}.000000Z", c.below(3)) }),
                (_, 1) => json!({ "quorum": *c.one_of(&[json!(1), json!(2), Value::Null]), "timeout": "5s" }),
                _ => json!({ "expected": c.within(0, 3) }),
            };
            patch(plural, name, json!({ "metadata": metadata, "spec": spec }))
        }
        10..=13 if plural != ELECTIONS => {
            let status = match plural {
                "permits" => status(c.below(3)),
                _ => json!({ "phase": *c.one_of(&["Waiting", "Open", "Ajar"]), "arrived": c.below(3) }),
            };
            let mut body = json!({ "metadata": identity(c, name, names), "status": status });
            if c.happens(200) {
                body["spec"] = some_spec(c, plural);
                body["metadata"]["labels"] = json!({ "x": "status" });
            }
            patch(plural, &format!("{name}/status"), body)
        }
        14 | 15 if c.happens(500) => delete(plural, name, json!({ "preconditions": identity(c, name, names) })),
        14 | 15 => delete(plural, name, Value::Null),
        16 | 17 => get(plural, name),
        18 => {
            let query = *c.one_of(&["limit=1&continue={token}", "limit=2&continue={token}", "limit=2"]);
            list("permits", query)
        }
        _ => {
            let query = *c.one_of(&["", "limit=500", "labelSelector=x%3Dy"]);
            list(plural, query)
        }
    }
}

#[tokio::test]
async fn one_request_after_the_other() {
    watched().await;
    for seed in 1..=3 {
        let c = &mut Chance::new(seed, 2);
        let mut script = beginning(c);
        script.extend([some_requests(c), some_requests(c)].concat());
        for (plural, kind, first) in
            [("permits", "Permit", "a"), ("barriers", "Barrier", "x"), (ELECTIONS, "Lease", "e")]
        {
            let mut last = create(plural, kind, "last", &some_spec(c, plural));
            last.body["metadata"]["labels"] = json!({ "x": "y" });
            script.push(last);
            for selector in ["", "&labelSelector=x%3Dy", "&labelSelector=x", "&fieldSelector=metadata.name!%3Dy"] {
                let query = format!("resourceVersion={{first version:{first}}}{selector}");
                script.push(watch(plural, &query, Until::Told("last")));
            }
            // What it has told of, it has.
            for query in ["", "&limit=1", "&labelSelector=x%3Dy", "&fieldSelector=metadata.name%3Db"] {
                script.push(list(plural, &format!("resourceVersion=0{query}")));
            }
            let of_it = OBJECTS.into_iter().filter(|(of, ..)| *of == plural);
            script.extend(of_it.map(|(.., name)| get(plural, &format!("{name}?resourceVersion=0"))));
        }
        compare(&format!("one request after the other, of seed {seed}"), &script).await;
    }
}

/// A request about one of a few pods, as people, kubelets and controllers make them.
fn some_request_about_a_pod(c: &mut Chance) -> Ask {
    let names = &["a", "b", "c"];
    let name = *c.one_of(names);
    match c.below(12) {
        0..=3 => {
            let mut spec = json!({ "restartPolicy": "Never", "containers": [{ "name": "main", "image": "i" }] });
            if c.happens(700) {
                spec["nodeName"] = json!("node");
            }
            if c.happens(300) {
                spec["terminationGracePeriodSeconds"] = json!(c.within(0, 60));
            }
            create(PODS, "Pod", name, &spec)
        }
        4..=6 => {
            let phase = *c.one_of(&["Pending", "Running", "Succeeded", "Failed"]);
            patch(
                PODS,
                &format!("{name}/status"),
                json!({ "metadata": identity(c, name, names), "status": { "phase": phase } }),
            )
        }
        7 => patch(PODS, name, json!({ "metadata": { "labels": { "x": *c.one_of(&["y", "z"]) } } })),
        8 | 9 => {
            let mut options =
                json!({ "gracePeriodSeconds": *c.one_of(&[Value::Null, json!(0), json!(5), json!(100)]) });
            if c.happens(300) {
                options["preconditions"] = identity(c, name, names).into();
            }
            delete(PODS, name, options)
        }
        10 => get(PODS, name),
        _ => {
            let query =
                *c.one_of(&["", "fieldSelector=status.phase%3DFailed&limit=50", "limit=2", "labelSelector=x%3Dy"]);
            list(PODS, query)
        }
    }
}

#[tokio::test]
async fn one_request_about_pods_after_the_other() {
    let c = &mut Chance::new(1, 3);
    let pod = |name: &str| create(PODS, "Pod", name, &json!({ "containers": [{ "name": "main", "image": "i" }] }));
    let mut script: Vec<_> = ["a", "b", "c"].into_iter().flat_map(|n| [pod(n), delete(PODS, n, Value::Null)]).collect();
    script.extend((0..200).map(|_| some_request_about_a_pod(c)));
    for (phase, last) in [("Succeeded", "last-well"), ("Failed", "last")] {
        script.extend([pod(last), patch(PODS, &format!("{last}/status"), json!({ "status": { "phase": phase } }))]);
        let query = format!("resourceVersion={{first version:a}}&fieldSelector=status.phase%3D{phase}");
        script.push(watch(PODS, &query, Until::Told(last)));
    }
    script.push(watch(PODS, "resourceVersion={first version:a}", Until::Told("last")));
    compare("one request about pods after the other", &script).await;
}

/// Values of which some are refused.
fn anything(c: &mut Chance) -> Value {
    match c.below(12) {
        0 => json!(null),
        1 => json!(0),
        2 => json!(-1),
        3 => json!(c.below(2_000_000)),
        4 => json!(1.5),
        5 => json!(""),
        6 => json!("x".repeat(c.below(300) as usize)),
        7 => json!(["1s", "5s", "0s", "24h", "25h", "1h30m", "1.5h", "soon", "5", "9000h"][c.below(10) as usize]),
        8 => json!(true),
        9 => json!([]),
        10 => json!({}),
        _ => json!({ "name": "p", "uid": "u", "container": "c", "start": "s" }),
    }
}

#[tokio::test]
async fn what_custom_resources_may_say() {
    let good = [
        ("semaphores", "Semaphore", json!({ "permits": 3 })),
        ("leases", "Lease", json!({})),
        ("permits", "Permit", permit("i")),
        ("leaserequests", "LeaseRequest", json!({ "lease": "l", "holder": "h", "instance": "i" })),
        ("barriers", "Barrier", json!({ "expected": 3 })),
        ("arrivals", "Arrival", json!({ "barrier": "b", "holder": "h", "key": "k" })),
        ("gates", "Gate", json!({ "conditions": [{ "type": "Job", "name": "j", "state": "Complete" }] })),
    ];
    let fields = [
        "permits",
        "ttl",
        "queueing",
        "priority",
        "holder",
        "pod",
        "renewTime",
        "expected",
        "quorum",
        "timeout",
        "resetAfter",
        "key",
        "barrier",
        "conditions",
        "match",
        "override",
        "lease",
        "semaphore",
        "instance",
    ];
    let mut script = Vec::new();
    let c = &mut Chance::new(1, 1);
    for (plural, kind, spec) in good {
        script.push(create(plural, kind, "good", &spec));
        for number in 0..40 {
            let mut spec = spec.clone();
            for _ in 0..c.within(1, 2) {
                spec[*c.one_of(&fields)] = anything(c);
            }
            script.push(create(plural, kind, &format!("x-{number}"), &spec));
        }
        for _ in 0..20 {
            script.push(patch(plural, "good", json!({ "spec": { *c.one_of(&fields): anything(c) } })));
            script.push(patch(
                plural,
                "good/status",
                json!({ "status": { *c.one_of(&["phase", "term", "ttl", "message"]): anything(c) } }),
            ));
        }
        script.push(get(plural, "good"));
    }
    compare("what custom resources may say", &script).await;
}
