//! Stored objects: which kinds there are, and the key of each.
//!
//! The store keeps every object as `(realm, kind, key) → revision, JSON`. Store, snapshot and use cases agree on
//! kinds and keys through this module.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::access::{Group, Role};
use crate::attestations::Attestation;
use crate::certificates::Certificate;
use crate::change_requests::ChangeRequest;
use crate::consumers::{ApiKey, BasicAuth, Consumer};
use crate::deployments::{Deployment, RouteClaim};
use crate::environments::{Environment, Exposure, Project, Realm};
use crate::evidence::{EvidenceKey, JournalLoss};
use crate::ids::{
    AttestationId, BasicAuthId, CertificateId, ChangeRequestId, KeyId, UserId, UserTokenId, WaiverId,
};
use crate::issuers::Issuer;
use crate::keysets::{SigningKey, TokenRevocation};
use crate::names::{
    ConsumerName, EnvironmentName, GroupName, IssuerName, PipelineName, ProjectName, RealmName, RoleName,
    UserName, ValueName,
};
use crate::pipelines::{PipelineHead, PipelineVersion};
use crate::policies::{Policies, PolicyVersion, ShadowPolicies};
use crate::users::{SecondFactor, User, UserToken};
use crate::values::{Account, Global};
use crate::versions::Version;
use crate::waivers::Waiver;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $text:literal,)*) => {
        /// A kind of stored object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Returns the word for it in the store and the journal.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $text,)* }
            }

            /// Returns the kind that a word stands for.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
            }
        }
    };
}

kinds! {
    /// [`Account`].
    Account = "account",
    /// [`ApiKey`].
    ApiKey = "api-key",
    /// [`Attestation`].
    Attestation = "attestation",
    /// [`BasicAuth`].
    BasicAuth = "basic-auth",
    /// [`Certificate`].
    Certificate = "certificate",
    /// [`ChangeRequest`].
    ChangeRequest = "change-request",
    /// [`Consumer`].
    Consumer = "consumer",
    /// [`Deployment`].
    Deployment = "deployment",
    /// [`Environment`].
    Environment = "environment",
    /// [`EvidenceKey`]: in realm `default` only.
    EvidenceKey = "evidence-key",
    /// [`Global`].
    Global = "global",
    /// [`Group`].
    Group = "group",
    /// [`Issuer`].
    Issuer = "issuer",
    /// [`JournalLoss`]: in realm `default` only.
    JournalLoss = "journal-loss",
    /// [`PipelineHead`].
    Pipeline = "pipeline",
    /// [`PipelineVersion`].
    PipelineVersion = "pipeline-version",
    /// [`Policies`]: the current ones, one object per realm.
    Policies = "policies",
    /// [`PolicyVersion`].
    PolicyVersion = "policy-version",
    /// [`Project`].
    Project = "project",
    /// [`Realm`].
    Realm = "realm",
    /// [`Role`]: one of the realm's own.
    Role = "role",
    /// [`RouteClaim`].
    RouteClaim = "route-claim",
    /// [`SecondFactor`].
    SecondFactor = "second-factor",
    /// [`ShadowPolicies`]: at most one object per realm.
    ShadowPolicies = "shadow-policies",
    /// [`SigningKey`].
    SigningKey = "signing-key",
    /// [`TokenRevocation`].
    TokenRevocation = "token-revocation",
    /// [`User`].
    User = "user",
    /// [`UserToken`].
    UserToken = "user-token",
    /// [`Waiver`].
    Waiver = "waiver",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An object that the store keeps.
pub trait Object: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: Kind;

    /// Returns its key, unique among the objects of its kind in one realm.
    fn key(&self) -> String;
}

/// An object as read from the store, before its JSON is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// The realm that it belongs to.
    pub realm: RealmName,
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// The journal sequence number of the change that wrote it; the ETag.
    pub revision: u64,
    /// The object as JSON.
    pub body: String,
}

