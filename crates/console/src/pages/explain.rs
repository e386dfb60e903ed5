//! Why a call was refused, and what would be answered to one: the gateway's checks, one by one.
//!
//! A call to explain carries credentials, so it is posted, answered with a page, and nowhere kept: what was written into the
//! form comes back without its headers.

use std::net::IpAddr;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::calls::CallKeyView;
use tollgate_app::explanations::NamedExplanation;
use tollgate_app::refused_calls::NamedRefusal;
use tollgate_model::environments::Exposure;
use tollgate_model::explanations::{CallToExplain, CheckOutcome, CheckReport, Reached, SentCredentials};
use tollgate_model::ids::RequestId;
use tollgate_model::names::EnvironmentName;

use super::environments::{Switch, kept};
use crate::Console;
use crate::answers::{Answer, page, render};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Refusal};
use crate::paths::named;
use crate::visitor::Visitor;

/// Most header fields of a call.
const MAX_HEADERS: usize = 100;

#[derive(Template)]
#[template(path = "pages/explain/index.html")]
struct ExplainPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    request: String,
    methods: Vec<MethodOption>,
    url: String,
    internal: bool,
    problem: Option<Refusal>,
    told: Option<Told>,
}

struct MethodOption {
    name: &'static str,
    here: bool,
}

/// What a gateway said.
struct Told {
    headline: String,
    /// Whether the call passed.
    passed: bool,
    facts: Vec<(&'static str, String)>,
    checks: Vec<CheckRow>,
    not_demanded: Vec<String>,
}

struct CheckRow {
    name: String,
    mark: (&'static str, &'static str),
    why: String,
}

#[derive(Deserialize)]
struct ExplainAsked {
    environment: Option<String>,
    #[serde(default)]
    request: String,
    #[serde(default)]
    url: String,
}

/// No `Debug`: it holds credentials.
#[derive(Deserialize)]
struct CallForm {
    environment: String,
    method: String,
    url: String,
    #[serde(default)]
    headers: String,
    #[serde(default)]
    exposure: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/explain", get(show).post(explain))
}

async fn show(State(console): State<Console>, visitor: Visitor, Query(asked): Query<ExplainAsked>) -> Answer {
    let mut shown = ExplainPage::new(&console, &visitor, asked.environment.as_deref()).await?;
    shown.url = asked.url;
    shown.request = asked.request.trim().to_owned();
    if !shown.request.is_empty() {
        match refused(&console, &visitor, &shown.request).await {
            Ok(told) => shown.told = Some(told),
            Err((status, refusal)) if status.is_client_error() => {
                shown.problem = Some(refusal);
                return render(status, &shown);
            }
            Err((status, refusal)) => return Err(refusal.into_failure(status)),
        }
    }
    page(&shown)
}

async fn explain(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<CallForm>,
) -> Answer<Response> {
    let op = &visitor.op;
    let environment: EnvironmentName = named(&form.environment)?;
    let mut shown = ExplainPage::new(&console, &visitor, Some(environment.as_str())).await?;
    let exposure = if form.exposure == "internal" { Exposure::Internal } else { Exposure::External };
    for method in &mut shown.methods {
        method.here = method.name == form.method;
    }
    shown.internal = exposure == Exposure::Internal;
    shown.url.clone_from(&form.url);
    let told = match headers(&form.headers) {
        Err(refusal) => Err((http::StatusCode::UNPROCESSABLE_ENTITY, refusal)),
        Ok(headers) => {
            let call = CallToExplain {
                environment,
                exposure,
                method: form.method,
                url: form.url.trim().to_owned(),
                headers,
                body_length: None,
                certificate: None,
                remote: op.source.parse().unwrap_or(IpAddr::from([127, 0, 0, 1])),
            };
            console.app.explanations().explain(op, &call).await.map_err(Refusal::with_status)
        }
    };
    match told {
        Ok(named) => {
            shown.told = Some(Told::of_explanation(named));
            Ok(page(&shown)?.into_response())
        }
        Err((status, problem)) if status.is_client_error() => {
            shown.problem = Some(problem);
            Ok(render(status, &shown)?.into_response())
        }
        Err((status, problem)) => Err(problem.into_failure(status)),
    }
}

async fn refused(
    console: &Console,
    visitor: &Visitor,
    request: &str,
) -> Result<Told, (http::StatusCode, Refusal)> {
    let id = RequestId::parse(request)
        .map_err(|error| (http::StatusCode::UNPROCESSABLE_ENTITY, Refusal::of(error)))?;
    let refusal = console.app.refused_calls().get(&visitor.op, id).await.map_err(Refusal::with_status)?;
    Ok(Told::of_refusal(refusal))
}

/// Takes header fields, one a line. Nothing of a line that is none is repeated: it may be a secret.
fn headers(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').ok_or_else(|| {
            let hint = "Write each as name: value, for example accept: text/plain";
            Refusal::saying("A line of the headers has no colon", Some(hint.to_owned()))
        })?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    let headers: Vec<_> = headers.collect::<Result<_, Refusal>>()?;
    if headers.len() > MAX_HEADERS {
        return Err(Refusal::saying(format!("These are more than {MAX_HEADERS} headers"), None));
    }
    Ok(headers)
}

