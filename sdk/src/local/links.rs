//! Where a change can change what a path leads to.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

use super::limits;

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) name: OsString,
}

/// Every link on the way of an absolute path, and its end, which may not be there.
pub(super) fn places(path: &Path) -> Vec<Place> {
    let mut found = Vec::new();
    let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<VecDeque<_>>();
    let (mut left, mut at, mut links) = (parts(path), PathBuf::new(), 0);
    while let Some(part) = left.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => {
                let target = fs::read_link(at.join(name));
                if target.is_ok() || left.is_empty() {
                    found.push(Place { folder: at.clone(), name: name.to_owned() });
                }
                if let Ok(target) = target {
                    links += 1;
                    if links > limits::LINKS {
                        break;
                    }
                    let mut whole = parts(&target);
                    whole.append(&mut left);
                    left = whole;
                } else {
                    at.push(name);
                }
            }
            Some(Component::ParentDir) => drop(at.pop()),
            // From the root, or where we are.
            _ => at.push(&part),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_is_a_place_and_so_is_the_end() {
        let root = tempfile::tempdir().unwrap();
        // The folder for temporary files may be reached by a link itself.
        let root = fs::canonicalize(root.path()).unwrap();
        for folder in ["locks", "one", "two/deep"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (target, link) in [
            ("../one/a.yaml", "locks/a.yaml"),
            ("../two/b.yaml", "one/a.yaml"),
            ("..data/c.yaml", "locks/c.yaml"),
            ("../two/deep", "locks/..data"),
            ("loop", "locks/loop"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        symlink(root.join("locks"), root.join("way")).unwrap();
        fs::write(root.join("two/b.yaml"), "").unwrap();
        let shown = |path: &str| {
            let one = |place: Place| format!("{}/{}", place.folder.display(), place.name.display());
            let all = places(&root.join(path)).into_iter().map(one);
            all.map(|path| path.replace(&*root.to_string_lossy(), "")).collect::<Vec<_>>()
        };
        assert_eq!(shown("locks/plain.yaml"), ["/locks/plain.yaml"]);
        assert_eq!(shown("locks/a.yaml"), ["/locks/a.yaml", "/one/a.yaml", "/two/b.yaml"]);
        assert_eq!(shown("locks/c.yaml"), ["/locks/c.yaml", "/locks/..data", "/two/deep/c.yaml"]);
        assert_eq!(shown("way/a.yaml"), ["/way", "/locks/a.yaml", "/one/a.yaml", "/two/b.yaml"]);
        assert_eq!(shown("locks/loop").len(), limits::LINKS + 1);
    }
}
