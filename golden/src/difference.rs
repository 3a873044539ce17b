//! What differs between two texts, for people.

use std::fmt::Write as _;

/// Lines shown around what differs.
const CONTEXT: usize = 3;

/// A line of the difference.
#[derive(Clone, Copy)]
enum Line<'a> {
    Both(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The lines that differ, each behind a sign: `-` if only the old text has it, `+` if only the new one has. Some of
/// those around them are shown too; `@ N` says with which line of the old text they begin.
pub(crate) fn difference(old: &str, new: &str) -> String {
    let lines = align(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let changed: Vec<usize> = (0..lines.len()).filter(|index| !matches!(lines[*index], Line::Both(_))).collect();
    if changed.is_empty() {
        return "they differ in how lines end\n".to_owned();
    }
    let (mut text, mut number, mut shown_before) = (String::new(), 0, true);
    let mut near = changed.iter().copied().peekable();
    for (index, line) in lines.into_iter().enumerate() {
        number += usize::from(!matches!(line, Line::New(_)));
        while near.next_if(|changed| changed + CONTEXT < index).is_some() {}
        let shown = near.peek().is_some_and(|changed| *changed <= index + CONTEXT);
        if shown && (!shown_before || text.is_empty()) {
            let first = number + usize::from(matches!(line, Line::New(_)));
            let _ = writeln!(text, "@ {first}");
        }
        if shown {
            let (sign, line) = match line {
                Line::Both(line) => (' ', line),
                Line::Old(line) => ('-', line),
                Line::New(line) => ('+', line),
            };
            let _ = writeln!(text, "{sign}{line}");
        }
        shown_before = shown;
    }
    text
}

/// All lines of both, in order, with as many in common as can be.
fn align<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    // How many lines from here to the ends can be common: [old][new].
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for before in (0..old.len()).rev() {
        for after in (0..new.len()).rev() {
            common[before][after] = if old[before] == new[after] {
                common[before + 1][after + 1] + 1
            } else {
                common[before + 1][after].max(common[before][after + 1])
            };
        }
    }
    let (mut before, mut after, mut lines) = (0, 0, Vec::new());
    while before < old.len() || after < new.len() {
        if before < old.len() && after < new.len() && old[before] == new[after] {
            lines.push(Line::Both(old[before]));
            (before, after) = (before + 1, after + 1);
        } else if before < old.len() && (after == new.len() || common[before + 1][after] >= common[before][after + 1]) {
            lines.push(Line::Old(old[before]));
            before += 1;
        } else {
            lines.push(Line::New(new[after]));
            after += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_with_what_is_around_it() {
        let old = (1..=20).map(|number| number.to_string()).collect::<Vec<_>>().join("\n") + "\n";
        let new = old.replace("5\n", "five\n").replace("\n18\n", "\n18\n18a\n");
        let shown =
            "@ 2\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n@ 12\n 12\n 13\n 14\n-15\n+1five\n 16\n 17\n 18\n+18a\n 19\n 20\n";
        assert_eq!(difference(&old, &new), shown);
    }

    #[test]
    fn what_is_new_at_the_beginning_and_what_is_missing_at_the_end_is_shown() {
        assert_eq!(difference("a\nb\n", "x\na\n"), "@ 1\n+x\n a\n-b\n");
        assert_eq!(difference("", "x\n"), "@ 1\n+x\n");
    }

    #[test]
    fn texts_of_the_same_lines_differ_in_how_these_end() {
        assert_eq!(difference("a\n", "a"), "they differ in how lines end\n");
    }
}
