//! Which pod, container and start of the container this process is, with no configuration.
//!
//! - The pod's name, UID and namespace: variables that the pod's author set, else what the projected service account
//!   token says. (The token is only read, not verified: it is our own, and says who we are to ourselves.)
//! - The container's name and an id that is new at each of its starts: the file that the kubelet mounts as termination
//!   log is `.../pods/<uid>/containers/<name>/<id>` on the node, which /proc/self/mountinfo shows.
//!
//! Nothing is guessed, as that could free the claim of a process that lives. Who knows the pod but not the container and
//! its start (in a sandbox that hides the mounts) speaks for the whole pod, whose end is a proof as well; who does not
//! know the pod, for none.
//!
//! And what follows from it: who asks, and what arrives at a barrier, which is the pod's Job rather than the pod, where
//! that is known.
//!
//! ```
//! use konductor::identity::{PodSources, default_holder};
//!
//! let said = PodSources { name: std::env::var("KONDUCTOR_POD_NAME").ok(), ..PodSources::default() };
//! let sources = said.and_token().and_mounts();
//! let holder = default_holder(sources.pod_name(), "host", std::process::id());
//! let pod = sources.pod(); // None outside of a cluster.
//! # assert!(!holder.is_empty());
//! # drop(pod);
//! ```

use std::{
    fs::File,
    io::{self, Read as _},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use konductor_api::{
    PodReference,
    limits::{MAX_HOLDER, MAX_ID, MAX_NAME},
};
use serde::Deserialize;

use crate::name::{MAX_LABEL, is_label};

/// Where Kubernetes mounts the token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const MOUNTS: &str = "/proc/self/mountinfo";
/// Where the kubelet mounts the termination log unless the pod says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// A Job has at most 10^6 indexes or so; together with the longest key they fit into an arrival.
const MAX_INDEX: usize = 10;
/// Tokens are one or two KB.
const MAX_TOKEN: u64 = 64 * 1024;
/// A container has some dozen mounts of some hundred bytes; a node has thousands.
const MAX_MOUNTS: u64 = 4 * 1024 * 1024;

/// Where a pod's identity comes from: what is known before any of it is put together.
#[derive(Clone, Debug, Default)]
pub struct PodSources {
    /// The pod's name, if its author said it (`KONDUCTOR_POD_NAME`) or the token does.
    pub name: Option<String>,
    /// The pod's UID, if its author said it (`KONDUCTOR_POD_UID`) or the token does.
    pub uid: Option<String>,
    /// The pod's namespace, if its author said it (`KONDUCTOR_POD_NAMESPACE`) or the token does.
    pub namespace: Option<String>,
    /// The name of this container, if the pod's author said it (`KONDUCTOR_POD_CONTAINER`).
    pub container: Option<String>,
    /// The text of /proc/self/mountinfo.
    pub mounts: Option<String>,
}

impl PodSources {
    /// And what the projected token of the service account says of what the pod's author did not, if this process can
    /// read it.
    #[must_use]
    pub fn and_token(self) -> Self {
        match self {
            Self { name: Some(_), uid: Some(_), namespace: Some(_), .. } => self,
            _ => match read(TOKEN, MAX_TOKEN) {
                Some(token) => self.and_what_it_says(&token),
                None => self,
            },
        }
    }

    fn and_what_it_says(self, token: &str) -> Self {
        let Some(Bound { namespace, pod }) = bound(token) else { return self };
        Self {
            name: self.name.or(Some(pod.name)),
            uid: self.uid.or(Some(pod.uid)),
            namespace: self.namespace.or(Some(namespace)),
            ..self
        }
    }

    /// And the mounts, if this process can read them: they tell the container and its start.
    #[must_use]
    pub fn and_mounts(self) -> Self {
        Self { mounts: read(MOUNTS, MAX_MOUNTS), ..self }
    }

    /// What the environment and files say of this process, whatever its container.
    pub fn found() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let [name, uid, namespace] =
            ["KONDUCTOR_POD_NAME", "KONDUCTOR_POD_UID", "KONDUCTOR_POD_NAMESPACE"].map(variable);
        Self { name, uid, namespace, ..Self::default() }.and_token()
    }

    /// The pod's name, for people.
    pub fn pod_name(&self) -> Option<String> {
        self.name.clone()
    }

    /// The pod's UID.
    pub fn pod_uid(&self) -> Option<String> {
        self.uid.clone().filter(|uid| (1..=MAX_ID as usize).contains(&uid.len()))
    }

    /// The pod's namespace, if it is known.
    pub fn pod_namespace(&self) -> Option<String> {
        self.namespace.clone().filter(|namespace| is_label(namespace))
    }

    /// The container's name.
    pub fn container_name(&self) -> Option<String> {
        let container = self.container.clone().or_else(|| Some(termination_log(self.mounts.as_deref()?)?.container));
        container.filter(|container| (1..=MAX_LABEL as usize).contains(&container.len()))
    }

    /// The pod, with the container and its start if both are known, as far as all of it fits into a claim.
    pub fn pod(&self) -> Option<PodReference> {
        let fits = |text: &str, most: u32| (1..=most as usize).contains(&text.len());
        let name = self.pod_name().filter(|name| fits(name, MAX_NAME))?;
        let uid = self.pod_uid().filter(|uid| fits(uid, MAX_ID))?;
        let namespace = self.pod_namespace().unwrap_or_default();
        let whole = PodReference { namespace, ..PodReference::whole(name, uid) };
        let Some(start) = self.mounts.as_deref().and_then(termination_log) else { return Some(whole) };
        let (container, start) = (self.container.clone().unwrap_or(start.container), start.id);
        if !fits(&container, MAX_NAME) || !fits(&start, MAX_ID) {
            return Some(whole);
        }
        Some(PodReference { container, start, ..whole })
    }
}

