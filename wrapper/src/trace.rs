//! The trace that this run is part of, as `TRACEPARENT` in the environment says by [W3C Trace Context]. It is read for
//! the log only, so that its lines are found beside those of the command, which gets the variable as it is. One that is
//! malformed is no trace: the specification wants it ignored.
//!
//! [W3C Trace Context]: https://www.w3.org/TR/trace-context/#traceparent-header

/// The variable by which a trace is handed on between processes.
pub(crate) const TRACEPARENT: &str = "TRACEPARENT";

/// Bytes of a whole value of version 00, and of the part that later versions begin with.
const LENGTH: usize = 55;

/// The id of a trace: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId([u8; 32]);

impl TraceId {
    /// The trace that a value of [`TRACEPARENT`] names: `VERSION-TRACE-PARENT-FLAGS`.
    pub(crate) fn of(traceparent: &str) -> Option<Self> {
        let (known, more) = traceparent.split_at_checked(LENGTH)?;
        let mut fields = known.split('-');
        let [version, trace, parent, flags] = [2, 32, 16, 2].map(|length| hexadecimal(fields.next(), length));
        let (version, trace, _) = (version?, trace?, flags?);
        // Later versions may say more behind another dash.
        let ends_well = if version == "00" { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
        let is_valid = version != "ff" && !is_zero(trace) && !is_zero(parent?) && ends_well;
        if is_valid { trace.as_bytes().try_into().ok().map(Self) } else { None }
    }

    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        // Digits are all that it holds.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The field, if it is of this length and of digits as the specification wants them: in small letters.
fn hexadecimal(field: Option<&str>, length: usize) -> Option<&str> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    field.filter(|field| field.len() == length && field.bytes().all(is_digit))
}

fn is_zero(field: &str) -> bool {
    field.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_trace_is_read_or_ignored() {
        let zeros = "00000000000000000000000000000000";
        for (value, expected) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), true),
            // A later version, with and without more.
            (format!("cc-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes"), true),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01.what-comes"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-01-what-comes"), false),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("00-{zeros}-00f067aa0ba902b7-01"), false),
            (format!("00-{TRACE}-0000000000000000-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-0g"), false),
            (format!("00_{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-1"), false),
            (format!("0-{TRACE}0-00f067aa0ba902b7-01"), false),
            (format!(" 00-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-01 "), false),
            ("ü".repeat(40), false),
            (String::new(), false),
        ] {
            assert_eq!(TraceId::of(&value).map(|id| id.as_str() == TRACE), expected.then_some(true), "{value}");
        }
    }

    proptest! {
        /// Whatever stands there, what is taken for a trace is one.
        #[test]
        fn any_value_is_read_or_ignored(value in r"\PC{0,80}|[0-9a-fA-F-]{50,60}|[0-9a-c]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}-?") {
            if let Some(id) = TraceId::of(&value) {
                prop_assert_eq!(id.as_str(), &value[3..35]);
                prop_assert!(id.as_str().bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
            }
        }
    }
}
