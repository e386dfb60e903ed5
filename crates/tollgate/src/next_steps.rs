//! Next steps as commands: what a failure's hint ends with.

use serde::Deserialize as _;
use serde_json::Value;
use tollgate_model::next_steps::NextStep;

/// Adds to the hint of a problem the command that does what it says; a step that this version does not know adds nothing.
pub(crate) fn hint(body: &Value) -> String {
    let hint = crate::answers::text(body, "hint");
    let step = body.get("next").and_then(|step| NextStep::deserialize(step).ok());
    step.map_or_else(|| hint.to_owned(), |step| with_command(hint, &step))
}

/// Adds to a hint the command that does what it says.
pub(crate) fn with_command(hint: &str, step: &NextStep) -> String {
    format!("{hint}: `tollgate {}`", command(step))
}

fn command(step: &NextStep) -> String {
    match step {
        NextStep::SignIn => "login".to_owned(),
        NextStep::ChangePassword => "password change".to_owned(),
        NextStep::EnrolSecondFactor => "second-factor enrol".to_owned(),
        NextStep::RemoveSecondFactor => "second-factor remove".to_owned(),
        NextStep::RecoverUser => "user recover".to_owned(),
        NextStep::ListRealms => "realm list".to_owned(),
        NextStep::SeeRealmSettings => "realm get".to_owned(),
        NextStep::ListEnvironments => "environment list".to_owned(),
        NextStep::ListPipelines => "get pipeline".to_owned(),
        NextStep::SavePipeline | NextStep::ChangeIssuer { .. } => "apply -f FILE".to_owned(),
        NextStep::SeePipeline { pipeline } => format!("get pipeline {pipeline}"),
        NextStep::ListPipelineVersions { pipeline } => format!("get pipeline {pipeline} --versions"),
        NextStep::ListDeployments { .. } => "deployments".to_owned(),
        NextStep::Deploy { pipeline, version, environment } => {
            let version = version.map(|version| format!("@{version}")).unwrap_or_default();
            format!("deploy {pipeline}{version} --env {environment}")
        }
        NextStep::Undeploy { environment } => format!("undeploy PIPELINE --env {environment}"),
        NextStep::Associate { pipeline, environment } => {
            format!("consumer associate NAME --env {environment} --pipeline {pipeline}")
        }
        NextStep::ListAttestations { pipeline, environment } => {
            format!("attest list --env {environment} --pipeline {pipeline}")
        }
        NextStep::ListPolicies => "policy list".to_owned(),
        NextStep::ListPolicyVersions => "policy versions".to_owned(),
        NextStep::SetPolicy { policy, environment } => {
            format!("policy set {policy} --env {environment}=VALUE")
        }
        NextStep::SeePolicySchema => "schema policy".to_owned(),
        NextStep::SetShadow => "policy shadow set NAME --env ENVIRONMENT=VALUE".to_owned(),
        NextStep::SeeShadow => "policy shadow show".to_owned(),
        NextStep::EndShadow => "policy shadow end".to_owned(),
        NextStep::ListWaivers => "waiver list --all".to_owned(),
        NextStep::ListChangeRequests => "change-request list".to_owned(),
        NextStep::SeeChangeRequest { id } => format!("change-request show {id}"),
        NextStep::WithdrawChangeRequest { id } => {
            let id = id.map_or_else(|| "ID".to_owned(), |id| id.to_string());
            format!("change-request withdraw {id}")
        }
        NextStep::RejectChangeRequest { id } => format!("change-request reject {id}"),
        NextStep::SeeConsumer { consumer, environment } => {
            format!("consumer get {consumer} --env {environment}")
        }
        NextStep::ListConsumers { environment } => format!("consumer list --env {environment}"),
        NextStep::ListKeys { environment } => format!("key list CONSUMER --env {environment}"),
        NextStep::ListBasicAuth { environment } => format!("basic-auth list CONSUMER --env {environment}"),
        NextStep::ListCertificates { environment } => {
            format!("certificate list CONSUMER --env {environment}")
        }
        NextStep::RevokeCertificate { id, environment } => {
            format!("certificate revoke {id} --env {environment}")
        }
        NextStep::ListGlobals { environment } => format!("global list --env {environment}"),
        NextStep::ListAccounts { environment } => format!("account list --env {environment}"),
        NextStep::ListIssuers { environment } => format!("issuer list --env {environment}"),
        NextStep::CreateIssuer { issuer, environment } => {
            format!("issuer create {issuer} --env {environment} …")
        }
        NextStep::ListSigningKeys { environment } => format!("jwt keys --env {environment}"),
        NextStep::InspectToken { environment } => format!("jwt inspect TOKEN --env {environment}"),
        NextStep::ListUsers => "user list".to_owned(),
        NextStep::SeeUser { user } => format!("user get {user}"),
        NextStep::CreateUser => "user create NAME".to_owned(),
        NextStep::ListTokensOfEverybody => "token list --everybody".to_owned(),
        NextStep::ListTokens => "token list".to_owned(),
        NextStep::ListGroups => "group list".to_owned(),
        NextStep::SeeGroup { group } => format!("group get {group}"),
        NextStep::UngrantRole => "group ungrant".to_owned(),
        NextStep::ListRoles => "role list".to_owned(),
        NextStep::SeeRole { role } => format!("role get {role}"),
        NextStep::SeeAllPermissions => "role get administrator".to_owned(),
        NextStep::ExplainCall => "explain METHOD URL".to_owned(),
        NextStep::ListJournal => "audit list".to_owned(),
        NextStep::VerifyJournal => "audit verify".to_owned(),
        NextStep::MakeCheckpoint => "audit checkpoint".to_owned(),
        NextStep::RotateEvidenceKey => "evidence rotate".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hint_ends_with_the_command_and_one_of_a_newer_server_stays_as_it_is() {
        let of = |step: Value| hint(&json!({ "hint": "see those that exist", "next": step }));
        assert_eq!(
            of(json!({ "step": "list-consumers", "environment": "test", "request": "GET /api/v1/…" })),
            "see those that exist: `tollgate consumer list --env test`"
        );
        assert_eq!(of(json!({ "step": "fly" })), "see those that exist");
        assert_eq!(hint(&json!({ "hint": "try again" })), "try again");
    }

    #[test]
    fn every_step_is_a_command_of_this_program() {
        let cli = crate::cli::Arguments::command();
        for step in NextStep::samples() {
            let words = command(&step);
            let mut at = &cli;
            for word in words.split(' ') {
                match at.find_subcommand(word) {
                    Some(found) => at = found,
                    None => break,
                }
            }
            assert!(!at.has_subcommands(), "{words}: there is no such command");
            for flag in words.split(' ').filter_map(|word| word.strip_prefix("--")) {
                let known = at.get_arguments().any(|it| it.get_long() == Some(flag));
                assert!(known, "{words}: `{}` has no --{flag}", at.get_name());
            }
        }
    }
}
