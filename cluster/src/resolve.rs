//! Names of API servers to addresses, without the C library.
//!
//! `getaddrinfo` of a static glibc binary loads libraries at run time that an image built from scratch does not have.
//! This reads what it would read, `/etc/hosts` and `/etc/resolv.conf` with its `search` and `ndots`, and asks the name
//! servers by UDP, by TCP when an answer does not fit. Addresses in place of names never come here.
//!
//! IPv6 addresses are asked for only when there is no IPv4 one, and after it: two questions at once from one socket are
//! known to lose an answer in the connection tracking of some nodes, which costs five seconds.
//! Answers are not trusted more than DNS ever is; the connection made with them is TLS, against the cluster's CA.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

mod message;

use message::{RecordType, Response, query};

/// Name servers and search domains that the C library would look at (`MAXNS`, and 32 domains since glibc 2.26).
const SERVERS: usize = 3;
const DOMAINS: usize = 32;

/// The longest that one may set for `timeout`, `attempts` and `ndots` (`RES_MAXRETRANS`, `RES_MAXRETRY`,
/// `RES_MAXNDOTS`).
const TIMEOUT: u64 = 30;
const ATTEMPTS: u64 = 5;
const NDOTS: u64 = 15;

/// Largest answer by UDP that one may send to who has not asked for larger ones (RFC 1035).
const DATAGRAM: usize = 512;

/// A resolver that reads its files anew each time, as connections are few.
#[derive(Clone, Debug)]
pub(crate) struct Resolver(Arc<Files>);

#[derive(Debug)]
struct Files {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    port: u16,
}

impl Resolver {
    pub(crate) fn system() -> Self {
        Self(Arc::new(Files { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into(), port: 53 }))
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let hosts = read(&self.0.hosts)?;
        let known = in_hosts(&hosts, name.trim_end_matches('.'));
        if !known.is_empty() {
            return Ok(known);
        }
        let config = ResolvConf::parse(&read(&self.0.resolv_conf)?);
        let mut last = None;
        for candidate in config.candidates(name) {
            for kind in [RecordType::A, RecordType::Aaaa] {
                match config.ask(&candidate, kind, self.0.port).await {
                    Ok(addresses) if addresses.is_empty() => {}
                    Ok(addresses) => return Ok(addresses),
                    Err(error) => last = Some(error),
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no address of {name} in /etc/hosts or DNS"))
        }))
    }
}

impl tower::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.resolve(name.as_str()).await?;
            // The connector puts the port in.
            Ok(addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}

/// A file that need not exist.
fn read(path: &PathBuf) -> io::Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))),
    }
}

fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut known = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().and_then(|address| address.parse().ok());
        if let Some(address) = address
            && words.any(|word| word.eq_ignore_ascii_case(name))
        {
            known.push(address);
        }
    }
    // An image built from scratch may lack the file; this name needs none (RFC 6761).
    if known.is_empty() && name.eq_ignore_ascii_case("localhost") {
        known = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    known
}

#[derive(Debug, PartialEq, Eq)]
struct ResolvConf {
    servers: Vec<IpAddr>,
    domains: Vec<String>,
    ndots: u64,
    timeout: Duration,
    attempts: u64,
}

impl ResolvConf {
    fn parse(text: &str) -> Self {
        let mut config =
            Self { servers: Vec::new(), domains: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2 };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => config.servers.extend(words.next().and_then(parse_server)),
                Some("search" | "domain") => config.domains = words.take(DOMAINS).map(String::from).collect(),
                Some("options") => words.for_each(|option| config.option(option)),
                _ => {}
            }
        }
        config.servers.truncate(SERVERS);
        if config.servers.is_empty() {
            config.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        config
    }

    fn option(&mut self, option: &str) {
        let Some((name, Ok(value))) = option.split_once(':').map(|(name, value)| (name, value.parse::<u64>())) else {
            return;
        };
        match name {
            "ndots" => self.ndots = value.min(NDOTS),
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, TIMEOUT)),
            "attempts" => self.attempts = value.clamp(1, ATTEMPTS),
            _ => {}
        }
    }

    /// The names to ask for, in order.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.into()];
        }
        let dots = name.bytes().filter(|byte| *byte == b'.').count() as u64;
        let searched = self.domains.iter().map(|domain| format!("{name}.{}", domain.trim_matches('.')));
        let mut candidates: Vec<String> = searched.collect();
        let first = if dots >= self.ndots { 0 } else { candidates.len() };
        candidates.insert(first, name.into());
        candidates
    }

    /// The addresses of `name`: none when a server says that there are none.
    async fn ask(&self, name: &str, kind: RecordType, port: u16) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..self.attempts {
            for server in &self.servers {
                let server = SocketAddr::new(*server, port);
                let asked = timeout(self.timeout, exchange(server, name, kind)).await;
                let answer = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                match answer {
                    Ok(addresses) => return Ok(addresses),
                    Err(error) => {
                        last = io::Error::new(error.kind(), format!("name server {server}, asked for {name}: {error}"));
                    }
                }
            }
        }
        Err(last)
    }
}

/// IPv6 name servers may carry a zone, which only link-local ones need; those are not for other hosts' names.
fn parse_server(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

async fn exchange(server: SocketAddr, name: &str, kind: RecordType) -> io::Result<Vec<IpAddr>> {
    let id = getrandom::u32().map_err(io::Error::other)? as u16;
    let question = query(id, name, kind)?;
    let here = if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((here, 0)).await?;
    // Only this server's datagrams reach a connected socket.
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match Response::parse(&buffer[..length], id, kind)? {
            Response::Addresses(addresses) => return Ok(addresses),
            Response::Truncated => return by_tcp(server, &question, id, kind).await,
            Response::Other => {}
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &[u8], id: u16, kind: RecordType) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match Response::parse(&answer, id, kind)? {
        Response::Addresses(addresses) => Ok(addresses),
        Response::Truncated | Response::Other => Err(message::malformed("an answer by TCP is cut or not ours")),
    }
}

#[cfg(test)]
mod tests;
