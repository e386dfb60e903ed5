//! Tokens: who issued one, whether it counts here, and whose it is.
//!
//! Which issuers count is the trigger's to say; a token that names another is refused before anything else is looked at.
//! Nothing is fetched on the way of a call. A token of an issuer whose keys are not there, or are too old, can't be
//! checked: 503. One that names an unknown key has its issuer's keys fetched, once in a while; until they are newer than
//! the question nobody knows, which is 503 too, and then the answer is 401.

use std::sync::Arc;

use jiff::Timestamp;
use tollgate_credential::issuers::{OpenedToken, TokenDemands, consumer_of};
use tollgate_credential::keysets::VerifyTokenError;
use tollgate_credential::tokens::Claims;
use tollgate_credential::verified_tokens::VerifiedTokens;
use tollgate_model::explanations::Check;
use tollgate_model::ids::ConsumerId;
use tollgate_model::names::IssuerName;
use tollgate_snapshot::{ConsumerEntry, IssuerEntry, KeyRing, Scope};

use crate::checks::passed_before;
use crate::watch::Watch;
use crate::why::Why;

/// What verifying a token consists of, in order.
const TOKEN_STEPS: [Check; 6] = [
    Check::TokenForm,
    Check::TokenKey,
    Check::TokenSignature,
    Check::TokenIssuer,
    Check::TokenAudience,
    Check::TokenTimes,
];

/// What tokens are verified against.
#[derive(Clone, Copy)]
pub(crate) struct TokenChecks<'a> {
    pub(crate) scope: &'a Scope,
    /// Whose tokens count; those of login flows only, without a list.
    pub(crate) issuers: Option<&'a [IssuerName]>,
    pub(crate) memory: &'a VerifiedTokens,
    pub(crate) keys: &'a KeyRing,
    pub(crate) now: Timestamp,
}

/// Why a token was refused.
pub(crate) enum TokenError {
    /// It cannot be verified now, which may be otherwise soon.
    Unavailable(Check, Why),
    /// It is no good, by the check that says so.
    Invalid(Check, Why),
    /// It is of another consumer.
    OtherConsumer(Arc<ConsumerEntry>),
}

// === impl TokenChecks ===

impl<'a> TokenChecks<'a> {
    /// Verifies a token: signature and times, revocation, and that it belongs to `holder`, when there is one. Returns what
    /// it says and whose it is. All but the signature is checked on each call, also for a token that was seen before.
    pub(crate) fn verify<W: Watch>(
        &self,
        token: &str,
        holder: Option<ConsumerId>,
        watch: &mut W,
    ) -> Result<(Arc<Claims>, Arc<ConsumerEntry>), TokenError> {
        let (claims, consumer) = match self.issuers {
            None => self.own(token, watch)?,
            Some(issuers) => self.of_issuers(token, issuers, watch)?,
        };
        watch.passed(Check::TokenConsumer, || Some(format!("it was issued to consumer {}", consumer.name)));
        if self.scope.revoked_tokens.contains(&claims.jti) {
            let why = Why::Said("this token was revoked by its jti");
            return Err(TokenError::Invalid(Check::TokenNotRevoked, why));
        }
        if consumer.has_revoked_tokens_of(claims.issued_at) {
            return Err(TokenError::Invalid(Check::TokenNotRevoked, Why::TokensRevoked(consumer.clone())));
        }
        watch.passed(Check::TokenNotRevoked, || None);
        if holder.is_some_and(|holder| holder != consumer.id) {
            return Err(TokenError::OtherConsumer(consumer.clone()));
        }
        if holder.is_some() {
            watch.passed(Check::TokenBinding, || None);
        }
        Ok((claims, consumer.clone()))
    }

    /// Verifies a token as one of a login flow.
    fn own<W: Watch>(
        &self,
        token: &str,
        watch: &mut W,
    ) -> Result<(Arc<Claims>, &'a Arc<ConsumerEntry>), TokenError> {
        let key_set = self.scope.key_set.as_ref();
        let key_set = key_set
            .map_err(|broken| TokenError::Unavailable(Check::TokenForm, Why::Broken(broken.0.clone())))?;
        let verified = key_set.verify_remembering(token, self.now, self.memory);
        let claims = verified.map_err(|error| refused(error, Why::Token(error), watch))?;
        passed(&claims, None, watch);
        let gone = Why::Said("the consumer that it was issued to no longer exists");
        let consumer = self.scope.consumer_of_subject(&claims.subject);
        Ok((claims, consumer.ok_or(TokenError::Invalid(Check::TokenConsumer, gone))?))
    }

