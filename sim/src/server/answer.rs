//! Answers, in the words of a real API server.

use serde_json::{Value, json};

use super::{resource::Resource, schema::Fault};

/// An answer: its HTTP status and text.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub code: u16,
    /// The body.
    pub body: String,
    /// Seconds after which the request may be made again, if it says so.
    pub retry_after: Option<u32>,
}

impl Answer {
    /// An object.
    pub fn object(code: u16, body: &str) -> Self {
        Self { code, body: body.to_owned(), retry_after: None }
    }

    /// A failure.
    pub fn failure(code: u16, reason: &str, message: &str, details: Value) -> Self {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        });
        if !details.is_null() {
            status["details"] = details;
        }
        Self { code, body: status.to_string(), retry_after: None }
    }

    /// What no object has that name.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.full_name());
        Self::failure(404, "NotFound", &message, details(resource, name))
    }

    /// A path that nothing is served at.
    pub fn no_such_path() -> Self {
        Self { code: 404, body: "404 page not found\n".into(), retry_after: None }
    }

    /// What is created is there already, or still.
    pub fn exists(resource: &Resource, name: &str, is_going: bool) -> Self {
        let why = if is_going { "object is being deleted: " } else { "" };
        let message = format!("{why}{} \"{name}\" already exists", resource.full_name());
        Self::failure(409, "AlreadyExists", &message, details(resource, name))
    }

    /// The object is not what the request takes it for.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.full_name());
        Self::failure(409, "Conflict", &message, details(resource, name))
    }

    /// The object is not the one that is to be deleted.
    pub fn precondition(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.full_kind());
        let mut details = details(resource, name);
        details["kind"] = resource.kind.as_str().into();
        Self::failure(409, "Conflict", &message, details)
    }

    /// The version is another one.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// The object would not be allowed.
    pub fn invalid(resource: &Resource, name: &str, faults: &[Fault]) -> Self {
        let texts: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        let all = if let [one] = &texts[..] { one.clone() } else { format!("[{}]", texts.join(", ")) };
        let message = format!("{} \"{name}\" is invalid: {all}", resource.full_kind());
        let causes = faults
            .iter()
            .map(|Fault { reason, message, field }| json!({ "reason": reason, "message": message, "field": field }));
        let mut details = details(resource, name);
        details["kind"] = resource.kind.as_str().into();
        details["causes"] = causes.collect();
        Self::failure(422, "Invalid", &message, details)
    }

    /// The namespace is about to go.
    pub fn terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let message = format!("{} \"{name}\" is forbidden: {why}", resource.full_name());
        let mut details = details(resource, name);
        details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        Self::failure(403, "Forbidden", &message, details)
    }

    /// A request that cannot be understood.
    pub fn bad(message: &str) -> Self {
        Self::failure(400, "BadRequest", message, Value::Null)
    }

    /// A method that the path does not have.
    pub fn no_such_method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::failure(405, "MethodNotAllowed", message, json!({}))
    }

    /// A list cannot go on with what there was; with this token it does with what there is.
    pub fn inconsistent(token: &str) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
                       new list without the continue parameter, or use the continue token in this response to \
                       retrieve the remainder of the results. Continuing with the provided token results in an \
                       inconsistent list - objects that were created, modified, or deleted between the time the first \
                       chunk was returned and now may show up in the list.";
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": { "continue": token }, "status": "Failure",
            "message": message, "reason": "Expired", "code": 410,
        });
        Self::object(410, &status.to_string())
    }

    /// A version from too long ago.
    pub fn expired(message: &str) -> Self {
        Self::failure(410, "Expired", message, Value::Null)
    }

    /// It has been deleted.
    pub fn deleted(resource: &Resource, name: &str, uid: &Value) -> Self {
        let mut details = details(resource, name);
        details["uid"] = uid.clone();
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        });
        Self::object(200, &status.to_string())
    }

    /// What is served to nobody at the moment.
    pub fn trouble(code: u16) -> Self {
        match code {
            429 => {
                let body = "Too many requests, please try again later.\n".to_owned();
                Self { code, body, retry_after: Some(1) }
            }
            500 => Self::broken("the world is out of order"),
            503 => {
                let message = "the server is currently unable to handle the request";
                Self::failure(code, "ServiceUnavailable", message, Value::Null)
            }
            _ => {
                let message = "Timeout: request did not complete within the allotted timeout";
                Self::failure(code, "Timeout", message, json!({}))
            }
        }
    }

    /// Somebody says no to what is done with an object, or with a kind of objects if it has no name.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let which = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        let message = format!("{}{which} is forbidden: {why}", resource.full_name());
        Self::failure(403, "Forbidden", &message, details(resource, name))
    }

    /// Something is wrong with the server itself.
    pub fn broken(why: &str) -> Self {
        let details = json!({ "causes": [{ "message": why }] });
        Self::failure(500, "InternalError", &format!("Internal error occurred: {why}"), details)
    }
}

/// What an answer is about; no object if it has no name.
pub(super) fn details(resource: &Resource, name: &str) -> Value {
    let mut details = json!({ "kind": resource.plural });
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !resource.group.is_empty() {
        details["group"] = resource.group.as_str().into();
    }
    details
}
