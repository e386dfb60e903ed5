//! Runs flows: makes the first message, lends the flow its host, writes its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tollgate_credential::keysets::{SignTokenError, TokenRequest};
use tollgate_flow::{
    BoxFuture, Call, CallConsumer, CallMetadata, Flow, FlowFailure, FlowResponse, Host, IssueTokenError,
    Message, Overloaded, UpstreamError, UpstreamRequest, UpstreamResponse, VerifyError, parse_body,
};
use tollgate_model::explanations::Check;
use tollgate_model::ids::{ExecutionId, RequestId};
use tollgate_model::names::IssuerName;
use tollgate_model::session_cookies::SessionCookie;
use tollgate_model::steps::LogLevel;
use tollgate_model::triggers::Scope as TokenScope;
use tollgate_snapshot::{Broken, ConsumerEntry, Scope};

use crate::body::{self, BodyMemory, BodyTimeouts, Share};
use crate::checks::{INVALID_TOKEN, Permit, Target, bearer};
use crate::forms;
use crate::gateway::{Gateway, Received};
use crate::payload::{BoxError, Payload, Stream};
use crate::problem::{Answer, Code, Problem};
use crate::proxying;
use crate::request::{API_KEY, API_KEY_PARAMETER, decode_segment};
use crate::tokens::{TokenChecks, TokenError};
use crate::trace::Trace;
use crate::upstreams::{Deadline, Traced};
use crate::watch::{Unwatched, Watch};
use crate::why::Why;

/// Headers of a request that no flow sees: they carry credentials.
const CREDENTIAL_HEADERS: [http::HeaderName; 3] = [API_KEY, AUTHORIZATION, PROXY_AUTHORIZATION];

/// Headers that answers get besides those of their flow: the request's id, and what rate limits say.
const COMMON_HEADERS: usize = 3;

/// One run of a flow, as the host that the flow sees.
pub(crate) struct Run<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) scope: &'a Scope,
    pub(crate) consumer: Option<Arc<ConsumerEntry>>,
    /// Whose tokens count, as the trigger says.
    pub(crate) issuers: Option<&'a [IssuerName]>,
    pub(crate) metadata: CallMetadata,
    pub(crate) request_id: RequestId,
    /// Where the call comes from, as trusted proxies tell it; a schedule has no caller.
    pub(crate) client: Option<IpAddr>,
    /// The headers of the call; a schedule has none.
    pub(crate) headers: Option<&'a HeaderMap>,
    /// How long the flow may take.
    pub(crate) timeout: Duration,
    /// When it ends at the latest.
    pub(crate) deadline: Deadline,
}

/// Answers a call, for which the checks gave a permit, by its flow.
pub(crate) async fn answer<B>(
    gateway: &Gateway,
    permit: Permit,
    target: &Target<'_>,
    received: &Received<'_>,
    parameters: &[(&str, &str)],
    body: B,
) -> Result<Answer, Problem>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let endpoint = target.endpoint;
    let has_body = !body.is_end_stream();
    let flow = ready(target, &received.parts.headers, has_body, &mut Unwatched)?;
    if let Some(constant) = flow.constant().filter(|_| !has_body) {
        return Ok(write(constant, &endpoint.response_headers));
    }
    // What follows needs kilobytes for what it waits for. They are taken apart, so that a call that waits for nothing does
    // not move them about.
    if flow.streams() {
        return Box::pin(pass_through(gateway, flow, permit, target, received, parameters, body)).await;
    }
    Box::pin(run_whole(gateway, flow, permit, target, received, parameters, body)).await
}

/// Answers a call by its flow, once its body is there.
async fn run_whole<B>(
    gateway: &Gateway,
    flow: &Flow,
    permit: Permit,
    target: &Target<'_>,
    received: &Received<'_>,
    parameters: &[(&str, &str)],
    body: B,
) -> Result<Answer, Problem>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let endpoint = target.endpoint;
    let settings = &gateway.settings;
    let timeouts = BodyTimeouts { idle: settings.body_idle_timeout, total: settings.body_timeout };
    let (message, share) =
        read_message(target, parameters, &received.parts.headers, body, timeouts, &gateway.bodies).await?;
    let host = host(gateway, &permit, target, received)?;
    let mut response = run(flow, permit, message, target.head.authorization, &host).await?;
    response.body = share.keep_with(response.body);
    Ok(write(&response, &endpoint.response_headers))
}

