//! The network between a program and the API server, and its faults: nothing gets through, everything is slow,
//! everything is cut. What passes is passed on byte by byte, so TLS and HTTP/2 are the real ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// What happens to what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Everything gets there.
    Fine,
    /// Connections are made and stay, and nothing gets through, in either direction, until that ends.
    Silent,
    /// Whatever the server says comes so much later.
    Slow(Duration),
    /// Connections break, and new ones break at once.
    Cut,
}

/// A network of a test's own.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
}

impl Proxy {
    /// A network with nothing wrong, to the API server that this kubeconfig names.
    pub async fn start(kubeconfig: &Path) -> (Self, PathBuf) {
        let text = std::fs::read_to_string(kubeconfig).expect("read a kubeconfig");
        let server =
            text.split_once("https://").and_then(|(_, rest)| rest.split(['\n', '/']).next()).expect("a server");
        let to = server.parse().expect("the harness's API servers have addresses");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let through = kubeconfig.with_file_name(format!("through-{}", address.port()));
        std::fs::write(&through, text.replace(server, &address.to_string())).expect("write a kubeconfig");
        let (network, now) = watch::channel(Network::Fine);
        let std = listener.into_std().expect("a listener");
        // In a thread of its own: a test may block its own.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(std, to, now));
        });
        (Self { address, network }, through)
    }

    /// From now on the network is like this.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// The address on which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts connections until the proxy is dropped.
async fn serve(listener: std::net::TcpListener, to: SocketAddr, network: watch::Receiver<Network>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut dropped = network.clone();
    let gone = async move { while dropped.changed().await.is_ok() {} };
    let accept = async {
        loop {
            let (client, _) = listener.accept().await.expect("accept a connection");
            let network = network.clone();
            tokio::spawn(async move {
                // A connection that ends with an error ends: that is all there is to say.
                let _ = connection(client, to, network).await;
            });
        }
    };
    tokio::select! {
        () = gone => {}
        () = accept => {}
    }
}

async fn connection(client: TcpStream, to: SocketAddr, network: watch::Receiver<Network>) -> std::io::Result<()> {
    let mut cut = network.clone();
    let cut = async {
        if cut.wait_for(|network| *network == Network::Cut).await.is_err() {
            // The proxy is gone, and so will all of this be.
            std::future::pending::<()>().await;
        }
    };
    let server = TcpStream::connect(to).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    // Closing it with unread data or without lingering resets it.
    client.set_zero_linger()?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = pass(from_client, to_server, network.clone(), false) => {}
        _ = pass(from_server, to_client, network.clone(), true) => {}
        () = cut => {}
    }
    Ok(())
}

/// Passes on what is read, in order, each piece when it is due.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    answers: bool,
) -> std::io::Result<()> {
    let (queue, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let late = network.clone();
    let read = async move {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let number = from.read(&mut buffer).await?;
            if number == 0 {
                return Ok::<_, std::io::Error>(());
            }
            let delay = match *late.borrow() {
                Network::Slow(delay) if answers => delay,
                _ => Duration::ZERO,
            };
            // The writer ends only with an error of its own.
            let _ = queue.send((Instant::now() + delay, buffer[..number].to_vec()));
        }
    };
    let write = async move {
        while let Some((at, piece)) = due.recv().await {
            sleep_until(at).await;
            // An error means that the proxy is gone.
            let _ = network.wait_for(|network| *network != Network::Silent).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}
