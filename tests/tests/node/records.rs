//! What the commands under test wrote down, and whether it is as promised.
//!
//! Each command writes to a file of its own, in the folder that all share: when it started, now and then that it is
//! alive, and when it ends; always with the machine's time since boot (in hundredths of a second) and its fencing
//! token. What it wrote is within the time in which it really ran. So two records that overlap are two commands that
//! ran at once, and nothing that Konductor says of itself is needed to see it.

use std::fmt::Write as _;
use std::path::Path;

/// A shell function `note WORD`, which the commands write with.
pub(crate) const NOTE: &str = r#"
note() {
  read -r now _ </proc/uptime
  echo "$1 $now $KONDUCTOR_FENCING_TOKEN" >>"/records/$HOSTNAME"
}
"#;

/// One run of a command, from its first to its last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The pod.
    pub(crate) pod: String,
    /// The fencing token.
    pub(crate) token: u64,
    /// When it started, in hundredths of a second since boot.
    pub(crate) from: u64,
    /// When it was last heard of.
    pub(crate) until: u64,
    /// Whether it said that it ends.
    pub(crate) ended: bool,
}

/// All runs, in the order of their starts. A pod whose container was restarted has several.
pub(crate) fn read(folder: &Path) -> Vec<Run> {
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(folder).expect("list the records") {
        let path = entry.expect("list the records").path();
        let pod = path.file_name().and_then(|name| name.to_str()).expect("a pod's name").to_owned();
        let text = std::fs::read_to_string(&path).expect("read a record");
        runs.extend(parse(&pod, &text));
    }
    runs.sort_by_key(|run| (run.from, run.token));
    runs
}

/// The run of a pod, when it has one.
pub(crate) fn of(folder: &Path, pod: &str) -> Option<Run> {
    read(folder).into_iter().find(|run| run.pod == pod)
}

fn parse(pod: &str, text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    // A line without its end is still being written.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let words: Vec<_> = line.split(' ').collect();
        let [word, at, token] = words[..] else { panic!("{pod} wrote {line:?}") };
        let (at, token) = (hundredths(at), token.parse().unwrap_or_else(|_| panic!("no token in {line:?} of {pod}")));
        match runs.last_mut().filter(|_| word != "start") {
            None => runs.push(Run { pod: pod.to_owned(), token, from: at, until: at, ended: false }),
            Some(run) => {
                assert_eq!(run.token, token, "the token of one run of {pod}");
                run.until = at;
                run.ended = word == "end";
            }
        }
    }
    runs
}

/// `12.34` as 1234.
pub(crate) fn hundredths(seconds: &str) -> u64 {
    seconds
        .split_once('.')
        .filter(|(_, fraction)| fraction.len() == 2)
        .and_then(|(whole, fraction)| format!("{whole}{fraction}").parse().ok())
        .unwrap_or_else(|| panic!("{seconds:?} is no time since boot"))
}

/// Fails if more than `permits` ran at once, or a token contradicts the time: tokens are distinct, and of two runs of
/// which one was over before the other started, the earlier one has the smaller token.
pub(crate) fn assert_in_order(runs: &[Run], permits: usize) {
    let wrong = violations(runs, permits);
    assert!(wrong.is_empty(), "{}\nall runs: {runs:#?}", wrong.join("\n"));
}

/// What is wrong with runs that stood still and were cut off meanwhile, so that they may have started long after they were
/// granted what they held: tokens are distinct, and rise in the order of the grants. So whoever has the lower token had
/// its permit already when one with a higher token started, and counts as holding from then on.
pub(crate) fn over_admitted(runs: &[Run], permits: usize) -> Vec<String> {
    let mut holding = runs.to_vec();
    holding.sort_by_key(|run| run.token);
    let twice = holding.windows(2).filter(|two| two[0].token == two[1].token);
    let mut wrong: Vec<_> = twice.map(|two| format!("the same token: {two:?}")).collect();
    let mut earliest = u64::MAX;
    for run in holding.iter_mut().rev() {
        earliest = earliest.min(run.from);
        run.from = earliest;
        run.until = run.until.max(run.from + 1);
    }
    for newest in &holding {
        let met: Vec<_> = holding.iter().filter(|run| run.from <= newest.from && newest.from < run.until).collect();
        if met.len() > permits {
            wrong.push(format!("{} held {permits} permits at once: {met:?}", met.len()));
        }
    }
    wrong
}

