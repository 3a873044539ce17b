//! Semaphores and the permits on them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{
    Permit, Semaphore,
    arbiter::{Claim, Parent, ParentState, Unreadable, semaphore_status},
};
use serde_json::Value;

use super::kind::Kind;

/// The kind of parent that is a [`Semaphore`].
#[derive(Clone, Copy, Debug)]
pub struct Semaphores;

impl Kind for Semaphores {
    const NAME: &'static str = "semaphore";
    const FIELD: &'static str = "spec.semaphore";
    type Parent = Semaphore;
    type Claim = Permit;

    fn parent(semaphore: &Semaphore) -> Result<Parent, Unreadable> {
        Parent::try_from(semaphore)
    }

    fn claim(permit: &Permit) -> Result<Claim, Unreadable> {
        Claim::try_from(permit)
    }

    fn parent_name(permit: &Permit) -> &str {
        &permit.spec.semaphore
    }

    fn parent_conditions(semaphore: &Semaphore) -> &[Condition] {
        semaphore.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn claim_conditions(permit: &Permit) -> &[Condition] {
        permit.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn parent_status(state: &ParentState, capacity: u64, now: Timestamp, before: &[Condition]) -> Value {
        serde_json::to_value(semaphore_status(state, capacity, now, before)).expect("a status is plain data")
    }
}
