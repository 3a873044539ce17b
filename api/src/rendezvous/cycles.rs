//! Gates that wait for themselves, by way of others or directly.
//!
//! A gate in a cycle could never be decided on its own merits: it would wait for ever, or open and close in turns. So
//! the conditions that close a cycle are not met, whatever state they ask for, and say so.
//!
//! # What it costs
//! An edge closes a cycle exactly if both its ends are in one strongly connected component. [`Search`] finds the
//! components (Tarjan 1972, without recursion), then in each of them a tree of shortest ways away from one node of it
//! and one of shortest ways back to that node. Each of these steps looks at every edge once, so the whole is linear in
//! nodes and edges, and it can be done in pieces. The two trees answer for every edge of their component: from the
//! edge's end back to the middle, and from there to the edge's beginning, with what both ways share cut off. That takes
//! [`WALK`] steps at most; of a cycle that is still open then the beginning is named ([`Way::Partial`]).
//!
//! # Selectors
//! Gates that select each other would be as many edges as there are pairs of them. So a selector is a node of its own,
//! which has edges to what it selects, and the gates that use it have an edge to it: one edge a gate, and one a
//! selected gate and distinct selector. A path through it goes where the edges would have gone. Whoever builds the
//! graph bounds the number of edges.

use std::collections::VecDeque;

/// Steps taken from either end of an edge to close its cycle. Longer cycles are named in part, which is still more than
/// [a message shows](crate::limits::CYCLE_SHOWN).
pub const WALK: usize = 32;

/// Not in any component or tree yet.
const NONE: u32 = u32::MAX;

/// A cycle that begins with a certain edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// All nodes of it, each once, in order.
    Whole(Vec<u32>),
    /// Its first nodes, in order; the cycle goes on in the same component.
    Partial(Vec<u32>),
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Components,
    Reverse,
    Away,
    Back,
    Done,
}

/// A search for all cycles of a graph, in pieces.
#[derive(Debug)]
pub struct Search {
    /// The targets of each node.
    edges: Vec<Vec<u32>>,
    /// Sources of each node, within its component.
    reversed: Vec<Vec<u32>>,
    stage: Stage,
    /// The node at which the stage goes on.
    at: u32,
    /// Tarjan's: when a node was found, and the earliest one that is known to be in its component.
    found: Vec<u32>,
    lowest: Vec<u32>,
    counter: u32,
    /// Nodes whose component is not complete.
    open: Vec<u32>,
    /// The path of the depth-first search: a node, and how many of its edges were looked at.
    path: Vec<(u32, u32)>,
    /// Of each node: the node that stands for its component.
    component: Vec<u32>,
    /// Of each node: the one before it on a shortest way from the middle of its component.
    before: Vec<u32>,
    /// Of each node: the one after it on a shortest way to the middle of its component.
    after: Vec<u32>,
    queue: VecDeque<u32>,
}

impl Search {
    /// A search in this graph: `edges[n]` are the nodes that `n` waits for.
    pub fn new(edges: Vec<Vec<u32>>) -> Self {
        let nodes = edges.len();
        Self {
            reversed: Vec::new(),
            stage: Stage::Components,
            at: 0,
            found: vec![NONE; nodes],
            lowest: vec![NONE; nodes],
            counter: 0,
            open: Vec::new(),
            path: Vec::new(),
            component: vec![NONE; nodes],
            before: Vec::new(),
            after: Vec::new(),
            queue: VecDeque::new(),
            edges,
        }
    }

    /// Goes on until `budget` is used up, one for each node or edge looked at, or all is found. The last node may take
    /// it below zero, by its edges. Returns whether all is found.
    pub fn work(&mut self, budget: &mut isize) -> bool {
        while *budget > 0 && self.stage != Stage::Done {
            let spent = match self.stage {
                Stage::Components => self.find_components(),
                Stage::Reverse => self.reverse(),
                Stage::Away | Stage::Back => self.grow(),
                Stage::Done => 0,
            };
            *budget -= spent as isize;
        }
        self.stage == Stage::Done
    }

    /// What this node waits for.
    pub fn targets(&self, node: u32) -> &[u32] {
        &self.edges[node as usize]
    }

    /// Whether this edge of the graph closes a cycle, once all is found.
    pub fn closes(&self, from: u32, to: u32) -> bool {
        self.component[from as usize] == self.component[to as usize] && self.stage == Stage::Done
    }

