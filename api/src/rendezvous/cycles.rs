//! Gates that wait for themselves, by way of others or directly.
//!
//! A gate in a cycle could never be decided on its own merits: it would wait for ever, or open and close in turns. So
//! the conditions that close a cycle are not met, whatever state they ask for, and say so.
//!
//! Nodes are taken away that lead nowhere, then those that nothing leads to, until none is left to take: what remains is on a
//! cycle or between two. Without cycles nothing remains, and it has cost one look at each edge.

use std::collections::VecDeque;

/// For each edge, in the order of `edges`, the nodes of a shortest cycle that begins with it, its own node first; empty if there
/// is none. `edges[n]` are the nodes that `n` waits for.
pub fn cycles(edges: &[Vec<usize>]) -> Vec<Vec<Vec<usize>>> {
    let mut reversed = vec![Vec::new(); edges.len()];
    for (from, targets) in edges.iter().enumerate() {
        for to in targets {
            reversed[*to].push(from);
        }
    }
    let mut left = vec![true; edges.len()];
    peel(&mut left, edges, &reversed);
    peel(&mut left, &reversed, edges);
    let way =
        |from: usize, to: usize| if left[from] && left[to] { shortest(from, to, edges, &left) } else { Vec::new() };
    edges.iter().enumerate().map(|(from, targets)| targets.iter().map(|to| way(from, *to)).collect()).collect()
}

/// Takes away, again and again, the nodes that have no edge to one that is left.
fn peel(left: &mut [bool], edges: &[Vec<usize>], reversed: &[Vec<usize>]) {
    let mut out: Vec<usize> = edges.iter().map(|targets| targets.iter().filter(|to| left[**to]).count()).collect();
    let mut bare: Vec<usize> = (0..edges.len()).filter(|node| left[*node] && out[*node] == 0).collect();
    while let Some(node) = bare.pop() {
        left[node] = false;
        for from in &reversed[node] {
            out[*from] -= 1;
            if out[*from] == 0 && left[*from] {
                bare.push(*from);
            }
        }
    }
}

/// A shortest cycle from `start` by way of `first`, among those that are left.
fn shortest(start: usize, first: usize, edges: &[Vec<usize>], left: &[bool]) -> Vec<usize> {
    let mut came_from = vec![None; edges.len()];
    came_from[first] = Some(start);
    let mut next = VecDeque::from([first]);
    while let Some(node) = next.pop_front() {
        if node == start {
            let mut way = Vec::new();
            let mut at = came_from[start];
            while let Some(node) = at {
                way.push(node);
                at = came_from[node].filter(|_| node != start);
            }
            way.reverse();
            return way;
        }
        for &to in edges[node].iter().filter(|to| left[**to]) {
            if came_from[to].is_none() {
                came_from[to] = Some(node);
                next.push_back(to);
            }
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn names_the_cycle_and_spares_those_that_only_wait_for_it() {
        // 0 → 1 → 2 → 0, 3 → 0, 1 → 4, 5 → 5.
        let edges = [vec![1], vec![2, 4], vec![0], vec![0], vec![], vec![5]];
        let none = Vec::new;
        let expected = [
            vec![vec![0, 1, 2]],
            vec![vec![1, 2, 0], none()],
            vec![vec![2, 0, 1]],
            vec![none()],
            vec![],
            vec![vec![5]],
        ];
        assert_eq!(cycles(&edges), expected);
    }

    #[test]
    fn a_node_between_two_cycles_is_in_none() {
        let edges = [vec![0, 1], vec![2], vec![2]];
        assert_eq!(cycles(&edges), [vec![vec![0], vec![]], vec![vec![]], vec![vec![2]]]);
    }

    proptest! {
        #[test]
        fn agrees_with_what_can_be_reached(edges in vec(vec(0_usize..12, 0..3), 12)) {
            let mut reach = vec![vec![false; 12]; 12];
            for (from, targets) in edges.iter().enumerate() {
                for to in targets {
                    reach[from][*to] = true;
                }
            }
            for by in 0..12 {
                for from in 0..12 {
                    for to in 0..12 {
                        reach[from][to] |= reach[from][by] && reach[by][to];
                    }
                }
            }
            for (node, ways) in cycles(&edges).into_iter().enumerate() {
                for (way, first) in ways.iter().zip(&edges[node]) {
                    let closed = *first == node || reach[*first][node];
                    prop_assert_eq!(!way.is_empty(), closed);
                    for (step, from) in way.iter().enumerate() {
                        prop_assert!(edges[*from].contains(&way[(step + 1) % way.len()]));
                    }
                    prop_assert!(!closed || way[0] == node && way[1 % way.len()] == *first);
                }
            }
        }
    }
}
