//! Running a flow.

use std::sync::{Arc, mpsc};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tollgate_model::policies::SensitiveFields;
use tollgate_model::trials::StepFault;

use crate::budget::{self, Budget};
use crate::compile::{Action, CompiledStep, ErrorTemplate, Flow, ResponseShape};
use crate::expressions::{EvaluateError, Expression, Scope};
use crate::forward::Forward;
use crate::host::{BoxFuture, Host, IssueTokenError, UpstreamError, VerifyError};
use crate::messages::{Call, Client};
use crate::sensitive::Sensitive;
use crate::templates::{Template, TextTemplate};
use crate::upstreams;
use crate::values::Values;
use crate::watch::{Veil, Watcher};

/// What a flow answers.
#[derive(Debug, Clone)]
pub struct FlowResponse {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body.
    pub body: Bytes,
    /// Why the flow failed; the gateway writes the answer then, and `headers` and `body` are empty.
    pub failure: Option<FlowFailure>,
    /// Where the call goes on; the upstream writes the answer then, and `headers` and `body` are empty.
    pub forward: Option<Box<Forward>>,
}

/// Why a flow failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowFailure {
    /// The status to answer.
    pub status: StatusCode,
    /// A stable code: the author's, `flow-failed`, `flow-overloaded` or one of an [`UpstreamError`].
    pub code: String,
    /// For the caller: the author's words, or general ones.
    pub message: String,
    /// For the log: which step and why, without data of the call.
    pub detail: String,
}

/// An error on its way up.
struct StepError {
    status: u16,
    code: String,
    message: String,
    detail: String,
}

/// Whether the flow goes on.
enum Next {
    Continue,
    Respond,
}

struct Run<'a, 'w> {
    flow: &'a Flow,
    values: &'a Values,
    host: &'a dyn Host,
    message: Value,
    claims: Value,
    consumer: Value,
    client: Client,
    metadata: Value,
    bearer: Option<&'a str>,
    sensitive_fields: Arc<SensitiveFields>,
    budget: Budget,
    /// Set by `jwtGenerate`.
    authorization: Option<HeaderValue>,
    /// Set by `respond`.
    response: Option<FlowResponse>,
    /// Who looks at the run; nobody at that of a call.
    watcher: Option<&'w mut dyn Watcher>,
}

/// Most data that a step may make in a run that is watched, in bytes of memory.
const MAX_WATCHED_BYTES: u64 = 32 << 20;

// === impl Flow ===

impl Flow {
    /// Runs the flow.
    ///
    /// Dropping the future ends the run between two steps or within a call of the host; there is nothing to clean up.
    pub async fn run(&self, call: Call, values: &Values, host: &dyn Host) -> FlowResponse {
        if let Some(constant) = self.constant() {
            return constant.clone();
        }
        self.run_steps(call, values, host, None).await
    }

    /// Runs the flow for somebody who looks at every step, with less room than a call has. What it answers is masked like
    /// what is shown of its steps, and any token in it is taken out.
    pub async fn run_watched(
        &self,
        call: Call,
        values: &Values,
        host: &dyn Host,
        watcher: &mut dyn Watcher,
    ) -> FlowResponse {
        let policy = call.sensitive_fields.clone();
        let mut response = self.run_steps(call, values, host, Some(watcher)).await;
        let veil = Veil { values, sensitive: Sensitive { own: &self.sensitive_fields, policy: &policy } };
        for (name, value) in &mut response.headers {
            let shown = if *name == AUTHORIZATION {
                "Bearer ***".to_owned()
            } else if veil.sensitive.hides(name.as_str(), true) {
                "***".to_owned()
            } else {
                veil.text(&String::from_utf8_lossy(value.as_bytes()))
            };
            *value = HeaderValue::try_from(shown).unwrap_or(HeaderValue::from_static("***"));
        }
        response.body = match serde_json::from_slice::<Value>(&response.body) {
            Ok(body) => veil.show(&body).value.to_string().into(),
            Err(_) => veil.text(&String::from_utf8_lossy(&response.body)).into(),
        };
        if let Some(failure) = &mut response.failure {
            failure.code = veil.text(&failure.code);
            failure.message = veil.text(&failure.message);
            failure.detail = veil.text(&failure.detail);
        }
        response
    }

