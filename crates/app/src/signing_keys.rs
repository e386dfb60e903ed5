//! The keys that sign an environment's tokens, and the revocation of tokens.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use tollgate_credential::keysets::{KeySet, KeySetKey};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_credential::tokens;
use tollgate_model::consumers::Consumer;
use tollgate_model::keysets::{Algorithm, Jti, SigningKey, SigningKeyState, TokenRevocation};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_snapshot::contexts;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, expect};
use crate::credentials::overlap_end;
use crate::errors::Error;

/// How long a revocation is kept at least: longer than a token lives.
const LONGEST_TOKEN: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Use cases of signing keys and token revocations.
pub struct SigningKeys(pub(crate) App);

/// What a token says, and whether it would be taken now.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectedToken {
    /// Its header, not verified.
    pub header: Map<String, Value>,
    /// Its claims, not verified.
    pub claims: Map<String, Value>,
    /// Why it would not be taken; `None` when it would.
    pub refused: Option<String>,
}

// === impl SigningKeys ===

impl SigningKeys {
    /// Returns an environment's keys; their private parts are sealed.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn list(&self, op: &Op, environment: &EnvironmentName) -> Result<Vec<SigningKey>, Error> {
        op.demand_in(Permission::SigningKeyRead, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let keys = self.of(&op.realm, environment).await?;
        Ok(keys.into_iter().map(|stored| stored.value).collect())
    }

