//! What others store in their objects costs no memory, however much it is.

use std::convert::Infallible;

use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use konductor_api::{Permit, PermitSpec};
use konductor_cluster::{
    Endpoint, PageRequest, Program,
    follow::{Event, Source},
    object::{Described, Lenient, Object},
};
use kube::{Client, client::Body};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;

type Claim = Object<Permit, PermitSpec, IgnoredAny>;

/// How much more memory may be used at most than before: a small part of all, with room for the allocator's habits.
const ROOM: u64 = 4 << 20;

/// Objects of one list.
#[derive(Clone)]
struct Crowd {
    /// How many there are.
    claims: usize,
    /// A member of the metadata of each, which comes in so many equal pieces between its beginning and its end.
    member: (&'static str, Bytes, usize, &'static str),
}

impl Crowd {
    /// Each with about as many annotations as Kubernetes allows (256 KiB): 50 MB.
    fn with_annotations() -> Self {
        Self { claims: 200, member: (r#""annotations":{"a":""#, "x".repeat(10_000).into(), 25, r#""}"#) }
    }

    /// Each with 57 kB of the shortest labels: 28 MB.
    fn with_labels() -> Self {
        let labels = (0..5_700).map(|number| format!(r#""{number:04x}":"""#)).collect::<Vec<_>>().join(",");
        Self { claims: 500, member: (r#""labels":{"#, labels.into(), 1, "}") }
    }

    /// Each with 64 owners, whose texts are as long as Kubernetes allows: 30 MB.
    fn with_owners() -> Self {
        let text = "o".repeat(250);
        let owner = format!(r#"{{"apiVersion":"{text}","kind":"{text}","name":"{text}","uid":"{text}"}}"#);
        let owners = vec![owner; 64].join(",");
        Self { claims: 500, member: (r#""ownerReferences":["#, owners.into(), 1, "]") }
    }

    /// Their bytes, made only when they are asked for, with this before each and this after.
    fn bytes(self, before: &'static str, after: &'static str) -> impl Iterator<Item = Bytes> {
        let (begin, piece, pieces, end) = self.member;
        (0..self.claims).flat_map(move |number| {
            let version = number + 10;
            let metadata = format!(
                r#"{before}{{"metadata":{{"name":"{number}","uid":"{number}","resourceVersion":"{version}",{begin}"#
            );
            let spec = format!(r#"{end}}},"spec":{{"semaphore":"s","holder":"h","instance":"i"}}}}{after}"#);
            std::iter::once(metadata.into())
                .chain(std::iter::repeat_n(piece.clone(), pieces))
                .chain(std::iter::once(spec.into()))
        })
    }

    fn answer(self, request: &Request<Body>) -> Box<dyn Iterator<Item = Bytes> + Send> {
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            return Box::new(self.bytes(r#"{"type":"MODIFIED","object":"#, "}\n"));
        }
        let metadata = Bytes::from(r#"{"metadata":{"resourceVersion":"5"},"items":["#);
        let last = Bytes::from(r#"{"metadata":{"name":"last"}}]}"#);
        Box::new(std::iter::once(metadata).chain(self.bytes("", ",")).chain([last]))
    }

    fn client(&self) -> Client {
        let crowd = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let bytes = crowd.clone().answer(&request);
            let frames = stream::iter(bytes).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
            async { Ok::<_, Infallible>(Response::new(StreamBody::new(frames))) }
        });
        Client::new(service, "n")
    }

    /// Lists them and follows them as somebody who needs their names only. Returns how much more memory that took.
    async fn cost(self) -> u64 {
        let endpoint = Endpoint::<Permit, PermitSpec, IgnoredAny>::all(self.client(), Program::OPERATOR);
        let name = |claim: Lenient<Claim>| claim.metadata().name.clone();
        let before = high_water();
        let page = endpoint.page(&PageRequest { limit: 500, ..PageRequest::default() }, name).await.expect("a page");
        assert_eq!((page.items.len(), page.illegible.len()), (self.claims + 1, 0));
        let (events, mut seen) = mpsc::channel(500);
        let source = Source { endpoint, fields: None, page: 500 };
        let following = tokio::spawn(source.follow(events, name, Some, |_| ()));
        let mut applied = 0;
        while applied < 2 * self.claims + 1 {
            if let Event::Apply(_) = seen.recv().await.expect("following") {
                applied += 1;
            }
        }
        following.abort();
        high_water() - before
    }
}

/// The most memory that this process has ever used.
fn high_water() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high water mark");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("kB") << 10
}

// One after another: there is only one high water mark.
#[tokio::test]
async fn pages_and_watches_of_large_objects_need_little_memory() {
    for (what, crowd) in
        [("annotations", Crowd::with_annotations()), ("labels", Crowd::with_labels()), ("owners", Crowd::with_owners())]
    {
        let used = crowd.cost().await;
        assert!(used < ROOM, "{what}: {used} bytes");
    }
}
