//! The pages of the book, and whether what they name is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::book::page::Page;

/// All pages, and the files beside them.
#[derive(Debug, Default)]
pub struct Book {
    /// By their paths from the root of the workspace.
    pub pages: BTreeMap<PathBuf, Page>,
    /// Other Markdown, whose links are checked, too.
    pub beside: BTreeMap<PathBuf, Page>,
    /// All other files and folders that a link may lead to.
    pub others: BTreeSet<PathBuf>,
}

/// Where the sources of the rendered book are.
const SOURCES: &str = "docs";

impl Book {
    /// The book of this workspace: `docs`, and what is read beside it.
    pub fn of(root: &Path) -> Self {
        let mut files = BTreeSet::new();
        collect(root, root, &mut files);
        let mut book = Self::default();
        for path in files {
            let is_page = path.starts_with(SOURCES)
                || path == Path::new("README.md")
                || path.starts_with("examples") && path.ends_with("README.md");
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(root.join(&path)).expect("read a page");
                let page = Page::parse(&path, &text);
                if is_page {
                    book.pages.insert(path, page)
                } else {
                    book.beside.insert(path, page)
                };
            } else {
                book.others.insert(path);
            }
        }
        book
    }

    /// What is wrong with what the pages name, as `PATH:LINE: WHAT`: links that lead nowhere, pictures without words,
    /// pages that the summary does not list.
    pub fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for page in self.pages.values().chain(self.beside.values()) {
            for link in &page.links {
                if let Err(error) = self.leads(page, &link.to) {
                    wrong.push(page.at(link.line, &format!("{}: {error}", link.to)));
                }
                if link.alternative.as_ref().is_some_and(|words| words.trim().is_empty()) {
                    wrong
                        .push(page.at(link.line, &format!("{}: a picture has words for who does not see it", link.to)));
                }
            }
            if page.title.is_none() {
                wrong.push(page.at(1, "a page begins with a heading"));
            }
        }
        wrong.extend(self.summary());
        wrong
    }

    /// The addresses outside that the pages name.
    pub fn outside(&self) -> BTreeSet<&str> {
        let links = self.pages.values().flat_map(|page| &page.links);
        links.map(|link| link.to.as_str()).filter(|to| is_outside(to)).collect()
    }

    fn leads(&self, page: &Page, to: &str) -> Result<(), String> {
        if is_outside(to) {
            return address(to);
        }
        let (path, anchor) = to.split_once('#').map_or((to, None), |(path, anchor)| (path, Some(anchor)));
        let target = if path.is_empty() {
            page.path.clone()
        } else {
            let folder = page.path.parent().unwrap_or(Path::new(""));
            within(&folder.join(path)).ok_or("wanted a path within the repository")?
        };
        match (self.pages.get(&target).or_else(|| self.beside.get(&target)), anchor) {
            (Some(target), Some(anchor)) if target.anchors.iter().any(|known| known == anchor) => Ok(()),
            (Some(target), Some(_)) => {
                Err(format!("{} has the anchors {}", target.path.display(), target.anchors.join(", ")))
            }
            (None, _) if !self.others.contains(&target) => Err("there is no such file".to_owned()),
            (_, None) => Ok(()),
            (None, Some(_)) => Err("an anchor of a file that is no page".to_owned()),
        }
    }

    /// What the summary lists too little or too much.
    fn summary(&self) -> Vec<String> {
        let path = Path::new(SOURCES).join("SUMMARY.md");
        let Some(summary) = self.pages.get(&path) else { return vec![format!("{}: there is none", path.display())] };
        let listed: Vec<_> =
            summary.links.iter().filter_map(|link| within(&Path::new(SOURCES).join(&link.to))).collect();
        let mut wrong = Vec::new();
        for page in self.pages.keys().filter(|page| page.starts_with(SOURCES) && **page != path) {
            match listed.iter().filter(|listed| *listed == page).count() {
                1 => {}
                0 => wrong.push(format!("{}:1: no line of {} lists it", page.display(), path.display())),
                times => wrong.push(format!("{}:1: {} lists it {times} times", page.display(), path.display())),
            }
        }
        for link in &summary.links {
            if !within(&Path::new(SOURCES).join(&link.to)).is_some_and(|listed| listed.starts_with(SOURCES)) {
                wrong.push(summary.at(link.line, &format!("{}: wanted a page of {SOURCES}", link.to)));
            }
        }
        wrong
    }
}