/// Answers a call whose body goes on to an upstream, if the flow says so.
async fn pass_through<B>(
    gateway: &Gateway,
    flow: &Flow,
    permit: Permit,
    target: &Target<'_>,
    received: &Received<'_>,
    parameters: &[(&str, &str)],
    body: B,
) -> Result<Answer, Problem>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let scope = target.scope(Check::FlowReady)?;
    let settings = scope
        .settings
        .as_ref()
        .map_err(|broken| Why::broken(broken, Code::CheckUnavailable, Check::FlowReady))?;
    let stream = |body: B| (!body.is_end_stream()).then(|| -> Stream { Box::pin(body.map_err(Into::into)) });
    if let Some(order) = flow.forward() {
        return proxying::forward(gateway, target, received, parameters, stream(body), order, settings).await;
    }
    let message = first_message(target, parameters, &received.parts.headers)?;
    let host = host(gateway, &permit, target, received)?;
    let mut response = run(flow, permit, message, target.head.authorization, &host).await?;
    match response.forward.take() {
        Some(order) => {
            proxying::forward(gateway, target, received, parameters, stream(body), &order, settings).await
        }
        None => Ok(write(&response, &target.endpoint.response_headers)),
    }
}

/// Returns what the flow of a call reaches the outside by.
fn host<'a>(
    gateway: &'a Gateway,
    permit: &Permit,
    target: &Target<'a>,
    received: &Received<'a>,
) -> Result<Run<'a>, Problem> {
    let endpoint = target.endpoint;
    let metadata = CallMetadata {
        realm: endpoint.realm.to_string(),
        environment: endpoint.environment.to_string(),
        pipeline: endpoint.pipeline.to_string(),
        version: endpoint.version_text.clone(),
        execution_id: ExecutionId::new(received.now, gateway.random_bytes()).to_string(),
        request_id: received.request_id.to_string(),
    };
    let timeout = Duration::from_millis(endpoint.trigger.timeout_ms.get().into());
    Ok(Run {
        gateway,
        scope: target.scope(Check::FlowReady)?,
        consumer: permit.consumer().cloned(),
        issuers: endpoint.trigger.jwt.issuers(),
        metadata,
        request_id: received.request_id,
        client: Some(received.remote),
        headers: Some(&received.parts.headers),
        timeout,
        deadline: Deadline::after(timeout),
    })
}

/// Checks all that can be checked before the body is read: the flow, what it needs, and the content type.
pub(crate) fn ready<'a, W: Watch>(
    target: &Target<'a>,
    headers: &HeaderMap,
    has_body: bool,
    watch: &mut W,
) -> Result<&'a Flow, Problem> {
    let broken = |broken: &Broken| Why::broken(broken, Code::CheckUnavailable, Check::FlowReady);
    let flow = target.endpoint.flow.as_ref().map_err(broken)?;
    // An answer that is always the same needs nothing.
    if has_body || flow.constant().is_none() {
        let scope = target.scope(Check::FlowReady)?;
        scope.values.as_ref().map_err(broken)?;
        // Without them a flow could log what the policies say is never shown.
        scope.sensitive_fields.as_ref().map_err(broken)?;
        // Without them a flow could call whom the realm does not allow.
        scope.settings.as_ref().map_err(broken)?;
    }
    watch.passed(Check::FlowReady, || None);
    let taken = &target.endpoint.trigger.request_content_types;
    if has_body && !is_taken(taken, content_type(headers)) {
        return Err(Problem::new(Code::ContentTypeUnsupported).close());
    }
    if !taken.is_empty() {
        watch.passed(Check::ContentType, || (!has_body).then(|| "there is no body".to_owned()));
    }
    Ok(flow)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Reads the body of a call and makes the first message of its flow, which lives as long as the body's share of memory.
async fn read_message<B>(
    target: &Target<'_>,
    parameters: &[(&str, &str)],
    headers: &HeaderMap,
    body: B,
    timeouts: BodyTimeouts,
    memory: &BodyMemory,
) -> Result<(Message, Share), Problem>
where
    B: Body<Data = Bytes>,
{
    let trigger = &target.endpoint.trigger;
    let content_type = content_type(headers);
    let mut message = first_message(target, parameters, headers)?;
    let mut share = Share::default();
    if !body.is_end_stream() {
        let bytes;
        (bytes, share) = body::read(body, trigger.max_request_bytes.get(), timeouts, memory).await?;
        if forms::is_multipart(content_type) {
            message.form = forms::read(content_type, bytes).await?;
            return Ok((message, share));
        }
        (message.body, message.form) = parse_body(content_type, &bytes).map_err(|error| {
            Problem::new(Code::RequestMalformed).at(Check::Body).detail(error.to_string())
        })?;
    }
    Ok((message, share))
}