/// The whole pod that this process is in, if that can be found out: from `KONDUCTOR_POD_NAME`, `KONDUCTOR_POD_UID` and
/// `KONDUCTOR_POD_NAMESPACE`, else from the token. For processes that may end while their container goes on.
pub fn whole_pod() -> Option<PodReference> {
    PodSources::found().pod()
}

/// The variable that holds the completion index in the pods of an Indexed Job: Kubernetes sets it.
pub const COMPLETION_INDEX: &str = "JOB_COMPLETION_INDEX";

/// What the pod's author said about who arrives at a barrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArrivalIdentity {
    /// The key of the arrival.
    pub key: Option<String>,
    /// The UID of the pod's Job.
    pub job: Option<String>,
}

/// The key of what arrives once, however often it says so: the key that was said, else the Job's UID; each with the
/// completion `index` of an Indexed Job's pod. Without them the pod's UID, else the holder.
///
/// To a UID belongs the container's name, as all containers of a pod may arrive, and each does work of its own: a
/// barrier that expects two would wait for ever if the second to end counted as the first. Whoever wants them to be one
/// says a key, which stays as it is. The next attempt's container has the same name.
///
/// A pod is not told its Job's UID, so without configuration the next attempt's pod is another arrival. Its name
/// without the random end would be no better: the Job of the same name that is created the next day has it, too, and of
/// two long names Kubernetes keeps the same beginning.
pub fn arrival_key(
    said: &ArrivalIdentity,
    pod_uid: Option<String>,
    container: Option<&str>,
    index: Option<&str>,
    holder: &str,
) -> String {
    let index = index.filter(|index| index.len() <= MAX_INDEX && index.bytes().all(|digit| digit.is_ascii_digit()));
    let with = |text: String, part: Option<&str>| match part {
        Some(part) if !part.is_empty() => format!("{text}/{part}"),
        _ => text,
    };
    let key = said.key.clone().map(|key| with(key, index));
    let of_job = || said.job.clone().map(|job| with(job, index));
    let of_container = || Some(with(of_job().or(pod_uid)?, container));
    key.or_else(of_container).unwrap_or_else(|| holder.to_owned())
}

/// Who asks, when nobody said: the pod, else this process on this host. At most as long as a claim's holder may be.
pub fn default_holder(pod_name: Option<String>, host: &str, process: u32) -> String {
    let mut holder = pod_name.unwrap_or_else(|| format!("{host}:{process}"));
    while holder.len() > MAX_HOLDER as usize {
        holder.pop();
    }
    holder
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct BoundPod {
    name: String,
    uid: String,
}

/// What a token is bound to.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Bound {
    #[serde(default)]
    namespace: String,
    pod: BoundPod,
}

/// The pod that a token is bound to, and where it is.
fn bound(token: &str) -> Option<Bound> {
    #[derive(Deserialize)]
    struct Payload {
        #[serde(rename = "kubernetes.io")]
        kubernetes: Bound,
    }
    let payload = token.trim().split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    Some(serde_json::from_slice::<Payload>(&payload).ok()?.kubernetes)
}

