//! One view of a folder after the other.

use std::collections::BTreeMap;

use konductor::{
    Local,
    local::{Snapshot, Spectator},
};
use serde_json::Value;

use super::{KINDS, unreadable};
use crate::error::Error;

/// The objects of a folder that have changed, view by view.
#[derive(Debug)]
pub(crate) struct Changes {
    views: Spectator,
    known: BTreeMap<(usize, String), Value>,
    trouble: Trouble,
}

/// What keeps somebody from looking again.
#[derive(Debug, Default)]
struct Trouble {
    /// There was a view.
    has_seen: bool,
    /// What was told last, and is so still.
    told: Option<String>,
}

impl Trouble {
    /// What to do about what came of a look: a view, or an error, ends it; else there is another look, and the text is
    /// what people are to be told now.
    fn takes<V, E: ToString>(&mut self, looked: Result<V, E>) -> Result<Result<V, E>, Option<String>> {
        match looked {
            Err(error) if self.has_seen => {
                let text = error.to_string();
                let is_news = self.told.as_ref() != Some(&text);
                self.told = Some(text.clone());
                Err(is_news.then_some(text))
            }
            looked => {
                (self.has_seen, self.told) = (true, None);
                Ok(looked)
            }
        }
    }
}

impl Changes {
    /// All that happens in a folder from now on.
    pub(crate) fn of(folder: &Local) -> Self {
        Self { views: folder.watch(), known: BTreeMap::new(), trouble: Trouble::default() }
    }

    /// The next view. A folder that cannot be looked at in the beginning is none to wait for. One that could be is looked
    /// at again, after telling `trouble` why: anybody may be in the middle of writing any of its manifests.
    pub(crate) async fn view(&mut self, trouble: impl Fn(&str)) -> Result<Snapshot, Error> {
        loop {
            match self.trouble.takes(self.views.next().await) {
                Ok(looked) => return looked.map_err(|error| unreadable(&error)),
                Err(Some(why)) => trouble(&why),
                Err(None) => {}
            }
        }
    }

    /// What comes of the next look.
    pub(crate) async fn look(&mut self) -> Result<Snapshot, Error> {
        self.views.next().await.map_err(|error| unreadable(&error))
    }

    /// Those of these objects that are new or have changed since the last time.
    pub(crate) fn news(&mut self, all: Vec<Value>) -> Vec<Value> {
        let key = |object: &Value| {
            let kind = KINDS.iter().position(|kind| object["kind"] == kind.kind).unwrap_or_default();
            (kind, object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        };
        let former = std::mem::replace(&mut self.known, all.iter().map(|one| (key(one), one.clone())).collect());
        all.into_iter().filter(|object| former.get(&key(object)) != Some(object)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, fs, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_half_written_manifest_ends_nobodys_watch() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a manifest");
        // It may be gone already, when there is another look before that.
        let remove = || drop(fs::remove_file(folder.path().join("other.yaml")));
        let whole = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: gpu\nspec:\n  permits: 1\n";
        let local = Local::new(folder.path()).on_any_filesystem();
        write("other.yaml", "apiVersion: konductor.io/v1\nkind: Semaphor\n");
        let never = Changes::of(&local).view(|why| panic!("not a first view: {why}")).await;
        assert!(never.is_err(), "what cannot be looked at in the beginning is told at once");
        remove();
        write("gpu.yaml", whole);
        let mut changes = Changes::of(&local);
        let first = changes.view(|why| panic!("{why}")).await.expect("a view");
        assert_eq!(first.locks[0].permits, Some(1));
        write("other.yaml", "apiVersion: konductor.io/v1\nkind: Semaphor\n");
        let told = RefCell::new(Vec::new());
        // It is mended, and there is a second permit, when the trouble is told.
        let mend = |why: &str| {
            told.borrow_mut().push(why.to_owned());
            write("gpu.yaml", &whole.replace("permits: 1", "permits: 2"));
            remove();
        };
        let seeing = async {
            loop {
                let view = changes.view(mend).await.expect("it goes on");
                if view.locks.iter().any(|lock| lock.permits == Some(2)) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(2), seeing).await.expect("it is seen when it is whole again");
        let told = told.into_inner();
        assert!(told.iter().any(|why| why.contains("other.yaml")), "{told:?}");
    }

    #[test]
    fn the_same_trouble_is_told_once() {
        let mut trouble = Trouble::default();
        let (seen, failed) = (Ok::<_, &str>("a view"), |text| Err::<&str, _>(text));
        assert_eq!(trouble.takes(seen), Ok(seen));
        for (text, is_told) in [("a", true), ("a", false), ("b", true), ("b", false)] {
            assert_eq!(trouble.takes(failed(text)), Err(is_told.then(|| text.to_owned())), "{text}");
        }
        assert_eq!(trouble.takes(seen), Ok(seen));
        assert_eq!(trouble.takes(failed("b")), Err(Some("b".to_owned())), "it is news again");
    }
}
