//! What can be the name of an object, as Kubernetes applies RFC 1123.
//!
//! Everything that asks for an object by its name checks it here first: what is not a name could also mean another path
//! of the API.

use konductor_api::limits::{MAX_ID, MAX_NAME};

/// The length of a label in Kubernetes.
pub const MAX_LABEL: u32 = 63;

/// Whether this can be the name of most objects: labels separated by dots, 253 characters in all.
pub fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME as usize && text.split('.').all(is_part)
}

/// Whether this can be the name of a namespace or of a container: one label of at most 63 characters.
pub fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL as usize && is_part(text)
}

/// Whether this can be the UID of an object. Kubernetes promises only that UIDs differ; all that it makes are like
/// this.
pub fn is_uid(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    (1..=MAX_ID as usize).contains(&text.len()) && text.bytes().all(inner)
}

/// Lower-case letters, digits and, between them, hyphens.
fn is_part(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        for name in ["a", "warehouse", "a-b.c-9", "0", &"a".repeat(253)] {
            assert!(is_name(name), "{name:?}");
        }
        let long = "a".repeat(254);
        for name in ["", "A", "a/b", "..", "a..b", "-a", "a-", "a.-b", "a?watch=1", "a b", "ä", &long] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_label_is_a_short_name_without_dots() {
        for label in ["a", "a-9", &"a".repeat(63)] {
            assert!(is_label(label), "{label:?}");
        }
        for label in ["", "A", "a.b", "-a", "a-", "ä", &"a".repeat(64)] {
            assert!(!is_label(label), "{label:?}");
        }
    }

    #[test]
    fn uids_are_letters_digits_and_hyphens() {
        for uid in ["0aa1", "6f1b9a1c-27b8-4d0c-9a65-0d3f0e2b7c11", "UPPER", &"a".repeat(64)] {
            assert!(is_uid(uid), "{uid:?}");
        }
        for uid in ["", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert!(!is_uid(uid), "{uid:?}");
        }
    }
}
