//! The states of each kind of object, and what may come of each.

use std::collections::BTreeSet;

/// The states of a kind of object.
#[derive(Debug)]
pub struct Machine {
    /// What it is called where its transitions are counted.
    pub name: &'static str,
    /// What many of it are called.
    pub title: &'static str,
    /// Each state, and what may come of it.
    pub states: &'static [(&'static str, &'static [&'static str])],
}

impl Machine {
    /// That of this name.
    pub fn of(name: &str) -> &'static Self {
        ALL.iter().find(|machine| machine.name == name).expect("it is one of them")
    }

    /// Whether this may come of that.
    pub fn has(&self, from: &str, to: &str) -> bool {
        self.transitions().any(|transition| transition == (from, to))
    }

    /// Whether this may come of that in the end.
    pub fn leads(&self, from: &str, to: &str) -> bool {
        let mut reached = BTreeSet::from([from]);
        while let Some((_, next)) =
            self.transitions().find(|(from, next)| reached.contains(from) && !reached.contains(next))
        {
            reached.insert(next);
        }
        reached.contains(to)
    }

    /// All that may come of something.
    pub fn transitions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.states.iter().flat_map(|(from, all)| all.iter().map(move |to| (*from, *to)))
    }
}

/// All of them. New is what no operator has said anything of.
pub const ALL: [Machine; 5] = [
    Machine {
        name: "claim",
        title: "claims",
        states: &[
            ("new", &["Pending", "Granted", "Expired", "gone"]),
            ("Pending", &["Granted", "Expired", "gone"]),
            // Back, if it was not known to have been granted when that did not count any more.
            ("Granted", &["Pending", "Revoking", "Expired", "gone"]),
            ("Revoking", &["Expired", "gone"]),
            ("Expired", &["gone"]),
            ("gone", &[]),
        ],
    },
    Machine {
        name: "semaphore",
        title: "semaphores",
        states: &[
            ("new", &["Available", "Full", "Paused"]),
            ("Available", &["Full", "Paused"]),
            ("Full", &["Available", "Paused"]),
            ("Paused", &["Available", "Full"]),
        ],
    },
    Machine {
        name: "lease",
        title: "leases",
        states: &[("new", &["Available", "Held"]), ("Available", &["Held"]), ("Held", &["Available"])],
    },
    Machine {
        name: "barrier",
        title: "barriers",
        states: &[
            ("new", &["Waiting", "Open", "Failed"]),
            ("Waiting", &["Open", "Failed"]),
            // By the next round, or by an edit.
            ("Open", &["Waiting", "Failed"]),
            ("Failed", &["Waiting", "Open"]),
        ],
    },
    Machine {
        name: "gate",
        title: "gates",
        states: &[
            ("new", &["Waiting", "Open"]),
            ("Waiting", &["Open", "Failed"]),
            ("Open", &["Waiting"]),
            ("Failed", &["Waiting", "Open"]),
        ],
    },
];
