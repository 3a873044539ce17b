use konductor_api::crds;
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Vec<Definition>, String> {
    let mut all = Vec::new();
    Definition::read("a.yaml", text, &mut all).map_err(|error| error.to_string())?;
    Ok(all)
}

fn semaphore(spec: &str) -> String {
    format!("apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: warehouse\nspec:\n{spec}")
}

fn found(text: &str) -> String {
    match read(text) {
        Ok(all) => {
            let shown = all.iter().map(|one| format!("{} {} {} {:?}", one.kind, one.name, one.capacity, one.queueing));
            shown.collect::<Vec<_>>().join("; ")
        }
        Err(error) => error,
    }
}

#[test]
fn manifests_are_read() {
    for (text, expected) in [
        (semaphore("  permits: 3\n"), "semaphore warehouse 3 StrictFIFO"),
        (semaphore("  permits: 0\n  queueing: BestEffortFIFO\n  ttl: 1h30m\n"), "semaphore warehouse 0 BestEffortFIFO"),
        (semaphore("  {permits: 1000000, ttl: \"5s\"} # flow\n"), "semaphore warehouse 1000000 StrictFIFO"),
        (
            "# two\n---\napiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: leader, namespace: etl}\n---\n".to_owned()
                + &semaphore("  permits: 2\n"),
            "lease leader 1 StrictFIFO; semaphore warehouse 2 StrictFIFO",
        ),
        (
            r#"{"apiVersion":"konductor.io/v1","kind":"Lease","metadata":{"name":"x","labels":{"a":"b"}},"spec":{"ttl":"15s"}}"#
                .to_owned(),
            "lease x 1 StrictFIFO",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Gate\nspec: {}\n---\n".to_owned() + &semaphore("  permits: 2\n"),
            "semaphore warehouse 2 StrictFIFO",
        ),
        // As `kubectl get -o yaml` writes it, and generators do.
        (
            "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  annotations:\n    \
             kubectl.kubernetes.io/last-applied-configuration: |\n      {\"apiVersion\":\"konductor.io/v1\"}\n  \
             creationTimestamp: \"2026-01-02T03:04:05Z\"\n  finalizers: []\n  generation: 2\n  managedFields:\n  - \
             fieldsV1: {\"f:spec\": {\"f:permits\": {}}}\n  name: warehouse\n  namespace: default\n  ownerReferences:\n  - \
             {kind: X}\n  resourceVersion: \"4711\"\n  uid: 0f0e6d3c-6f3a-4d5f-9df7-0d1e4b8a9c00\nspec:\n  permits: 3\n  \
             queueing: StrictFIFO\n  ttl: 1m\nstatus:\n  conditions:\n  - type: Ready\n  permits: 3\n"
                .to_owned(),
            "semaphore warehouse 3 StrictFIFO",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: x, creationTimestamp: null}\nstatus: {}\n".to_owned(),
            "lease x 1 StrictFIFO",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: x, creationTimestamp: 2026-01-02T03:04:05Z}\nstatus:\n"
                .to_owned(),
            "lease x 1 StrictFIFO",
        ),
        (
            "apiVersion: v1\nkind: List\nmetadata:\n  resourceVersion: \"\"\nitems:\n- apiVersion: konductor.io/v1\n  kind: \
             Lease\n  metadata: {name: a}\n- apiVersion: konductor.io/v1\n  kind: Gate\n  spec: {}\n- apiVersion: \
             konductor.io/v1\n  kind: Semaphore\n  metadata: {name: b}\n  spec: {permits: 2}\n"
                .to_owned(),
            "lease a 1 StrictFIFO; semaphore b 2 StrictFIFO",
        ),
        (
            r#"{"apiVersion":"konductor.io/v1","kind":"LeaseList","metadata":{"continue":"","resourceVersion":"7"},"items":[
                {"apiVersion":"konductor.io/v1","kind":"Lease","metadata":{"name":"a"},"spec":{}}]}"#
                .to_owned(),
            "lease a 1 StrictFIFO",
        ),
        ("apiVersion: v1\nkind: List\nitems: []\n".to_owned(), ""),
        (semaphore("  permits: 3.0\n"), "semaphore warehouse 3 StrictFIFO"),
        (semaphore("  permits: 3.\n"), "semaphore warehouse 3 StrictFIFO"),
        (semaphore("  permits: 1e3\n"), "semaphore warehouse 1000 StrictFIFO"),
        (semaphore("  permits: 0.0\n"), "semaphore warehouse 0 StrictFIFO"),
        (String::new(), ""),
        ("---\n# nothing\n---\n".to_owned(), ""),
    ] {
        assert_eq!(found(&text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let twice = semaphore("  permits: 1\n") + "---\n" + &semaphore("  permits: 2\n");
    for (text, expected) in [
        (semaphore("  permit: 3\n"), "a.yaml line 6: unknown field permit: spec can have permits, queueing, ttl"),
        (
            semaphore("  permits: 3\n  permit: 3\n"),
            "a.yaml line 7: unknown field permit: spec can have permits, queueing, ttl",
        ),
        (
            semaphore("  permits: 3\nstate: {}\n"),
            "a.yaml line 7: unknown field state: a manifest can have apiVersion, kind, metadata, spec, status",
        ),
        (semaphore("  permits: 3\nstatus: 7\n"), "a.yaml line 7: status: wanted fields, found \"7\""),
        (
            semaphore("  permits: 3.5\n"),
            "a.yaml line 6: permits: wanted a whole number from 0 to 1000000, found \"3.5\"",
        ),
        (
            semaphore("  permits: 1e7\n"),
            "a.yaml line 6: permits: wanted a whole number from 0 to 1000000, found \"1e7\"",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: x, creationTimestamp: today}\n".to_owned(),
            "a.yaml line 3: creationTimestamp: wanted a time, found \"today\"",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: x, resourceVersion: 7}\n".to_owned(),
            "a.yaml line 3: resourceVersion: wanted a text (in quotes), found \"7\"",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n".to_owned(),
            "a.yaml line 4: unknown apiVersion \"v1\": wanted konductor.io/v1 (other objects go into another folder)",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: konductor.io/v1\n  kind: LeaseList\n".to_owned(),
            "a.yaml line 5: unknown kind \"LeaseList\": without a cluster there is Lease and Semaphore",
        ),
        ("apiVersion: v1\nkind: List\nitems: {}\n".to_owned(), "a.yaml line 3: items: wanted a list, found a mapping"),
        (
            "apiVersion: konductor.io/v1\nkind: PermitList\nitems: []\n".to_owned(),
            "a.yaml line 2: unknown kind \"PermitList\": without a cluster there is Lease and Semaphore",
        ),
        (semaphore("  permits: -1\n"), "a.yaml line 6: permits: wanted a whole number from 0 to 1000000, found \"-1\""),
        (
            semaphore("  permits: 1000001\n"),
            "a.yaml line 6: permits: wanted a whole number from 0 to 1000000, found \"1000001\"",
        ),
        (
            semaphore("  permits: \"3\"\n"),
            "a.yaml line 6: permits: wanted a whole number from 0 to 1000000, found \"3\"",
        ),
        (
            semaphore("  permits: 010\n"),
            "a.yaml line 6: permits: wanted a whole number from 0 to 1000000, found \"010\"",
        ),
        (
            semaphore("  permits: [3]\n"),
            "a.yaml line 6: permits: wanted a whole number from 0 to 1000000, found a list",
        ),
        (semaphore("  permits:\n"), "a.yaml line 6: spec has no permits"),
        (semaphore("  permits: 1\n  ttl: 4s\n"), "a.yaml line 7: ttl: wanted a duration from 5s to 24h, found \"4s\""),
        (semaphore("  permits: 1\n  ttl: 30\n"), "a.yaml line 7: ttl: wanted a duration from 5s to 24h, found \"30\""),
        (
            semaphore("  permits: 1\n  queueing: Fifo\n"),
            "a.yaml line 7: queueing: wanted StrictFIFO or BestEffortFIFO, found \"Fifo\"",
        ),
        (semaphore("  permits: 1\n  permits: 2\n"), "a.yaml line 7: field permits is there twice"),
        (
            semaphore("  permits: &a 1\n  ttl: *a\n"),
            "a.yaml line 7: aliases are not understood here: write the value out",
        ),
        (semaphore("  permits: !!int 1\n"), "a.yaml line 6: tags are not understood here: write the value without one"),
        (semaphore("  3\n"), "a.yaml line 6: spec: wanted fields, found \"3\""),
        (twice, "a.yaml line 8: semaphore warehouse is defined twice: also in a.yaml line 1"),
    ] {
        assert_eq!(found(&text), expected, "{text}");
    }
}