/// A stored object whose JSON is not of its kind.
#[derive(Debug, thiserror::Error)]
#[error("stored {kind} `{key}` of realm `{realm}` does not parse")]
pub struct ParseObjectError {
    realm: RealmName,
    kind: Kind,
    key: String,
    source: serde_json::Error,
}

// === impl StoredObject ===

impl StoredObject {
    /// Parses the body.
    ///
    /// # Errors
    ///
    /// [`ParseObjectError`] naming the object when the body is not a `T`.
    pub fn parse<T: Object>(&self) -> Result<T, ParseObjectError> {
        serde_json::from_str(&self.body).map_err(|source| ParseObjectError {
            realm: self.realm.clone(),
            kind: self.kind,
            key: self.key.clone(),
            source,
        })
    }
}

/// Keys of objects, for look-ups without the object at hand.
pub mod keys {
    use super::{
        AttestationId, BasicAuthId, CertificateId, ChangeRequestId, ConsumerName, EnvironmentName, Exposure,
        GroupName, IssuerName, KeyId, PipelineName, ProjectName, RealmName, RoleName, UserId, UserName,
        UserTokenId, ValueName, Version, WaiverId,
    };

    /// Key of the one [`super::Policies`] object of a realm.
    pub const POLICIES: &str = "current";

    /// Key of the one [`super::ShadowPolicies`] object of a realm.
    pub const SHADOW_POLICIES: &str = "shadow";

    /// `environment/name`.
    pub fn account(environment: &EnvironmentName, name: &ValueName) -> String {
        format!("{environment}/{name}")
    }
    /// `environment/id`.
    pub fn api_key(environment: &EnvironmentName, id: KeyId) -> String {
        format!("{environment}/{id}")
    }
    /// `environment/pipeline/id`: those of one pipeline stand in the order of their making.
    pub fn attestation(environment: &EnvironmentName, pipeline: &PipelineName, id: AttestationId) -> String {
        format!("{environment}/{pipeline}/{id}")
    }
    /// `environment/id`.
    pub fn basic_auth(environment: &EnvironmentName, id: BasicAuthId) -> String {
        format!("{environment}/{id}")
    }
    /// `environment/id`.
    pub fn certificate(environment: &EnvironmentName, id: CertificateId) -> String {
        format!("{environment}/{id}")
    }
    /// `id`, so that keys sort by the time of asking.
    pub fn change_request(id: ChangeRequestId) -> String {
        id.to_string()
    }
    /// `environment/name`.
    pub fn consumer(environment: &EnvironmentName, name: &ConsumerName) -> String {
        format!("{environment}/{name}")
    }
    /// `environment/pipeline/vMAJOR`.
    pub fn deployment(environment: &EnvironmentName, pipeline: &PipelineName, major: u32) -> String {
        format!("{environment}/{pipeline}/v{major}")
    }
    /// `name`.
    pub fn environment(name: &EnvironmentName) -> String {
        name.to_string()
    }
    /// `environment/name`.
    pub fn global(environment: &EnvironmentName, name: &ValueName) -> String {
        format!("{environment}/{name}")
    }
    /// `name`.
    pub fn group(name: &GroupName) -> String {
        name.to_string()
    }
    /// `environment/name`.
    pub fn issuer(environment: &EnvironmentName, name: &IssuerName) -> String {
        format!("{environment}/{name}")
    }
    /// `name`.
    pub fn pipeline(name: &PipelineName) -> String {
        name.to_string()
    }
    /// `name/00000MAJOR.00000MINOR`, so that keys sort as versions do.
    pub fn pipeline_version(name: &PipelineName, version: Version) -> String {
        format!("{name}/{:010}.{:010}", version.major, version.minor)
    }
    /// `00000MAJOR.00000MINOR`.
    pub fn policy_version(version: Version) -> String {
        format!("{:010}.{:010}", version.major, version.minor)
    }
    /// `name`.
    pub fn project(name: &ProjectName) -> String {
        name.to_string()
    }
    /// `name`.
    pub fn realm(name: &RealmName) -> String {
        name.to_string()
    }
    /// `name`.
    pub fn role(name: &RoleName) -> String {
        name.to_string()
    }
    /// `environment/exposure/shape`.
    pub fn route_claim(environment: &EnvironmentName, exposure: Exposure, shape: &str) -> String {
        format!("{environment}/{}{shape}", exposure.as_str())
    }
    /// `user id`: it is never given to another user of the same name.
    pub fn second_factor(user: UserId) -> String {
        user.to_string()
    }
    /// `environment/kid`.
    pub fn signing_key(environment: &EnvironmentName, kid: &str) -> String {
        format!("{environment}/{kid}")
    }
    /// `environment/jti`.
    pub fn token_revocation(environment: &EnvironmentName, jti: &str) -> String {
        format!("{environment}/{jti}")
    }
    /// `name`.
    pub fn user(name: &UserName) -> String {
        name.to_string()
    }
    /// `id`.
    pub fn user_token(id: UserTokenId) -> String {
        id.to_string()
    }
    /// `environment/pipeline/id`.
    pub fn waiver(environment: &EnvironmentName, pipeline: &PipelineName, id: WaiverId) -> String {
        format!("{environment}/{pipeline}/{id}")
    }
}

