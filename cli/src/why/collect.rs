//! Reads what a walk asks for, and nothing else.

use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::{
    Question, Step, explain,
    limits::PAGE,
    read::read,
    reason::{Answer, Unseen, UnseenWhy},
    world::{Batch, Known, Need, Which},
};
use crate::{
    cluster::{ApiError, Call, Cluster},
    trouble::binding,
};

/// Requests at once: enough that holders' pods come together, and few beside what else the API server has to do.
const AT_ONCE: usize = 8;

/// The answer, from what is there now. Each round reads something that was not known before, and the number of reads is
/// bounded ([`READS`](super::limits::READS)), so this ends.
pub(crate) async fn collect(cluster: &Cluster, question: &Question, now: Timestamp) -> Answer {
    let mut known = Known::new();
    loop {
        match explain(question, &known, now) {
            Step::Answer(answer) => return *answer,
            Step::Read(needs) => {
                let reads = needs.into_iter().map(|need| async {
                    let batch = fetch(cluster, &need).await;
                    (need, batch)
                });
                known.extend(stream::iter(reads).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
            }
        }
    }
}

/// Reads what is needed.
async fn fetch(cluster: &Cluster, need: &Need) -> Result<Batch, Box<Unseen>> {
    let path = need.kind.resource().path(need.namespace.as_deref());
    let (parameter, selector, most) = match &need.which {
        Which::Named(name) => {
            return match cluster.call(Call::get(format!("{path}/{name}"))).await {
                Ok(object) => {
                    Ok(Batch { items: read(need.kind, &object.to_string()).into_iter().collect(), more: false })
                }
                Err(error) if error.is_absent(name) => Ok(Batch::default()),
                Err(error) => Err(Box::new(unseen(need, "get", &error))),
            };
        }
        Which::Fields(fields, most) => ("fieldSelector", fields.as_str(), *most),
        Which::Labels(labels, most) => ("labelSelector", labels.as_str(), *most),
        Which::Any(most) => ("labelSelector", "", *most),
    };
    let mut batch = Batch::default();
    let mut token = String::new();
    loop {
        let limit = most.saturating_sub(batch.items.len()).min(PAGE);
        let call = Call::get(&path).with(parameter, selector).with("limit", limit.to_string()).with("continue", &token);
        let page = cluster.call(call).await.map_err(|error| Box::new(unseen(need, "list", &error)))?;
        let items = page["items"].as_array().into_iter().flatten();
        batch.items.extend(items.filter_map(|item| read(need.kind, &item.to_string())));
        page["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut token);
        // A page without items could be followed by another one for ever.
        if token.is_empty() || batch.items.len() >= most || page["items"].as_array().is_none_or(Vec::is_empty) {
            batch.more = !token.is_empty();
            return Ok(batch);
        }
    }
}

/// Why it could not be read.
fn unseen(need: &Need, verb: &str, error: &ApiError) -> Unseen {
    let why = match error {
        error if error.is_forbidden() => UnseenWhy::Forbidden,
        error if error.is_not_served() => UnseenWhy::NotServed,
        _ => UnseenWhy::Failed,
    };
    Unseen {
        verb: verb.into(),
        resource: need.kind.resource().qualified_plural(),
        namespace: need.namespace.clone(),
        why,
        message: error.to_string(),
        command: binding(&error.to_string()),
    }
}
