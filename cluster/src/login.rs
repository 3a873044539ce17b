//! Login programs: what a kubeconfig's `exec` runs for credentials, as the logins of EKS, GKE and AKS do.
//!
//! A program is run once for each set of credentials, and again when the API server no longer accepts them. It is told
//! what kubectl tells it, is shown the terminal only if there is one that is nobody else's by then, and is ended when it
//! takes too long. What it says
//! on stderr is for people and goes there. Nothing here repeats its variables or its answer: both hold secrets.

use std::{
    borrow::Cow,
    error::Error,
    io::{self, ErrorKind, IsTerminal as _, Read as _},
    os::fd::AsFd as _,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use konductor_api::GoDuration;
use kube::{
    Config,
    client::AuthError,
    config::{AuthInfo, ExecAuthCluster, ExecConfig, ExecInteractiveMode},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use tower::BoxError;

use crate::{Boottime, cause::causes};

/// How long a login may take: codes that people type into a browser are good for this long.
const LOGIN: Duration = Duration::from_mins(15);

/// How long a login may take that nobody is asked in. All requests wait for it, renewals too: one that is stuck must end
/// while there is time for another.
const LOGIN_ALONE: Duration = Duration::from_mins(1);

/// Bytes of an answer: a token and a certificate with its chain have some thousands.
const ANSWER: usize = 1 << 20;

/// How often it is looked whether a program has ended that has answered: most have by the first look.
const LOOK: Duration = Duration::from_millis(2);

/// The versions of the protocol that there are: all have the same fields. `v1alpha1` is gone since Kubernetes 1.24.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// The auth providers that are known here, of those that kubeconfigs had before there were login programs.
const PROVIDERS: [&str; 2] = ["oidc", "gcp"];

/// How a login program is run.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// How long it may take.
    pub limit: Duration,
    /// Whether it may ask somebody, on stdin.
    pub asks: bool,
    /// Whether it may ask again when its credentials are no longer accepted: somebody else may read from stdin by then.
    pub asks_again: bool,
}

impl Default for Login {
    /// As long as people need, who may be asked once where stdin is a terminal.
    fn default() -> Self {
        Self { limit: LOGIN, asks: io::stdin().is_terminal(), asks_again: false }
    }
}

impl Login {
    /// How it is run when its credentials are no longer accepted.
    pub(crate) fn again(self) -> Self {
        let asks = self.asks && self.asks_again;
        Self { asks, limit: if asks { self.limit } else { self.limit.min(LOGIN_ALONE) }, ..self }
    }
}

type Prepare = Box<dyn Fn(&mut Command) + Send + Sync>;

/// What is done with each program before it is started.
static PREPARE: OnceLock<Prepare> = OnceLock::new();

/// Has this done with each login program of this process before it is started. Only the first call counts.
pub fn on_login(prepare: impl Fn(&mut Command) + Send + Sync + 'static) {
    let _ = PREPARE.set(Box::new(prepare));
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The kubeconfig wants another version of the protocol.
    #[error(
        "the kubeconfig's login program is to speak {0:?}, which is neither client.authentication.k8s.io/v1 nor v1beta1"
    )]
    Version(String),
    /// The kubeconfig's `exec` has no command.
    #[error("the kubeconfig's exec names no login program")]
    NoProgram,
    /// The kubeconfig says that it must be able to ask.
    #[error("the kubeconfig's login program {0:?} must ask on a terminal (interactiveMode: Always), and there is none")]
    NoTerminal(String),
    /// It is not installed.
    #[error("there is no login program {program:?}, which the kubeconfig names")]
    Missing {
        /// Its name.
        program: String,
        /// How to install it, as the kubeconfig says.
        hint: Option<String>,
    },
    /// The system does not run it.
    #[error("the kubeconfig's login program {program:?} cannot be run")]
    Start {
        /// Its name.
        program: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It has ended otherwise than with 0.
    #[error("the kubeconfig's login program {program:?} has failed: {status}")]
    Failed {
        /// Its name.
        program: String,
        /// How it has ended.
        status: ExitStatus,
    },
    /// It has not answered, or not ended.
    #[error("the kubeconfig's login program {program:?} has taken longer than {}, and was ended", GoDuration(*limit))]
    TooLong {
        /// Its name.
        program: String,
        /// How long it could take.
        limit: Duration,
    },
    /// What it has written is of no use.
    #[error("the kubeconfig's login program {program:?} has given no credentials: {why}")]
    Answer {
        /// Its name.
        program: String,
        /// What is wrong with the answer.
        why: &'static str,
    },
    /// The kubeconfig has an auth provider that is not known here.
    #[error("the kubeconfig logs in by the auth-provider {0:?}, which is not supported")]
    NoSuchProvider(String),
    /// The kubeconfig's auth provider gives no credentials.
    #[error("the kubeconfig's auth-provider {provider:?} gives no credentials: {why}")]
    Provider {
        /// Its name.
        provider: String,
        /// What is wrong.
        why: String,
    },
}

