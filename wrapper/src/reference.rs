//! The reference page, `docs/konductor-run.md`: written from the table of settings, and compared with what is
//! committed.
//!
//! `UPDATE_DOCS=1 cargo test -p konductor-run reference` writes it anew.

use std::{fmt::Write as _, fs, path::Path};

use konductor::exit;

use crate::{
    cli,
    settings::{EXPORTS, HOLDER, SETTINGS, TOKEN_PREFIX, Topic, token_variable},
};

const TOPICS: [Topic; 7] = [Topic::Hold, Topic::Wait, Topic::End, Topic::Signals, Topic::Log, Topic::Pod, Topic::Other];

const SIGNALS: &str = "
## What happens to signals

- Every signal that arrives goes to the command with its own number; real-time ones each, in their order. CHLD is not
  forwarded, and KILL and STOP reach nobody but `konductor-run` itself. A value that sigqueue(3) has sent along, and who
  has sent it, go with the signal to the command alone (`--signal-scope child`): no call sends a value to a group.
- In a terminal's job (beside a script, in a pipeline, below `make` or `timeout`) the command stays in the job's process
  group, as it would without `konductor-run`. What the terminal or the shell sends to the whole job reaches it by itself,
  as it is; what is sent to `konductor-run` alone is forwarded to the command alone. Everywhere else the command has a
  group of its own. [More on terminals](terminal.md).
- While it waits, HUP, INT, QUIT and TERM end the wait: what was taken is given back, and it ends by that signal. After
  that the command is not started any more. One of them that was ignored from the start (nohup) stays ignored. TSTP, TTIN
  and TTOU stop the waiting until it is continued. All other signals are kept for the command.
- When the terminal stops the command (Ctrl-Z), `konductor-run` stops with it, and both go on together. It says first
  until when, if something is held. Where no shell could continue it (PID 1) nothing is stopped. A command that SIGSTOP
  stops is renewed for.
- CONT goes to the whole of the command's own process group. What is mapped is mapped on its way to the command; what is
  dropped is ignored from start to end.
- When a signal has ended the command, `konductor-run` dies by the same signal, without a core, so that scripts and loops
  end as they would. PID 1 cannot, and exits with 128+n; and a code that is mapped is told as it is mapped.
- What the kernel sends because of `konductor-run`'s own use of something (PIPE and XFSZ for a log that cannot be
  written, XCPU for processor time) does not reach the command.
- When the command has ended, what it has left behind gets TERM and, after the grace, KILL. Only then is anything
  released.
- When something that is held cannot be renewed, all of the command's processes get TERM a third of the TTL or the
  grace, whichever is shorter, before it could be somebody else's, and KILL at that moment ([how to choose
  them](guides/ttl-and-grace.md)). While something is held the command also gets KILL when `konductor-run` is killed.
";

const SURROUNDINGS: &str = "
What a fencing token is for, and how a database uses it: [fencing](guides/fencing.md).

With nothing to hold, the command's environment is exactly that of `konductor-run`. One `konductor-run` inside another
replaces what the outer one has set, but for the tokens of what only the outer one holds. What the outer one was to
hold, to wait for and to arrive at is in the environment, too: an inner one that is to do something else says so by the
same flags, or has the variables unset. One that asks for what the outer ones hold, and for more than is left by the
lock's count, would wait for its own end: it ends at once with 64.
";

const NEWS: &str = "
## What the log says while it waits

- The place in the queue, once each time it changes; and what else is in the way, as the operator says it: a semaphore
  that is paused, or has less than is asked for, or why a gate is closed. A gate's reasons are told as they change, no
  more than one in 5 s; how many have arrived at a barrier only at first, and with `-v`.
- That nobody has answered, after 10 s and then ever more seldom, with the command that shows whether the operator runs.
  This is for who was never answered. Who has a place in the queue is not told when the operator goes away: a queue that stands still looks
  the same, and whether an operator leads is in an object that workloads may not read. It keeps its place, and the next leader goes on
  from there; the alert KonductorNoLeader says so to those who run it.
- What fails and is tried again, once, and again ever more seldom with a count; with `-v` each time.
- What is valid and hardly meant: something that says how to hold, while nothing says what; a variable that is one or
  two letters off one of these, or in another case.

