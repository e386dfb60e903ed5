//! The checks that a call passes before its flow runs, in the order in which design and documentation list them.
//!
//! The order is part of the contract: the first check that fails answers, so that a caller always learns the same
//! thing first. What the order protects: nothing is said about a pipeline's callers before a key was shown, and no
//! body is read before all credentials are good.
//!
//! A check that cannot be made answers 503: never open, never "your credentials are wrong".
//!
//! Whoever explains a call has it go through the same checks; see [`Watch`]. What a refusal says besides its code
//! ([`Why`]) no caller learns.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use jiff::Timestamp;
use tollgate_credential::basic;
use tollgate_credential::keys::{ParseKeyError, PresentedKey};
use tollgate_credential::tokens::Claims;
use tollgate_credential::verified_tokens::VerifiedTokens;
use tollgate_listener::ClientCertificate;
use tollgate_model::calls::{Shown, ShownCredentials};
use tollgate_model::certificates::Fingerprint;
use tollgate_model::explanations::Check;
use tollgate_model::ids::{CertificateId, CredentialId, KeyId};
use tollgate_model::triggers::{ApiKeySwitch, RateLimitBy};
use tollgate_snapshot::{CertificateEntry, ConsumerEntry, Endpoint, EndpointRoute, KeyRing, Scope};
use zeroize::Zeroizing;

use crate::bad_credentials::{BadCredentials, Guess};
use crate::passwords::PasswordChecks;
use crate::problem::{Code, Problem};
use crate::rate_limits::{Caller, Decision, RateLimits};
use crate::request::Head;
use crate::tokens::{TokenChecks, TokenError};
use crate::usage::Usage;
use crate::watch::Watch;
use crate::why::Why;

/// The right to run one flow once. Only [`Checks::pass`] makes one for a call.
pub(crate) struct Permit {
    consumer: Option<Arc<ConsumerEntry>>,
    credential: Option<CredentialId>,
    claims: Option<Arc<Claims>>,
    quota: Option<Decision>,
}

/// Whose credentials a call carries, for the log and for whoever explains a refusal.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) consumer: Option<Arc<ConsumerEntry>>,
    pub(crate) key: Option<KeyId>,
    pub(crate) certificate: Option<CertificateId>,
}

/// What the checks look at besides the call.
pub(crate) struct Checks<'a> {
    pub(crate) passwords: &'a PasswordChecks,
    pub(crate) rate_limits: &'a RateLimits,
    pub(crate) bad_credentials: &'a BadCredentials,
    pub(crate) usage: &'a Usage,
    pub(crate) verified_tokens: &'a VerifiedTokens,
    pub(crate) issuer_keys: &'a KeyRing,
}

/// A call whose route is known.
pub(crate) struct Target<'a> {
    pub(crate) head: Head<'a>,
    /// What the caller showed in the TLS handshake, where the listener asks for it.
    pub(crate) certificate: Option<&'a ClientCertificate>,
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

// === impl Permit ===

impl Permit {
    /// Returns who calls; `None` where no credentials are demanded.
    pub(crate) fn consumer(&self) -> Option<&Arc<ConsumerEntry>> {
        self.consumer.as_ref()
    }

    /// Returns what told who calls, where that was not a token: the first that the trigger demanded.
    pub(crate) fn credential(&self) -> Option<CredentialId> {
        self.credential
    }

    /// Takes the claims of the token that the trigger demanded.
    pub(crate) fn take_claims(&mut self) -> Option<Arc<Claims>> {
        self.claims.take()
    }

    /// Takes what the rate limit says, for the answer.
    pub(crate) fn take_quota(&mut self) -> Option<Decision> {
        self.quota.take()
    }

    /// Returns the right of a schedule to run its flow: it has no caller who could be checked.
    pub(crate) fn of_schedule() -> Self {
        Self { consumer: None, credential: None, claims: None, quota: None }
    }
}

// === impl Checks ===

