//! `--dry-run` of everything that writes: what it says, and that nothing at all has changed.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};

use crate::scene::{LIMIT, Scene};

const KINDS: [&str; 7] = ["Semaphore", "Permit", "Lease", "LeaseRequest", "Barrier", "Arrival", "Gate"];

/// All objects of a namespace, as they are stored: with their versions, annotations and specs.
async fn everything(scene: &Scene) -> Vec<String> {
    let mut all = Vec::new();
    for kind in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("konductor.io", "v1", kind));
        let api =
            Api::<DynamicObject>::namespaced_with(scene.namespace.client.clone(), &scene.namespace.name, &resource);
        let list = api.list(&ListParams::default()).await.expect("a list");
        all.extend(list.items.iter().map(|object| serde_json::to_string(object).expect("JSON")));
    }
    all
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let scene = Scene::new("koncli-dry").await;
    scene.semaphore("s", 1).await;
    for line in [
        "lease create l",
        "barrier create b --expected 2",
        "barrier arrive b one",
        "gate create g",
        "gate create h --condition semaphore/s=Available",
        "semaphore acquire s --holder me",
        "lease acquire l --holder me --timeout 2m",
        "wait barrier/b --for condition=Open=False --timeout 2m",
        "wait gate/g gate/h --for condition=Open=False --timeout 2m",
    ] {
        scene.prints(line).await;
    }
    scene.comes_to_say("semaphore status s -o jsonpath={.available}", "0\n").await;
    scene.comes_to_say("lease status l -o jsonpath={.holder}", "me\n").await;
    scene.comes_to_say("barrier status b -o jsonpath={.arrived}", "1\n").await;
    // The operator has said all that it has to say.
    let before = konductor_tests::eventually(LIMIT, "quiet", || async {
        let before = everything(&scene).await;
        for _ in 0..5 {
            scene.prints("status").await;
            if everything(&scene).await != before {
                return Err("something is written".to_owned());
            }
        }
        Ok(before)
    })
    .await;
    for (line, output) in [
        ("semaphore create x --permits 1", "semaphore.konductor.io/x created"),
        ("semaphore resize s --permits 5", "semaphore.konductor.io/s resized"),
        ("semaphore delete s", "semaphore.konductor.io \"s\" deleted"),
        ("lease create x", "lease.konductor.io/x created"),
        ("lease delete l", "lease.konductor.io \"l\" deleted"),
        ("barrier create x --expected 2", "barrier.konductor.io/x created"),
        ("barrier arrive b me", "barrier.konductor.io/b arrived (me)"),
        ("barrier arrive b one", "barrier.konductor.io/b arrived (one)"),
        ("barrier reset b", "barrier.konductor.io/b reset"),
        ("barrier delete b", "barrier.konductor.io \"b\" deleted"),
        ("gate create x", "gate.konductor.io/x created"),
        ("gate open g", "gate.konductor.io/g opened"),
        ("gate close g", "gate.konductor.io/g closed"),
        ("gate auto h", "gate.konductor.io/h left to its conditions"),
        ("gate delete g h", "gate.konductor.io \"g\" deleted{}\ngate.konductor.io \"h\" deleted"),
    ] {
        for (flag, suffix) in [("client", " (dry run)"), ("server", " (server dry run)")] {
            let expected = format!("{}{suffix}\n", output.replace("{}", suffix));
            scene.says(&format!("{line} --dry-run={flag}"), &expected).await;
        }
    }
    for (line, verb) in [
        ("semaphore acquire s --holder other", "created"),
        ("lease acquire l --holder other", "created"),
        ("semaphore release s --holder me", "released"),
        ("lease release l --holder me", "released"),
        ("semaphore renew s --holder me", "renewed for AGE"),
        ("lease renew l --holder me", "renewed for AGE"),
        ("revoke semaphore/s --holder me", "revoked"),
        ("revoke lease/l --holder me --reason maintenance", "revoked"),
        ("revoke semaphore/s --holder me --force", "deleted"),
    ] {
        for (flag, suffix) in [("client", " (dry run)"), ("server", " (server dry run)")] {
            let printed = crate::scene::ages(&scene.prints(&format!("{line} --dry-run={flag}")).await);
            assert!(printed.ends_with(&format!(" {verb}{suffix}\n")), "{line} --dry-run={flag}: {printed}");
        }
    }
    // The whole object, as it would be.
    scene.says("semaphore resize s --permits 5 --dry-run=server -o jsonpath={.spec.permits}", "5\n").await;
    scene.says("barrier arrive b me --dry-run=client -o jsonpath={.spec.key}", "me\n").await;
    let after = everything(&scene).await;
    assert_eq!(after, before);
}
