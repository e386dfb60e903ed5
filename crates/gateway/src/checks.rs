//! The checks that a call passes before its flow runs, in the order in which design and documentation list them.
//!
//! The order is part of the contract: the first check that fails answers, so that a caller always learns the same
//! thing first. What the order protects: nothing is said about a pipeline's callers before a key was shown, and no
//! body is read before all credentials are good.
//!
//! A check that cannot be made answers 503: never open, never "your credentials are wrong".

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use jiff::Timestamp;
use tollgate_credential::basic;
use tollgate_credential::keys::PresentedKey;
use tollgate_credential::tokens::Claims;
use tollgate_model::calls::{Shown, ShownCredentials};
use tollgate_model::ids::{ConsumerId, KeyId};
use tollgate_model::triggers::{ApiKeySwitch, RateLimitBy};
use tollgate_snapshot::{ConsumerEntry, Endpoint, EndpointRoute, KeyEntry, Scope};
use zeroize::Zeroizing;

use crate::passwords::PasswordChecks;
use crate::problem::{Code, Problem};
use crate::rate_limits::{Caller, Decision, RateLimits};
use crate::request::Head;
use crate::usage::Usage;

/// The right to run one flow once. Only [`Checks::pass`] makes one for a call.
pub(crate) struct Permit {
    consumer: Option<Arc<ConsumerEntry>>,
    key: Option<KeyId>,
    claims: Option<Claims>,
    quota: Option<Decision>,
}

/// Whose credentials a call carries, for the log.
pub(crate) type Known = Option<Arc<ConsumerEntry>>;

/// What the checks look at besides the call.
pub(crate) struct Checks<'a> {
    pub(crate) passwords: &'a PasswordChecks,
    pub(crate) rate_limits: &'a RateLimits,
    pub(crate) usage: &'a Usage,
}

/// A call whose route is known.
pub(crate) struct Target<'a> {
    pub(crate) head: &'a Head<'a>,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) route: &'a EndpointRoute,
    /// `None` when the snapshot has nothing of this realm and environment.
    pub(crate) scope: Option<&'a Scope>,
    pub(crate) remote: IpAddr,
    pub(crate) now: Timestamp,
}

/// Somebody whose credentials are good.
struct Holder {
    consumer: Arc<ConsumerEntry>,
    credential: Caller,
}

/// Why a token was refused.
pub(crate) enum TokenError {
    Unavailable,
    Invalid,
    OtherConsumer,
}

// === impl Permit ===

impl Permit {
    /// Returns who calls; `None` where no credentials are demanded.
    pub(crate) fn consumer(&self) -> Option<&Arc<ConsumerEntry>> {
        self.consumer.as_ref()
    }

    /// Returns the API key that the trigger demanded.
    pub(crate) fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// Takes the claims of the token that the trigger demanded.
    pub(crate) fn take_claims(&mut self) -> Option<Claims> {
        self.claims.take()
    }

    /// Takes what the rate limit says, for the answer.
    pub(crate) fn take_quota(&mut self) -> Option<Decision> {
        self.quota.take()
    }

    /// Returns the right of a schedule to run its flow: it has no caller who could be checked.
    pub(crate) fn of_schedule() -> Self {
        Self { consumer: None, key: None, claims: None, quota: None }
    }
}

// === impl Checks ===

