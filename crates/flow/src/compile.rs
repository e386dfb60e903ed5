//! From the steps of a file to a flow that runs.

use http::{HeaderName, Method};
use serde_json::Value;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::steps::{
    AssertStep, BlockStep, ChoiceStep, JwtGenerateStep, LogLevel, LogStep, RespondStep, Step, StepKind,
    ThrowStep,
};
use tollgate_model::triggers::{RESERVED_RESPONSE_HEADERS, Scope, Trigger};

use crate::budget::MAX_STEP_BYTES;
use crate::expressions::Expression;
use crate::forward::{Forward, Forwarding};
use crate::run::FlowResponse;
use crate::templates::{Template, TextTemplate};
use crate::upstreams::HttpRequest;

/// A compiled flow.
#[derive(Debug)]
pub struct Flow {
    pub(crate) steps: Vec<CompiledStep>,
    pub(crate) sensitive_fields: Vec<String>,
    pub(crate) response: ResponseShape,
    constant: Option<FlowResponse>,
    /// Where a flow that does nothing else hands every call to.
    forward: Option<Forward>,
    streams: bool,
    pub(crate) max_step_bytes: u64,
}

/// A mistake in a flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct FlowError {
    /// JSON pointer (RFC 6901) of the part at fault, in the pipeline.
    pub pointer: String,
    /// What is wrong and what to write.
    pub message: String,
}

/// How the last message becomes a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResponseShape {
    /// JSON.
    Json,
    /// A text as it is, anything else as JSON; of this content type when there is one.
    Any(Option<String>),
}

#[derive(Debug)]
pub(crate) struct CompiledStep {
    /// Its name, or its place.
    pub(crate) label: String,
    /// JSON pointer of its place in the pipeline.
    pub(crate) pointer: Box<str>,
    pub(crate) fail_on_error: bool,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Json(Template),
    Assert { condition: Expression, error: ErrorTemplate },
    Choice { when: Vec<(Expression, Vec<CompiledStep>)>, otherwise: Option<Vec<CompiledStep>> },
    Block { steps: Vec<CompiledStep>, on_error: Option<Vec<CompiledStep>> },
    Http(Box<HttpRequest>),
    Proxy(Box<Forwarding>),
    Respond { status: u16, headers: Vec<(HeaderName, TextTemplate)>, body: Option<Template> },
    Log { level: LogLevel, message: TextTemplate },
    Throw(ErrorTemplate),
    JwtGenerate { scopes: Vec<Scope>, expires_in_ms: u64 },
    JwtDecode,
}

/// An error as its author wrote it.
#[derive(Debug)]
pub(crate) struct ErrorTemplate {
    pub(crate) status: u16,
    pub(crate) error: TextTemplate,
    pub(crate) code: Option<TextTemplate>,
}

/// Compiles a pipeline's steps.
///
/// # Errors
///
/// Every mistake found, in the order of the file.
pub fn compile(pipeline: &Pipeline) -> Result<Flow, Vec<FlowError>> {
    let mut compiler = Compiler { errors: Vec::new() };
    if let Err(message) = pipeline.check_size() {
        return Err(vec![FlowError { pointer: "/steps".to_owned(), message }]);
    }
    if pipeline.steps.is_empty() {
        compiler.error("/steps", "a flow needs at least one step, for example `- json: { ok: true }`");
    }
    let steps = compiler.steps(&pipeline.steps, "/steps");
    let mut streams = false;
    compiler.proxies(&pipeline.steps, "/steps", true, &mut streams);
    compiler.check_streaming(pipeline, streams);
    if !compiler.errors.is_empty() {
        return Err(compiler.errors);
    }
    let response = match &pipeline.trigger {
        Trigger::Http(http) | Trigger::HttpFile(http) => {
            ResponseShape::Any(http.response_content_type.clone())
        }
        Trigger::Rest(_) | Trigger::Scheduler(_) => ResponseShape::Json,
    };
    let constant = match steps.as_slice() {
        [CompiledStep { action: Action::Json(Template::Constant(message)), .. }] => {
            Some(FlowResponse::of_message(message, &response))
        }
        _ => None,
    };
    let forward = match steps.as_slice() {
        [CompiledStep { action: Action::Proxy(forwarding), .. }] => forwarding.constant(),
        _ => None,
    };
    Ok(Flow {
        forward,
        streams,
        steps,
        sensitive_fields: pipeline.sensitive_fields.clone(),
        response,
        constant,
        max_step_bytes: MAX_STEP_BYTES,
    })
}