#[derive(Debug, PartialEq, Eq)]
struct ContainerStart {
    container: String,
    id: String,
}

/// The container's name and start, from the mount of its termination log.
fn termination_log(mounts: &str) -> Option<ContainerStart> {
    let starts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut parts = root.rsplit('/');
        let (id, container, containers, _uid, pods) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let found = containers == "containers" && pods == "pods" && !id.is_empty() && !container.is_empty();
        found.then(|| (point, ContainerStart { container: container.to_owned(), id: id.to_owned() }))
    });
    // Another mount may look alike; the usual place settles it.
    let mut all: Vec<_> = starts.collect();
    all.sort_by_key(|(point, _)| *point != TERMINATION_LOG);
    all.into_iter().next().map(|(_, start)| start)
}

/// A file's text, unless it is missing, too long or not text: then this source says nothing.
fn read(path: &str, most: u64) -> Option<String> {
    let mut text = String::new();
    let outcome = File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text));
    match outcome {
        Ok(length) if length as u64 <= most => Some(text),
        Ok(_) => {
            tracing::debug!("{path} is longer than {most} bytes: not used to find out the pod");
            None
        }
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::debug!("{path} cannot be read, and is not used to find out the pod: {error}");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOG_LINE: &str =
        "712 690 8:1 /var/lib/kubelet/pods/0aa1/containers/main/1f2e3d4c /dev/termination-log rw - ext4 /dev/sda1 rw";

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn in_a_pod() -> PodSources {
        let payload =
            r#"{"kubernetes.io":{"namespace":"etl","pod":{"name":"load-x7k2p","uid":"0aa1"},"serviceaccount":{}}}"#;
        PodSources { mounts: Some(LOG_LINE.to_owned()), ..of_token(payload) }
    }

    fn of_token(payload: &str) -> PodSources {
        PodSources::default().and_what_it_says(&token(payload))
    }

    #[test]
    fn a_pod_is_known_without_configuration() {
        let expected = PodReference {
            name: "load-x7k2p".to_owned(),
            uid: "0aa1".to_owned(),
            container: "main".to_owned(),
            start: "1f2e3d4c".to_owned(),
            namespace: "etl".to_owned(),
        };
        assert_eq!(in_a_pod().pod(), Some(expected));
    }

    #[test]
    fn variables_win() {
        let said = PodSources {
            name: Some("n".to_owned()),
            uid: Some("u".to_owned()),
            namespace: Some("s".to_owned()),
            container: Some("c".to_owned()),
            mounts: Some(LOG_LINE.to_owned()),
        };
        let payload = r#"{"kubernetes.io":{"namespace":"etl","pod":{"name":"load-x7k2p","uid":"0aa1"}}}"#;
        let pod = said.and_what_it_says(&token(payload)).pod().unwrap();
        assert_eq!([pod.name, pod.uid, pod.namespace, pod.container, pod.start], ["n", "u", "s", "c", "1f2e3d4c"]);
    }

    #[test]
    fn what_is_no_namespace_is_not_said_to_be_one() {
        let of_token_in = |namespace: &str| {
            let payload =
                serde_json::json!({ "kubernetes.io": { "namespace": namespace, "pod": { "name": "p", "uid": "u" } } });
            of_token(&payload.to_string())
        };
        assert_eq!(of_token_in("etl").pod().unwrap().namespace, "etl");
        let long = "x".repeat(64);
        for odd in ["", "../secrets", "a.b", "A", &long] {
            assert_eq!(of_token_in(odd).pod(), Some(PodReference::whole("p", "u")), "{odd}");
            let said = PodSources { namespace: Some(odd.to_owned()), ..of_token_in("etl") };
            assert_eq!(said.pod(), Some(PodReference::whole("p", "u")), "{odd}");
        }
        let none = of_token(r#"{"kubernetes.io":{"pod":{"name":"p","uid":"u"}}}"#);
        assert_eq!(none.pod(), Some(PodReference::whole("p", "u")));
    }

    #[test]
    fn who_knows_its_pod_and_not_its_container_speaks_for_the_whole_pod() {
        let long = LOG_LINE.replace("/main/", &format!("/{}/", "x".repeat(254)));
        for (why, sources) in [
            ("no mounts", PodSources { mounts: None, ..in_a_pod() }),
            ("no termination log", PodSources { mounts: Some("1 1 8:1 / / rw - ext4 x rw".to_owned()), ..in_a_pod() }),
            (
                "a container's name alone says nothing of its start",
                PodSources { mounts: None, container: Some("main".to_owned()), ..in_a_pod() },
            ),
            ("a name that does not fit", PodSources { mounts: Some(long), ..in_a_pod() }),
        ] {
            let whole = PodReference { namespace: "etl".into(), ..PodReference::whole("load-x7k2p", "0aa1") };
            assert_eq!(sources.pod(), Some(whole), "{why}");
        }
    }

    #[test]
    fn nothing_is_guessed() {
        for (why, sources) in [
            ("no token", PodSources { mounts: Some(LOG_LINE.to_owned()), ..PodSources::default() }),
            ("a token of no pod", PodSources { mounts: Some(LOG_LINE.to_owned()), ..of_token("{}") }),
            ("a UID that is too long", PodSources { uid: Some("x".repeat(65)), ..in_a_pod() }),
            ("an empty name", PodSources { name: Some(String::new()), ..in_a_pod() }),
        ] {
            assert_eq!(sources.pod(), None, "{why}");
        }
    }

    #[test]
    fn termination_logs_are_found_among_mounts() {
        let usual = Some(("main".to_owned(), "1f2e3d4c".to_owned()));
        let other = "9 1 8:1 /pods/u/containers/side/aaaa /tmp/log rw - ext4 x rw";
        for (mounts, expected) in [
            (LOG_LINE.to_owned(), usual.clone()),
            (format!("{other}\n{LOG_LINE}\n"), usual),
            (other.to_owned(), Some(("side".to_owned(), "aaaa".to_owned()))),
            ("1 1 8:1 /var/lib/kubelet/pods/u/etc-hosts /etc/hosts rw".to_owned(), None),
            ("1 1 8:1 /containers/main/aaaa /dev/termination-log".to_owned(), None),
            (String::new(), None),
            ("\n \n1 2 3\n".to_owned(), None),
        ] {
            let found = termination_log(&mounts).map(|start| (start.container, start.id));
            assert_eq!(found, expected, "{mounts}");
        }
    }

    #[test]
    fn what_arrives_once_is_as_much_as_is_known() {
        let said = |key: Option<&str>, job: Option<&str>| ArrivalIdentity {
            key: key.map(Into::into),
            job: job.map(Into::into),
        };
        let pod = || Some("pod".to_owned());
        for (said, pod, index, expected) in [
            (said(Some("orders"), Some("job")), pod(), None, "orders"),
            (said(Some("orders"), None), pod(), Some("3"), "orders/3"),
            (said(None, Some("job")), pod(), Some("3"), "job/3"),
            (said(None, Some("job")), pod(), None, "job"),
            (said(None, Some("job")), pod(), Some("three"), "job"),
            (said(None, Some("job")), pod(), Some(""), "job"),
            (said(None, Some("job")), pod(), Some("12345678901"), "job"),
            (said(None, None), pod(), Some("3"), "pod"),
            (said(None, None), None, Some("3"), "me"),
        ] {
            assert_eq!(arrival_key(&said, pod, None, index, "me"), expected, "{said:?} {index:?}");
        }
    }

    #[test]
    fn containers_of_one_pod_arrive_each() {
        let said = |key: Option<&str>, job: Option<&str>| ArrivalIdentity {
            key: key.map(Into::into),
            job: job.map(Into::into),
        };
        for (said, pod, index, expected) in [
            (said(None, Some("job")), Some("pod"), Some("3"), "job/3/main"),
            (said(None, Some("job")), Some("pod"), None, "job/main"),
            (said(None, None), Some("pod"), None, "pod/main"),
            // What people say is what they mean.
            (said(Some("orders"), Some("job")), Some("pod"), Some("3"), "orders/3"),
            (said(Some("orders"), None), Some("pod"), None, "orders"),
            (said(None, None), None, None, "me"),
        ] {
            let pod = pod.map(Into::into);
            assert_eq!(arrival_key(&said, pod, Some("main"), index, "me"), expected, "{said:?} {index:?}");
        }
        let named = |name: String| PodSources { container: Some(name), ..in_a_pod() }.container_name();
        assert_eq!(in_a_pod().container_name().as_deref(), Some("main"));
        assert_eq!(named("side".to_owned()).as_deref(), Some("side"));
        assert_eq!(named("x".repeat(64)), None, "no container's name");
        assert_eq!(PodSources::default().container_name(), None);
        // The longest of all parts is as long as a key may be.
        let [job, index, container] = [MAX_ID as usize, MAX_INDEX, MAX_LABEL as usize].map(|length| "1".repeat(length));
        let longest = arrival_key(&said(None, Some(&job)), None, Some(&container), Some(&index), "me");
        assert!(longest.len() <= 253, "{} characters", longest.len());
    }

    #[test]
    fn holders_have_a_name_that_fits() {
        assert_eq!(default_holder(Some("load-x7k2p".to_owned()), "host", 7), "load-x7k2p");
        assert_eq!(default_holder(None, "host", 7), "host:7");
        assert_eq!(default_holder(Some("ü".repeat(200)), "host", 7).len(), 252);
    }

    #[test]
    fn files_that_are_too_long_or_no_text_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        for (path, expected) in [
            (file("fits", &[b'a'; 9]), Some("a".repeat(9))),
            (file("empty", b""), Some(String::new())),
            (file("long", &[b'a'; 10]), None),
            (file("bytes", b"a\xff"), None),
            (folder.path().join("missing").display().to_string(), None),
            (folder.path().display().to_string(), None),
            ("/dev/zero".to_owned(), None),
        ] {
            assert_eq!(read(&path, 9), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(token in r"\PC{0,200}|[a-zA-Z0-9_.-]{0,200}", mounts in r"(\PC{0,80}\n?){0,4}") {
            let _ = bound(&token);
            let _ = termination_log(&mounts);
        }

        /// Whatever is in the sources, what is made of them fits into a claim.
        #[test]
        fn any_source_is_a_pod_that_fits_or_none(
            name in prop::option::of(r"\PC{0,300}"), uid in r"\PC{0,80}", namespace in prop::option::of(r"\PC{0,80}|[a-z]{1,70}"),
            container in prop::option::of(r"\PC{0,300}"),
            root in r"(/[^ /\n]{0,300}){0,2}/pods(/[^ /\n]{0,90}){2,4}",
        ) {
            let sources = PodSources {
                name, uid: Some(uid), namespace, container,
                mounts: Some(format!("1 1 8:1 {root} /dev/termination-log rw")),
            };
            if let Some(pod) = sources.pod() {
                let whole = pod.is_whole();
                prop_assert_eq!(whole, pod.start.is_empty());
                let container = [(pod.container, MAX_NAME), (pod.start, MAX_ID)];
                prop_assert!(pod.namespace.is_empty() || is_label(&pod.namespace), "{}", pod.namespace);
                let known = [(pod.name, MAX_NAME), (pod.uid, MAX_ID)];
                for (text, most) in known.into_iter().chain(container.into_iter().filter(|_| !whole)) {
                    prop_assert!((1..=most as usize).contains(&text.len()), "{text}");
                }
            }
        }

        #[test]
        fn any_payload_is_read_or_refused(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = bound(&format!("a.{}.b", URL_SAFE_NO_PAD.encode(payload)));
        }

        #[test]
        fn any_pod_of_a_token_is_read_as_it_is(name in r"\PC{0,60}", uid in r"\PC{0,60}", end in r"[ \n]{0,2}") {
            let pod = serde_json::json!({ "name": name, "uid": uid, "more": [1] });
            let payload = serde_json::json!({ "exp": 1, "kubernetes.io": { "namespace": "etl", "pod": pod } });
            let token = token(&payload.to_string()) + &end;
            prop_assert_eq!(bound(&token), Some(Bound { namespace: "etl".to_owned(), pod: BoundPod { name, uid } }));
        }

        #[test]
        fn any_start_of_a_container_is_found_among_mounts(
            id in "[a-z0-9]{1,40}", container in "[a-z0-9-]{1,40}", root in "(/[a-z0-9.~-]{1,20}){0,5}",
            noise in prop::collection::vec(r"[0-9a-z:/. \\-]{0,80}", 0..5), at in 0_usize..5,
        ) {
            let line = format!("712 690 8:1 {root}/pods/0aa1/containers/{container}/{id} {TERMINATION_LOG} rw - ext4 x rw");
            let mut lines = noise;
            lines.insert(at.min(lines.len()), line);
            let found = termination_log(&lines.join("\n"));
            prop_assert_eq!(found, Some(ContainerStart { container, id }));
        }
    }
}
