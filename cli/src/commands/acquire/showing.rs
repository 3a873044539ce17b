//! What is told of a claim that is held now.

use std::time::Duration;

use konductor::{Exit, Request};
use konductor_api::GoDuration;
use konductor_cluster::backoff::Backoff;
use serde_json::Value;

use super::ours::{Before, Held, Made, Ours};
use crate::{
    args::OutputArgs,
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::Error,
    kind::ObjectName,
};

/// How long what is held is read to be shown. A part of the shortest time to live: nobody renews it meanwhile, and what
/// cannot be read is known well enough without.
const SHOWING: Duration = Duration::from_secs(2);

/// What of the request that is under way has to do with showing it.
pub(super) struct Showing<'a> {
    pub(super) context: &'a Context,
    pub(super) cluster: &'a Cluster,
    pub(super) lock: &'a ObjectName,
    pub(super) ours: &'a Ours,
    pub(super) request: &'a Request,
    pub(super) output: &'a OutputArgs,
}

impl Showing<'_> {
    /// Says what is held now. An error says that it is held no longer, or that nobody can be told of it.
    pub(super) async fn show(&self, before: &Before, made: Option<&Made>, held: Held) -> Result<(), Error> {
        let Self { context: Context { screen, .. }, lock, request: Request { holder, .. }, .. } = self;
        let until = GoDuration(held.ttl);
        screen.note(&format!("{holder} holds {lock}, for {until} unless it is renewed"));
        if before.granted(held.fencing_token) {
            screen.note(&format!("{holder} held it already: the same claim, renewed"));
        }
        let text = match self.output.look(false) {
            Some(_) => format!("{}\n", held.fencing_token),
            None => self.output.print(self.claim(made, held).await?)?.unwrap_or_default(),
        };
        screen.text(&text);
        match screen.unwritten() {
            Some(error) => {
                let told = format!("{lock} was acquired, and nobody can be told so");
                Err(Error::new(error.exit, told))
            }
            None => Ok(()),
        }
    }

    /// The claim as the API has it, or as far as it is known.
    async fn claim(&self, made: Option<&Made>, held: Held) -> Result<Value, Error> {
        let Self { context, cluster, ours, .. } = self;
        let name = made.map_or(&ours.name, |made| &made.name);
        let path = cluster.path(ours.kind, name);
        let why = match within(SHOWING, async || cluster.call(Call::get(path.clone())).await).await {
            Ok(claim) if ours.is_held(&claim, held) => return Ok(claim),
            Ok(_) => return Err(self.gone()),
            Err(error) if error.is_absent(name) => return Err(self.gone()),
            Err(error) => error,
        };
        let kind = ours.kind;
        context.screen.note(&format!("{kind}/{name} cannot be read: {why}; what is shown of it is what is known"));
        Ok(ours.known(name, made, held, self.request, &cluster.namespace))
    }

    fn gone(&self) -> Error {
        Error::new(Exit::Lost, format!("{} was acquired and is gone again", self.lock))
    }
}

/// The answer to a request that is asked again while its failures may pass, for so long; then the last failure.
async fn within<T>(limit: Duration, mut ask: impl AsyncFnMut() -> Result<T, ApiError>) -> Result<T, ApiError> {
    let mut last = ApiError::Unanswered(format!("no answer within {}", GoDuration(limit)));
    let asking = async {
        let mut backoff = Backoff::default();
        loop {
            match ask().await {
                Err(error) if error.is_passing() => last = error,
                told => return told,
            }
            backoff.pause().await;
        }
    };
    let told = tokio::time::timeout(limit, asking).await;
    told.unwrap_or(Err(last))
}

#[cfg(test)]
mod tests {
    use konductor::Wanted;
    use serde_json::json;

    use super::{
        super::ours::tests::{ours, refused},
        *,
    };

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_shown_by_what_is_known_when_it_cannot_be_read_soon() {
        let began = tokio::time::Instant::now();
        let mut asked = 0;
        let told = within(SHOWING, async || {
            asked += 1;
            if asked == 3 { Ok(()) } else { Err(refused(503, "")) }
        });
        assert!(told.await.is_ok(), "a failure passes");
        let told = within(SHOWING, async || Err::<(), _>(refused(503, ""))).await;
        assert_eq!(told.expect_err("the last failure").code(), Some(503));
        let told = within(SHOWING, async || std::future::pending::<Result<(), _>>().await).await;
        assert!(matches!(told, Err(ApiError::Unanswered(_))), "{told:?}");
        let denied = within(SHOWING, async || Err::<(), _>(refused(403, ""))).await;
        assert_eq!(denied.expect_err("at once").code(), Some(403));
        assert!(began.elapsed() <= 3 * SHOWING, "{:?}", began.elapsed());
        let request = Request {
            wanted: Wanted::Semaphore { name: "s".to_owned(), permits: 1 },
            priority: 0,
            ttl: None,
            holder: "h".to_owned(),
            pod: None,
        };
        let (ours, held) = (ours(), Held { fencing_token: 7, ttl: Duration::from_mins(5) });
        let known = ours.known("s-1", None, held, &request, "etl");
        assert!(ours.is_held(&known, held), "{known}");
        assert_eq!((&known["spec"]["semaphore"], &known["status"]["ttl"]), (&json!("s"), &json!("5m")));
    }
}
