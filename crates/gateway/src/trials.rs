//! Runs a flow for somebody who tries it: the same engine, the same values, the same upstreams, and nobody's call.
//!
//! No call is counted, none is noted, no key is used. What could be used afterwards does not come into being: a token that
//! `jwtGenerate` asks for is never signed. Lines of the log go to whoever tries, and nowhere else.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tollgate_flow::{
    BoxFuture, Call, CallConsumer, CallMetadata, Flow, Host, IssueTokenError, Message, Overloaded,
    UpstreamError, UpstreamRequest, UpstreamResponse, VerifyError, Watcher, parse_body,
};
use tollgate_model::environments::RealmSettings;
use tollgate_model::ids::{ExecutionId, RequestId};
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::steps::LogLevel;
use tollgate_model::trials::{SampleMessage, Shown, StepFault, TrialReport, TriedAnswer, TriedStep};
use tollgate_model::triggers::Scope;

use crate::gateway::{Gateway, caught};
use crate::request::API_KEY;
use crate::trace::Trace;

/// Trials that run at once; further ones wait, and calls do not.
static PLACES: Semaphore = Semaphore::const_new(2);
/// Longest time that a trial takes, whatever its pipeline may.
const LONGEST: Duration = Duration::from_secs(30);
/// Most that a token's claims take, as where one is signed.
const MAX_CLAIMS_BYTES: usize = 4 << 10;
/// Most steps that are told of; a flow has no more.
const MAX_TOLD: usize = 500;
/// What is told instead of the answer of a `proxy` step.
const PASSED_ON: &str =
    "in a call, the request goes on to the upstream and its answer to the caller; a trial does not call it";
/// Most lines of the log that are told of, of each step.
const MAX_LINES: usize = 10;

/// A flow to try.
pub struct FlowTrial<'a> {
    /// Whose values it sees.
    pub realm: &'a RealmName,
    /// In which environment.
    pub environment: &'a EnvironmentName,
    /// What it is called.
    pub pipeline: &'a PipelineName,
    /// Which version, in words.
    pub version: &'a str,
    /// The flow.
    pub flow: &'a Flow,
    /// How long its trigger lets it run.
    pub timeout: Duration,
    /// The message that it begins with.
    pub message: SampleMessage,
    /// The request that asks for it.
    pub request_id: RequestId,
}

/// Why nothing was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// The gateway lacks what a flow needs there: values, or what is never shown.
    #[error("the gateway of this process has no usable values of this environment")]
    Unavailable,
    /// Something broke.
    #[error("the trial broke off")]
    Broken,
}

/// Puts the report together while the flow runs.
struct Reporter<'a> {
    steps: Vec<TriedStep>,
    /// Steps that have not ended, with when they began.
    open: Vec<(usize, Instant)>,
    lines: &'a Mutex<Vec<String>>,
}

/// The outside of a trial.
struct TrialHost<'a> {
    gateway: &'a Gateway,
    request_id: RequestId,
    has_consumer: bool,
    claims: Option<Map<String, Value>>,
    /// Which addresses may be called.
    settings: Arc<RealmSettings>,
    calls: AtomicU32,
    lines: &'a Mutex<Vec<String>>,
}

// === impl Gateway ===

