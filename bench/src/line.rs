//! Commands that say when they start and when they end, on one clock, and wait in between until they are told to end.

use std::path::Path;
use std::time::Duration;

use konductor::Boottime;
use konductor_tests::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::scene::{LIMIT, Programs};

/// Where the commands that are measured report.
pub(crate) struct Line {
    listener: UnixListener,
    mark: String,
    socket: String,
    _folder: tempfile::TempDir,
}

/// A command that runs.
pub(crate) struct Holder {
    stream: UnixStream,
    pub(crate) started: Boottime,
    /// The process of the command's supervisor.
    pub(crate) pid: Pid,
}

impl Line {
    pub(crate) fn new(programs: &Programs) -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let socket = folder.path().join("line");
        let listener = UnixListener::bind(&socket).expect("listen on a socket");
        let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
        Self { listener, mark: text(&programs.mark), socket: text(&socket), _folder: folder }
    }

    /// The command that is run.
    pub(crate) fn command(&self) -> [&str; 2] {
        [&self.mark, &self.socket]
    }

    /// The next command that starts.
    pub(crate) async fn next(&self) -> Holder {
        let accepted = timeout(LIMIT, self.listener.accept()).await.expect("a command starts");
        let (mut stream, _) = accepted.expect("accept a connection");
        let started = read_time(&mut stream).await;
        let pid = stream.read_i32_le().await.expect("read from a command");
        Holder { stream, started, pid: Pid::from_raw(pid) }
    }
}

impl Holder {
    /// Ends the command, and returns when it did.
    pub(crate) async fn end(mut self) -> Boottime {
        self.stream.write_all(&[1]).await.expect("tell a command to end");
        read_time(&mut self.stream).await
    }
}

async fn read_time(stream: &mut UnixStream) -> Boottime {
    let mut nanoseconds = [0; 8];
    let read = timeout(LIMIT, stream.read_exact(&mut nanoseconds)).await.expect("a command tells the time");
    read.expect("read from a command");
    Boottime(Duration::from_nanos(u64::from_le_bytes(nanoseconds)))
}