impl Checks<'_> {
    /// Makes every check that the trigger demands.
    ///
    /// `known` is told whose credentials the call carries as soon as they are good, also when a later check refuses it.
    pub(crate) async fn pass(&self, target: &Target<'_>, known: &mut Known) -> Result<Permit, Problem> {
        let trigger = &target.endpoint.trigger;
        let mut holder = None;
        if trigger.api_key.is_on() {
            holder = Some(self.api_key(target, known)?);
        }
        if trigger.basic_auth {
            holder = Some(self.basic_auth(target, holder.as_ref(), known).await?);
        }
        let mut claims = None;
        if trigger.jwt.is_on() {
            let (token, consumer) = jwt(target, holder.as_ref(), known)?;
            holder.get_or_insert_with(|| Holder { credential: Caller::Consumer(consumer.id), consumer });
            claims = Some(token);
        }
        let quota = self.rate_limit(target, holder.as_ref())?;
        let key = holder.as_ref().and_then(|holder| match holder.credential {
            Caller::Key(id) => Some(id),
            _ => None,
        });
        Ok(Permit { consumer: holder.map(|holder| holder.consumer), key, claims, quota })
    }

    fn api_key(&self, target: &Target<'_>, known: &mut Known) -> Result<Holder, Problem> {
        let header = target.head.api_key.map(|key| Cow::Borrowed(key.as_bytes()));
        let presented = match target.endpoint.trigger.api_key {
            ApiKeySwitch::OnWithQuery => {
                let query = target.head.query_api_key()?.map(|key| Cow::Owned(key.into_bytes()));
                header.or(query)
            }
            ApiKeySwitch::On | ApiKeySwitch::Off => header,
        };
        let presented = presented.ok_or_else(|| Problem::new(Code::ApiKeyMissing).challenge("ApiKey"))?;
        let scope = target.scope()?;
        let invalid = || Problem::new(Code::ApiKeyInvalid).challenge("ApiKey");
        let entry = PresentedKey::parse(&presented, &target.endpoint.environment)
            .ok()
            .and_then(|key| scope.keys.get(&key.digest()))
            .filter(|entry| is_live(entry, target.now))
            .ok_or_else(invalid)?;
        let consumer = scope.consumers.get(&entry.consumer).ok_or_else(invalid)?;
        self.usage.note(entry.id, target.now);
        *known = Some(consumer.clone());
        target.demand_association(consumer)?;
        Ok(Holder { consumer: consumer.clone(), credential: Caller::Key(entry.id) })
    }

    async fn basic_auth(
        &self,
        target: &Target<'_>,
        key_holder: Option<&Holder>,
        known: &mut Known,
    ) -> Result<Holder, Problem> {
        let challenge = r#"Basic realm="tollgate", charset="UTF-8""#;
        let invalid = || Problem::new(Code::BasicAuthInvalid).challenge(challenge);
        let credentials =
            target.head.authorization.and_then(|value| basic::parse(value.as_bytes())).ok_or_else(invalid)?;
        let scope = target.scope()?;
        let entry = scope.basic.get(&credentials.username);
        let stored = entry.map(|entry| entry.password_hash.clone());
        let fits = self
            .passwords
            .verify(credentials.password, stored)
            .await
            .map_err(|_| Problem::new(Code::Overloaded).retry_after(1))?;
        let entry = entry.filter(|_| fits).ok_or_else(invalid)?;
        let consumer = scope.consumers.get(&entry.consumer).ok_or_else(invalid)?;
        if key_holder.is_some_and(|holder| holder.consumer.id != consumer.id) {
            return Err(invalid());
        }
        *known = Some(consumer.clone());
        target.demand_association(consumer)?;
        let credential = key_holder.map_or(Caller::BasicAuth(entry.id), |holder| holder.credential);
        Ok(Holder { consumer: consumer.clone(), credential })
    }

    fn rate_limit(&self, target: &Target<'_>, holder: Option<&Holder>) -> Result<Option<Decision>, Problem> {
        let Some(limit) = &target.endpoint.trigger.rate_limit else { return Ok(None) };
        let caller = match (limit.by, holder) {
            (_, None) => Caller::address(target.remote),
            (RateLimitBy::Consumer, Some(holder)) => Caller::Consumer(holder.consumer.id),
            (RateLimitBy::Credential, Some(holder)) => holder.credential,
        };
        let limits = limit.limits.as_slice();
        let decision = self.rate_limits.charge(target.endpoint.deployment, caller, limits, target.now);
        match decision.retry_after {
            None => Ok(Some(decision)),
            Some(seconds) => Err(Problem::new(Code::RateLimited).retry_after(seconds).quota(&decision)),
        }
    }
}

// === impl Target ===