/// Why a provider gives no credentials, without what its command has written, which may be a part of them.
fn without_secrets(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => format!("its command has failed: {}", out.status),
        AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_) => "what its command has written is not JSON".into(),
        AuthError::MalformedTokenExpirationDate(_) => "when its token expires is no time".into(),
        error => error.to_string(),
    }
}

/// Whether a program has to be run for credentials: everything else that a kubeconfig may have goes first.
pub(crate) fn is_needed(auth: &AuthInfo) -> bool {
    let other = auth.auth_provider.is_some()
        || auth.token.is_some()
        || auth.token_file.is_some()
        || (auth.username.is_some() && auth.password.is_some());
    auth.exec.is_some() && !other
}

/// The same configuration with the credentials that its login program gives; as it is when it has none.
pub(crate) fn log_in(config: &Config, login: Login) -> Result<Cow<'_, Config>, LoginError> {
    if let Some(provider) = &config.auth_info.auth_provider
        && !PROVIDERS.contains(&provider.name.as_str())
    {
        return Err(LoginError::NoSuchProvider(provider.name.clone()));
    }
    let exec = match &config.auth_info.exec {
        Some(exec) if is_needed(&config.auth_info) => exec,
        _ => return Ok(Cow::Borrowed(config)),
    };
    let Status { token, client_certificate_data, client_key_data } = run(exec, login)?;
    let mut config = config.clone();
    config.auth_info.exec = None;
    config.auth_info.token = token.map(Into::into);
    if let Some((certificate, key)) = client_certificate_data.zip(client_key_data) {
        config.auth_info.client_certificate = None;
        config.auth_info.client_key = None;
        config.auth_info.client_certificate_data = Some(STANDARD.encode(certificate));
        config.auth_info.client_key_data = Some(STANDARD.encode(key).into());
    }
    Ok(Cow::Owned(config))
}

/// What has gone wrong with a request, said of the auth provider if it is that.
pub(crate) fn of_provider(provider: Option<&str>, error: BoxError) -> BoxError {
    let Some(provider) = provider else { return error };
    match error.downcast::<AuthError>() {
        Ok(error) => LoginError::Provider { provider: provider.to_owned(), why: without_secrets(&error) }.into(),
        Err(error) => error,
    }
}

/// The login that an error is about, wherever it stands in a chain.
pub fn login_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a LoginError> {
    causes(error).find_map(|error| {
        let shared = || error.downcast_ref::<Arc<LoginError>>().map(|error| &**error);
        error.downcast_ref().or_else(shared)
    })
}

/// The name of the program that has to be run for credentials, if one has.
pub(crate) fn program(auth: &AuthInfo) -> Option<&str> {
    let exec = auth.exec.as_ref().filter(|_| is_needed(auth))?;
    Some(exec.command.as_deref().unwrap_or_default())
}

/// What a program is told, in a variable.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    api_version: &'a str,
    kind: &'static str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    interactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a ExecAuthCluster>,
}

