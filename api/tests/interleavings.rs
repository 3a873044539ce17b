//! An exhaustive search of what two operators that both believe they lead, their clients and a faulty API can do in
//! any order. It drives the real [`View`] and [`decide`]; only the API server, the network and the clients are modelled.
//!
//! Each rule of the protocol is also taken out once, by a fault of the surroundings and never by a switch in the code under
//! test, and the search must then find two holders of one permit. That shows that the search can fail, and that the
//! rule is needed.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    time::Duration,
};

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, LockKind, Queueing,
    arbiter::{
        Change, Claim, ClaimState, Now, Outcome, Parent, ParentState, ParentSummary, Reign, Subject, View, Write,
        decide,
    },
};

/// A rule that is taken out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Without {
    Nothing,
    /// `settledTerm` is forgotten whenever the term is raised, so a new leader adopts grants of any age.
    SettledTerm,
    /// Re-stamps are reported as done while they are still on their way.
    RestampWait,
    /// An operator is never shown a term above its own.
    StopOnHigherTerm,
    /// The API server ignores resourceVersions.
    Precondition,
    /// Clients trust a grant without reading the parent.
    Confirmation,
}

#[derive(Clone, Copy)]
struct Bounds {
    claims: usize,
    /// How often an operator may come to believe that it leads, after the first one has settled.
    takeovers: u8,
    /// How many requests may stay without an answer and arrive later all the same, or never.
    unanswered: u8,
}

#[derive(Clone, Hash)]
enum Client {
    Waiting,
    /// Has seen a grant of this term, perhaps long ago.
    Saw(u64),
    Holding,
    Done,
}

#[derive(Clone, Hash)]
struct Flight {
    write: Write,
    /// The operator has given up on the answer.
    unanswered: bool,
}

#[derive(Clone, Hash)]
struct Operator {
    view: View,
    /// The versions it was shown, so that nothing is shown twice: of the parent, and of each claim.
    seen: Vec<u64>,
    flights: Vec<Flight>,
    listing: Option<u64>,
}

#[derive(Clone, Hash)]
struct World {
    parent: Parent,
    claims: Vec<Option<Rc<Claim>>>,
    clients: Vec<Client>,
    operators: Vec<Rc<Operator>>,
    takeovers: u8,
    unanswered: u8,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Lead(usize),
    ObserveParent(usize),
    ObserveClaim(usize, usize),
    List(usize),
    Arrive(usize, usize),
    GiveUp(usize, usize),
    ClientSees(usize),
    ClientConfirms(usize),
    ClientReleases(usize),
}

/// Everything happens at this time, failures a retry's pause before it, so that no decision waits for time to pass.
const NOW: Now = Now { monotonic: Duration::from_secs(1), wall: Timestamp::UNIX_EPOCH };
const FAILED_AT: Now = Now { monotonic: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };

/// Writes make versions even, so that an odd one can be invented between two of them. Each object counts its own:
/// versions of different objects are never compared, and more orders of events lead to the same state.
const VERSION_STEP: u64 = 2;

/// The version at which a deleted claim is seen as such.
const DELETED: u64 = u64::MAX;

impl World {
    fn new(bounds: Bounds) -> Self {
        let claims: Vec<_> = (0..bounds.claims).map(|index| Some(Rc::new(claim(index)))).collect();
        let summary = ParentSummary { generation: Some(1), ..ParentSummary::default() };
        let parent = Parent {
            uid: "parent".into(),
            version: VERSION_STEP,
            generation: 1,
            created: 1,
            capacity: 1,
            ttl: Duration::from_mins(1),
            queueing: Queueing::StrictFIFO,
            state: ParentState { summary, ..ParentState::default() },
        };
        let operator = Operator {
            view: View::new(LockKind::Semaphore, "s"),
            seen: vec![0; claims.len() + 1],
            flights: vec![],
            listing: None,
        };
        let mut world = Self {
            parent,
            clients: vec![Client::Waiting; claims.len()],
            claims,
            operators: vec![Rc::new(operator.clone()), Rc::new(operator)],
            takeovers: bounds.takeovers + 1,
            unanswered: bounds.unanswered,
        };
        for operator in 0..2 {
            world = world.after(Action::ObserveParent(operator), Without::Nothing);
            for claim in 0..bounds.claims {
                world = world.after(Action::ObserveClaim(operator, claim), Without::Nothing);
            }
        }
        world = world.after(Action::Lead(0), Without::Nothing);
        while !matches!(world.operators[0].view.reign(), Reign::Settled { .. }) {
            let next = if world.operators[0].listing.is_some() { Action::List(0) } else { Action::Arrive(0, 0) };
            world = world.after(next, Without::Nothing);
        }
        world
    }

