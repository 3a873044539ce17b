//! What holding costs the API server: renewals, by its own count, and what they come to in an hour with other TTLs.

use std::time::Duration;

use futures::{StreamExt, stream};
use konductor::Boottime;

use crate::Effort;
use crate::footprint::processor;
use crate::sample::Figure;
use crate::scene::Scene;
use crate::table::{Row, Table};
use crate::writes::Counts;

/// TTLs that are short enough for many renewals within what the bench takes.
const SHORT: [u64; 2] = [15, 30];

/// Holders whose renewals and watches go over one connection.
const HOLDERS_PER_CLIENT: usize = 50;

/// The holders that an hour is computed for.
const THOUSAND: f64 = 1000.0;

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    let mut of_a_ttl = 0.0;
    for ttl in SHORT.map(Duration::from_secs) {
        let semaphore = format!("renewals-{}", ttl.as_secs());
        scene.semaphore(&semaphore, effort.holders).await;
        let mut clients = Vec::new();
        for _ in 0..effort.holders.div_ceil(HOLDERS_PER_CLIENT) {
            clients.push(scene.client().await);
        }
        let acquire = async |number: usize| {
            let lock = clients[number / HOLDERS_PER_CLIENT].semaphore(semaphore.clone()).ttl(ttl);
            lock.acquire().await.expect("acquire a permit")
        };
        let guards: Vec<_> = stream::iter(0..effort.holders).map(acquire).buffer_unordered(32).collect().await;
        scene.wait_in_use(&semaphore, effort.holders).await;
        let (operator, server) = (scene.operator.pid(), scene.control_plane.api_server.pid());
        let (start, counts) = (Boottime::now(), Counts::now(scene).await);
        let spent = [operator, server].map(processor);
        tokio::time::sleep(effort.hold).await;
        let took = Boottime::now().since(start);
        let spent = [processor(operator).saturating_sub(spent[0]), processor(server).saturating_sub(spent[1])];
        let renewals = Counts::now(scene).await.since(&counts).of("PATCH", "permits");
        let ttls = took.as_secs_f64() / ttl.as_secs_f64() * effort.holders as f64;
        of_a_ttl = renewals / ttls;
        let [operator, server] = spent.map(|time| Figure(time.as_secs_f64() * 1000.0 / renewals.max(1.0)));
        let what = format!("renewals of {} holders in {} s, TTL {} s", effort.holders, took.as_secs(), ttl.as_secs());
        let found = format!("{renewals}: {} of each in a TTL", Figure(of_a_ttl));
        table.push(Row::new(what, found).beside(format!("CPU each: API server {server} ms, operator {operator} ms")));
        for guard in guards {
            guard.release().await.expect("release a permit");
        }
        scene.clear(&semaphore).await;
    }
    let an_hour = |ttl: f64| Figure(THOUSAND * of_a_ttl * 3600.0 / ttl);
    let found = format!(
        "15s: {}; 5m: {}; 30m: {}; 1h: {}; 4h: {}",
        an_hour(15.0),
        an_hour(300.0),
        an_hour(1800.0),
        an_hour(3600.0),
        an_hour(14_400.0)
    );
    let row = Row::new("renewals of 1,000 holders in an hour, computed from that, by TTL", found);
    table.push(row.ratio(300.0 / 3600.0).goal("<= 0.1 of 5m's where the kubelet's word serves: 1h"));
}
