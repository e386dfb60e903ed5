//! Issuers outside.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::issuers::{IssuerKeysState, IssuerView as View};
use tollgate_model::issuers::IssuerSettings;
use tollgate_model::names::{EnvironmentName, IssuerName};

use crate::Api;
use crate::answers::{Answer, Created, ListView, Tagged};
use crate::dependents::DependentsView;
use crate::extract::{Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct IssuerView {
    name: String,
    environment: String,
    settings: IssuerSettings,
    created_at: String,
    updated_at: String,
    /// How the gateway that answers stands with its keys; absent before it has heard of the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<KeysView>,
}

/// How a gateway stands with the keys of an issuer.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct KeysView {
    /// `usable`, or `unavailable`: then its tokens answer 503.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched_at: Option<String>,
    /// Those that can verify tokens; an RSA key without `alg` once for each algorithm of RSA that is listed.
    keys: Vec<KeyView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tried_at: Option<String>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct KeyView {
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    algorithm: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    /// What pipelines call it.
    #[schemars(with = "String")]
    name: IssuerName,
    settings: IssuerSettings,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetBody {
    settings: IssuerSettings,
}

#[derive(Deserialize)]
struct InEnvironment {
    environment: EnvironmentName,
}

#[derive(Deserialize)]
struct One {
    environment: EnvironmentName,
    name: IssuerName,
}

const LIST: &str = "/realms/{realm}/environments/{environment}/issuers";
const ONE: &str = "/realms/{realm}/environments/{environment}/issuers/{name}";

pub(crate) fn operations() -> Vec<Operation> {
    let (read, update) = (Access::Needs(Permission::IssuerRead), Access::Needs(Permission::IssuerUpdate));
    vec![
        Operation::get(LIST, read, "Lists the issuers outside whose tokens are taken", list)
            .answers::<ListView<IssuerView>>(),
        Operation::post(LIST, update, "Makes an issuer", create)
            .takes::<CreateBody>()
            .answers::<IssuerView>()
            .creates(),
        Operation::get(ONE, read, "Returns an issuer", get).tagged().answers::<IssuerView>(),
        Operation::put(ONE, update, "Sets an issuer", set)
            .tagged()
            .conditional()
            .takes::<SetBody>()
            .answers::<IssuerView>(),
        Operation::delete(ONE, update, "Deletes an issuer that no deployment lists", delete).conditional(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/issuers/{name}/refresh",
            update,
            "Has every gateway fetch the issuer's keys anew",
            refresh,
        )
        .answers::<IssuerView>(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/issuers/{name}/dependents",
            read,
            "Tells which deployments list an issuer",
            dependents,
        )
        .answers::<DependentsView>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
) -> Answer<Json<ListView<IssuerView>>> {
    let issuers = api.app.issuers().list(&op, &path.environment).await?;
    Ok(ListView::whole(issuers, |issuer| issuer.value.into()))
}

async fn get(State(api): State<Api>, Caller(op): Caller, In(path): In<One>) -> Answer<Tagged<IssuerView>> {
    let stored = api.app.issuers().get(&op, &path.environment, &path.name).await?;
    Ok(Tagged(stored.value.into(), stored.revision))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
    Body(body): Body<CreateBody>,
) -> Answer<Created<IssuerView>> {
    let made = api.app.issuers().create(&op, &path.environment, body.name, body.settings).await?;
    Ok(Created(made.value.into()))
}

async fn set(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<One>,
    Body(body): Body<SetBody>,
) -> Answer<Tagged<IssuerView>> {
    let issuers = api.app.issuers();
    let stored = issuers.set(&op, &path.environment, &path.name, body.settings, if_match).await?;
    Ok(Tagged(stored.value.into(), stored.revision))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<One>,
) -> Answer<StatusCode> {
    api.app.issuers().delete(&op, &path.environment, &path.name, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn refresh(State(api): State<Api>, Caller(op): Caller, In(path): In<One>) -> Answer<Json<IssuerView>> {
    let stored = api.app.issuers().refresh(&op, &path.environment, &path.name).await?;
    Ok(Json(stored.value.into()))
}

async fn dependents(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<One>,
) -> Answer<Json<DependentsView>> {
    Ok(Json(api.app.issuers().dependents(&op, &path.environment, &path.name).await?.into()))
}

// === impl IssuerView ===

impl From<View> for IssuerView {
    fn from(view: View) -> Self {
        let View { issuer, keys } = view;
        Self {
            name: issuer.name.to_string(),
            environment: issuer.environment.to_string(),
            settings: issuer.settings,
            created_at: issuer.created_at.to_string(),
            updated_at: issuer.updated_at.to_string(),
            keys: keys.map(KeysView::from),
        }
    }
}

impl From<IssuerKeysState> for KeysView {
    fn from(state: IssuerKeysState) -> Self {
        Self {
            state: if state.usable { "usable" } else { "unavailable" },
            fetched_at: state.fetched_at.map(|at| at.to_string()),
            keys: state.keys.into_iter().map(|(kid, algorithm)| KeyView { kid, algorithm }).collect(),
            tried_at: state.tried_at.map(|at| at.to_string()),
            error: state.error,
        }
    }
}
