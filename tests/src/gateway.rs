//! Requests that meet trouble on the way to the API server or back: held up, or answered by somebody else.
//!
//! A gateway is spoken to without TLS, so that it can tell requests apart. What no rule is about goes on to the real
//! API server, with the credentials that came with it, and is answered by that.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::access;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does not get there while the rule is in force.
    Held,
    /// It is carried out, and its answer does not get back while the rule is in force.
    AnswerHeld,
    /// It is answered with this status, and perhaps told to come back after so many seconds.
    Answered(u16, Option<u32>),
}

/// What happens to requests of this method whose path contains this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(pub Method, pub &'static str, pub Fate);

/// A gateway of a test's own.
#[derive(Debug)]
pub struct Gateway {
    rules: watch::Sender<Vec<Rule>>,
    met: watch::Receiver<usize>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// A gateway without a rule, to the API server that this kubeconfig names, and a kubeconfig that goes through it.
    pub async fn start(kubeconfig: &Path) -> (Self, PathBuf) {
        let mut config = access::config(kubeconfig).await;
        let server = config.cluster_url.to_string();
        config.auth_info = kube::config::AuthInfo::default();
        config.default_retry = false;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let address = listener.local_addr().expect("an address");
        let through = write(kubeconfig, server.trim_end_matches('/'), address);
        let (rules, now) = watch::channel(Vec::new());
        let (count, met) = watch::channel(0);
        let asked = Arc::default();
        let log = Arc::clone(&asked);
        // In a thread of its own: a test may block its own.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let client = Client::try_from(config).expect("make a client");
                serve(listener, Service { client, rules: now, met: Arc::new(count), log }).await;
            });
        });
        (Self { rules, met, asked }, through)
    }

    /// From now on, only this rule is in force. What the one before held up goes on.
    pub fn rule(&self, rule: Option<Rule>) {
        self.rules(rule.into_iter().collect());
    }

    /// From now on, only these rules are in force, the first that is about a request.
    pub fn rules(&self, rules: Vec<Rule>) {
        self.rules.send_replace(rules);
    }

    /// Waits until so many requests have met a rule since the start.
    pub async fn wait_met(&self, limit: Duration, number: usize) {
        let mut met = self.met.clone();
        let enough = tokio::time::timeout(limit, met.wait_for(|met| *met >= number)).await.is_ok();
        assert!(enough, "{} of {number} requests met a rule within {limit:?}", *self.met.borrow());
    }

    /// All requests since the start: their method, path and parameters.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests have met a rule since the start.
    pub fn met(&self) -> usize {
        *self.met.borrow()
    }
}

/// The same kubeconfig for another server.
fn write(kubeconfig: &Path, server: &str, address: SocketAddr) -> PathBuf {
    let text = std::fs::read_to_string(kubeconfig).expect("read a kubeconfig");
    let through = kubeconfig.with_file_name(format!("gateway-{}", address.port()));
    std::fs::write(&through, text.replace(server, &format!("http://{address}"))).expect("write a kubeconfig");
    through
}

#[derive(Clone)]
struct Service {
    client: Client,
    rules: watch::Receiver<Vec<Rule>>,
    met: Arc<watch::Sender<usize>>,
    log: Arc<Mutex<Vec<String>>>,
}

/// Serves requests until the gateway is dropped.
async fn serve(listener: std::net::TcpListener, service: Service) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut rules = service.rules.clone();
    let gone = async move { while rules.changed().await.is_ok() {} };
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await.expect("accept a connection");
            let service = service.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let mut service = service.clone();
                    async move { Ok::<_, Infallible>(service.answer(request).await) }
                });
                // A connection that ends with an error ends: that is all there is to say.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    };
    tokio::select! {
        () = gone => {}
        () = accept => {}
    }
}

impl Service {
    async fn answer(&mut self, request: Request<Incoming>) -> Response<Body> {
        let asked = format!("{} {}", request.method(), request.uri());
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        let rules = self.rules.borrow_and_update().clone();
        let meets = |Rule(method, part, _): &&Rule| request.method() == method && request.uri().path().contains(part);
        let fate = rules.iter().find(meets).map(|Rule(_, _, fate)| *fate);
        if fate.is_some() {
            self.met.send_modify(|met| *met += 1);
        }
        match fate {
            Some(Fate::Answered(status, retry_after)) => return refusal(status, retry_after),
            Some(Fate::Held) => self.until_changed().await,
            Some(Fate::AnswerHeld) => {
                let answer = self.forward(request).await;
                self.until_changed().await;
                return answer;
            }
            None => {}
        }
        self.forward(request).await
    }

    async fn until_changed(&mut self) {
        // An error means that the gateway is gone, and all of this with it.
        let _ = self.rules.changed().await;
    }

    async fn forward(&self, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        for header in [HOST, CONNECTION, TRANSFER_ENCODING] {
            parts.headers.remove(header);
        }
        let Ok(body) = body.collect().await else { return refusal(400, None) };
        match self.client.send(Request::from_parts(parts, Body::from(body.to_bytes()))).await {
            Ok(mut answer) => {
                answer.headers_mut().remove(TRANSFER_ENCODING);
                answer
            }
            Err(_) => refusal(502, None),
        }
    }
}

/// As an API server says it.
fn refusal(status: u16, retry_after: Option<u32>) -> Response<Body> {
    let status = StatusCode::from_u16(status).expect("a status");
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status.as_u16(),
        "message": format!("the gateway says {status}"), "reason": "",
    });
    let mut answer = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        answer = answer.header(RETRY_AFTER, seconds);
    }
    answer.body(Body::from(body.to_string().into_bytes())).expect("an answer")
}
