//! The reference page `docs/koncli.md`, the page of exit codes and the man pages in `docs/man`: written from the parser,
//! and compared with what is committed.
//!
//! `UPDATE_DOCS=1 cargo test -p konductor-cli reference` writes them anew.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use clap::{Arg, Command, CommandFactory as _};
use konductor::exit;

use crate::{args::CommandLine, status::summary::FIELDS};

const HEAD: &str = "\
# koncli

The command line for people and scripts: see, wait for, acquire and explain Konductor's semaphores, leases, barriers and
gates. The same program is a plugin of kubectl when it is called `kubectl-konductor` (`kubectl konductor ...`).

<!-- run: api -->
```sh
koncli barrier create extracted --expected 1
koncli barrier arrive extracted orders
koncli wait barrier/extracted --timeout 30m
```
<!-- output -->
```text
barrier.konductor.io/extracted created
barrier.konductor.io/extracted arrived (orders)
barrier.konductor.io/extracted open
```

Each flag can come before or after what it belongs to. A flag wins over its variable.
";

const BEHAVIOUR: &str = "
## Acquiring without a process that holds

`koncli semaphore acquire` and `koncli lease acquire` print the fencing token and end; what they acquired stays until it is
released, or until its time to live has passed since the last `renew`.

- *Whose it is.* A claim belongs to its holder by the holder's name: `--holder`, else the pod's name, else `USER@HOST`.
  Whoever acquires again in that name, in the same pod or in none, has the same claim, and renews it. `release` and `renew`
  find it by that name.
- *Each run has a holder of its own.* Two runs with the same holder, as two of one user on one machine are without
  `--holder`, share one claim, and the release of the one frees it under the other. Release only what was acquired, also
  because a run that has failed to acquire would release what another one holds:

  <!-- file: load.sh -->
  ```sh
  h=$(hostname)-$$
  token=$(koncli semaphore acquire warehouse --holder \"$h\" --timeout 10m) && {
      echo \"loading with token $token\"; koncli semaphore release warehouse --holder \"$h\"; }
  ```
  <!-- run: api -->
  ```sh
  koncli semaphore create warehouse --permits 1
  sh load.sh & sh load.sh & wait
  ```
  <!-- output -->
  ```text
  semaphore.konductor.io/warehouse created
  ...
  loading with token ...
  ...
  loading with token ...
  ...
  ```

- *What is held already* in that name is renewed, and a line on stderr says so. An `acquire` that found it held and is then
  interrupted, or refused as it is being revoked, leaves it to whoever works under it.
- *In a pod* the claim is tied to the pod and to no container of it, so an init container may acquire and another
  container release; it is free when the pod has ended. The pod is known from `KONDUCTOR_POD_NAME`,
  `KONDUCTOR_POD_UID` and `KONDUCTOR_POD_NAMESPACE`, or from its token.
- *What others hold* is released only with `--force`: what a container's `konductor-run` or another process renews, what is
  another pod's, and what another person on a machine has acquired. Which of them it is, the claim tells: a holder with
  an `@` is one person (`USER@HOST`, as is taken when no name is said), and released by nobody else; a name without one
  is of whoever knows it, on any machine, so that one runner can release what another one has acquired. `koncli revoke`
  asks a holder to end instead.
- *Waiting* ends when it is asked for and not before: without `--timeout` it does not end; `--timeout 0` tries once, for
  which it waits up to 30s for the operator's first word. Ctrl-C and TERM withdraw. Nothing is asked for again and again: it
  watches.
- *A claim that is waited for* (`koncli wait permit/X`) is granted when its lock confirms that, as for who holds it; what is only
  written in its status may be from an operator that leads no longer. Where nobody is known to renew it, as when it was
  made with `kubectl create`, a line on stderr says until when it lasts and how to renew it: one that had waited for ten
  seconds goes to the next if it is not renewed within a minute.
- *What is deleted meanwhile* may come again when it is a barrier or a gate, and is waited for; a claim or a Job does not,
  and waiting for it ends with 78.
- *Renewing* is yours: work that takes longer than the time to live needs `koncli ... renew` meanwhile, or
  [konductor-run](konductor-run.md), which renews by itself and ends the work when it cannot. `renew` ends with 79 when it
  is held no longer.
- *Resetting* a barrier deletes it and creates it again. Before that, the API server is asked to try the new one, and the
  barrier is left as it is when that is refused. The first Ctrl-C or TERM ends `barrier reset` when the barrier is there
  again; a second one ends it at once, and a warning says how to create the barrier.
