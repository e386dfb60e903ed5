//! Consumers, credentials, key set and values of one environment.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use tollgate_credential::keysets::KeySet;
use tollgate_flow::Values;
use tollgate_model::environments::RealmSettings;
use tollgate_model::ids::{BasicAuthId, ConsumerId};
use tollgate_model::names::{ConsumerName, EnvironmentName, IssuerName, PipelineName, RealmName};
use tollgate_model::policies::SensitiveFields;

use crate::{Broken, ByIds, Certificates, IssuerEntry, Keys};

/// What the callers of one environment are checked against.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The realm.
    pub realm: RealmName,
    /// The environment.
    pub environment: EnvironmentName,
    /// API keys by digest; expired and revoked ones are among them.
    pub keys: Keys,
    /// Basic Auth credentials by user name.
    pub basic: Arc<HashMap<String, Arc<BasicEntry>>>,
    /// Client certificates.
    pub certificates: Arc<Certificates>,
    /// Consumers by id, each also reachable as text: the `sub` of tokens.
    pub consumers: Arc<ByIds<ConsumerId, Arc<ConsumerEntry>>>,
    /// The key set.
    pub key_set: Result<Arc<KeySet>, Broken>,
    /// Ids of consumers by name, which tokens of issuers outside name.
    pub consumer_ids: Arc<HashMap<ConsumerName, ConsumerId>>,
    /// Issuers outside, by name.
    pub issuers: Arc<BTreeMap<IssuerName, Result<Arc<IssuerEntry>, Broken>>>,
    /// The longest life of a token of an issuer outside, in milliseconds.
    pub max_token_lifetime_ms: Result<u64, Broken>,
    /// `jti` of revoked tokens.
    pub revoked_tokens: Arc<HashSet<String>>,
    /// Globals and accounts.
    pub values: Result<Arc<Values>, Broken>,
    /// The fields that the policies say are never shown.
    pub sensitive_fields: Result<Arc<SensitiveFields>, Broken>,
    /// What the realm decided about itself.
    pub settings: Result<Arc<RealmSettings>, Broken>,
}

/// A Basic Auth credential that is not revoked.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicEntry {
    /// Names the credential.
    pub id: BasicAuthId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// Argon2id hash in PHC string format.
    pub password_hash: String,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerEntry {
    /// Its id.
    pub id: ConsumerId,
    /// Its id as text.
    pub subject: String,
    /// Its name.
    pub name: ConsumerName,
    /// The pipelines that it may call.
    pub pipelines: BTreeSet<PipelineName>,
    /// Tokens issued to it up to this time are revoked.
    pub tokens_revoked_before: Option<Timestamp>,
}

// === impl Scope ===

impl Scope {
    pub(crate) fn new(realm: RealmName, environment: EnvironmentName) -> Self {
        Self {
            realm,
            environment,
            keys: Keys::default(),
            basic: Arc::default(),
            certificates: Arc::default(),
            consumers: Arc::default(),
            key_set: Err(Broken("the environment has no signing key".to_owned())),
            consumer_ids: Arc::default(),
            issuers: Arc::default(),
            max_token_lifetime_ms: Err(Broken("the realm has no policies".to_owned())),
            revoked_tokens: Arc::default(),
            values: Ok(Arc::default()),
            sensitive_fields: Err(Broken("the realm has no policies".to_owned())),
            settings: Ok(Arc::default()),
        }
    }

    /// Returns the consumer that a token names as its subject.
    pub fn consumer_of_subject(&self, subject: &str) -> Option<&Arc<ConsumerEntry>> {
        self.consumers.get(&ConsumerId::parse(subject).ok()?)
    }

    /// Returns the consumer of a name.
    pub fn consumer_named(&self, name: &str) -> Option<&Arc<ConsumerEntry>> {
        self.consumers.get(self.consumer_ids.get(name)?)
    }
}

// === impl BasicEntry ===

impl std::fmt::Debug for BasicEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BasicEntry({})", self.id)
    }
}

// === impl ConsumerEntry ===

impl ConsumerEntry {
    /// Tells whether it may call a pipeline.
    pub fn may_call(&self, pipeline: &PipelineName) -> bool {
        self.pipelines.contains(pipeline)
    }

    /// Tells whether tokens issued at a time (in seconds, as `iat` is) were revoked.
    ///
    /// `iat` has no fractions, so a token of the very second of the revocation counts as revoked.
    pub fn has_revoked_tokens_of(&self, issued_at: i64) -> bool {
        self.tokens_revoked_before.is_some_and(|before| issued_at <= before.as_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_the_second_of_a_revocation_are_revoked() {
        let entry = ConsumerEntry {
            id: ConsumerId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            subject: String::new(),
            name: ConsumerName::parse("shop").expect("a slug"),
            pipelines: BTreeSet::new(),
            tokens_revoked_before: Some("2026-01-01T00:00:10.5Z".parse().expect("a time")),
        };
        let at = |text: &str| text.parse::<Timestamp>().expect("a time").as_second();
        assert!(entry.has_revoked_tokens_of(at("2026-01-01T00:00:10Z")));
        assert!(!entry.has_revoked_tokens_of(at("2026-01-01T00:00:11Z")));
    }
}