impl Gateway {
    /// Runs a flow for somebody who tries it. Upstreams are called for real.
    ///
    /// # Errors
    ///
    /// [`TrialError`], by variant.
    pub async fn try_flow(&self, trial: FlowTrial<'_>) -> Result<TrialReport, TrialError> {
        // Nobody closes it.
        let _place = PLACES.acquire().await;
        let snapshot = self.current().ok_or(TrialError::Unavailable)?;
        let scope = snapshot.scope(trial.realm, trial.environment).ok_or(TrialError::Unavailable)?;
        let values = scope.values.as_ref().map_err(|_| TrialError::Unavailable)?;
        let sensitive = scope.sensitive_fields.as_ref().map_err(|_| TrialError::Unavailable)?;
        let settings = scope.settings.as_ref().map_err(|_| TrialError::Unavailable)?.clone();
        let lines = Mutex::new(Vec::new());
        let host = TrialHost {
            gateway: self,
            request_id: trial.request_id,
            has_consumer: trial.message.consumer.is_some(),
            claims: trial.message.claims.clone(),
            settings,
            calls: AtomicU32::new(0),
            lines: &lines,
        };
        let metadata = CallMetadata {
            realm: trial.realm.to_string(),
            environment: trial.environment.to_string(),
            pipeline: trial.pipeline.to_string(),
            version: trial.version.to_owned(),
            execution_id: ExecutionId::new(self.clock.now(), self.random_bytes()).to_string(),
            request_id: trial.request_id.to_string(),
        };
        let call = Call {
            claims: trial.message.claims.clone(),
            consumer: trial
                .message
                .consumer
                .clone()
                .map(|name| CallConsumer { id: "con_of_a_trial".to_owned(), name }),
            client: trial.message.client_address,
            metadata,
            // Never a token: `verify_token` gives the claims of the sample.
            bearer: trial.message.claims.as_ref().map(|_| "of-a-trial".to_owned().into()),
            message: first_message(trial.message),
            sensitive_fields: sensitive.clone(),
        };
        let began = Instant::now();
        let mut reporter = Reporter { steps: Vec::new(), open: Vec::new(), lines: &lines };
        let longest = trial.timeout.min(LONGEST);
        let run = trial.flow.run_watched(call, values, &host, &mut reporter);
        let response = caught(tokio::time::timeout(longest, run)).await.ok_or(TrialError::Broken)?;
        let answer = match response {
            Err(_) => TriedAnswer {
                status: StatusCode::GATEWAY_TIMEOUT.as_u16(),
                code: Some("flow-timeout".to_owned()),
                headers: Vec::new(),
                body: None,
            },
            Ok(response) => TriedAnswer {
                status: response.failure.as_ref().map_or(response.status, |it| it.status).as_u16(),
                code: response.failure.as_ref().map(|it| it.code.clone()),
                headers: response
                    .headers
                    .iter()
                    .map(|(name, value)| {
                        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                    })
                    .collect(),
                body: response.failure.is_none().then(|| {
                    if response.forward.is_some() {
                        return Shown { value: PASSED_ON.into(), cut: false };
                    }
                    let text = String::from_utf8_lossy(&response.body);
                    let value = serde_json::from_str(&text).unwrap_or_else(|_| text.into_owned().into());
                    Shown { value, cut: false }
                }),
            },
        };
        Ok(TrialReport {
            steps: reporter.steps,
            answer,
            upstream_calls: host.calls.load(Relaxed),
            micros: micros(began),
        })
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Makes the first message of a sample; what carries credentials no flow sees, in a trial neither.
fn first_message(sample: SampleMessage) -> Message {
    let is_visible = |name: &str| {
        let name = name.to_ascii_lowercase();
        ![API_KEY, AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE]
            .iter()
            .any(|hidden: &HeaderName| hidden.as_str() == name)
    };
    let headers = sample.headers.into_iter().filter(|(name, _)| is_visible(name));
    let form = match &sample.body {
        Value::String(text) => {
            parse_body(&sample.content_type, text.as_bytes()).map(|(_, form)| form).unwrap_or_default()
        }
        _ => Value::Null,
    };
    Message {
        form,
        body: sample.body,
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.into())).collect(),
        query_and_path: sample.query_and_path,
        method: sample.method,
        content_type: sample.content_type,
        path: sample.path,
    }
}

// === impl Reporter ===

impl Reporter<'_> {
    /// Gives the lines that were logged to the step that runs.
    fn take_lines(&mut self) {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(step) = self.open.last().and_then(|(index, _)| self.steps.get_mut(*index)) {
            step.logged.extend(lines.into_iter().take(MAX_LINES));
        }
    }
}

impl Watcher for Reporter<'_> {
    fn begin(&mut self, pointer: &str, label: &str, message: Shown) {
        self.take_lines();
        self.open.push((self.steps.len(), Instant::now()));
        if self.steps.len() < MAX_TOLD {
            self.steps.push(TriedStep {
                pointer: pointer.to_owned(),
                label: label.to_owned(),
                input: message,
                output: None,
                branch: None,
                error: None,
                logged: Vec::new(),
                micros: 0,
            });
        }
    }

    fn branch(&mut self, taken: &str) {
        if let Some(step) = self.open.last().and_then(|(index, _)| self.steps.get_mut(*index)) {
            step.branch = Some(taken.to_owned());
        }
    }

    fn end(&mut self, message: Option<Shown>, error: Option<StepFault>) {
        self.take_lines();
        let Some((index, began)) = self.open.pop() else { return };
        if let Some(step) = self.steps.get_mut(index) {
            (step.output, step.error, step.micros) = (message, error, micros(began));
        }
    }
}

// === impl TrialHost ===

impl Host for TrialHost<'_> {
    fn http(&self, mut request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamResponse, UpstreamError>> {
        self.calls.fetch_add(1, Relaxed);
        Trace::of(&HeaderMap::new(), self.request_id).write(&mut request.headers);
        Box::pin(self.gateway.upstreams.call(request, &self.settings, None, None))
    }

    fn issue_token(
        &self,
        claims: Map<String, Value>,
        _: &[Scope],
        _: u64,
    ) -> Result<String, IssueTokenError> {
        if !self.has_consumer {
            return Err(IssueTokenError::NoConsumer);
        }
        if Value::Object(claims).to_string().len() > MAX_CLAIMS_BYTES {
            return Err(IssueTokenError::ClaimsTooLarge);
        }
        Ok("no-token-is-signed-in-a-trial".to_owned())
    }

    fn verify_token(&self, _: &str) -> Result<Map<String, Value>, VerifyError> {
        self.claims.clone().ok_or(VerifyError::Invalid)
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, Result<(), Overloaded>> {
        Box::pin(self.gateway.passwords.run(work))
    }

    fn log(&self, level: LogLevel, _: &str, message: &str) {
        let level = serde_json::to_value(level).unwrap_or_default();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MAX_LINES {
            let line: String = message.chars().take(1_000).collect();
            lines.push(format!("{}: {line}", level.as_str().unwrap_or_default()));
        }
    }
}
