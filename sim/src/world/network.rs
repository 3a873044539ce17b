//! The way to the API server: what delays, loses, repeats nothing and refuses.
//!
//! A request that was sent arrives or not whatever its sender does meanwhile, as on a real network. So a write may be
//! carried out long after nobody waits for it any more.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, stream};
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use konductor_cluster::link::{PING, PONG};
use kube::client::Body;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{Told, World, process::Process, sight::Connection};
use crate::server::{Answer, Reply, Request, Watch};

/// The body of an answer.
type Stream = UnsyncBoxBody<Bytes, io::Error>;

/// How long a sender waits for what was lost, if nobody tells it: longer than any client does.
const SILENCE: Duration = Duration::from_mins(5);

/// How often a quiet watch is told where it stands.
const BOOKMARK: Duration = Duration::from_secs(10);

/// The latest that something late arrives.
const LATE: u64 = 60_000;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is carried out and answered.
    Answered,
    /// It never arrives.
    Lost,
    /// It is carried out, and the answer never arrives.
    Unanswered,
    /// It is refused with this, and carried out or not.
    Refused(u16, bool),
}

/// A connection of a process, as a client of the API server.
pub(super) fn client(world: &Arc<World>, process: &Arc<Process>) -> kube::Client {
    let (world, process) = (Arc::clone(world), Arc::clone(process));
    let connection = world.connect(&process);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (world, process) = (Arc::clone(&world), Arc::clone(&process));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let request = Request {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: Request::parameters(head.uri.query().unwrap_or_default()),
                content_type: content_type.unwrap_or_default().to_owned(),
                body: body.to_vec(),
            };
            let (answer, answered) = oneshot::channel();
            let waiting = Waiting::begin(&process, &request, world.keeps_what_is_given_up());
            world.asked(&process, &request);
            world.decided(&process, connection, &request);
            let under_way = UnderWay::begin(&world);
            tokio::spawn(carry(world, process, connection, request, answer, under_way));
            let answered = answered.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset));
            answered.map(|answer| waiting.answered(answer))
        }
    });
    kube::Client::new(service, "default")
}

/// A request that may still have an effect.
struct UnderWay(Arc<World>);

impl UnderWay {
    fn begin(world: &Arc<World>) -> Self {
        world.under_way(1);
        Self(Arc::clone(world))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way(-1);
    }
}

/// What a process waits for, for as long as it has not given it up: the answer to a request, or the end of a watch.
struct Waiting {
    process: Arc<Process>,
    is_watch: bool,
    is_answered: bool,
    keeps: bool,
}

impl Waiting {
    fn begin(process: &Arc<Process>, request: &Request, keeps: bool) -> Self {
        let is_watch = request.query.iter().any(|(name, _)| name == "watch");
        let waiting = Self { process: Arc::clone(process), is_watch, is_answered: false, keeps };
        waiting.count().fetch_add(1, Relaxed);
        waiting
    }

    fn count(&self) -> &AtomicUsize {
        if self.is_watch { &self.process.open.watches } else { &self.process.open.requests }
    }

    fn answered(mut self, answer: Response<Stream>) -> Response<Stream> {
        self.is_answered = true;
        if !self.is_watch {
            return answer;
        }
        answer.map(|body| Lasting { body, _waiting: self }.boxed_unsync())
    }
}

/// A watch's events, for which its process waits until it drops them.
struct Lasting {
    body: Stream,
    _waiting: Waiting,
}

impl hyper::body::Body for Lasting {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_answered || !self.keeps {
            self.count().fetch_sub(1, Relaxed);
        }
    }
}

/// Carries a request to the API server, and its answer back.
async fn carry(
    world: Arc<World>,
    process: Arc<Process>,
    connection: Connection,
    request: Request,
    answer: oneshot::Sender<Response<Stream>>,
    under_way: UnderWay,
) {
    let (fate, there, back) = world.fate(&process, LATE);
    sleep(there).await;
    if let Some(until) = world.cut_until(&process) {
        // Packets are sent again until they get through or nobody sends them any more.
        if answer.is_closed() || fate == Fate::Lost {
            return;
        }
        sleep_until(until).await;
    }
    if fate == Fate::Lost {
        drop(under_way);
        // Some are told, by a reset, and some are not.
        if back.as_millis() % 2 == 0 {
            sleep(SILENCE).await;
        }
        return;
    }
    let server = world.server_of(&process);
    if !world.is_there(server) {
        // Nobody listens: the sender is told at once.
        return;
    }
    let reply = match (fate, world.forbids(&process, &request)) {
        (Fate::Refused(code, false), _) => Reply::Answer(Answer::trouble(code)),
        (_, Some(answer)) => Reply::Answer(answer),
        (Fate::Refused(code, true), None) => {
            world.handle(&process, server, &request);
            Reply::Answer(Answer::trouble(code))
        }
        (_, None) => world.handle(&process, server, &request),
    };
    // What is still under way has no effect.
    drop(under_way);
    if fate == Fate::Unanswered {
        if back.as_millis() % 2 == 0 {
            sleep(SILENCE).await;
        }
        return;
    }
    sleep(back).await;
    if let Some(until) = world.cut_until(&process) {
        sleep_until(until).await;
    }
    if let Reply::Answer(reply) = &reply
        && !answer.is_closed()
    {
        world.answered(&process, connection, &request, reply);
    }
    // Nobody may be waiting any more.
    let _ = answer.send(response(&world, &process, connection, server, reply));
}

