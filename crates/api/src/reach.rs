//! Who can call a pipeline, what a consumer can call, and what nobody uses.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::access::Permission;
use tollgate_app::calls::Days;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};

use crate::Api;
use crate::answers::Answer;
use crate::extract::{Ask, Caller, In};
use crate::operations::{Access, Operation};
use crate::past::Then;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PipelineCallersView {
    pipeline: String,
    /// As of when.
    as_of: String,
    /// From when on calls are counted here; null in an answer of the past.
    since: Option<String>,
    /// Per environment and major: `environment`, `pipeline`, `version`, `routes`, `demands`, `anybody`, `refused`;
    /// `callers`, each with `consumer`, `canCall`, `lacks`, `keys`, `usernames` and `usage`; `unknownCalls`.
    deployments: Vec<Value>,
    /// Where the pipeline does not run: `environment` and the `consumers` that are associated with it.
    not_deployed: Vec<Value>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConsumerAccessView {
    consumer: String,
    environment: String,
    /// Addresses of the environment's listeners, by `external` and `internal`: those of the process that
    /// answers, else those stored.
    listeners: Value,
    /// What runs and it may call: `pipeline`, `version`, `routes`, `demands`, `anybody`, `refused`; `caller` with
    /// `canCall`, `lacks`, `keys`, `usernames` and `usage`, null where it is not associated and anybody can call.
    deployments: Vec<Value>,
    /// The pipelines that it is associated with and that do not run.
    not_deployed: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UnusedView {
    /// From when on nobody used it; the minute in which it lies counts whole.
    since: String,
    /// Each `environment`, `consumer` and `pipeline`; `deployed`, `lastCall`, `tooYoung`, `uncertain`.
    associations: Vec<Value>,
    /// Each `environment`, `consumer`, `id`, `name`, `hint`, `createdAt`, `lastUsedAt`, `tooYoung`.
    keys: Vec<Value>,
    /// Client certificates: each as a key, without `hint`.
    certificates: Vec<Value>,
    /// Basic Auth credentials: likewise, with the user name as `name`.
    basic_auth: Vec<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CallersQuery {
    /// Only this environment.
    environment: Option<EnvironmentName>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UnusedQuery {
    /// Only this environment.
    environment: Option<EnvironmentName>,
    /// For how many days: 1 to 90, 7 when absent.
    days: Option<u16>,
}

#[derive(Deserialize)]
struct OfPipeline {
    name: PipelineName,
}

#[derive(Deserialize)]
struct OfConsumer {
    environment: EnvironmentName,
    consumer: ConsumerName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let read = Access::Needs(Permission::AccessRead);
    vec![
        Operation::get(
            "/realms/{realm}/pipelines/{name}/callers",
            read,
            "Tells who can call a pipeline, and who does",
            callers,
        )
        .asks::<CallersQuery>()
        .answers::<PipelineCallersView>()
        .of_the_past(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/access",
            read,
            "Tells what a consumer can call",
            access,
        )
        .answers::<ConsumerAccessView>(),
        Operation::get(
            "/realms/{realm}/access/unused",
            read,
            "Tells which associations and credentials nobody used for some days",
            unused,
        )
        .asks::<UnusedQuery>()
        .answers::<UnusedView>(),
    ]
}

async fn callers(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<OfPipeline>,
    Ask(query): Ask<CallersQuery>,
) -> Answer<Json<PipelineCallersView>> {
    let callers = api.app.reach().callers(&op, &path.name, query.environment.as_ref()).await?;
    Ok(Json(PipelineCallersView {
        pipeline: callers.pipeline.to_string(),
        as_of: callers.as_of.to_string(),
        since: callers.since.map(|since| since.to_string()),
        deployments: callers.deployments.iter().map(|it| json!(it)).collect(),
        not_deployed: callers.not_deployed.iter().map(|it| json!(it)).collect(),
    }))
}

async fn access(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfConsumer>,
) -> Answer<Json<ConsumerAccessView>> {
    let access = api.app.reach().of_consumer(&op, &path.environment, &path.consumer).await?;
    Ok(Json(ConsumerAccessView {
        consumer: access.consumer.to_string(),
        environment: access.environment.to_string(),
        listeners: json!(access.listeners),
        deployments: access.deployments.iter().map(|it| json!(it)).collect(),
        not_deployed: access.not_deployed.iter().map(ToString::to_string).collect(),
    }))
}

async fn unused(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<UnusedQuery>,
) -> Answer<Json<UnusedView>> {
    let UnusedQuery { environment, days } = query;
    let unused = api.app.reach().unused(&op, Days::parse(days)?, environment.as_ref()).await?;
    Ok(Json(UnusedView {
        since: unused.since.to_string(),
        associations: unused.associations.iter().map(|it| json!(it)).collect(),
        keys: unused.keys.iter().map(|it| json!(it)).collect(),
        certificates: unused.certificates.iter().map(|it| json!(it)).collect(),
        basic_auth: unused.basic_auth.iter().map(|it| json!(it)).collect(),
    }))
}