// === impl ExplainPage ===

impl ExplainPage {
    async fn new(console: &Console, visitor: &Visitor, asked: Option<&str>) -> Answer<Self> {
        let (environment, switch) = kept(console, visitor, asked, "").await?;
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Explain, "Explain a call"),
            switch,
            environment: environment.to_string(),
            request: String::new(),
            methods: methods.map(|name| MethodOption { name, here: name == "GET" }).into(),
            url: String::new(),
            internal: false,
            problem: None,
            told: None,
        })
    }
}

// === impl Told ===

impl Told {
    fn of_refusal(NamedRefusal { refusal, key }: NamedRefusal) -> Self {
        let headline = format!(
            "{} {} in {} was answered {} {}",
            refusal.method, refusal.path, refusal.environment, refusal.status, refusal.code
        );
        let mut facts = facts(&refusal.reached, key.as_ref(), &refusal.sent);
        facts.push(("At", refusal.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()));
        facts.push(("From", refusal.remote.to_string()));
        facts.push(("Gateway's state", format!("as of journal entry {}", refusal.revision)));
        Self::new(headline, false, facts, &refusal.checks)
    }

    fn of_explanation(NamedExplanation { explanation, key }: NamedExplanation) -> Self {
        let headline = match (explanation.answer.status, &explanation.answer.code) {
            (None, _) => "It would pass every check: the flow answers".to_owned(),
            (Some(status), None) => format!("It would be answered {status}"),
            (Some(status), Some(code)) => format!("It would be answered {status} {code}"),
        };
        let passed = explanation.answer.code.is_none();
        let mut facts = facts(&explanation.reached, key.as_ref(), &explanation.sent);
        if let Some(revision) = explanation.revision {
            facts.push(("Gateway's state", format!("as of journal entry {revision}")));
        }
        Self::new(headline, passed, facts, &explanation.checks)
    }

    fn new(
        headline: String,
        passed: bool,
        facts: Vec<(&'static str, String)>,
        checks: &[CheckReport],
    ) -> Self {
        let (demanded, others): (Vec<_>, Vec<_>) =
            checks.iter().partition(|report| report.outcome != CheckOutcome::NotDemanded);
        let row = |report: &CheckReport| CheckRow {
            name: words(report),
            mark: match report.outcome {
                CheckOutcome::Passed => ("good", "passed"),
                CheckOutcome::Failed => ("bad", "failed"),
                CheckOutcome::Unavailable => ("bad", "cannot be made"),
                CheckOutcome::NotDemanded => ("", "not demanded"),
                CheckOutcome::NotReached => ("", "not reached"),
            },
            why: report.why.clone().unwrap_or_default(),
        };
        Self {
            headline,
            passed,
            facts,
            checks: demanded.into_iter().map(row).collect(),
            not_demanded: others.into_iter().map(words).collect(),
        }
    }
}

/// Returns the name of a check as words.
fn words(report: &CheckReport) -> String {
    let words = report.check.as_str().replace('-', " ");
    let words = words.replacen("api key", "API key", 1).replacen("cors", "CORS", 1);
    crate::forms::capitalised(&words)
}

/// Tells what is known of a call.
fn facts(
    reached: &Reached,
    key: Option<&CallKeyView>,
    sent: &SentCredentials,
) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(pipeline) = &reached.pipeline {
        let version = reached.version.map(|version| version.to_string()).unwrap_or_default();
        facts.push(("Pipeline", format!("{pipeline} {version}")));
    }
    facts.extend(reached.route.iter().map(|route| ("Route", route.clone())));
    facts.extend(reached.consumer.iter().map(|consumer| ("Consumer", consumer.to_string())));
    facts.extend(key.map(|key| {
        let name = key.name.as_deref().unwrap_or(&key.id);
        ("API key", format!("{name} …{}", key.hint.as_deref().unwrap_or_default()))
    }));
    facts.extend(
        sent.api_key.iter().map(|key| ("Key as sent", format!("{} in the {}", key.shown, key.place))),
    );
    facts.extend(sent.authorization.iter().map(|scheme| ("Authorization", scheme.clone())));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_cannot_be_read_is_not_repeated() {
        let taken = headers("apikey:  a:b \n\n accept: text/plain").unwrap_or_default();
        assert_eq!(
            taken,
            [("apikey", "a:b"), ("accept", "text/plain")].map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
        let Err(refusal) = headers("the-secret-itself") else { panic!("taken") };
        assert!(!format!("{} {:?}", refusal.message, refusal.hint).contains("secret"));
        assert!(headers(&"a: b\n".repeat(101)).is_err());
    }
}
