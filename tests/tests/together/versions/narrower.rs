//! What a resource definition has lost against an earlier one: each line is something that was valid and is not, or that
//! the earlier version's programs would not find or understand.
//!
//! A rule in CEL cannot be compared, so every rule that was not there before is a line. Descriptions, columns and short
//! names are for people, and may change.

use std::collections::BTreeSet;

use serde_json::Value;

/// Compares two definitions, as YAML has them.
pub(super) fn narrower(earlier: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["/spec/group", "/spec/scope", "/spec/names/kind", "/spec/names/plural", "/spec/names/singular"] {
        same(&mut found, field, earlier.pointer(field), now.pointer(field));
    }
    for version in list(&earlier["spec"]["versions"]) {
        let name = text(&version["name"]);
        let Some(other) = list(&now["spec"]["versions"]).iter().find(|other| other["name"] == version["name"]) else {
            found.push(format!("version {name} is gone"));
            continue;
        };
        same(&mut found, &format!("{name} served"), Some(&version["served"]), Some(&other["served"]));
        same(&mut found, &format!("{name} storage"), Some(&version["storage"]), Some(&other["storage"]));
        for subresource in version["subresources"].as_object().into_iter().flat_map(|all| all.keys()) {
            if other["subresources"].get(subresource).is_none() {
                found.push(format!("{name}: subresource {subresource} is gone"));
            }
        }
        for selectable in list(&version["selectableFields"]) {
            if !list(&other["selectableFields"]).contains(selectable) {
                found.push(format!("{name}: {} cannot be selected by any more", text(&selectable["jsonPath"])));
            }
        }
        let schema = |version: &'_ Value| version["schema"]["openAPIV3Schema"].clone();
        schemas(&mut found, name, &schema(version), &schema(other));
    }
    found
}

fn schemas(found: &mut Vec<String>, path: &str, earlier: &Value, now: &Value) {
    for word in ["type", "format", "pattern", "default", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"] {
        // What was free and has got one of these is narrower, too, but for a default.
        if word != "default" || earlier.get(word).is_some() {
            same(found, &format!("{path} {word}"), earlier.get(word), now.get(word));
        }
    }
    for (word, rises) in [
        ("maximum", true),
        ("maxLength", true),
        ("maxItems", true),
        ("maxProperties", true),
        ("minimum", false),
        ("minLength", false),
        ("minItems", false),
        ("minProperties", false),
    ] {
        let (Some(bound), was) = (now[word].as_f64(), earlier[word].as_f64()) else { continue };
        if was.is_none_or(|was| if rises { bound < was } else { bound > was }) {
            found.push(format!(
                "{path} {word}: was {}, is {bound}",
                was.map_or("none".to_owned(), |was| was.to_string())
            ));
        }
    }
    let words = |value: &'_ Value| list(value).iter().map(|word| text(word).to_owned()).collect::<BTreeSet<_>>();
    for required in words(&now["required"]).difference(&words(&earlier["required"])) {
        found.push(format!("{path}.{required} is required now"));
    }
    enums(found, path, earlier, now);
    for rule in list(&now["x-kubernetes-validations"]) {
        let known = list(&earlier["x-kubernetes-validations"]).iter().any(|other| other["rule"] == rule["rule"]);
        if !known {
            found.push(format!("{path} rule: {}", text(&rule["rule"])));
        }
    }
    for (name, property) in earlier["properties"].as_object().into_iter().flatten() {
        match now["properties"].get(name) {
            Some(other) => schemas(found, &format!("{path}.{name}"), property, other),
            None => found.push(format!("{path}.{name} is gone")),
        }
    }
    for (word, step) in [("items", "[]"), ("additionalProperties", "{}")] {
        match (earlier.get(word), now.get(word)) {
            (Some(earlier), Some(now)) => schemas(found, &format!("{path}{step}"), earlier, now),
            (Some(_), None) => found.push(format!("{path}{step} is gone")),
            (None, _) => (),
        }
    }
}

/// A spec may have new words, which only who knows them writes. A status may not: who does not know them reads it.
fn enums(found: &mut Vec<String>, path: &str, earlier: &Value, now: &Value) {
    let (Some(other), was) = (now["enum"].as_array(), earlier["enum"].as_array()) else {
        if path.contains(".status") && earlier.get("enum").is_some() {
            found.push(format!("{path} can be any word now"));
        }
        return;
    };
    let Some(was) = was else {
        found.push(format!("{path} was any word, and is one of {}", now["enum"]));
        return;
    };
    for word in was.iter().filter(|word| !other.contains(word)) {
        found.push(format!("{path} cannot be {word} any more"));
    }
    for word in other.iter().filter(|word| !was.contains(word)) {
        if path.contains(".status") {
            found.push(format!("{path} can be {word} now"));
        }
    }
}

