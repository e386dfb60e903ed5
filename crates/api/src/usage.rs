//! Usage: how many calls there were, and of whom.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::access::Permission;
use tollgate_app::calls::{CallItem, CallQuery, CallerImpact, Days};
use tollgate_model::names::{EnvironmentName, PipelineName};

use crate::Api;
use crate::answers::Answer;
use crate::extract::{Ask, Caller};
use crate::operations::{Access, Operation};

#[derive(Serialize, JsonSchema)]
struct UsageView {
    /// From when on calls are counted here; the minute in which it lies counts whole.
    since: String,
    /// How many calls in all.
    calls: u64,
    items: Vec<UsageItem>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UsageItem {
    environment: String,
    pipeline: String,
    major: u32,
    /// Null where the trigger demands no credentials.
    consumer: Option<String>,
    /// The API key by `id`, `name` and `hint`; null where none was demanded.
    key: Option<Value>,
    /// Where no key was demanded: the client certificate or else the Basic Auth credential by `kind`, `id` and `name`, the user
    /// name of which only those see who may read Basic Auth credentials; null where neither was demanded.
    credential: Option<Value>,
    /// Whether these are calls of consumers who were too many at once to be told apart.
    others: bool,
    /// What the calls showed: `api-key`, `certificate`, `token`, `basic-auth`; with `-sent` behind it where it was sent without being
    /// demanded, and so not looked at.
    credentials: Vec<&'static str>,
    calls: u64,
    /// The minute of the last call.
    last_call: String,
}

/// Who called the deployments that would not be admitted.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CallersView {
    /// From when on calls are counted here; the minute in which it lies counts whole.
    since: String,
    /// How many calls there were to these deployments.
    calls: u64,
    /// How many of them lacked something that would be demanded.
    lacking: u64,
    /// Per deployment: `environment`, `pipeline`, `version`, `calls`, `lacking`, `demands` (each `code` with how many
    /// calls lacked it), `callers` (each `consumer` and `key` or `credential` with `calls` and `lacking`).
    deployments: Vec<Value>,
}

/// How far back.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DaysQuery {
    /// How many days back calls are counted: 1 to 90, 7 when absent.
    pub(crate) days: Option<u16>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    /// Only this environment.
    environment: Option<EnvironmentName>,
    /// Only this pipeline.
    pipeline: Option<PipelineName>,
    /// How many days back: 1 to 90, 7 when absent.
    days: Option<u16>,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/realms/{realm}/usage",
            Access::Needs(Permission::UsageRead),
            "Counts the calls by deployment, caller and credentials",
            report,
        )
        .asks::<UsageQuery>()
        .answers::<UsageView>(),
    ]
}

async fn report(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<UsageQuery>,
) -> Answer<Json<UsageView>> {
    let UsageQuery { environment, pipeline, days } = query;
    let query = CallQuery { environment, pipeline, days: Days::parse(days)? };
    let report = api.app.calls().report(&op, &query).await?;
    Ok(Json(UsageView {
        since: report.since.to_string(),
        calls: report.calls,
        items: report.items.into_iter().map(UsageItem::from).collect(),
    }))
}

impl From<CallItem> for UsageItem {
    fn from(item: CallItem) -> Self {
        Self {
            environment: item.environment.to_string(),
            pipeline: item.pipeline.to_string(),
            major: item.major,
            consumer: item.caller.consumer.map(|name| name.to_string()),
            key: item.caller.key.map(|key| json!(key)),
            credential: item.caller.credential.map(|it| json!(it)),
            others: item.caller.others,
            credentials: item.credentials.words().collect(),
            calls: item.calls,
            last_call: item.last.to_string(),
        }
    }
}

impl From<&CallerImpact> for CallersView {
    fn from(callers: &CallerImpact) -> Self {
        Self {
            since: callers.since.to_string(),
            calls: callers.calls,
            lacking: callers.lacking,
            deployments: callers.deployments.iter().map(|deployment| json!(deployment)).collect(),
        }
    }
}