impl Checks<'_> {
    /// Makes every check that the trigger demands.
    ///
    /// `known` is told whose credentials the call carries as soon as they are good, also when a later check refuses it.
    pub(crate) async fn pass<W: Watch>(
        &self,
        target: &Target<'_>,
        known: &mut Known,
        watch: &mut W,
    ) -> Result<Permit, Problem> {
        let outcome = self.check(target, known, watch).await;
        outcome.map_err(|problem| self.guarded::<W>(target, problem))
    }

    /// Counts a bad credential, and refuses it in another way when its address sends too many.
    fn guarded<W: Watch>(&self, target: &Target<'_>, problem: Problem) -> Problem {
        let Some(guess) = problem.guess() else { return problem };
        let wait = self.bad_credentials.wait(target.remote, guess, target.now);
        if !W::REHEARSAL {
            self.bad_credentials.note(target.remote, guess, target.now);
        }
        match wait {
            Some(seconds) => problem.instead(Code::TooManyBadCredentials).retry_after(seconds).close(),
            None => problem,
        }
    }

    async fn check<W: Watch>(
        &self,
        target: &Target<'_>,
        known: &mut Known,
        watch: &mut W,
    ) -> Result<Permit, Problem> {
        let trigger = &target.endpoint.trigger;
        let mut holder = None;
        if trigger.api_key.is_on() {
            holder = Some(self.api_key(target, known, watch)?);
        }
        if trigger.mtls {
            holder = Some(self.certificate(target, holder.as_ref(), known, watch)?);
        }
        if trigger.basic_auth {
            // Apart, since most calls wait for no password.
            holder = Some(Box::pin(self.basic_auth(target, holder.as_ref(), known, watch)).await?);
        }
        let mut claims = None;
        if trigger.jwt.is_on() {
            let (token, consumer) = self.jwt(target, holder.as_ref(), known, watch)?;
            holder.get_or_insert_with(|| Holder { credential: Caller::Consumer(consumer.id), consumer });
            claims = Some(token);
        }
        let quota = self.rate_limit(target, holder.as_ref(), watch)?;
        let credential = holder.as_ref().and_then(|holder| match holder.credential {
            Caller::Credential(id) => Some(id),
            Caller::Consumer(_) | Caller::Address(_) => None,
        });
        Ok(Permit { consumer: holder.map(|holder| holder.consumer), credential, claims, quota })
    }

    fn api_key<W: Watch>(
        &self,
        target: &Target<'_>,
        known: &mut Known,
        watch: &mut W,
    ) -> Result<Holder, Problem> {
        let header = target.head.api_key.map(|key| Cow::Borrowed(key.as_bytes()));
        let presented = match target.endpoint.trigger.api_key {
            ApiKeySwitch::OnWithQuery => {
                let query =
                    target.head.query_api_key().map_err(|problem| problem.at(Check::ApiKeyPresent))?;
                header.or(query.map(|key| Cow::Owned(key.into_bytes())))
            }
            ApiKeySwitch::On | ApiKeySwitch::Off => header,
        };
        let presented = presented.ok_or_else(|| Problem::new(Code::ApiKeyMissing).challenge("ApiKey"))?;
        watch.passed(Check::ApiKeyPresent, || None);
        let scope = target.scope(Check::ApiKeyForm)?;
        let invalid =
            |check, why| Problem::new(Code::ApiKeyInvalid).challenge("ApiKey").at(check).because(why);
        let parsed = PresentedKey::parse(&presented, &target.endpoint.environment);
        let key = parsed.map_err(|error| {
            let check = match error {
                ParseKeyError::Shape => Check::ApiKeyForm,
                ParseKeyError::Environment => Check::ApiKeyEnvironment,
                ParseKeyError::Checksum => Check::ApiKeyChecksum,
            };
            passed_before(
                check,
                &[Check::ApiKeyForm, Check::ApiKeyEnvironment, Check::ApiKeyChecksum],
                watch,
            );
            invalid(check, Why::KeyShape(error)).guessed(Guess::Made)
        })?;
        for check in [Check::ApiKeyForm, Check::ApiKeyEnvironment, Check::ApiKeyChecksum] {
            watch.passed(check, || None);
        }
        let unknown = || {
            let why = Why::Said("no consumer of this environment has this key");
            invalid(Check::ApiKeyKnown, why).guessed(Guess::Made)
        };
        let entry = scope.keys.get(&key.digest()).ok_or_else(unknown)?;
        let holder = scope.consumers.get(&entry.consumer);
        // A revoked key never works, even if our clock is behind that of whoever revoked it.
        let is_revoked = entry.revoked_at.is_some();
        if is_revoked || entry.expires_at.is_some_and(|at| at <= target.now) {
            watch.passed(Check::ApiKeyKnown, || None);
            let check = if is_revoked { Check::ApiKeyNotRevoked } else { Check::ApiKeyNotExpired };
            passed_before(check, &[Check::ApiKeyNotRevoked, Check::ApiKeyNotExpired], watch);
            return Err(invalid(check, Why::Key(Arc::new(entry), holder.cloned())));
        }
        let consumer = holder.ok_or_else(|| {
            invalid(Check::ApiKeyKnown, Why::Said("the consumer of this key no longer exists"))
        })?;
        watch.passed(Check::ApiKeyKnown, || Some(format!("{} of consumer {}", entry.id, consumer.name)));
        watch.passed(Check::ApiKeyNotRevoked, || None);
        watch.passed(Check::ApiKeyNotExpired, || entry.expires_at.map(|at| format!("it expires at {at}")));
        if !W::REHEARSAL {
            self.usage.note(entry.id.into(), target.now);
        }
        *known = Known { consumer: Some(consumer.clone()), key: Some(entry.id), certificate: None };
        target.demand_association(consumer, Check::ApiKeyAssociation, watch)?;
        Ok(Holder { consumer: consumer.clone(), credential: Caller::Credential(entry.id.into()) })
    }

    /// Checks the client certificate of the connection. The handshake let it in; whether it is good, and whose it is, is
    /// asked for each call, so that what is revoked is refused on connections that were there before, too.
    fn certificate<W: Watch>(
        &self,
        target: &Target<'_>,
        key_holder: Option<&Holder>,
        known: &mut Known,
        watch: &mut W,
    ) -> Result<Holder, Problem> {
        let shown = target.certificate.ok_or_else(|| {
            let why = Why::Said("this listener asks for no client certificate: another one does");
            Problem::new(Code::ClientCertificateMissing).challenge(CERTIFICATE).because(why)
        })?;
        watch.passed(Check::CertificatePresent, || None);
        let scope = target.scope(Check::CertificateValid)?;
        let invalid = |check, why| {
            Problem::new(Code::ClientCertificateInvalid).challenge(CERTIFICATE).at(check).because(why)
        };
        let second = u64::try_from(target.now.as_second()).unwrap_or_default();
        let issuers = shown.check(second).map_err(|error| {
            let why = Why::Certificate(error);
            if error.is_unavailable() {
                Problem::new(Code::CheckUnavailable).at(Check::CertificateValid).because(why)
            } else {
                invalid(Check::CertificateValid, why)
            }
        })?;
        watch.passed(Check::CertificateValid, || None);
        let bindings = scope
            .certificates
            .of(Fingerprint(*shown.fingerprint()), shown.names())
            .filter(|entry| entry.issuer.is_none_or(|issuer| issuers.contains(&issuer.0)));
        let entry = the_binding(bindings, target.now)
            .map_err(|why| invalid(Check::CertificateKnown, why.told(scope)))?;
        let gone = Why::Said("the consumer of this client certificate no longer exists");
        let consumer =
            scope.consumers.get(&entry.consumer).ok_or_else(|| invalid(Check::CertificateKnown, gone))?;
        watch.passed(Check::CertificateKnown, || Some(format!("{} of consumer {}", entry.id, consumer.name)));
        if !W::REHEARSAL {
            self.usage.note(entry.id.into(), target.now);
        }
        known.certificate = Some(entry.id);
        if key_holder.is_some_and(|holder| holder.consumer.id != consumer.id) {
            return Err(Problem::new(Code::ClientCertificateConsumerMismatch)
                .because(Why::CertificateOf(consumer.clone())));
        }
        if key_holder.is_some() {
            watch.passed(Check::CertificateBinding, || None);
        }
        known.consumer = Some(consumer.clone());
        target.demand_association(consumer, Check::CertificateAssociation, watch)?;
        let credential = key_holder.map_or(Caller::Credential(entry.id.into()), |holder| holder.credential);
        Ok(Holder { consumer: consumer.clone(), credential })
    }

    async fn basic_auth<W: Watch>(
        &self,
        target: &Target<'_>,
        key_holder: Option<&Holder>,
        known: &mut Known,
        watch: &mut W,
    ) -> Result<Holder, Problem> {
        let challenge = r#"Basic realm="tollgate", charset="UTF-8""#;
        let invalid =
            |check, why| Problem::new(Code::BasicAuthInvalid).challenge(challenge).at(check).because(why);
        let credentials =
            target.head.authorization.and_then(|value| basic::parse(value.as_bytes())).ok_or_else(|| {
                invalid(Check::BasicAuthPresent, Why::Said("there are no Basic credentials that can be read"))
            })?;
        watch.passed(Check::BasicAuthPresent, || None);
        let scope = target.scope(Check::BasicAuthValid)?;
        let entry = scope.basic.get(&credentials.username);
        let stored = entry.map(|entry| entry.password_hash.clone());
        let wait = self.bad_credentials.wait(target.remote, Guess::Password, target.now);
        if let Some(seconds) =
            wait.filter(|_| !self.passwords.remembers(&credentials.password, stored.as_deref()))
        {
            let why = Why::Said("its address sent too many bad passwords; this one was not looked at");
            let problem = Problem::new(Code::TooManyBadCredentials).at(Check::BasicAuthValid).because(why);
            return Err(problem.retry_after(seconds).close());
        }
        let fits = self.passwords.verify(credentials.password, stored).await.map_err(|_| {
            let why = Why::Said("too many passwords are being verified");
            Problem::new(Code::Overloaded).at(Check::BasicAuthValid).because(why).retry_after(1)
        })?;
        let wrong = || match entry {
            Some(entry) => invalid(Check::BasicAuthValid, Why::Basic(entry.clone())),
            None => invalid(
                Check::BasicAuthValid,
                Why::Said("no consumer of this environment has this user name"),
            ),
        };
        let entry = entry.filter(|_| fits).ok_or_else(|| wrong().guessed(Guess::Password))?;
        let gone = Why::Said("the consumer of these credentials no longer exists");
        let consumer =
            scope.consumers.get(&entry.consumer).ok_or_else(|| invalid(Check::BasicAuthValid, gone))?;
        watch.passed(Check::BasicAuthValid, || Some(format!("{} of consumer {}", entry.id, consumer.name)));
        if !W::REHEARSAL {
            self.usage.note(entry.id.into(), target.now);
        }
        if key_holder.is_some_and(|holder| holder.consumer.id != consumer.id) {
            return Err(invalid(Check::BasicAuthBinding, Why::BasicOf(consumer.clone())));
        }
        if key_holder.is_some() {
            watch.passed(Check::BasicAuthBinding, || None);
        }
        known.consumer = Some(consumer.clone());
        target.demand_association(consumer, Check::BasicAuthAssociation, watch)?;
        let credential = key_holder.map_or(Caller::Credential(entry.id.into()), |holder| holder.credential);
        Ok(Holder { consumer: consumer.clone(), credential })
    }

    fn jwt<W: Watch>(
        &self,
        target: &Target<'_>,
        holder: Option<&Holder>,
        known: &mut Known,
        watch: &mut W,
    ) -> Result<(Arc<Claims>, Arc<ConsumerEntry>), Problem> {
        let token = bearer_text(target.head.authorization)
            .ok_or_else(|| Problem::new(Code::JwtMissing).challenge("Bearer"))?;
        watch.passed(Check::TokenPresent, || None);
        let holder = holder.map(|holder| holder.consumer.id);
        let scope = target.scope(Check::TokenForm)?;
        let checks = TokenChecks {
            scope,
            issuers: target.endpoint.trigger.jwt.issuers(),
            memory: self.verified_tokens,
            keys: self.issuer_keys,
            now: target.now,
        };
        let (claims, consumer) = checks.verify(token, holder, watch).map_err(|error| match error {
            TokenError::Unavailable(check, why) => {
                Problem::new(Code::CheckUnavailable).at(check).because(why).retry_after(1)
            }
            TokenError::Invalid(check, why) => {
                let problem = Problem::new(Code::JwtInvalid).challenge(INVALID_TOKEN).at(check).because(why);
                // What has a good signature was issued once. A key that is not known here may be a new one of an issuer outside.
                let is_made_up = match check {
                    Check::TokenForm | Check::TokenSignature => true,
                    Check::TokenKey => checks.issuers.is_none(),
                    _ => false,
                };
                if is_made_up { problem.guessed(Guess::Made) } else { problem }
            }
            TokenError::OtherConsumer(of) => {
                Problem::new(Code::JwtConsumerMismatch).because(Why::TokenOf(of))
            }
        })?;
        known.consumer = Some(consumer.clone());
        target.demand_association(&consumer, Check::TokenAssociation, watch)?;
        let scopes = &target.route.scopes;
        if scopes.iter().all(|scope| claims.has_scope(scope)) {
            if !scopes.is_empty() {
                watch.passed(Check::Scopes, || None);
            }
            return Ok((claims, consumer));
        }
        let has = claims.scopes_text();
        Err(Problem::new(Code::ScopeMissing)
            .challenge(r#"Bearer error="insufficient_scope""#)
            .because(Why::Scopes(has.chars().take(200).collect())))
    }

    fn rate_limit<W: Watch>(
        &self,
        target: &Target<'_>,
        holder: Option<&Holder>,
        watch: &mut W,
    ) -> Result<Option<Decision>, Problem> {
        let Some(limit) = &target.endpoint.trigger.rate_limit else { return Ok(None) };
        let caller = match (limit.by, holder) {
            (_, None) => Caller::address(target.remote),
            (RateLimitBy::Consumer, Some(holder)) => Caller::Consumer(holder.consumer.id),
            (RateLimitBy::Credential, Some(holder)) => holder.credential,
        };
        let (limits, api) = (limit.limits.as_slice(), target.endpoint.api);
        let decision = if W::REHEARSAL {
            self.rate_limits.look(api, caller, limits, target.now)
        } else {
            self.rate_limits.charge(api, caller, limits, target.now)
        };
        match decision.retry_after {
            None => {
                watch
                    .passed(Check::RateLimit, || Some(format!("left after this call: {}", decision.words())));
                Ok(Some(decision))
            }
            Some(seconds) => Err(Problem::new(Code::RateLimited).retry_after(seconds).quota(&decision)),
        }
    }
}