/// What a program answers, as far as it matters.
#[derive(Deserialize)]
struct Answer {
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Whether a program is given stdin to ask on; `None` if it must be and cannot.
fn is_interactive(mode: Option<&ExecInteractiveMode>, asks: bool) -> Option<bool> {
    match mode {
        Some(ExecInteractiveMode::Never) => Some(false),
        Some(ExecInteractiveMode::Always) => asks.then_some(true),
        Some(ExecInteractiveMode::IfAvailable) | None => Some(asks),
    }
}

/// The program with all that it is given.
fn command(exec: &ExecConfig, login: Login) -> Result<(String, Command), LoginError> {
    let version = exec.api_version.as_deref().unwrap_or_default();
    if !VERSIONS.contains(&version) {
        return Err(LoginError::Version(version.to_owned()));
    }
    let program = exec.command.clone().filter(|program| !program.is_empty()).ok_or(LoginError::NoProgram)?;
    let interactive = is_interactive(exec.interactive_mode.as_ref(), login.asks);
    let interactive = interactive.ok_or_else(|| LoginError::NoTerminal(program.clone()))?;
    let cluster = exec.cluster.as_ref().filter(|_| exec.provide_cluster_info);
    let told = Told { api_version: version, kind: "ExecCredential", spec: Spec { interactive, cluster } };
    let mut command = Command::new(&program);
    command.args(exec.args.iter().flatten());
    for variable in exec.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            command.env(name, value);
        }
    }
    let told = serde_json::to_string(&told).map_err(io::Error::other);
    let told = told.map_err(|source| LoginError::Start { program: program.clone(), source })?;
    command.env("KUBERNETES_EXEC_INFO", told).stdout(Stdio::piped());
    command.stdin(if interactive { Stdio::inherit() } else { Stdio::null() });
    Ok((program, command))
}

/// Runs it to its end, or to the end of its time.
fn run(exec: &ExecConfig, login: Login) -> Result<Status, LoginError> {
    let (program, mut command) = command(exec, login)?;
    if let Some(prepare) = PREPARE.get() {
        prepare(&mut command);
    }
    let mut child = command.spawn().map_err(|source| match source.kind() {
        ErrorKind::NotFound => LoginError::Missing { program: program.clone(), hint: exec.install_hint.clone() },
        _ => LoginError::Start { program: program.clone(), source },
    })?;
    let ends = Boottime::now() + login.limit;
    let outcome = answer(&mut child, ends);
    if !matches!(outcome, Ok((_, End::Exited(_) | End::Reaped))) {
        // It may have ended meanwhile.
        let _ = child.kill();
        let _ = child.wait();
    }
    match outcome {
        Err(source) => Err(LoginError::Start { program, source }),
        Ok((_, End::Late)) => Err(LoginError::TooLong { program, limit: login.limit }),
        Ok((_, End::Exited(status))) if !status.success() => Err(LoginError::Failed { program, status }),
        Ok((text, _)) => read(&text).map_err(|why| LoginError::Answer { program, why }),
    }
}

/// How a program has ended.
enum End {
    /// Like this.
    Exited(ExitStatus),
    /// Another part of this process has taken notice of it first, as an init does.
    Reaped,
    /// Not at all, and the time is up.
    Late,
}

/// What it writes, and how it ends.
fn answer(child: &mut Child, ends: Boottime) -> io::Result<(Vec<u8>, End)> {
    let Some(mut out) = child.stdout.take() else { return Err(io::Error::other("it has no stdout")) };
    let mut text = Vec::new();
    while wait_readable(&out, ends)? {
        let mut piece = [0; 4096];
        let count = match out.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 {
            return Ok((text, ended(child, ends)?));
        }
        if text.len() + count > ANSWER {
            return Err(io::Error::other("it writes without end"));
        }
        text.extend(&piece[..count]);
    }
    Ok((text, End::Late))
}

/// Waits until there is something to read, or the end. Returns whether there is before the time is up.
fn wait_readable(out: &ChildStdout, ends: Boottime) -> io::Result<bool> {
    loop {
        let left = ends.since(Boottime::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the end of a program that writes no more.
fn ended(child: &mut Child, ends: Boottime) -> io::Result<End> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(End::Exited(status)),
            Ok(None) if Boottime::now() >= ends => return Ok(End::Late),
            Ok(None) => thread::sleep(LOOK),
            Err(error) if error.raw_os_error() == Some(nix::libc::ECHILD) => return Ok(End::Reaped),
            Err(error) => return Err(error),
        }
    }
}

