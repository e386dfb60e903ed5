//! What somebody may do: one name for each thing that is refused to those who lack it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Reach;

/// A name that no permission has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no permission `{input}`{}", did_you_mean(.nearest))]
pub struct ParsePermissionError {
    input: String,
    nearest: Option<&'static str>,
}

/// What a permission is about, and so where it must be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole server: it counts in realm `default` only, and only without limits.
    Server,
    /// A realm as a whole: it counts only without limits.
    Realm,
    /// What every environment and project of a realm has in common: whoever holds it somewhere may.
    Shared,
    /// Things of an environment, which belong to no project: a limit to projects leaves nothing of it.
    Environment,
    /// Things of a project, which are the same in all environments: a limit to environments leaves nothing of it.
    Project,
    /// Things of a project in an environment.
    Both,
}

macro_rules! permissions {
    ($(#[doc = $doc:literal] $permission:ident = $text:literal,)*) => {
        /// What somebody may do; each use case demands one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission { $(#[doc = $doc] $permission,)* }

        impl Permission {
            /// Every permission.
            pub const ALL: &'static [Self] = &[$(Self::$permission,)*];

            /// Returns the name, `resource:verb`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$permission => $text,)* }
            }

            /// Returns what it allows, as a sentence.
            pub fn description(self) -> &'static str {
                match self { $(Self::$permission => $doc,)* }.trim()
            }
        }
    };
}

permissions! {
    /// Ask who can call a pipeline, what a consumer can call, and what nobody uses.
    AccessRead = "access:read",
    /// Read accounts: names of fields only.
    AccountRead = "account:read",
    /// Set and delete accounts.
    AccountUpdate = "account:update",
    /// Read API keys: never the secret.
    ApiKeyRead = "api-key:read",
    /// Create, rotate and import API keys.
    ApiKeyCreate = "api-key:create",
    /// Revoke API keys.
    ApiKeyRevoke = "api-key:revoke",
    /// Read and verify the journal.
    AuditRead = "audit:read",
    /// Answer for journal entries that are gone.
    AuditAccept = "audit:accept",
    /// Read Basic Auth credentials: never the password.
    BasicAuthRead = "basic-auth:read",
    /// Create Basic Auth credentials.
    BasicAuthCreate = "basic-auth:create",
    /// Revoke Basic Auth credentials.
    BasicAuthRevoke = "basic-auth:revoke",
    /// Ask why a call is answered as it is, and why one was refused; lets them try credentials.
    CallExplain = "call:explain",
    /// Read client certificates of consumers.
    CertificateRead = "certificate:read",
    /// Bind client certificates to consumers.
    CertificateCreate = "certificate:create",
    /// Revoke client certificates of consumers.
    CertificateRevoke = "certificate:revoke",
    /// Approve and reject what others asked for; to approve takes the permission of the change itself, too.
    ChangeRequestApprove = "change-request:approve",
    /// Read change requests, and withdraw one's own.
    ChangeRequestRead = "change-request:read",
    /// Read consumers.
    ConsumerRead = "consumer:read",
    /// Create consumers.
    ConsumerCreate = "consumer:create",
    /// Associate and dissociate consumers.
    ConsumerUpdate = "consumer:update",
    /// Delete consumers.
    ConsumerDelete = "consumer:delete",
    /// Read deployments, their history and runs.
    DeploymentRead = "deployment:read",
    /// Deploy, promote and roll back.
    DeploymentCreate = "deployment:create",
    /// Undeploy.
    DeploymentDelete = "deployment:delete",
    /// Read environments.
    EnvironmentRead = "environment:read",
    /// Make environments.
    EnvironmentCreate = "environment:create",
    /// Delete environments.
    EnvironmentDelete = "environment:delete",
    /// Read the keys that sign evidence: public parts only.
    EvidenceKeyRead = "evidence-key:read",
    /// Rotate the keys that sign evidence.
    EvidenceKeyUpdate = "evidence-key:update",
    /// Read globals.
    GlobalRead = "global:read",
    /// Set and delete globals.
    GlobalUpdate = "global:update",
    /// Read groups: members and grants.
    GroupRead = "group:read",
    /// Make groups.
    GroupCreate = "group:create",
    /// Change members and grants of groups.
    GroupUpdate = "group:update",
    /// Delete groups.
    GroupDelete = "group:delete",
    /// Read issuers of tokens outside.
    IssuerRead = "issuer:read",
    /// Set and delete issuers of tokens outside, and have their keys fetched.
    IssuerUpdate = "issuer:update",
    /// Read pipelines.
    PipelineRead = "pipeline:read",
    /// Save pipelines.
    PipelineUpdate = "pipeline:update",
    /// Delete pipelines.
    PipelineDelete = "pipeline:delete",
    /// Read policies, impact and conformance.
    PolicyRead = "policy:read",
    /// Change policies.
    PolicyUpdate = "policy:update",
    /// Read realms.
    RealmRead = "realm:read",
    /// Create realms.
    RealmCreate = "realm:create",
    /// Change the settings of a realm.
    RealmUpdate = "realm:update",
    /// Read roles.
    RoleRead = "role:read",
    /// Make own roles.
    RoleCreate = "role:create",
    /// Change own roles.
    RoleUpdate = "role:update",
    /// Delete own roles.
    RoleDelete = "role:delete",
    /// Read signing keys: public parts only; inspect tokens.
    SigningKeyRead = "signing-key:read",
    /// Rotate and revoke signing keys.
    SigningKeyUpdate = "signing-key:update",
    /// Revoke tokens.
    TokenRevoke = "token:revoke",
    /// Read how many calls there were, and of whom.
    UsageRead = "usage:read",
    /// Read users.
    UserRead = "user:read",
    /// Make users.
    UserCreate = "user:create",
    /// Disable and enable users, reset their passwords, end their sessions.
    UserUpdate = "user:update",
    /// Delete users.
    UserDelete = "user:delete",
    /// Manage one's own API tokens.
    UserTokenManage = "user-token:manage",
    /// Read everybody's API tokens: never the secret.
    UserTokenRead = "user-token:read",
    /// Revoke API tokens of others.
    UserTokenRevoke = "user-token:revoke",
    /// Read waivers.
    WaiverRead = "waiver:read",
    /// Waive violations.
    WaiverCreate = "waiver:create",
    /// End and replace waivers.
    WaiverEnd = "waiver:end",
}