    async fn run_steps(
        &self,
        mut call: Call,
        values: &Values,
        host: &dyn Host,
        watcher: Option<&mut dyn Watcher>,
    ) -> FlowResponse {
        let max_bytes =
            if watcher.is_some() { self.max_step_bytes.min(MAX_WATCHED_BYTES) } else { self.max_step_bytes };
        let mut run = Run {
            flow: self,
            values,
            host,
            message: std::mem::take(&mut call.message).into_value(),
            claims: call.claims.take().map_or(Value::Null, Value::Object),
            consumer: call
                .consumer
                .as_ref()
                .map_or(Value::Null, |it| json!({ "id": it.id, "name": it.name })),
            client: Client::new(call.client),
            metadata: call.metadata.to_value(),
            bearer: call.bearer.as_deref().map(String::as_str),
            sensitive_fields: call.sensitive_fields.clone(),
            budget: Budget::new(max_bytes),
            authorization: None,
            response: None,
            watcher,
        };
        match run.steps(&self.steps).await {
            Ok(_) => run.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

// === impl Run ===

impl Run<'_, '_> {
    fn steps<'s>(&'s mut self, steps: &'s [CompiledStep]) -> BoxFuture<'s, Result<Next, StepError>> {
        Box::pin(async move {
            for step in steps {
                self.budget.begin_step().await;
                self.tell_begin(step);
                let outcome = self.step(step).await;
                self.tell_end(step, &outcome);
                let outcome = match outcome {
                    Err(error) if !step.fail_on_error => {
                        self.host.log(tollgate_model::steps::LogLevel::Debug, &step.label, &error.detail);
                        self.message = error.into_message();
                        Ok(Next::Continue)
                    }
                    outcome => outcome,
                };
                if let Next::Respond = outcome? {
                    return Ok(Next::Respond);
                }
            }
            Ok(Next::Continue)
        })
    }

    async fn step(&mut self, step: &CompiledStep) -> Result<Next, StepError> {
        let failed = |error: EvaluateError| StepError::of_step(step, error.to_string());
        match &step.action {
            Action::Json(template) => {
                let message = template.evaluate(&self.scope()).map_err(failed)?;
                if budget::is_too_deep(&message) {
                    return Err(StepError::of_step(step, "the message would nest too deep".to_owned()));
                }
                self.message = message;
            }
            Action::Assert { condition, error } => {
                if !self.condition(step, condition).await? {
                    return Err(self.error(step, error));
                }
            }
            Action::Throw(error) => return Err(self.error(step, error)),
            Action::Choice { when, otherwise } => {
                let mut chosen = otherwise.as_deref();
                let mut branch = None;
                for (index, (condition, steps)) in when.iter().enumerate() {
                    if self.condition(step, condition).await? {
                        (chosen, branch) = (Some(steps.as_slice()), Some(index));
                        break;
                    }
                }
                self.tell_branch(|| match (branch, chosen) {
                    (Some(index), _) => format!("{}/choice/when/{index}", step.pointer),
                    (None, Some(_)) => format!("{}/choice/otherwise", step.pointer),
                    (None, None) => "none".to_owned(),
                });
                if let Some(steps) = chosen {
                    return self.steps(steps).await;
                }
            }
            Action::Block { steps, on_error } => {
                return match (self.steps(steps).await, on_error) {
                    (Err(error), Some(on_error)) => {
                        self.message = error.into_message();
                        self.tell_branch(|| format!("{}/block/onError", step.pointer));
                        self.steps(on_error).await
                    }
                    (outcome, _) => outcome,
                };
            }
            Action::Http(request) => {
                let request = request
                    .make(&self.scope())
                    .map_err(|error| StepError::of_step(step, error.to_string()))?;
                let response =
                    self.host.http(request).await.map_err(|error| StepError::of_upstream(step, &error))?;
                self.message = upstreams::message(&response);
            }
            Action::Proxy(forwarding) => {
                let forward = forwarding
                    .make(&self.scope())
                    .map_err(|error| StepError::of_step(step, error.to_string()))?;
                self.response = Some(FlowResponse::of_forward(forward));
                return Ok(Next::Respond);
            }
            Action::Respond { status, headers, body } => {
                self.response = Some(self.respond(step, *status, headers, body.as_ref())?);
                return Ok(Next::Respond);
            }
            Action::Log { level, message } => {
                let sensitive =
                    Sensitive { own: &self.flow.sensitive_fields, policy: &self.sensitive_fields };
                let hide = |expression: &Expression, value| sensitive.hide(expression, value, &self.message);
                let text = message.write(&self.scope(), hide).map_err(failed)?;
                self.host.log(*level, &step.label, &self.values.mask(&text));
            }
            Action::JwtGenerate { scopes, expires_in_ms } => {
                let Value::Object(claims) = self.message.take() else {
                    return Err(StepError::of_step(
                        step,
                        "the message before jwtGenerate is not an object".to_owned(),
                    ));
                };
                let token = self.host.issue_token(claims, scopes, *expires_in_ms).map_err(|error| {
                    let mut failure = StepError::of_step(step, error.to_string());
                    if error == IssueTokenError::Unavailable {
                        (failure.status, failure.code) = (503, "check-unavailable".to_owned());
                    }
                    failure
                })?;
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| StepError::of_step(step, "the token is no header value".to_owned()))?;
                value.set_sensitive(true);
                self.authorization = Some(value);
                self.message = json!({ "status": "logged" });
            }
            Action::JwtDecode => {
                let claims = match self.bearer.map(|token| self.host.verify_token(token)) {
                    Some(Ok(claims)) => claims,
                    Some(Err(VerifyError::Unavailable)) => {
                        let mut failure = StepError::of_step(step, "no token can be verified".to_owned());
                        (failure.status, failure.code) = (503, "check-unavailable".to_owned());
                        return Err(failure);
                    }
                    Some(Err(VerifyError::Invalid)) | None => {
                        return Err(StepError {
                            status: 401,
                            code: "jwt-invalid".to_owned(),
                            message: "the bearer token is missing or not good".to_owned(),
                            detail: format!("step {}: the bearer token is missing or not good", step.label),
                        });
                    }
                };
                self.message = json!({ "dataToken": claims });
            }
        }
        Ok(Next::Continue)
    }

    fn tell_begin(&mut self, step: &CompiledStep) {
        if self.watcher.is_some() {
            let shown = self.veil().show(&self.message);
            let label = self.values.mask(&step.label);
            if let Some(watcher) = &mut self.watcher {
                watcher.begin(&step.pointer, &label, shown);
            }
        }
    }

    fn tell_branch(&mut self, taken: impl FnOnce() -> String) {
        if let Some(watcher) = &mut self.watcher {
            watcher.branch(&taken());
        }
    }

    fn tell_end(&mut self, step: &CompiledStep, outcome: &Result<Next, StepError>) {
        if self.watcher.is_none() {
            return;
        }
        let veil = self.veil();
        let (message, fault) = match outcome {
            Ok(Next::Continue) => (Some(veil.show(&self.message)), None),
            Ok(Next::Respond) => (None, None),
            Err(error) => {
                let fault = StepFault {
                    status: error.status,
                    code: veil.text(&error.code),
                    message: veil.text(&error.message),
                    detail: veil.text(&error.detail),
                    went_on: !step.fail_on_error,
                };
                (None, Some(fault))
            }
        };
        if let Some(watcher) = &mut self.watcher {
            watcher.end(message, fault);
        }
    }

    fn veil(&self) -> Veil<'_> {
        let sensitive = Sensitive { own: &self.flow.sensitive_fields, policy: &self.sensitive_fields };
        Veil { values: self.values, sensitive }
    }

    fn scope(&self) -> Scope<'_> {
        Scope {
            message: &self.message,
            values: self.values,
            claims: &self.claims,
            consumer: &self.consumer,
            client: &self.client,
            metadata: &self.metadata,
            budget: &self.budget,
        }
    }