/// Makes the first message of a flow, without a body.
fn first_message(
    target: &Target<'_>,
    parameters: &[(&str, &str)],
    headers: &HeaderMap,
) -> Result<Message, Problem> {
    let mut message = Message {
        method: target.head.method.map(|method| method.as_str().to_owned()).unwrap_or_default(),
        content_type: content_type(headers).to_owned(),
        path: target.head.path.to_owned(),
        headers: visible_headers(headers),
        ..Message::default()
    };
    message.add_query(target.head.query);
    if target.endpoint.trigger.api_key.is_on() {
        message.query_and_path.shift_remove(API_KEY_PARAMETER);
    }
    // A parameter of the route is what the route says, whatever the query adds.
    for (name, value) in parameters {
        message.query_and_path.insert((*name).to_owned(), Value::String(decode_segment(value)?));
    }
    Ok(message)
}

/// Runs a flow, for which the checks gave a permit.
pub(crate) async fn run(
    flow: &Flow,
    mut permit: Permit,
    message: Message,
    authorization: Option<&HeaderValue>,
    run: &Run<'_>,
) -> Result<FlowResponse, Problem> {
    let broken = |broken: &Broken| Why::broken(broken, Code::CheckUnavailable, Check::FlowReady);
    let values = run.scope.values.as_ref().map_err(broken)?;
    let sensitive_fields = run.scope.sensitive_fields.as_ref().map_err(broken)?;
    // Its signature is good, so whoever signed it wrote what cannot be read.
    let unreadable = || Problem::new(Code::JwtInvalid).challenge(INVALID_TOKEN);
    let claims = permit.take_claims().map(|claims| claims.into_all().ok_or_else(unreadable)).transpose()?;
    let call = Call {
        message,
        claims,
        consumer: permit
            .consumer()
            .map(|consumer| CallConsumer { id: consumer.subject.clone(), name: consumer.name.to_string() }),
        client: run.client,
        metadata: run.metadata.clone(),
        bearer: bearer(authorization),
        sensitive_fields: sensitive_fields.clone(),
    };
    let response = tokio::time::timeout(run.timeout, flow.run(call, values, run))
        .await
        .map_err(|_| Problem::new(Code::FlowTimeout))?;
    match response.failure {
        None => Ok(response),
        Some(FlowFailure { status, code, message, detail }) => {
            tracing::warn!(
                target: "tollgate::flow", request_id = run.metadata.request_id, pipeline = run.metadata.pipeline,
                version = run.metadata.version, environment = run.metadata.environment, code, detail, "a flow failed"
            );
            Err(Problem::flow(status, code, message))
        }
    }
}

/// Writes the answer of a flow; its own headers go before those of its trigger.
fn write(response: &FlowResponse, defaults: &HeaderMap) -> Answer {
    let mut answer = Response::new(Payload::from(response.body.clone()));
    *answer.status_mut() = response.status;
    let headers = answer.headers_mut();
    // With room for what every answer gets besides, so that it grows once.
    headers.reserve(response.headers.len() + defaults.len() + COMMON_HEADERS);
    if !defaults.is_empty() {
        headers.extend(defaults.clone());
        for (name, _) in &response.headers {
            headers.remove(name);
        }
    }
    for (name, value) in &response.headers {
        headers.append(name.clone(), value.clone());
    }
    answer
}

fn visible_headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut visible = Map::new();
    for name in headers.keys().filter(|name| !CREDENTIAL_HEADERS.contains(name)) {
        if name == COOKIE {
            let cookies = visible_cookies(headers);
            if !cookies.is_empty() {
                visible.insert(name.as_str().to_owned(), Value::String(cookies));
            }
            continue;
        }
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        visible.insert(name.as_str().to_owned(), Value::String(values.join(", ")));
    }
    visible
}