// === impl Permission ===

impl Permission {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// [`ParsePermissionError`] naming the nearest one that there is.
    pub fn parse(input: &str) -> Result<Self, ParsePermissionError> {
        let mut all = Self::ALL.iter().copied();
        all.find(|permission| permission.as_str() == input).ok_or_else(|| {
            let distance = |name: &str| strsim::damerau_levenshtein(name, input);
            let names = Self::ALL.iter().map(|permission| permission.as_str());
            let nearest = names.min_by_key(|name| distance(name)).filter(|name| distance(name) <= 4);
            ParsePermissionError { input: input.chars().take(80).collect(), nearest }
        })
    }

    /// Returns what it is about: the part before the colon.
    pub fn resource(self) -> &'static str {
        self.as_str().split_once(':').map_or("", |(resource, _)| resource)
    }

    /// Tells whether it only reads.
    pub fn only_reads(self) -> bool {
        self.as_str().ends_with(":read")
    }

    /// Returns where it must be held. One that nobody thought about counts without limits only.
    pub fn scope(self) -> Scope {
        match (self, self.resource()) {
            (Self::AuditAccept | Self::RealmCreate, _) | (_, "evidence-key" | "user") => Scope::Server,
            (Self::EnvironmentRead | Self::PolicyRead | Self::RealmRead, _) => Scope::Shared,
            (
                _,
                "access" | "account" | "api-key" | "basic-auth" | "call" | "certificate" | "consumer"
                | "global" | "issuer" | "signing-key" | "token",
            ) => Scope::Environment,
            (_, "pipeline") => Scope::Project,
            (_, "deployment" | "usage" | "waiver") => Scope::Both,
            _ => Scope::Realm,
        }
    }

    /// Tells whether somebody who holds it within these limits can do anything with it.
    pub fn counts_within(self, reach: &Reach) -> bool {
        match self.scope() {
            Scope::Server | Scope::Realm => reach.is_everything(),
            Scope::Environment => reach.projects.is_all(),
            Scope::Project => reach.environments.is_all(),
            Scope::Shared | Scope::Both => true,
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Permission {
    fn schema_name() -> Cow<'static, str> {
        "Permission".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<_> = Self::ALL.iter().map(|permission| permission.as_str()).collect();
        schemars::json_schema!({ "type": "string", "enum": names })
    }
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(": did you mean `{name}`?")).unwrap_or_default()
}