struct Compiler {
    errors: Vec<FlowError>,
}

// === impl Flow ===

impl Flow {
    /// Returns the answer of a flow that depends on nothing.
    pub fn constant(&self) -> Option<&FlowResponse> {
        self.constant.as_ref()
    }

    /// Returns where a flow that does nothing else hands every call to.
    pub fn forward(&self) -> Option<&Forward> {
        self.forward.as_ref()
    }

    /// Tells whether bodies go through the flow: then none is read, and `message.body` is null.
    pub fn streams(&self) -> bool {
        self.streams
    }
}

// === impl Compiler ===

impl Compiler {
    fn error(&mut self, pointer: &str, message: impl Into<String>) {
        self.errors.push(FlowError { pointer: pointer.to_owned(), message: message.into() });
    }

    fn steps(&mut self, steps: &[Step], pointer: &str) -> Vec<CompiledStep> {
        steps.iter().enumerate().filter_map(|(i, step)| self.step(step, &format!("{pointer}/{i}"))).collect()
    }

    fn step(&mut self, step: &Step, pointer: &str) -> Option<CompiledStep> {
        let at = format!("{pointer}/{}", step.type_name());
        let action = match &step.kind {
            StepKind::Json(value) => Action::Json(self.template(value, &at)?),
            StepKind::Assert(AssertStep { condition, status, error, code }) => {
                let condition = self.condition(condition, &format!("{at}/condition"));
                let error = self.error_template(status.get(), error, code.as_deref(), &at);
                Action::Assert { condition: condition?, error: error? }
            }
            StepKind::Choice(ChoiceStep { when, otherwise }) => {
                if when.is_empty() {
                    self.error(
                        &format!("{at}/when"),
                        "a choice needs at least one branch: { condition, steps }",
                    );
                }
                let branches: Vec<_> = when
                    .iter()
                    .enumerate()
                    .map(|(i, branch)| {
                        let at = format!("{at}/when/{i}");
                        let condition = self.condition(&branch.condition, &format!("{at}/condition"));
                        let steps = self.steps(&branch.steps, &format!("{at}/steps"));
                        condition.map(|condition| (condition, steps))
                    })
                    .collect();
                let otherwise = otherwise.as_ref().map(|steps| self.steps(steps, &format!("{at}/otherwise")));
                Action::Choice { when: branches.into_iter().collect::<Option<_>>()?, otherwise }
            }
            StepKind::Block(BlockStep { steps, on_error }) => Action::Block {
                steps: self.steps(steps, &format!("{at}/steps")),
                on_error: on_error.as_ref().map(|steps| self.steps(steps, &format!("{at}/onError"))),
            },
            StepKind::Http(http) => match HttpRequest::compile(http) {
                Ok(request) => Action::Http(Box::new(request)),
                Err((below, message)) => {
                    self.error(&format!("{at}{below}"), message);
                    return None;
                }
            },
            StepKind::Proxy(proxy) => {
                let label = step.name.clone().unwrap_or_else(|| pointer.to_owned());
                match Forwarding::compile(proxy, label) {
                    Ok(forwarding) => Action::Proxy(Box::new(forwarding)),
                    Err((below, message)) => {
                        self.error(&format!("{at}{below}"), message);
                        return None;
                    }
                }
            }
            StepKind::Respond(RespondStep { status, headers, body }) => {
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| {
                        let at = format!("{at}/headers/{name}");
                        let value = self.text(value, &at);
                        self.header_name(name, &at).zip(value)
                    })
                    .collect();
                let body = match body {
                    Some(body) => Some(self.template(body, &format!("{at}/body"))?),
                    None => None,
                };
                Action::Respond {
                    status: status.get(),
                    headers: headers.into_iter().collect::<Option<_>>()?,
                    body,
                }
            }
            StepKind::Log(LogStep { level, message }) => {
                Action::Log { level: *level, message: self.text(message, &format!("{at}/message"))? }
            }
            StepKind::Throw(ThrowStep { status, error, code }) => {
                Action::Throw(self.error_template(status.get(), error, code.as_deref(), &at)?)
            }
            StepKind::JwtGenerate(JwtGenerateStep { scopes, expires_in_ms }) => {
                Action::JwtGenerate { scopes: scopes.clone(), expires_in_ms: expires_in_ms.get() }
            }
            StepKind::JwtDecode(_) => Action::JwtDecode,
        };
        let label = step.name.clone().unwrap_or_else(|| pointer.to_owned());
        Some(CompiledStep { label, pointer: pointer.into(), fail_on_error: step.fail_on_error, action })
    }

    /// Finds `proxy` steps, and those that stand where they cannot: behind one nothing can happen any more, and the call
    /// that it has handed over cannot be handed over again.
    fn proxies(&mut self, steps: &[Step], pointer: &str, is_end: bool, found: &mut bool) {
        for (i, step) in steps.iter().enumerate() {
            let pointer = format!("{pointer}/{i}");
            let is_last = is_end && i + 1 == steps.len() && step.fail_on_error;
            match &step.kind {
                StepKind::Proxy(_) => {
                    *found = true;
                    if !is_last {
                        self.error(
                            &format!("{pointer}/proxy"),
                            "a proxy step ends the flow: put it last, or last in a branch of a choice that is last, \
                             outside of blocks and without failOnError",
                        );
                    }
                }
                StepKind::Choice(choice) => {
                    for (i, branch) in choice.when.iter().enumerate() {
                        let at = format!("{pointer}/choice/when/{i}/steps");
                        self.proxies(&branch.steps, &at, is_last, found);
                    }
                    if let Some(otherwise) = &choice.otherwise {
                        self.proxies(otherwise, &format!("{pointer}/choice/otherwise"), is_last, found);
                    }
                }
                StepKind::Block(block) => {
                    self.proxies(&block.steps, &format!("{pointer}/block/steps"), false, found);
                    if let Some(on_error) = &block.on_error {
                        self.proxies(on_error, &format!("{pointer}/block/onError"), false, found);
                    }
                }
                _ => {}
            }
        }
    }

    /// Checks what a flow that hands calls over cannot have beside that, and that one of files does.
    fn check_streaming(&mut self, pipeline: &Pipeline, streams: bool) {
        match &pipeline.trigger {
            Trigger::Scheduler(_) if streams => {
                self.error("/steps", "a schedule has no call that a proxy step could hand over: use an http step");
            }
            Trigger::HttpFile(_) if !streams => self.error(
                "/steps",
                "the flow of an httpFile trigger ends in a proxy step, which hands the file over: add one, or use \
                 type `http`",
            ),
            _ => {}
        }
        if streams && issues_tokens(&pipeline.steps) {
            self.error(
                "/steps",
                "a flow with a proxy step issues no tokens: put jwtGenerate into a pipeline of its own",
            );
        }
    }

    fn template(&mut self, value: &Value, at: &str) -> Option<Template> {
        Template::parse(value).map_err(|(below, message)| self.error(&format!("{at}{below}"), message)).ok()
    }

    fn text(&mut self, text: &str, at: &str) -> Option<TextTemplate> {
        TextTemplate::parse(text).map_err(|message| self.error(at, message)).ok()
    }

    fn condition(&mut self, source: &str, at: &str) -> Option<Expression> {
        if source.trim_start().starts_with("{{") {
            self.error(at, "a condition is an expression by itself: leave out the double braces");
            return None;
        }
        Expression::parse(source).map_err(|message| self.error(at, message)).ok()
    }

    fn error_template(
        &mut self,
        status: u16,
        error: &str,
        code: Option<&str>,
        at: &str,
    ) -> Option<ErrorTemplate> {
        let error = self.text(error, &format!("{at}/error"));
        let code = match code {
            Some(code) => Some(self.text(code, &format!("{at}/code"))?),
            None => None,
        };
        Some(ErrorTemplate { status, error: error?, code })
    }

    fn header_name(&mut self, name: &str, at: &str) -> Option<HeaderName> {
        let Ok(parsed) = HeaderName::try_from(name) else {
            self.error(at, format!("`{name}` is not a header name"));
            return None;
        };
        if RESERVED_RESPONSE_HEADERS.contains(&parsed.as_str()) {
            self.error(at, format!("header `{parsed}` is set by the gateway: leave it out"));
            return None;
        }
        Some(parsed)
    }
}

fn issues_tokens(steps: &[Step]) -> bool {
    steps.iter().any(|step| match &step.kind {
        StepKind::JwtGenerate(_) => true,
        StepKind::Choice(choice) => {
            choice.when.iter().any(|branch| issues_tokens(&branch.steps))
                || choice.otherwise.as_deref().is_some_and(issues_tokens)
        }
        StepKind::Block(block) => {
            issues_tokens(&block.steps) || block.on_error.as_deref().is_some_and(issues_tokens)
        }
        _ => false,
    })
}

/// Turns a model's method into the wire's.
pub(crate) fn method(method: tollgate_model::triggers::Method) -> Method {
    Method::from_bytes(method.as_str().as_bytes()).unwrap_or(Method::GET)
}
