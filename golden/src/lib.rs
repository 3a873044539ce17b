//! Golden scripts: text files that tell what happens, line by line, and what follows from it. They are meant to be read
//! as a specification, and are held against what the code does.
//!
//! A test plays a script, which gives the same inputs with what really follows from them, and this compares the two
//! texts byte for byte. With `UPDATE_GOLDEN` in the environment it writes the played text into the file instead; the
//! difference is to be read before it is committed.
//!
//! There are two layouts:
//!
//! - [`replay`]: a line is an input, and what follows from it stands indented below it;
//! - [`replay_sections`]: a section (`## ...`) is a scene of its own, an input begins with `> `, and all else is
//!   what follows.
//!
//! In both, a line that begins with `#` is for people.

#![forbid(unsafe_code)]

mod difference;

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use difference::difference;

/// Whoever sets this variable wants the scripts to say what happens now.
const UPDATE: &str = "UPDATE_GOLDEN";

/// Plays all scripts of a folder, which are given by their name without its ending and their text.
///
/// # Panics
///
/// If what is played is not what is written, with all the differences; if there are no scripts; if one cannot be read
/// or written.
#[track_caller]
pub fn check_folder(folder: impl AsRef<Path>, play: impl FnMut(&str, &str) -> String) {
    check_all(folder.as_ref(), play, env::var_os(UPDATE).is_some());
}

#[track_caller]
fn check_all(folder: &Path, mut play: impl FnMut(&str, &str) -> String, update: bool) {
    let scripts = scripts(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    let played = scripts.iter().map(|script| {
        let name = script.file_stem().unwrap_or_default().to_string_lossy();
        check(script, |text| play(&name, text), update)
    });
    report(&played.collect::<Vec<_>>());
}

/// Plays one script, which is given by its text.
///
/// # Panics
///
/// As [`check_folder`].
#[track_caller]
pub fn check_file(script: impl AsRef<Path>, play: impl FnOnce(&str) -> String) {
    report(&[check(script.as_ref(), play, env::var_os(UPDATE).is_some())]);
}

#[track_caller]
fn report(results: &[Result<(), String>]) {
    let differences: String = results.iter().filter_map(|result| result.as_ref().err().map(String::as_str)).collect();
    assert!(
        differences.is_empty(),
        "not as written:\n{differences}{UPDATE}=1 writes what happens now: read the difference"
    );
}

/// The files of a folder, in the order of their names.
fn scripts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut scripts =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    scripts.sort();
    Ok(scripts)
}

/// Plays a script and compares or updates it. The error is the difference.
#[track_caller]
fn check(script: &Path, play: impl FnOnce(&str) -> String, update: bool) -> Result<(), String> {
    let written = fs::read_to_string(script).unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    let played = play(&written);
    if played == written {
        return Ok(());
    }
    if update {
        fs::write(script, played).unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        return Ok(());
    }
    Err(format!("--- {}, as written\n+++ as played\n{}", script.display(), difference(&written, &played)))
}

/// The script with what really follows from its lines. Those that are not indented are kept, and given to `follow`
/// unless they are empty; what it returns stands below, a line each, behind `indent`.
#[track_caller]
pub fn replay(script: &str, indent: &str, mut follow: impl FnMut(&str) -> Vec<String>) -> String {
    let mut played = String::new();
    for line in script.lines().filter(|line| !line.starts_with(' ')) {
        push(&mut played, line);
        if !line.is_empty() {
            for effect in follow(line) {
                push(&mut played, &format!("{indent}{effect}"));
            }
        }
    }
    played
}

/// The script with what really follows from the inputs of its sections. `open` is given each section's inputs, and
/// returns what plays one of them after the other: whole lines, or nothing.
#[track_caller]
pub fn replay_sections<P: FnMut(&str) -> String>(script: &str, mut open: impl FnMut(&[&str]) -> P) -> String {
    let mut sections = script.split("\n## ");
    let mut played = String::new();
    // The title, and what stands before the first section.
    push(&mut played, sections.next().unwrap_or_default().trim_end());
    for section in sections {
        let (heading, lines) = section.split_once('\n').unwrap_or((section, ""));
        let inputs: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("> ")).collect();
        let mut follow = open(&inputs);
        push(&mut played, &format!("\n## {heading}"));
        for line in lines.lines().filter(|line| line.starts_with(['>', '#'])) {
            push(&mut played, line);
            if let Some(input) = line.strip_prefix("> ") {
                played.push_str(&follow(input));
            }
        }
    }
    played
}

fn push(text: &mut String, line: &str) {
    // A string takes everything.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "# A counter.\nadd 1\n  is 1\n\nadd 2\n  is 3\n  is odd\n";

    /// Plays scripts of a counter.
    fn count(script: &str) -> String {
        let mut sum = 0;
        replay(script, "  ", |line| {
            let Some(number) = line.strip_prefix("add ") else { return vec![] };
            sum += number.parse::<i32>().expect("a number");
            let odd = (sum % 2 == 1 && sum > 1).then(|| "is odd".to_owned());
            [format!("is {sum}")].into_iter().chain(odd).collect()
        })
    }

    #[test]
    fn what_follows_is_written_anew_and_all_else_is_kept() {
        assert_eq!(count(SCRIPT), SCRIPT);
        assert_eq!(count("# A counter.\nadd 1\n  is 7\n  is blue\n\nadd 2\n"), SCRIPT);
    }

    #[test]
    fn each_section_begins_anew_and_knows_its_inputs() {
        let script =
            "# Counters.\n# All begin with 0.\n\n## One.\n> 1\n1 of 2\n# Then:\n> 2\n3 of 2\n\n## Another.\n> 5\n";
        let play = |script: &str| {
            replay_sections(script, |inputs| {
                let (mut sum, count) = (0, inputs.len());
                move |input| {
                    sum += input.parse::<i32>().expect("a number");
                    if sum == 5 { String::new() } else { format!("{sum} of {count}\n") }
                }
            })
        };
        assert_eq!(play(script), script);
        assert_eq!(play(&script.replace("3 of 2", "4 of 2\nanother line")), script);
    }

    #[test]
    fn a_script_that_is_not_as_written_is_an_error_or_written_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("counter.txt");
        fs::write(&script, SCRIPT.replace("is 3", "is 4")).expect("write");
        let difference = check(&script, count, false).expect_err("it is not as written");
        assert!(difference.contains("counter.txt, as written"), "{difference}");
        assert!(difference.contains("-  is 4\n+  is 3\n"), "{difference}");
        assert_eq!(check(&script, count, true), Ok(()));
        assert_eq!(fs::read_to_string(&script).expect("read"), SCRIPT);
        assert_eq!(check(&script, count, false), Ok(()));
    }

    #[test]
    fn all_scripts_of_a_folder_are_played_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b", "a", "c"] {
            fs::write(folder.path().join(name).with_extension("txt"), SCRIPT).expect("write");
        }
        let mut names = Vec::new();
        let play = |name: &str, text: &str| {
            names.push(name.to_owned());
            count(text)
        };
        check_all(folder.path(), play, false);
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    #[should_panic(expected = "no scripts in")]
    fn a_folder_without_scripts_is_a_mistake() {
        let folder = tempfile::tempdir().expect("a folder");
        check_all(folder.path(), |_, text| count(text), false);
    }

    #[test]
    #[should_panic(expected = "+  is 1")]
    fn one_of_many_that_is_not_as_written_is_enough() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a.txt"), "add 1\n  is 2\n").expect("write");
        fs::write(folder.path().join("b.txt"), SCRIPT).expect("write");
        check_all(folder.path(), |_, text| count(text), false);
    }
}
