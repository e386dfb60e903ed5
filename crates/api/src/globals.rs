//! Globals.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_app::access::Permission;
use tollgate_model::names::{EnvironmentName, ValueName};
use tollgate_model::values::Global;

use crate::Api;
use crate::answers::{Answer, Created, ListView, Tagged};
use crate::dependents::DependentsView;
use crate::extract::{Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::past::Then;
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GlobalView {
    name: String,
    value: Value,
    updated_at: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetBody {
    /// Any JSON; not for secrets.
    value: Value,
}

/// One that is not there yet.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateBody {
    /// Its name.
    #[schemars(with = "String")]
    name: ValueName,
    /// Any JSON; not for secrets.
    value: Value,
}

#[derive(Deserialize)]
struct InEnvironment {
    environment: EnvironmentName,
}

#[derive(Deserialize)]
struct Place {
    environment: EnvironmentName,
    name: ValueName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, update) = (Access::Needs(Permission::GlobalRead), Access::Needs(Permission::GlobalUpdate));
    vec![
        Operation::get("/realms/{realm}/environments/{environment}/globals", read, "Lists the globals", list)
            .of_the_past()
            .answers::<ListView<GlobalView>>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/globals",
            update,
            "Makes a global where there is none of its name",
            create,
        )
        .takes::<CreateBody>()
        .answers::<GlobalView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/globals/{name}",
            read,
            "Returns a global",
            get,
        )
        .of_the_past()
        .tagged()
        .answers::<GlobalView>(),
        Operation::put(
            "/realms/{realm}/environments/{environment}/globals/{name}",
            update,
            "Sets a global",
            set,
        )
        .tagged()
        .conditional()
        .takes::<SetBody>()
        .answers::<GlobalView>(),
        Operation::delete(
            "/realms/{realm}/environments/{environment}/globals/{name}",
            update,
            "Deletes a global",
            delete,
        )
        .conditional(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/globals/{name}/dependents",
            read,
            "Tells which deployments read a global",
            dependents,
        )
        .answers::<DependentsView>(),
    ]
}

async fn list(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
) -> Answer<Json<ListView<GlobalView>>> {
    let globals = api.app.globals().list(&op, &path.environment).await?;
    Ok(ListView::whole(globals, |global| GlobalView::from(&global.value)))
}

async fn get(Then(api): Then, Caller(op): Caller, In(path): In<Place>) -> Answer<Tagged<GlobalView>> {
    let globals = api.app.globals().list(&op, &path.environment).await?;
    let found = globals.into_iter().find(|global| global.value.name == path.name).ok_or_else(|| {
        let detail = format!("there is no global `{}` in {}", path.name, path.environment);
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
            .hint("`tollgate global list` shows those that exist")
    })?;
    Ok(Tagged(GlobalView::from(&found.value), found.revision))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
    Body(body): Body<CreateBody>,
) -> Answer<Created<GlobalView>> {
    let made = api.app.globals().create(&op, &path.environment, body.name, body.value).await?;
    Ok(Created(GlobalView::from(&made.value)))
}

async fn set(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
    Body(body): Body<SetBody>,
) -> Answer<Tagged<GlobalView>> {
    let stored = api.app.globals().set(&op, &path.environment, path.name, body.value, if_match).await?;
    Ok(Tagged(GlobalView::from(&stored.value), stored.revision))
}

async fn dependents(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
) -> Answer<Json<DependentsView>> {
    Ok(Json(api.app.globals().dependents(&op, &path.environment, &path.name).await?.into()))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
) -> Answer<StatusCode> {
    api.app.globals().delete(&op, &path.environment, &path.name, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<&Global> for GlobalView {
    fn from(global: &Global) -> Self {
        Self {
            name: global.name.to_string(),
            value: global.value.clone(),
            updated_at: global.updated_at.to_string(),
        }
    }
}
