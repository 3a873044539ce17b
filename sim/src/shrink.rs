//! The shortest history that still fails: what can be left out of a plan is left out.

use crate::{
    plan::{Awaited, Plan, Target, Weather, What, Who},
    world::live,
};

/// What kind of thing was broken: the promise that it names, or its first words that are no names or numbers.
fn kind(what: &str) -> String {
    if let Some((promise, _)) = what.split_once(": ") {
        return promise.to_owned();
    }
    let is_word = |word: &&str| word.chars().all(char::is_alphabetic);
    what.split(' ').filter(is_word).take(4).collect::<Vec<_>>().join(" ")
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

fn changed(plan: &Plan, change: &dyn Fn(&mut Plan)) -> Plan {
    let mut changed = plan.clone();
    change(&mut changed);
    changed
}

/// Plans with a little less in them.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Plan)| plans.push(changed(plan, change));
    for at in 0..plan.events.len() {
        offer(&|plan| {
            plan.events.remove(at);
        });
    }
    if plan.servers > 1 {
        offer(&|plan| {
            plan.servers = 1;
            plan.events.retain(|(_, what)| !matches!(what, What::Replace(..)));
        });
    }
    if plan.page > 0 {
        offer(&|plan| plan.page = 0);
    }
    without_somebody(plan, &mut offer);
    for at in 0..plan.clients.len() {
        if plan.clients[at].times > 1 {
            offer(&|plan| plan.clients[at].times = 1);
        }
        if let Some(wrapper) = &plan.clients[at].wrapper {
            offer(&|plan| plan.clients[at].wrapper = None);
            if wrapper.beside.is_some() || wrapper.leaves.is_some() {
                offer(&|plan| {
                    if let Some(wrapper) = &mut plan.clients[at].wrapper {
                        (wrapper.beside, wrapper.leaves) = (None, None);
                    }
                });
            }
        }
        if let Some(wrapper) = &plan.clients[at].wrapper
            && (wrapper.wait_timeout.is_some() || wrapper.any_end)
        {
            offer(&|plan| {
                if let Some(wrapper) = &mut plan.clients[at].wrapper {
                    (wrapper.wait_timeout, wrapper.any_end) = (None, false);
                }
            });
        }
        if plan.clients[at].dies {
            offer(&|plan| plan.clients[at].dies = false);
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

/// Offers plans without one of those who are in it, or without a kind of what they wait for.
fn without_somebody(plan: &Plan, offer: &mut impl FnMut(&dyn Fn(&mut Plan))) {
    for number in 0..plan.clients.len() {
        if plan.clients.len() > 1 {
            offer(&|plan| leave_out_client(plan, number));
        }
    }
    if plan.operators.len() > 1 {
        offer(&|plan| {
            plan.operators.pop();
            let gone = Who::Operator(plan.operators.len());
            plan.events.retain(|(_, what)| {
                who(what) != Some(gone)
                    && !matches!(what, What::SuspendOperator(number, _) if Who::Operator(*number) == gone)
            });
        });
    }
    if !plan.barriers.is_empty() {
        offer(&|plan| {
            plan.barriers.clear();
            for client in &mut plan.clients {
                client.arrives = None;
                client.awaits = client.awaits.filter(|awaited| !matches!(awaited, Awaited::Barrier(_)));
            }
            plan.events.retain(|(_, what)| {
                !matches!(what, What::Expect(..) | What::RecreateBarrier(..) | What::Unservable(Target::Barrier(_), _))
            });
        });
    }
    if !plan.gates.is_empty() || !plan.sides.is_empty() {
        offer(&|plan| {
            plan.gates.clear();
            plan.sides.clear();
            for client in &mut plan.clients {
                client.awaits = client.awaits.filter(|awaited| !matches!(awaited, Awaited::Gate(_)));
            }
            plan.events.retain(|(_, what)| {
                let is_of_jobs = matches!(what, What::FailJob(..) | What::DeleteJob(..));
                !is_of_jobs
                    && !matches!(
                        what,
                        What::RecreateGate(..) | What::GatesFrom(_) | What::Unservable(Target::Gate(_), _)
                    )
            });
        });
    }
    if !plan.sides.is_empty() {
        offer(&|plan| {
            plan.sides.pop();
            let gone = plan.gates.len() + plan.sides.len();
            plan.events.retain(|(_, what)| {
                !matches!(what, What::RecreateGate(number, _) | What::Unservable(Target::Gate(number), _) if *number == gone)
            });
        });
    }
}

/// The process that something happens to.
fn who(what: &What) -> Option<Who> {
    match what {
        What::Crash(who, _)
        | What::Freeze(who, _)
        | What::Cut(who, _)
        | What::Forbid(who, _)
        | What::SetClock(who, _) => Some(*who),
        _ => None,
    }
}

/// Leaves out a client and what happens to it; those after it have another number then.
fn leave_out_client(plan: &mut Plan, number: usize) {
    plan.clients.remove(number);
    let renumber = |client: &mut usize| {
        let is_it = *client == number;
        *client -= usize::from(*client > number);
        !is_it
    };
    plan.events.retain_mut(|(_, what)| match what {
        What::Crash(Who::Client(client), _)
        | What::Freeze(Who::Client(client), _)
        | What::Cut(Who::Client(client), _)
        | What::Forbid(Who::Client(client), _)
        | What::SetClock(Who::Client(client), _)
        | What::Revoke(client)
        | What::Delete(client)
        | What::DeletePod(client, _)
        | What::Suspend(client, _)
        | What::LoseNode { client, .. }
        | What::Unservable(Target::ClaimsOf(client) | Target::PodOf(client), _) => renumber(client),
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::Mutation;

    #[test]
    fn what_is_broken_is_known_by_the_promise_and_not_by_who_breaks_it() {
        assert_eq!(kind("I2: client 3 outlives"), kind("I2: client 4 outlives"));
        assert_eq!(kind("the claim a-1 expires when all is well"), kind("the claim b-2 expires when all is well"));
        assert_ne!(kind("the claim a-1 expires when all is well"), kind("the claim a-1 is to be given back"));
    }

    #[test]
    fn every_plan_that_is_offered_names_only_who_is_in_it() {
        let mut offered = 0;
        for seed in 1..400 {
            for plan in smaller(&Plan::of(seed)) {
                offered += 1;
                let (clients, gates) = (plan.clients.len(), plan.gates.len() + plan.sides.len());
                for (_, what) in &plan.events {
                    let is_there = match what {
                        What::Crash(who, _)
                        | What::Freeze(who, _)
                        | What::Cut(who, _)
                        | What::Forbid(who, _)
                        | What::SetClock(who, _) => match who {
                            Who::Client(client) => *client < clients,
                            Who::Operator(operator) => *operator < plan.operators.len(),
                        },
                        What::SuspendOperator(operator, _) => *operator < plan.operators.len(),
                        What::Revoke(client)
                        | What::Delete(client)
                        | What::DeletePod(client, _)
                        | What::Suspend(client, _)
                        | What::LoseNode { client, .. }
                        | What::Unservable(Target::ClaimsOf(client) | Target::PodOf(client), _) => *client < clients,
                        What::RecreateGate(gate, _) | What::Unservable(Target::Gate(gate), _) => *gate < gates,
                        What::FailJob(gate, _) | What::DeleteJob(gate, _) => *gate < plan.gates.len(),
                        What::Expect(barrier, _)
                        | What::RecreateBarrier(barrier, _)
                        | What::Unservable(Target::Barrier(barrier), _) => *barrier < plan.barriers.len(),
                        _ => true,
                    };
                    assert!(is_there, "seed {seed}: {what:?} in {plan:#?}");
                }
            }
        }
        assert!(offered > 1000, "{offered}");
    }

    #[test]
    fn a_shrunk_plan_fails_as_the_whole_one_does_and_has_less_in_it() {
        let (plan, what) = (1..60)
            .find_map(|seed| {
                let plan = Plan { mutation: Some(Mutation::RenewalsAreForgotten), ..Plan::of(seed) };
                let broken = live(&plan, false).broken.into_iter().next()?;
                Some((plan, broken.what))
            })
            .expect("one that fails");
        let shrunk = shrink(&plan).expect("it fails");
        let again = live(&shrunk, false).broken.into_iter().next().expect("it fails, too");
        assert_eq!(kind(&again.what), kind(&what));
        assert!(shrunk.events.len() <= plan.events.len() && shrunk.clients.len() <= plan.clients.len());
    }
}
