//! A real Prometheus, and what it is asked.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use konductor_tests::Process;
use serde_json::Value;

use crate::cluster::LIMIT;

/// A program of Prometheus, as it is in the path.
fn program(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("there is no {name} in the path: apt-get install prometheus"))
}

/// What `promtool` says of this input; fails with that if it is not content.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program("promtool"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads its input");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// A series that was found: its labels, and its values at their times in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: serde_json::Map<String, Value>,
    pub(crate) values: Vec<(f64, f64)>,
}

/// A running server.
pub(crate) struct Prometheus {
    _process: Process,
    address: String,
}

impl Prometheus {
    /// Starts one with this configuration and with its data in this folder.
    pub(crate) async fn start(folder: &Path, configuration: &str) -> Self {
        let file = folder.join("prometheus.yaml");
        std::fs::write(&file, configuration).expect("write the configuration");
        let mut command = Command::new(program("prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        // What is asked for may be as old as it likes.
        command.args(["--storage.tsdb.retention.time=100y", "--web.listen-address=127.0.0.1:0"]);
        let process = Process::spawn("prometheus", command);
        process.wait_stderr(LIMIT, "Server is ready to receive web requests").await;
        process.wait_stderr(LIMIT, "msg=\"Listening on\" address=").await;
        let logs = process.stderr();
        let address =
            logs.split("msg=\"Listening on\" address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("it does not say where it listens: {logs}")).to_owned();
        Self { _process: process, address }
    }

    /// The `data` of an answer of its API, or what it complains of.
    pub(crate) fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let query: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mut stream = TcpStream::connect(&self.address).map_err(|error| error.to_string())?;
        // In the oldest version, so that the answer comes in one piece.
        let head = format!("GET /api/v1/{path}?{} HTTP/1.0\r\nHost: {}\r\n\r\n", query.join("&"), self.address);
        stream.write_all(head.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let mut body: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))?;
        if body["status"] == "success" { Ok(body["data"].take()) } else { Err(body.to_string()) }
    }

    /// What a query has at each step between two times.
    pub(crate) fn range(&self, query: &str, times: (f64, f64), step: f64) -> Result<Vec<Series>, String> {
        let [start, end, step] = [times.0, times.1, step].map(|time| time.to_string());
        let found = self.ask("query_range", &[("query", query), ("start", &start), ("end", &end), ("step", &step)])?;
        Ok(found["result"].as_array().into_iter().flatten().map(|series| read(series, "values")).collect())
    }

    /// What a query has now.
    pub(crate) fn now(&self, query: &str) -> Result<Vec<Series>, String> {
        let found = self.ask("query", &[("query", query)])?;
        Ok(found["result"].as_array().into_iter().flatten().map(|series| read(series, "value")).collect())
    }
}

/// Reads a series whose values are under this name: one, or many.
fn read(series: &Value, values: &str) -> Series {
    let value = |pair: &Value| Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_str()?.parse().ok()?));
    let values = &series[values];
    let one = value(values);
    let values =
        one.map_or_else(|| values.as_array().into_iter().flatten().filter_map(value).collect(), |one| vec![one]);
    Series { labels: series["metric"].as_object().cloned().unwrap_or_default(), values }
}

/// As part of an address.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
        encoded
    })
}
