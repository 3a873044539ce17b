//! The blocks of a page that are run one after the other in one place.

use crate::book::marker::{Marker, Place};
use crate::book::page::{Block, Page};

/// What a page does in one place.
#[derive(Debug)]
pub struct Story<'a> {
    /// The page.
    pub page: &'a Page,
    /// Where.
    pub place: Place,
    /// What is done, in its order, and what is then shown as printed.
    pub steps: Vec<(&'a Block, Option<&'a Block>)>,
}

impl<'a> Story<'a> {
    /// The stories of a page, of which each place has at most one. One of a page that only writes and checks is told
    /// without a cluster.
    pub fn of(page: &'a Page) -> Vec<Self> {
        let mut places: Vec<_> = page.blocks.iter().filter_map(|block| block.marker.as_ref().ok()?.place()).collect();
        places.sort_unstable();
        places.dedup();
        if places.len() > 1 {
            places.retain(|place| *place != Place::Local);
        }
        let does = |block: &&Block| matches!(&block.marker, Ok(Marker::File(_) | Marker::Check { .. }));
        if places.is_empty() && page.blocks.iter().any(|block| does(&block)) {
            places.push(Place::Local);
        }
        places.iter().map(|place| Self::told(page, *place, places.first() == Some(place))).collect()
    }

    fn told(page: &'a Page, place: Place, first: bool) -> Self {
        let mut steps: Vec<(&Block, Option<&Block>)> = Vec::new();
        // Whether the last block is in this story: then an output is what that prints.
        let mut told = false;
        for block in &page.blocks {
            let Ok(marker) = &block.marker else { continue };
            if matches!(marker, Marker::Output { .. }) {
                if let Some((_, output)) = steps.last_mut().filter(|_| told) {
                    *output = Some(block);
                }
                continue;
            }
            told = match marker {
                Marker::Run { .. } | Marker::Apply(_) | Marker::Dry(_) => {
                    let of = marker.place();
                    of == Some(place) || first && of == Some(Place::Local)
                }
                Marker::File(_) => true,
                Marker::Check { .. } => first,
                Marker::Output { .. } | Marker::NotRun(_) => false,
            };
            if told {
                steps.push((block, None));
            }
        }
        Self { page, place, steps }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    /// The stories of a page with these blocks: each place, and what its blocks say.
    fn stories(blocks: &[&str]) -> Vec<(Place, Vec<String>)> {
        let mut text = String::new();
        for (number, marker) in blocks.iter().enumerate() {
            writeln!(text, "<!-- {marker} -->\n```\n{number}\n```").expect("write to a string");
        }
        let page = Page::parse(Path::new("page.md"), &text);
        assert_eq!(page.mistakes(), Vec::<String>::new());
        let step = |(block, output): &(&Block, Option<&Block>)| {
            let output = output.map_or(String::new(), |output| format!(" prints {}", output.text.trim_end()));
            block.text.trim_end().to_owned() + &output
        };
        let told = |story: &Story<'_>| (story.place, story.steps.iter().map(step).collect());
        Story::of(&page).iter().map(told).collect()
    }

    #[test]
    fn each_place_has_its_story() {
        let told = |place, steps: &[&str]| (place, steps.iter().map(|&step| step.to_owned()).collect::<Vec<_>>());
        assert_eq!(stories(&[]), []);
        assert_eq!(stories(&["not run: needs internet"]), []);
        assert_eq!(stories(&["check: json"]), [told(Place::Local, &["0"])]);
        assert_eq!(stories(&["run: local", "output", "file: a"]), [told(Place::Local, &["0 prints 1", "2"])]);
        assert_eq!(
            stories(&[
                "file: a",
                "run: local",
                "output",
                "apply: api",
                "not run: needs internet",
                "run: node",
                "output"
            ]),
            [told(Place::Api, &["0", "1 prints 2", "3"]), told(Place::Node, &["0", "5 prints 6"])]
        );
        assert_eq!(stories(&["run: helm", "run: local"]), [told(Place::Helm, &["0", "1"])]);
    }
}
