//! What the gateway would answer to a call, and why: for somebody who asks, not for the caller.
//!
//! The call goes through the very checks that calls go through ([`Gateway::decide`], [`flows::ready`]), as somebody who
//! only looks: no rate limit is charged, no use is noted, no call is counted, no flow runs.
//!
//! A realm learns nothing of another. Realms share listeners, so a call can reach a pipeline of another realm; then
//! there is no explanation.

use std::net::SocketAddr;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use tollgate_credential::keys::shown;
use tollgate_credential::tokens;
use tollgate_listener::ClientCertificate;
use tollgate_model::certificates::Fingerprint;
use tollgate_model::explanations::{
    CallToExplain, Check, CheckOutcome, CheckReport, ExplainedAnswer, Explanation, Reached, SentApiKey,
    SentCredentials, TokenFacts,
};
use tollgate_model::ids::RequestId;
use tollgate_model::names::RealmName;
use tollgate_snapshot::{Scope, Snapshot};

use crate::checks::bearer_text;
use crate::flows;
use crate::front::Front;
use crate::gateway::{Decided, Gateway, ListenerId, Received, Record, caught};
use crate::problem::{Code, Problem};
use crate::request::{API_KEY, API_KEY_PARAMETER, decode_segment};
use crate::watch::{Rehearsal, Watch as _};
use crate::why::{About, Why};

/// Most fields of a head: hyper, which reads heads, takes no more.
const MAX_FIELDS: usize = 100;

/// Longest text of a token that is shown.
const MAX_FACT_CHARS: usize = 128;

/// Longest words of a check.
const MAX_WORDS_CHARS: usize = 1_000;

/// What is said of a call that passed the checks.
const FLOW_FAILED: &str =
    "every check was passed; the log of the server tells what failed, under the id of the request";

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// HTTP has no such method.
    #[error("this is no method that HTTP can carry")]
    Method,
    /// HTTP has no such URL.
    #[error("this is no URL or path that HTTP can carry")]
    Url,
    /// HTTP cannot carry this header; its place among those given, counted from 1.
    #[error("header {0} cannot be sent: HTTP has no such name, or no such value")]
    Header(usize),
    /// More header fields than the gateway reads.
    #[error(
        "there are more than {MAX_FIELDS} header fields: the gateway answers 431 without looking at them"
    )]
    Fields,
    /// The length of the body is given twice.
    #[error("the length of the body is given by a header and beside the headers")]
    Length,
    /// The call reaches another realm, or nobody's.
    #[error("this call reaches no pipeline of this realm")]
    OtherRealm,
}

impl Gateway {
    /// Says what the gateway would answer to a call of a realm, and why.
    ///
    /// # Errors
    ///
    /// [`ExplainError`], by variant.
    pub async fn explain(
        &self,
        realm: &RealmName,
        call: &CallToExplain,
    ) -> Result<Explanation, ExplainError> {
        self.explain_with(realm, call, None).await
    }

    /// Says the same of a call on a connection whose caller showed a client certificate.
    ///
    /// # Errors
    ///
    /// As [`Gateway::explain`].
    pub async fn explain_with(
        &self,
        realm: &RealmName,
        call: &CallToExplain,
        certificate: Option<ClientCertificate>,
    ) -> Result<Explanation, ExplainError> {
        let mut parts = parts_of(call)?;
        if let Some(certificate) = certificate {
            parts.extensions.insert(certificate);
        }
        // Nobody closes it.
        let _place = self.explanations.acquire().await;
        let snapshot = self.current();
        let snapshot = snapshot.as_deref();
        let listener = ListenerId { environment: call.environment.clone(), exposure: call.exposure };
        if snapshot.is_some_and(|snapshot| is_of_another(snapshot, &listener, realm, parts.uri.path())) {
            return Err(ExplainError::OtherRealm);
        }
        let now = self.clock.now();
        let request_id = RequestId::new(now, [0; 10]);
        let front = Front::default();
        let received = Received {
            parts: &parts,
            request_id,
            now,
            remote: call.remote,
            origin: front.origin(SocketAddr::new(call.remote, 0)),
        };
        let (mut record, mut watch) = (Record::default(), Rehearsal::default());
        let outcome = caught(self.rehearse(&listener, &received, snapshot, &mut record, &mut watch)).await;
        let outcome = outcome.unwrap_or_else(|| Err(Problem::new(Code::InternalError)));
        let sent = sent(&parts);
        let scope = scope_of(snapshot, &record);
        let (answer, fault) = match &outcome {
            Ok(status) => (ExplainedAnswer { status: *status, code: None }, None),
            Err(problem) => {
                let about = About { sent: &sent, scope, route: record.route.as_deref(), now };
                let code = Some(problem.code().to_owned());
                (
                    ExplainedAnswer { status: Some(problem.status().as_u16()), code },
                    Some(fault(problem, &record, &about)),
                )
            }
        };
        Ok(Explanation {
            at: now,
            revision: snapshot.map(|snapshot| snapshot.seq),
            answer,
            reached: reached(&record, outcome.as_ref().err()),
            checks: reports(watch.passed, fault, &record),
            sent,
        })
    }

