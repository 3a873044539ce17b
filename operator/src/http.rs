//! `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet: each of the two has a listener, places and a
//! thread of its own.
//!
//! Anybody who reaches the ports can open connections and leave them open, and when a probe is not answered the
//! process is killed. So nobody waits for a place: when all are taken, a new connection ends the one that has gone for
//! longest without sending its request, or the oldest if all have sent theirs. A probe's request comes with its
//! connection and is answered before the next connection is accepted. So it waits for nothing but the acceptance of
//! those that came just before it, however many are open. One connection is for one request, and its time is short.
//!
//! The threads are the ports' own as well, so that neither a scrape nor a turn of an event loop is in a probe's way;
//! that an event loop is stuck is seen by its not turning.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::{AbortHandle, yield_now},
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    clock::Clock,
    metrics::{Metrics, exposition::Exposition},
};

/// What one listener bears.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once.
    pub places: usize,
    /// How long a client may take to send its request.
    pub request: Duration,
    /// How long a connection may last.
    pub connection: Duration,
}

/// For the kubelet, which has one connection open for a moment: the rest is so that many strangers must come between
/// the opening of a connection and its request before one of them takes its place. Its probes wait three seconds.
pub const HEALTH: Limits = Limits { places: 64, request: Duration::from_secs(3), connection: Duration::from_secs(5) };

/// For a scraper or two and a curious person. A scrape usually ends after ten seconds, and a slow reader's text is
/// kept as long.
pub const METRICS: Limits = Limits { places: 16, request: Duration::from_secs(3), connection: Duration::from_secs(10) };

/// Connections that the system keeps until they are accepted, if its own limit lets it (it is 4096 too). One that
/// comes when they are that many is tried again by its client's system only after a second, which is much of a probe's
/// time.
const BACKLOG: u32 = 4096;

/// How long to wait when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The most of a request that is kept, in bytes: the least that the HTTP library can do with.
const REQUEST_SIZE: usize = 8192;

/// How old figures may be that are given out again: bounds what scraping costs, and how many texts slow readers keep.
const FRESH: Duration = Duration::from_secs(2);

const TEXT: &str = "text/plain; charset=utf-8";

/// An answer: status, content type, text.
#[derive(Clone, Debug)]
pub struct Page(StatusCode, &'static str, Bytes);

impl Page {
    fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self(status, TEXT, text.into())
    }
}

/// The page of each path, for who accepts this.
pub type Pages = Arc<dyn Fn(&str, Option<&str>) -> Page + Send + Sync>;

/// A bound address, with a thread that serves it as soon as it is told what.
pub struct Server {
    address: SocketAddr,
    pages: oneshot::Sender<Pages>,
}

impl Server {
    /// Starts a thread of this name, and waits until it has bound the address.
    pub fn bind(name: &'static str, address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let (pages, told) = oneshot::channel();
        let (bound, binding) = mpsc::channel();
        let serving = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                // Whoever started the thread waits for this; so below.
                Err(error) => return drop(bound.send(Err(error))),
            };
            runtime.block_on(async {
                let listener = listen(address);
                let address = listener.as_ref().map_err(|error| error.kind().into()).and_then(TcpListener::local_addr);
                drop(bound.send(address));
                if let (Ok(listener), Ok(pages)) = (listener, told.await) {
                    serve(name, &listener, limits, &pages).await;
                }
            });
        };
        thread::Builder::new().name(name.to_owned()).spawn(serving)?;
        let address = binding.recv().map_err(|_| io::Error::other("the thread ended"))??;
        Ok(Self { address, pages })
    }

    /// Where it listens: the port that was chosen when it was asked for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves these pages from now on, as long as the process lives.
    pub fn serve(self, pages: Pages) {
        // The thread waits for it, as long as there is one.
        let _ = self.pages.send(pages);
    }
}

/// The pages of [`HEALTH`].
pub fn probes(metrics: Arc<Metrics>) -> Pages {
    let check = |complaint: Option<String>| match complaint {
        None => Page::text(StatusCode::OK, "ok\n"),
        Some(complaint) => Page::text(StatusCode::SERVICE_UNAVAILABLE, complaint),
    };
    Arc::new(move |path, _| match path {
        "/healthz" => check(metrics.fatal()),
        "/readyz" => check(metrics.unready()),
        _ => Page::text(StatusCode::NOT_FOUND, "there are /healthz and /readyz\n"),
    })
}

