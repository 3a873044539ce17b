//! From what the cluster or the SDK says to what people can do about it.

use konductor::{AcquireError, Exit, RendezvousError};
use konductor_api::{GROUP, admission::ADMINISTER};
use serde_json::Value;

use crate::{
    cluster::{ApiError, Call, Cluster, Form},
    error::Error,
    kind::Resource,
    kubeconfig::LOG_IN,
};

/// How different a name may be from what was typed, and still be what was meant: half of it.
const NEAR: f64 = 0.5;

/// Which of the chart's roles a command needs for Konductor's own resources: what is refused first is often only the
/// first of its rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// It only looks.
    #[default]
    View,
    /// It holds something, or arrives.
    Workload,
    /// It changes what there is.
    Edit,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::View => "konductor-view",
            Self::Workload => "konductor-workload",
            Self::Edit => "konductor-edit",
        }
    }
}

/// What to do when Konductor is not there.
const INSTALL: &str =
    "install Konductor: helm install konductor charts/konductor -n konductor-system --create-namespace";

/// What the failure of a request about a kind, or about one object of it, means.
pub(crate) async fn explain(cluster: &Cluster, error: ApiError, resource: Resource, name: Option<&str>) -> Error {
    let message = match (&error, name) {
        (ApiError::Refused { .. } | ApiError::NoLogin(_), _) => error.to_string(),
        (ApiError::Unanswered(why), Some(name)) => {
            format!("cannot reach {} about {resource}/{name}: {why}", cluster.server)
        }
        (ApiError::Unanswered(why), None) => {
            format!("cannot reach {} about {}: {why}", cluster.server, resource.plural)
        }
    };
    if let Some(name) = name
        && error.is_absent(name)
    {
        return absent(cluster, resource, name, message).await;
    }
    classify(&error, message, resource, cluster.role)
}

/// What a failure means that has nothing to do with a name.
fn classify(error: &ApiError, message: String, resource: Resource, role: Role) -> Error {
    match error {
        ApiError::Unanswered(_) => unreachable(message),
        ApiError::NoLogin(_) => Error::new(Exit::Unreachable, message).advise(LOG_IN),
        ApiError::Refused { code, reason, kind, .. } => match (code, reason.as_str()) {
            (404, _) if kind == "namespaces" => Error::new(Exit::NoSuchPrimitive, message)
                .advise("choose another with -n, or create it: kubectl create namespace NAME"),
            (404, _) if error.is_not_served() && resource.group == GROUP => Error::new(
                Exit::NoSuchPrimitive,
                format!("the cluster does not know {}: Konductor is not installed in it", resource.qualified_plural()),
            )
            .advise(INSTALL),
            (404, _) => Error::new(Exit::NoSuchPrimitive, message),
            (401, _) => not_accepted(&message),
            (403, _) => refused(message, role),
            (409, "AlreadyExists") => Error::new(Exit::Refused, message)
                .advise(format!("koncli {resource} status NAME shows the one that is there")),
            (409, _) => Error::new(Exit::Refused, message).advise("it has changed meanwhile: try again"),
            (400..500, _) if *code != 408 && *code != 429 => Error::new(Exit::Refused, message),
            _ => unreachable(message),
        },
    }
}

/// What the API server says to whom it does not know, and nothing more.
const UNKNOWN: &str = "Unauthorized";

fn not_accepted(message: &str) -> Error {
    Error::new(Exit::Refused, format!("the API server does not accept the credentials: {message}"))
        .advise("log in anew, or choose others with --context; kubectl auth whoami shows who you are")
}

fn unreachable(message: String) -> Error {
    Error::new(Exit::Unreachable, message)
        .advise("see that there is a way to the API server: kubectl version; then try again")
}

/// There is no object of that name.
async fn absent(cluster: &Cluster, resource: Resource, name: &str, message: String) -> Error {
    let error = Error::new(Exit::NoSuchPrimitive, format!("{message} in the namespace {}", cluster.namespace));
    match nearest(name, &names(cluster, resource).await) {
        Some(near) => error.advise(format!("did you mean {resource}/{near}?")),
        None if resource.group == GROUP => {
            error.advise(format!("kubectl get {} -A shows all that there are", resource.qualified_plural()))
        }
        None => error,
    }
}

/// The names of all objects of a kind that are there, as far as they can be seen.
pub(crate) async fn names(cluster: &Cluster, resource: Resource) -> Vec<String> {
    names_at(cluster, cluster.all(resource)).await
}

