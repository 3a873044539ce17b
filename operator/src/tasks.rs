//! Work that is done in pieces, in turns between namespaces, so that none waits for all the work of another one. No
//! I/O, no clock.

use std::collections::{HashMap, VecDeque};

/// Looks at objects that a task may take before it is another namespace's turn.
pub(crate) const SLICE: isize = 1024;

/// What was done in one turn of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Looks at objects.
    pub(crate) looks: usize,
    /// There is more to do.
    pub(crate) more: bool,
}

/// Objects at most that are forgotten in one go, when a list did not show them.
const FORGOTTEN: usize = 256;

/// Takes the next few of what a list did not show.
pub(crate) fn next_absent<T>(absent: &mut VecDeque<T>) -> Vec<T> {
    absent.drain(..absent.len().min(FORGOTTEN)).collect()
}

/// How many more of something a budget has room for.
pub(crate) fn room(budget: isize) -> usize {
    usize::try_from(budget).unwrap_or(0)
}

/// Queues of tasks, one for each namespace.
#[derive(Debug)]
pub(crate) struct Tasks<T> {
    queues: HashMap<String, VecDeque<T>>,
    /// The namespaces that have tasks, in the order of their turns.
    turns: VecDeque<String>,
}

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T> Tasks<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// Adds a task for a namespace, after those that it has.
    pub(crate) fn push(&mut self, namespace: &str, task: T) {
        if let Some(queue) = self.queues.get_mut(namespace) {
            queue.push_back(task);
        } else {
            self.queues.insert(namespace.to_owned(), VecDeque::from([task]));
            self.turns.push_back(namespace.to_owned());
        }
    }

    /// The first task of the namespace whose turn it is; then it is the next one's.
    pub(crate) fn pop(&mut self) -> Option<(String, T)> {
        let namespace = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&namespace)?;
        let task = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        Some((namespace, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns_and_leave_nothing_behind() {
        let mut tasks = Tasks::default();
        for (namespace, task) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)] {
            tasks.push(namespace, task);
        }
        let order: Vec<i32> = std::iter::from_fn(|| tasks.pop()).map(|(_, task)| task).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
        assert!(tasks.is_empty() && tasks.queues.is_empty());
    }
}
