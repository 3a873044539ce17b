//! Who asks: the names under which an API server knows a program in its logs and in managed fields.

use http::HeaderValue;

/// One of Konductor's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program(&'static str);

impl Program {
    /// `konductor-operator`.
    pub const OPERATOR: Self = Self("konductor-operator");

    /// `konductor-sdk`: whoever uses the SDK.
    pub const SDK: Self = Self("konductor-sdk");

    /// The program that is called this in full, like `konductor-run`: ASCII letters, digits and dashes.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Whose fields those are that it writes: the value of `fieldManager`.
    pub const fn field_manager(self) -> &'static str {
        self.0
    }

    /// The value of `User-Agent`.
    pub fn user_agent(self) -> HeaderValue {
        let text = format!("{}/{}", self.0, env!("CARGO_PKG_VERSION"));
        HeaderValue::try_from(text).expect("names of programs are plain ASCII")
    }
}
