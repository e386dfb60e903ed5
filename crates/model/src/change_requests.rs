//! Change requests: what one person asks for and another approves, where a realm wants four eyes.
//!
//! A request holds the change itself, typed and whole, so that what is approved is what was asked. Nothing of it is ever
//! altered but its decision, and that once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environments::{Exposure, RealmSettings};
use crate::ids::{ChangeRequestId, UserId, WaiverId};
use crate::names::{EnvironmentName, PipelineName, RuleName};
use crate::policies::{AccessPolicy, AccessRequirement, PolicyName, RuleFix, ShadowPolicies};
use crate::verdicts::ViolationCode;
use crate::versions::Version;

/// How long a request can be approved.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Most characters of a value in a sentence; the change itself has all of them.
const SHOWN: usize = 60;

/// A change that somebody asked for and somebody else is to decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeRequest {
    /// Names it.
    pub id: ChangeRequestId,
    /// What was asked for.
    pub change: RequestedChange,
    /// Why, in the author's words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The newest revision of what the change was based on when it was asked for.
    pub base: u64,
    /// The version of the policies then.
    pub policy_version: Version,
    /// Who asked.
    pub author: Person,
    /// When.
    pub created_at: Timestamp,
    /// From when on it can't be approved any more.
    pub expires_at: Timestamp,
    /// What became of it; `None` while nobody decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// Somebody, by what never changes and by what people read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Person {
    /// Who: the id tells people apart, also after a new name.
    pub user: UserId,
    /// Their name then.
    pub name: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decision {
    /// What was decided.
    pub outcome: Outcome,
    /// By whom.
    pub by: Person,
    /// When.
    pub at: Timestamp,
    /// Why, in their words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// How a request can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Somebody other than the author approved it: the change was made.
    Approved,
    /// Somebody other than the author rejected it.
    Rejected,
    /// The author took it back.
    Withdrawn,
}

/// How a request stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RequestState {
    /// It waits for somebody to decide.
    Pending,
    /// It was approved: the change was made.
    Approved,
    /// It was rejected.
    Rejected,
    /// Its author took it back.
    Withdrawn,
    /// Nobody decided in time.
    Expired,
}

/// A change as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RequestedChange {
    /// New values of a policy, or a custom rule made or changed.
    SetPolicy {
        /// Which policy.
        policy: PolicyName,
        /// The new values.
        environments: BTreeMap<EnvironmentName, Value>,
        /// Whether what is not named keeps its value.
        partial: bool,
        /// The condition of a custom rule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
        /// The message of a custom rule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// The fix of a custom rule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fix: Option<RuleFix>,
    },
    /// A custom rule taken away.
    RemoveRule {
        /// Which rule.
        rule: RuleName,
    },
    /// An earlier version of the policies brought back.
    RestorePolicies {
        /// Which version.
        version: Version,
    },
    /// The shadow made the next version.
    PromoteShadow {
        /// The shadow as it was when its promotion was asked for.
        shadow: ShadowPolicies,
    },
    /// An environment made, with its values of the access policies.
    CreateEnvironment {
        /// Its name.
        environment: EnvironmentName,
        /// Its values.
        policies: BTreeMap<AccessPolicy, AccessRequirement>,
        /// Where it listens.
        listeners: BTreeMap<Exposure, SocketAddr>,
    },
    /// An environment deleted, with its values of every policy.
    DeleteEnvironment {
        /// Its name.
        environment: EnvironmentName,
    },
    /// A violation waived.
    CreateWaiver {
        /// Whose violation.
        pipeline: PipelineName,
        /// Where.
        environment: EnvironmentName,
        /// Of which policy.
        policy: PolicyName,
        /// Which violation of it.
        code: ViolationCode,
        /// When the violation counts again.
        until: Timestamp,
        /// Whether it takes the place of one that lets the same violation pass.
        replace: bool,
        /// The one that it takes the place of, and of no other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        extends: Option<WaiverId>,
    },
    /// Other settings of the realm.
    SetRealmSettings {
        /// All of them.
        settings: RealmSettings,
    },
}

/// Why a request can't be decided so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// It was decided before.
    #[error("it was {} by {} at {}", .0.outcome.as_str(), .0.by.name, .0.at)]
    Decided(Decision),
    /// It has expired.
    #[error("it expired at {0}")]
    Expired(Timestamp),
    /// Only somebody else than the author can decide so.
    #[error("it is your own")]
    Own,
    /// Only the author can decide so.
    #[error("it is {0}'s")]
    NotOwn(String),
}

