//! One page as it was read: its blocks, headings, links and words, each with its line.

use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::book::check::LANGUAGES;
use crate::book::links::anchors;
use crate::book::marker::Marker;

/// A block of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    /// The language that its fence names.
    pub language: String,
    /// What is in it.
    pub text: String,
    /// What becomes of it; or what is wrong with what says so.
    pub marker: Result<Marker, String>,
    /// The lines of the page that are in it: the first, and the one after the last.
    pub lines: (usize, usize),
    /// What stands before each of its lines.
    pub indent: String,
}

/// A link, or a picture, of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its line, from 1.
    pub line: usize,
    /// Where it leads, as it is written.
    pub to: String,
    /// What a picture says to those who do not see it; nothing for links.
    pub alternative: Option<String>,
}

/// A page of the book.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path, from the root of the workspace.
    pub path: PathBuf,
    /// What is in the file.
    pub text: String,
    /// Its blocks, from top to bottom.
    pub blocks: Vec<Block>,
    /// The anchors that links can name: of its headings, in their order.
    pub anchors: Vec<String>,
    /// Its links and pictures.
    pub links: Vec<Link>,
    /// Its prose, piece by piece with lines: what is neither code nor an address. A piece of nothing ends a paragraph, a
    /// heading, an item, or a cell.
    pub prose: Vec<(usize, String)>,
    /// Its first heading.
    pub title: Option<String>,
    /// The lines of its headings, in their order.
    headings: Vec<usize>,
    /// What is wrong beside the blocks: markers that belong to none.
    stray: Vec<(usize, String)>,
}

impl Page {
    /// Reads a page.
    pub fn parse(path: &Path, text: &str) -> Self {
        let all: Vec<_> = text.lines().collect();
        let line_of = |at: usize| text[..at].matches('\n').count() + 1;
        let (mut blocks, mut links, mut prose, mut headings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut heading_lines = Vec::new();
        let (mut block, mut heading): (Option<Block>, Option<String>) = (None, None);
        let mut picture: Option<Link> = None;
        let mut html = String::new();
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = line_of(range.start);
            match event {
                Event::Start(Tag::CodeBlock(kind)) => block = Some(begun(&kind, line, &all)),
                Event::Text(text) if block.is_some() => {
                    block.as_mut().expect("it was looked for").text += &text;
                }
                Event::End(TagEnd::CodeBlock) => {
                    let mut block: Block = block.take().expect("what ends has begun");
                    block.lines.1 = block.lines.0 + block.text.lines().count();
                    blocks.push(block);
                }
                Event::Start(Tag::HtmlBlock) => html.clear(),
                Event::Html(text) => html += &text,
                Event::End(TagEnd::HtmlBlock) => blocks.extend(scene(&html, line)),
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    headings.extend(heading.take());
                    heading_lines.push(line);
                    prose.push((line, String::new()));
                }
                Event::Start(Tag::Link { dest_url, .. }) => {
                    links.push(Link { line, to: dest_url.into_string(), alternative: None });
                }
                Event::Start(Tag::Image { dest_url, .. }) => {
                    picture = Some(Link { line, to: dest_url.into_string(), alternative: Some(String::new()) });
                }
                Event::End(TagEnd::Image) => links.extend(picture.take()),
                Event::Text(text) => {
                    if let Some(heading) = &mut heading {
                        *heading += &text;
                    }
                    if let Some(alternative) = picture.as_mut().and_then(|picture| picture.alternative.as_mut()) {
                        *alternative += &text;
                    }
                    prose.push((line, text.into_string()));
                }
                // Words do not go on from one of these to the next.
                Event::End(TagEnd::Paragraph | TagEnd::TableCell | TagEnd::Item) => prose.push((line, String::new())),
                Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        *heading += &text;
                    }
                }
                _ => {}
            }
        }
        let stray = strays(&all, &blocks);
        let title = headings.first().cloned();
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            blocks,
            anchors: anchors(&headings),
            links,
            prose,
            title,
            headings: heading_lines,
            stray,
        }
    }

    /// All that is wrong with the page as such, as `PATH:LINE: WHAT`.
    pub fn mistakes(&self) -> Vec<String> {
        let mut wrong = self.stray.clone();
        let mut ran = false;
        for block in &self.blocks {
            match &block.marker {
                Err(error) => wrong.push((block.line, error.clone())),
                Ok(Marker::Output { .. }) if !ran => {
                    wrong.push((
                        block.line,
                        "an output follows the block that prints it, with no other between".to_owned(),
                    ));
                }
                Ok(Marker::Run { with, .. }) if with.iter().any(|(word, _)| !block.text.contains(word.as_str())) => {
                    wrong.push((block.line, "with: wanted words of the block".to_owned()));
                }
                Ok(Marker::Check { language, .. }) if language != "sql" && !LANGUAGES.contains(&language.as_str()) => {
                    let known = LANGUAGES.join(", ");
                    wrong.push((block.line, format!("check: wanted one of {known}, sql, found {language:?}")));
                }
                Ok(_) => {}
            }
            // A block that is broken may have been meant to be run.
            ran = matches!(block.marker, Ok(Marker::Run { .. } | Marker::Apply(_)) | Err(_));
        }
        wrong.sort();
        wrong.iter().map(|(line, what)| self.at(*line, what)).collect()
    }

    /// The anchor of the heading above a line.
    pub fn section(&self, line: usize) -> &str {
        let above = self.headings.iter().take_while(|heading| **heading < line).count();
        above.checked_sub(1).map_or("", |last| &self.anchors[last])
    }

    /// A complaint about a line.
    pub fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }

    /// The page with other text in some of its blocks, each named by its line.
    pub fn with(&self, changes: &[(usize, String)]) -> String {
        let mut lines: Vec<String> = self.text.lines().map(str::to_owned).collect();
        let mut changes: Vec<_> = changes.iter().collect();
        // From the end, so that those before stay where they are.
        changes.sort_by_key(|(line, _)| std::cmp::Reverse(*line));
        for (line, text) in changes {
            let block = self.blocks.iter().find(|block| block.line == *line).expect("a block of this page");
            let new = text.lines().map(|line| format!("{}{line}", block.indent).trim_end().to_owned());
            lines.splice(block.lines.0 - 1..block.lines.1 - 1, new);
        }
        lines.join("\n") + "\n"
    }
}

