//! The connection: TLS, credentials, and starting anew when either went bad.
//!
//! A connection that no longer carries anything looks like one that is slow. So a request that got no answer makes the
//! next one go over a new connection, and idle watches are kept honest by pings. Requests that the server no longer
//! accepts the credentials of make them be read again, whatever their age. Where a program has to be run for that, it is
//! run once for all who wait, and goes on when none of them does any more: the next who asks finds what it has given. A
//! new connection alone takes the credentials that there are.

use std::{
    borrow::Cow,
    error::Error,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use http::{
    HeaderValue, Uri,
    header::{AUTHORIZATION, DATE, USER_AGENT},
};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ConfigExt},
};
use tokio::sync::watch;
use tower::{BoxError, Service, ServiceBuilder};

use crate::{
    Boottime, Program,
    apart::{self, apart},
    login::{self, Login, LoginError, log_in},
    moments,
    resolve::Resolver,
    server_time,
};

/// Why there is no connection.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A connection that takes longer is tried again.
const CONNECT: Duration = Duration::from_secs(5);

/// After this long without traffic the other side is asked whether it is there: a watch of a dead server ends within
/// this and [`PONG`], at the price of a few bytes a minute.
pub const PING: Duration = Duration::from_secs(30);

/// After this long without an answer to a [`PING`] the other side is not there.
pub const PONG: Duration = Duration::from_secs(15);

/// Bytes of one answer that may be on their way before they are read, and of all answers of a connection: a reader that
/// is slow holds no more than that, and some dozens of them do not keep the answers of others away.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Token files are read again after this long; the kubelet renews a token when a fifth of its hour or more is left.
const TOKEN_AGE: Duration = Duration::from_mins(1);

/// The connection to one cluster.
pub struct Link {
    origin: Origin,
    program: Program,
    login: Login,
    /// The file of the token, which is read here and not by `kube`: that neither reads one early nor forgives a
    /// newline.
    token: Option<PathBuf>,
    state: Mutex<State>,
    /// Taken before the state.
    renewal: Mutex<Option<Renewal>>,
}

/// A login for the client that comes after that of a generation.
struct Renewal {
    generation: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// A configuration with new credentials.
type Outcome = Result<Arc<Config>, Arc<LoginError>>;

/// Where clients come from.
enum Origin {
    Config(Arc<Config>),
    Made(Arc<dyn Fn() -> kube::Client + Send + Sync>),
}

struct State {
    client: kube::Client,
    generation: u64,
    token: Option<(HeaderValue, Boottime)>,
    /// What the client was made with, if a program had to be run for it.
    logged_in: Option<Arc<Config>>,
}

/// A client to use, and which one it is.
pub struct Line {
    /// The client.
    pub client: kube::Client,
    token: Option<HeaderValue>,
    /// Counts the clients of the link.
    pub generation: u64,
}

impl Link {
    /// A connection of this program to this cluster. No request is made yet; a login program that the configuration has
    /// is run, and waited for.
    pub fn new(config: Config, program: Program) -> Result<Self, Failure> {
        let login = Login::default();
        let config = Settled::new(config);
        let state = State::first(log_in(&config.0, login)?, program)?;
        Ok(Self::over(config, program, login, state))
    }

    /// The same, while others go on.
    pub async fn connect(config: Config, program: Program, login: Login) -> Result<Self, Failure> {
        let config = Settled::new(config);
        let state = State::first(logged_in(&config.0, login).await?, program)?;
        Ok(Self::over(config, program, login, state))
    }

    fn over(Settled(config, token): Settled, program: Program, login: Login, state: State) -> Self {
        Self::of(Origin::Config(Arc::new(config)), program, login, token, state)
    }

    /// One whose clients somebody else makes, each with a connection of its own.
    pub fn made(make: Arc<dyn Fn() -> kube::Client + Send + Sync>, program: Program) -> Self {
        let state = State { client: make(), generation: 0, token: None, logged_in: None };
        Self::of(Origin::Made(make), program, Login::default(), None, state)
    }

