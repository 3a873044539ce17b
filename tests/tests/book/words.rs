//! The words of the pages: spelt as `hunspell` and `docs/words.txt` have them, and one word for one thing
//! (`docs/glossary.txt`).
//!
//! What has digits, capitals within, or nothing but capitals is a name of something and no word; code is not looked at.
//! Spelling is British, as of Debian's `hunspell-en-gb`: a small program with a dictionary that others keep, and which
//! every editor knows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use konductor_tests::book::{Book, Page};
use konductor_tests::workspace;

/// Ours, beside those of the dictionary; one a line, in order.
const WORDS: &str = "docs/words.txt";

/// What is not said, and what is said instead.
const GLOSSARY: &str = "docs/glossary.txt";

fn read(file: &str) -> String {
    std::fs::read_to_string(workspace().join(file)).unwrap_or_else(|error| panic!("read {file}: {error}"))
}

/// The words of a text, as they are written, but for paths and hosts.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_path = |token: &&str| token.trim_matches(|c: char| !c.is_alphanumeric()).contains(['/', '.', '_', '@']);
    text.split_whitespace().filter(move |token| !is_path(token)).flat_map(|token| {
        token
            .split(|c: char| !c.is_alphanumeric() && c != '\'')
            .map(|word| word.trim_matches('\''))
            .filter(|word| !word.is_empty())
    })
}

/// Whether it is spelt, and does not name something.
fn is_word(word: &str) -> bool {
    let bare = word.strip_suffix("'s").unwrap_or(word);
    let within = bare.chars().skip(1).any(char::is_uppercase);
    !within && bare.chars().count() > 1 && !bare.chars().any(|c| c.is_ascii_digit())
}

/// Those of these words that the dictionary does not have.
fn misspelt(words: &BTreeSet<String>) -> BTreeSet<String> {
    let mut hunspell = Command::new("hunspell")
        .args(["-d", "en_GB", "-i", "UTF-8", "-l"])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("run hunspell (apt-get install hunspell hunspell-en-gb): {error}"));
    let mut stdin = hunspell.stdin.take().expect("stdin is a pipe");
    let all: Vec<_> = words.iter().cloned().collect();
    // It answers while it reads.
    let writer = std::thread::spawn(move || stdin.write_all(all.join("\n").as_bytes()));
    let output = hunspell.wait_with_output().expect("wait for a child");
    assert!(output.status.success(), "hunspell has no dictionary: apt-get install hunspell-en-gb");
    writer.join().expect("it does not panic").expect("hunspell reads all");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn words_are_spelt_as_the_lists_have_them() {
    let book = Book::of(workspace());
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for page in book.pages.values().chain(book.beside.values()) {
        for (line, text) in &page.prose {
            for word in words(text).filter(|word| is_word(word)) {
                places.entry(word.to_owned()).or_insert_with(|| page.at(*line, word));
            }
        }
    }
    let ours = read(WORDS);
    let ours: Vec<_> = ours.lines().collect();
    assert!(ours.is_sorted(), "{WORDS} is in order");
    let unknown = misspelt(&places.keys().cloned().collect());
    let is_ours = |word: &str| {
        let bare = word.strip_suffix("'s").unwrap_or(word);
        ours.contains(&bare) || ours.contains(&bare.to_lowercase().as_str())
    };
    let wrong: Vec<_> = unknown.iter().filter(|word| !is_ours(word)).map(|word| places[word].as_str()).collect();
    assert!(wrong.is_empty(), "misspelt, or missing in {WORDS}:\n{}", wrong.join("\n"));
    // A word that nobody says hides the next one who means another.
    let said: BTreeSet<_> = unknown.iter().map(|word| word.strip_suffix("'s").unwrap_or(word).to_lowercase()).collect();
    let idle: Vec<_> = ours.iter().filter(|word| !said.contains(&word.to_lowercase())).collect();
    assert!(idle.is_empty(), "in {WORDS}, and on no page: {idle:?}");
}

#[test]
fn a_misspelt_word_is_found() {
    let these = ["behaviour", "behavour", "licences", "waiter"].map(str::to_owned);
    assert_eq!(misspelt(&BTreeSet::from(these)), BTreeSet::from(["behavour".to_owned()]));
    let text = "It's the (CronJob's) waiter-less, 5m; KUBECONFIG README's 'x' naïve";
    let found: Vec<_> = words(text).filter(|word| is_word(word)).collect();
    assert_eq!(found, ["It's", "the", "waiter", "less", "naïve"]);
}

/// A rule of the glossary: words in a row, and what to say instead.
struct Rule<'a> {
    not: Vec<String>,
    instead: &'a str,
}

fn rules(glossary: &str) -> Vec<Rule<'_>> {
    let lines = glossary.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rule = |line| {
        let (not, instead): (&str, &str) =
            str::split_once(line, " -> ").unwrap_or_else(|| panic!("{GLOSSARY}: {line:?}"));
        Rule { not: words(not).map(str::to_lowercase).collect(), instead }
    };
    lines.map(rule).collect()
}

/// What a page says that it should not.
fn slips(page: &Page, rules: &[Rule<'_>]) -> Vec<String> {
    let said: Vec<_> = page
        .prose
        .iter()
        .flat_map(|(line, text)| {
            let end = text.is_empty().then_some("");
            words(text).chain(end).map(|word| (*line, word)).collect::<Vec<_>>()
        })
        .collect();
    let mut found = Vec::new();
    for rule in rules {
        for at in said.windows(rule.not.len()) {
            let is = at.iter().map(|(_, word)| word.to_lowercase()).eq(rule.not.iter().cloned());
            // A rule may be about capitals alone.
            if is && !at.iter().map(|(_, word)| *word).eq(words(rule.instead)) {
                found.push(page.at(at[0].0, &format!("{:?}: {}", rule.not.join(" "), rule.instead)));
            }
        }
    }
    found
}

#[test]
fn one_word_is_said_for_one_thing() {
    let glossary = read(GLOSSARY);
    let rules = rules(&glossary);
    assert!(!rules.is_empty(), "there are rules");
    let book = Book::of(workspace());
    let all = book.pages.values().chain(book.beside.values());
    let found: Vec<_> = all.flat_map(|page| slips(page, &rules)).collect();
    assert!(found.is_empty(), "see {GLOSSARY}:\n{}", found.join("\n"));
}

#[test]
fn a_slip_is_found_with_its_line() {
    let page = Page::parse(
        Path::new("page.md"),
        "# A\n\nThe Fence\ntoken, and `fence token`, of what is fenced, by a CronJob or a cronjob of a/cronjob.\n\n| a fence | token |\n|---|---|\n",
    );
    let rules = rules("# why\nfence token -> fencing token\ncronjob -> CronJob\n");
    assert_eq!(slips(&page, &rules), ["page.md:3: \"fence token\": fencing token", "page.md:4: \"cronjob\": CronJob"]);
}
