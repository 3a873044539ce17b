//! Who may write which claim or arrival: admission policies, as the chart ships them.
//!
//! A claim names the pod that it speaks for, and the operator frees it when that pod has ended. So whoever can write a
//! claim for another pod, or renew or delete another pod's claim, can have a lock freed or kept that is not theirs.
//! Kubernetes puts the pod that a token was issued to into whatever the token asks for, and the policies compare the two:
//!
//! - a pod creates, renews, annotates and deletes what speaks for itself, and nothing else;
//! - who is no pod (a person, a CI system, a token that is bound to no pod) what speaks for no pod;
//! - all else takes the virtual verb [`ADMINISTER`] on the resource, which RBAC gives like any other. To revoke a claim
//!   the verb [`REVOKE`] is enough; who has that, and may create no claims, changes nothing else of any claim.
//!
//! A pod may claim in another namespace than its own. It then says where it is, and nobody says that for another pod: the
//! operator looks for it there, and tells whoever made the claim whether it lives.
//!
//! They have no parameters: a namespace could not be deleted while the parameter goes first. What can be set is an
//! annotation of the namespace ([`MAX_PRIORITY_ANNOTATION`]).
//!
//! The expressions keep to what the oldest release of Kubernetes that is supported accepts in a new policy. The objects
//! of one policy have all fields that it asks about, so that Kubernetes' check of the types finds nothing. What asks the
//! authorizer stands last, behind `||`, as that may cost a request where the authorizer is a webhook.

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec,
        Validation, Variable,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;

use crate::{Arrival, GROUP, LeaseRequest, MAX_PRIORITY_ANNOTATION, Permit, REVOKE_ANNOTATION};

/// The virtual verb of who may write what speaks for others.
pub const ADMINISTER: &str = "administer";

/// The virtual verb of who may only ask that a claim be revoked.
pub const REVOKE: &str = "revoke";

/// How a refusal goes on after naming what was to be written, when a pod has left out that it is a pod.
pub const SPEAKS_FOR_NO_POD: &str = "speaks for no pod, and you are the pod ";

/// Why a claim or arrival is refused, when to say it in detail is too much for the API server.
const NOT_YOURS: &str = "it speaks for another pod than the one that asks";

/// What all policies are called, but for the end.
const PREFIX: &str = "konductor-";

/// The policies.
pub fn policies() -> Vec<ValidatingAdmissionPolicy> {
    vec![claims(), arrivals()]
}

/// What puts the policies into force: one binding each, of the same name, for all namespaces.
pub fn bindings() -> Vec<ValidatingAdmissionPolicyBinding> {
    let binding = |ValidatingAdmissionPolicy { metadata, .. }| ValidatingAdmissionPolicyBinding {
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: metadata.name.clone(),
            validation_actions: Some(vec!["Deny".into()]),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        }),
        metadata,
    };
    policies().into_iter().map(binding).collect()
}

