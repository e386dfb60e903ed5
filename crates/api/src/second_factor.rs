//! One's own second factor, and taking away that of somebody who lost it.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::users::{Duty, RecoveryCodes};
use tollgate_model::names::UserName;

use crate::Api;
use crate::access::Me;
use crate::answers::{Answer, Created};
use crate::extract::{Body, Caller, In};
use crate::operations::{Access, Operation};

/// Those may enrol who have to.
const ENROLLING: Access = Access::SignedInDespite(&[Duty::EnrolSecondFactor]);

/// Whether you have a second factor.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StatusView {
    enrolled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    recovery_codes_left: usize,
    /// Whether the realm demands one.
    required: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordBody {
    /// Your password: a session that was left open is not enough.
    password: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CodeBody {
    /// Six digits of the authenticator app.
    code: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordAndCodeBody {
    password: String,
    /// Six digits of the authenticator app, or a recovery code.
    code: String,
}

/// A new secret; it is in this answer and nowhere else, and counts once it is confirmed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EnrolmentView {
    /// Base32, to be typed into an authenticator app.
    secret: String,
    /// `otpauth://totp/…`, to be scanned.
    uri: String,
}

/// New recovery codes; they are in this answer and nowhere else, and each works once.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RecoveryCodesView {
    recovery_codes: Vec<String>,
}

#[derive(Deserialize)]
struct UserPath {
    name: UserName,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/second-factor", ENROLLING, "Tells whether you have a second factor", status)
            .answers::<StatusView>(),
        Operation::post("/second-factor", ENROLLING, "Makes a secret for your second factor", enrol)
            .takes::<PasswordBody>()
            .answers::<EnrolmentView>()
            .created(),
        Operation::post(
            "/second-factor/confirm",
            ENROLLING,
            "Confirms your second factor with a first code, and ends your other sessions",
            confirm,
        )
        .takes::<CodeBody>()
        .answers::<RecoveryCodesView>(),
        Operation::post(
            "/second-factor/remove",
            Access::SignedIn,
            "Removes your second factor, and ends your other sessions",
            remove,
        )
        .takes::<PasswordAndCodeBody>()
        .empty(),
        Operation::post(
            "/second-factor/recovery-codes",
            Access::SignedIn,
            "Makes new recovery codes; those before are void",
            renew_codes,
        )
        .takes::<PasswordAndCodeBody>()
        .answers::<RecoveryCodesView>()
        .created(),
        Operation::delete(
            "/users/{name}/second-factor",
            Access::Needs(Permission::UserUpdate),
            "Removes the second factor of a user who lost it, and ends their sessions",
            reset,
        ),
    ]
}

async fn status(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
) -> Answer<Json<StatusView>> {
    let status = api.app.users().second_factor(&op, &me).await?;
    Ok(Json(StatusView {
        enrolled: status.since.is_some(),
        since: status.since.map(|at| at.to_string()),
        recovery_codes_left: status.recovery_codes_left,
        required: status.required,
    }))
}

async fn enrol(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    Body(body): Body<PasswordBody>,
) -> Answer<Created<EnrolmentView>> {
    let enrolment = api.app.users().enrol_second_factor(&op, &me, &body.password).await?;
    Ok(Created(EnrolmentView { secret: enrolment.secret.to_string(), uri: enrolment.uri.to_string() }))
}

async fn confirm(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    Body(body): Body<CodeBody>,
) -> Answer<Json<RecoveryCodesView>> {
    Ok(Json(api.app.users().confirm_second_factor(&op, &me, &body.code).await?.into()))
}

async fn remove(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    Body(body): Body<PasswordAndCodeBody>,
) -> Answer<StatusCode> {
    api.app.users().remove_second_factor(&op, &me, &body.password, &body.code).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn renew_codes(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    Body(body): Body<PasswordAndCodeBody>,
) -> Answer<Created<RecoveryCodesView>> {
    let codes = api.app.users().renew_recovery_codes(&op, &me, &body.password, &body.code).await?;
    Ok(Created(codes.into()))
}

async fn reset(State(api): State<Api>, Caller(op): Caller, In(path): In<UserPath>) -> Answer<StatusCode> {
    api.app.users().reset_second_factor(&op, &path.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<RecoveryCodes> for RecoveryCodesView {
    fn from(codes: RecoveryCodes) -> Self {
        Self { recovery_codes: codes.expose_secrets().map(str::to_owned).collect() }
    }
}