    fn holders(&self) -> usize {
        self.clients.iter().filter(|client| matches!(client, Client::Holding)).count()
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = vec![];
        for (index, operator) in self.operators.iter().enumerate() {
            // Whoever does not lead, or was deposed without having noticed, may come to lead.
            if self.takeovers > 0 && own_term(&operator.view) < self.parent.state.term.max(1) {
                actions.push(Action::Lead(index));
            }
            // What an operator sees while it decides nothing makes no difference before it leads, and then it can see it.
            let leads = !matches!(operator.view.reign(), Reign::Standby | Reign::StoodDown { .. });
            if leads && operator.seen[0] < self.parent.version {
                actions.push(Action::ObserveParent(index));
            }
            let news = self.claims.iter().zip(&operator.seen[1..]).enumerate();
            let news = news
                .filter(|(_, (claim, seen))| leads && **seen < claim.as_ref().map_or(DELETED, |claim| claim.version));
            actions.extend(news.map(|(claim, _)| Action::ObserveClaim(index, claim)));
            if operator.listing.is_some() {
                actions.push(Action::List(index));
            }
            for (flight, on_its_way) in operator.flights.iter().enumerate() {
                actions.push(Action::Arrive(index, flight));
                if self.unanswered > 0 && !on_its_way.unanswered {
                    actions.push(Action::GiveUp(index, flight));
                }
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            match client {
                Client::Waiting if self.granted_term(index).is_some() => actions.push(Action::ClientSees(index)),
                Client::Saw(_) => actions.push(Action::ClientConfirms(index)),
                Client::Holding => actions.push(Action::ClientReleases(index)),
                Client::Waiting | Client::Done => {}
            }
        }
        actions
    }

    fn granted_term(&self, claim: usize) -> Option<u64> {
        let state = &self.claims[claim].as_ref()?.state;
        (state.phase == Some(ClaimPhase::Granted)).then_some(state.term)
    }

    fn after(&self, action: Action, without: Without) -> Self {
        let mut next = self.clone();
        match action {
            Action::Lead(operator) => {
                next.takeovers -= 1;
                next.operator(operator).view.stand_down();
                next.operator(operator).view.lead(NOW);
                next.decide(operator, without);
            }
            Action::ObserveParent(operator) => {
                next.show_parent(operator, without);
                next.decide(operator, without);
            }
            Action::ObserveClaim(operator, claim) => {
                next.show_claim(operator, &uid(claim), without);
                next.decide(operator, without);
            }
            Action::List(operator) => {
                if let Some(term) = next.operator(operator).listing.take() {
                    let claims = next.claims.iter().flatten().map(|claim| next.shown_claim(operator, claim, without));
                    let claims = claims.collect();
                    next.operator(operator).view.listed(term, claims, NOW);
                }
                next.decide(operator, without);
            }
            Action::Arrive(operator, flight) => next.arrive(operator, flight, without),
            Action::GiveUp(operator, flight) => {
                next.unanswered -= 1;
                next.operator(operator).flights[flight].unanswered = true;
                let write = next.operators[operator].flights[flight].write.clone();
                next.failed(operator, &write, Outcome::Unknown, without);
            }
            Action::ClientSees(client) => {
                if let Some(term) = next.granted_term(client) {
                    next.clients[client] = Client::Saw(term);
                }
            }
            Action::ClientConfirms(client) => {
                let confirmed = matches!(next.clients[client], Client::Saw(term) if term == next.parent.state.term);
                let trusted = confirmed || without == Without::Confirmation;
                next.clients[client] = if trusted { Client::Holding } else { Client::Waiting };
            }
            Action::ClientReleases(client) => {
                next.clients[client] = Client::Done;
                next.claims[client] = None;
                next.forget_hopeless_flights(without);
            }
        }
        next
    }

    fn arrive(&mut self, operator: usize, flight: usize, without: Without) {
        let Flight { write, unanswered } = self.operator(operator).flights.remove(flight);
        let applied = self.apply(&write, without);
        if unanswered {
            return;
        }
        if !applied {
            return self.failed(operator, &write, Outcome::NotApplied, without);
        }
        match &write.subject {
            Subject::Parent { .. } => {
                let parent = self.shown_parent(operator, without);
                self.operator(operator).seen[0] = parent.version;
                self.operator(operator).view.acknowledged_parent(&write, parent, NOW);
            }
            Subject::Claim { uid, .. } => {
                if let Some(claim) = self.claim(uid).map(|claim| self.shown_claim(operator, claim, without)) {
                    let index = self.index(uid);
                    self.operator(operator).seen[index + 1] = claim.version;
                    self.operator(operator).view.acknowledged_claim(&write, claim, NOW);
                }
            }
        }
        self.decide(operator, without);
    }

    fn failed(&mut self, operator: usize, write: &Write, outcome: Outcome, without: Without) {
        match &write.subject {
            Subject::Parent { .. } => self.show_parent(operator, without),
            Subject::Claim { uid, .. } => self.show_claim(operator, uid, without),
        }
        self.operator(operator).view.failed(write, outcome, FAILED_AT);
        self.decide(operator, without);
    }

    fn decide(&mut self, operator: usize, without: Without) {
        let Operator { view, flights, listing, .. } = Rc::make_mut(&mut self.operators[operator]);
        let plan = decide(view, NOW);
        view.sent(&plan, NOW);
        if let Some(term) = plan.list {
            *listing = Some(term);
        }
        for write in plan.writes {
            match &write.change {
                Change::Restamp(state) if without == Without::RestampWait => {
                    let known = self.claims.iter().flatten().find(|claim| claim.uid == write.subject.uid());
                    flights.push(Flight { write: write.clone(), unanswered: true });
                    if let Some(claim) = known {
                        let done = Claim { version: write.version + 1, state: state.clone(), ..Claim::clone(claim) };
                        view.acknowledged_claim(&write, done, NOW);
                    }
                }
                _ => flights.push(Flight { write, unanswered: false }),
            }
        }
        if without == Without::RestampWait
            && matches!(view.reign(), Reign::Restamping { .. })
            && flights.iter().all(|f| f.unanswered)
        {
            let plan = decide(view, NOW);
            view.sent(&plan, NOW);
            flights.extend(plan.writes.into_iter().map(|write| Flight { write, unanswered: false }));
        }
    }

    /// The API server carries a write out, or refuses it.
    fn apply(&mut self, write: &Write, without: Without) -> bool {
        let unchanged = |known: u64| without == Without::Precondition || known == write.version;
        match &write.subject {
            Subject::Parent { .. } => {
                if !unchanged(self.parent.version) {
                    return false;
                }
                let (Change::Raise(state) | Change::Settle(state) | Change::Summarize(state)) = &write.change else {
                    panic!("a change of a claim for the parent: {write:?}")
                };
                // What only people read does not tell states apart.
                let summary = std::mem::take(&mut self.parent.state.summary);
                self.parent.state = ParentState { summary, ..state.clone() };
                // As old as any grant. 0 would say that nobody ever settled, and operators that saw otherwise know better.
                if without == Without::SettledTerm && matches!(write.change, Change::Raise(_)) {
                    self.parent.state.settled_term = 1;
                }
                self.parent.version += VERSION_STEP;
            }
            Subject::Claim { uid, .. } => {
                let claim = self.claims.iter_mut().flatten().find(|claim| claim.uid == *uid);
                let Some(claim) = claim.map(Rc::make_mut) else { return false };
                if !unchanged(claim.version) {
                    return false;
                }
                let (Change::Grant(state)
                | Change::Restamp(state)
                | Change::SendBack(state)
                | Change::Revoke(state)
                | Change::Expire(state)
                | Change::Tell(state)) = &write.change
                else {
                    panic!("nothing expires here: {write:?}")
                };
                claim.state = ClaimState { token: None, ..state.clone() };
                claim.version += VERSION_STEP;
            }
        }
        self.forget_hopeless_flights(without);
        true
    }

    /// What nobody waits for and the API server would refuse makes no difference any more.
    fn forget_hopeless_flights(&mut self, without: Without) {
        if without == Without::Precondition {
            return;
        }
        let versions: HashMap<String, u64> = self.claims.iter().flatten().map(|c| (c.uid.clone(), c.version)).collect();
        let parent = self.parent.version;
        for operator in self.operators.iter_mut().map(Rc::make_mut) {
            operator.flights.retain(|Flight { write, unanswered }| {
                let current = match &write.subject {
                    Subject::Parent { .. } => Some(&parent),
                    Subject::Claim { uid, .. } => versions.get(uid),
                };
                !unanswered || current == Some(&write.version)
            });
        }
    }

    fn operator(&mut self, index: usize) -> &mut Operator {
        Rc::make_mut(&mut self.operators[index])
    }

    fn index(&self, named: &str) -> usize {
        (0..self.claims.len()).find(|index| uid(*index) == named).expect("only these claims exist")
    }

    fn claim(&self, uid: &str) -> Option<&Claim> {
        self.claims[self.index(uid)].as_deref()
    }

    fn show_parent(&mut self, operator: usize, without: Without) {
        let parent = self.shown_parent(operator, without);
        self.operator(operator).seen[0] = parent.version;
        self.operator(operator).view.observe_parent(parent, NOW);
    }

    fn show_claim(&mut self, operator: usize, uid: &str, without: Without) {
        let index = self.index(uid);
        let version = self.claims[index].as_ref().map_or(DELETED, |claim| claim.version);
        self.operator(operator).seen[index + 1] = version;
        match self.claim(uid).map(|claim| self.shown_claim(operator, claim, without)) {
            Some(claim) => self.operator(operator).view.observe_claim(claim, NOW),
            None => self.operator(operator).view.claim_gone(uid, NOW),
        }
    }

    /// Whether this term must not be shown to the operator.
    fn hidden(&self, operator: usize, term: u64, without: Without) -> bool {
        let own = own_term(&self.operators[operator].view);
        without == Without::StopOnHigherTerm && own > 0 && term > own
    }

    fn shown_parent(&self, operator: usize, without: Without) -> Parent {
        let mut parent = self.parent.clone();
        if self.hidden(operator, parent.state.term, without) {
            let own = own_term(&self.operators[operator].view);
            parent.state = ParentState { term: own, settled_term: parent.state.settled_term.min(own), ..parent.state };
        }
        parent
    }

    fn shown_claim(&self, operator: usize, claim: &Claim, without: Without) -> Claim {
        let mut claim = claim.clone();
        if self.hidden(operator, claim.state.term, without) {
            claim.state.term = own_term(&self.operators[operator].view) - 1;
        }
        claim
    }
}

/// The term in which the operator decides; 0 when it does not.
fn own_term(view: &View) -> u64 {
    match *view.reign() {
        Reign::Listing { term, .. } | Reign::Restamping { term } | Reign::Settled { term } => term,
        Reign::Standby | Reign::Raising | Reign::StoodDown { .. } => 0,
    }
}

fn uid(index: usize) -> String {
    format!("claim-{index}")
}

/// A waiter that has been told so already: tellings are not what is searched here.
fn claim(index: usize) -> Claim {
    let state = ClaimState {
        phase: Some(ClaimPhase::Pending),
        ticket: Some(index as u64),
        ahead: Some(0),
        message: Some("waits for semaphore s".into()),
        ..ClaimState::default()
    };
    Claim {
        uid: uid(index),
        name: uid(index),
        version: VERSION_STEP,
        generation: 1,
        created: 1,
        weight: 1,
        priority: 0,
        holder: uid(index),
        pod: None,
        ttl: None,
        renewed: None,
        revoke: None,
        deleting: false,
        state,
    }
}

struct Found {
    states: usize,
    violation: Option<Vec<Action>>,
    /// The most claims that were released in one state: shows that the search gets somewhere.
    most_done: usize,
}

fn search(bounds: Bounds, without: Without) -> Found {
    let start = World::new(bounds);
    let fingerprint = |world: &World| {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        hasher.finish()
    };
    let first = fingerprint(&start);
    let mut reached: HashMap<u64, Option<(u64, Action)>> = HashMap::from([(first, None)]);
    let mut frontier = VecDeque::from([(first, start)]);
    let mut most_done = 0;
    while let Some((print, world)) = frontier.pop_front() {
        most_done = most_done.max(world.clients.iter().filter(|client| matches!(client, Client::Done)).count());
        if world.holders() > 1 {
            let mut path = vec![];
            let mut at = print;
            while let Some(Some((before, action))) = reached.get(&at) {
                path.push(*action);
                at = *before;
            }
            path.reverse();
            return Found { states: reached.len(), violation: Some(path), most_done };
        }
        for action in world.actions() {
            let next = world.after(action, without);
            let next_print = fingerprint(&next);
            if let std::collections::hash_map::Entry::Vacant(vacant) = reached.entry(next_print) {
                vacant.insert(Some((print, action)));
                frontier.push_back((next_print, next));
            }
        }
    }
    Found { states: reached.len(), violation: None, most_done }
}

fn never_over_admits(bounds: Bounds) {
    let found = search(bounds, Without::Nothing);
    eprintln!("{} states", found.states);
    assert!(found.violation.is_none(), "two holders of one permit after {:#?}", found.violation);
    assert_eq!(found.most_done, bounds.claims, "the search ends before all claims were served");
}

fn over_admits(bounds: Bounds, without: Without) {
    let found = search(bounds, without);
    eprintln!("without {without:?}: {} states, {:?}", found.states, found.violation);
    assert!(found.violation.is_some(), "no violation without {without:?} in {} states", found.states);
}

#[test]
fn two_claims_never_share_a_permit_over_three_reigns() {
    never_over_admits(Bounds { claims: 2, takeovers: 2, unanswered: 0 });
}

#[test]
fn two_claims_never_share_a_permit_when_an_answer_is_lost() {
    never_over_admits(Bounds { claims: 2, takeovers: 1, unanswered: 1 });
}

#[test]
fn three_claims_never_share_a_permit() {
    never_over_admits(Bounds { claims: 3, takeovers: 1, unanswered: 0 });
}

#[test]
#[ignore = "takes minutes; .ci/run runs it"]
fn two_claims_never_share_a_permit_over_three_reigns_when_an_answer_is_lost() {
    never_over_admits(Bounds { claims: 2, takeovers: 2, unanswered: 1 });
}

#[test]
#[ignore = "takes minutes; .ci/run runs it"]
fn three_claims_never_share_a_permit_over_three_reigns() {
    never_over_admits(Bounds { claims: 3, takeovers: 2, unanswered: 0 });
}

#[test]
fn without_the_settled_term_two_hold() {
    over_admits(Bounds { claims: 3, takeovers: 2, unanswered: 0 }, Without::SettledTerm);
}

#[test]
fn without_waiting_for_restamps_two_hold() {
    over_admits(Bounds { claims: 2, takeovers: 2, unanswered: 0 }, Without::RestampWait);
}

#[test]
fn without_stopping_on_a_higher_term_two_hold() {
    over_admits(Bounds { claims: 2, takeovers: 2, unanswered: 0 }, Without::StopOnHigherTerm);
}

#[test]
fn without_the_version_precondition_two_hold() {
    over_admits(Bounds { claims: 2, takeovers: 2, unanswered: 0 }, Without::Precondition);
}

#[test]
fn without_the_confirmation_two_hold() {
    over_admits(Bounds { claims: 2, takeovers: 2, unanswered: 0 }, Without::Confirmation);
}
