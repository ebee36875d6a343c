//! [`Era`]: what gives the messages of a cluster their order, and since when.
//!
//! A cluster on Redis has its order from Redis. While no node reaches Redis, the database gives it. Each change begins
//! an era. The database counts them, so that two nodes of different opinions do not both give seqs in one topic.

use std::fmt;
use std::sync::Arc;

/// The time from one change of what gives the order to the next. The first is Redis's, then they alternate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Era(i64);

impl Era {
    /// The era with this number.
    pub(crate) const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number; 0 for the first.
    pub(crate) const fn get(self) -> i64 {
        self.0
    }

    /// Whether the database gives the order, and not Redis.
    pub(crate) const fn is_of_database(self) -> bool {
        self.0 % 2 == 1
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An era of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterEra {
    /// The name of the cluster in the database.
    pub(crate) cluster: Arc<str>,
    pub(crate) era: Era,
}

/// A node that comes to the bus.
#[derive(Clone, Debug)]
pub(crate) struct Entering {
    /// The number of the node.
    pub(crate) node: i64,
    /// Its name.
    pub(crate) name: String,
    /// How often it has come to the bus: the database passes over an older sign of life.
    pub(crate) entrances: i64,
}