    fn of(origin: Origin, program: Program, login: Login, token: Option<PathBuf>, state: State) -> Self {
        let (state, renewal) = (Mutex::new(state), Mutex::new(None));
        Self { origin, program, login: login.again(), token, state, renewal }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renewal(&self) -> MutexGuard<'_, Option<Renewal>> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose connection it is.
    pub fn program(&self) -> Program {
        self.program
    }

    /// What to send the next request with.
    pub fn line(&self) -> Result<Line, Failure> {
        let mut state = self.state();
        if let Some(path) = &self.token {
            let now = Boottime::now();
            if state.token.as_ref().is_none_or(|(_, read_at)| now.since(*read_at) >= TOKEN_AGE) {
                match (read_token(path), &mut state.token) {
                    (Ok(token), stored) => *stored = Some((token, now)),
                    // A token that is not there for a moment: the last one may still be good.
                    (Err(error), Some(_)) => tracing::debug!("{error}; going on with the last one"),
                    (Err(error), None) => return Err(error.into()),
                }
            }
        }
        let token = state.token.as_ref().map(|(token, _)| token.clone());
        Ok(Line { client: state.client.clone(), token, generation: state.generation })
    }

    /// Why an answer takes long that has nothing to do with the API server: the login program that is waited for.
    pub fn is_logging_in(&self) -> Option<String> {
        let Origin::Config(config) = &self.origin else { return None };
        let program = login::program(&config.auth_info)?;
        let is_under_way = self.renewal().as_ref().is_some_and(|renewal| renewal.outcome.borrow().is_none());
        is_under_way.then(|| format!("the kubeconfig's login program {program:?} has not answered yet"))
    }

    /// Replaces the client of this generation, if nobody else has, by one with a new connection and credentials read
    /// anew.
    pub async fn renew(&self, generation: u64) -> Result<(), Failure> {
        let client = match &self.origin {
            Origin::Config(config) if login::is_needed(&config.auth_info) => {
                return self.log_in_again(config, generation).await;
            }
            Origin::Config(config) => build(&*log_in(config, self.login)?, self.program)?,
            Origin::Made(make) => make(),
        };
        self.state().replace(generation, client, None);
        Ok(())
    }

    /// Replaces the client of this generation, if nobody else has, by one with a new connection. No program is run, nor
    /// waited for.
    pub async fn reconnect(&self, generation: u64) -> Result<(), Failure> {
        let config = self.state().logged_in.clone();
        let Some(config) = config else { return self.renew(generation).await };
        let given = self.renewal().as_ref().map(|renewal| renewal.outcome.borrow().is_some());
        match given {
            // It brings a new connection with it.
            Some(false) => {}
            Some(true) => self.renew(generation).await?,
            None => {
                let client = build(&config, self.program)?;
                self.state().replace(generation, client, Some(config));
            }
        }
        Ok(())
    }

    /// As [`Link::renew`], when a program has to be run for it.
    async fn log_in_again(&self, config: &Arc<Config>, generation: u64) -> Result<(), Failure> {
        let mut outcome = {
            let mut renewal = self.renewal();
            if self.state().generation != generation {
                return Ok(());
            }
            match &*renewal {
                Some(under_way) if under_way.generation == generation => under_way.outcome.clone(),
                _ => {
                    let outcome = self.start_login(Arc::clone(config))?;
                    *renewal = Some(Renewal { generation, outcome: outcome.clone() });
                    outcome
                }
            }
        };
        let given = outcome.wait_for(Option::is_some).await.map(|given| given.clone());
        // It has had its effect; who asks next begins another one.
        let mut renewal = self.renewal();
        renewal.take_if(|renewal| renewal.outcome.same_channel(&outcome));
        let config = match given {
            Ok(Some(given)) => given?,
            Ok(None) | Err(_) => return Err(apart::ended().into()),
        };
        let mut state = self.state();
        if state.generation == generation {
            let client = build(&config, self.program)?;
            state.replace(generation, client, Some(config));
        }
        Ok(())
    }

    fn start_login(&self, config: Arc<Config>) -> io::Result<watch::Receiver<Option<Outcome>>> {
        let (tell, outcome) = watch::channel(None);
        let login = self.login;
        apart::start(move || {
            let given = log_in(&config, login).map(|config| Arc::new(config.into_owned())).map_err(Arc::new);
            // The next who asks takes it, also if nobody waits any more.
            tell.send_replace(Some(given));
        })?;
        Ok(outcome)
    }
}

impl State {
    /// With the credentials that a program has given, if one was run for them.
    fn first(config: Cow<'_, Config>, program: Program) -> Result<Self, Failure> {
        let client = build(&config, program)?;
        let logged_in = match config {
            Cow::Owned(config) => Some(Arc::new(config)),
            Cow::Borrowed(_) => None,
        };
        Ok(Self { client, generation: 0, token: None, logged_in })
    }

