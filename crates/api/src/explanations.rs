//! Explanations: what the gateway would answer to a call, and why it refused one.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::access::Permission;
use tollgate_app::calls::CallKeyView;
use tollgate_app::explanations::{Listener, NamedExplanation};
use tollgate_app::lists::ListRequest;
use tollgate_app::refused_calls::{NamedRefusal, RefusalFilter};
use tollgate_model::environments::Exposure;
use tollgate_model::explanations::{CallToExplain, CheckOutcome, CheckReport, Reached, Refusal};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};

use crate::Api;
use crate::answers::{Answer, ListView};
use crate::extract::{Ask, Body, Caller, In};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

/// A call as it would be sent. Nothing of it is kept. No `Debug`: it holds credentials.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CallBody {
    /// The method; `GET` when absent.
    method: Option<String>,
    /// A URL, or a path with or without a query. Host and port of a URL are the `Host` header, no more.
    url: String,
    /// On which listener; `external` when absent.
    #[schemars(with = "Option<String>", extend("enum" = ["external", "internal", null]))]
    exposure: Option<Exposure>,
    /// Header fields as name and value.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// The declared length of the body, in bytes.
    body_length: Option<u64>,
    /// The client certificate of the connection, PEM, with those of CAs between it and the root behind it. It is taken as
    /// shown at the listener that asks for one; no key is needed.
    certificate: Option<String>,
    /// From which address, for rate limits that count addresses; where the request comes from when absent.
    #[schemars(with = "Option<String>")]
    remote: Option<IpAddr>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ExplanationView {
    /// As of when.
    at: String,
    /// The journal entry up to which the gateway that answers knows everything; null when it knows nothing yet.
    revision: Option<u64>,
    environment: String,
    exposure: &'static str,
    answer: AnswerView,
    #[serde(flatten)]
    reached: ReachedView,
    /// The credentials of the call, as far as they are shown: `apiKey` by `place` and `shown`, the fingerprint of the client
    /// `certificate`, the scheme of `authorization`, and what its `token` says of itself, unverified.
    sent: Value,
    /// Every check of the gateway, in order.
    checks: Vec<CheckView>,
}