    async fn condition(&self, step: &CompiledStep, condition: &Expression) -> Result<bool, StepError> {
        let value = if condition.is_slow() {
            let detached = condition
                .detach(&self.scope())
                .map_err(|error| StepError::of_step(step, error.to_string()))?;
            let (sender, receiver) = mpsc::sync_channel(1);
            let work = Box::new(move || drop(sender.try_send(detached.evaluate())));
            self.host.run_blocking(work).await.map_err(|_| StepError::overloaded(step))?;
            receiver
                .try_recv()
                .map_err(|_| StepError::overloaded(step))?
                .map_err(|reason| StepError::of_step(step, condition.error(reason).to_string()))?
        } else {
            condition.evaluate(&self.scope()).map_err(|error| StepError::of_step(step, error.to_string()))?
        };
        value.as_bool().ok_or_else(|| {
            StepError::of_step(
                step,
                condition.error("it gives neither true nor false".to_owned()).to_string(),
            )
        })
    }

    /// Makes the author's error; account values in it are masked.
    fn error(&self, step: &CompiledStep, template: &ErrorTemplate) -> StepError {
        let write = |text: &TextTemplate| text.text(&self.scope()).map(|text| self.values.mask(&text));
        let code = template.code.as_ref().map_or(Ok("flow-failed".to_owned()), write);
        match (write(&template.error), code) {
            (Ok(message), Ok(code)) => StepError {
                status: template.status,
                code,
                message,
                detail: format!("step {} ended the flow", step.label),
            },
            (Err(error), _) | (_, Err(error)) => StepError::of_step(step, error.to_string()),
        }
    }