    fn replace(&mut self, generation: u64, client: kube::Client, logged_in: Option<Arc<Config>>) {
        if self.generation == generation {
            *self = Self { client, generation: generation + 1, token: None, logged_in };
        }
    }
}

/// A configuration, and the file of its token, if it has one: that goes before a login program, and `kube` does not see
/// it.
struct Settled(Config, Option<PathBuf>);

impl Settled {
    fn new(mut config: Config) -> Self {
        if let Some(proxy) = config.proxy_url.as_ref().filter(|_| !cfg!(feature = "proxy")) {
            static WARNED: Once = Once::new();
            let host = proxy.host().unwrap_or_default();
            WARNED.call_once(|| tracing::warn!("proxies are not supported: connecting directly, not by {host}"));
        }
        let token = match config.auth_info.token {
            Some(_) => None,
            None => config.auth_info.token_file.take().map(PathBuf::from),
        };
        if token.is_some() {
            config.auth_info.exec = None;
        }
        Self(config, token)
    }
}

/// The same configuration with the credentials of its login program, which is waited for apart from all else.
pub(crate) async fn logged_in(config: &Config, login: Login) -> Result<Cow<'_, Config>, Failure> {
    if !login::is_needed(&config.auth_info) {
        return Ok(log_in(config, login)?);
    }
    let config = config.clone();
    Ok(Cow::Owned(apart(move || log_in(&config, login).map(Cow::into_owned)).await??))
}

fn read_token(path: &PathBuf) -> io::Result<HeaderValue> {
    let failed = |error: &dyn Error| io::Error::other(format!("cannot use the token in {}: {error}", path.display()));
    let token = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|error| failed(&error))?;
    header.set_sensitive(true);
    Ok(header)
}

impl Line {
    /// `request` with the credentials that it needs.
    pub fn sign<B>(&self, mut request: http::Request<B>) -> http::Request<B> {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        request
    }
}

/// A client with a connection of its own. Called on a tokio runtime, which drives it.
pub(crate) fn build(config: &Config, program: Program) -> Result<kube::Client, Failure> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver::system());
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(PING));
    tcp.set_keepalive_interval(Some(PONG / 3));
    tcp.set_keepalive_retries(Some(3));
    #[cfg(feature = "proxy")]
    if let Some(proxy) = &config.proxy_url {
        return client(config, program, crate::proxy::tunnel(proxy, tcp)?);
    }
    client(config, program, tcp)
}

/// A client whose connections are made by `tcp`.
fn client<C>(config: &Config, program: Program, tcp: C) -> Result<kube::Client, Failure>
where
    C: Service<Uri, Response: hyper::rt::Read + hyper::rt::Write + Connection + Unpin + Send + 'static>,
    C: Clone + Send + Sync + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    let mut tls =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        tls = tls.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name.clone().try_into()?));
    }
    let tcp = ServiceBuilder::new()
        .map_request(|to| noted("connecting", to))
        .map_response(|tcp| noted("connected", tcp))
        .service(tcp);
    let connector = tls.enable_http1().enable_http2().wrap_connector(tcp);
    let connector = ServiceBuilder::new().map_response(|tls| noted("TLS done", tls)).service(connector);
    let mut http = legacy::Client::builder(TokioExecutor::new());
    http.timer(TokioTimer::new()).http2_keep_alive_interval(PING).http2_keep_alive_timeout(PONG);
    http.http2_initial_stream_window_size(STREAM_WINDOW).http2_initial_connection_window_size(CONNECTION_WINDOW);
    // kube adds the headers of a configuration to each request.
    let mut named = config.clone();
    named.headers.push((USER_AGENT, program.user_agent()));
    let provider = config.auth_info.auth_provider.as_ref().map(|provider| provider.name.clone());
    let of_provider = move |error: BoxError| login::of_provider(provider.as_deref(), error);
    let auth = config.auth_layer().map_err(|error| match error {
        kube::Error::Auth(error) => of_provider(error.into()),
        error => error.into(),
    })?;
    let service = ServiceBuilder::new()
        .map_err(of_provider)
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(named.extra_headers_layer()?)
        .map_err(BoxError::from)
        .map_future(notes_the_time)
        .service(http.build::<_, Body>(connector));
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}

