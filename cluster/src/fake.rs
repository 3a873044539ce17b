//! An API server that gives the answers that a test has laid out, in turn.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
};

use futures::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::{Client, client::Body};
use tokio::sync::watch;

/// The fake. Requests beyond its answers get none.
pub(crate) struct Fake {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<Request<Bytes>>>>,
    exhausted: watch::Sender<bool>,
}

impl Fake {
    /// Instead of a status: 200, and a body that is cut off.
    pub(crate) const CUT_OFF: u16 = 0;

    /// With these answers.
    pub(crate) fn new(answers: &[(u16, String)]) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.iter().cloned().collect())),
            asked: Arc::default(),
            exhausted: watch::Sender::new(false),
        }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let (answers, asked, exhausted) = (self.answers.clone(), self.asked.clone(), self.exhausted.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (answers, asked, exhausted) = (answers.clone(), asked.clone(), exhausted.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                asked.lock().expect("no panic").push(Request::from_parts(head, body));
                let answer = answers.lock().expect("no panic").pop_front();
                let Some((status, text)) = answer else {
                    exhausted.send_replace(true);
                    return std::future::pending().await;
                };
                let is_cut_off = status == Self::CUT_OFF;
                let end = is_cut_off.then(|| Err(io::Error::from(io::ErrorKind::ConnectionReset)));
                let body = stream::iter([Ok(Frame::data(Bytes::from(text)))].into_iter().chain(end));
                let status = if is_cut_off { 200 } else { status };
                let response = Response::builder().status(status).body(StreamBody::new(body));
                Ok::<_, Infallible>(response.expect("a response"))
            }
        });
        Client::new(service, "n")
    }

    /// Returns once more was asked than there are answers.
    pub(crate) async fn exhausted(&self) {
        self.exhausted.subscribe().wait_for(|exhausted| *exhausted).await.expect("the sender lives");
    }

    /// What was asked.
    pub(crate) fn asked(&self) -> Vec<Request<Bytes>> {
        self.asked.lock().expect("no panic").clone()
    }

    /// The queries of what was asked.
    pub(crate) fn queries(&self) -> Vec<String> {
        self.asked().iter().map(|request| request.uri().query().unwrap_or_default().to_owned()).collect()
    }
}