#[test]
fn what_is_no_definition_is_named_with_its_line() {
    for (text, expected) in [
        (
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n".to_owned(),
            "a.yaml line 1: unknown apiVersion \"batch/v1\": wanted konductor.io/v1 (other objects go into another folder)",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Semafore\n".to_owned(),
            "a.yaml line 2: unknown kind \"Semafore\": without a cluster there is Lease and Semaphore",
        ),
        ("apiVersion: konductor.io/v1\nkind: Lease\n".to_owned(), "a.yaml line 1: a manifest has no metadata"),
        (
            "apiVersion: konductor.io/v1\nkind: Lease\nmetadata:\n  name: Leader\n".to_owned(),
            "a.yaml line 4: name: wanted lower-case letters, digits, hyphens and dots, found \"Leader\"",
        ),
        // Readers of YAML 1.1, as that of kubectl, take these for other things than texts.
        (
            "apiVersion: konductor.io/v1\nkind: Lease\nmetadata:\n  name: on\n".to_owned(),
            "a.yaml line 4: name: wanted lower-case letters, digits, hyphens and dots, found \"on\"",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: x, labels: {a: 1}}\n".to_owned(),
            "a.yaml line 3: labels: a: wanted a text (in quotes), found \"1\"",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: x, nmae: y}\n".to_owned(),
            "a.yaml line 3: unknown field nmae: metadata can have name, namespace, labels, annotations, generateName, \
             selfLink, uid, resourceVersion, generation, creationTimestamp, deletionTimestamp, \
             deletionGracePeriodSeconds, ownerReferences, finalizers, managedFields",
        ),
        ("- 1\n".to_owned(), "a.yaml line 1: a manifest: wanted fields, found a list"),
        (format!("a: {}{}\n", "[".repeat(40), "]".repeat(40)), "a.yaml line 1: nested too deeply"),
    ] {
        assert_eq!(found(&text), expected, "{text}");
    }
    let broken = found("apiVersion: konductor.io/v1\nkind: 'x\n");
    assert!(broken.starts_with("a.yaml line "), "{broken}");
}

