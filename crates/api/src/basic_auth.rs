//! Basic Auth credentials.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::Password;
use tollgate_app::access::Permission;
use tollgate_app::basic_auth::BasicAuthView as Credential;
use tollgate_model::ids::BasicAuthId;
use tollgate_model::names::{ConsumerName, EnvironmentName};

use crate::Api;
use crate::answers::{Answer, Created, ListView};
use crate::extract::{Body, Caller, In};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct BasicAuthView {
    id: String,
    username: String,
    /// The password, when it was made up: only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// `active` or `revoked`.
    state: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    /// To about ten seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewBasicAuthBody {
    /// Unique in the environment.
    username: String,
    /// Made up and shown once when absent.
    password: Option<String>,
}

#[derive(Deserialize)]
struct OfConsumer {
    environment: EnvironmentName,
    consumer: ConsumerName,
}

#[derive(Deserialize)]
struct OneCredential {
    environment: EnvironmentName,
    id: BasicAuthId,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::get(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/basic-auth",
            needs(Permission::BasicAuthRead),
            "Lists a consumer's Basic Auth credentials",
            list,
        )
        .answers::<ListView<BasicAuthView>>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/basic-auth",
            needs(Permission::BasicAuthCreate),
            "Makes a Basic Auth credential",
            create,
        )
        .takes::<NewBasicAuthBody>()
        .answers::<BasicAuthView>()
        .creates(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/basic-auth/{id}/revoke",
            needs(Permission::BasicAuthRevoke),
            "Revokes a Basic Auth credential",
            revoke,
        )
        .answers::<BasicAuthView>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfConsumer>,
) -> Answer<Json<ListView<BasicAuthView>>> {
    let credentials = api.app.basic_auth().list(&op, &path.environment, &path.consumer).await?;
    Ok(ListView::whole(credentials, BasicAuthView::from))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfConsumer>,
    Body(body): Body<NewBasicAuthBody>,
) -> Answer<Created<BasicAuthView>> {
    let password = body
        .password
        .map(|password| Password::parse(&password))
        .transpose()
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", error.to_string()))?;
    let created =
        api.app.basic_auth().create(&op, &path.environment, &path.consumer, &body.username, password).await?;
    let password = created.password.map(|password| password.expose_secret().to_owned());
    let made = Credential { credential: created.credential, last_used_at: None };
    Ok(Created(BasicAuthView { password, ..BasicAuthView::from(made) }))
}

async fn revoke(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OneCredential>,
) -> Answer<Json<BasicAuthView>> {
    Ok(Json(BasicAuthView::from(api.app.basic_auth().revoke(&op, &path.environment, path.id).await?)))
}

impl From<Credential> for BasicAuthView {
    fn from(Credential { credential, last_used_at }: Credential) -> Self {
        Self {
            id: credential.id.to_string(),
            username: credential.username,
            password: None,
            state: if credential.revoked_at.is_some() { "revoked" } else { "active" },
            created_at: credential.created_at.to_string(),
            revoked_at: credential.revoked_at.map(|at| at.to_string()),
            last_used_at: last_used_at.map(|at| at.to_string()),
        }
    }
}