    /// Makes the checks, and returns the status where no flow decides it.
    async fn rehearse(
        &self,
        listener: &ListenerId,
        received: &Received<'_>,
        snapshot: Option<&Snapshot>,
        record: &mut Record,
        watch: &mut Rehearsal,
    ) -> Result<Option<u16>, Problem> {
        let passed = match self.decide(listener, received, snapshot, record, watch).await? {
            Decided::Answer(answer) => return Ok(Some(answer.status().as_u16())),
            Decided::Flow(passed) => passed,
        };
        let headers = &received.parts.headers;
        let has_body = has_body(headers);
        let flow = flows::ready(&passed.target, headers, has_body, watch)?;
        if let Some(constant) = flow.constant().filter(|_| !has_body) {
            watch.passed(Check::Flow, || Some("it answers the same to every call without a body".to_owned()));
            return Ok(Some(constant.status.as_u16()));
        }
        for (_, value) in &passed.parameters {
            decode_segment(value)?;
        }
        Ok(None)
    }
}

/// Makes the head of a call as the gateway would receive it.
fn parts_of(call: &CallToExplain) -> Result<Parts, ExplainError> {
    let method = http::Method::from_bytes(call.method.as_bytes()).map_err(|_| ExplainError::Method)?;
    let uri: Uri = call.url.parse().map_err(|_| ExplainError::Url)?;
    let (authority, path) = (uri.authority().cloned(), uri.path_and_query().cloned());
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method;
    // Callers send the path alone, and the host beside it.
    parts.uri = path.map(Uri::from).unwrap_or_default();
    let headers = &mut parts.headers;
    if call.headers.len() >= MAX_FIELDS {
        return Err(ExplainError::Fields);
    }
    for (index, (name, value)) in call.headers.iter().enumerate() {
        let field = (HeaderName::try_from(name.as_str()).ok(), HeaderValue::try_from(value.trim()).ok());
        let (Some(name), Some(value)) = field else { return Err(ExplainError::Header(index + 1)) };
        headers.append(name, value);
    }
    if !headers.contains_key(HOST) {
        let host = authority.as_ref().map_or("localhost", |authority| authority.as_str());
        headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| ExplainError::Url)?);
    }
    if let Some(length) = call.body_length {
        if headers.contains_key(CONTENT_LENGTH) {
            return Err(ExplainError::Length);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(parts)
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    headers.contains_key(TRANSFER_ENCODING)
        || length.is_some_and(|length| !length.trim_start_matches('0').is_empty())
}

/// Tells whether a path belongs to a pipeline of another realm.
fn is_of_another(snapshot: &Snapshot, listener: &ListenerId, realm: &RealmName, path: &str) -> bool {
    let routes = snapshot.listener(&listener.environment, listener.exposure);
    match routes.and_then(|routes| routes.find(path)) {
        Some(found) => found.endpoint.realm != *realm,
        // Whether another realm has no pipeline of this name is its own affair, too.
        None => realm_of_path(path).is_some_and(|of_path| of_path != *realm),
    }
}

/// Returns the realm that a path names.
pub(crate) fn realm_of_path(path: &str) -> Option<RealmName> {
    RealmName::parse(path.strip_prefix("/pipeline/")?.split('/').next()?).ok()
}

pub(crate) fn scope_of<'a>(snapshot: Option<&'a Snapshot>, record: &Record) -> Option<&'a Scope> {
    let endpoint = record.endpoint.as_ref()?;
    snapshot?.scope(&endpoint.realm, &endpoint.environment).map(AsRef::as_ref)
}