- *In vain.* An `acquire` that has waited in vain says why, from its own place in the queue, before it withdraws. Where the
  API server has never answered, it ends (69) about when it was told to; a claim whose creation came through all the same
  ends with its time to live.

## In a folder

With `--local DIR` (or `KONCLI_LOCAL`) `list`, `status`, `wait`, `why`, `top` and completion show what the [folder](local.md)
has, and `run` is `konductor-run --local`. Semaphores, leases and the claims on them are shown as objects of the API, so
`-o` and `-w` mean the same; there are no labels to select by. All else needs a cluster, and is refused by its name.

## Old scripts

What scripts for the first konductor say is taken: `--wait-for-update`, `--update-timeout`, `--wait-duration` and `--wait` change
nothing, as every command here waits for the answer to what it asks, and `acquire` and `wait` as long as `--timeout` says;
`--operator-namespace` says where `why`, `operator` and `top` look for the operator; `--log-level` (`KONCLI_LOG`) says how much is
logged on stderr (`error`, `warn`, `info`, `debug`, `trace`); `-o text` is the table. `koncli convert` writes its manifests anew;
[the page on migration](migration.md) says what becomes of each field and command.

## The cluster, and logging in

The cluster is that of `--kubeconfig`, of `KUBECONFIG`, of the pod, or of `~/.kube/config`, as for kubectl.

- *Login programs* (`exec`: those of EKS, GKE and AKS; `client.authentication.k8s.io/v1` and `v1beta1`) are run once, and
  again when the API server no longer accepts what they gave. They may ask only where stdin is a terminal. One that takes
  longer than `--timeout`, or than 15 minutes, is ended. The auth-provider `oidc` works as well, with its refresh token;
  others are refused by name.
- *Proxies* (`http://`) are those of the kubeconfig's `proxy-url`, or of `HTTPS_PROXY` unless `NO_PROXY` names the API server.

## In images

`konductor/cli` holds nothing but `koncli`. To have it beside a shell:

<!-- check: dockerfile; needs internet -->
```dockerfile
FROM debian:13-slim
COPY --from=konductor/cli:VERSION /koncli /usr/bin/koncli
```

## Rights

`konductor-view` is enough for what only looks (`list`, `status`, `events`, `why`, `top`, `wait`, and `barrier wait` and
`gate wait`); `konductor-workload` for `acquire`, `renew`, `release`, `arrive` and for waiting for barriers and gates; `konductor-edit`
for all that creates, changes and deletes, `revoke` among them. ([Whose claims](security.md) each may write is a matter of its own,
with a role for who may only revoke.) Jobs and pods can be waited for with Kubernetes' own `view`;
`operator` says what it may not read. A refusal names the right that is missing, and a line that gives the role for the command.

## Summaries

`koncli status KIND NAME -o json` (and `koncli KIND status NAME -o json`) is one flat object, without NAME a list of
them. Fields are only ever added; what is not known is null. `list -o json` has the API's own objects.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let root = command();
    section(&mut page, "Everywhere", ["flag", "variable", "meaning"], &rows(&root));
    for top in shown(&root) {
        let _ = write!(page, "\n## {}\n\n{}\n", top.get_name(), about(top));
        if top.has_subcommands() {
            for leaf in shown(top) {
                let _ = write!(page, "\n### {} {}\n\n{}\n", top.get_name(), leaf.get_name(), about(leaf));
                flags(&mut page, leaf);
            }
        } else {
            flags(&mut page, top);
        }
    }
    page += &BEHAVIOUR.replace("VERSION", env!("CARGO_PKG_VERSION"));
    let fields = FIELDS.map(|(kind, names, meaning)| {
        let names: Vec<_> = names.split(", ").map(code).collect();
        [kind.to_owned(), names.join(", "), meaning.to_owned()]
    });
    table(&mut page, ["of", "fields", "meaning"], &fields);
    page += "\n## Exit codes\n\n0 when it is done; [all others](exit-codes.md).\n";
    page
}