macro_rules! objects {
    ($($object:ident => $kind:ident, |$it:ident| $key:expr;)*) => {
        $(impl Object for $object {
            const KIND: Kind = Kind::$kind;

            fn key(&self) -> String {
                let $it = self;
                $key
            }
        })*
    };
}

objects! {
    Account => Account, |it| keys::account(&it.environment, &it.name);
    ApiKey => ApiKey, |it| keys::api_key(&it.environment, it.id);
    Attestation => Attestation, |it| keys::attestation(&it.environment, &it.pipeline, it.id);
    BasicAuth => BasicAuth, |it| keys::basic_auth(&it.environment, it.id);
    Certificate => Certificate, |it| keys::certificate(&it.environment, it.id);
    ChangeRequest => ChangeRequest, |it| keys::change_request(it.id);
    Consumer => Consumer, |it| keys::consumer(&it.environment, &it.name);
    Deployment => Deployment, |it| keys::deployment(&it.environment, &it.pipeline, it.version.major);
    Environment => Environment, |it| keys::environment(&it.name);
    EvidenceKey => EvidenceKey, |it| it.kid.clone();
    Global => Global, |it| keys::global(&it.environment, &it.name);
    Group => Group, |it| keys::group(&it.name);
    Issuer => Issuer, |it| keys::issuer(&it.environment, &it.name);
    JournalLoss => JournalLoss, |it| it.accepted_at.to_string();
    PipelineHead => Pipeline, |it| keys::pipeline(&it.name);
    PipelineVersion => PipelineVersion, |it| keys::pipeline_version(&it.pipeline.name, it.version);
    Policies => Policies, |_it| keys::POLICIES.to_owned();
    PolicyVersion => PolicyVersion, |it| keys::policy_version(it.policies.version());
    Project => Project, |it| keys::project(&it.name);
    Realm => Realm, |it| keys::realm(&it.name);
    Role => Role, |it| keys::role(&it.name);
    RouteClaim => RouteClaim, |it| keys::route_claim(&it.environment, it.exposure, &it.shape);
    SecondFactor => SecondFactor, |it| keys::second_factor(it.user);
    ShadowPolicies => ShadowPolicies, |_it| keys::SHADOW_POLICIES.to_owned();
    SigningKey => SigningKey, |it| keys::signing_key(&it.environment, &it.kid);
    TokenRevocation => TokenRevocation, |it| keys::token_revocation(&it.environment, &it.jti);
    User => User, |it| keys::user(&it.name);
    UserToken => UserToken, |it| keys::user_token(it.id);
    Waiver => Waiver, |it| keys::waiver(&it.environment, &it.pipeline, it.id);
}