/// Returns the cookies of a call without the session of whoever is signed in to the console. Cookies ignore ports, so a
/// browser sends it to a gateway on the same host, too.
pub(crate) fn visible_cookies(headers: &HeaderMap) -> String {
    let values = headers.get_all(COOKIE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let cookies =
        values.flat_map(|value| value.split(';').map(|it| it.trim().to_owned()).collect::<Vec<_>>());
    let is_session = |cookie: &String| {
        let name = cookie.split('=').next().unwrap_or_default().trim();
        SessionCookie::ALL.iter().any(|it| name.eq_ignore_ascii_case(it.name()))
    };
    cookies.filter(|cookie| !cookie.is_empty() && !is_session(cookie)).collect::<Vec<_>>().join("; ")
}

/// Tells whether a content type is one of those taken: `text/plain`, `text/*`; all when none is listed.
fn is_taken(taken: &[String], content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    taken.is_empty()
        || taken.iter().any(|pattern| match pattern.strip_suffix("/*") {
            Some("*") => true,
            Some(range) => essence.split_once('/').is_some_and(|(kind, _)| kind.eq_ignore_ascii_case(range)),
            None => pattern.eq_ignore_ascii_case(essence),
        })
}

// === impl Run ===

impl Host for Run<'_> {
    fn http(&self, mut request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamResponse, UpstreamError>> {
        let none = HeaderMap::new();
        // A flow whose realm's settings are broken does not run.
        let settings = self.scope.settings.as_ref().cloned().unwrap_or_default();
        let mut trace = Trace::of(self.headers.unwrap_or(&none), self.request_id);
        let traced = Traced::below(self.gateway, &mut trace, &self.metadata.pipeline);
        if traced.is_none() {
            trace.write(&mut request.headers);
        }
        let deadline = Some(self.deadline);
        Box::pin(async move { self.gateway.upstreams.call(request, &settings, deadline, traced).await })
    }

    fn issue_token(
        &self,
        claims: Map<String, Value>,
        scopes: &[TokenScope],
        expires_in_ms: u64,
    ) -> Result<String, IssueTokenError> {
        let consumer = self.consumer.as_ref().ok_or(IssueTokenError::NoConsumer)?;
        let key_set = self.scope.key_set.as_ref().map_err(|_| IssueTokenError::Unavailable)?;
        let request = TokenRequest { subject: &consumer.subject, scopes, expires_in_ms, claims };
        key_set.sign(request, self.gateway.clock.now(), &*self.gateway.random).map_err(|error| match error {
            SignTokenError::TooLarge => IssueTokenError::ClaimsTooLarge,
            SignTokenError::NoActiveKey | SignTokenError::Unavailable => IssueTokenError::Unavailable,
        })
    }

    fn verify_token(&self, token: &str) -> Result<Map<String, Value>, VerifyError> {
        let holder = self.consumer.as_ref().map(|consumer| consumer.id);
        let Gateway { clock, verified_tokens: memory, issuer_keys: keys, .. } = self.gateway;
        let checks = TokenChecks { scope: self.scope, issuers: self.issuers, memory, keys, now: clock.now() };
        match checks.verify(token, holder, &mut Unwatched) {
            Ok((claims, _)) => claims.into_all().ok_or(VerifyError::Invalid),
            Err(TokenError::Unavailable(..)) => Err(VerifyError::Unavailable),
            Err(TokenError::Invalid(..) | TokenError::OtherConsumer(_)) => Err(VerifyError::Invalid),
        }
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, Result<(), Overloaded>> {
        // The work of a step owns what it needs: the trait object is 'static.
        Box::pin(self.gateway.passwords.run(work))
    }

    fn log(&self, level: LogLevel, step: &str, message: &str) {
        let CallMetadata { pipeline, version, environment, request_id, .. } = &self.metadata;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "tollgate::flow", request_id, pipeline, version, environment, step, "{message}"
                )
            };
        }
        match level {
            LogLevel::Debug => line!(debug),
            LogLevel::Info => line!(info),
            LogLevel::Warn => line!(warn),
            LogLevel::Error => line!(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_match_exactly_or_by_range() {
        let taken = ["text/*".to_owned(), "application/xml".to_owned()];
        for good in ["text/plain", "Text/CSV; charset=utf-8", "application/XML"] {
            assert!(is_taken(&taken, good), "{good}");
        }
        for bad in ["", "textual/plain", "text", "application/json", "application/xml2"] {
            assert!(!is_taken(&taken, bad), "{bad}");
        }
        assert!(is_taken(&[], "anything/at-all") && is_taken(&["*/*".to_owned()], ""));
    }

    #[test]
    fn no_flow_sees_credentials() {
        let mut headers = HeaderMap::new();
        for name in ["apikey", "authorization", "proxy-authorization", "x-seen"] {
            headers.insert(name, HeaderValue::from_static("value"));
        }
        headers.append("x-seen", HeaderValue::from_static("again"));
        let visible = visible_headers(&headers);
        assert_eq!(Value::Object(visible), serde_json::json!({ "x-seen": "value, again" }));

        let cookies = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("cookie", HeaderValue::from_static(value));
            }
            Value::Object(visible_headers(&headers))
        };
        let shop = serde_json::json!({ "cookie": "basket=1; lang=en" });
        for values in [
            &["basket=1; tollgate_session=tgu_secret; lang=en"][..],
            &["basket=1", " TOLLGATE_SESSION =tgu_secret", "lang=en;"],
            &["tollgate_session=a=b;basket=1;tollgate_session;lang=en"],
            &["__Host-tollgate_session=tgu_secret; basket=1; __host-Tollgate_Session=a; lang=en"],
        ] {
            assert_eq!(cookies(values), shop, "{values:?}");
        }
        assert_eq!(cookies(&["tollgate_session=tgu_secret"]), serde_json::json!({}));
    }
}