    /// Makes a new key the one that signs; the one before verifies for `overlap_seconds`, at most 365 days.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::Invalid`],
    /// [`crate::errors::ErrorKind::PreconditionFailed`] when somebody rotates at the same moment.
    pub async fn rotate(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        algorithm: Option<Algorithm>,
        overlap_seconds: u32,
    ) -> Result<SigningKey, Error> {
        op.demand_in(Permission::SigningKeyUpdate, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let until = overlap_end(op.now, overlap_seconds)?;
        let mut draft = Draft::new(op, "signing-key.rotate");
        draft.guard_environment(environment);
        // A first key has none before it whose revision would tell that another was made at the same moment.
        self.0.take_turn(&op.realm, &mut draft).await?;
        let active = self.of(&op.realm, environment).await?;
        let active = active.into_iter().find(|key| key.value.state == SigningKeyState::Active);
        let algorithm =
            algorithm.or(active.as_ref().map(|key| key.value.algorithm)).unwrap_or(Algorithm::Es256);
        if let Some(mut old) = active {
            old.value.state = SigningKeyState::Retiring { until };
            draft.put(&old.value, expect(&old, None))?;
        }
        let key = self.0.make_signing_key(&op.realm, environment, algorithm, op.now).await?;
        draft.put(&key, Expect::Absent)?;
        self.0.commit(op, draft).await?;
        Ok(key)
    }

    /// Revokes a key: no token of it is taken any more. A new key takes the place of an active one.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::PreconditionFailed`].
    pub async fn revoke(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        kid: &str,
    ) -> Result<SigningKey, Error> {
        op.demand_in(Permission::SigningKeyUpdate, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let all = self.of(&op.realm, environment).await?;
        let mut key = all.into_iter().find(|key| key.value.kid == kid).ok_or_else(|| {
            Error::not_found(format!("{environment} has no signing key of this id"))
                .hint("see those that exist")
                .next(NextStep::ListSigningKeys { environment: environment.clone() })
        })?;
        let mut draft = Draft::new(op, "signing-key.revoke");
        match key.value.state {
            SigningKeyState::Revoked { .. } => return Ok(key.value),
            SigningKeyState::Active => {
                let next =
                    self.0.make_signing_key(&op.realm, environment, key.value.algorithm, op.now).await?;
                draft.put(&next, Expect::Absent)?;
            }
            SigningKeyState::Retiring { .. } => {}
        }
        key.value.state = SigningKeyState::Revoked { at: op.now };
        draft.put(&key.value, expect(&key, None))?;
        self.0.commit(op, draft).await?;
        Ok(key.value)
    }

    /// Revokes a single token by its `jti`; revoking it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment, [`crate::errors::ErrorKind::Invalid`].
    pub async fn revoke_token(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        jti: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<TokenRevocation, Error> {
        op.demand_in(Permission::TokenRevoke, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let jti = Jti::parse(jti).map_err(|error| {
            Error::invalid(error.to_string())
                .hint("inspect the token: its `jti` is shown")
                .next(NextStep::InspectToken { environment: environment.clone() })
        })?;
        let jti = jti.as_str();
        let key = keys::token_revocation(environment, jti);
        if let Some(stored) = self.0.store().get::<TokenRevocation>(&op.realm, &key).await? {
            return Ok(stored.value);
        }
        let longest = op.now.checked_add(LONGEST_TOKEN).map_err(Error::internal)?;
        // Nobody proved `expires_at`: it may keep the revocation longer, never end it while the token may still live.
        let forget_after = expires_at.map_or(longest, |at| at.max(longest));
        let revocation = TokenRevocation {
            environment: environment.clone(),
            jti: jti.to_owned(),
            revoked_at: op.now,
            forget_after,
        };
        let mut draft = Draft::new(op, "token.revoke");
        draft.guard_environment(environment);
        draft.put(&revocation, Expect::Any)?;
        self.0.commit(op, draft).await?;
        Ok(revocation)
    }

    /// Tells what a token says and whether this environment would take it now.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] when the text is no token.
    pub async fn inspect(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        token: &str,
    ) -> Result<InspectedToken, Error> {
        op.demand_in(Permission::SigningKeyRead, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let said = tokens::decode_unverified(token)
            .ok_or_else(|| Error::invalid("this is no JWT").hint("send the token alone, without `Bearer`"))?;
        let refused = self.refusal(op, environment, token).await?;
        Ok(InspectedToken { header: said.header, claims: said.claims, refused })
    }

    async fn refusal(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        token: &str,
    ) -> Result<Option<String>, Error> {
        let mut set = Vec::new();
        for Stored { value: key, .. } in self.of(&op.realm, environment).await? {
            let context = contexts::signing_key(&op.realm, environment, &key.kid);
            let bytes = self.0.0.master.open(&context, &key.sealed_private).map_err(Error::internal)?;
            let private = PrivateKey::from_bytes(key.algorithm, &bytes).map_err(Error::internal)?;
            set.push(KeySetKey::new(key.kid, private, key.state));
        }
        let issuer = tokens::issuer(&op.realm, environment);
        let set = KeySet::new(issuer, tokens::audience(&op.realm, environment), set);
        let claims = match set.verify(token, op.now) {
            Ok(claims) => claims,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let revocation = keys::token_revocation(environment, &claims.jti);
        if self.0.store().get::<TokenRevocation>(&op.realm, &revocation).await?.is_some() {
            return Ok(Some("the token was revoked".to_owned()));
        }
        let prefix = format!("{environment}/");
        let consumer =
            self.0.store().with_handle::<Consumer>(&op.realm, &prefix, &claims.subject).await?.pop();
        Ok(match consumer.map(|it| it.value.tokens_revoked_before) {
            None => Some("the token's consumer no longer exists".to_owned()),
            Some(Some(before)) if claims.issued_at <= before.as_second() => {
                Some("the tokens of this consumer were revoked".to_owned())
            }
            Some(_) => None,
        })
    }

    async fn of(
        &self,
        realm: &RealmName,
        environment: &EnvironmentName,
    ) -> Result<Vec<Stored<SigningKey>>, Error> {
        self.0.all::<SigningKey>(realm, &format!("{environment}/")).await
    }
}

// === impl App ===

impl App {
    /// Makes a key that signs; nothing is stored yet. RSA takes its time, so no serving thread does it.
    pub(crate) async fn make_signing_key(
        &self,
        realm: &RealmName,
        environment: &EnvironmentName,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<SigningKey, Error> {
        let app = self.clone();
        let key = tokio::task::spawn_blocking(move || PrivateKey::generate(algorithm, app.random()))
            .await
            .map_err(Error::internal)?
            .map_err(Error::unavailable)?;
        let kid = key.make_kid(self.random())?;
        let bytes = key.to_bytes().map_err(Error::internal)?;
        let context = contexts::signing_key(realm, environment, &kid);
        Ok(SigningKey {
            environment: environment.clone(),
            algorithm,
            public_jwk: key.public_jwk(&kid),
            sealed_private: self.0.master.seal(&context, &bytes, self.random())?,
            state: SigningKeyState::Active,
            created_at: now,
            kid,
        })
    }
}