// === impl ChangeRequest ===

impl ChangeRequest {
    /// Returns how it stands at a moment.
    pub fn state(&self, now: Timestamp) -> RequestState {
        match &self.decision {
            Some(decision) => decision.outcome.into(),
            None if now < self.expires_at => RequestState::Pending,
            None => RequestState::Expired,
        }
    }

    /// Returns the request with a decision.
    ///
    /// # Errors
    ///
    /// [`DecideError`]: it is decided once, while it lasts; its author can withdraw it and nothing else, and nobody else
    /// can withdraw it.
    pub fn decided(&self, decision: Decision) -> Result<Self, DecideError> {
        let is_own = decision.by.user == self.author.user;
        match (&self.decision, decision.outcome) {
            (Some(before), _) => return Err(DecideError::Decided(before.clone())),
            (None, Outcome::Approved | Outcome::Rejected) if is_own => return Err(DecideError::Own),
            (None, Outcome::Withdrawn) if !is_own => {
                return Err(DecideError::NotOwn(self.author.name.clone()));
            }
            (None, _) if self.expires_at <= decision.at => return Err(DecideError::Expired(self.expires_at)),
            (None, _) => {}
        }
        Ok(Self { decision: Some(decision), ..self.clone() })
    }
}

// === impl Outcome ===

impl Outcome {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl From<Outcome> for RequestState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Approved => Self::Approved,
            Outcome::Rejected => Self::Rejected,
            Outcome::Withdrawn => Self::Withdrawn,
        }
    }
}

// === impl RequestedChange ===