    /// A cycle that begins with this edge of the graph; `None` if there is none.
    pub fn way(&self, from: u32, to: u32) -> Option<Way> {
        if !self.closes(from, to) {
            return None;
        }
        // The last nodes on the way from the middle to the edge's beginning, that one first.
        let tail: Vec<u32> = walk(from, &self.before).collect();
        let mut nodes = vec![from];
        for node in walk(to, &self.after) {
            if let Some(meets) = tail.iter().position(|one| *one == node) {
                nodes.extend(tail[1..=meets].iter().rev());
                return Some(Way::Whole(nodes));
            }
            nodes.push(node);
        }
        Some(Way::Partial(nodes))
    }

    fn next_stage(&mut self, stage: Stage) {
        (self.stage, self.at) = (stage, 0);
    }

    /// Looks at one node or edge of the depth-first search.
    fn find_components(&mut self) -> usize {
        let Some((node, seen)) = self.path.last_mut() else {
            match self.found.get(self.at as usize) {
                Some(&NONE) => self.enter(self.at),
                Some(_) => self.at += 1,
                None => {
                    (self.found, self.lowest) = (Vec::new(), Vec::new());
                    self.reversed = vec![Vec::new(); self.edges.len()];
                    self.next_stage(Stage::Reverse);
                }
            }
            return 1;
        };
        let node = *node;
        if let Some(to) = self.edges[node as usize].get(*seen as usize).copied() {
            *seen += 1;
            if self.found[to as usize] == NONE {
                self.enter(to);
            } else if self.component[to as usize] == NONE {
                self.lower(node, self.found[to as usize]);
            }
            return 1;
        }
        self.path.pop();
        let lowest = self.lowest[node as usize];
        if let Some((parent, _)) = self.path.last() {
            self.lower(*parent, lowest);
        }
        if lowest < self.found[node as usize] {
            return 1;
        }
        let begin = self.open.iter().rposition(|open| *open == node).unwrap_or(0);
        // The smallest stands for all, so that what is said does not change with what other gates there are.
        let smallest = self.open[begin..].iter().copied().min().unwrap_or(node);
        let members = self.open.split_off(begin);
        for member in &members {
            self.component[*member as usize] = smallest;
        }
        1 + members.len()
    }

    fn lower(&mut self, node: u32, to: u32) {
        let lowest = &mut self.lowest[node as usize];
        *lowest = to.min(*lowest);
    }

    fn enter(&mut self, node: u32) {
        self.found[node as usize] = self.counter;
        self.lowest[node as usize] = self.counter;
        self.counter += 1;
        self.open.push(node);
        self.path.push((node, 0));
    }

    /// Turns the edges of one node round, as far as they stay in its component.
    fn reverse(&mut self) -> usize {
        let node = self.at;
        let Some(targets) = self.edges.get(node as usize) else {
            self.before = vec![NONE; self.edges.len()];
            self.after = vec![NONE; self.edges.len()];
            self.next_stage(Stage::Away);
            return 1;
        };
        for to in targets {
            if self.component[*to as usize] == self.component[node as usize] {
                self.reversed[*to as usize].push(node);
            }
        }
        self.at += 1;
        1 + targets.len()
    }

    /// Follows the edges of one node of a tree, or begins with the next component.
    fn grow(&mut self) -> usize {
        let away = self.stage == Stage::Away;
        let (edges, tree) = if away { (&self.edges, &mut self.before) } else { (&self.reversed, &mut self.after) };
        if let Some(node) = self.queue.pop_front() {
            for to in &edges[node as usize] {
                if self.component[*to as usize] == self.component[node as usize] && tree[*to as usize] == NONE {
                    tree[*to as usize] = node;
                    self.queue.push_back(*to);
                }
            }
            return 1 + edges[node as usize].len();
        }
        let node = self.at;
        match self.component.get(node as usize) {
            // The middle leads to itself, which is where every way ends.
            Some(middle) if *middle == node => {
                tree[node as usize] = node;
                self.queue.push_back(node);
            }
            Some(_) => {}
            None => {
                self.next_stage(if away { Stage::Back } else { Stage::Done });
                return 1;
            }
        }
        self.at += 1;
        1
    }
}

