//! Traffic: what became of calls over time; and recent calls, the live log of the gateway that answers.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::recent_calls::{Ended, RecentFilter};
use tollgate_app::traffic::{Tally, TrafficQuery, TrafficRange};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};
use tollgate_model::recent_calls::{CutOff, RecentCall};
use tollgate_model::traffic::{AnswerClass, TrafficCaller};

use crate::Api;
use crate::answers::Answer;
use crate::extract::{Ask, Caller};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TrafficView {
    since: String,
    /// The end of the step that runs.
    until: String,
    /// How long a step is.
    step_minutes: u32,
    total: TallyView,
    /// Step by step, the oldest first; those without a call, too.
    points: Vec<PointView>,
    /// By deployment, the busiest first.
    pipelines: Vec<PipelineView>,
    /// By consumer, the busiest first.
    consumers: Vec<ConsumerView>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TallyView {
    calls: u64,
    /// Answered 4xx by the gateway, or by an error that the flow raised.
    refused: u64,
    /// Answered 5xx.
    failed: u64,
    /// Without an answer or the whole of it, because the caller hung up.
    hung_up: u64,
    /// Milliseconds below which half of the calls stayed; null without a call.
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// The problems that calls were answered with, the most first.
    codes: Vec<CodeView>,
}

#[derive(Serialize, JsonSchema)]
struct CodeView {
    /// `4xx` or `5xx`.
    status: &'static str,
    /// A code of the gateway; `flow-error` for those that flows make up.
    code: String,
    calls: u64,
}

#[derive(Serialize, JsonSchema)]
struct PointView {
    at: String,
    #[serde(flatten)]
    tally: TallyView,
}

#[derive(Serialize, JsonSchema)]
struct PipelineView {
    environment: String,
    /// Null for calls that came to no pipeline.
    pipeline: Option<String>,
    major: Option<u32>,
    #[serde(flatten)]
    tally: TallyView,
}

#[derive(Serialize, JsonSchema)]
struct ConsumerView {
    environment: String,
    /// Null where nobody is known.
    consumer: Option<String>,
    /// Whether these are calls of consumers who were too many at once to be told apart.
    others: bool,
    #[serde(flatten)]
    tally: TallyView,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TrafficAsked {
    /// Only in this environment.
    environment: Option<EnvironmentName>,
    /// Only to this pipeline.
    pipeline: Option<PipelineName>,
    /// Only of this consumer.
    consumer: Option<ConsumerName>,
    /// How far back: `1h` (when absent), `6h`, `24h`, `7d` or `30d`.
    range: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RecentView {
    /// The calls, newest first.
    items: Vec<RecentItem>,
    /// How many calls to the process that answers were left out since it began, because there were too many at once.
    left_out: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RecentItem {
    request_id: String,
    at: String,
    environment: String,
    exposure: &'static str,
    method: String,
    /// Without the query.
    path: String,
    /// Null when the caller hung up before the answer.
    status: Option<u16>,
    /// The code of a problem.
    code: Option<String>,
    /// `well`, `refused`, `failed` or `hung-up`.
    ended: &'static str,
    pipeline: Option<String>,
    version: Option<String>,
    consumer: Option<String>,
    duration_ms: f64,
    /// Bytes of the answer's body; of one that was cut off, those that went through.
    bytes: Option<u64>,
    /// `caller` or `upstream`: who broke off an answer that had begun.
    cut_off: Option<&'static str>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RecentAsked {
    /// Only on listeners of this environment.
    environment: Option<EnvironmentName>,
    /// Only to this pipeline.
    pipeline: Option<PipelineName>,
    /// Only of this consumer.
    consumer: Option<ConsumerName>,
    /// Only those that ended so: `well`, `refused`, `failed` or `hung-up`.
    ended: Option<String>,
    /// Only with this status.
    status: Option<u16>,
    /// Only those that began after the one of this request id.
    after: Option<String>,
    /// How many at most: 1 to 500, 100 when absent.
    limit: Option<u32>,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/realms/{realm}/traffic",
            Access::Needs(Permission::UsageRead),
            "Tells what became of calls and how long they took, step by step",
            report,
        )
        .asks::<TrafficAsked>()
        .answers::<TrafficView>(),
        Operation::get(
            "/realms/{realm}/calls",
            Access::Needs(Permission::CallExplain),
            "Lists the last calls to the gateway of the answering process, newest first",
            recent,
        )
        .asks::<RecentAsked>()
        .answers::<RecentView>(),
    ]
}

async fn report(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(asked): Ask<TrafficAsked>,
) -> Answer<Json<TrafficView>> {
    let TrafficAsked { environment, pipeline, consumer, range } = asked;
    let range = TrafficRange::parse(range.as_deref())?;
    let report =
        api.app.traffic().report(&op, &TrafficQuery { environment, pipeline, consumer, range }).await?;
    let points =
        report.points.iter().map(|it| PointView { at: it.at.to_string(), tally: TallyView::from(&it.tally) });
    let pipelines = report.pipelines.iter().map(|it| PipelineView {
        environment: it.environment.to_string(),
        pipeline: it.pipeline.as_ref().map(|(name, _)| name.to_string()),
        major: it.pipeline.as_ref().map(|(_, major)| *major),
        tally: TallyView::from(&it.tally),
    });
    let consumers = report.consumers.iter().map(|it| ConsumerView {
        environment: it.environment.to_string(),
        consumer: match &it.caller {
            TrafficCaller::Consumer(name) => Some(name.to_string()),
            TrafficCaller::Unknown | TrafficCaller::Others => None,
        },
        others: it.caller == TrafficCaller::Others,
        tally: TallyView::from(&it.tally),
    });
    Ok(Json(TrafficView {
        since: report.since.to_string(),
        until: report.until.to_string(),
        step_minutes: report.step_minutes,
        total: TallyView::from(&report.total),
        points: points.collect(),
        pipelines: pipelines.collect(),
        consumers: consumers.collect(),
    }))
}

async fn recent(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(asked): Ask<RecentAsked>,
) -> Answer<Json<RecentView>> {
    let RecentAsked { environment, pipeline, consumer, ended, status, after, limit } = asked;
    let ended = ended.as_deref().map(Ended::parse).transpose()?;
    let after = after.as_deref().map(RequestId::parse).transpose().map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", error.to_string())
            .hint("send the `requestId` of a call of this list")
    })?;
    let filter = RecentFilter { environment, pipeline, consumer, ended, status, after };
    let found = api.app.recent_calls().list(&op, &filter, limit).await?;
    let items = found.calls.iter().map(|call| RecentItem::from(&**call)).collect();
    Ok(Json(RecentView { items, left_out: found.left_out }))
}

