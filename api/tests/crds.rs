//! The committed CRDs are those that the types say. `UPDATE_CRDS=1 cargo test -p konductor-api --test crds` rewrites them.

use std::{env, fs, path::Path};

#[test]
fn committed_crds_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/konductor/files/crds");
    for crd in konductor_api::crds::all() {
        let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
        let generated = serde_yaml_ng::to_string(&crd).unwrap();
        if env::var_os("UPDATE_CRDS").is_some() {
            fs::write(&file, &generated).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == generated,
            "{} is not current: run UPDATE_CRDS=1 cargo test -p konductor-api --test crds",
            file.display()
        );
    }
}
