//! What an operator says of itself over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::process::Process;

/// Starting takes a moment; the rest is for machines that build and test at the same time.
const LIMIT: Duration = Duration::from_mins(1);

/// The answer of an operator to a GET: status line, and everything.
pub async fn get(operator: &Process, path: &str) -> (String, String) {
    let address = if path == "/metrics" { " metrics=" } else { " health=" };
    operator.wait_stderr(LIMIT, address).await;
    let logs = operator.stderr();
    let address = logs.split(address).nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
    let mut stream = TcpStream::connect(address).expect("connect");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    (answer.lines().next().unwrap_or_default().to_owned(), answer)
}
