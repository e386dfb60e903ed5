//! The gateway's own answers: problem documents (RFC 9457) with a stable code each.
//!
//! Every code has a page in `docs/errors/`. An answer never tells whether a secret exists, and carries the header
//! `tollgate-error`, so that a caller can tell it from an answer of the flow or of an upstream.

use std::borrow::Cow;
use std::sync::OnceLock;

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use tollgate_model::explanations::Check;
use tollgate_model::ids::RequestId;

use crate::bad_credentials::Guess;
use crate::payload::Payload;
use crate::rate_limits::Decision;
use crate::why::Why;

/// A response of the gateway.
pub type Answer = Response<Payload>;

/// The header that only answers made by the gateway carry.
pub const TOLLGATE_ERROR: HeaderName = HeaderName::from_static("tollgate-error");

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// Why the gateway answered a call itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the code as programs read it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Returns the status of its answers.
            pub fn status(self) -> StatusCode {
                let status = match self { $(Self::$variant => $status,)* };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// Returns the sentence for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// The request is malformed or can be read in two ways.
    RequestMalformed = "request-malformed", 400, "The request is malformed or ambiguous";
    /// The request line is too long.
    UriTooLong = "uri-too-long", 414, "The URL is too long";
    /// The header section is too large.
    HeadersTooLarge = "headers-too-large", 431, "The header fields are too large";
    /// The body did not arrive in time.
    RequestTimeout = "request-timeout", 408, "The request body did not arrive in time";
    /// No deployment has this route.
    RouteNotFound = "route-not-found", 404, "No pipeline answers here";
    /// The route does not offer the method.
    MethodNotAllowed = "method-not-allowed", 405, "This route does not offer the method";
    /// The deployment does not conform to the policies, and the date of their enforcement has passed.
    PolicyNotConformant = "policy-not-conformant", 403, "This pipeline does not conform to the policies";
    /// The body is larger than the trigger takes.
    RequestTooLarge = "request-too-large", 413, "The request body is too large";
    /// A key is demanded and none was sent.
    ApiKeyMissing = "api-key-missing", 401, "An API key is required";
    /// The key does not work here.
    ApiKeyInvalid = "api-key-invalid", 401, "The API key is not valid";
    /// A client certificate is demanded and none was shown.
    ClientCertificateMissing = "client-certificate-missing", 401, "A client certificate is required";
    /// The client certificate does not work here.
    ClientCertificateInvalid = "client-certificate-invalid", 401, "The client certificate is not valid here";
    /// The client certificate belongs to another consumer than the key.
    ClientCertificateConsumerMismatch = "client-certificate-consumer-mismatch", 403, "The client certificate is another consumer's";
    /// The consumer is not associated with the pipeline.
    ConsumerNotAllowed = "consumer-not-allowed", 403, "This consumer may not call this pipeline";
    /// Basic credentials are missing or wrong.
    BasicAuthInvalid = "basic-auth-invalid", 401, "Valid Basic credentials are required";
    /// A token is demanded and none was sent.
    JwtMissing = "jwt-missing", 401, "A bearer token is required";
    /// The token does not work here.
    JwtInvalid = "jwt-invalid", 401, "The bearer token is not valid";
    /// The token belongs to another consumer than the key.
    JwtConsumerMismatch = "jwt-consumer-mismatch", 403, "The token was issued to another consumer";
    /// The token lacks a scope.
    ScopeMissing = "scope-missing", 403, "The token lacks a scope";
    /// The caller has used up its calls.
    RateLimited = "rate-limited", 429, "Too many calls";
    /// The trigger does not take the content type.
    ContentTypeUnsupported = "content-type-unsupported", 415, "This content type is not taken here";
    /// The flow ended with an error.
    FlowFailed = "flow-failed", 500, "The flow ended with an error";
    /// The flow ran longer than the trigger allows.
    FlowTimeout = "flow-timeout", 504, "The flow took too long";
    /// The caller wants to go on in another protocol.
    UpgradeRefused = "upgrade-refused", 501, "The gateway changes to no other protocol";
    /// The call comes by again and again.
    LoopDetected = "loop-detected", 508, "The call goes around in a circle";
    /// The upstream's answer can be read in two ways.
    UpstreamMalformed = "upstream-malformed", 502, "The upstream's answer is malformed";
    /// The address keeps sending bad credentials.
    TooManyBadCredentials = "too-many-bad-credentials", 429, "Too many bad credentials came from this address";
    /// Too much work is waiting.
    Overloaded = "overloaded", 503, "The gateway is busy; try again";
    /// A check could not be made, so the call was not let through.
    CheckUnavailable = "check-unavailable", 503, "A check cannot be made at the moment";
    /// A fault in the gateway.
    InternalError = "internal-error", 500, "The gateway failed";
}

// === impl Code ===

impl Code {
    /// Returns the check that answers with this code; for codes of several checks, the likeliest of them.
    fn check(self) -> Check {
        match self {
            Self::RequestMalformed | Self::UriTooLong | Self::HeadersTooLarge => Check::RequestForm,
            Self::RouteNotFound => Check::Route,
            Self::MethodNotAllowed => Check::Method,
            Self::PolicyNotConformant => Check::Enforcement,
            Self::RequestTooLarge => Check::DeclaredLength,
            Self::ApiKeyMissing => Check::ApiKeyPresent,
            Self::ApiKeyInvalid | Self::TooManyBadCredentials => Check::ApiKeyKnown,
            Self::ClientCertificateMissing => Check::CertificatePresent,
            Self::ClientCertificateInvalid => Check::CertificateKnown,
            Self::ClientCertificateConsumerMismatch => Check::CertificateBinding,
            Self::ConsumerNotAllowed => Check::ApiKeyAssociation,
            Self::BasicAuthInvalid => Check::BasicAuthValid,
            Self::JwtMissing => Check::TokenPresent,
            Self::JwtInvalid => Check::TokenForm,
            Self::JwtConsumerMismatch => Check::TokenBinding,
            Self::ScopeMissing => Check::Scopes,
            Self::RateLimited => Check::RateLimit,
            Self::ContentTypeUnsupported => Check::ContentType,
            Self::RequestTimeout => Check::Body,
            Self::FlowFailed
            | Self::FlowTimeout
            | Self::Overloaded
            | Self::InternalError
            | Self::UpgradeRefused
            | Self::LoopDetected
            | Self::UpstreamMalformed => Check::Flow,
            Self::CheckUnavailable => Check::Configuration,
        }
    }
}

