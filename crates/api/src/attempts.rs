//! Refused attempts, as this API sees them: what was asked for, by the operation's place in the table and what stands in
//! its path. Never by a body or a query, which may hold secrets.

use http::Method;
use tollgate_app::refusals::Attempt;

use crate::operations::Access;

/// What the journal calls operations whose action does not follow from their permission, method and path.
const ACTIONS: [(&str, &str, &str); 21] = [
    ("POST", "/login", "user.sign-in"),
    ("POST", "/session", "user.sign-in"),
    ("POST", "/logout", "user.sign-out"),
    ("DELETE", "/session", "user.sign-out"),
    ("GET", "/whoami", "user.read"),
    ("GET", "/tokens", "user-token.read"),
    ("POST", "/tokens", "user-token.create"),
    ("DELETE", "/tokens/{id}", "user-token.delete"),
    ("POST", "/realms/{realm}/pipelines", "pipeline.save"),
    ("PUT", "/realms/{realm}/settings", "realm.update"),
    ("DELETE", "/realms/{realm}/policies/{name}", "policy.remove"),
    ("PUT", "/realms/{realm}/shadow/policies/{name}", "shadow.set"),
    ("POST", "/realms/{realm}/shadow/policies/{name}/remove", "shadow.set"),
    ("POST", "/realms/{realm}/shadow/promote", "shadow.promote"),
    ("DELETE", "/realms/{realm}/shadow", "shadow.end"),
    ("DELETE", "/realms/{realm}/waivers/{id}", "waiver.end"),
    ("POST", "/realms/{realm}/environments/{environment}/deployments", "deployment.deploy"),
    ("DELETE", "/realms/{realm}/environments/{environment}/deployments/{pipeline}", "deployment.undeploy"),
    (
        "POST",
        "/realms/{realm}/environments/{environment}/consumers/{consumer}/revoke-tokens",
        "consumer.revoke-tokens",
    ),
    ("POST", "/realms/{realm}/environments/{environment}/consumers/{consumer}/keys", "api-key.create"),
    ("POST", "/realms/{realm}/environments/{environment}/token-revocations", "token.revoke"),
];

/// Returns what the journal calls an operation, `noun.verb`.
pub(crate) fn action(method: &Method, path: &str, access: Access) -> String {
    let named = ACTIONS.iter().find(|(of, at, _)| *of == method.as_str() && *at == path);
    if let Some((_, _, action)) = named {
        return (*action).to_owned();
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    let (noun, verb) = match access {
        Access::Needs(permission) => permission.as_str().split_once(':').unwrap_or_default(),
        Access::Public | Access::SignedIn | Access::SignedInDespite(_) => {
            (path.trim_start_matches('/').split(['/', '.']).next().unwrap_or_default(), "")
        }
    };
    let is_list = |word: &str| word.trim_end_matches('s') == noun.trim_end_matches('s');
    let verb = match method.as_str() {
        "GET" | "HEAD" => "read",
        _ if verb == "read" => "read",
        "PUT" => "set",
        "DELETE" => "delete",
        _ if last.starts_with('{') || is_list(last) || last == noun => "create",
        _ => last,
    };
    format!("{noun}.{verb}")
}

/// Tells whether an operation changes something when it is done.
fn changes(method: &Method, access: Access) -> bool {
    let reads = matches!(access, Access::Needs(permission) if permission.as_str().ends_with(":read"));
    !reads && !matches!(*method, Method::GET | Method::HEAD)
}

/// Returns what is attempted by a request.
pub(crate) fn attempt<'a>(
    method: &Method,
    path: &'static str,
    access: Access,
    parameters: impl Iterator<Item = (&'a str, &'a str)>,
) -> Attempt {
    let action = action(method, path, access);
    Attempt::at(action, format!("{method} {path}"), changes(method, access), parameters)
}

#[cfg(test)]
mod tests {
    use tollgate_app::access::Permission;
    use tollgate_model::objects::Kind;

    use super::*;

    #[test]
    fn an_operation_is_called_what_the_journal_calls_it_when_it_is_done() {
        let needs = Access::Needs;
        for (method, path, access, expected) in [
            (Method::POST, "/realms", needs(Permission::RealmCreate), "realm.create"),
            (Method::POST, "/realms/{realm}/consumers", needs(Permission::ConsumerCreate), "consumer.create"),
            (Method::PUT, "/realms/{realm}/policies/{name}", needs(Permission::PolicyUpdate), "policy.set"),
            (
                Method::POST,
                "/realms/{realm}/policies/{name}/impact",
                needs(Permission::PolicyRead),
                "policy.read",
            ),
            (
                Method::POST,
                "/realms/{realm}/x/{x}/rollback",
                needs(Permission::DeploymentCreate),
                "deployment.rollback",
            ),
            (
                Method::POST,
                "/realms/{realm}/x/basic-auth",
                needs(Permission::BasicAuthCreate),
                "basic-auth.create",
            ),
            (Method::GET, "/realms/{realm}/journal", needs(Permission::AuditRead), "audit.read"),
            (Method::POST, "/login", Access::Public, "user.sign-in"),
            (Method::POST, "/sessions/{id}/end", Access::SignedIn, "sessions.end"),
        ] {
            assert_eq!(action(&method, path, access), expected, "{method} {path}");
        }
    }

    #[test]
    fn an_attempt_names_its_object_by_the_path_alone() {
        let path = "/realms/{realm}/environments/{environment}/consumers/{consumer}/keys";
        let parameters = [("realm", "default"), ("environment", "test"), ("consumer", "ann")];
        let access = Access::Needs(Permission::ApiKeyCreate);
        let found = attempt(&Method::POST, path, access, parameters.into_iter());
        assert_eq!(found.about, Some((Kind::ApiKey, "test/ann".to_owned())));
        assert_eq!((found.environment.as_deref(), found.changes), (Some("test"), true));
        assert_eq!(found.operation, format!("POST {path}"));
    }
}