fn response(
    world: &Arc<World>,
    process: &Arc<Process>,
    connection: Connection,
    server: usize,
    reply: Reply,
) -> Response<Stream> {
    let builder = Response::builder().header(header::CONTENT_TYPE, "application/json");
    let built = match reply {
        Reply::Answer(Answer { code, body, retry_after }) => {
            let mut builder = builder.status(code);
            if let Some(seconds) = retry_after {
                builder = builder.header(header::RETRY_AFTER, seconds);
            }
            let body = stream::once(async move { Ok(Frame::data(Bytes::from(body))) });
            builder.body(StreamBody::new(body).boxed_unsync())
        }
        Reply::Watch(watch) => {
            let (events, told) = mpsc::unbounded_channel();
            tokio::spawn(feed(Arc::clone(world), Arc::clone(process), connection, server, watch, events));
            let body = stream::unfold(told, |mut told| async move {
                let item: io::Result<Bytes> = told.recv().await?;
                Some((item, told))
            });
            builder.body(StreamBody::new(body.map(|item| item.map(Frame::data))).boxed_unsync())
        }
    };
    built.expect("a response")
}

/// Tells a watch what happens, until it ends.
async fn feed(
    world: Arc<World>,
    process: Arc<Process>,
    connection: Connection,
    server: usize,
    mut watch: Watch,
    events: mpsc::UnboundedSender<io::Result<Bytes>>,
) {
    let boots = world.boots(server);
    let end = Instant::now() + Duration::from_secs(watch.seconds);
    let mut bookmark = Instant::now() + BOOKMARK;
    loop {
        let changed = world.changed(watch.resource);
        let changed = changed.notified();
        let mut changed = std::pin::pin!(changed);
        changed.as_mut().enable();
        if world.boots(server) != boots {
            let _ = events.send(Err(io::ErrorKind::ConnectionReset.into()));
            return;
        }
        let Told { events: told, more_at } = world.told(&process, server, &mut watch);
        match told {
            Ok(texts) if texts.is_empty() => world.told_by_watch(&process, connection, &watch),
            Ok(texts) => {
                let (lag, cut) = world.lag();
                sleep(lag).await;
                if let Some(until) = world.cut_until(&process) {
                    sleep_until(until).await;
                }
                match cut {
                    Some(true) => {
                        let _ = events.send(Err(io::ErrorKind::ConnectionReset.into()));
                        return;
                    }
                    // It says nothing any more, until a ping is not answered.
                    Some(false) => {
                        tokio::select! {
                            biased;
                            () = sleep(PING + PONG) => {}
                            () = events.closed() => {}
                        }
                        let _ = events.send(Err(io::ErrorKind::TimedOut.into()));
                        return;
                    }
                    None => {}
                }
                if events.is_closed() {
                    return;
                }
                world.told_by_watch(&process, connection, &watch);
                sleep(world.deafness(connection, &watch)).await;
                if texts.into_iter().any(|text| events.send(Ok(text.into())).is_err()) {
                    return;
                }
                continue;
            }
            Err(texts) => {
                for text in texts {
                    let _ = events.send(Ok(text.into()));
                }
                return;
            }
        }
        let woken = tokio::select! {
            biased;
            () = events.closed() => return,
            woken = timeout_at(more_at.unwrap_or(end).min(end).min(bookmark), changed) => woken,
        };
        if woken.is_err() && more_at.is_none_or(|at| at > Instant::now()) {
            if Instant::now() >= end {
                return;
            }
            bookmark = Instant::now() + BOOKMARK;
            if let Some(text) = world.bookmark(&mut watch) {
                let _ = events.send(Ok(text.into()));
            }
        }
    }
}