/// What has been made, after the moment of that is noted.
fn noted<T>(step: &'static str, made: T) -> T {
    moments::note(step);
    made
}

/// The same answer, of which the API server's time is noted.
async fn notes_the_time<B, E>(
    answer: impl Future<Output = Result<http::Response<B>, E>>,
) -> Result<http::Response<B>, E> {
    let sent = Boottime::now();
    let answer = answer.await?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    if let Some(date) = date.filter(|_| Boottime::now().since(sent) <= server_time::PROMPT) {
        server_time::note(date);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::mpsc,
    };

    use super::*;

    /// Answers each request on a connection. Tells its number and what was asked.
    async fn serve(mut connection: TcpStream, number: u32, asked: mpsc::Sender<(u32, String)>) {
        let mut bytes = Vec::new();
        while connection.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            if bytes.ends_with(b"\r\n\r\n") {
                let request = String::from_utf8_lossy(&std::mem::take(&mut bytes)).to_lowercase();
                asked.send((number, request)).await.expect("somebody listens");
                connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("an answer");
            }
        }
    }

    #[tokio::test]
    async fn each_client_has_a_connection_of_its_own_and_says_whose_it_is() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (asked, mut requests) = mpsc::channel(10);
        tokio::spawn(async move {
            for number in 1.. {
                let (connection, _) = listener.accept().await.expect("a connection");
                tokio::spawn(serve(connection, number, asked.clone()));
            }
        });
        let config = Config::new(format!("http://{address}").parse().expect("a URI"));
        let first = build(&config, Program::OPERATOR).expect("a client");
        let second = build(&config, Program::SDK).expect("a client");
        let version = env!("CARGO_PKG_VERSION");
        for (client, connection, program) in
            [(first.clone(), 1, "konductor-operator"), (first, 1, "konductor-operator"), (second, 2, "konductor-sdk")]
        {
            let request = http::Request::get("/version").body(Vec::new()).expect("a request");
            assert_eq!(client.request_text(request).await.expect("an answer"), "{}");
            let (number, request) = requests.recv().await.expect("a request");
            assert_eq!(number, connection);
            assert!(request.contains(&format!("\r\nuser-agent: {program}/{version}\r\n")), "{request}");
        }
    }

    /// A connection of somebody who logs in by this script.
    async fn logged_in_by(script: &str) -> Link {
        let mut config = Config::new("http://127.0.0.1:1".parse().expect("a URI"));
        config.auth_info.exec = serde_json::from_value(serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
        }))
        .expect("an exec");
        let login = Login { limit: Duration::from_mins(2), asks: false, asks_again: false };
        Link::connect(config, Program::SDK, login).await.expect("logged in")
    }

    /// Answers the first run at once, and each other when there is a file `go`; notes each.
    fn slow_login(folder: &std::path::Path, answer: &str) -> String {
        let at = folder.display();
        format!(
            "echo run >>{at}/runs; if [ $(wc -l <{at}/runs) -gt 1 ]; then \
             while [ ! -e {at}/go ]; do sleep 0.01; done; {answer}; else echo '{{\"status\":{{\"token\":\"t\"}}}}'; fi"
        )
    }

    #[tokio::test]
    async fn a_login_under_way_serves_all_who_wait_and_goes_on_when_none_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let answer = r#"echo '{"status":{"token":"u"}}'"#;
        let link = logged_in_by(&slow_login(folder.path(), answer)).await;
        let runs = || std::fs::read_to_string(folder.path().join("runs")).expect("it was run").lines().count();
        assert_eq!((runs(), link.is_logging_in()), (1, None));
        for _ in 0..3 {
            // As requests do whose time is up.
            let waiting = async { tokio::join!(link.renew(0), link.renew(0)) };
            tokio::time::timeout(Duration::from_millis(20), waiting).await.expect_err("it does not answer");
        }
        let why = link.is_logging_in().expect("it is under way");
        assert!(why.contains("login program \"sh\" has not answered"), "{why}");
        std::fs::write(folder.path().join("go"), "").expect("written");
        let (first, second) = tokio::join!(link.renew(0), link.renew(0));
        first.and(second).expect("logged in");
        assert_eq!((runs(), link.line().expect("a line").generation, link.is_logging_in()), (2, 1, None));
        // Whose client is another already needs nothing.
        link.renew(0).await.expect("nothing to do");
        assert_eq!((runs(), link.line().expect("a line").generation), (2, 1));
        link.renew(1).await.expect("logged in");
        assert_eq!((runs(), link.line().expect("a line").generation), (3, 2));
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_credentials_that_there_are_and_runs_no_program() {
        let folder = tempfile::tempdir().expect("a folder");
        let answer = r#"echo '{"status":{"token":"u"}}'"#;
        let link = logged_in_by(&slow_login(folder.path(), answer)).await;
        let runs = || std::fs::read_to_string(folder.path().join("runs")).expect("it was run").lines().count();
        let generation = || link.line().expect("a line").generation;
        link.reconnect(0).await.expect("connected anew");
        assert_eq!((runs(), generation()), (1, 1));
        // Whose client is another already needs nothing.
        link.reconnect(0).await.expect("nothing to do");
        assert_eq!(generation(), 1);
        // While a login is under way it is that which brings a new connection, and it is not waited for.
        tokio::time::timeout(Duration::from_millis(20), link.renew(1)).await.expect_err("it does not answer");
        link.reconnect(1).await.expect("nothing to do yet");
        assert_eq!(generation(), 1);
        std::fs::write(folder.path().join("go"), "").expect("written");
        link.renew(1).await.expect("logged in");
        assert_eq!((runs(), generation()), (2, 2));
        link.reconnect(2).await.expect("connected anew");
        assert_eq!((runs(), generation()), (2, 3));
    }

    #[tokio::test]
    async fn a_login_that_fails_is_told_to_all_who_wait_and_begun_anew_by_who_asks_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = logged_in_by(&slow_login(folder.path(), "exit 3")).await;
        let runs = || std::fs::read_to_string(folder.path().join("runs")).expect("it was run").lines().count();
        std::fs::write(folder.path().join("go"), "").expect("written");
        let (first, second) = tokio::join!(link.renew(0), link.renew(0));
        for failed in [first, second] {
            let failed = failed.expect_err("it has failed");
            assert!(matches!(login::login_error(&*failed), Some(LoginError::Failed { .. })), "{failed}");
        }
        assert_eq!(runs(), 2);
        link.renew(0).await.expect_err("it fails again");
        assert_eq!((runs(), link.line().expect("a line").generation), (3, 0));
    }

    #[test]
    fn somebody_is_asked_once_unless_told_otherwise() {
        let first = Login { limit: Duration::ZERO, asks: true, asks_again: false };
        assert!(!first.again().asks);
        assert!(Login { asks_again: true, ..first }.again().asks);
        assert!(!Login { asks: false, asks_again: true, ..first }.again().asks);
    }

    #[test]
    fn a_login_that_nobody_is_asked_in_is_not_waited_for_as_long() {
        let login = |limit, asks| Login { limit, asks, asks_again: true }.again().limit;
        let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
        assert_eq!((login(hour, true), login(second, false)), (hour, second));
        assert!(login(hour, false) <= Duration::from_mins(1));
    }
}
