//! The runner itself: it plays what can be played, and finds each thing that is wrong.

use std::fmt::Write as _;
use std::path::Path;

use konductor_tests::book::{Page, Story, Surroundings, play};

/// Plays a page of these blocks, each a marker and a text; without a cluster.
async fn played(blocks: &[(&str, &str)], update: bool) -> Result<Vec<(usize, String)>, String> {
    let mut text = String::new();
    for (marker, block) in blocks {
        writeln!(text, "<!-- {marker} -->\n```\n{block}\n```").expect("write to a string");
    }
    let page = Page::parse(Path::new("docs/page.md"), &text);
    assert_eq!(page.mistakes(), Vec::<String>::new());
    let stories = Story::of(&page);
    let [story] = &stories[..] else { panic!("one story: {stories:?}") };
    play(story, &Surroundings::default(), update).await
}

#[tokio::test]
async fn a_story_is_played_as_in_one_terminal() {
    for blocks in [
        &[("run: local", "echo one; echo two >&2"), ("output", "one\ntwo")][..],
        &[("run: local; fails: 3", "(exit 3); echo never"), ("output", "")],
        &[("run: local; fails: 143", "kill -TERM $$"), ("output", "")],
        // Variables, functions and the folder stay.
        &[
            ("run: local", "a='1  2' b=(x y)\nexport c=3\nf() { echo f; }\nmkdir d\ncd d"),
            ("run: local", "echo \"$a\" ${b[1]}; printenv a || echo none; printenv c; f; pwd"),
            ("output", "1  2 y\nnone\n3\nf\n./d"),
        ],
        &[("file: x/y.sh", "echo from $0"), ("run: local", "sh x/y.sh"), ("output", "from x/y.sh")],
        // It goes on while others run, and what it prints is waited for.
        &[
            ("run: local; background", "echo begun; until [ -e go ]; do sleep 0.1; done; echo gone; sleep 1000"),
            ("output", "begun"),
            ("run: local", "touch go"),
        ],
        &[
            ("run: local; background", "mkfifo pipe; echo begun; cat pipe; echo ended"),
            ("run: local; until", "[ -p pipe ]"),
            ("run: local", "echo heard > pipe"),
        ],
        // What is printed after a while.
        &[
            ("run: local", "(while ! [ -e asked ]; do sleep 0.1; done; echo yes > answer) > /dev/null &"),
            ("run: local; until", "touch asked; cat answer"),
            ("output", "yes"),
        ],
        &[("check: json", "{}"), ("check: sh", "a | b")],
        // Of SQL, one block uses what another one has made.
        &[
            ("check: sql", "CREATE TABLE t (a integer);"),
            ("check: sql", "INSERT INTO t VALUES (1);"),
            ("run: local", "psql --tuples-only --command 'SELECT a FROM t'"),
            ("output", " 1\n"),
        ],
        &[("run: local", "echo $HOME $USER"), ("output", "~ ann")],
    ] {
        assert_eq!(played(blocks, false).await, Ok(Vec::new()), "{blocks:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_with_the_line_of_the_block() {
    for (blocks, complaint) in [
        (&[("run: local", "false")][..], "docs/page.md:2: wanted exit code 0, found 1"),
        (&[("run: local", "false | true; false; true")], "docs/page.md:2: wanted exit code 0, found 1"),
        (&[("run: local", "echo $nothing")], "nothing: unbound variable"),
        (&[("run: local", "no-such-program")], "bash: line 1: no-such-program: command not found"),
        (&[("run: local; fails: 3", "exit 4")], "wanted exit code 3, found 4"),
        (&[("run: local; fails: 3", "true")], "wanted exit code 3, found 0"),
        (&[("run: local", "echo one"), ("output", "two")], "docs/page.md:2: shown is:\n    two\nprinted was:\n    one"),
        (&[("run: local", "echo one"), ("output", "")], "printed was:\n    one"),
        (&[("run: local", "true"), ("run: local", "false")], "docs/page.md:6: wanted exit code 0"),
        (&[("run: local; background", "echo one"), ("output", "two")], "docs/page.md:2: shown is:"),
        (&[("check: sql", "CREATE TABEL t (a integer);")], "syntax error at or near \"TABEL\""),
        (&[("check: json", "{")], "docs/page.md:2: EOF while parsing"),
        (&[("run: local", "kubectl get pods")], "docs/page.md:2: wanted exit code 0"),
    ] {
        let found = played(blocks, false).await.expect_err("it is wrong");
        assert!(found.contains(complaint), "{blocks:?}: {found}");
    }
}

#[tokio::test]
async fn what_is_printed_can_be_written_down() {
    let blocks = [("run: local", "echo one"), ("output", "two"), ("run: local", "echo 1h"), ("output", "2h")];
    assert_eq!(played(&blocks, true).await, Ok(vec![(6, "one\n".to_owned())]), "what is like it stays");
    played(&[("run: local", "echo one; false"), ("output", "two")], true).await.expect_err("it has failed");
}
