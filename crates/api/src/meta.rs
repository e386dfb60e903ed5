//! About the server itself: health, version, schemas, this API's description.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_model::document;

use crate::Api;
use crate::answers::Answer;
use crate::extract::In;
use crate::operations::{Access, Operation};
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
struct VersionView {
    /// Version of the server.
    version: String,
}

#[derive(Deserialize)]
struct SchemaPath {
    kind: String,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/openapi.json", Access::Public, "Describes this API", openapi),
        Operation::get("/version", Access::Public, "Tells the server's version", version)
            .answers::<VersionView>(),
        Operation::get(
            "/schemas/{kind}",
            Access::Public,
            "Returns the JSON Schema of a kind of resource file",
            schema,
        ),
    ]
}

async fn openapi() -> Json<Value> {
    Json(crate::openapi())
}

async fn version(State(api): State<Api>) -> Json<VersionView> {
    Json(VersionView { version: api.settings.version.clone() })
}

async fn schema(In(path): In<SchemaPath>) -> Answer<Json<Value>> {
    document::schema(&path.kind).map(Json).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such kind of resource file")
            .hint("there are pipeline, policy, consumer, global, group and role")
    })
}

/// Tells that the process runs.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tells whether the store answers.
pub(crate) async fn readyz(State(api): State<Api>) -> Answer<&'static str> {
    let op = api.app.system_op()?;
    api.app.realms().list(&op).await?;
    Ok("ok\n")
}
