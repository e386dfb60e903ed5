//! Refused attempts at pages and forms, for the journal: by the page's place and what stands in its path, never by what a
//! form sent.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Method, StatusCode};
use tollgate_app::access::Op;
use tollgate_app::errors::ErrorKind;
use tollgate_app::refusals::{Attempt, Refused};

use crate::Console;

/// Who visits: put there by whoever finds out.
#[derive(Clone, Default)]
pub(crate) struct Who(Arc<Mutex<Option<Op>>>);

/// What the journal calls what a form does when it is done.
const ACTIONS: [(&str, &str); 51] = [
    ("/sign-in", "user.sign-in"),
    ("/sign-out", "user.sign-out"),
    ("/realms/{realm}/consumers", "consumer.create"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/pipelines", "consumer.associate"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/delete", "consumer.delete"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/keys", "api-key.create"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/keys/{key}/rotate", "api-key.rotate"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/keys/{key}/revoke", "api-key.revoke"),
    ("/realms/{realm}/policies/{policy}/edit", "policy.set"),
    ("/realms/{realm}/policies/{policy}/impact", "policy.read"),
    ("/realms/{realm}/deployments/undeploy", "deployment.undeploy"),
    ("/realms/{realm}/pipelines/{pipeline}/deploy", "deployment.deploy"),
    ("/realms/{realm}/pipelines/{pipeline}/mend", "pipeline.save"),
    ("/realms/{realm}/pipelines/{pipeline}/rollback", "deployment.rollback"),
    ("/realms/{realm}/new-pipeline", "pipeline.save"),
    ("/realms/{realm}/new-pipeline/turn", "pipeline.read"),
    ("/realms/{realm}/new-pipeline/beside", "pipeline.read"),
    ("/realms/{realm}/policy-versions/{version}", "policy.restore"),
    ("/realms/{realm}/globals", "global.set"),
    ("/realms/{realm}/globals/delete", "global.delete"),
    ("/realms/{realm}/accounts", "account.set"),
    ("/realms/{realm}/accounts/delete", "account.delete"),
    ("/realms/{realm}/signing-keys/rotate", "signing-key.rotate"),
    ("/realms/{realm}/signing-keys/revoke", "signing-key.revoke"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/keys/import", "api-key.import"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/logins", "basic-auth.create"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/logins/{login}/revoke", "basic-auth.revoke"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/revoke-tokens", "consumer.revoke-tokens"),
    ("/realms/{realm}/consumers/{environment}/{consumer}/certificates", "certificate.create"),
    (
        "/realms/{realm}/consumers/{environment}/{consumer}/certificates/{certificate}/revoke",
        "certificate.revoke",
    ),
    ("/realms/{realm}/issuers", "issuer.create"),
    ("/realms/{realm}/issuers/{environment}/{issuer}", "issuer.set"),
    ("/realms/{realm}/issuers/{environment}/{issuer}/refresh", "issuer.refresh"),
    ("/realms/{realm}/issuers/{environment}/{issuer}/delete", "issuer.delete"),
    ("/realms/{realm}/pick-pipelines", "pipeline.read"),
    ("/realms/{realm}/new-rule", "policy.set"),
    ("/realms/{realm}/new-rule/try", "policy.read"),
    ("/realms/{realm}/rules/{rule}", "policy.set"),
    ("/realms/{realm}/rules/{rule}/remove", "policy.remove"),
    ("/realms/{realm}/policy-values/{which}", "policy.set"),
    ("/realms/{realm}/policy-values/{which}/impact", "policy.read"),
    ("/realms/{realm}/policies/shadow/promote", "shadow.promote"),
    ("/realms/{realm}/policies/shadow/end", "shadow.end"),
    ("/realms/{realm}/signing-keys/revoke-token", "token.revoke"),
    ("/realms/{realm}/signing-keys/inspect", "token.inspect"),
    ("/realms/{realm}/waivers", "waiver.create"),
    ("/realms/{realm}/waivers/extend", "waiver.create"),
    ("/realms/{realm}/waivers/end", "waiver.end"),
    ("/realms/{realm}/explain", "call.explain"),
    ("/realms/{realm}/pipelines/{pipeline}/promote", "deployment.promote"),
    ("/realms/{realm}/pipelines/{pipeline}/associate", "consumer.associate"),
];

/// The same of forms about people: accounts, users, groups, roles, and what two people decide together.
const ACTIONS_OF_PEOPLE: [(&str, &str); 37] = [
    ("/account/password", "password.change"),
    ("/account/second-factor", "second-factor.enrol"),
    ("/account/second-factor/confirm", "second-factor.confirm"),
    ("/account/second-factor/manage", "second-factor.change"),
    ("/realms/{realm}/account/sessions/end", "session.end"),
    ("/realms/{realm}/account/sessions/end-others", "session.end"),
    ("/realms/{realm}/account/tokens", "user-token.create"),
    ("/realms/{realm}/account/tokens/revoke", "user-token.delete"),
    ("/realms/{realm}/tokens/revoke", "user-token.revoke"),
    ("/realms/{realm}/users", "user.create"),
    ("/realms/{realm}/users/{user}/disable", "user.disable"),
    ("/realms/{realm}/users/{user}/enable", "user.enable"),
    ("/realms/{realm}/users/{user}/reset-password", "user.reset-password"),
    ("/realms/{realm}/users/{user}/reset-second-factor", "second-factor.reset"),
    ("/realms/{realm}/users/{user}/sessions/end", "session.end"),
    ("/realms/{realm}/users/{user}/sessions/end-all", "session.end"),
    ("/realms/{realm}/users/{user}/tokens/end-all", "user.end-sessions"),
    ("/realms/{realm}/users/{user}/groups/join", "group.add"),
    ("/realms/{realm}/users/{user}/groups/leave", "group.remove"),
    ("/realms/{realm}/users/{user}/delete", "user.delete"),
    ("/realms/{realm}/groups", "group.create"),
    ("/realms/{realm}/groups/{group}/members/add", "group.add"),
    ("/realms/{realm}/groups/{group}/members/remove", "group.remove"),
    ("/realms/{realm}/groups/{group}/grants/add", "group.grant"),
    ("/realms/{realm}/groups/{group}/grants/remove", "group.ungrant"),
    ("/realms/{realm}/groups/{group}/describe", "group.set"),
    ("/realms/{realm}/groups/{group}/delete", "group.delete"),
    ("/realms/{realm}/roles", "role.create"),
    ("/realms/{realm}/roles/{role}", "role.set"),
    ("/realms/{realm}/roles/{role}/delete", "role.delete"),
    ("/realms/{realm}/environments", "environment.create"),
    ("/realms/{realm}/environments/{environment}/delete", "environment.delete"),
    ("/realms/{realm}/settings", "realm.update"),
    ("/realms/{realm}/audit/verify", "audit.read"),
    ("/realms/{realm}/change-requests/{id}/approve", "change-request.approve"),
    ("/realms/{realm}/change-requests/{id}/reject", "change-request.reject"),
    ("/realms/{realm}/change-requests/{id}/withdraw", "change-request.withdraw"),
];

/// Records what an answer refused, before it is given.
pub(crate) async fn record(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    let who = Who::default();
    request.extensions_mut().insert(who.clone());
    let (mut parts, body) = request.into_parts();
    let path =
        parts.extensions.get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    let parameters = RawPathParams::from_request_parts(&mut parts, &()).await;
    let parameters = parameters.iter().flat_map(|parameters| parameters.iter());
    let attempt = attempt(&parts.method, &path, parameters);
    let response = next.run(Request::from_parts(parts, body)).await;
    let told = response.extensions().get::<Refused>().cloned();
    let refused = told.or_else(|| by_status(response.status()));
    if let (Some(op), Some(refused)) = (who.get(), refused) {
        console.app.refusals().record(&op, attempt, refused).await;
    }
    response
}

fn attempt<'a>(method: &Method, path: &str, parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Attempt {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let named = ACTIONS
        .iter()
        .chain(&ACTIONS_OF_PEOPLE)
        .find(|(of, _)| !reads && *of == path)
        .map(|(_, action)| (*action).to_owned());
    let noun = path.split('/').nth(3).unwrap_or("page").trim_end_matches('s');
    let noun = if noun == "policie" { "policy" } else { noun };
    let action = named.unwrap_or_else(|| format!("{noun}.{}", if reads { "read" } else { "change" }));
    let changes = !reads && !action.ends_with(".read");
    Attempt::at(action, format!("{method} {path}"), changes, parameters)
}