fn same(found: &mut Vec<String>, what: &str, earlier: Option<&Value>, now: Option<&Value>) {
    if earlier != now {
        let show = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
        found.push(format!("{what}: was {}, is {}", show(earlier), show(now)));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_lost_is_found_and_what_is_new_is_not() {
        let spec = json!({
            "type": "object", "required": ["a"], "maxProperties": 4,
            "properties": {
                "a": { "type": "integer", "minimum": 1.0, "maximum": 9.0 },
                "b": { "type": "array", "items": { "type": "string", "enum": ["X", "Y"] } },
                "c": { "type": "string", "default": "x" },
            },
        });
        // How it changes, and what is then lost.
        for (at, value, lost) in [
            ("/required", json!([]), None),
            ("/required", json!(["a", "b"]), Some("v1.spec.b is required now")),
            ("/maxProperties", json!(5), None),
            ("/maxProperties", json!(3), Some("v1.spec maxProperties: was 4, is 3")),
            ("/properties/a/minimum", json!(0.0), None),
            ("/properties/a/minimum", json!(2.0), Some("v1.spec.a minimum: was 1, is 2")),
            ("/properties/a/type", json!("string"), Some("v1.spec.a type: was \"integer\", is \"string\"")),
            ("/properties/a/minLength", json!(1), Some("v1.spec.a minLength: was none, is 1")),
            ("/properties/a/pattern", json!("x"), Some("v1.spec.a pattern: was none, is \"x\"")),
            ("/properties/a/default", json!(1), None),
            ("/properties/b/items/enum", json!(["X", "Y", "Z"]), None),
            ("/properties/b/items/enum", json!(["X"]), Some("v1.spec.b[] cannot be \"Y\" any more")),
            ("/properties/a/enum", json!([1]), Some("v1.spec.a was any word, and is one of [1]")),
            ("/properties/c/default", json!("y"), Some("v1.spec.c default: was \"x\", is \"y\"")),
            ("/properties/c/description", json!("other words"), None),
            ("/properties/d", json!({ "type": "string" }), None),
            ("/properties", json!({}), Some("v1.spec.a is gone")),
            ("/x-kubernetes-validations", json!([{ "rule": "false" }]), Some("v1.spec rule: false")),
        ] {
            let mut changed = spec.clone();
            let (parent, key) = at.rsplit_once('/').expect("a path");
            changed.pointer_mut(parent).expect("it is there")[key] = value.clone();
            let found = narrower(&definition(&spec), &definition(&changed));
            assert_eq!(found.first().map(String::as_str), lost, "{at}: {value}");
        }
    }

    #[test]
    fn a_status_has_the_words_that_all_know() {
        let phase = |words: Value| {
            let status = json!({ "type": "object", "properties": { "phase": { "type": "string", "enum": words } } });
            let mut crd = definition(&json!({ "type": "object" }));
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"] = status;
            crd
        };
        let found = narrower(&phase(json!(["Open"])), &phase(json!(["Open", "Ajar"])));
        assert_eq!(found, ["v1.status.phase can be \"Ajar\" now"]);
    }

    #[test]
    fn a_definition_stays_where_it_is() {
        let before = definition(&json!({ "type": "object" }));
        for (at, value, lost) in [
            ("/spec/scope", json!("Cluster"), "/spec/scope: was \"Namespaced\", is \"Cluster\""),
            ("/spec/versions/0/name", json!("v2"), "version v1 is gone"),
            ("/spec/versions/0/served", json!(false), "v1 served: was true, is false"),
            ("/spec/versions/0/subresources", json!({}), "v1: subresource status is gone"),
            ("/spec/versions/0/selectableFields", json!([]), "v1: .spec.a cannot be selected by any more"),
        ] {
            let mut changed = before.clone();
            *changed.pointer_mut(at).expect("it is there") = value;
            assert_eq!(narrower(&before, &changed), [lost]);
        }
    }

    fn definition(spec: &Value) -> Value {
        let schema = json!({ "type": "object", "properties": { "spec": spec } });
        json!({ "spec": {
            "group": "konductor.io", "scope": "Namespaced",
            "names": { "kind": "Thing", "plural": "things", "singular": "thing" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "selectableFields": [{ "jsonPath": ".spec.a" }],
                "schema": { "openAPIV3Schema": schema },
            }],
        } })
    }
}