    fn respond(
        &self,
        step: &CompiledStep,
        status: u16,
        headers: &[(HeaderName, TextTemplate)],
        body: Option<&Template>,
    ) -> Result<FlowResponse, StepError> {
        let failed = |error: EvaluateError| StepError::of_step(step, error.to_string());
        let mut fields = Vec::with_capacity(headers.len() + 1);
        for (name, value) in headers {
            let value = value.text(&self.scope()).map_err(failed)?;
            let value = HeaderValue::try_from(value).map_err(|_| {
                StepError::of_step(step, format!("header `{name}` would hold a forbidden character"))
            })?;
            fields.push((name.clone(), value));
        }
        let evaluated = body.map(|body| body.evaluate(&self.scope())).transpose().map_err(failed)?;
        let message = evaluated.as_ref().unwrap_or(&self.message);
        let typed = fields.iter().any(|(name, _)| *name == CONTENT_TYPE);
        let shape = if typed { ResponseShape::Any(None) } else { self.flow.response.clone() };
        let mut response = FlowResponse::of_message(message, &shape);
        response.status = StatusCode::from_u16(status).unwrap_or_default();
        if typed {
            response.headers.clear();
        }
        response.headers.append(&mut fields);
        Ok(response)
    }

    fn into_response(self) -> FlowResponse {
        let mut response =
            self.response.unwrap_or_else(|| FlowResponse::of_message(&self.message, &self.flow.response));
        if let Some(authorization) = self.authorization {
            // One token in one header: which of two a caller takes is anybody's guess.
            response.headers.retain(|(name, _)| *name != AUTHORIZATION);
            response.headers.push((AUTHORIZATION, authorization));
        }
        response
    }
}

// === impl FlowResponse ===

impl FlowResponse {
    /// Makes the response of a last message.
    pub(crate) fn of_message(message: &Value, shape: &ResponseShape) -> Self {
        let (body, content_type) = match (shape, message) {
            (ResponseShape::Any(content_type), Value::String(text)) => {
                (Bytes::from(text.clone()), content_type.as_deref().unwrap_or("text/plain; charset=utf-8"))
            }
            (ResponseShape::Any(Some(content_type)), _) => {
                (Bytes::from(message.to_string()), content_type.as_str())
            }
            _ => (Bytes::from(message.to_string()), "application/json"),
        };
        let content_type = HeaderValue::from_str(content_type)
            .unwrap_or(HeaderValue::from_static("application/octet-stream"));
        Self {
            status: StatusCode::OK,
            headers: vec![(CONTENT_TYPE, content_type)],
            body,
            failure: None,
            forward: None,
        }
    }

    fn of_forward(forward: Forward) -> Self {
        Self {
            status: StatusCode::OK,
            headers: Vec::new(),
            body: Bytes::new(),
            failure: None,
            forward: Some(Box::new(forward)),
        }
    }
}

// === impl StepError ===

impl StepError {
    /// The flow's own fault: the caller learns nothing but that.
    fn of_step(step: &CompiledStep, detail: String) -> Self {
        Self {
            status: 500,
            code: "flow-failed".to_owned(),
            message: "the flow failed".to_owned(),
            detail: format!("step {}: {detail}", step.label),
        }
    }

    fn of_upstream(step: &CompiledStep, error: &UpstreamError) -> Self {
        let (status, code) = error.outcome();
        let detail = format!("step {}: {error}", step.label);
        Self { status, code: code.to_owned(), message: error.public().to_owned(), detail }
    }

    fn overloaded(step: &CompiledStep) -> Self {
        Self {
            status: 503,
            code: "flow-overloaded".to_owned(),
            message: "too much is going on: try again later".to_owned(),
            detail: format!("step {}: too much slow work at once", step.label),
        }
    }

    /// The message of a step whose error does not fail the flow.
    fn into_message(self) -> Value {
        json!({ "success": false, "error": self.message, "code": self.code })
    }

    fn into_response(self) -> FlowResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let failure = FlowFailure { status, code: self.code, message: self.message, detail: self.detail };
        FlowResponse {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            failure: Some(failure),
            forward: None,
        }
    }
}

#[cfg(test)]
mod tests;
