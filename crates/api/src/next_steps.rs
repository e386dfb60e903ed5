//! Next steps as requests to this API: what a problem names beside its hint.

use serde_json::{Value, json};
use tollgate_model::next_steps::NextStep;

/// Writes a step for a problem document: what it is, and the request that takes it, when the API has one.
///
/// The realm stays a placeholder: whoever reads the answer knows which they asked in.
pub(crate) fn view(step: &NextStep) -> Value {
    let mut view = json!(step);
    if let (Some((method, path)), Some(members)) = (request(step), view.as_object_mut()) {
        let mut request = format!("{method} /api/v1{path}");
        for (name, value) in members.iter().filter_map(|(name, value)| Some((name, value.as_str()?))) {
            request = request.replace(&format!("{{{name}}}"), value);
        }
        members.insert("request".to_owned(), request.into());
    }
    view
}

/// Returns method and path of the operation that takes a step; `None` where it is done on the server's machine.
fn request(step: &NextStep) -> Option<(&'static str, &'static str)> {
    Some(match step {
        NextStep::SignIn => ("POST", "/session"),
        NextStep::ChangePassword => ("POST", "/password"),
        NextStep::EnrolSecondFactor => ("POST", "/second-factor"),
        NextStep::RemoveSecondFactor => ("POST", "/second-factor/remove"),
        NextStep::RecoverUser => return None,
        NextStep::ListRealms => ("GET", "/realms"),
        NextStep::SeeRealmSettings => ("GET", "/realms/{realm}"),
        NextStep::ListEnvironments => ("GET", "/realms/{realm}/environments"),
        NextStep::ListPipelines => ("GET", "/realms/{realm}/pipelines"),
        NextStep::SavePipeline => ("POST", "/realms/{realm}/pipelines"),
        NextStep::SeePipeline { .. } => ("GET", "/realms/{realm}/pipelines/{pipeline}"),
        NextStep::ListPipelineVersions { .. } => ("GET", "/realms/{realm}/pipelines/{pipeline}/versions"),
        NextStep::ListDeployments { .. } => ("GET", "/realms/{realm}/deployments"),
        NextStep::Deploy { .. } => ("POST", "/realms/{realm}/environments/{environment}/deployments"),
        NextStep::Undeploy { .. } => {
            ("DELETE", "/realms/{realm}/environments/{environment}/deployments/{pipeline}")
        }
        NextStep::Associate { .. } => {
            ("POST", "/realms/{realm}/environments/{environment}/consumers/{consumer}/associate")
        }
        NextStep::ListAttestations { .. } => ("GET", "/realms/{realm}/attestations"),
        NextStep::ListPolicies => ("GET", "/realms/{realm}/policies"),
        NextStep::ListPolicyVersions => ("GET", "/realms/{realm}/policy-versions"),
        NextStep::SetPolicy { .. } => ("PUT", "/realms/{realm}/policies/{policy}"),
        NextStep::SeePolicySchema => ("GET", "/schemas/policy"),
        NextStep::SetShadow => ("PUT", "/realms/{realm}/shadow/policies/{name}"),
        NextStep::SeeShadow => ("GET", "/realms/{realm}/shadow"),
        NextStep::EndShadow => ("DELETE", "/realms/{realm}/shadow"),
        NextStep::ListWaivers => ("GET", "/realms/{realm}/waivers"),
        NextStep::ListChangeRequests => ("GET", "/realms/{realm}/change-requests"),
        NextStep::SeeChangeRequest { .. } => ("GET", "/realms/{realm}/change-requests/{id}"),
        NextStep::WithdrawChangeRequest { .. } => ("POST", "/realms/{realm}/change-requests/{id}/withdraw"),
        NextStep::RejectChangeRequest { .. } => ("POST", "/realms/{realm}/change-requests/{id}/reject"),
        NextStep::SeeConsumer { .. } => {
            ("GET", "/realms/{realm}/environments/{environment}/consumers/{consumer}")
        }
        NextStep::ListConsumers { .. } => ("GET", "/realms/{realm}/environments/{environment}/consumers"),
        NextStep::ListKeys { .. } => {
            ("GET", "/realms/{realm}/environments/{environment}/consumers/{consumer}/keys")
        }
        NextStep::ListBasicAuth { .. } => {
            ("GET", "/realms/{realm}/environments/{environment}/consumers/{consumer}/basic-auth")
        }
        NextStep::ListCertificates { .. } => {
            ("GET", "/realms/{realm}/environments/{environment}/consumers/{consumer}/certificates")
        }
        NextStep::RevokeCertificate { .. } => {
            ("POST", "/realms/{realm}/environments/{environment}/certificates/{id}/revoke")
        }
        NextStep::ListGlobals { .. } => ("GET", "/realms/{realm}/environments/{environment}/globals"),
        NextStep::ListAccounts { .. } => ("GET", "/realms/{realm}/environments/{environment}/accounts"),
        NextStep::ListIssuers { .. } => ("GET", "/realms/{realm}/environments/{environment}/issuers"),
        NextStep::CreateIssuer { .. } => ("POST", "/realms/{realm}/environments/{environment}/issuers"),
        NextStep::ChangeIssuer { .. } => {
            ("PUT", "/realms/{realm}/environments/{environment}/issuers/{issuer}")
        }
        NextStep::ListSigningKeys { .. } => {
            ("GET", "/realms/{realm}/environments/{environment}/signing-keys")
        }
        NextStep::InspectToken { .. } => {
            ("POST", "/realms/{realm}/environments/{environment}/tokens/inspect")
        }
        NextStep::ListUsers => ("GET", "/users"),
        NextStep::SeeUser { .. } => ("GET", "/users/{user}"),
        NextStep::CreateUser => ("POST", "/users"),
        NextStep::ListTokens => ("GET", "/tokens"),
        NextStep::ListTokensOfEverybody => ("GET", "/realms/{realm}/tokens"),
        NextStep::ListGroups => ("GET", "/realms/{realm}/groups"),
        NextStep::SeeGroup { .. } => ("GET", "/realms/{realm}/groups/{group}"),
        NextStep::UngrantRole => ("POST", "/realms/{realm}/groups/{name}/ungrant"),
        NextStep::ListRoles => ("GET", "/realms/{realm}/roles"),
        NextStep::SeeRole { .. } => ("GET", "/realms/{realm}/roles/{role}"),
        NextStep::SeeAllPermissions => ("GET", "/realms/{realm}/roles/administrator"),
        NextStep::ExplainCall => ("POST", "/realms/{realm}/environments/{environment}/explain"),
        NextStep::ListJournal => ("GET", "/realms/{realm}/journal"),
        NextStep::VerifyJournal => ("POST", "/realms/{realm}/journal/verify"),
        NextStep::MakeCheckpoint => ("POST", "/realms/{realm}/journal/checkpoint"),
        NextStep::RotateEvidenceKey => ("POST", "/evidence-keys/rotate"),
    })
}

#[cfg(test)]
mod tests {
    use tollgate_model::next_steps::NextStep;

    use super::*;

    #[test]
    fn a_step_says_which_request_takes_it_with_what_is_known_filled_in() {
        let environment = "test".parse().unwrap();
        let step = view(&NextStep::ListConsumers { environment });
        assert_eq!(
            step,
            json!({ "step": "list-consumers", "environment": "test",
                "request": "GET /api/v1/realms/{realm}/environments/test/consumers" })
        );
        assert_eq!(view(&NextStep::RecoverUser), json!({ "step": "recover-user" }), "done on its machine");
    }

    #[test]
    fn every_step_is_an_operation_of_this_api() {
        for step in NextStep::samples() {
            let Some((method, path)) = request(&step) else { continue };
            let known = crate::operations::all().into_iter().any(|it| {
                it.method == method
                    && it.path.split('/').zip(path.split('/')).all(|(a, b)| a == b || a.starts_with('{'))
                    && it.path.split('/').count() == path.split('/').count()
            });
            assert!(known, "{step:?}: no operation is {method} {path}");
        }
    }
}