/// The rules here are those of the custom resources, field by field.
#[test]
fn the_rules_are_those_of_the_custom_resources() {
    let definitions: Vec<_> = crds::all().into_iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    for (name, _, rules) in KINDS {
        let crd = definitions.iter().find(|crd| crd["spec"]["names"]["kind"] == name).expect("a custom resource");
        let version = &crd["spec"]["versions"][0];
        assert_eq!((&crd["spec"]["group"], &version["name"]), (&GROUP.into(), &"v1".into()), "{name}");
        let schema = &version["schema"]["openAPIV3Schema"];
        let spec = &schema["properties"]["spec"];
        let fields: Vec<_> = spec["properties"].as_object().unwrap().keys().collect();
        let mut ours: Vec<_> = rules.iter().map(|rule| rule.name).collect();
        ours.sort_unstable();
        assert_eq!(fields, ours, "{name}");
        let required = spec["required"].as_array().cloned().unwrap_or_default();
        for rule in rules {
            let field = &spec["properties"][rule.name];
            assert_eq!(required.contains(&rule.name.into()), rule.required, "{name} {}", rule.name);
            match &rule.shape {
                Shape::Number(range) => {
                    assert_eq!(field["type"], "integer");
                    let bounds = (field["minimum"].as_f64(), field["maximum"].as_f64());
                    assert_eq!(
                        bounds,
                        (Some(*range.start() as f64), Some(*range.end() as f64)),
                        "{name} {}",
                        rule.name
                    );
                }
                Shape::Ttl => {
                    let text = |ttl| GoDuration(ttl).to_string();
                    let bounds = format!(
                        "duration(self) >= duration('{}') && duration(self) <= duration('{}')",
                        text(MIN_TTL),
                        text(MAX_TTL)
                    );
                    assert_eq!(
                        (&field["type"], &field["x-kubernetes-validations"][0]["rule"]),
                        (&"string".into(), &bounds.into())
                    );
                }
                Shape::Choice(choices) => {
                    let names: Vec<_> = choices.iter().map(|(choice, _)| serde_json::Value::from(*choice)).collect();
                    assert_eq!(field["enum"], serde_json::Value::from(names), "{name} {}", rule.name);
                    let default = choices.iter().find(|(_, queueing)| *queueing == Queueing::default());
                    assert_eq!(field["default"].as_str(), default.map(|(choice, _)| *choice));
                }
            }
        }
    }
}

#[test]
fn all_kinds_but_claims_can_be_in_the_folder() {
    for crd in crds::all() {
        let (kind, crd) = (crd.spec.names.kind.clone(), serde_json::to_value(crd).unwrap());
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let known = KINDS.iter().any(|(name, ..)| *name == kind) || IN_A_CLUSTER.contains(&kind.as_str());
        assert_eq!(known, spec["holder"].is_null(), "{kind}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n]{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn any_manifest_is_read_or_refused(words in prop::collection::vec(prop::sample::select(vec![
        "apiVersion: konductor.io/v1\n", "kind: Semaphore\n", "kind: Lease\n", "metadata:\n", "  name: x\n", "spec:\n",
        "  permits: 3\n", "  ttl: 5s\n", "---\n", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "? ", "| \n", "\"", "'", "\t", "!!x ",
    ]), 0..40)) {
        let _ = read(&words.concat());
    }

    /// What is written as a manifest is read as what was meant.
    #[test]
    fn manifests_mean_what_they_say(permits in 0..=MAX_PERMITS, strict in any::<bool>(), name in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?") {
        prop_assume!(crate::name::is_name(&name));
        let queueing = if strict { "StrictFIFO" } else { "BestEffortFIFO" };
        let text = format!("apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {{name: {name:?}}}\nspec: {{permits: {permits}, queueing: {queueing}}}\n");
        prop_assert_eq!(found(&text), format!("semaphore {name} {permits} {queueing}"));
    }

    /// Whatever an unquoted text is to others, it is not a name to us unless it is one to them.
    #[test]
    fn numbers_are_those_of_everybody(text in "[0-9+._xoe-]{1,8}") {
        let node = Node { line: 1, value: Value::Scalar { text: text.clone(), plain: true } };
        if let Some(number) = node.number() {
            prop_assert_eq!(Ok(number as f64), text.parse::<f64>());
            prop_assert!(text == "0" || !text.starts_with('0') || !text.as_bytes()[1].is_ascii_digit());
        }
    }
}
