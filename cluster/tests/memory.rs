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
    object::{Lenient, Object},
};
use kube::{Client, client::Body};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;

type Claim = Object<Permit, PermitSpec, IgnoredAny>;

/// Claims that are there, each with about as many annotations as Kubernetes allows (256 KiB): 50 MB.
const CLAIMS: usize = 200;
const ANNOTATION: usize = 250_000;

/// How much more memory may be used at most than before: a small part of all, with room for the allocator's habits.
const ROOM: u64 = 4 << 20;

/// The most memory that this process has ever used.
fn high_water() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high water mark");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("kB") << 10
}

/// The bytes of the claims, made only when they are asked for, with this before each and this after.
fn claims(before: &'static str, after: &'static str) -> impl Iterator<Item = Bytes> {
    (0..CLAIMS).flat_map(move |number| {
        let metadata = format!(
            r#"{before}{{"metadata":{{"name":"{number}","uid":"{number}","resourceVersion":"{}","annotations":{{"a":""#,
            number + 10
        );
        let spec = format!(r#""}}}},"spec":{{"semaphore":"s","holder":"h","instance":"i"}}}}{after}"#);
        let chunk = Bytes::from("x".repeat(10_000));
        std::iter::once(metadata.into())
            .chain(std::iter::repeat_n(chunk, ANNOTATION / 10_000))
            .chain(std::iter::once(spec.into()))
    })
}

fn answer(request: &Request<Body>) -> Box<dyn Iterator<Item = Bytes> + Send> {
    let metadata = r#"{"metadata":{"resourceVersion":"5"},"items":["#;
    if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
        return Box::new(claims(r#"{"type":"MODIFIED","object":"#, "}\n"));
    }
    let claims = claims("", ",").chain([Bytes::from(r#"{"metadata":{"name":"last"}}]}"#)]);
    Box::new(std::iter::once(Bytes::from(metadata)).chain(claims))
}

fn client() -> Client {
    let service = tower::service_fn(|request: Request<Body>| {
        let frames = stream::iter(answer(&request)).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        async { Ok::<_, Infallible>(Response::new(StreamBody::new(frames))) }
    });
    Client::new(service, "n")
}

#[tokio::test]
async fn pages_and_watches_of_large_objects_need_little_memory() {
    let endpoint = Endpoint::<Permit, PermitSpec, IgnoredAny>::all(client(), Program::OPERATOR);
    let before = high_water();
    let page = endpoint.page(&PageRequest { limit: 500, ..PageRequest::default() }).await.expect("a page");
    assert_eq!((page.items.len(), page.illegible.len()), (CLAIMS + 1, 0));
    let (events, mut seen) = mpsc::channel(500);
    let source = Source { endpoint, fields: None, page: 500 };
    let following = tokio::spawn(source.follow(events, |event: Event<Lenient<Claim>>| Some(event), |_| ()));
    let mut applied = 0;
    while applied < 2 * CLAIMS + 1 {
        if let Event::Apply(_) = seen.recv().await.expect("following") {
            applied += 1;
        }
    }
    following.abort();
    let used = high_water() - before;
    assert!(used < ROOM, "{used} bytes");
}
