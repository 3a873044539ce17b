//! Golden scripts of files, and what becomes of them.

use proptest::prelude::*;

use super::*;

/// What comes of a text, indented: a comment in it would be taken for one of the script.
fn play(text: String) -> String {
    let lines: Vec<String> = match convert(&[Source { name: "old.yaml".to_owned(), text }]) {
        Ok(Converted { text, notes }) => {
            let notes = notes.iter().map(|note| format!("warning: {note}"));
            text.lines().map(str::to_owned).chain(notes).collect()
        }
        Err(mistakes) => mistakes.iter().map(|mistake| format!("error: {mistake}")).collect(),
    };
    lines.iter().flat_map(|line| ["  ", line, "\n"]).collect()
}

#[test]
fn manifests_are_converted_as_written() {
    konductor_golden::check_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/convert"), |_, script| {
        konductor_golden::replay_sections(script, |inputs| {
            let (mut text, mut left) = (String::new(), inputs.len());
            move |line| {
                text += line.strip_prefix('.').unwrap_or(line);
                text.push('\n');
                left -= 1;
                if left == 0 { play(std::mem::take(&mut text)) } else { String::new() }
            }
        })
    });
}

#[test]
fn an_object_that_is_in_two_files_is_refused() {
    let lease = "apiVersion: sync.konductor.io/v1\nkind: Lease\nmetadata:\n  name: nightly\n";
    let source = |name: &str| Source { name: name.to_owned(), text: lease.to_owned() };
    let mistakes = convert(&[source("a.yaml"), source("b.yaml")]).expect_err("twice");
    assert_eq!(mistakes, ["b.yaml:4: a Lease of that name comes from a.yaml:4, too: give one of them another name"]);
}

#[test]
fn files_become_one_stream_of_documents() {
    let lease = |name: &str| {
        let text = format!("apiVersion: sync.konductor.io/v1\nkind: Lease\nmetadata:\n  name: {name}\n");
        Source { name: format!("{name}.yaml"), text }
    };
    let converted = convert(&[lease("a"), lease("b")]).expect("both");
    assert_eq!(converted.text.matches("---\n").count(), 1);
    assert_eq!(documents(&converted.text).expect("YAML").len(), 2);
}

proptest! {
    #[test]
    fn whatever_the_text_is_it_is_converted_kept_or_refused(text in ".{0,300}") {
        let before: String = text.lines().flat_map(|line| [line, "\n"]).collect();
        if let Ok(converted) = convert(&[Source { name: "x".to_owned(), text }]) {
            prop_assert!(converted.text == before || before.contains("konductor.io"));
        }
    }
}
