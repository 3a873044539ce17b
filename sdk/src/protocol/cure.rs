//! What a person can do about a refusal, as far as the API server's words tell.
//!
//! Of admission's, only one is read: a pod that is refused as it has not said that it is one. Otherwise only RBAC's are: `... is forbidden: User "system:serviceaccount:etl:default" cannot create resource "permits" in
//! API group "konductor.io" in the namespace "etl"`, with what went wrong after it. What is not understood is left
//! alone: a wrong cure is worse than none.

use std::fmt;

use konductor_api::admission::SPEAKS_FOR_NO_POD;

/// The `ClusterRole` of workloads, as the chart calls it for a release of its own name.
const ROLE: &str = "konductor-workload";

/// Displays as a cure for the refusal with this message, with what separates the two; as nothing if none is known.
pub(crate) struct Cure<'a>(pub(crate) &'a str);

impl fmt::Display for Cure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(SPEAKS_FOR_NO_POD) {
            return f.write_str(
                "; this process cannot find out its pod, as the token that it asks with is not at the usual path: set \
                 KONDUCTOR_POD_NAME and KONDUCTOR_POD_UID in the pod's template, each valueFrom a fieldRef, to \
                 metadata.name and metadata.uid",
            );
        }
        let Some((user, namespace)) = refused(self.0) else { return Ok(()) };
        if let Some((_, role)) = self.0.split_once(r#"RBAC: clusterrole.rbac.authorization.k8s.io ""#)
            && let Some((role, _)) = role.split_once(r#"" not found"#)
        {
            return write!(
                f,
                "; its RoleBinding names a ClusterRole that does not exist: install Konductor's chart, which brings {ROLE}, \
                 or bind another one than {role}"
            );
        }
        let subject = match user.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':')) {
            Some((home, account)) => format!("--serviceaccount {home}:{account}"),
            None => format!("--user {user}"),
        };
        write!(
            f,
            "; bind the ClusterRole {ROLE} of Konductor's chart: kubectl create rolebinding konductor --namespace \
             {namespace} --clusterrole {ROLE} {subject}"
        )
    }
}

/// Who may not do something with Konductor's resources, and in which namespace.
fn refused(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once(r#" is forbidden: User ""#)?;
    let (user, rest) = rest.split_once(r#"" cannot "#)?;
    let (_, rest) = rest.split_once(r#" in API group "konductor.io" in the namespace ""#)?;
    let (namespace, _) = rest.split_once('"')?;
    // What goes into a command line that somebody may copy has nothing in it that a shell would read.
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.@/".contains(&byte))
    };
    (plain(user) && plain(namespace)).then_some((user, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORBIDDEN: &str = r#"permits.konductor.io is forbidden: User "system:serviceaccount:etl:default" cannot create resource "permits" in API group "konductor.io" in the namespace "etl""#;

    #[test]
    fn a_missing_role_binding_is_named_with_the_command_that_makes_it() {
        assert_eq!(
            Cure(FORBIDDEN).to_string(),
            "; bind the ClusterRole konductor-workload of Konductor's chart: kubectl create rolebinding konductor \
             --namespace etl --clusterrole konductor-workload --serviceaccount etl:default"
        );
        let elsewhere = FORBIDDEN.replace("serviceaccount:etl:default", "serviceaccount:ci:runner");
        assert!(
            Cure(&elsewhere)
                .to_string()
                .ends_with("--namespace etl --clusterrole konductor-workload --serviceaccount ci:runner")
        );
        let person = FORBIDDEN.replace("system:serviceaccount:etl:default", "ann@example.com");
        assert!(Cure(&person).to_string().ends_with("--user ann@example.com"));
    }

    #[test]
    fn a_role_binding_to_a_role_that_is_gone_has_another_cure() {
        let gone =
            format!(r#"{FORBIDDEN}: RBAC: clusterrole.rbac.authorization.k8s.io "konductor-workload" not found"#);
        let cure = Cure(&gone).to_string();
        assert!(cure.contains("names a ClusterRole that does not exist") && !cure.contains("kubectl"), "{cure}");
    }

    #[test]
    fn a_pod_that_does_not_know_that_it_is_one_is_told_how_to_tell_it() {
        let policy = "permits.konductor.io \"a\" is forbidden: ValidatingAdmissionPolicy 'konductor-claims' with binding \
                      'konductor-claims' denied request: this claim";
        let cure = Cure(&format!("{policy} {SPEAKS_FOR_NO_POD}load-x7k2p (UID 0aa1)")).to_string();
        assert!(cure.contains("KONDUCTOR_POD_NAME") && cure.contains("KONDUCTOR_POD_UID"), "{cure}");
        let others = format!("{policy} speaks for the pod a (UID u1), and you are the pod b (UID u2)");
        assert_eq!(Cure(&others).to_string(), "");
    }

    #[test]
    fn what_is_not_understood_has_no_cure() {
        for message in [
            "",
            "permits.konductor.io is forbidden: exceeded quota: claims",
            &FORBIDDEN.replace("konductor.io\" in", "batch\" in"),
            &FORBIDDEN.replace("default\"", "a; rm -rf ~\""),
            &FORBIDDEN.replace(" in the namespace \"etl\"", ""),
        ] {
            assert_eq!(Cure(message).to_string(), "", "{message}");
        }
    }
}
