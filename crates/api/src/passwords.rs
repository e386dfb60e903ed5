//! One's own password.

use axum::extract::State;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::users::NewPassword;

use crate::Api;
use crate::access::Me;
use crate::answers::Answer;
use crate::extract::{Body, Caller};
use crate::operations::Operation;
use crate::sessions::WHATEVER_IS_DUE;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordBody {
    /// The password so far.
    current: String,
    /// The one from now on: at least 12 characters.
    new: String,
    /// Whether API tokens end, too; other sessions always do.
    #[serde(default)]
    end_api_tokens: bool,
}

/// What the change ended.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EndedView {
    ended_sessions: usize,
    ended_api_tokens: usize,
    /// API tokens that go on.
    api_tokens_left: usize,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/password",
            WHATEVER_IS_DUE,
            "Changes your password, and ends your other sessions",
            change,
        )
        .takes::<PasswordBody>()
        .answers::<EndedView>(),
    ]
}

async fn change(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    Body(body): Body<PasswordBody>,
) -> Answer<Json<EndedView>> {
    let PasswordBody { current, new, end_api_tokens } = &body;
    let change = NewPassword { current, new, end_api_tokens: *end_api_tokens };
    let ended = api.app.users().change_password(&op, &me, &change).await?;
    Ok(Json(EndedView {
        ended_sessions: ended.sessions,
        ended_api_tokens: ended.api_tokens,
        api_tokens_left: ended.api_tokens_left,
    }))
}