impl From<&Tally> for TallyView {
    fn from(tally: &Tally) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "half a minute in microseconds is exact")]
        let percentile = |percent| tally.percentile_us(percent).map(|us| us as f64 / 1_000.0);
        let codes = tally.codes().into_iter();
        Self {
            calls: tally.calls(),
            refused: tally.refused(),
            failed: tally.failed(),
            hung_up: tally.answered(AnswerClass::None),
            p50_ms: percentile(50),
            p95_ms: percentile(95),
            p99_ms: percentile(99),
            codes: codes
                .map(|(class, code, calls)| CodeView { status: class.as_str(), code: code.to_owned(), calls })
                .collect(),
        }
    }
}

impl From<&RecentCall> for RecentItem {
    fn from(call: &RecentCall) -> Self {
        Self {
            request_id: call.request_id.to_string(),
            at: call.at.to_string(),
            environment: call.environment.to_string(),
            exposure: call.exposure.as_str(),
            method: call.method.clone(),
            path: call.path.clone(),
            status: call.status,
            code: call.code.clone(),
            ended: Ended::of(call).as_str(),
            pipeline: call.pipeline.as_ref().map(|(name, _)| name.to_string()),
            version: call.pipeline.as_ref().map(|(_, version)| version.to_string()),
            consumer: call.consumer.as_ref().map(ToString::to_string),
            #[expect(clippy::cast_precision_loss, reason = "a call does not take 285 years")]
            duration_ms: call.took_us as f64 / 1_000.0,
            bytes: call.bytes,
            cut_off: call.cut_off.map(CutOff::as_str),
        }
    }
}