/// A block whose beginning was seen.
fn begun(kind: &CodeBlockKind<'_>, line: usize, lines: &[&str]) -> Block {
    let indent: String = lines[line - 1].chars().take_while(|c| " >\t".contains(*c)).collect();
    let (language, marker) = match kind {
        CodeBlockKind::Indented => {
            (String::new(), Err("an indented block has no place for what says what becomes of it: fence it".to_owned()))
        }
        CodeBlockKind::Fenced(language) => {
            let before = line.checked_sub(2).and_then(|before| lines.get(before)).copied().unwrap_or_default();
            let marker = comment(before).map_or_else(
                || Err("on the line before a block stands what becomes of it, as in <!-- run: local -->".to_owned()),
                Marker::parse,
            );
            (language.to_string(), marker)
        }
    };
    Block { line, language, text: String::new(), marker, lines: (line + 1, line + 1), indent }
}

/// What a comment of several lines has to be run, which nobody sees: the first says how, as before a block.
fn scene(html: &str, line: usize) -> Option<Block> {
    let (first, text) = html.strip_prefix("<!--")?.split_once('\n')?;
    let text = text.split_once("-->").map_or(text, |(text, _)| text);
    let marker = match Marker::parse(first) {
        // One of a single line speaks of the block after it.
        _ if first.contains("-->") || !Marker::is_meant(first) => return None,
        Ok(marker @ Marker::Run { .. }) => Ok(marker),
        Ok(_) => Err("in a comment stands what is run: wanted run: PLACE".to_owned()),
        Err(error) => Err(error),
    };
    let lines = (line + 1, line + 1 + text.lines().count());
    Some(Block { line, language: "sh".to_owned(), text: text.to_owned(), marker, lines, indent: String::new() })
}

/// What is in a line that is a comment and nothing else.
fn comment(line: &str) -> Option<&str> {
    line.trim_matches([' ', '>', '\t']).strip_prefix("<!--")?.strip_suffix("--").or_else(|| {
        // The `>` of `-->` was trimmed, or was not.
        line.trim_matches([' ', '\t']).trim_start_matches(['>', ' ']).strip_prefix("<!--")?.strip_suffix("-->")
    })
}

