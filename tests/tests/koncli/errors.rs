//! What goes wrong, and what is said about it.

use crate::scene::Scene;

#[tokio::test]
async fn a_wrong_name_suggests_the_nearest() {
    let scene = Scene::new("koncli-near").await;
    scene.semaphore("warehouse", 1).await;
    scene
        .fails(
            "semaphore status warehose",
            78,
            "error: semaphores.konductor.io \"warehose\" not found in the namespace NAMESPACE\n  did you mean semaphore/warehouse?\n",
        )
        .await;
    scene
        .fails(
            "semaphore delete x",
            78,
            "error: semaphores.konductor.io \"x\" not found in the namespace NAMESPACE\n  kubectl get semaphores.konductor.io -A shows all that there are\n",
        )
        .await;
    scene.prints("semaphore acquire warehouse --holder nightly-load").await;
    scene
        .fails(
            "semaphore release warehouse --holder nightly-lod",
            78,
            "error: nightly-lod holds nothing of semaphore/warehouse, nor waits for it\n  did you mean --holder nightly-load?\n",
        )
        .await;
}

#[tokio::test]
async fn what_is_there_already_is_not_created_again() {
    let scene = Scene::new("koncli-exists").await;
    scene.prints("gate create g").await;
    scene
        .fails(
            "gate create g",
            77,
            "error: gates.konductor.io \"g\" already exists\n  koncli gate status NAME shows the one that is there\n",
        )
        .await;
}

#[tokio::test]
async fn a_refusal_names_the_right_and_a_line_that_grants_it() {
    let scene = Scene::new("koncli-rbac").await;
    let nobody = scene.without_rights("load").await;
    nobody
        .fails(
            "semaphore create s --permits 1",
            77,
            "error: semaphores.konductor.io is forbidden: User \"system:serviceaccount:NAMESPACE:load\" cannot create resource \"semaphores\" in API group \"konductor.io\" in the namespace \"NAMESPACE\"\n\
             \x20 it takes the right to create semaphores.konductor.io in the namespace NAMESPACE\n\
             \x20 kubectl create rolebinding koncli-konductor-edit --clusterrole=konductor-edit --serviceaccount=NAMESPACE:load --namespace=NAMESPACE\n",
        )
        .await;
    scene.semaphore("s", 1).await;
    scene.prints("barrier create b --expected 1").await;
    scene.prints("gate create g").await;
    let view = scene.with_role("konductor-view").await;
    let workload = scene.with_role("konductor-workload").await;
    let edit = scene.with_role("konductor-edit").await;
    let roles = [("konductor-view", &view), ("konductor-workload", &workload), ("konductor-edit", &edit)];
    // Whoever does as advised is not refused the next thing: the role is that of the command.
    for (line, role) in [
        ("semaphore list", "konductor-view"),
        ("why semaphore/s", "konductor-view"),
        ("wait job/j", "view"),
        ("semaphore acquire s --holder h --timeout 2m", "konductor-workload"),
        ("semaphore renew s --holder h", "konductor-workload"),
        ("barrier arrive b", "konductor-workload"),
        ("barrier wait b --timeout 2m", "konductor-view"),
        ("semaphore resize s --permits 2", "konductor-edit"),
        ("revoke semaphore/s --holder h", "konductor-edit"),
        ("semaphore release s --holder h", "konductor-workload"),
        ("barrier delete b", "konductor-edit"),
        ("gate open g", "konductor-edit"),
    ] {
        let ran = nobody.run(line).await;
        assert_eq!(ran.code, 77, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("--clusterrole={role} ")), "{line}: {}", ran.stderr);
        if let Some((_, advised)) = roles.iter().find(|(name, _)| *name == role) {
            advised.prints(line).await;
        }
    }
}

#[tokio::test]
async fn who_is_not_there_is_said_so() {
    let scene = Scene::new("koncli-away").await;
    let ran = scene.run("semaphore create s --permits 1 -n no-such-namespace").await;
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("namespaces \"no-such-namespace\" not found")
            && ran.stderr.contains("kubectl create namespace"),
        "{}",
        ran.stderr
    );
    let ran = scene.run("semaphore list --context nowhere").await;
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert!(ran.stderr.contains("no context \"nowhere\"") && ran.stderr.contains("it has: test"), "{}", ran.stderr);
    let ran = scene.run("semaphore list --kubeconfig /nowhere/config").await;
    assert_eq!(ran.code, 69, "{}", ran.stderr);
}

#[tokio::test]
async fn what_is_typed_wrong_ends_with_64() {
    let scene = Scene::new("koncli-usage").await;
    for line in [
        "semaphor list",
        "semaphore create s",
        "wait semaphore/s",
        "wait job/j --for open",
        "revoke semaphore/s",
        "revoke barrier/b --holder h",
        "semaphore list --as-group g",
        "semaphore list -o jsonpath={range}",
        "status all s",
        "run --as-group g -- true",
        "--as-group g run -- true",
        "run --context",
        "version -o name",
        "semaphore acquire s --local /tmp",
    ] {
        let ran = scene.run(line).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{line}: {}", ran.stderr);
    }
    let ran = scene.run("--help").await;
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.contains("75  timed out while waiting"), "exit codes: {}", ran.stdout);
}

#[tokio::test]
async fn run_is_konductor_run() {
    let scene = Scene::new("koncli-run").await;
    scene.says("run -- echo hello", "hello\n").await;
    assert_eq!(scene.run("run -- sh -c exit${IFS}7").await.code, 7);
    let folder = std::env::temp_dir().join(format!("koncli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let manifest = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: gpu\nspec:\n  permits: 1\n";
    std::fs::write(folder.join("gpu.yaml"), manifest).expect("a manifest");
    let line = format!("--local {} run --semaphore gpu -- echo held", folder.display());
    let ran = scene.run(&line).await;
    std::fs::remove_dir_all(&folder).expect("removed");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "held\n"), "{}", ran.stderr);
    let help = scene.run("run --help").await;
    assert!(help.stdout.contains("--semaphore"), "{}", help.stdout);
}