impl fmt::Display for RequestedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetPolicy { policy, environments, .. } => {
                let values = environments.iter().map(|(name, value)| match value {
                    Value::String(text) => format!("{name}={}", short(text)),
                    other => format!("{name}={}", short(&other.to_string())),
                });
                write!(f, "set policy {policy}: {}", values.collect::<Vec<_>>().join(", "))
            }
            Self::RemoveRule { rule } => write!(f, "remove custom rule {rule}"),
            Self::RestorePolicies { version } => write!(f, "restore policy version {version}"),
            Self::PromoteShadow { shadow } => {
                let changed = shadow.changes.iter().map(|policy| policy.name().to_string());
                let removed = shadow.removed_rules.iter().map(|rule| format!("{rule} taken away"));
                write!(f, "promote the shadow: {}", changed.chain(removed).collect::<Vec<_>>().join(", "))
            }
            Self::CreateEnvironment { environment, policies, .. } => {
                let values =
                    policies.iter().map(|(name, value)| format!("{}={}", name.as_str(), value.as_str()));
                write!(f, "create environment {environment}: {}", values.collect::<Vec<_>>().join(", "))
            }
            Self::DeleteEnvironment { environment } => write!(f, "delete environment {environment}"),
            Self::CreateWaiver { pipeline, environment, policy, code, until, .. } => {
                write!(f, "waive {code} of policy {policy} by {pipeline} in {environment} until {until}")
            }
            Self::SetRealmSettings { settings } => {
                let on = |on| if on { "on" } else { "off" };
                write!(
                    f,
                    "set the realm's settings: four eyes for policies {}, for waivers {}, a waiver lasts {} days at most",
                    on(settings.four_eyes.policies),
                    on(settings.four_eyes.waivers),
                    settings.max_waiver_days.get()
                )?;
                // Whoever approves it must see what flows could call.
                let mut networks = settings.allow_upstreams.iter();
                if let Some(first) = networks.next() {
                    write!(f, ", flows may call {first}")?;
                    networks.try_for_each(|network| write!(f, ", {network}"))?;
                }
                match &settings.cors {
                    Some(cors) => write!(f, ", pages of {} may read", cors.allow_origins.join(", ")),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Cuts a value to what a sentence can hold.
fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn person(name: &str, byte: u8) -> Person {
        Person { user: UserId::new(AT, [byte; 10]), name: name.to_owned() }
    }

    fn request() -> ChangeRequest {
        ChangeRequest {
            id: ChangeRequestId::new(AT, [0; 10]),
            change: RequestedChange::RestorePolicies { version: Version::FIRST },
            reason: String::new(),
            base: 7,
            policy_version: Version::FIRST,
            author: person("ann", 1),
            created_at: AT,
            expires_at: AT + LIFETIME,
            decision: None,
        }
    }

    fn decide(
        request: &ChangeRequest,
        outcome: Outcome,
        by: Person,
        at: Timestamp,
    ) -> Result<(), DecideError> {
        let comment = String::new();
        request.decided(Decision { outcome, by, at, comment }).map(drop)
    }

    #[test]
    fn whoever_asked_can_withdraw_and_whoever_did_not_can_decide() {
        use Outcome::{Approved, Rejected, Withdrawn};

        // The same user under another name is the author; another user under the author's name is not.
        let (renamed, namesake) = (person("bob", 1), person("ann", 2));
        for outcome in [Approved, Rejected] {
            assert_eq!(decide(&request(), outcome, renamed.clone(), AT), Err(DecideError::Own));
            assert_eq!(decide(&request(), outcome, namesake.clone(), AT), Ok(()));
        }
        assert_eq!(decide(&request(), Withdrawn, renamed, AT), Ok(()));
        let refused = decide(&request(), Withdrawn, namesake, AT);
        assert_eq!(refused, Err(DecideError::NotOwn("ann".to_owned())));
    }

    #[test]
    fn a_request_is_decided_once_and_in_time() {
        let last = request().expires_at - SignedDuration::from_nanos(1);
        let (bob, carl) = (person("bob", 2), person("carl", 3));
        assert_eq!(decide(&request(), Outcome::Approved, bob.clone(), last), Ok(()));
        let late = decide(&request(), Outcome::Approved, bob.clone(), request().expires_at);
        assert_eq!(late, Err(DecideError::Expired(request().expires_at)));
        assert_eq!(request().state(last), RequestState::Pending);
        assert_eq!(request().state(request().expires_at), RequestState::Expired);

        let decision = Decision { outcome: Outcome::Rejected, by: bob, at: last, comment: "no".to_owned() };
        let rejected = request().decided(decision.clone()).expect("in time");
        assert_eq!(rejected.state(request().expires_at), RequestState::Rejected, "it stays so");
        for by in [carl, person("ann", 1)] {
            let again = decide(&rejected, Outcome::Approved, by, last);
            assert_eq!(again, Err(DecideError::Decided(decision.clone())));
        }
    }

    #[test]
    fn every_change_is_stored_whole_and_nothing_else_is_taken_for_one() {
        let shadow = json!({ "changes": [{ "name": "external-api-access", "environments": { "test": "any" } }],
            "createdAt": "2026-01-01T00:00:00Z", "createdBy": "ann" });
        for text in [
            json!({ "type": "setPolicy", "policy": "a-rule", "environments": { "test": "required" }, "partial": true,
                "condition": "trigger.apiKey", "fix": { "pointer": "/trigger/apiKey", "value": true } }),
            json!({ "type": "setPolicy", "policy": "enforcement", "partial": false,
                "environments": { "test": { "atGateway": "2030-01-31T00:00:00Z" }, "prod": "atDeploy" } }),
            json!({ "type": "removeRule", "rule": "a-rule" }),
            json!({ "type": "restorePolicies", "version": "1.2" }),
            json!({ "type": "promoteShadow", "shadow": shadow }),
            json!({ "type": "createEnvironment", "environment": "staging",
                "policies": { "external-api-access": "any", "internal-api-access": "api-key" },
                "listeners": { "external": "127.0.0.1:7003" } }),
            json!({ "type": "deleteEnvironment", "environment": "staging" }),
            json!({ "type": "createWaiver", "pipeline": "shop", "environment": "test", "policy": "external-api-access",
                "code": "missing-jwt", "until": "2030-01-31T00:00:00Z", "replace": false }),
            json!({ "type": "createWaiver", "pipeline": "shop", "environment": "test", "policy": "external-api-access",
                "code": "missing-jwt", "until": "2030-01-31T00:00:00Z", "replace": true,
                "extends": "wvr_01a20f1e149277a5bb4a865900e000ac" }),
            json!({ "type": "setRealmSettings", "settings": { "maxWaiverDays": 30 } }),
        ] {
            let change: RequestedChange = serde_json::from_value(text.clone()).expect("a change");
            assert_eq!(serde_json::to_value(&change).expect("JSON"), text);
            assert!(!change.to_string().is_empty());
            let mut more = text;
            more["more"] = json!(1);
            assert!(serde_json::from_value::<RequestedChange>(more).is_err(), "{change}");
        }
    }
}
