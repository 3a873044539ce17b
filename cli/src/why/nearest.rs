//! The existing name that was probably meant.

/// Of these names the one that is most like `wanted`, if it is near enough to be meant: a third of it may differ.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (wanted.chars().count() / 3).max(1);
    let measured = names.map(|name| (strsim::osa_distance(wanted, name), name));
    measured.filter(|(distance, _)| *distance <= most).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant_and_nothing_finds_another() {
        let names = ["warehouse", "warehouse-2", "database", "db"];
        for (wanted, expected) in [
            ("warehuose", Some("warehouse")),
            ("warehouse2", Some("warehouse")),
            ("warehouse-3", Some("warehouse-2")),
            ("dB", Some("db")),
            ("x", None),
            ("ware", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names.into_iter()), expected, "{wanted}");
        }
    }
}