/// The pages of [`METRICS`].
pub fn figures(metrics: Arc<Metrics>, clock: Clock) -> Pages {
    let last: Mutex<[Option<(Duration, Page)>; 2]> = Mutex::default();
    Arc::new(move |path, accept| {
        if path != "/metrics" {
            return Page::text(StatusCode::NOT_FOUND, "there is /metrics\n");
        }
        let exposition = Exposition::wanted(accept);
        let (mut last, now) = (last.lock().unwrap_or_else(PoisonError::into_inner), clock.monotonic());
        let last = &mut last[usize::from(exposition == Exposition::Classic)];
        match &*last {
            Some((at, page)) if now.saturating_sub(*at) < FRESH => page.clone(),
            _ => {
                let page = match metrics.text(exposition) {
                    Ok(text) => Page(StatusCode::OK, exposition.content_type(), text.into()),
                    Err(error) => {
                        let complaint = format!("cannot write the metrics: {error}\n");
                        Page::text(StatusCode::INTERNAL_SERVER_ERROR, complaint)
                    }
                };
                *last = Some((now, page.clone()));
                page
            }
        }
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The connections of an operator that has just ended do not count.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A connection that is open.
struct Served {
    task: AbortHandle,
    /// Its request has come.
    asked: Arc<AtomicBool>,
}

async fn serve(name: &str, listener: &TcpListener, limits: Limits, pages: &Pages) {
    let mut places: VecDeque<Served> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Its client has gone again; the next one is not to blame.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => continue,
            Err(error) => {
                warn!("cannot accept a connection for {name}: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        places.retain(|place| !place.task.is_finished());
        if places.len() >= limits.places {
            let idle = places.iter().position(|place| !place.asked.load(Ordering::Relaxed));
            if let Some(place) = places.remove(idle.unwrap_or(0)) {
                place.task.abort();
            }
        }
        let asked = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(attend(stream, limits, Arc::clone(pages), Arc::clone(&asked))).abort_handle();
        places.push_back(Served { task, asked });
        // The new one's turn: what it has sent already is answered before anybody can take its place.
        yield_now().await;
    }
}

async fn attend(stream: TcpStream, limits: Limits, pages: Pages, asked: Arc<AtomicBool>) {
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(answer(&request, &pages)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(REQUEST_SIZE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(limits.connection, connection).await {
        debug!("a connection ended: {error}");
    }
}

fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    let Page(status, content_type, text) = match *request.method() {
        Method::GET | Method::HEAD => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            pages(request.uri().path(), accept)
        }
        _ => Page::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n"),
    };
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    /// Far more than any answer takes.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// Longer than that: who sends nothing keeps its connection until another one takes its place.
    const LONG: Duration = Duration::from_hours(1);

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// Both servers of a process, and where they listen.
    struct Scene {
        metrics: Arc<Metrics>,
        figures: SocketAddr,
        probes: SocketAddr,
    }

    impl Scene {
        fn begin() -> Self {
            let clock = Clock::start();
            let metrics = Metrics::new(clock);
            let serve = |limits, pages| {
                let limits = Limits { request: LONG, connection: LONG, ..limits };
                let server = Server::bind("test", LOOPBACK, limits).expect("a port");
                let address = server.address();
                server.serve(pages);
                address
            };
            let figures = serve(METRICS, super::figures(Arc::clone(&metrics), clock));
            let probes = serve(HEALTH, super::probes(Arc::clone(&metrics)));
            Self { metrics, figures, probes }
        }
    }

    /// A connection on which this has been sent.
    fn send(address: SocketAddr, text: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(text.as_bytes())?;
        Ok(stream)
    }

    /// The whole answer to a GET.
    fn get(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut answer = String::new();
        send(address, &format!("GET {path} HTTP/1.1\r\nHost: operator\r\n\r\n"))?.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[track_caller]
    fn expect(address: SocketAddr, path: &str, status: &str, text: &str) {
        let answer = get(address, path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(text), "{path}: {answer}");
    }

    #[test]
    fn each_port_has_its_pages_and_no_others() {
        let Scene { figures, probes, .. } = Scene::begin();
        expect(figures, "/metrics", "200", "\r\n\r\n# HELP konductor_");
        expect(figures, "/healthz", "404", "there is /metrics");
        expect(probes, "/healthz", "200", "ok\n");
        expect(probes, "/readyz", "200", "ok\n");
        expect(probes, "/metrics", "404", "there are /healthz and /readyz");
        let mut answer = String::new();
        let mut stream = send(probes, "POST /healthz HTTP/1.1\r\nHost: operator\r\n\r\n").expect("a connection");
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }

    #[test]
    fn figures_come_in_the_format_that_is_asked_for() {
        let Scene { figures, .. } = Scene::begin();
        for (accept, content_type, last) in [
            ("", "text/plain; version=0.0.4; charset=utf-8", None),
            ("Accept: */*\r\n", "text/plain; version=0.0.4; charset=utf-8", None),
            (
                "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                Some("# EOF"),
            ),
        ] {
            let mut answer = String::new();
            let asked = format!("GET /metrics HTTP/1.1\r\nHost: operator\r\n{accept}\r\n");
            send(figures, &asked).expect("a connection").read_to_string(&mut answer).expect("an answer");
            assert!(answer.contains(&format!("content-type: {content_type}\r\n")), "{accept}: {answer}");
            assert_eq!(answer.lines().last().filter(|line| line.starts_with('#')), last, "{accept}");
        }
    }

    #[test]
    fn what_is_amiss_is_told() {
        let Scene { metrics, probes, .. } = Scene::begin();
        let cache = metrics.register_cache("permits");
        let watch = metrics.register_watch("permits");
        watch.report(Err("permits is forbidden".into()));
        expect(probes, "/readyz", "503", "permits could not be listed or watched for ");
        expect(probes, "/readyz", "503", "s: permits is forbidden\n");
        watch.report(Ok(()));
        metrics.filled(cache);
        expect(probes, "/readyz", "200", "ok\n");
    }

    #[test]
    fn probes_and_scrapes_are_answered_beside_hundreds_of_silent_connections() {
        let Scene { figures, probes, .. } = Scene::begin();
        for begun in ["", "GET /healthz HTT", "GET /healthz HTTP/1.1\r\nHost: operator\r\n"] {
            let strangers = [figures, probes].map(|address| {
                let open = std::iter::repeat_with(|| send(address, begun).expect("a connection"));
                open.take(200).collect::<Vec<_>>()
            });
            for _ in 0..3 {
                expect(probes, "/healthz", "200", "ok\n");
                expect(probes, "/readyz", "200", "ok\n");
                expect(figures, "/metrics", "200", "konductor_leader");
            }
            drop(strangers);
        }
    }

    #[test]
    fn a_probe_is_answered_however_many_strangers_come_right_after_it() {
        let server =
            Server::bind("test", LOOPBACK, Limits { request: LONG, connection: LONG, ..HEALTH }).expect("a port");
        let address = server.address();
        // The server stands still in a request until all of them have come.
        let (stands, still) = mpsc::channel();
        let (go_on, told) = mpsc::channel::<()>();
        let told = Mutex::new(told);
        server.serve(Arc::new(move |path, _| {
            if path == "/still" {
                stands.send(()).expect("the test waits");
                told.lock().expect("no panic").recv().expect("the test goes on");
            }
            Page::text(StatusCode::OK, "ok\n")
        }));
        for _ in 0..10 {
            let request = |path: &str| send(address, &format!("GET {path} HTTP/1.1\r\nHost: operator\r\n\r\n"));
            let first = request("/still").expect("a connection");
            still.recv_timeout(PATIENCE).expect("it stands still");
            let open = |number| std::iter::repeat_with(|| send(address, "").expect("a connection")).take(number);
            let before: Vec<_> = open(HEALTH.places).collect();
            let mut probe = request("/healthz").expect("a connection");
            // Enough of them to take every place twice.
            let after: Vec<_> = open(2 * HEALTH.places).collect();
            go_on.send(()).expect("it stands still");
            let mut answer = String::new();
            probe.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            drop((first, before, after));
        }
    }

    #[test]
    fn a_connection_waits_for_its_request_only_so_long() {
        let limits = Limits { request: Duration::from_millis(50), connection: LONG, ..HEALTH };
        let server = Server::bind("test", LOOPBACK, limits).expect("a port");
        let address = server.address();
        server.serve(Arc::new(|_, _| Page::text(StatusCode::OK, "ok\n")));
        for sent in ["", "GET / HTTP/1.1\r\nHost"] {
            let mut text = String::new();
            let ended = send(address, sent).and_then(|mut stream| stream.read_to_string(&mut text));
            // It ends, and not by this side's patience; before all of it was sent, if that has taken so long.
            let is_late = |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!ended.as_ref().is_err_and(is_late) && text.is_empty(), "{sent}: {ended:?}, {text}");
        }
    }

    #[test]
    fn a_connection_is_for_one_request() {
        let Scene { probes, .. } = Scene::begin();
        let twice = "GET /healthz HTTP/1.1\r\nHost: operator\r\n\r\n".repeat(2);
        let mut text = String::new();
        // Its end is not in order: the second request was not read.
        let _ = send(probes, &twice).expect("a connection").read_to_string(&mut text);
        assert_eq!(text.matches("HTTP/1.1 200 ").count(), 1, "{text}");
        expect(probes, "/healthz", "200", "ok\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_scraped_again_soon_is_the_same_text() {
        let clock = Clock::start();
        let metrics = Metrics::new(clock);
        let pages = super::figures(Arc::clone(&metrics), clock);
        let shown = |line: &str| {
            let Page(_, _, text) = pages("/metrics", None);
            String::from_utf8_lossy(&text).lines().any(|found| found == line)
        };
        assert!(shown("konductor_leader 0"));
        metrics.leader.set(1);
        tokio::time::advance(FRESH / 2).await;
        assert!(shown("konductor_leader 0"));
        tokio::time::advance(FRESH / 2).await;
        assert!(shown("konductor_leader 1"));
    }

    #[test]
    fn an_address_that_is_taken_is_an_error() {
        let first = Server::bind("test", LOOPBACK, HEALTH).expect("a port");
        let error = Server::bind("test", first.address(), HEALTH).err().expect("it is taken");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}
