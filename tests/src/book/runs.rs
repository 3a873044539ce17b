//! Who ran when, as a picture: a row for each run, in the order in which they began, and time from left to right.

use crate::book::drawing::{By, Drawing};

/// A run: of whom, and from when until when, in hundredths of a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// As the rows of its kind are called.
    pub who: String,
    /// When it began.
    pub from: u64,
    /// When it ended.
    pub until: u64,
}

const LEFT: i32 = 150;
const WIDTH: i32 = 570;
const ROW: i32 = 26;

/// Draws runs; several of one name are numbered. The title says what can be seen.
pub fn who_ran_when(title: &str, runs: &[Ran]) -> String {
    let mut runs = runs.to_vec();
    runs.sort_by_key(|run| (run.from, run.until));
    let begin = runs.first().map_or(0, |run| run.from);
    let end = runs.iter().map(|run| run.until).max().unwrap_or(begin).max(begin + 1);
    let x = |at: u64| LEFT + ((at - begin) * WIDTH as u64 / (end - begin)) as i32;
    let bottom = 24 + ROW * runs.len() as i32;
    let mut drawing = Drawing::new(LEFT + WIDTH + 40, bottom + 44, title);
    let labels = labels(&runs);
    let kinds = kinds(&runs);
    for (row, (run, label)) in runs.iter().zip(&labels).enumerate() {
        let y = 24 + ROW * row as i32;
        drawing.text((20, y + 14), "", label);
        drawing.line(&[(LEFT, y + ROW - 4), (LEFT + WIDTH, y + ROW - 4)], "faintly");
        let kind = kinds.iter().position(|kind| *kind == run.who).unwrap_or_default();
        let by = By::ALL[kind % By::ALL.len()];
        drawing.rect((x(run.from), y), ((x(run.until) - x(run.from)).max(4), ROW - 8), by.class());
    }
    drawing.line(&[(LEFT, bottom + 8), (LEFT + WIDTH, bottom + 8)], "rule");
    for second in seconds(end - begin) {
        let at = x(begin + second * 100);
        drawing.line(&[(at, bottom + 4), (at, bottom + 12)], "rule");
        drawing.centred((at, bottom + 24), "small faint", &format!("{second} s"));
    }
    drawing.svg()
}

/// What the rows are called, whatever ran first: two pictures of one example have the same.
pub fn rows(svg: &str) -> Vec<String> {
    let texts =
        svg.lines().filter_map(|line| line.strip_prefix("<text x=\"20\"")?.split_once('>')?.1.strip_suffix("</text>"));
    let mut rows: Vec<_> = texts.map(str::to_owned).collect();
    rows.sort();
    rows
}

fn kinds(runs: &[Ran]) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for run in runs {
        if !kinds.contains(&run.who) {
            kinds.push(run.who.clone());
        }
    }
    kinds
}

fn labels(runs: &[Ran]) -> Vec<String> {
    let of = |runs: &[Ran], who: &str| runs.iter().filter(|run| run.who == who).count();
    let label = |(row, run): (usize, &Ran)| match of(runs, &run.who) {
        1 => run.who.clone(),
        _ => format!("{} {}", run.who, of(&runs[..=row], &run.who)),
    };
    runs.iter().enumerate().map(label).collect()
}

/// Which seconds the axis has: five to ten of them.
fn seconds(hundredths: u64) -> impl Iterator<Item = u64> {
    let seconds = hundredths / 100;
    let step = [1, 2, 5, 10, 20, 60].into_iter().find(|step| seconds / step <= 10).unwrap_or(600);
    (0..=seconds / step).map(move |index| index * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(who: &str, from: u64, until: u64) -> Ran {
        Ran { who: who.to_owned(), from, until }
    }

    #[test]
    fn each_run_is_a_row_in_the_order_of_beginnings() {
        let svg = who_ran_when("two, then one", &[ran("b", 500, 1000), ran("a", 0, 300), ran("a", 100, 500)]);
        let at = |label: &str| svg.find(&format!(">{label}</text>")).expect(label);
        assert!(at("a 1") < at("a 2") && at("a 2") < at("b"), "{svg}");
        assert_eq!(rows(&svg), ["a 1", "a 2", "b"]);
        assert!(svg.contains("<title id=\"title\">two, then one</title>"));
        let bar = |x: i32, width: i32| format!("<rect x=\"{x}\" y=\"24\" width=\"{width}\"");
        assert!(svg.contains(&bar(LEFT, WIDTH * 3 / 10)), "the first begins at the left: {svg}");
        assert!(svg.contains(">0 s<") && svg.contains(">10 s<") && !svg.contains(">11 s<"), "{svg}");
    }

    #[test]
    fn what_is_over_at_once_can_be_seen() {
        let svg = who_ran_when("a moment", &[ran("a", 0, 0)]);
        assert!(svg.contains("width=\"4\""), "{svg}");
    }
}