/// Returns the refusal of a form that was shown again.
fn by_status(status: StatusCode) -> Option<Refused> {
    let (kind, code) = match status {
        StatusCode::FORBIDDEN => (ErrorKind::Forbidden, "forbidden"),
        StatusCode::CONFLICT => (ErrorKind::Conflict, "already-exists"),
        StatusCode::PRECONDITION_FAILED => (ErrorKind::PreconditionFailed, "precondition-failed"),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::TooMany, "too-many-logins"),
        _ => return None,
    };
    Some(Refused { kind, code, about: None, journaled: false, concealed: false })
}

// === impl Who ===

impl Who {
    /// Says who visits.
    pub(crate) fn is(&self, op: &Op) {
        // Nobody panics with the lock.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(op.clone());
    }

    fn get(&self) -> Option<Op> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_called_what_the_journal_calls_it() {
        let of = |method, path| attempt(&method, path, [("realm", "default")].into_iter()).action;
        assert_eq!(of(Method::POST, "/realms/{realm}/pipelines/{pipeline}/deploy"), "deployment.deploy");
        assert_eq!(of(Method::GET, "/realms/{realm}/policies/{policy}/edit"), "policy.read");
        assert_eq!(of(Method::GET, "/realms/{realm}/consumers"), "consumer.read");
        assert_eq!(of(Method::POST, "/realms/{realm}/waivers/{id}/end"), "waiver.change");
        assert_eq!(of(Method::POST, "/account/password"), "password.change");
        assert_eq!(of(Method::GET, "/realms/{realm}/users"), "user.read");
    }
}