With `--log-format json` each line is an object: `timestamp`, `level`, `target`, `message`, and `trace_id` if `TRACEPARENT` is
in the environment and is one of [W3C Trace Context](https://www.w3.org/TR/trace-context/). The command gets `TRACEPARENT` and
`TRACESTATE` as they are, whatever is in them.
";

const FAILURES: &str = "
Each own code comes with one line in the log and, in a container, in the termination message (`kubectl describe pod`).
64, 77 and 78 need a person; 69, 75 and 79 are worth another try: a Job's `podFailurePolicy` can tell them apart
([how](guides/exit-codes.md)).
Whether 76 is final is for you to say there: it is, unless the barrier begins a new round or the gate may still open.
";

const RENDEZVOUS: &str = "
## Gates and barriers

- Barriers and gates are waited for one after the other, before anything is held, all under `--wait-timeout`. Each was
  open when its turn came; a gate may close again. For several to be open at one moment, make them the conditions of one
  gate.
- It arrives when all processes of the command have ended, and before anything is released; what is held is renewed
  meanwhile. It does so when the exit code is 0 (after `--exit-code-map`); with `--arrive always` whatever the command
  has ended with, but not when something that was held was lost, or the command could not be started.
- An arrival that cannot be made within 2 minutes (8 s after TERM) ends with 69 if the command has ended with 0: never
  with a silent 0.
- What arrives once, however often a pod is retried, is what has one key: `--arrival-key`, or the UID of the pod's Job,
  each with `JOB_COMPLETION_INDEX` in an Indexed Job. A pod is not told its Job's UID unless its template says so;
  without it the key is the pod's UID, and the pod of the next attempt is another arrival (which, on success only, does
  not come). The Job's UID without an index is one arrival for the whole Job, however many completions it has.
- Several containers of one pod that arrive are several arrivals: after a UID the key has the container's name
  (`UID/INDEX/CONTAINER`), where that is known. Give them one `--arrival-key` if they are to be one.
- Whoever arrives at a barrier that is open already, or has failed, succeeds and is told so: it does not count for the
  next round. So does who hears of no answer before the next round has begun: it does not arrive in that one, as it could
  count in both.

<!-- dry: api -->
```yaml
apiVersion: batch/v1
kind: Job
metadata:
  name: extract
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: extract
          image: konductor/demo:VERSION
          args: [sh, -c, echo extracted]
          env:
            - name: KONDUCTOR_BARRIER
              value: extracted
            - name: KONDUCTOR_JOB_UID
              valueFrom:
                fieldRef:
                  fieldPath: metadata.labels['batch.kubernetes.io/controller-uid']
```
";

const SYSTEM: &str = "
## Where the system says no

- A file that can be executed, and that is neither a program for this machine nor begins with `#!`, is run by `/bin/sh`
  if it is a text, as `execvp`, shells, tini and dumb-init do. A program for another machine is 126, and the message
  says for which; so it does of an interpreter or loader that is not there, a filesystem that is mounted noexec, and
  arguments and variables that are too much for the system.
- 126 and 127 are the command's fault. What is refused before the command is executed (no more processes, threads or
  descriptors, a call that a sandbox forbids) is 70, and the message names the call.
- What is refused for a moment (EAGAIN, ENOMEM, EMFILE, ENFILE, a file that is still open for writing) is tried again:
  for 5 s before anything is asked for, for 10 s when the command is to be started, and by a waiter for as long as it
  waits.
- A file that takes longer than a second to be executed (an image that is fetched as it is read, a file server that does
  not answer) keeps nothing else waiting: signals, renewals and deadlines are seen to. What is refused after that is not
  tried again.
- In emulated containers and sandboxes (qemu-user, gVisor, old seccomp profiles) an init needs fork, signalfd, pipes and
  process groups, and nothing that is newer. Whoever holds something, or arrives at a barrier, must be PID 1 or be
  allowed `PR_SET_CHILD_SUBREAPER`: else nobody could know when the last process of the command has ended.
- `--parent-death-signal` is about the parent's process: the end of the thread that has started `konductor-run` is not
  its death, other than to the kernel.
- `/dev` is not needed. Without `/proc`, PID 1 still ends all that is left; any other `konductor-run` then only finds
  what has stayed in the command's process group, says so, and waits for the end of the rest.