/// The names of what is at this path, as far as they can be seen.
pub(crate) async fn names_at(cluster: &Cluster, path: String) -> Vec<String> {
    let call = Call::get(path).form(Form::Table).with("limit", "500");
    let Ok(table) = cluster.call(call).await else { return Vec::new() };
    let rows = table["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row["object"]["metadata"]["name"].as_str()).map(str::to_owned).collect()
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let near = names.iter().map(|name| (strsim::normalized_damerau_levenshtein(wanted, name), name.as_str()));
    let near = near.filter(|(likeness, _)| *likeness >= NEAR);
    near.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

/// A text as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The one line that would give a right that the API server has refused with this message, where there is a role for it.
pub(crate) fn binding(message: &str) -> Option<String> {
    let denied = Denied::read(message).filter(|denied| denied.namespace.is_some())?;
    denied.role(Role::View)?;
    denied.advice(Role::View).pop()
}

/// What the API server refuses a command that needs this role, with the rights that would help if it is a matter of
/// rights.
pub(crate) fn refused(message: String, role: Role) -> Error {
    let advice = Denied::read(&message).map(|denied| denied.advice(role)).or_else(|| policed(&message));
    let error = Error::new(Exit::Refused, message);
    advice.into_iter().flatten().fold(error, Error::advise)
}

/// What would help against a refusal by Konductor's own admission policies.
fn policed(message: &str) -> Option<Vec<String>> {
    message.contains(&format!("takes the verb {ADMINISTER} on ")).then(|| {
        vec![format!(
            "the ClusterRole konductor-edit has the verb {ADMINISTER}; docs/security.md says who may write which claim"
        )]
    })
}

/// What the SDK could not acquire, or wait for, in a command that needs this role.
pub(crate) fn of_request(doing: &str, error: &AcquireError, role: Role) -> Error {
    let exit = Exit::from(error);
    match error {
        AcquireError::Refused { message, .. } if message == UNKNOWN => {
            let told = not_accepted(message);
            Error { message: format!("cannot {doing}: {told}"), ..told }
        }
        AcquireError::Refused { message, .. } => {
            let told = refused(message.clone(), role);
            Error { exit, message: format!("cannot {doing}: {error}"), ..told }
        }
        AcquireError::NotInstalled { .. } => Error::new(exit, format!("cannot {doing}: {error}")).advise(INSTALL),
        AcquireError::Revoked(_) => Error::new(exit, format!("cannot {doing}: {error}"))
            .advise("whoever revoked it does not want it to be held now; ask again when that is over"),
        _ => Error::new(exit, format!("cannot {doing}: {error}")),
    }
}

/// What the SDK could not wait for, or arrive at.
pub(crate) fn of_rendezvous(doing: &str, error: &RendezvousError, role: Role) -> Error {
    match error {
        RendezvousError::Request(error) => of_request(doing, error, role),
        _ => Error::new(Exit::from(error), format!("cannot {doing}: {error}")),
    }
}

/// What RBAC says of a request that it does not allow.
#[derive(Debug, PartialEq, Eq)]
struct Denied {
    user: String,
    verb: String,
    resource: String,
    group: String,
    /// Absent for the whole cluster.
    namespace: Option<String>,
}

impl Denied {
    fn read(message: &str) -> Option<Self> {
        let quoted = |after: &str| {
            let (_, rest) = message.split_once(&format!("{after} \""))?;
            rest.split_once('"').map(|(text, _)| text.to_owned())
        };
        let (_, verb) = message.split_once("\" cannot ")?;
        Some(Self {
            user: quoted("User")?,
            verb: verb.split(' ').next()?.to_owned(),
            resource: quoted("resource")?,
            group: quoted("in API group").unwrap_or_default(),
            namespace: quoted("in the namespace"),
        })
    }

    /// What would help a command that needs this role.
    fn advice(&self, role: Role) -> Vec<String> {
        let Self { user, verb, resource, group, namespace } = self;
        let (scope, binding, kind) = match namespace {
            Some(namespace) => (format!(" --namespace={namespace}"), "rolebinding", "role"),
            None => (String::new(), "clusterrolebinding", "clusterrole"),
        };
        let subject = match user.strip_prefix("system:serviceaccount:") {
            Some(account) => format!("--serviceaccount={}", quoted(account)),
            None => format!("--user={}", quoted(user)),
        };
        let named = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
        let wanted = format!(
            "it takes the right to {verb} {named}{}",
            namespace.as_ref().map_or(" everywhere".to_owned(), |namespace| format!(" in the namespace {namespace}"))
        );
        let mut lines = vec![wanted];
        if let Some(role) = self.role(role) {
            lines.push(format!("kubectl create {binding} koncli-{role} --clusterrole={role} {subject}{scope}"));
        } else {
            lines.push(format!("kubectl create {kind} koncli-{resource} --verb={verb} --resource={named}{scope}"));
            lines.push(format!(
                "kubectl create {binding} koncli-{resource} --{kind}=koncli-{resource} {subject}{scope}"
            ));
        }
        lines
    }

    /// The role that the chart (or Kubernetes) has for it, and for what else a command does that needs this role.
    fn role(&self, role: Role) -> Option<&'static str> {
        let reads = matches!(self.verb.as_str(), "get" | "list" | "watch");
        match (self.group.as_str(), self.resource.as_str()) {
            (GROUP, _) => Some(role.name()),
            ("batch", "jobs") | ("", "pods" | "events") | ("events.k8s.io", "events") if reads => Some("view"),
            _ => None,
        }
    }
}

/// The message of the condition of this type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_says_which_line_would_help() {
        let message = r#"semaphores.konductor.io is forbidden: User "system:serviceaccount:etl:load" cannot create resource "semaphores" in API group "konductor.io" in the namespace "etl""#;
        let error = refused(message.to_owned(), Role::Edit);
        assert_eq!(error.exit, Exit::Refused);
        assert_eq!(
            error.advice,
            [
                "it takes the right to create semaphores.konductor.io in the namespace etl",
                "kubectl create rolebinding koncli-konductor-edit --clusterrole=konductor-edit --serviceaccount=etl:load --namespace=etl",
            ]
        );
    }

    #[test]
    fn each_right_has_its_role() {
        for (role, verb, resource, group, namespace, expected) in [
            (Role::View, "list", "semaphores", GROUP, "etl", "--clusterrole=konductor-view --user=ann --namespace=etl"),
            (Role::Edit, "patch", "gates", GROUP, "etl", "--clusterrole=konductor-edit --user=ann --namespace=etl"),
            // What comes after what is refused is refused no more.
            (
                Role::Workload,
                "get",
                "permits",
                GROUP,
                "etl",
                "--clusterrole=konductor-workload --user=ann --namespace=etl",
            ),
            (Role::Edit, "get", "barriers", GROUP, "etl", "--clusterrole=konductor-edit --user=ann --namespace=etl"),
            // What is not Konductor's is in no role of it.
            (Role::Workload, "watch", "jobs", "batch", "etl", "--clusterrole=view --user=ann --namespace=etl"),
            (
                Role::View,
                "get",
                "leases",
                "coordination.k8s.io",
                "system",
                "--role=koncli-leases --user=ann --namespace=system",
            ),
        ] {
            let message = format!(
                r#"x is forbidden: User "ann" cannot {verb} resource "{resource}" in API group "{group}" in the namespace "{namespace}""#
            );
            let advice = Denied::read(&message).expect("a denial").advice(role);
            assert!(advice.last().is_some_and(|line| line.ends_with(expected)), "{advice:?}");
        }
        let everywhere =
            r#"x is forbidden: User "ann" cannot list resource "pods" in API group "" at the cluster scope"#;
        let advice = Denied::read(everywhere).expect("a denial").advice(Role::View);
        assert_eq!(advice[1], "kubectl create clusterrolebinding koncli-view --clusterrole=view --user=ann");
    }

    #[test]
    fn what_an_admission_policy_refuses_is_no_matter_of_rights() {
        let message = "permits.konductor.io \"x\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no";
        assert_eq!(refused(message.to_owned(), Role::Edit).advice, [""; 0]);
    }

    #[test]
    fn what_konductors_own_policies_refuse_says_who_may() {
        let message = "permits.konductor.io \"x\" is forbidden: ValidatingAdmissionPolicy 'konductor-claims' with binding \
                       'konductor-claims' denied request: this claim speaks for the pod a (UID u1), and you are ann, who is \
                       no pod; to write what speaks for others takes the verb administer on permits";
        let [advice] = refused(message.to_owned(), Role::Workload).advice.try_into().expect("one line");
        assert!(advice.starts_with("the ClusterRole konductor-edit has the verb administer"), "{advice}");
    }

    #[test]
    fn the_nearest_name_is_one_that_is_near() {
        let names = ["warehouse", "database", "stage-1-complete"].map(str::to_owned);
        for (wanted, expected) in [
            ("warehose", Some("warehouse")),
            ("databse", Some("database")),
            ("stage-1", None),
            ("stage-1-completed", Some("stage-1-complete")),
            ("x", None),
        ] {
            assert_eq!(nearest(wanted, &names), expected, "{wanted}");
        }
    }
}