    /// Verifies a token as one of those issuers that a trigger lists.
    fn of_issuers<W: Watch>(
        &self,
        token: &str,
        issuers: &[IssuerName],
        watch: &mut W,
    ) -> Result<(Arc<Claims>, &'a Arc<ConsumerEntry>), TokenError> {
        let opened = OpenedToken::open(token).map_err(|error| refused(error, Why::Token(error), watch))?;
        let mut outcome = None;
        for name in issuers {
            if *name == IssuerName::own() {
                let own = self.scope.key_set.as_ref().map(|set| Some(set.issuer()) == opened.issuer());
                match own {
                    Ok(true) => return self.own(token, watch),
                    Ok(false) => {}
                    Err(broken) => {
                        let why = Why::Broken(broken.0.clone());
                        outcome = Some(TokenError::Unavailable(Check::TokenIssuer, why));
                    }
                }
                continue;
            }
            match self.scope.issuers.get(name) {
                Some(Ok(entry)) if opened.issuer() == Some(entry.issuer.settings.issuer.as_str()) => {
                    match self.of_issuer::<W>(&opened, entry) {
                        Ok(verified) => {
                            passed(&verified.0, Some(entry), watch);
                            return Ok(verified);
                        }
                        // One that cannot be asked may be the one that would take it.
                        Err(error @ TokenError::Unavailable(..)) => outcome = Some(error),
                        Err(error) => outcome = Some(outcome.unwrap_or(error)),
                    }
                }
                Some(Ok(_)) => {}
                // Whose URL it has nobody knows: the token may be its.
                Some(Err(broken)) => {
                    outcome =
                        Some(TokenError::Unavailable(Check::TokenIssuer, Why::Broken(broken.0.clone())));
                }
                None => {
                    let why = Why::Said("an issuer that the trigger lists is not set in this environment");
                    outcome = Some(TokenError::Unavailable(Check::TokenIssuer, why));
                }
            }
        }
        let unlisted = Why::Said("no issuer that the trigger lists has the URL that the token names");
        let error = outcome.unwrap_or(TokenError::Invalid(Check::TokenIssuer, unlisted));
        if let TokenError::Invalid(check, _) | TokenError::Unavailable(check, _) = &error {
            passed_before(*check, &TOKEN_STEPS, watch);
        }
        Err(error)
    }

    fn of_issuer<W: Watch>(
        &self,
        opened: &OpenedToken<'_>,
        entry: &Arc<IssuerEntry>,
    ) -> Result<(Arc<Claims>, &'a Arc<ConsumerEntry>), TokenError> {
        let unavailable = |why| TokenError::Unavailable(Check::TokenKey, Why::Said(why));
        let slot = self.keys.slot(&entry.source);
        let slot = slot.ok_or_else(|| unavailable("the keys of its issuer are not fetched yet"))?;
        let fetched =
            slot.keys().ok_or_else(|| unavailable("the keys of its issuer could not be fetched yet"))?;
        if !fetched.are_fresh(&entry.issuer, self.now) {
            return Err(unavailable(
                "the keys of its issuer are too old, and newer ones could not be fetched",
            ));
        }
        let max_lifetime_ms =
            *self.scope.max_token_lifetime_ms.as_ref().map_err(|broken| {
                TokenError::Unavailable(Check::TokenTimes, Why::Broken(broken.0.clone()))
            })?;
        let demands = TokenDemands { settings: &entry.issuer.settings, max_lifetime_ms, now: self.now };
        let claims = opened.verify(demands, &fetched.keys, self.memory).map_err(|error| {
            if error == VerifyTokenError::UnknownKey && fetched.may_lack_some(self.now) {
                if !W::REHEARSAL {
                    slot.want();
                }
                return unavailable("its issuer may have a key of this id that was not fetched yet");
            }
            tracing::debug!(%error, issuer = %entry.issuer.name, "a token was refused");
            TokenError::Invalid(token_check(error), Why::IssuerToken(entry.clone(), error))
        })?;
        let nobody = Why::Said("no consumer of this environment is the one that it names");
        let name = consumer_of(&entry.issuer.settings.consumer, &claims);
        let consumer = name.and_then(|name| self.scope.consumer_named(name));
        let consumer = consumer.ok_or(TokenError::Invalid(Check::TokenConsumer, nobody))?;
        Ok((Arc::new(claims), consumer))
    }
}

/// Tells that every step was passed.
fn passed<W: Watch>(claims: &Claims, issuer: Option<&Arc<IssuerEntry>>, watch: &mut W) {
    for check in TOKEN_STEPS {
        watch.passed(check, || match (check, issuer) {
            (Check::TokenTimes, _) => {
                Timestamp::from_second(claims.expires_at).ok().map(|at| format!("it ends at {at}"))
            }
            (Check::TokenIssuer, Some(entry)) => Some(format!("it is of issuer {}", entry.issuer.name)),
            _ => None,
        });
    }
}

fn refused<W: Watch>(error: VerifyTokenError, why: Why, watch: &mut W) -> TokenError {
    tracing::debug!(%error, "a token was refused");
    let check = token_check(error);
    passed_before(check, &TOKEN_STEPS, watch);
    TokenError::Invalid(check, why)
}

/// Returns which check of a token an error is the outcome of.
fn token_check(error: VerifyTokenError) -> Check {
    match error {
        VerifyTokenError::Malformed | VerifyTokenError::Header => Check::TokenForm,
        VerifyTokenError::UnknownKey | VerifyTokenError::Algorithm => Check::TokenKey,
        VerifyTokenError::Signature => Check::TokenSignature,
        VerifyTokenError::Issuer => Check::TokenIssuer,
        VerifyTokenError::Audience => Check::TokenAudience,
        VerifyTokenError::Expired | VerifyTokenError::NotYetValid | VerifyTokenError::Lifetime => {
            Check::TokenTimes
        }
    }
}
