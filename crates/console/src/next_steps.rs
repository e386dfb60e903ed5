//! Next steps as pages: where the link beside a hint leads.

use tollgate_model::next_steps::NextStep;

/// A link to the page on which a step is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// What stands on it.
    pub(crate) label: &'static str,
    /// Path and query within the realm.
    pub(crate) end: String,
}

/// Returns the page on which a step is taken; `None` for what is done elsewhere, and where one is already.
pub(crate) fn link(step: &NextStep) -> Option<Link> {
    let (label, end) = match step {
        // Whoever reads this has signed in, or stands before the form.
        NextStep::SignIn => return None,
        // Done with the command line, on the server's machine or with a file.
        NextStep::RecoverUser
        | NextStep::SeePolicySchema
        | NextStep::RotateEvidenceKey
        | NextStep::ListAttestations { .. } => return None,
        NextStep::ChangePassword => ("Change password", "account".to_owned()),
        NextStep::EnrolSecondFactor | NextStep::RemoveSecondFactor => ("Your account", "account".to_owned()),
        NextStep::ListTokensOfEverybody => ("API tokens", "tokens".to_owned()),
        NextStep::ListTokens => ("Your API tokens", "account".to_owned()),
        NextStep::ListRealms => ("Realms", "realms".to_owned()),
        NextStep::SeeRealmSettings => ("Realm settings", "settings".to_owned()),
        NextStep::ListEnvironments => ("Environments", "environments".to_owned()),
        NextStep::ListPipelines => ("Pipelines", "pipelines".to_owned()),
        NextStep::SavePipeline => ("New pipeline", "new-pipeline".to_owned()),
        NextStep::SeePipeline { pipeline } => ("The pipeline", format!("pipelines/{pipeline}")),
        NextStep::ListPipelineVersions { pipeline } => ("Versions", format!("pipelines/{pipeline}/versions")),
        NextStep::ListDeployments { pipeline } => ("Deployments", format!("deployments?q={pipeline}")),
        NextStep::Deploy { pipeline, .. } => ("Deploy", format!("pipelines/{pipeline}/deploy")),
        NextStep::Undeploy { environment } => {
            ("Deployments", format!("deployments?environment={environment}"))
        }
        NextStep::Associate { pipeline, environment } => {
            ("Choose who may call it", format!("pipelines/{pipeline}/associate?environment={environment}"))
        }
        NextStep::ListPolicies | NextStep::SetPolicy { .. } | NextStep::SetShadow => {
            ("Policies", "policies".to_owned())
        }
        NextStep::ListPolicyVersions => ("Policy versions", "policy-versions".to_owned()),
        NextStep::SeeShadow | NextStep::EndShadow => ("Shadow policies", "policies/shadow".to_owned()),
        NextStep::ListWaivers => ("Waivers", "waivers".to_owned()),
        NextStep::ListChangeRequests | NextStep::WithdrawChangeRequest { id: None } => {
            ("Change requests", "change-requests".to_owned())
        }
        NextStep::SeeChangeRequest { id }
        | NextStep::WithdrawChangeRequest { id: Some(id) }
        | NextStep::RejectChangeRequest { id } => ("Change request", format!("change-requests/{id}")),
        NextStep::SeeConsumer { consumer, environment } => {
            ("The consumer", format!("consumers/{environment}/{consumer}"))
        }
        NextStep::ListConsumers { environment }
        | NextStep::ListKeys { environment }
        | NextStep::ListBasicAuth { environment }
        | NextStep::ListCertificates { environment }
        | NextStep::RevokeCertificate { environment, .. } => {
            ("Consumers", format!("consumers?environment={environment}"))
        }
        NextStep::ListGlobals { environment } => ("Globals", format!("globals?environment={environment}")),
        NextStep::ListAccounts { environment } => ("Accounts", format!("accounts?environment={environment}")),
        NextStep::ListIssuers { environment } => ("Issuers", format!("issuers?environment={environment}")),
        NextStep::CreateIssuer { environment, .. } => {
            ("New issuer", format!("new-issuer?environment={environment}"))
        }
        NextStep::ChangeIssuer { issuer, environment } => {
            ("Issuer", format!("issuers/{environment}/{issuer}"))
        }
        NextStep::ListSigningKeys { environment } | NextStep::InspectToken { environment } => {
            ("Signing keys", format!("signing-keys?environment={environment}"))
        }
        NextStep::ListUsers => ("Users", "users".to_owned()),
        NextStep::SeeUser { user } => ("The user", format!("users/{user}")),
        NextStep::CreateUser => ("New user", "new-user".to_owned()),
        NextStep::ListGroups | NextStep::UngrantRole => ("Groups", "groups".to_owned()),
        NextStep::SeeGroup { group } => ("Group", format!("groups/{group}")),
        NextStep::ListRoles => ("Roles", "roles".to_owned()),
        NextStep::SeeRole { role } => ("The role", format!("roles/{role}")),
        NextStep::SeeAllPermissions => ("All permissions", "roles/administrator".to_owned()),
        NextStep::ExplainCall => ("Explain a call", "explain".to_owned()),
        NextStep::ListJournal | NextStep::VerifyJournal | NextStep::MakeCheckpoint => {
            ("Audit", "audit".to_owned())
        }
    };
    Some(Link { label, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_that_has_a_page_leads_to_one_of_ours() {
        for link in NextStep::samples().iter().filter_map(link) {
            assert!(!link.label.is_empty() && !link.end.starts_with('/'), "{link:?}");
            let path = format!("/realms/default/{}", link.end);
            assert_eq!(crate::paths::own_path(&path), path);
        }
    }
}