/// The challenge to a token that is no good (RFC 6750 section 3.1).
pub(crate) const INVALID_TOKEN: &str = r#"Bearer error="invalid_token""#;

/// The scheme in the challenge of a client certificate. HTTP knows none for it, and demands one (RFC 9110 section 15.5.2).
const CERTIFICATE: &str = "ClientCertificate";

/// Why a client certificate is nobody's.
enum Unbound<'a> {
    Unknown,
    Ended(&'a Arc<CertificateEntry>),
    /// It could be several consumers'.
    Several,
}

/// Returns the binding by which a client certificate is somebody's, from all that fit it. When they do not agree whose it
/// is, it is nobody's.
fn the_binding<'a>(
    bindings: impl Iterator<Item = &'a Arc<CertificateEntry>>,
    now: Timestamp,
) -> Result<&'a Arc<CertificateEntry>, Unbound<'a>> {
    let (mut working, mut ended): (Option<&Arc<CertificateEntry>>, _) = (None, None);
    for entry in bindings {
        if !entry.works(now) {
            ended = Some(entry);
        } else if working.is_some_and(|first| first.consumer != entry.consumer) {
            return Err(Unbound::Several);
        } else {
            working.get_or_insert(entry);
        }
    }
    working.ok_or(ended.map_or(Unbound::Unknown, Unbound::Ended))
}