fn violations(runs: &[Run], permits: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for run in runs {
        // More run at once somewhere exactly if they do when one of them starts.
        let others = runs.iter().filter(|other| other.from <= run.from && run.from < other.until.max(other.from + 1));
        let at_once: Vec<_> = others.map(|other| other.pod.as_str()).collect();
        if at_once.len() > permits {
            wrong.push(format!("{} ran at once at {}, with {permits} permits: {at_once:?}", at_once.len(), run.from));
        }
    }
    for (index, first) in runs.iter().enumerate() {
        for second in &runs[index + 1..] {
            let (early, late) = if first.from <= second.from { (first, second) } else { (second, first) };
            let mut complaint = String::new();
            if early.token == late.token {
                complaint.push_str("the same token");
            } else if early.until < late.from && early.token > late.token {
                complaint.push_str("a greater token, and over before the other started");
            }
            if !complaint.is_empty() {
                write!(complaint, ": {early:?}, {late:?}").expect("write to a string");
                wrong.push(complaint);
            }
        }
    }
    wrong
}

#[test]
fn the_judge_sees_what_is_wrong() {
    let run = |pod: &str, token, from, until| Run { pod: pod.to_owned(), token, from, until, ended: true };
    let (a, b) = (run("a", 1, 0, 100), run("b", 2, 0, 200));
    for (case, runs, permits, complaint) in [
        ("one after the other", vec![a.clone(), run("c", 3, 100, 200)], 1, None),
        ("as many as permits", vec![a.clone(), b.clone(), run("c", 3, 100, 300)], 2, None),
        ("starts may swap", vec![run("c", 2, 0, 100), run("d", 1, 1, 100)], 2, None),
        ("one too many", vec![a.clone(), b.clone(), run("c", 3, 99, 300)], 2, Some("3 ran at once at 99")),
        ("within another", vec![b.clone(), run("c", 3, 50, 60)], 1, Some("2 ran at once at 50")),
        ("gone after its first word", vec![run("c", 3, 50, 50), run("d", 4, 50, 60)], 1, Some("2 ran at once at 50")),
        ("a token used twice", vec![a.clone(), run("c", 1, 100, 200)], 1, Some("the same token")),
        ("a token that went back", vec![b.clone(), run("c", 1, 201, 300)], 1, Some("a greater token")),
    ] {
        let found = violations(&runs, permits).join("\n");
        match complaint {
            None => assert_eq!(found, "", "{case}"),
            Some(complaint) => assert!(found.contains(complaint), "{case}: {found:?}"),
        }
    }
}

#[test]
fn who_was_granted_before_and_started_late_held_all_the_time() {
    let run = |token, from, until| Run { pod: "p".to_owned(), token, from, until, ended: true };
    for (case, runs, permits, complaint) in [
        ("one after the other", vec![run(1, 0, 100), run(2, 100, 200)], 1, None),
        ("two at once", vec![run(1, 0, 101), run(2, 100, 200)], 1, Some("2 held 1 permits at once")),
        ("its permit was another's when it started", vec![run(2, 0, 100), run(1, 200, 300)], 1, Some("2 held 1")),
        ("there is a permit for each", vec![run(2, 0, 100), run(1, 200, 300)], 2, None),
        ("the third had no permit", vec![run(2, 0, 100), run(3, 50, 60), run(1, 200, 300)], 2, Some("3 held 2")),
        ("a token used twice", vec![run(1, 0, 100), run(1, 100, 200)], 2, Some("the same token")),
        ("gone after its first word", vec![run(1, 50, 50), run(2, 50, 60)], 1, Some("2 held 1")),
    ] {
        let found = over_admitted(&runs, permits).join("\n");
        assert_eq!(found.is_empty(), complaint.is_none(), "{case}: {found}");
        assert!(found.contains(complaint.unwrap_or_default()), "{case}: {found}");
    }
}

#[test]
fn records_are_read_run_by_run() {
    let runs = parse("p", "start 1.00 7\nalive 1.50 7\nstart 12.34 8\nend 20.00 8\nali");
    let run = |token, from, until, ended| Run { pod: "p".to_owned(), token, from, until, ended };
    assert_eq!(runs, [run(7, 100, 150, false), run(8, 1234, 2000, true)]);
}