/// Whether an address is one of the world outside.
fn is_outside(to: &str) -> bool {
    to.split_once(':')
        .is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// Whether an address outside can be one.
fn address(to: &str) -> Result<(), String> {
    let uri: http::Uri = to.parse().map_err(|error| format!("no address: {error}"))?;
    let host = uri.host().unwrap_or_default();
    if uri.scheme_str() != Some("https") {
        Err("wanted https".to_owned())
    } else if !host.contains('.') {
        Err(format!("wanted a host, found {host:?}"))
    } else {
        Ok(())
    }
}

/// A path without `.` and `..`, if it stays within the root.
fn within(path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => found.push(name),
            Component::ParentDir => {
                if !found.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(found)
}

/// Files and folders, but for what is built or behind a dot.
fn collect(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("list a folder") {
        let entry = entry.expect("list a folder");
        let name = entry.file_name();
        if name == "target" || name.to_string_lossy().starts_with('.') && name != ".ci" && name != ".github" {
            continue;
        }
        let path = entry.path();
        found.insert(path.strip_prefix(root).expect("it is within").to_owned());
        if entry.file_type().expect("look at a file").is_dir() {
            collect(root, &path, found);
        }
    }
}

/// The anchor that a heading gets, on repositories' pages and in the rendered book alike.
pub fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a page's headings: those that come again are counted.
pub(crate) fn anchors(headings: &[String]) -> Vec<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    headings
        .iter()
        .map(|heading| {
            let anchor = anchor(heading);
            let time = times.entry(anchor.clone()).or_default();
            *time += 1;
            if *time == 1 { anchor } else { format!("{anchor}-{}", *time - 1) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(pages: &[(&str, &str)], others: &[&str]) -> Book {
        let page = |(path, text): &(&str, &str)| (PathBuf::from(path), Page::parse(Path::new(path), text));
        let beside = [page(&("ARCHITECTURE.md", "# The map\n"))].into_iter().collect();
        Book { pages: pages.iter().map(page).collect(), beside, others: others.iter().map(PathBuf::from).collect() }
    }

    #[test]
    fn a_link_leads_to_what_is_there() {
        let summary = ("docs/SUMMARY.md", "# Summary\n- [a](a.md)\n- [b](guides/b.md)\n");
        let other = ("docs/guides/b.md", "# B\n## It's `kubectl get` & more\n## Same\n## Same\n");
        for (link, complaint) in [
            ("guides/b.md", None),
            ("guides/b.md#its-kubectl-get--more", None),
            ("guides/b.md#same-1", None),
            ("#a", None),
            ("../examples/x.yaml", None),
            ("../examples", None),
            ("../ARCHITECTURE.md#the-map", None),
            ("../ARCHITECTURE.md#the-way", Some("has the anchors the-map")),
            ("https://example.com/x#y", None),
            ("guides/c.md", Some("there is no such file")),
            ("guides/b.md#nothing", Some("has the anchors b, its-kubectl-get--more")),
            ("#b", Some("has the anchors a")),
            ("../../etc/passwd", Some("within the repository")),
            ("/etc/passwd", Some("within the repository")),
            ("../examples/x.yaml#1", Some("no page")),
            ("http://example.com", Some("wanted https")),
            ("https://localhost/x", Some("wanted a host")),
            ("mailto:ann@example.com", Some("wanted https")),
        ] {
            let page = format!("# A\n\nWords and [a link]({link}).\n");
            let book = book(&[summary, other, ("docs/a.md", &page)], &["examples", "examples/x.yaml"]);
            let found = book.mistakes();
            match complaint {
                None => assert_eq!(found, Vec::<String>::new(), "{link}"),
                Some(complaint) => {
                    let [found] = &found[..] else { panic!("{link}: {found:?}") };
                    assert!(found.starts_with("docs/a.md:3: ") && found.contains(complaint), "{found}");
                }
            }
        }
    }

    #[test]
    fn a_page_is_listed_once_and_has_a_heading_and_pictures_have_words() {
        let page = ("docs/a.md", "# A\n");
        for (pages, complaint) in [
            (vec![page], "docs/SUMMARY.md: there is none"),
            (vec![page, ("docs/SUMMARY.md", "# Summary\n")], "docs/a.md:1: no line of docs/SUMMARY.md lists it"),
            (
                vec![page, ("docs/SUMMARY.md", "# Summary\n[a](a.md) [a](a.md)\n")],
                "docs/a.md:1: docs/SUMMARY.md lists it 2 times",
            ),
            (
                vec![page, ("README.md", "# R\n"), ("docs/SUMMARY.md", "# S\n[a](a.md)\n[r](../README.md)\n")],
                "docs/SUMMARY.md:3: ../README.md: wanted a page of docs",
            ),
            (vec![("docs/a.md", "words\n"), ("docs/SUMMARY.md", "# S\n[a](a.md)\n")], "docs/a.md:1: a page begins"),
            (
                vec![("docs/a.md", "# A\n![](a.md)\n"), ("docs/SUMMARY.md", "# S\n[a](a.md)\n")],
                "docs/a.md:2: a.md: a picture has words",
            ),
        ] {
            let found = book(&pages, &[]).mistakes();
            let [found] = &found[..] else { panic!("{complaint}: {found:?}") };
            assert!(found.starts_with(complaint), "{found}");
        }
    }

    #[test]
    fn addresses_outside_are_listed() {
        let book = book(&[("docs/a.md", "# A\n[x](https://example.com) [b](b.md)\n")], &[]);
        assert_eq!(book.outside().into_iter().collect::<Vec<_>>(), ["https://example.com"]);
    }
}