/// A node and those that a tree has after it, as far as [`WALK`] steps go.
fn walk(from: u32, tree: &[u32]) -> impl Iterator<Item = u32> {
    let next = |node: &u32| Some(tree[*node as usize]).filter(|next| next != node);
    std::iter::successors(Some(from), next).take(WALK + 1)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Searches in pieces of this size. Returns the search and what it has looked at.
    fn search(edges: &[Vec<u32>], piece: isize) -> (Search, isize) {
        let mut search = Search::new(edges.to_vec());
        let mut spent = 0;
        loop {
            let mut budget = piece;
            let done = search.work(&mut budget);
            spent += piece - budget;
            if done {
                return (search, spent);
            }
        }
    }

    fn ways(edges: &[Vec<u32>]) -> Vec<Vec<Option<Way>>> {
        let (search, _) = search(edges, isize::MAX);
        let of = |(from, targets): (u32, &Vec<u32>)| targets.iter().map(|to| search.way(from, *to)).collect();
        (0..).zip(edges).map(of).collect()
    }

    #[test]
    fn names_the_cycle_and_spares_those_that_only_wait_for_it() {
        // 0 → 1 → 2 → 0, 3 → 0, 1 → 4, 5 → 5.
        let edges = [vec![1], vec![2, 4], vec![0], vec![0], vec![], vec![5]];
        let whole = |nodes: &[u32]| Some(Way::Whole(nodes.to_vec()));
        let expected = [
            vec![whole(&[0, 1, 2])],
            vec![whole(&[1, 2, 0]), None],
            vec![whole(&[2, 0, 1])],
            vec![None],
            vec![],
            vec![whole(&[5])],
        ];
        assert_eq!(ways(&edges), expected);
    }

    #[test]
    fn a_node_between_two_cycles_is_in_none() {
        let edges = [vec![0, 1], vec![2], vec![2]];
        let whole = |node| Some(Way::Whole(vec![node]));
        assert_eq!(ways(&edges), [vec![whole(0), None], vec![None], vec![whole(2)]]);
    }

    #[test]
    fn of_a_cycle_that_is_too_long_to_tell_the_beginning_is_named() {
        let edges: Vec<Vec<u32>> = (0..1000).map(|node| vec![(node + 1) % 1000]).collect();
        let ways = ways(&edges);
        assert_eq!(ways[300], [Some(Way::Partial((300..=333).collect()))]);
        // Near the middle, which is node 0, it is not longer to one side.
        assert_eq!(ways[998], [Some(Way::Partial(vec![998, 999, 0]))]);
    }

    #[test]
    fn costs_what_there_are_nodes_and_edges_in_any_piece() {
        let complete = |nodes: u32| (0..nodes).map(|_| (0..nodes).collect()).collect::<Vec<Vec<u32>>>();
        let ring = |nodes: u32, width: u32| {
            (0..nodes).map(|node| (1..=width).map(|step| (node + step) % nodes).collect()).collect::<Vec<Vec<u32>>>()
        };
        let chain = (0..2000).map(|node| if node == 0 { vec![] } else { vec![node - 1] }).collect();
        for (name, edges) in [
            ("400 that wait for each other", complete(400)),
            ("2,000 that wait for 32 each", ring(2000, 32)),
            ("2,000 in a ring", ring(2000, 1)),
            ("2,000 in a row", chain),
        ] {
            let (nodes, ways) = (edges.len() as isize, edges.iter().map(Vec::len).sum::<usize>() as isize);
            for piece in [100, isize::MAX] {
                let (_, spent) = search(&edges, piece);
                // Components, turning round, and two trees: one look each at every edge, and some at every node.
                assert!(spent <= 4 * ways + 8 * nodes + 8, "{name}: {spent} for {nodes} and {ways}");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_what_can_be_reached(edges in vec(vec(0_u32..12, 0..3), 12), piece in 1_isize..50) {
            let mut reach = vec![vec![false; 12]; 12];
            for (from, targets) in edges.iter().enumerate() {
                for to in targets {
                    reach[from][*to as usize] = true;
                }
            }
            for by in 0..12 {
                for from in 0..12 {
                    for to in 0..12 {
                        reach[from][to] |= reach[from][by] && reach[by][to];
                    }
                }
            }
            let (search, _) = search(&edges, piece);
            for (from, targets) in (0_u32..).zip(&edges) {
                for to in targets {
                    let closed = to == &from || reach[*to as usize][from as usize];
                    let Some(way) = search.way(from, *to) else {
                        prop_assert!(!closed);
                        continue;
                    };
                    prop_assert!(closed);
                    // Nothing among twelve is too long.
                    let Way::Whole(way) = way else { return Err(TestCaseError::fail("in part")) };
                    prop_assert!(way[0] == from && way[1 % way.len()] == *to);
                    for (step, node) in way.iter().enumerate() {
                        prop_assert!(edges[*node as usize].contains(&way[(step + 1) % way.len()]));
                        prop_assert!(!way[step + 1..].contains(node));
                    }
                }
            }
        }
    }
}