/// Markers that stand before no block.
fn strays(lines: &[&str], blocks: &[Block]) -> Vec<(usize, String)> {
    let within = |line: usize| blocks.iter().any(|block| block.lines.0 <= line && line < block.lines.1);
    let meant = lines.iter().enumerate().filter_map(|(index, line)| Some((index + 1, comment(line)?)));
    meant
        .filter(|(line, text)| {
            Marker::is_meant(text) && !within(*line) && !blocks.iter().any(|block| block.line == line + 1)
        })
        .map(|(line, text)| (line, format!("no block follows on the next line: {}", text.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::marker::Place;

    fn page(text: &str) -> Page {
        Page::parse(Path::new("docs/page.md"), text)
    }

    const GOOD: &str = "# A page

Words, `code` and [a link](other.md#there).

<!-- run: local -->
```sh
echo one
```
<!-- output -->
```text
one
```

1. In a list:

   <!-- file: a.yaml -->
   ```yaml
   a:
     b: 1
   ```

> <!-- not run: needs internet -->
> ```sh
> curl x
> ```

## A page
![a picture](x.svg)
";

    #[test]
    fn a_page_is_read() {
        let page = page(GOOD);
        assert_eq!(page.mistakes(), Vec::<String>::new());
        let blocks: Vec<_> =
            page.blocks.iter().map(|block| (block.line, block.text.as_str(), block.marker.clone())).collect();
        let run = Marker::Run { place: Place::Local, code: 0, until: false, background: false, with: Vec::new() };
        assert_eq!(
            blocks,
            [
                (6, "echo one\n", Ok(run)),
                (10, "one\n", Ok(Marker::Output { any_order: false })),
                (17, "a:\n  b: 1\n", Ok(Marker::File("a.yaml".to_owned()))),
                (23, "curl x\n", Ok(Marker::NotRun("needs internet".to_owned()))),
            ]
        );
        assert_eq!(page.title.as_deref(), Some("A page"));
        assert_eq!(page.anchors, ["a-page", "a-page-1"]);
        let links: Vec<_> = page.links.iter().map(|link| (link.line, &*link.to, link.alternative.as_deref())).collect();
        assert_eq!(links, [(3, "other.md#there", None), (28, "x.svg", Some("a picture"))]);
        let prose: String = page.prose.iter().map(|(_, text)| text.as_str()).collect();
        assert!(prose.contains("Words, ") && !prose.contains("code") && !prose.contains("other.md"), "{prose}");
    }

    #[test]
    fn a_scene_is_run_and_not_seen() {
        let page = page(
            "# A\n\n<!-- run: api\nkubectl create job a\n-->\n<!-- run: api -->\n```sh\nb\n```\n<!-- a\nremark -->\n## B\n",
        );
        let blocks: Vec<_> = page.blocks.iter().map(|block| (block.line, block.text.as_str())).collect();
        assert_eq!(blocks, [(3, "kubectl create job a\n"), (7, "b\n")]);
        assert_eq!(page.mistakes(), Vec::<String>::new());
        assert_eq!([page.section(7), page.section(20), page.section(1)], ["a", "b", ""]);
    }

    #[test]
    fn what_is_wrong_with_a_page_is_said_with_its_line() {
        for (text, complaint) in [
            ("<!-- file: a\nx\n-->\n", "docs/page.md:1: in a comment stands what is run"),
            ("<!-- run: moon\nx\n-->\n", "docs/page.md:1: wanted a place"),
            ("<!-- run: api; with: JOB=a -->\n```sh\nx\n```\n", "docs/page.md:2: with: wanted words of the block"),
            ("```sh\nx\n```\n", "docs/page.md:1: on the line before a block"),
            ("<!-- run: local -->\n\n```sh\nx\n```\n", "docs/page.md:3: on the line before a block"),
            ("<!-- run: local -->\n\n```sh\nx\n```\n", "docs/page.md:1: no block follows"),
            ("<!-- a remark -->\n```sh\nx\n```\n", "docs/page.md:2: wanted one of run"),
            ("<!-- run: moon -->\n```sh\nx\n```\n", "docs/page.md:2: wanted a place"),
            ("words\n\n    koncli x\n", "docs/page.md:3: an indented block"),
            ("<!-- output -->\n```\nx\n```\n", "docs/page.md:2: an output follows"),
            ("<!-- check: cobol -->\n```\nx\n```\n", "docs/page.md:2: check: wanted one of"),
            (
                "<!-- run: local -->\n```\nx\n```\n<!-- file: a -->\n```\n```\n<!-- output -->\n```\nx\n```\n",
                "docs/page.md:9: an output follows",
            ),
            (
                "<!-- run: local -->\n```\nx\n```\n<!-- output -->\n```\n```\n<!-- output -->\n```\nx\n```\n",
                "docs/page.md:9: an output follows",
            ),
        ] {
            let found = page(text).mistakes();
            assert!(found.iter().any(|found| found.starts_with(complaint)), "{text:?}: {found:?}");
        }
        // What a block shows is no marker.
        assert_eq!(page("<!-- file: a -->\n```md\n<!-- run: x -->\n```\n").mistakes(), Vec::<String>::new());
    }

    #[test]
    fn what_a_block_shows_can_be_written_anew() {
        let page = page(GOOD);
        let changed = page.with(&[(10, "two\n\nthree\n".to_owned()), (17, "c: 2\n".to_owned())]);
        let expected = GOOD.replace("```text\none", "```text\ntwo\n\nthree").replace("   a:\n     b: 1", "   c: 2");
        assert_eq!(changed, expected);
        assert_eq!(page.with(&[]), GOOD);
    }
}
