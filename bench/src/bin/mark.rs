//! The command that is run under a lock: tells the driver when it starts and when it ends.
//!
//!     mark SOCKET
//!
//! It connects, sends the time and which process started it, waits until the driver says something, sends the time, and
//! ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;

use konductor::Boottime;

fn main() -> std::io::Result<()> {
    let started = Boottime::now();
    let socket = std::env::args_os().nth(1).ok_or_else(|| std::io::Error::other("usage: mark SOCKET"))?;
    let mut driver = UnixStream::connect(socket)?;
    driver.write_all(&nanoseconds(started))?;
    driver.write_all(&parent_id().to_le_bytes())?;
    driver.read_exact(&mut [0])?;
    driver.write_all(&nanoseconds(Boottime::now()))
}

fn nanoseconds(at: Boottime) -> [u8; 8] {
    (at.0.as_nanos() as u64).to_le_bytes()
}