/// Of permits and lease requests.
fn claims() -> ValidatingAdmissionPolicy {
    let resources = vec![Permit::plural(&()).into(), LeaseRequest::plural(&()).into()];
    let mut variables = identity();
    variables.extend([
        // Compared as optional values: an annotation without a text is one, too.
        variable("oldRevocation", &format!("oldObject.metadata.?annotations[?'{REVOKE_ANNOTATION}']")),
        variable("newRevocation", &format!("object.metadata.?annotations[?'{REVOKE_ANNOTATION}']")),
        variable("isRevocation", "request.operation == 'UPDATE' && variables.oldRevocation != variables.newRevocation"),
        variable("oldAnnotations", "oldObject.metadata.?annotations.orValue({})"),
        variable("newAnnotations", "object.metadata.?annotations.orValue({})"),
        variable(
            "isNothingElse",
            &format!(
                "object.spec == oldObject.spec &&
object.metadata.?labels.orValue({{}}) == oldObject.metadata.?labels.orValue({{}}) &&
object.metadata.?finalizers.orValue([]) == oldObject.metadata.?finalizers.orValue([]) &&
object.metadata.?ownerReferences.orValue([]) == oldObject.metadata.?ownerReferences.orValue([]) &&
variables.newAnnotations.all(key, key == '{REVOKE_ANNOTATION}' ||
  (key in variables.oldAnnotations && variables.oldAnnotations[key] == variables.newAnnotations[key])) &&
variables.oldAnnotations.all(key, key == '{REVOKE_ANNOTATION}' || key in variables.newAnnotations)"
            ),
        ),
        variable("revokes", &may(REVOKE)),
        variable("creates", &may("create")),
        variable(
            "maxPriority",
            &format!("namespaceObject.metadata.?annotations[?'{MAX_PRIORITY_ANNOTATION}'].orValue('{}')", i32::MAX),
        ),
        variable("isLimitKnown", "variables.maxPriority.matches('^-?[0-9]{1,18}$')"),
    ]);
    let validations = vec![
        speaks_for_itself(
            "claim",
            "
|| (variables.isRevocation && variables.isNothingElse && variables.revokes)",
        ),
        is_named("claim"),
        is_there("claim"),
        Validation {
            message_expression: Some(format!(
                "'to write the annotation {REVOKE_ANNOTATION} takes the verb {REVOKE} or {ADMINISTER} on ' +
request.resource.resource"
            )),
            ..refusal(
                "!variables.isRevocation || variables.revokes || variables.administers",
                "a revocation takes a verb of its own",
            )
        },
        // A revocation is a patch, and so is a renewal: of claims of no pod, RBAC alone would let who revokes keep them.
        // Those who hold such claims can create them; they are asked about first, as they renew often.
        refusal(
            "request.operation != 'UPDATE' || variables.userPod != '' || variables.isNothingElse ||
variables.creates || !variables.revokes || variables.administers",
            "who may revoke claims, and create none, may change nothing else of them",
        ),
        // These can be in the way of a deletion. What somebody else has put there is no fault of who renews.
        refusal(
            "request.operation == 'DELETE' ||
((!has(object.metadata.finalizers) || (request.operation == 'UPDATE' &&
  object.metadata.finalizers == oldObject.metadata.?finalizers.orValue([]))) &&
 (!has(object.metadata.ownerReferences) || (request.operation == 'UPDATE' &&
  object.metadata.ownerReferences == oldObject.metadata.?ownerReferences.orValue([])))) ||
variables.administers",
            "a claim has no finalizers and no owner references",
        ),
        Validation {
            message_expression: Some(format!(
                "variables.isLimitKnown
? 'the priority ' + string(object.spec.priority) + ' is above ' + variables.maxPriority +
  ', which is the annotation {MAX_PRIORITY_ANNOTATION} of the namespace'
: 'the annotation {MAX_PRIORITY_ANNOTATION} of the namespace is no whole number: ' + variables.maxPriority"
            )),
            ..refusal(
                "request.operation != 'CREATE' || !has(object.spec.priority) ||
(variables.isLimitKnown && object.spec.priority <= int(variables.maxPriority)) ||
variables.administers",
                "the priority is above what the namespace allows",
            )
        },
    ];
    policy("claims", resources, variables, validations)
}

/// Of arrivals.
fn arrivals() -> ValidatingAdmissionPolicy {
    let validations = vec![
        // Earlier versions of konductor-run arrive without a word of their pod.
        speaks_for_itself(
            "arrival",
            "
|| (request.operation == 'CREATE' && variables.pod == '')",
        ),
        is_named("arrival"),
        is_there("arrival"),
        // With its barrier it goes; all else can be in the way of a deletion, or cause one.
        refusal(
            "request.operation == 'DELETE' ||
(!has(object.metadata.finalizers) && object.metadata.?ownerReferences.orValue([]).all(owner,
  owner.kind == 'Barrier' && owner.apiVersion.startsWith('konductor.io/') && owner.name == object.spec.barrier)) ||
variables.administers",
            "an arrival has no finalizers, and no owner but its barrier",
        ),
    ];
    policy("arrivals", vec![Arrival::plural(&()).into()], identity(), validations)
}

fn policy(
    name: &str,
    resources: Vec<String>,
    variables: Vec<Variable>,
    validations: Vec<Validation>,
) -> ValidatingAdmissionPolicy {
    let rule = NamedRuleWithOperations {
        api_groups: Some(vec![GROUP.into()]),
        // Of a wildcard no types are checked. What is asked for in another version is converted to this one.
        api_versions: Some(vec!["v1".into()]),
        operations: Some(["CREATE", "UPDATE", "DELETE"].map(Into::into).into()),
        resources: Some(resources),
        ..NamedRuleWithOperations::default()
    };
    ValidatingAdmissionPolicy {
        metadata: ObjectMeta { name: Some(format!("{PREFIX}{name}")), ..ObjectMeta::default() },
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".into()),
            match_conditions: Some(vec![not_kubernetes_itself()]),
            match_constraints: Some(MatchResources {
                match_policy: Some("Equivalent".into()),
                resource_rules: Some(vec![rule]),
                ..MatchResources::default()
            }),
            validations: Some(validations),
            variables: Some(variables),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        status: None,
    }
}

