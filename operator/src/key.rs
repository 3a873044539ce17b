//! Names of what is decided on.

use std::sync::Arc;

/// The name of a parent (a lock, a barrier or a gate), whether it exists or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A shared [`ParentKey`].
pub type Key = Arc<ParentKey>;

impl ParentKey {
    /// The key of this name in this namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}