fn exit_codes() -> String {
    let mut page = String::from(
        "# Exit codes\n\n`konductor-run` passes the codes of its command on and has these of its own; `koncli` has the \
         same ones. 128+n is what\nsignal n has ended: both end by that signal themselves, as shells want it, but for a \
         container's first process,\nwhich exits with the code. A Job's `podFailurePolicy` can tell them apart: [how](guides/exit-codes.md).\n\n",
    );
    let rows =
        exit::OWN.map(|(exit, meaning, advice)| [exit.code().to_string(), meaning.to_owned(), advice.to_owned()]);
    table(&mut page, ["code", "meaning", "what to do"], &rows);
    page
}

/// The parser, as it is without any variable set.
fn command() -> Command {
    let mut command = CommandLine::command();
    command.build();
    command
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    if about.ends_with('.') { about } else { format!("{about}.") }
}

/// How a command is called, and its own flags.
fn flags(page: &mut String, command: &Command) {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").lines().next().unwrap_or_default().to_owned();
    let _ = write!(page, "\n`{usage}`\n");
    let rows = rows(command);
    if !rows.is_empty() {
        page.push('\n');
        table(page, ["flag", "variable", "meaning"], &rows);
    }
}

/// A command's own arguments: of the root, what holds for all.
fn rows(command: &Command) -> Vec<[String; 3]> {
    let everywhere = CommandLine::command();
    let is_root = command.get_name() == everywhere.get_name();
    let known = |arg: &Arg| everywhere.get_arguments().any(|known| known.get_id() == arg.get_id());
    let own = command.get_arguments().filter(|arg| !arg.is_hide_set() && (is_root || !known(arg)));
    let own = own.filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"));
    own.map(row).collect()
}

fn row(arg: &Arg) -> [String; 3] {
    let value = arg.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    let value = value.filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let flag = if names.is_empty() { value } else { format!("{} {value}", names.join(", ")).trim_end().to_owned() };
    let meaning =
        arg.get_help().map(|help| help.to_string().replace('|', "\\|").replace('\n', " ")).unwrap_or_default();
    let choices: Vec<_> = if arg.get_action().takes_values() {
        arg.get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| code(value.get_name()))
            .collect()
    } else {
        Vec::new()
    };
    let choices = if choices.is_empty() { String::new() } else { format!(" ({})", choices.join(", ")) };
    let variable = arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default();
    [code(&flag), variable, format!("{meaning}{choices}")]
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn section<const N: usize>(page: &mut String, title: &str, columns: [&str; N], rows: &[[String; N]]) {
    let _ = write!(page, "\n## {title}\n\n");
    table(page, columns, rows);
}

fn table<const N: usize>(page: &mut String, columns: [&str; N], rows: &[[String; N]]) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    *page += &line(&columns.map(str::to_owned));
    *page += &"|---".repeat(N);
    *page += "|\n";
    for row in rows {
        *page += &line(row);
    }
}

/// The man pages by their files' names.
fn man_pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    add_man_page(&command(), "koncli", &mut pages);
    pages
}

fn add_man_page(command: &Command, name: &str, pages: &mut BTreeMap<String, String>) {
    let mut text = Vec::new();
    // A parser's names are static unless clap is built with more.
    let title: &'static str = name.to_owned().leak();
    let named = command.clone().name(title).bin_name(name.replace('-', " "));
    clap_mangen::Man::new(named).render(&mut text).expect("a page");
    pages.insert(format!("{name}.1"), String::from_utf8(text).expect("UTF-8"));
    for inner in shown(command) {
        add_man_page(inner, &format!("{name}-{}", inner.get_name()), pages);
    }
}

#[test]
fn the_reference_pages_are_what_the_parser_says() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let pages = [("koncli.md".to_owned(), page()), ("exit-codes.md".to_owned(), exit_codes())];
    let man_pages = man_pages().into_iter().map(|(name, text)| (format!("man/{name}"), text));
    let pages: BTreeMap<_, _> = pages.into_iter().chain(man_pages).collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let _ = fs::remove_dir_all(docs.join("man"));
        fs::create_dir_all(docs.join("man")).expect("a folder");
        for (name, text) in &pages {
            fs::write(docs.join(name), text).expect("the page can be written");
        }
    }
    for (name, text) in &pages {
        let committed = fs::read_to_string(docs.join(name)).unwrap_or_default();
        assert!(
            committed == *text,
            "docs/{name} is not what the parser says: UPDATE_DOCS=1 cargo test -p konductor-cli reference"
        );
    }
    let there = fs::read_dir(docs.join("man")).expect("a folder").count();
    assert_eq!(there, pages.len() - 2, "a man page of a command that is no more");
}
