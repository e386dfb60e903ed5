//! What a flow needs from outside.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};
use tollgate_model::steps::LogLevel;
use tollgate_model::triggers::Scope;

use crate::health::Upstream;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The outside, as flows see it.
pub trait Host: Send + Sync {
    /// Calls an upstream. Dropping the future ends the call.
    fn http(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamResponse, UpstreamError>>;

    /// Issues a token to the consumer of this call.
    ///
    /// # Errors
    ///
    /// [`IssueTokenError`], by variant.
    fn issue_token(
        &self,
        claims: Map<String, Value>,
        scopes: &[Scope],
        expires_in_ms: u64,
    ) -> Result<String, IssueTokenError>;

    /// Verifies a token of this environment and returns its claims.
    ///
    /// # Errors
    ///
    /// [`VerifyError`], by variant.
    fn verify_token(&self, token: &str) -> Result<Map<String, Value>, VerifyError>;

    /// Runs slow work (password hashing) where it does not hold up other calls.
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, Result<(), Overloaded>>;

    /// Writes a line that a `log` step asked for; secrets and sensitive fields are masked already.
    fn log(&self, level: LogLevel, step: &str, message: &str);
}

/// Whom a step calls.
#[derive(Debug, Clone)]
pub struct UpstreamCall {
    /// Absolute URLs, `http` or `https`, without credentials: one for each target of the upstream.
    pub urls: Arc<[Uri]>,
    /// What is known of the targets.
    pub upstream: Arc<Upstream>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Whether HTTP/2 is spoken without TLS, too.
    pub http2: bool,
    /// Certificates in PEM that alone are trusted; the system's when absent.
    pub ca_certificates: Option<Arc<str>>,
}

/// A request to an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    /// Method.
    pub method: Method,
    /// Whom to call.
    pub call: UpstreamCall,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Bytes,
    /// Longest wait for the whole answer.
    pub read_timeout: Duration,
    /// Longest body taken, in bytes.
    pub max_response_bytes: u64,
}

/// An upstream's answer.
#[derive(Debug, Clone)]
pub struct UpstreamResponse {
    /// Status.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Why an upstream gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No connection, or it broke.
    #[error("the upstream could not be reached")]
    Unreachable,
    /// Too slow.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// A longer body than the step takes.
    #[error("the upstream's answer is too large")]
    TooLarge,
    /// The address may not be called.
    #[error("the upstream's address may not be called: allow its network in the settings of the realm")]
    Forbidden,
    /// All targets failed so often that they are left alone for a while.
    #[error("the upstream fails and is not called for the moment")]
    Unhealthy,
    /// There are as many calls as there may be.
    #[error("too many calls of the upstream at once")]
    Overloaded,
    /// The step's own certificates cannot be used.
    #[error("the certificates in caCertificates cannot be used")]
    Certificates,
    /// What it answers has two readings.
    #[error("the upstream's answer is malformed: {0}")]
    Malformed(&'static str),
}

/// Why no token was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueTokenError {
    /// The call came without credentials of a consumer.
    #[error("a token is issued to a consumer, and this call has none: turn apiKey on in the trigger")]
    NoConsumer,
    /// The message is too large for a token.
    #[error("the message is too large for a token")]
    ClaimsTooLarge,
    /// The key set is broken or absent.
    #[error("no token can be signed")]
    Unavailable,
}

/// Why a token was not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is not good.
    #[error("the token is not good")]
    Invalid,
    /// The key set is broken or absent.
    #[error("no token can be verified")]
    Unavailable,
}

/// There is too much slow work already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is going on")]
pub struct Overloaded;

// === impl UpstreamError ===

impl UpstreamError {
    /// Returns the status and the code of the answer to a call that it ends.
    pub fn outcome(&self) -> (u16, &'static str) {
        match self {
            Self::Unreachable | Self::TooLarge => (502, "upstream-unreachable"),
            Self::Timeout => (504, "upstream-timeout"),
            Self::Unhealthy => (503, "upstream-unavailable"),
            Self::Overloaded => (503, "flow-overloaded"),
            Self::Forbidden | Self::Certificates => (500, "flow-failed"),
            Self::Malformed(_) => (502, "upstream-malformed"),
        }
    }

    /// Returns what a caller is told: of our own faults nothing but that.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Unreachable => "the upstream could not be reached",
            Self::TooLarge => "the upstream's answer is too large",
            Self::Timeout => "the upstream did not answer in time",
            Self::Unhealthy => "the upstream fails and is not called for the moment: try again later",
            Self::Overloaded => "too much is going on: try again later",
            Self::Forbidden | Self::Certificates => "the flow failed",
            Self::Malformed(_) => "the upstream's answer is malformed",
        }
    }
}
