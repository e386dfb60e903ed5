//! Signing keys and tokens.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tollgate_app::access::Permission;
use tollgate_model::keysets::{Algorithm, SigningKey, SigningKeyState};
use tollgate_model::names::EnvironmentName;

use crate::Api;
use crate::answers::{Answer, Created, ListView};
use crate::extract::{Body, Caller, In};
use crate::operations::{Access, Operation};
use crate::past::Then;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SigningKeyView {
    kid: String,
    algorithm: String,
    /// `active`, `retiring` or `revoked`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verifies_until: Option<String>,
    /// The public JWK; absent for HS256, which has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_jwk: Option<Value>,
    created_at: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateBody {
    /// The same as before, when absent.
    algorithm: Option<Algorithm>,
    /// How long tokens of the old key stay good.
    #[serde(default = "day")]
    overlap_seconds: u32,
}

fn day() -> u32 {
    86_400
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RevokeTokenBody {
    /// The token's `jti`.
    jti: String,
    /// When the token ends by itself, RFC 3339, if known.
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RevocationView {
    jti: String,
    revoked_at: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InspectBody {
    token: String,
}

#[derive(Serialize, JsonSchema)]
struct InspectView {
    /// Not verified.
    header: Map<String, Value>,
    /// Not verified.
    claims: Map<String, Value>,
    /// Whether the environment takes the token now.
    valid: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct InEnvironment {
    environment: EnvironmentName,
}

#[derive(Deserialize)]
struct OneKey {
    environment: EnvironmentName,
    kid: String,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, update) =
        (Access::Needs(Permission::SigningKeyRead), Access::Needs(Permission::SigningKeyUpdate));
    vec![
        Operation::get(
            "/realms/{realm}/environments/{environment}/signing-keys",
            read,
            "Lists the keys that sign tokens",
            list,
        )
        .of_the_past()
        .answers::<ListView<SigningKeyView>>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/signing-keys/rotate",
            update,
            "Makes a new signing key; the old one verifies during the overlap",
            rotate,
        )
        .takes::<RotateBody>()
        .answers::<SigningKeyView>()
        .creates(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/signing-keys/{kid}/revoke",
            update,
            "Revokes a signing key and every token that it signed",
            revoke,
        )
        .answers::<SigningKeyView>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/token-revocations",
            Access::Needs(Permission::TokenRevoke),
            "Revokes one token",
            revoke_token,
        )
        .takes::<RevokeTokenBody>()
        .answers::<RevocationView>()
        .creates(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/tokens/inspect",
            read,
            "Shows what a token says, and whether it is taken",
            inspect,
        )
        .takes::<InspectBody>()
        .answers::<InspectView>(),
    ]
}

async fn list(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
) -> Answer<Json<ListView<SigningKeyView>>> {
    let keys = api.app.signing_keys().list(&op, &path.environment).await?;
    Ok(ListView::whole(keys, |key| SigningKeyView::from(&key)))
}

async fn rotate(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
    Body(body): Body<RotateBody>,
) -> Answer<Created<SigningKeyView>> {
    let RotateBody { algorithm, overlap_seconds } = body;
    let key = api.app.signing_keys().rotate(&op, &path.environment, algorithm, overlap_seconds).await?;
    Ok(Created(SigningKeyView::from(&key)))
}

async fn revoke(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OneKey>,
) -> Answer<Json<SigningKeyView>> {
    let key = api.app.signing_keys().revoke(&op, &path.environment, &path.kid).await?;
    Ok(Json(SigningKeyView::from(&key)))
}

async fn revoke_token(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
    Body(body): Body<RevokeTokenBody>,
) -> Answer<Created<RevocationView>> {
    let RevokeTokenBody { jti, expires_at } = body;
    let revocation = api.app.signing_keys().revoke_token(&op, &path.environment, &jti, expires_at).await?;
    Ok(Created(RevocationView { jti: revocation.jti, revoked_at: revocation.revoked_at.to_string() }))
}

async fn inspect(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
    Body(body): Body<InspectBody>,
) -> Answer<Json<InspectView>> {
    let inspected = api.app.signing_keys().inspect(&op, &path.environment, &body.token).await?;
    let valid = inspected.refused.is_none();
    Ok(Json(InspectView {
        header: inspected.header,
        claims: inspected.claims,
        valid,
        reason: inspected.refused,
    }))
}

impl From<&SigningKey> for SigningKeyView {
    fn from(key: &SigningKey) -> Self {
        let (state, verifies_until) = match key.state {
            SigningKeyState::Active => ("active", None),
            SigningKeyState::Retiring { until } => ("retiring", Some(until.to_string())),
            SigningKeyState::Revoked { .. } => ("revoked", None),
        };
        Self {
            kid: key.kid.clone(),
            algorithm: key.algorithm.to_string(),
            state,
            verifies_until,
            public_jwk: key.public_jwk.clone(),
            created_at: key.created_at.to_string(),
        }
    }
}