// === impl Unbound ===

impl Unbound<'_> {
    fn told(self, scope: &Scope) -> Why {
        match self {
            Self::Unknown => Why::Said("no consumer of this environment has this client certificate"),
            Self::Ended(entry) => Why::Binding(entry.clone(), scope.consumers.get(&entry.consumer).cloned()),
            Self::Several => Why::Said(
                "its fingerprint and its names are bound to more than one consumer: revoke a binding",
            ),
        }
    }
}

/// Tells that the steps before one that failed were passed.
pub(crate) fn passed_before<W: Watch>(failed: Check, steps: &[Check], watch: &mut W) {
    steps.iter().take_while(|step| **step != failed).for_each(|step| watch.passed(*step, || None));
}

// === impl Target ===

impl<'a> Target<'a> {
    /// Returns what callers are checked against, for a check that needs it.
    pub(crate) fn scope(&self, check: Check) -> Result<&'a Scope, Problem> {
        self.scope.ok_or_else(|| {
            let why = Why::Said("nothing is known of this environment");
            Problem::new(Code::CheckUnavailable).at(check).because(why)
        })
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
            certificate: shown(trigger.mtls, self.certificate.is_some()),
            token: shown(trigger.jwt.is_on(), is("bearer")),
            basic_auth: shown(trigger.basic_auth, is("basic")),
        }
    }

    fn demand_association<W: Watch>(
        &self,
        consumer: &Arc<ConsumerEntry>,
        check: Check,
        watch: &mut W,
    ) -> Result<(), Problem> {
        if consumer.may_call(&self.endpoint.pipeline) {
            watch.passed(check, || Some(format!("consumer {} may call this pipeline", consumer.name)));
            return Ok(());
        }
        Err(Problem::new(Code::ConsumerNotAllowed).at(check).because(Why::NotAssociated(consumer.clone())))
    }
}

/// Returns the scheme of credentials (RFC 9110 section 11.4), when something follows it.
fn authorization_scheme(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, rest) = authorization.to_str().ok()?.split_once(' ')?;
    (!rest.trim_start_matches(' ').is_empty()).then_some(scheme)
}

/// Returns the bearer token of a call (RFC 6750 section 2.1), where it stands.
pub(crate) fn bearer_text(authorization: Option<&HeaderValue>) -> Option<&str> {
    let (scheme, token) = authorization?.to_str().ok()?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Returns the bearer token of a call, for a flow that goes on with it.
pub(crate) fn bearer(authorization: Option<&HeaderValue>) -> Option<Zeroizing<String>> {
    bearer_text(authorization).map(|token| Zeroizing::new(token.to_owned()))
}
