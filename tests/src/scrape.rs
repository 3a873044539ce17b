//! What an operator says of itself over HTTP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::process::Process;
use crate::wait::eventually;

/// Starting takes a moment; the rest is for machines that build and test at the same time.
const LIMIT: Duration = Duration::from_mins(2);

/// What Prometheus accepts, among other things.
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

/// The answer of an operator to a GET: status line, and everything. Metrics are asked for as Prometheus does.
pub async fn get(operator: &Process, path: &str) -> (String, String) {
    get_as(operator, path, OPEN_METRICS).await
}

/// The same for who accepts this.
pub async fn get_as(operator: &Process, path: &str, accept: &str) -> (String, String) {
    let address =
        if path == "/metrics" { metrics_address(operator).await } else { listens(operator, " health=").await };
    let head = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    // A connection whose request does not come within seconds is ended, and a busy machine may take longer.
    let answer = eventually(LIMIT, &format!("an answer to GET {path}"), || async {
        let answer = ask(address, &head).map_err(|error| error.to_string())?;
        if answer.is_empty() { Err("nothing is answered".to_owned()) } else { Ok(answer) }
    })
    .await;
    (answer.lines().next().unwrap_or_default().to_owned(), answer)
}

fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Where an operator has its metrics.
pub async fn metrics_address(operator: &Process) -> SocketAddr {
    listens(operator, " metrics=").await
}

/// The address that its first line has behind this.
async fn listens(operator: &Process, what: &str) -> SocketAddr {
    operator.wait_stderr(LIMIT, what).await;
    let logs = operator.stderr();
    let address = logs.split(what).nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
    address.parse().expect("an address")
}