/// The credentials in an answer. kubectl reads YAML, too, of which JSON is a part.
fn read(text: &[u8]) -> Result<Status, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "what it has written is not text")?;
    if text.trim().is_empty() {
        return Err("it has written nothing to stdout");
    }
    let answer: Answer = serde_saphyr::from_str(text).map_err(|_| "what it has written is not an ExecCredential")?;
    let status = answer.status.ok_or("what it has written has no status")?;
    let told = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    match (told(&status.token), told(&status.client_certificate_data), told(&status.client_key_data)) {
        (_, true, false) | (_, false, true) => Err("a certificate and its key go together"),
        (false, false, false) => Err("it has neither a token nor a certificate"),
        _ => Ok(Status {
            token: status.token.filter(|token| !token.is_empty()),
            client_certificate_data: status.client_certificate_data.filter(|text| !text.is_empty()),
            client_key_data: status.client_key_data.filter(|text| !text.is_empty()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Far more than any of these takes.
    const LIMIT: Duration = Duration::from_mins(2);

    fn exec(script: &str, more: &Value) -> ExecConfig {
        let mut exec = json!({ "apiVersion": VERSIONS[0], "command": "sh", "args": ["-c", script] });
        exec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        serde_json::from_value(exec).expect("an exec")
    }

    fn runs(script: &str, more: &Value) -> Result<Option<String>, String> {
        let login = Login { limit: LIMIT, asks: false, asks_again: false };
        run(&exec(script, more), login).map(|status| status.token).map_err(|error| error.to_string())
    }

    #[test]
    fn a_program_is_told_which_version_whether_it_may_ask_and_what_cluster() {
        let echo = r#"printf '{"status":{"token":"%s"}}' "$(printf %s "$KUBERNETES_EXEC_INFO" | tr -d '"')""#;
        for (more, expected) in [
            (json!({}), "{apiVersion:client.authentication.k8s.io/v1,kind:ExecCredential,spec:{interactive:false}}"),
            (
                json!({ "apiVersion": VERSIONS[1], "interactiveMode": "IfAvailable" }),
                "{apiVersion:client.authentication.k8s.io/v1beta1,kind:ExecCredential,spec:{interactive:false}}",
            ),
        ] {
            assert_eq!(runs(echo, &more), Ok(Some(expected.to_owned())));
        }
        let mut with_cluster = exec("", &json!({ "provideClusterInfo": true }));
        with_cluster.cluster = Some(ExecAuthCluster { server: Some("https://a".to_owned()), ..Default::default() });
        let (_, command) =
            command(&with_cluster, Login { limit: LIMIT, asks: true, asks_again: false }).expect("a command");
        let told = command.get_envs().find(|(name, _)| *name == "KUBERNETES_EXEC_INFO").and_then(|(_, told)| told);
        let told = told.and_then(|told| told.to_str()).expect("it is told");
        assert!(told.contains(r#""spec":{"interactive":true,"cluster":{"server":"https://a""#), "{told}");
    }

    #[test]
    fn a_program_is_given_its_variables_and_no_input() {
        let more = json!({ "env": [{ "name": "WHO", "value": "me" }] });
        assert_eq!(runs(r#"printf '{"status":{"token":"%s"}}' "$WHO$(cat)""#, &more), Ok(Some("me".to_owned())));
    }

    #[test]
    fn a_program_asks_only_where_it_can() {
        let modes = [ExecInteractiveMode::Never, ExecInteractiveMode::IfAvailable, ExecInteractiveMode::Always];
        assert_eq!(modes.each_ref().map(|mode| is_interactive(Some(mode), false)), [Some(false), Some(false), None]);
        assert_eq!(modes.map(|mode| is_interactive(Some(&mode), true)), [Some(false), Some(true), Some(true)]);
        let refused = runs("", &json!({ "interactiveMode": "Always" })).expect_err("there is no terminal");
        assert!(refused.contains("interactiveMode: Always"), "{refused}");
    }

    #[test]
    fn what_a_program_answers_is_read_as_kubectl_reads_it() {
        for (text, expected) in [
            (r#"{"status":{"token":"a","expirationTimestamp":"2026-01-01T00:00:00Z"}}"#, Ok(Some("a"))),
            ("kind: ExecCredential\nstatus:\n  token: a\n", Ok(Some("a"))),
            (r#"{"status":{"clientCertificateData":"c","clientKeyData":"k"}}"#, Ok(None)),
            (r#"{"status":{"clientCertificateData":"c"}}"#, Err("a certificate and its key go together")),
            (r#"{"status":{"token":""}}"#, Err("it has neither a token nor a certificate")),
            (r#"{"kind":"ExecCredential"}"#, Err("what it has written has no status")),
            ("please log in", Err("what it has written is not an ExecCredential")),
            ("\n", Err("it has written nothing to stdout")),
        ] {
            let found = read(text.as_bytes()).map(|status| status.token);
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().map(|token| *token), "{text}");
        }
    }

    #[test]
    fn what_goes_wrong_names_the_program_and_none_of_its_secrets() {
        let secret = json!({ "env": [{ "name": "PASSWORD", "value": "hunter2" }] });
        let failed = runs("echo hunter2; exit 3", &secret).expect_err("it fails");
        assert_eq!(failed, "the kubeconfig's login program \"sh\" has failed: exit status: 3");
        let absent = runs("", &json!({ "command": "no-such-login" })).expect_err("it is not there");
        assert_eq!(absent, "there is no login program \"no-such-login\", which the kubeconfig names");
        let old = runs("", &json!({ "apiVersion": "client.authentication.k8s.io/v1alpha1" })).expect_err("too old");
        assert!(old.contains("v1alpha1"), "{old}");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        for script in ["exec sleep 1000", "echo '{}'; exec sleep 1000", "exec >&-; exec sleep 1000"] {
            let login = Login { limit: Duration::from_millis(200), asks: false, asks_again: false };
            let error = run(&exec(script, &json!({})), login).map(|_| ()).expect_err("it hangs");
            assert!(matches!(error, LoginError::TooLong { .. }), "{script}: {error}");
        }
    }

    #[test]
    fn credentials_that_are_there_need_no_program() {
        let script = exec("", &json!({}));
        assert!(is_needed(&AuthInfo { exec: Some(script.clone()), ..AuthInfo::default() }));
        let token = Some("a".to_owned().into());
        assert!(!is_needed(&AuthInfo { exec: Some(script), token, ..AuthInfo::default() }));
        assert!(!is_needed(&AuthInfo::default()));
    }

    #[test]
    fn a_provider_that_is_not_known_is_refused_by_its_name() {
        let mut config = Config::new("https://a".parse().expect("a URI"));
        config.auth_info.auth_provider = serde_json::from_value(json!({ "name": "azure", "config": {} })).ok();
        let error = log_in(&config, Login::default()).map(|_| ()).expect_err("it is not known");
        assert!(error.to_string().contains("\"azure\""), "{error}");
    }

    #[test]
    fn what_a_providers_command_has_written_is_not_said() {
        let said = |config: Value| {
            let mut all = Config::new("https://a".parse().expect("a URI"));
            all.auth_info.auth_provider =
                serde_json::from_value(json!({ "name": "gcp", "config": config })).expect("a provider");
            let error = crate::link::build(&all, crate::Program::SDK).map(|_| ()).expect_err("no credentials");
            assert!(login_error(&*error).is_some(), "{error}");
            crate::chain(&*error)
        };
        let script = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("written");
            file
        };
        let of = |file: &tempfile::NamedTempFile| json!({ "cmd-path": "/bin/sh", "cmd-args": file.path() });
        let with = |mut config: Value, key: &str, value: &str| {
            config[key] = json!(value);
            config
        };
        let (fails, chats) = (script("echo hunter2; echo hunter2 >&2; exit 3"), script("echo hunter2"));
        let odd = script(r#"echo '{"token":"t","expiry":"hunter2"}'"#);
        for (config, expected) in [
            (of(&fails), "its command has failed: exit status: 3"),
            (with(of(&chats), "token-key", "{.token}"), "what its command has written is not JSON"),
            (
                with(with(of(&odd), "token-key", "{.token}"), "expiry-key", "{.expiry}"),
                "when its token expires is no time",
            ),
        ] {
            let said = said(config);
            assert!(said.contains("\"gcp\" gives no credentials: ") && said.contains(expected), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