/// Kubernetes' own cleaning up is no matter of the policies: without this a namespace with a claim in it could not be
/// deleted, nor would arrivals go with their barrier. These accounts can delete everything there is anyway.
fn not_kubernetes_itself() -> MatchCondition {
    MatchCondition {
        name: "not-kubernetes-itself".into(),
        expression: "!(request.operation in ['UPDATE', 'DELETE'] && request.userInfo.username in [
  'system:serviceaccount:kube-system:namespace-controller',
  'system:serviceaccount:kube-system:generic-garbage-collector',
  'system:kube-controller-manager'])"
            .into(),
    }
}

/// Who asks, whom the object speaks for, and what is allowed whatever these are.
fn identity() -> Vec<Variable> {
    let of_user =
        |what: &str| format!("request.userInfo.?extra[?'authentication.kubernetes.io/pod-{what}'][?0].orValue('')");
    vec![
        variable("written", "request.operation == 'CREATE' ? object : oldObject"),
        variable("pod", "variables.written.spec.?pod.?uid.orValue('')"),
        variable("podName", "variables.written.spec.?pod.?name.orValue('')"),
        variable("podNamespace", "variables.written.spec.?pod.?namespace.orValue(request.namespace)"),
        variable("userPod", &of_user("uid")),
        variable("userPodName", &of_user("name")),
        // A namespace that is going takes what is in it along, whoever deletes it. (No match condition: these are not
        // told of the namespace.)
        variable("isLeaving", "request.operation == 'DELETE' && has(namespaceObject.metadata.deletionTimestamp)"),
        variable("administers", &may(ADMINISTER)),
    ]
}

/// Whether RBAC lets who asks do this with what is written.
fn may(verb: &str) -> String {
    format!(
        "authorizer.group('{GROUP}').resource(request.resource.resource).namespace(request.namespace)
.check('{verb}').allowed()"
    )
}

/// The rule that all others are about.
fn speaks_for_itself(noun: &str, or: &str) -> Validation {
    // Of no pod is written as a pod with another UID would be, so that one comparison covers both.
    let expression = format!("variables.userPod == variables.pod || variables.isLeaving || variables.administers{or}");
    let message = format!(
        "'this {noun} speaks for ' +
(variables.pod == '' ? 'no pod' : 'the pod ' + variables.podName + ' (UID ' + variables.pod + ')') + ', and you are ' +
(variables.userPod == '' ? request.userInfo.username + ', who is no pod'
  : 'the pod ' + variables.userPodName + ' (UID ' + variables.userPod + ')') +
'; to write what speaks for others takes the verb {ADMINISTER} on ' + request.resource.resource"
    );
    Validation { message_expression: Some(message), ..refusal(&expression, NOT_YOURS) }
}

/// The pod's name is shown to people, and is where the operator looks for the pod.
fn is_named(noun: &str) -> Validation {
    let message =
        format!("'this {noun} names the pod ' + variables.podName + ', and you are the pod ' + variables.userPodName");
    Validation {
        message_expression: Some(message),
        ..refusal(
            "request.operation != 'CREATE' || variables.userPod == '' || variables.userPod != variables.pod ||
variables.podName == variables.userPodName || variables.administers",
            "it names another pod than the one that asks",
        )
    }
}

/// A namespace other than that of the object is where the operator looks for the pod. Only the pod itself may say it, so
/// that nobody is told about pods that they may not see; the accounts of pods are of the pods' own namespace.
fn is_there(noun: &str) -> Validation {
    let message = format!(
        "'this {noun} names a pod in the namespace ' + variables.podNamespace + ', which only that pod itself may do, and \
you are ' + request.userInfo.username + (variables.userPod == '' ? ', who is no pod'
  : ', the pod ' + variables.userPodName + ' (UID ' + variables.userPod + ')')"
    );
    Validation {
        message_expression: Some(message),
        ..refusal(
            "request.operation != 'CREATE' || variables.podNamespace == request.namespace ||
(variables.userPod != '' && variables.userPod == variables.pod &&
  request.userInfo.username.startsWith('system:serviceaccount:' + variables.podNamespace + ':'))",
            "it names a pod in another namespace, which only that pod itself may do",
        )
    }
}

fn refusal(expression: &str, message: &str) -> Validation {
    Validation {
        expression: expression.into(),
        message: Some(message.into()),
        // 403. Without it the answer is 422, as for an object that is not valid.
        reason: Some("Forbidden".into()),
        message_expression: None,
    }
}

fn variable(name: &str, expression: &str) -> Variable {
    Variable { name: name.into(), expression: expression.into() }
}