/// An answer with an error, before it belongs to a request. Boxed: it is the rare outcome of most functions here.
#[derive(Debug)]
pub(crate) struct Problem(Box<Content>);

#[derive(Debug)]
struct Content {
    status: StatusCode,
    code: Cow<'static, str>,
    title: &'static str,
    detail: Option<Cow<'static, str>>,
    headers: HeaderMap,
    /// Which check it is the outcome of.
    check: Check,
    /// What the caller is not told.
    why: Why,
    /// It answers a credential that was never good.
    guess: Option<Guess>,
}

/// The body on the wire.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(rename = "requestId")]
    request_id: String,
}

// === impl Problem ===

impl Problem {
    pub(crate) fn new(code: Code) -> Self {
        Self(Box::new(Content {
            status: code.status(),
            code: Cow::Borrowed(code.as_str()),
            title: code.title(),
            detail: None,
            headers: HeaderMap::new(),
            check: code.check(),
            why: Why::Nothing,
            guess: None,
        }))
    }

    /// A malformed request; the connection is closed, because what follows on it cannot be trusted.
    pub(crate) fn malformed(detail: &'static str) -> Self {
        Self::new(Code::RequestMalformed).detail(detail).close()
    }

    /// An error that the author of a flow gave a status and a code.
    pub(crate) fn flow(status: StatusCode, code: String, detail: String) -> Self {
        let mut problem = Self::new(Code::FlowFailed).detail(detail);
        problem.0.status = status;
        problem.0.code = Cow::Owned(code);
        problem
    }

    /// Says which check it is the outcome of, where its code alone does not tell.
    pub(crate) fn at(mut self, check: Check) -> Self {
        self.0.check = check;
        self
    }

    /// Says why, for whoever may ask for an explanation. The caller never learns it.
    pub(crate) fn because(mut self, why: Why) -> Self {
        self.0.why = why;
        self
    }

    /// Says that it answers a credential that was never good.
    pub(crate) fn guessed(mut self, guess: Guess) -> Self {
        self.0.guess = Some(guess);
        self
    }

    /// Returns what the credential counts that it answers; `None` when it was no guess.
    pub(crate) fn guess(&self) -> Option<Guess> {
        self.0.guess
    }

    /// Answers with another code, for the same reason.
    pub(crate) fn instead(self, code: Code) -> Self {
        let Content { check, why, .. } = *self.0;
        Self::new(code).at(check).because(why)
    }

    pub(crate) fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    pub(crate) fn close(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(crate) fn challenge(self, challenge: &'static str) -> Self {
        self.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    pub(crate) fn allow(self, allow: HeaderValue) -> Self {
        self.header(ALLOW, allow)
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Tells the state of the caller's rate limits.
    pub(crate) fn quota(mut self, decision: &Decision) -> Self {
        decision.write(&OnceLock::new(), &mut self.0.headers);
        self
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns which check it is the outcome of.
    pub(crate) fn check(&self) -> Check {
        self.0.check
    }

    /// Returns why, as far as the caller is told and beyond.
    pub(crate) fn why(&self) -> (&str, &Why) {
        (self.0.detail.as_deref().unwrap_or(self.0.title), &self.0.why)
    }

    /// Writes the answer to a request.
    pub(crate) fn into_answer(self, request_id: RequestId) -> Answer {
        let Content { status, code, title, detail, headers, .. } = *self.0;
        let body = Body {
            r#type: format!("urn:tollgate:error:{code}"),
            title,
            status: status.as_u16(),
            code: &code,
            detail: detail.as_deref(),
            request_id: request_id.to_string(),
        };
        let mut answer = Response::new(Payload::from(serde_json::to_vec(&body).unwrap_or_default()));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        let code = HeaderValue::from_str(&code)
            .unwrap_or_else(|_| HeaderValue::from_static(Code::FlowFailed.as_str()));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        answer.headers_mut().insert(TOLLGATE_ERROR, code);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_that_names_it_and_its_status() {
        for code in Code::ALL {
            let path = format!("{}/../../docs/errors/{}.md", env!("CARGO_MANIFEST_DIR"), code.as_str());
            let page = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{path} is missing"));
            assert!(page.starts_with(&format!("# {}\n", code.as_str())), "{path}");
            assert!(page.contains(&code.status().as_u16().to_string()), "{path} does not name the status");
        }
    }

    #[test]
    fn a_code_that_no_header_can_hold_leaves_the_answer_whole() {
        let problem = Problem::flow(StatusCode::BAD_REQUEST, "line\nbreak".to_owned(), "x".to_owned());
        let answer = problem.into_answer(RequestId::new(jiff::Timestamp::UNIX_EPOCH, [0; 10]));
        assert_eq!(
            answer.headers().get(TOLLGATE_ERROR).map(HeaderValue::as_bytes),
            Some(&b"flow-failed"[..])
        );
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
}