";

fn page() -> String {
    let mut page = format!(
        "# konductor-run\n\n`{}`\n\nRuns COMMAND while holding what it needs, and supervises it as an init would.\n\n\
         A flag wins over its variable. A flag that is repeatable is a list in its variable, separated by commas. A \
         variable with\nan empty value counts as unset. A variable that begins with `KONDUCTOR_` and is not on this \
         page is refused with the\nname that is spelt most alike, and a value that does not fit with what would: both \
         before anything is asked for, with\nexit code 64. (Those that Kubernetes sets for a Service whose name begins \
         with `konductor` are let through.)\n",
        cli::USAGE
    );
    for topic in TOPICS {
        section(&mut page, topic.title(), ["flag", "variable", "value", "default", "meaning"], &rows(topic));
    }
    page += "\nA duration is a number and a unit, or several: `30s`, `1h30m`, `1.5s`, `200ms`. A signal is a name with \
             or without\n`SIG`, or a number: `TERM`, `SIGTERM`, `15`, `RTMIN+1`, `RTMAX-1`.\n";
    page += &RENDEZVOUS.replace("VERSION", env!("CARGO_PKG_VERSION"));
    page += NEWS;
    page += SIGNALS;
    section(&mut page, "What the command gets", ["variable", "value"], &exports());
    page += SURROUNDINGS;
    page += SYSTEM;
    section(&mut page, "Exit codes", ["code", "meaning", "what to do"], &codes());
    page += FAILURES;
    page
}

fn section<const N: usize>(page: &mut String, title: &str, columns: [&str; N], rows: &[[String; N]]) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let columns = columns.map(str::to_owned);
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## {title}\n\n{}{}", line(&columns), "|---".repeat(N) + "|\n");
    for row in rows {
        *page += &line(row);
    }
}

/// As code, with the bars that would end a cell.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn rows(topic: Topic) -> Vec<[String; 5]> {
    let mut rows: Vec<_> = SETTINGS
        .iter()
        .filter(|setting| setting.topic == topic)
        .map(|setting| {
            [
                setting.flag.map_or(String::new(), |flag| match setting.alone {
                    Some(_) => code(&format!("{flag}[={}]", setting.value)),
                    None => code(&format!("{flag} {}", setting.value)),
                }) + if setting.repeats { " (repeatable)" } else { "" },
                setting.variable.map_or(String::new(), code),
                setting.accepts.replace('|', "\\|"),
                setting.default.unwrap_or_default().to_owned(),
                setting.meaning.to_owned(),
            ]
        })
        .collect();
    let switches = cli::SWITCHES.iter().filter(|switch| switch.topic == topic);
    rows.extend(switches.map(|switch| {
        let flag = format!("-{}, --{}", switch.short, switch.name);
        [code(&flag), String::new(), String::new(), String::new(), switch.meaning.to_owned()]
    }));
    rows
}

fn exports() -> Vec<[String; 2]> {
    let token = token_variable("semaphore", "ware-house");
    let each =
        (format!("{TOKEN_PREFIX}<KIND>_<NAME>"), format!("The fencing token of each thing held, like `{token}`"));
    let holder = (HOLDER.variable.unwrap_or_default().to_owned(), "Who holds it".to_owned());
    let others = EXPORTS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    others.into_iter().chain([each, holder]).map(|(name, value)| [code(&name), value]).collect()
}

fn codes() -> Vec<[String; 3]> {
    let command = [
        ("0 to 255".to_owned(), "the command's own", ""),
        (
            "128+n".to_owned(),
            "signal n has killed the command, or has ended the wait before it was started (told by a death by n, but for \
             PID 1)",
            "",
        ),
    ];
    let own = exit::OWN.map(|(exit, meaning, advice)| (exit.code().to_string(), meaning, advice));
    command
        .into_iter()
        .chain(own)
        .map(|(code, meaning, advice)| [code, meaning.to_owned(), advice.to_owned()])
        .collect()
}

#[test]
fn the_reference_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/konductor-run.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).expect("the page can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page(),
        "docs/konductor-run.md is not what the settings say: UPDATE_DOCS=1 cargo test -p konductor-run reference"
    );
}
