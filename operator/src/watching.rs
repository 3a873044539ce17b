//! Follows sources into the engines' inboxes, and reports how that goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use konductor_cluster::{
    Endpoint, Program,
    follow::{Event, Report, Source},
    object::{Lenient, Object},
    process,
};
use kube::Resource;
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::AbortHandle};
use tracing::error;

use crate::{
    engine::Common,
    faults::{Faults, Noted, note},
    metrics::ResourceLabels,
};

/// Follows all objects of the kind `K`, or those that a field selector selects, and sends what `wrap` makes of each
/// event. Of each object that has what `keep` returns, as soon as it is read. Ends with the receiver, or by the handle.
pub(crate) fn follow<K, S, T, A, E>(
    common: &Common,
    fields: Option<&str>,
    page: u32,
    inbox: mpsc::Sender<E>,
    mut keep: impl FnMut(Lenient<Object<K, S, T>>) -> A + Send + 'static,
    mut wrap: impl FnMut(Event<A>) -> E + Send + 'static,
) -> AbortHandle
where
    K: Resource<DynamicType = ()> + Send + 'static,
    S: DeserializeOwned + Send + 'static,
    T: DeserializeOwned + Default + Send + 'static,
    A: Send + 'static,
    E: Send + 'static,
{
    let endpoint = Endpoint::all(common.client.clone(), Program::OPERATOR);
    let source: Source<K, S, T> = Source { endpoint, fields: fields.map(Into::into), page };
    let resource = K::plural(&()).into_owned();
    let watch = common.metrics.register_watch(resource.clone());
    let (metrics, restored) = (common.metrics.clone(), common.restored.clone());
    let faults = Arc::new(Mutex::new(Faults::of::<K>(common.metrics.clone(), common.recorder.clone())));
    let (seen, mut leading) = (common.leading.clone(), common.leading.clone());
    let (noted, known) = (faults.clone(), faults);
    let keep = move |object| (note(&object), keep(object));
    let read = move |event: Event<(Noted, A)>| {
        lock(&noted).observe(&event, *seen.borrow());
        Some(wrap(event.map(|(_, kept)| kept)))
    };
    let report = move |report| match report {
        Report::Following => watch.report(Ok(())),
        Report::Failing { why } => watch.report(Err(why)),
        Report::Restarting => watch.restarts(&resource),
        Report::Illegible { .. } => {
            metrics.illegible.get_or_create(&ResourceLabels { resource: resource.clone() }).inc();
        }
        Report::WentBack { seen, listed } => {
            let what = format!("{resource} are as of version {listed}, and had been seen as of version {seen}");
            error!("{what}");
            // One is enough to start over; more say the same.
            let _ = restored.try_send(what);
        }
    };
    let following = async move {
        let tell = async move {
            while leading.changed().await.is_ok() {
                if *leading.borrow_and_update() {
                    lock(&known).tell_all();
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = source.follow(inbox, keep, read, report) => {}
            () = tell => {}
        }
    };
    process::spawn(following).abort_handle()
}

fn lock(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}