/// Returns the credentials that a call carries, as far as they are shown.
pub(crate) fn sent(parts: &Parts) -> SentCredentials {
    let key = |place: &str, key: &[u8]| SentApiKey { place: place.to_owned(), shown: shown(key) };
    let header = parts.headers.get(API_KEY).filter(|value| !value.is_empty());
    let query = || {
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).find(|(name, value)| name == API_KEY_PARAMETER && !value.is_empty())
    };
    let authorization = parts.headers.get(http::header::AUTHORIZATION);
    let scheme = authorization.map(|value| {
        let scheme = value.to_str().unwrap_or_default().split(' ').next().unwrap_or_default();
        let known = ["Basic", "Bearer"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme));
        known.unwrap_or("other").to_owned()
    });
    SentCredentials {
        api_key: header
            .map(|value| key("header", value.as_bytes()))
            .or_else(|| query().map(|(_, value)| key("query", value.as_bytes()))),
        certificate: parts
            .extensions
            .get::<ClientCertificate>()
            .map(|it| Fingerprint(*it.fingerprint()).to_string()),
        authorization: scheme,
        token: bearer_text(authorization).and_then(facts),
    }
}

/// Returns what a token says of itself.
fn facts(token: &str) -> Option<TokenFacts> {
    let tokens::Unverified { header, claims } = tokens::decode_unverified(token)?;
    let text = |value: Option<&serde_json::Value>| value?.as_str().map(|text| cut(text, MAX_FACT_CHARS));
    Some(TokenFacts {
        kid: text(header.get("kid")),
        iss: text(claims.get("iss")),
        aud: text(claims.get("aud")),
        sub: text(claims.get("sub")),
        jti: text(claims.get("jti")),
        iat: claims.get("iat").and_then(serde_json::Value::as_i64),
        exp: claims.get("exp").and_then(serde_json::Value::as_i64),
    })
}

/// Cuts a text of somebody else's, and makes its control characters visible.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut out: String = text.chars().take(chars).map(visible).collect();
    if text.chars().nth(chars).is_some() {
        out.push('…');
    }
    out
}

/// Returns what a call reached, and whose it is.
pub(crate) fn reached(record: &Record, problem: Option<&Problem>) -> Reached {
    let endpoint = record.endpoint.as_deref();
    let why = problem.map(|problem| problem.why().1);
    let (known, refused) = (&record.known, why.and_then(Why::key));
    let (key, consumer) = match refused {
        Some((key, consumer)) => (Some(key.id), consumer),
        None => (known.key, known.consumer.as_ref()),
    };
    let (certificate, consumer) = match why.and_then(Why::certificate) {
        Some((entry, of)) => (Some(entry.id), consumer.or(of)),
        None => (known.certificate, consumer),
    };
    Reached {
        pipeline: endpoint.map(|endpoint| endpoint.pipeline.clone()),
        version: endpoint.map(|endpoint| endpoint.version),
        route: record.route.as_ref().map(|route| route.path.clone()),
        consumer: consumer.map(|consumer| consumer.name.clone()),
        key,
        certificate,
    }
}

/// Returns the report of the check that refused a call.
pub(crate) fn fault(problem: &Problem, record: &Record, about: &About<'_>) -> CheckReport {
    let (told, why) = problem.why();
    let words = match (&record.refused, why) {
        // What a flow says may be made of the body.
        _ if problem.check() == Check::Flow => Some(FLOW_FAILED.to_owned()),
        (Some(reason), _) => Some(reason.clone()),
        (None, Why::Nothing) => Some(told.to_owned()),
        (None, why) => why.words(about),
    };
    let unavailable = [Code::CheckUnavailable, Code::Overloaded].map(Code::as_str).contains(&problem.code());
    CheckReport {
        check: problem.check(),
        outcome: if unavailable { CheckOutcome::Unavailable } else { CheckOutcome::Failed },
        why: words.map(|words| cut(&words, MAX_WORDS_CHARS)),
    }
}

