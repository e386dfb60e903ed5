//! What somebody can do next, as data.
//!
//! A use case that refuses says what would help; it does not know where whoever asked is sitting. So it names the step, and each
//! door words it for itself: the command line as a command, the console as a link to the page, the management API as the
//! operation. Each does so in one `match`, so that a step that one of them forgot does not compile.

use serde::{Deserialize, Serialize};

use crate::ids::{CertificateId, ChangeRequestId};
use crate::names::{ConsumerName, EnvironmentName, GroupName, IssuerName, PipelineName, RoleName, UserName};
use crate::versions::Version;

/// What somebody can do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "each is a verb and the thing that it is done to; the fields are names")]
pub enum NextStep {
    SignIn,
    ChangePassword,
    EnrolSecondFactor,
    RemoveSecondFactor,
    RecoverUser,
    ListRealms,
    SeeRealmSettings,
    ListEnvironments,
    ListPipelines,
    SavePipeline,
    SeePipeline {
        pipeline: PipelineName,
    },
    ListPipelineVersions {
        pipeline: PipelineName,
    },
    ListDeployments {
        pipeline: PipelineName,
    },
    Deploy {
        pipeline: PipelineName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
        environment: EnvironmentName,
    },
    Undeploy {
        environment: EnvironmentName,
    },
    Associate {
        pipeline: PipelineName,
        environment: EnvironmentName,
    },
    ListAttestations {
        pipeline: PipelineName,
        environment: EnvironmentName,
    },
    ListPolicies,
    ListPolicyVersions,
    SetPolicy {
        policy: String,
        environment: EnvironmentName,
    },
    SeePolicySchema,
    SetShadow,
    SeeShadow,
    EndShadow,
    ListWaivers,
    ListChangeRequests,
    SeeChangeRequest {
        id: ChangeRequestId,
    },
    WithdrawChangeRequest {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<ChangeRequestId>,
    },
    RejectChangeRequest {
        id: ChangeRequestId,
    },
    SeeConsumer {
        consumer: ConsumerName,
        environment: EnvironmentName,
    },
    ListConsumers {
        environment: EnvironmentName,
    },
    ListKeys {
        environment: EnvironmentName,
    },
    ListBasicAuth {
        environment: EnvironmentName,
    },
    ListCertificates {
        environment: EnvironmentName,
    },
    RevokeCertificate {
        id: CertificateId,
        environment: EnvironmentName,
    },
    ListGlobals {
        environment: EnvironmentName,
    },
    ListAccounts {
        environment: EnvironmentName,
    },
    ListIssuers {
        environment: EnvironmentName,
    },
    CreateIssuer {
        issuer: IssuerName,
        environment: EnvironmentName,
    },
    ChangeIssuer {
        issuer: IssuerName,
        environment: EnvironmentName,
    },
    ListSigningKeys {
        environment: EnvironmentName,
    },
    InspectToken {
        environment: EnvironmentName,
    },
    ListUsers,
    SeeUser {
        user: UserName,
    },
    CreateUser,
    ListTokens,
    ListTokensOfEverybody,
    ListGroups,
    SeeGroup {
        group: GroupName,
    },
    UngrantRole,
    ListRoles,
    SeeRole {
        role: RoleName,
    },
    SeeAllPermissions,
    ExplainCall,
    ListJournal,
    VerifyJournal,
    MakeCheckpoint,
    RotateEvidenceKey,
}

// === impl NextStep ===

impl NextStep {
    /// Returns one of each, for tests that every door knows them all.
    ///
    /// # Panics
    ///
    /// Never: the names in them are names.
    pub fn samples() -> Vec<Self> {
        let environment = || EnvironmentName::test();
        let named = |name: &str| name.parse().expect("is a name");
        let id = ChangeRequestId::new(jiff::Timestamp::UNIX_EPOCH, [0; 10]);
        let certificate = CertificateId::new(jiff::Timestamp::UNIX_EPOCH, [0; 10]);
        let (issuer, group): (IssuerName, GroupName) =
            ("partner".parse().expect("is a name"), "team".parse().expect("is a name"));
        vec![
            Self::SignIn,
            Self::ChangePassword,
            Self::EnrolSecondFactor,
            Self::RemoveSecondFactor,
            Self::RecoverUser,
            Self::ListRealms,
            Self::SeeRealmSettings,
            Self::ListEnvironments,
            Self::ListPipelines,
            Self::SavePipeline,
            Self::SeePipeline { pipeline: named("orders") },
            Self::ListPipelineVersions { pipeline: named("orders") },
            Self::ListDeployments { pipeline: named("orders") },
            Self::Deploy { pipeline: named("orders"), version: None, environment: environment() },
            Self::Undeploy { environment: environment() },
            Self::Associate { pipeline: named("orders"), environment: environment() },
            Self::ListAttestations { pipeline: named("orders"), environment: environment() },
            Self::ListPolicies,
            Self::ListPolicyVersions,
            Self::SetPolicy { policy: "needs-rate-limit".to_owned(), environment: environment() },
            Self::SeePolicySchema,
            Self::SetShadow,
            Self::SeeShadow,
            Self::EndShadow,
            Self::ListWaivers,
            Self::ListChangeRequests,
            Self::SeeChangeRequest { id },
            Self::WithdrawChangeRequest { id: Some(id) },
            Self::WithdrawChangeRequest { id: None },
            Self::RejectChangeRequest { id },
            Self::SeeConsumer { consumer: "shop".parse().expect("is a name"), environment: environment() },
            Self::ListConsumers { environment: environment() },
            Self::ListKeys { environment: environment() },
            Self::ListBasicAuth { environment: environment() },
            Self::ListCertificates { environment: environment() },
            Self::RevokeCertificate { id: certificate, environment: environment() },
            Self::ListGlobals { environment: environment() },
            Self::ListAccounts { environment: environment() },
            Self::ListIssuers { environment: environment() },
            Self::CreateIssuer { issuer: issuer.clone(), environment: environment() },
            Self::ChangeIssuer { issuer, environment: environment() },
            Self::ListSigningKeys { environment: environment() },
            Self::InspectToken { environment: environment() },
            Self::ListUsers,
            Self::SeeUser { user: "ada".parse().expect("is a name") },
            Self::CreateUser,
            Self::ListTokens,
            Self::ListTokensOfEverybody,
            Self::ListGroups,
            Self::SeeGroup { group },
            Self::UngrantRole,
            Self::ListRoles,
            Self::SeeRole { role: "viewer".parse().expect("is a name") },
            Self::SeeAllPermissions,
            Self::ExplainCall,
            Self::ListJournal,
            Self::VerifyJournal,
            Self::MakeCheckpoint,
            Self::RotateEvidenceKey,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_as_it_was_written() {
        for step in NextStep::samples() {
            let text = serde_json::to_string(&step).unwrap();
            assert_eq!(serde_json::from_str::<NextStep>(&text).unwrap(), step, "{text}");
        }
    }
}
