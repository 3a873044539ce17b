//! Reading what a status tells and no decision needs, whatever others have written there.
//!
//! An API server stores times that no time type holds: any year at an odd offset, any fraction of a second. Whoever may
//! write a status must not make its object unreadable by one of them. So a time that cannot be held counts as absent,
//! and so does a condition with one; the next write of the status puts right ones there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

#[derive(Deserialize)]
#[serde(untagged)]
enum Told<T> {
    Read(T),
    Unreadable(IgnoredAny),
}

impl<T> Told<T> {
    fn read(self) -> Option<T> {
        match self {
            Self::Read(told) => Some(told),
            Self::Unreadable(_) => None,
        }
    }
}

/// A time, if it is there and can be held.
pub(crate) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MicroTime>, D::Error> {
    let told = Option::<Told<MicroTime>>::deserialize(deserializer)?;
    Ok(told.and_then(Told::read))
}

/// Those conditions that can be read.
pub(crate) fn conditions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Condition>, D::Error> {
    let told = Vec::<Told<Condition>>::deserialize(deserializer)?;
    Ok(told.into_iter().filter_map(Told::read).collect())
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, de::DeserializeOwned};
    use serde_json::{Value, json};

    use crate::{BarrierStatus, ClaimStatus, GateStatus, LeaseStatus, SemaphoreStatus};

    /// Stored by an API server, and held by no time type.
    const ODD: [&str; 7] = [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.9999999999999-23:59",
        "0000-01-01T00:00:00.0000000000000001-23:59",
        "10000-01-01T23:58:59Z",
        "2026-01-01T00:00:00.1234567890123Z",
        "2026-01-01T00:00:00+99:99",
        "2026-02-30T00:00:00Z",
    ];

    fn condition(kind: &str, at: &str) -> Value {
        json!({ "type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": at })
    }

    /// What is read of a status with these times, as it would be written.
    fn read<S: Serialize + DeserializeOwned>(times: &[&str], at: &str) -> Value {
        let mut status =
            json!({ "phase": null, "conditions": [condition("A", at), condition("B", "2026-01-01T00:00:00Z")] });
        for time in times {
            status[*time] = at.into();
        }
        let read: S = serde_json::from_value(status).unwrap_or_else(|error| panic!("{at}: {error}"));
        serde_json::to_value(read).expect("a status")
    }

    fn holds<S: Serialize + DeserializeOwned>(times: &[&str]) {
        for at in ODD {
            let status = read::<S>(times, at);
            assert_eq!(status["conditions"].as_array().map(Vec::len), Some(1), "{at}: {status}");
            assert_eq!(status["conditions"][0]["type"], "B");
            for time in times {
                assert_eq!(status[*time], Value::Null, "{time} of {at}");
            }
        }
        let status = read::<S>(times, "2026-01-01t01:00:00.123456+01:00");
        assert_eq!(status["conditions"].as_array().map(Vec::len), Some(2), "{status}");
        for time in times {
            assert_eq!(status[*time], "2026-01-01T00:00:00.123456Z", "{time}");
        }
        // As it is at first, and as it is written where nothing is to be told.
        let nothing = json!({ "conditions": [] });
        assert_eq!(
            serde_json::to_value(serde_json::from_value::<S>(nothing).expect("a status")).expect("JSON"),
            serde_json::to_value(serde_json::from_value::<S>(json!({})).expect("a status")).expect("JSON")
        );
    }

    #[test]
    fn a_time_that_cannot_be_held_makes_no_status_unreadable() {
        holds::<ClaimStatus>(&["acquiredAt", "expiresAt"]);
        holds::<LeaseStatus>(&["acquiredAt"]);
        holds::<SemaphoreStatus>(&[]);
        holds::<BarrierStatus>(&["openedAt", "failedAt"]);
        holds::<GateStatus>(&["waitingSince"]);
    }
}
