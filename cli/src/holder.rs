//! Who asks: a name that is the same for the next command, so that it finds what this one has acquired.

use konductor::{PodReference, identity::PodSources};
use konductor_api::limits::MAX_HOLDER;

/// A holder and the pod that it is in, if it is in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// The name.
    pub(crate) holder: String,
    /// Who this is when nobody says so: `USER@HOST`.
    pub(crate) person: String,
    /// The whole pod: the container that acquires may be one that ends long before what it protects.
    pub(crate) pod: Option<PodReference>,
}

impl Who {
    /// Whoever runs this process, under the name that was given.
    pub(crate) fn found(given: Option<&str>) -> Self {
        let sources = PodSources::found();
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
        let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
        Self::of(given, &sources, user, host)
    }

    fn of(given: Option<&str>, sources: &PodSources, user: Option<String>, host: Option<String>) -> Self {
        let unknown = || "unknown".to_owned();
        let person = format!("{}@{}", user.unwrap_or_else(unknown), host.unwrap_or_else(unknown));
        let own = || sources.pod_name().unwrap_or_else(|| person.clone());
        let short = |name: String| name.chars().take(MAX_HOLDER as usize).collect();
        let holder: String = short(given.map_or_else(own, str::to_owned));
        let pod = sources.pod().filter(|pod| konductor::name::is_name(&pod.name));
        let pod = pod.map(|pod| PodReference { namespace: pod.namespace, ..PodReference::whole(pod.name, pod.uid) });
        Self { holder, person: short(person), pod }
    }

    /// Whether the holder is a person on a machine, and not this one. A name without an `@` is nobody's own: whoever
    /// knows it is meant by it.
    pub(crate) fn is_of_another(&self) -> bool {
        self.holder.contains('@') && self.holder != self.person
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_the_pod_or_the_person_unless_told() {
        let text = |text: &str| Some(text.to_owned());
        let no_pod = PodSources::default();
        let in_pod =
            |uid| PodSources { name: text("load-x7k2p"), uid, namespace: text("etl"), ..PodSources::default() };
        let person = Who::of(None, &no_pod, text("ann"), text("laptop"));
        assert_eq!((person.holder.as_str(), &person.pod), ("ann@laptop", &None));
        assert!(!person.is_of_another());
        let pod = Who::of(None, &in_pod(text("u1")), text("root"), text("load-x7k2p"));
        assert_eq!(pod.holder, "load-x7k2p");
        let whole = PodReference { namespace: "etl".into(), ..PodReference::whole("load-x7k2p", "u1") };
        assert_eq!(pod.pod, Some(whole));
        let named = Who::of(Some("nightly"), &in_pod(text("u1")), None, None);
        assert_eq!((named.holder.as_str(), named.pod.is_some()), ("nightly", true));
        for (given, is_of_another) in [("ann@laptop", false), ("bob@laptop", true), ("nightly", false)] {
            let who = Who::of(Some(given), &no_pod, text("ann"), text("laptop"));
            assert_eq!(who.is_of_another(), is_of_another, "{given}");
        }
        let half = Who::of(None, &in_pod(None), None, None);
        assert_eq!(half.pod, None, "a name without a UID is no proof of anything");
    }
}
