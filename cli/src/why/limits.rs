//! Every limit of an answer has a name and a reason here. What is left out is said.

use std::time::Duration;

/// Requests for one answer: some for each of the holders and pods that are shown. More would load the API server for
/// what nobody reads to the end.
pub(crate) const READS: usize = 64;

/// Objects in one page of a list: what kubectl asks for.
pub(crate) const PAGE: usize = 500;

/// Claims of one lock that are read. Who is in front of the last of ten thousand is known from its status.
pub(crate) const CLAIMS: usize = 2000;

/// Claims of one pod that are read.
pub(crate) const CLAIMS_OF_POD: usize = 100;

/// Arrivals of one barrier that are read.
pub(crate) const ARRIVALS: usize = 500;

/// Pods of one Job that are read.
pub(crate) const PODS: usize = 100;

/// Jobs of one namespace that are searched for those that are to arrive at a barrier.
pub(crate) const JOBS: usize = 200;

/// Parents of one namespace that are searched for the nearest name.
pub(crate) const NAMES: usize = 500;

/// Objects that a gate's selector selects and that are read.
pub(crate) const SELECTED: usize = 100;

/// Holders of one lock that are shown with their pods: two requests each.
pub(crate) const HOLDERS_SHOWN: usize = 5;

/// Claims in front that are named.
pub(crate) const FRONT_SHOWN: usize = 5;

/// Arrivals that are named.
pub(crate) const ARRIVALS_SHOWN: usize = 10;

/// Jobs that have not arrived that are named.
pub(crate) const MISSING_SHOWN: usize = 10;

/// Pods of a Job that are explained: three requests each.
pub(crate) const PODS_SHOWN: usize = 5;

/// Selected objects that are named.
pub(crate) const SELECTED_SHOWN: usize = 5;

/// Objects of one read that cannot be read that are named.
pub(crate) const UNREADABLE_SHOWN: usize = 5;

/// How long who has waited in vain waits for the reasons: an API server that does not answer must not make the wait
/// longer than it was to be by more than that.
pub(crate) const IN_SHORT: Duration = Duration::from_secs(3);

/// How many gates an answer goes through on its way from one to the next.
pub(crate) const GATES_DEEP: usize = 4;

/// A leader is taken for gone when its lease has run out by this much: clocks differ.
pub(crate) const CLOCK_SLACK_SECONDS: i64 = 5;
