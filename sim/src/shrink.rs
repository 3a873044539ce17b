//! The shortest history that still fails: what can be left out of a plan is left out.

use crate::{
    plan::{Plan, Thing, Weather, What, Who},
    world::live,
};

/// What kind of thing was broken: the first word of it.
fn kind(what: &str) -> String {
    what.split([':', ' ']).next().unwrap_or_default().to_owned()
}

/// A plan that fails in the same way as this one, if this one fails, with as little in it as could be found.
pub fn shrink(plan: &Plan) -> Option<Plan> {
    let wanted = kind(&live(plan, false).broken.first()?.what);
    let fails = |plan: &Plan| live(plan, false).broken.first().is_some_and(|broken| kind(&broken.what) == wanted);
    let mut least = plan.clone();
    loop {
        let better = smaller(&least).into_iter().find(|plan| fails(plan));
        match better {
            Some(better) => least = better,
            None => return Some(least),
        }
    }
}

/// Plans with a little less in them.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        plans.push(smaller);
    };
    for at in 0..plan.events.len() {
        offer(&|plan| {
            plan.events.remove(at);
        });
    }
    let last = plan.clients.len() - 1;
    if plan.servers > 1 {
        offer(&|plan| {
            plan.servers = 1;
            plan.events.retain(|(_, what)| !matches!(what, What::Replace(..)));
        });
    }
    if plan.page > 0 {
        offer(&|plan| plan.page = 0);
    }
    let is_used = plan.events.iter().any(|(_, what)| {
        matches!(what, What::Crash(who, _) | What::Freeze(who, _) | What::Cut(who, _) | What::Forbid(who, _)
            | What::SetClock(who, _) if *who == Who::Client(last))
            || matches!(what, What::Revoke(client) | What::Delete(client) | What::DeletePod(client, _)
                | What::Suspend(client, _) | What::LoseNode { client, .. }
                | What::Sick(Thing::ClaimsOf(client), _) if *client == last)
    });
    if last > 0 && !is_used && plan.barriers.is_empty() {
        offer(&|plan| {
            plan.clients.pop();
        });
    }
    if !plan.sides.is_empty() {
        offer(&|plan| {
            plan.sides.pop();
        });
    }
    for at in 0..plan.clients.len() {
        if plan.clients[at].times > 1 {
            offer(&|plan| plan.clients[at].times = 1);
        }
        if plan.clients[at].wrapper.is_some() {
            offer(&|plan| plan.clients[at].wrapper = None);
        }
        if plan.clients[at].drift != 0 {
            offer(&|plan| plan.clients[at].drift = 0);
        }
    }
    let setters: [fn(&mut Weather); 9] = [
        |weather| weather.lost = 0,
        |weather| weather.unanswered = 0,
        |weather| weather.late = 0,
        |weather| weather.refused = 0,
        |weather| weather.cut = 0,
        |weather| weather.lag = 0,
        |weather| weather.way = 1,
        |weather| weather.behind = 0,
        |weather| weather.moves = 0,
    ];
    for set in setters {
        let mut weather = plan.weather;
        set(&mut weather);
        if format!("{weather:?}") != format!("{:?}", plan.weather) {
            offer(&|plan| set(&mut plan.weather));
        }
    }
    plans
}