impl<'a> Target<'a> {
    /// Returns what callers are checked against.
    pub(crate) fn scope(&self) -> Result<&'a Scope, Problem> {
        self.scope.ok_or_else(|| Problem::new(Code::CheckUnavailable))
    }

    /// Returns which credentials the call shows, once it has passed: those that the trigger demands were verified, of
    /// others it is only said whether they were sent.
    pub(crate) fn shown(&self) -> ShownCredentials {
        let trigger = &self.endpoint.trigger;
        let shown = |demanded: bool, sent: bool| match (demanded, sent) {
            (true, _) => Shown::Verified,
            (false, true) => Shown::Sent,
            (false, false) => Shown::Nothing,
        };
        let scheme = self.head.authorization.and_then(authorization_scheme).unwrap_or_default();
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        ShownCredentials {
            api_key: shown(trigger.api_key.is_on(), self.head.api_key.is_some()),
            token: shown(trigger.jwt.is_on(), is("bearer")),
            basic_auth: shown(trigger.basic_auth, is("basic")),
        }
    }

    fn demand_association(&self, consumer: &ConsumerEntry) -> Result<(), Problem> {
        if consumer.may_call(&self.endpoint.pipeline) {
            Ok(())
        } else {
            Err(Problem::new(Code::ConsumerNotAllowed))
        }
    }
}

/// Tells whether a key works. A revoked one never does, even if our clock is behind that of whoever revoked it.
fn is_live(key: &KeyEntry, now: Timestamp) -> bool {
    key.revoked_at.is_none() && key.expires_at.is_none_or(|at| now < at)
}

fn jwt(
    target: &Target<'_>,
    holder: Option<&Holder>,
    known: &mut Known,
) -> Result<(Claims, Arc<ConsumerEntry>), Problem> {
    let token = bearer(target.head.authorization)
        .ok_or_else(|| Problem::new(Code::JwtMissing).challenge("Bearer"))?;
    let holder = holder.map(|holder| holder.consumer.id);
    let (claims, consumer) =
        verify_token(target.scope()?, &token, holder, target.now).map_err(|error| match error {
            TokenError::Unavailable => Problem::new(Code::CheckUnavailable),
            TokenError::Invalid => {
                Problem::new(Code::JwtInvalid).challenge(r#"Bearer error="invalid_token""#)
            }
            TokenError::OtherConsumer => Problem::new(Code::JwtConsumerMismatch),
        })?;
    *known = Some(consumer.clone());
    target.demand_association(&consumer)?;
    if target.route.scopes.iter().all(|scope| claims.has_scope(scope)) {
        Ok((claims, consumer))
    } else {
        Err(Problem::new(Code::ScopeMissing).challenge(r#"Bearer error="insufficient_scope""#))
    }
}

/// Verifies a token of an environment: signature and times, revocation, and that it belongs to `holder`, when there is
/// one. Returns what it says and whose it is.
pub(crate) fn verify_token(
    scope: &Scope,
    token: &str,
    holder: Option<ConsumerId>,
    now: Timestamp,
) -> Result<(Claims, Arc<ConsumerEntry>), TokenError> {
    let key_set = scope.key_set.as_ref().map_err(|_| TokenError::Unavailable)?;
    let claims = key_set.verify(token, now).map_err(|error| {
        tracing::debug!(%error, "a token was refused");
        TokenError::Invalid
    })?;
    if scope.revoked_tokens.contains(&claims.jti) {
        return Err(TokenError::Invalid);
    }
    let consumer = scope.consumer_of_subject(&claims.subject).ok_or(TokenError::Invalid)?;
    if consumer.has_revoked_tokens_of(claims.issued_at) {
        return Err(TokenError::Invalid);
    }
    if holder.is_some_and(|holder| holder != consumer.id) {
        return Err(TokenError::OtherConsumer);
    }
    Ok((claims, consumer.clone()))
}

/// Returns the scheme of credentials (RFC 9110 section 11.4), when something follows it.
fn authorization_scheme(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, rest) = authorization.to_str().ok()?.split_once(' ')?;
    (!rest.trim_start_matches(' ').is_empty()).then_some(scheme)
}

/// Returns the bearer token of a call (RFC 6750 section 2.1).
pub(crate) fn bearer(authorization: Option<&HeaderValue>) -> Option<Zeroizing<String>> {
    let (scheme, token) = authorization?.to_str().ok()?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Zeroizing::new(token.to_owned()))
}
