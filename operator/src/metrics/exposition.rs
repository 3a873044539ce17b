//! The two formats of figures: OpenMetrics for who asks for it, as Prometheus does, and the classic text format for all
//! others: people with curl, `promtool check metrics`, agents that know nothing newer.

use std::fmt::Write as _;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Classic,
}

impl Exposition {
    /// The one for who accepts this, as the header `Accept` says.
    pub fn wanted(accept: Option<&str>) -> Self {
        let names_it = |accept: &str| accept.contains("application/openmetrics-text");
        if accept.is_some_and(names_it) { Self::OpenMetrics } else { Self::Classic }
    }

    /// Its content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// In this format what is a text of OpenMetrics.
    pub(super) fn of(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Classic => classic(&text),
        }
    }
}

/// The same in the classic format. There a family has the name of its samples, so that of a counter ends with `_total`,
/// and there is neither an end to be told nor a type for what never changes.
fn classic(text: &str) -> String {
    let mut classic = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "EOF"] => {}
            // Its family's type comes next, and says how it is called.
            ["#", "HELP", _, words] => help = Some(words),
            ["#", "TYPE", name, kind] => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    _ => ("", kind),
                };
                if let Some(words) = help.take() {
                    // Writing to a string cannot fail.
                    let _ = writeln!(classic, "# HELP {name}{suffix} {words}");
                }
                let _ = writeln!(classic, "# TYPE {name}{suffix} {kind}");
            }
            _ => {
                classic += line;
                classic.push('\n');
            }
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_format_is_for_who_does_not_ask_for_another() {
        // As Prometheus sends it.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (None, Exposition::Classic),
            (Some("*/*"), Exposition::Classic),
            (Some("text/plain"), Exposition::Classic),
            (Some(prometheus), Exposition::OpenMetrics),
        ] {
            assert_eq!(Exposition::wanted(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn families_are_called_as_their_samples_are() {
        let text = "# HELP a_grants Grants.\n# TYPE a_grants counter\na_grants_total{kind=\"x y\"} 1\n\
                    # HELP a_build What it is.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                    # HELP a_up Up.\n# TYPE a_up gauge\na_up 1\n# EOF\n";
        let expected = "# HELP a_grants_total Grants.\n# TYPE a_grants_total counter\na_grants_total{kind=\"x y\"} 1\n\
                        # HELP a_build_info What it is.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                        # HELP a_up Up.\n# TYPE a_up gauge\na_up 1\n";
        assert_eq!(classic(text), expected);
    }
}
