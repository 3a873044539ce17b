//! Against a name server in this process, on real sockets.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;

/// Answers from a table of lower-case names; by UDP with nothing but "too long" when `truncated`.
struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    names: BTreeMap<&'static str, Vec<IpAddr>>,
    truncated: bool,
    asked: Vec<String>,
}

impl Server {
    async fn new(names: &[(&'static str, &str)], truncated: bool) -> Self {
        // A port that is free for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let names = names.iter().map(|(name, all)| (*name, all.split(' ').map(|a| a.parse().unwrap()).collect()));
        Self { udp, tcp, names: names.collect(), truncated, asked: Vec::new() }
    }

    /// What `name` resolves to with this server, these hosts and this resolv.conf (less its `nameserver`), and the
    /// names that the server was asked for.
    async fn resolve(mut self, name: &str, hosts: &str, config: &str) -> (Result<Vec<String>, String>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let (hosts_file, resolv_conf) = (folder.path().join("hosts"), folder.path().join("resolv.conf"));
        std::fs::write(&hosts_file, hosts).unwrap();
        // A busy machine may take long to answer, and nothing here is about asking again.
        let patient = "options timeout:30 attempts:5";
        std::fs::write(&resolv_conf, format!("# A comment\nnameserver 127.0.0.1\n{patient}\n{config}\n")).unwrap();
        let port = self.udp.local_addr().unwrap().port();
        let system = Resolver(Arc::new(Files { hosts: hosts_file, resolv_conf, port }));
        let resolved = tokio::select! {
            resolved = system.resolve(name) => resolved,
            never = self.serve() => match never {},
        };
        let shown = resolved.map(|all| all.iter().map(ToString::to_string).collect()).map_err(|e| e.to_string());
        (shown, self.asked)
    }

    async fn serve(&mut self) -> std::convert::Infallible {
        let mut buffer = [0; 512];
        loop {
            tokio::select! {
                received = self.udp.recv_from(&mut buffer) => {
                    let (length, from) = received.unwrap();
                    // A stranger's answer first, to be passed over.
                    let mut other = self.answer(&buffer[..length], self.truncated);
                    other[0] ^= 0xff;
                    self.udp.send_to(&other, from).await.unwrap();
                    self.asked.pop();
                    let answer = self.answer(&buffer[..length], self.truncated);
                    self.udp.send_to(&answer, from).await.unwrap();
                }
                accepted = self.tcp.accept() => {
                    let (mut stream, _) = accepted.unwrap();
                    let length = stream.read_u16().await.unwrap();
                    let mut question = vec![0; usize::from(length)];
                    stream.read_exact(&mut question).await.unwrap();
                    let answer = self.answer(&question, false);
                    stream.write_u16(answer.len() as u16).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        }
    }

    fn answer(&mut self, question: &[u8], truncated: bool) -> Vec<u8> {
        let (mut name, mut at) = (String::new(), 12);
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            name = format!("{name}{}.", String::from_utf8_lossy(&question[at + 1..end]));
            at = end;
        }
        let name = name.trim_end_matches('.').to_lowercase();
        let wants_v4 = question[at + 2] == 1;
        let known = self.names.get(name.as_str());
        let data: Vec<Vec<u8>> = known
            .into_iter()
            .flatten()
            .filter_map(|address| match address {
                IpAddr::V4(address) if wants_v4 => Some(address.octets().to_vec()),
                IpAddr::V6(address) if !wants_v4 => Some(address.octets().to_vec()),
                _ => None,
            })
            .collect();
        let code = if known.is_some() { 0 } else { 3 };
        self.asked.push(format!("{name} {}", if wants_v4 { "A" } else { "AAAA" }));
        let mut answer = question.to_vec();
        answer[2] = 0x81 | if truncated { 2 } else { 0 };
        answer[3] = 0x80 | code;
        if !truncated && !data.is_empty() {
            answer[7] = data.len() as u8 + 1;
            // An alias first, as of a load balancer, which points into the question.
            answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
            for data in data {
                answer.extend([0xc0, 12, 0, if wants_v4 { 1 } else { 28 }, 0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
                answer.extend(data);
            }
        }
        answer
    }
}

#[tokio::test]
async fn hosts_come_before_servers() {
    let server = Server::new(&[("api", "10.0.0.1")], false).await;
    let hosts = "127.0.0.1 localhost # api\n10.1.1.1 other Api # here\nfd00::1 api\nnonsense api\n";
    let (addresses, asked) = server.resolve("api", hosts, "").await;
    assert_eq!(addresses.unwrap(), ["10.1.1.1", "fd00::1"]);
    assert!(asked.is_empty(), "{asked:?}");
}

#[tokio::test]
async fn the_search_list_is_tried_as_ndots_says() {
    let config = "search etl.svc.cluster.local svc.cluster.local\noptions ndots:5 edns0";
    let server = Server::new(&[("kubernetes.default.svc.cluster.local", "10.0.0.1 10.0.0.2")], false).await;
    let (addresses, asked) = server.resolve("kubernetes.default", "", config).await;
    assert_eq!(addresses.unwrap(), ["10.0.0.1", "10.0.0.2"]);
    let first = "kubernetes.default.etl.svc.cluster.local";
    assert_eq!(asked, [format!("{first} A"), format!("{first} AAAA"), "kubernetes.default.svc.cluster.local A".into()]);

    // As many dots: as it is, first. A dot at the end: as it is, only.
    for (name, ndots) in [("api.example.com", 2), ("api.example.com.", 5)] {
        let server = Server::new(&[("api.example.com", "192.0.2.1")], false).await;
        let (addresses, asked) = server.resolve(name, "", &format!("search etl.svc\noptions ndots:{ndots}")).await;
        assert_eq!(addresses.unwrap(), ["192.0.2.1"]);
        assert_eq!(asked, ["api.example.com A"]);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_asked_for_by_tcp() {
    let many: Vec<String> = (0..60).map(|last| format!("10.0.0.{last}")).collect();
    let server = Server::new(&[("api", &many.join(" "))], true).await;
    assert_eq!(server.resolve("api", "", "").await.0.unwrap(), many);
}

#[tokio::test]
async fn an_address_of_the_other_family_is_found() {
    let server = Server::new(&[("api", "fd00::1")], false).await;
    let (addresses, asked) = server.resolve("api", "", "").await;
    assert_eq!(addresses.unwrap(), ["fd00::1"]);
    assert_eq!(asked, ["api A", "api AAAA"]);
}

#[tokio::test]
async fn a_name_without_an_address_is_an_error_that_names_it() {
    let (addresses, _) = Server::new(&[], false).await.resolve("nowhere", "", "").await;
    assert_eq!(addresses.unwrap_err(), "no address of nowhere in /etc/hosts or DNS");
    let (addresses, _) = Server::new(&[], false).await.resolve("a..b", "", "").await;
    assert!(addresses.unwrap_err().contains("a part of a host name"));
}

#[test]
fn the_configuration_is_read_as_the_c_library_reads_it() {
    let config = "domain old\nsearch a b\nnameserver 10.0.0.1\nnameserver fd00::1 # second\nnameserver no\n\
        options ndots:99 timeout:0 attempts:9 rotate timeout:x\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
    let expected = ResolvConf {
        servers: ["10.0.0.1", "fd00::1", "10.0.0.3"].map(|server| server.parse().unwrap()).into(),
        domains: ["a", "b"].map(String::from).into(),
        ndots: 15,
        timeout: Duration::from_secs(1),
        attempts: 5,
    };
    assert_eq!(ResolvConf::parse(config), expected);
}

proptest! {
    #[test]
    fn any_message_is_read_or_refused(mut message in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Response::parse(&message, 7, RecordType::A);
        // And one that passes for an answer with many records.
        message.splice(0..0, [0, 7, 0x81, 0x80, 0, 1, 0, 40, 0, 0, 0, 0]);
        let _ = Response::parse(&message, 7, RecordType::Aaaa);
    }
}
