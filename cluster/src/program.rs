//! Who asks: the names under which an API server knows a program in its logs and in managed fields.

use http::HeaderValue;

/// Bytes of a name: an API server refuses a longer `fieldManager`.
const LONGEST: usize = 128;

/// A program, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program(&'static str);

impl Program {
    /// `konductor-operator`.
    pub const OPERATOR: Self = Self("konductor-operator");

    /// `konductor-sdk`: whoever uses the SDK and names no other.
    pub const SDK: Self = Self("konductor-sdk");

    /// The program that is called this in full, like `konductor-run`: 1 to 128 ASCII letters, digits and dashes.
    ///
    /// # Panics
    /// If that is not what the name is; of a constant, when it is compiled.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= LONGEST, "a program's name has 1 to 128 characters");
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                bytes[at].is_ascii_alphanumeric() || bytes[at] == b'-',
                "a program's name is made of ASCII letters, digits and dashes"
            );
            at += 1;
        }
        Self(name)
    }

    /// Whose fields those are that it writes: the value of `fieldManager`.
    pub const fn field_manager(self) -> &'static str {
        self.0
    }

    /// The value of `User-Agent`: the name, and Konductor's version.
    pub fn user_agent(self) -> HeaderValue {
        let text = format!("{}/{}", self.0, env!("CARGO_PKG_VERSION"));
        HeaderValue::try_from(text).expect("names of programs are plain ASCII")
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_program_has_a_name_that_fits_into_a_header_and_a_query() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(Program::new("Etl-2").user_agent(), format!("Etl-2/{version}"));
        for name in ["", "a b", "a&b", "a/b", "é", "a\n", "x".repeat(LONGEST + 1).leak()] {
            assert!(catch_unwind(|| Program::new(name)).is_err(), "{name}");
        }
    }
}
