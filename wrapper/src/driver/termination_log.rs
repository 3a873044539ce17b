//! Own failures, where `kubectl describe pod` shows them: the file that the kubelet mounts for a container's last
//! words.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use nix::{libc, unistd::close};

use crate::log::one_line;

const TERMINATION_LOG: &str = "/dev/termination-log";

/// Whether the standard input was closed to make room.
static HAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Tells people that `konductor-run` itself has failed, in the log and in the termination message.
pub(crate) fn report(message: &str) {
    tracing::error!("{message}");
    if let Err(error) = append(&(one_line(&format!("konductor-run: {message}")) + "\n"))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!("cannot write to {TERMINATION_LOG}: {error}");
    }
}

/// Adds a line, after what the command may have written. Never creates the file: outside a container it is not there.
fn append(line: &str) -> io::Result<()> {
    let open =
        || OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(TERMINATION_LOG);
    let mut file = open().or_else(|error| match error.raw_os_error() {
        // Nobody but the command reads the standard input, and that has its own by now, or is never started. Once: then
        // that number is another's.
        Some(libc::EMFILE) if !HAS_CLOSED.swap(true, Relaxed) => {
            close(libc::STDIN_FILENO).map_err(io::Error::from).and_then(|()| open())
        }
        _ => Err(error),
    })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    file.write_all(line.as_bytes())
}
