//! What a folder cannot do, by its name, and what to do instead.

use std::path::Path;

use crate::{
    args::Command,
    commands::{barrier, gate, lease, semaphore},
    error::Error,
};

/// Why a command cannot be carried out in this folder, if it cannot.
pub(crate) fn refusal(command: &Command, folder: &Path) -> Option<Error> {
    let folder = folder.display();
    let in_a_cluster = |what: &str| {
        let error = Error::usage(format!("{what} a cluster: a folder (--local) has semaphores and leases only"));
        Some(error.advise("leave --local (and KONCLI_LOCAL) out to ask a cluster"))
    };
    let manifests = |what: &str, kind: &str| {
        let error = Error::usage(format!("in a folder (--local) a {kind} is what a manifest says: {what} it there"));
        Some(error.advise(format!("{folder}/*.yaml are the manifests; what is changed in them counts at once")))
    };
    let processes = |kind: &str| {
        let error = Error::usage("in a folder (--local) a claim ends with the process that holds it");
        Some(error.advise(format!(
            "koncli run --local {folder} --{kind} NAME -- COMMAND holds it while the command runs, and releases it"
        )))
    };
    match command {
        Command::Semaphore(command) => match command {
            semaphore::Command::Create(_) => manifests("write", "semaphore"),
            semaphore::Command::Resize(_) => manifests("change", "semaphore"),
            semaphore::Command::Delete(_) => manifests("delete", "semaphore"),
            semaphore::Command::Acquire(_) | semaphore::Command::Release(_) | semaphore::Command::Renew(_) => {
                processes("semaphore")
            }
            semaphore::Command::Status(_) | semaphore::Command::List(_) => None,
        },
        Command::Lease(command) => match command {
            lease::Command::Create(_) => manifests("write", "lease"),
            lease::Command::Delete(_) => manifests("delete", "lease"),
            lease::Command::Acquire(_) | lease::Command::Release(_) | lease::Command::Renew(_) => processes("lease"),
            lease::Command::Status(_) | lease::Command::List(_) => None,
        },
        Command::Barrier(
            barrier::Command::Create(_)
            | barrier::Command::Arrive(_)
            | barrier::Command::Wait(_)
            | barrier::Command::Reset(_)
            | barrier::Command::Status(_)
            | barrier::Command::List(_)
            | barrier::Command::Delete(_),
        ) => in_a_cluster("a barrier needs"),
        Command::Gate(
            gate::Command::Create(_)
            | gate::Command::Wait(_)
            | gate::Command::Open(_)
            | gate::Command::Close(_)
            | gate::Command::Auto(_)
            | gate::Command::Status(_)
            | gate::Command::List(_)
            | gate::Command::Delete(_),
        ) => in_a_cluster("a gate needs"),
        Command::Events(_) => in_a_cluster("events are told by"),
        Command::Operator(_) => in_a_cluster("an operator is part of"),
        Command::Revoke(_) => {
            let error = Error::usage("in a folder (--local) nobody is asked to end: a claim ends with its process");
            Some(error.advise(format!("end that process; koncli status --local {folder} shows who holds")))
        }
        Command::Wait(_)
        | Command::Status(_)
        | Command::Why(_)
        | Command::Top(_)
        | Command::Run(_)
        | Command::Convert(_)
        | Command::Completion(_)
        | Command::Version(_)
        | Command::Complete(_) => None,
    }
}