/// Puts the reports of all checks together: those that were passed, the one that refused the call, and the others.
fn reports(
    passed: Vec<(Check, Option<String>)>,
    fault: Option<CheckReport>,
    record: &Record,
) -> Vec<CheckReport> {
    let is_answered_by_flow = fault.is_none() && passed.iter().any(|(check, _)| *check == Check::FlowReady);
    let mut made: Vec<_> = passed
        .into_iter()
        .map(|(check, why)| CheckReport { check, outcome: CheckOutcome::Passed, why })
        .chain(fault)
        .collect();
    let last = made.iter().map(|report| report.check).max();
    let all = Check::ALL.iter().map(|check| {
        if let Some(index) = made.iter().position(|report| report.check == *check) {
            return made.swap_remove(index);
        }
        // What stands before a check that was made, and was not made itself, nobody demanded.
        let not_demanded = Some(*check) < last || !is_demanded(*check, record);
        let outcome = if not_demanded { CheckOutcome::NotDemanded } else { CheckOutcome::NotReached };
        let why = (is_answered_by_flow && !not_demanded).then(|| "an explanation runs no flow".to_owned());
        CheckReport { check: *check, outcome, why }
    });
    all.collect()
}

/// Returns the reports of all checks of a call that was refused, of which only the check that refused it was watched.
pub(crate) fn reports_of_refusal(fault: CheckReport, record: &Record) -> Vec<CheckReport> {
    let before = Check::ALL.iter().take_while(|check| **check < fault.check);
    let passed = before.filter(|check| is_demanded(**check, record)).map(|check| (*check, None));
    reports(passed.collect(), Some(fault), record)
}

/// Tells whether something demands a check of a call, as far as is known where the call was answered.
fn is_demanded(check: Check, record: &Record) -> bool {
    let (Some(endpoint), Some(route)) = (&record.endpoint, &record.route) else {
        return check != Check::CorsPreflight;
    };
    let trigger = &endpoint.trigger;
    match check {
        Check::RequestForm
        | Check::Configuration
        | Check::Route
        | Check::Method
        | Check::Enforcement
        | Check::DeclaredLength
        | Check::FlowReady
        | Check::Body
        | Check::Flow => true,
        Check::CorsPreflight => false,
        Check::ApiKeyPresent
        | Check::ApiKeyForm
        | Check::ApiKeyEnvironment
        | Check::ApiKeyChecksum
        | Check::ApiKeyKnown
        | Check::ApiKeyNotRevoked
        | Check::ApiKeyNotExpired
        | Check::ApiKeyAssociation => trigger.api_key.is_on(),
        Check::CertificatePresent
        | Check::CertificateValid
        | Check::CertificateKnown
        | Check::CertificateAssociation => trigger.mtls,
        Check::CertificateBinding => trigger.mtls && trigger.api_key.is_on(),
        Check::BasicAuthPresent | Check::BasicAuthValid | Check::BasicAuthAssociation => trigger.basic_auth,
        Check::BasicAuthBinding => trigger.basic_auth && trigger.demands_key(),
        Check::TokenPresent
        | Check::TokenForm
        | Check::TokenKey
        | Check::TokenSignature
        | Check::TokenIssuer
        | Check::TokenAudience
        | Check::TokenTimes
        | Check::TokenConsumer
        | Check::TokenNotRevoked
        | Check::TokenAssociation => trigger.jwt.is_on(),
        Check::TokenBinding => trigger.jwt.is_on() && (trigger.demands_key() || trigger.basic_auth),
        Check::Scopes => trigger.jwt.is_on() && !route.scopes.is_empty(),
        Check::RateLimit => trigger.rate_limit.is_some(),
        Check::ContentType => !trigger.request_content_types.is_empty(),
    }
}