#[derive(Serialize, JsonSchema)]
struct AnswerView {
    /// Null when the flow decides it.
    status: Option<u16>,
    /// The code of a refusal.
    code: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ReachedView {
    pipeline: Option<String>,
    version: Option<String>,
    /// The route, as its author wrote it.
    route: Option<String>,
    /// The consumer whose credentials the call carries, once that is known.
    consumer: Option<String>,
    /// The API key that the call carries, when it is one of the environment's: `id`, `name` and `hint`.
    key: Option<Value>,
    /// The id of the client certificate that the call carries, when it is one of the environment's.
    certificate: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct CheckView {
    check: &'static str,
    /// `passed`, `failed`, `unavailable` (it can't be made), `notDemanded` or `notReached`.
    outcome: &'static str,
    /// What was found.
    why: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ListenerView {
    environment: String,
    exposure: &'static str,
    /// Whether it takes nobody without a client certificate.
    mtls: bool,
    address: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RefusalView {
    #[serde(flatten)]
    summary: RefusalItem,
    /// The API key that the call carried, when it was one of the environment's: `id`, `name` and `hint`.
    key: Option<Value>,
    /// The id of the client certificate that the call carried, when it was one of the environment's.
    certificate: Option<String>,
    /// The journal entry up to which the gateway knew everything.
    revision: u64,
    /// The credentials of the call, as far as they are shown.
    sent: Value,
    /// Every check of the gateway, in order.
    checks: Vec<CheckView>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RefusalItem {
    request_id: String,
    at: String,
    environment: String,
    exposure: &'static str,
    method: String,
    /// Without the query.
    path: String,
    /// From which address.
    remote: String,
    status: u16,
    code: String,
    pipeline: Option<String>,
    version: Option<String>,
    route: Option<String>,
    consumer: Option<String>,
    /// The check that refused it.
    check: Option<&'static str>,
    /// What it found.
    why: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RefusalsView {
    #[serde(flatten)]
    list: ListView<RefusalItem>,
    /// How many calls of the realm were refused in that time and not kept, because there were too many at once.
    not_kept: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RefusalsQuery {
    /// Only on listeners of this environment.
    environment: Option<EnvironmentName>,
    /// Only to this pipeline.
    pipeline: Option<PipelineName>,
    /// Only of this consumer.
    consumer: Option<ConsumerName>,
    /// Only with this code.
    code: Option<String>,
    /// Only at or after this time.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    since: Option<Timestamp>,
    /// How many at most: 1 to 500.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct OfEnvironment {
    environment: EnvironmentName,
}

#[derive(Deserialize)]
struct OfCall {
    request: String,
}

pub(crate) fn operations() -> Vec<Operation> {
    let explain = Access::Needs(Permission::CallExplain);
    vec![
        Operation::post(
            "/realms/{realm}/environments/{environment}/explain",
            explain,
            "Says what the gateway would answer to a call, and why, check by check",
            explain_call,
        )
        .takes::<CallBody>()
        .answers::<ExplanationView>(),
        Operation::get(
            "/realms/{realm}/listeners",
            explain,
            "Lists where the gateway of the answering process listens",
            listeners,
        )
        .answers::<ListView<ListenerView>>(),
        Operation::get(
            "/realms/{realm}/refusals",
            explain,
            "Lists calls that gateways refused, newest first",
            refusals,
        )
        .asks::<RefusalsQuery>()
        .answers::<RefusalsView>(),
        Operation::get(
            "/realms/{realm}/refusals/{request}",
            explain,
            "Says why a call was refused, check by check",
            refusal,
        )
        .answers::<RefusalView>(),
    ]
}

async fn explain_call(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfEnvironment>,
    Body(body): Body<CallBody>,
) -> Answer<Json<ExplanationView>> {
    let asker = op.source.parse().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let call = CallToExplain {
        environment: path.environment,
        exposure: body.exposure.unwrap_or(Exposure::External),
        method: body.method.unwrap_or_else(|| "GET".to_owned()),
        url: body.url,
        headers: body.headers,
        body_length: body.body_length,
        certificate: body.certificate,
        remote: body.remote.unwrap_or(asker),
    };
    let NamedExplanation { explanation, key } = api.app.explanations().explain(&op, &call).await?;
    Ok(Json(ExplanationView {
        at: explanation.at.to_string(),
        revision: explanation.revision,
        environment: call.environment.to_string(),
        exposure: call.exposure.as_str(),
        answer: AnswerView { status: explanation.answer.status, code: explanation.answer.code },
        reached: ReachedView::new(explanation.reached, key),
        sent: json!(explanation.sent),
        checks: explanation.checks.into_iter().map(CheckView::from).collect(),
    }))
}

async fn listeners(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<ListenerView>>> {
    let listeners = api.app.explanations().listeners(&op).await?;
    Ok(Json(ListView { items: listeners.into_iter().map(ListenerView::from).collect(), next: None }))
}

async fn refusals(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<RefusalsQuery>,
) -> Answer<Json<RefusalsView>> {
    let RefusalsQuery { environment, pipeline, consumer, code, since, limit, cursor } = query;
    let filter = RefusalFilter { environment, pipeline, consumer, code, since };
    let found = api.app.refused_calls().list(&op, &filter, ListRequest { limit, cursor }).await?;
    let page = found.page.map(|refusal| RefusalItem::from(&*refusal));
    let list = ListView { items: page.items, next: page.next };
    Ok(Json(RefusalsView { list, not_kept: found.not_kept }))
}

async fn refusal(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfCall>,
) -> Answer<Json<RefusalView>> {
    let id = RequestId::parse(&path.request).map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", error.to_string())
            .hint("it is in the answer, as `requestId` and as the header `x-request-id`")
    })?;
    let NamedRefusal { refusal, key } = api.app.refused_calls().get(&op, id).await?;
    Ok(Json(RefusalView {
        summary: RefusalItem::from(&*refusal),
        key: key.map(|key| json!(key)),
        certificate: refusal.reached.certificate.map(|id| id.to_string()),
        revision: refusal.revision,
        sent: json!(refusal.sent),
        checks: refusal.checks.iter().cloned().map(CheckView::from).collect(),
    }))
}

impl ReachedView {
    fn new(reached: Reached, key: Option<CallKeyView>) -> Self {
        Self {
            pipeline: reached.pipeline.map(|name| name.to_string()),
            version: reached.version.map(|version| version.to_string()),
            route: reached.route,
            consumer: reached.consumer.map(|name| name.to_string()),
            key: key.map(|key| json!(key)),
            certificate: reached.certificate.map(|id| id.to_string()),
        }
    }
}

impl From<CheckReport> for CheckView {
    fn from(report: CheckReport) -> Self {
        Self { check: report.check.as_str(), outcome: report.outcome.as_str(), why: report.why }
    }
}

impl From<Listener> for ListenerView {
    fn from(listener: Listener) -> Self {
        Self {
            environment: listener.environment.to_string(),
            exposure: listener.exposure.as_str(),
            mtls: listener.mtls,
            address: listener.address.to_string(),
        }
    }
}

impl From<&Refusal> for RefusalItem {
    fn from(refusal: &Refusal) -> Self {
        let is_fault =
            |it: &&CheckReport| matches!(it.outcome, CheckOutcome::Failed | CheckOutcome::Unavailable);
        let fault = refusal.checks.iter().find(is_fault);
        let reached = refusal.reached.clone();
        Self {
            request_id: refusal.request_id.to_string(),
            at: refusal.at.to_string(),
            environment: refusal.environment.to_string(),
            exposure: refusal.exposure.as_str(),
            method: refusal.method.clone(),
            path: refusal.path.clone(),
            remote: refusal.remote.to_string(),
            status: refusal.status,
            code: refusal.code.clone(),
            pipeline: reached.pipeline.map(|name| name.to_string()),
            version: reached.version.map(|version| version.to_string()),
            route: reached.route,
            consumer: reached.consumer.map(|name| name.to_string()),
            check: fault.map(|fault| fault.check.as_str()),
            why: fault.and_then(|fault| fault.why.clone()),
        }
    }
}
