//! Attestations: what is stated, signed, of each admitted deployment.
//!
//! The statement is an in-toto Statement v1, the envelope is DSSE v1. `docs/attestations.md` is the schema for whoever
//! reads one without this program.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::deployments::DeployAction;
use crate::ids::{AttestationId, DeploymentId, WaiverId};
use crate::names::{EnvironmentName, PipelineName, ProjectName, RealmName};
use crate::policies::PolicyName;
use crate::verdicts::ViolationCode;
use crate::versions::Version;

/// `_type` of an in-toto Statement v1.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// `payloadType` of an envelope that holds an in-toto Statement.
pub const STATEMENT_PAYLOAD: &str = "application/vnd.in-toto+json";

/// `predicateType` of an admission. A change that a reader of the first version would misread gets another one.
pub const ADMISSION_PREDICATE: &str = "urn:tollgate:attestation:admission:v1";

/// An attestation as it is stored: what it is found by, and the envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attestation {
    /// Names it.
    pub id: AttestationId,
    /// Where.
    pub environment: EnvironmentName,
    /// What was deployed.
    pub pipeline: PipelineName,
    /// Its project then: where somebody must be allowed to read.
    pub project: ProjectName,
    /// Which version of it.
    pub version: Version,
    /// Which deployment it is of; a redeploy keeps that id and gets an attestation of its own.
    pub deployment: DeploymentId,
    /// How it came to be deployed.
    pub operation: DeployAction,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// SHA-256 of the canonical form of the version, in hexadecimal digits.
    pub sha256: String,
    /// The key that signed.
    pub kid: String,
    /// The signed statement.
    pub envelope: Envelope,
}

/// A DSSE envelope: a payload and who signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The payload in base64.
    pub payload: String,
    /// What the payload is; signed with it.
    pub payload_type: String,
    /// Signatures over both.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature of an [`Envelope`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// Names the key; a hint that is not signed.
    #[serde(default)]
    pub keyid: String,
    /// The signature in base64.
    pub sig: String,
}

/// An in-toto Statement v1 about an admission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// What it is about: one pipeline version.
    pub subject: Vec<Subject>,
    /// [`ADMISSION_PREDICATE`].
    pub predicate_type: String,
    /// What is said of it.
    pub predicate: Admitted,
}

/// What a [`Statement`] is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `NAME@VERSION`.
    pub name: String,
    /// Digests by algorithm; `sha256` is always there.
    pub digest: BTreeMap<String, String>,
}

/// That the policies admitted a pipeline version in an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admitted {
    /// Names this attestation.
    pub attestation: AttestationId,
    /// The realm.
    pub realm: RealmName,
    /// Where it was admitted.
    pub environment: EnvironmentName,
    /// The deployment.
    pub deployment: DeploymentId,
    /// How it came to be deployed.
    pub operation: DeployAction,
    /// When: nothing before and nothing after was judged.
    pub admitted_at: Timestamp,
    /// Whether waivers were needed.
    pub verdict: AdmittedVerdict,
    /// The version of the policies that judged.
    pub policy_version: Version,
    /// The value of every policy in that environment, by its name.
    pub demanded: BTreeMap<String, Value>,
    /// The switches of the trigger that the access policies are about, as they stood.
    pub switches: Switches,
    /// Whether the flow is a login flow: the access policies demand no token of it.
    pub login_flow: bool,
    /// The waivers without which it would have been refused.
    pub waivers: Vec<AppliedWaiver>,
    /// Who asked for it.
    pub by: Author,
    /// What ran in its place before; absent when nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
    /// The end of the journal when it was decided: the deployment's own entry comes later.
    pub journal: JournalPosition,
}

/// How the policies admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AdmittedVerdict {
    /// It breaks no policy.
    Admitted,
    /// All that it breaks is waived.
    AdmittedByWaivers,
}

/// Switches of a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Switches {
    /// Whether it is open on the external listener.
    pub external_api: bool,
    /// Whether it is open on the internal listener.
    pub internal_api: bool,
    /// Whether it demands an API key.
    pub api_key: bool,
    /// Whether it demands a token.
    pub jwt: bool,
    /// Whether it demands Basic Auth.
    pub basic_auth: bool,
    /// Whether it demands a client certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mtls: bool,
}

/// A waiver that an admission leans on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedWaiver {
    /// The waiver.
    pub id: WaiverId,
    /// Of which policy.
    pub policy: PolicyName,
    /// Which violation of it.
    pub violation: ViolationCode,
    /// The violation in words.
    pub message: String,
    /// When the violation counts again.
    pub until: Timestamp,
    /// Why it was waived.
    pub reason: String,
}

/// Who asked for a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Author {
    /// The user's name, as in the journal.
    pub user: String,
    /// From where: a remote address, `cli` or `system`.
    pub source: String,
    /// The request.
    pub request_id: String,
}

/// What a deployment took the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replaced {
    /// The version that ran.
    pub version: Version,
    /// Since when.
    pub deployed_at: Timestamp,
    /// Its attestation; absent when it was deployed before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<AttestationId>,
}

/// A place in the journal: so many entries, and the hash of the last of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalPosition {
    /// How many entries.
    pub entries: u64,
    /// Hash of the last one, in hexadecimal digits.
    pub hash: String,
}
