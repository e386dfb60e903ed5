//! The policies whose values are no choice of three: sensitive fields, login flows, and when the policies are enforced.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{LoginFlowRules, Policies, PolicyName};

use super::super::change_requests::four_eyes;
use super::impact::{ImpactFragment, ImpactView};
use super::save::{self, Outcome};
use super::versions::Change;
use crate::Console;
use crate::answers::{Answer, page, refused, render};
use crate::chrome::{Chrome, Section};
use crate::errors::Failure;
use crate::forms::{FieldList, Refusal};
use crate::visitor::Visitor;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

#[derive(Template)]
#[template(path = "pages/policies/values.html")]
struct ValuesPage<'a> {
    chrome: Chrome,
    policy: String,
    kind: Which,
    environments: Vec<Row>,
    impact: Option<ImpactView>,
    reason: &'a str,
    revision: u64,
    version: String,
    problem: Option<Refusal>,
    meanwhile: Vec<Change>,
    unconfirmed: bool,
    /// Whether saving asks for the change in place of making it.
    is_asked: bool,
}

/// Which of these policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    SensitiveFields,
    LoginFlows,
    Enforcement,
}

/// The fields of one environment, as they stand in the form.
#[derive(Default)]
struct Row {
    environment: String,
    /// Names of fields, with commas.
    fields: String,
    hours: String,
    api_key: bool,
    named_claims: bool,
    hashed_passwords: bool,
    at_gateway: bool,
    date: String,
    /// What is wrong with what was written here.
    wrong: Option<&'static str>,
}

#[derive(Deserialize)]
struct WhichPath {
    which: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/policy-values/{which}", get(show).post(change))
        .route("/realms/{realm}/policy-values/{which}/impact", post(preview))
}

/// Returns the end of the path of a policy that is changed here.
pub(super) fn path_of(policy: &PolicyName) -> Option<String> {
    Which::ALL
        .into_iter()
        .find(|it| it.policy() == *policy)
        .map(|it| format!("policy-values/{}", it.policy()))
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(path): Path<WhichPath>) -> Answer {
    let which = Which::parse(&path.which)?;
    let today = console.app.policies().get(&visitor.op).await?;
    let mut shown = ValuesPage::new(&visitor, which, &today.value, today.revision);
    shown.is_asked = four_eyes(&console, &visitor.op).await.policies;
    page(&shown)
}

async fn preview(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<WhichPath>,
    fields: FieldList,
) -> Answer {
    let which = Which::parse(&path.which)?;
    let today = console.app.policies().get(&visitor.op).await?.value;
    let rows = written(which, &today, &fields);
    let impact = match edit(which, &rows) {
        Some(edit) => Some(ImpactView::new(&console.app.policies().impact(&visitor.op, &edit).await?)),
        None => None,
    };
    page(&ImpactFragment { impact })
}

async fn change(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<WhichPath>,
    fields: FieldList,
) -> Answer<Response> {
    let which = Which::parse(&path.which)?;
    let today = console.app.policies().get(&visitor.op).await?;
    let mut again = ValuesPage::new(&visitor, which, &today.value, today.revision);
    again.environments = written(which, &today.value, &fields);
    again.is_asked = four_eyes(&console, &visitor.op).await.policies;
    again.reason = fields.one("reason");
    // Shown again, it is still what was read that is changed.
    again.revision = fields.one("revision").parse().unwrap_or_default();
    fields.one("version").clone_into(&mut again.version);
    let Some(edit) = edit(which, &again.environments) else {
        return Ok(refused(&again)?.into_response());
    };
    let outcome = if fields.one("action") == "shadow" {
        save::shadow(&console, &visitor, &edit, again.reason).await?
    } else if fields.one("confirmation").trim() == which.policy().as_str() {
        save::save(&console, &visitor, &edit, again.reason, again.revision).await?
    } else {
        again.unconfirmed = true;
        again.impact =
            console.app.policies().impact(&visitor.op, &edit).await.ok().as_ref().map(ImpactView::new);
        return Ok(refused(&again)?.into_response());
    };
    match outcome {
        Outcome::Done(response) => Ok(response),
        Outcome::Again(status, problem) => {
            if status == StatusCode::PRECONDITION_FAILED {
                again.meanwhile = save::meanwhile(&console, &visitor, fields.one("version")).await?;
                (again.revision, again.version) = (today.revision, today.value.version().to_string());
            }
            again.problem = Some(problem);
            Ok(render(status, &again)?.into_response())
        }
    }
}

/// Reads what was written, environment by environment.
fn written(which: Which, today: &Policies, fields: &FieldList) -> Vec<Row> {
    let row = |environment: &EnvironmentName| {
        let field = |name: &str| fields.one(&format!("{name}.{environment}")).trim().to_owned();
        let mut row = Row {
            environment: environment.to_string(),
            fields: field("fields"),
            hours: field("hours"),
            api_key: !field("api-key").is_empty(),
            named_claims: !field("named-claims").is_empty(),
            hashed_passwords: !field("hashed-passwords").is_empty(),
            at_gateway: field("mode") == "gateway",
            date: field("date"),
            wrong: None,
        };
        row.wrong = match which {
            Which::LoginFlows if milliseconds(&row.hours).is_none() => {
                Some("Write a time, such as 24h or 30m.")
            }
            Which::Enforcement if row.at_gateway && date(&row.date).is_none() => {
                Some("Write a date and a time to come, such as 2030-01-31T00:00 (UTC).")
            }
            _ => None,
        };
        row
    };
    today.environments().map(row).collect()
}

/// Makes the change of what was written; `None` when something of it is wrong.
fn edit(which: Which, rows: &[Row]) -> Option<PolicyEdit> {
    if rows.iter().any(|row| row.wrong.is_some()) {
        return None;
    }
    let values =
        rows.iter().map(|row| Some((EnvironmentName::parse(&row.environment).ok()?, which.value(row)?)));
    Some(PolicyEdit::Set(PolicyValues {
        policy: which.policy(),
        environments: values.collect::<Option<BTreeMap<_, _>>>()?,
        partial: true,
        condition: None,
        message: None,
        fix: None,
    }))
}

/// Writes the longest life of a token for people: `24h`, `30m`, `365d`.
pub(super) fn lifetime(rules: &LoginFlowRules) -> String {
    let ms = serde_json::to_value(rules.max_token_lifetime_ms).ok().and_then(|ms| ms.as_i64());
    let ms = ms.unwrap_or_default();
    if ms >= 2 * DAY_MS && ms % DAY_MS == 0 {
        return format!("{}d", ms / DAY_MS);
    }
    format!("{:#}", SignedDuration::from_millis(ms))
}

/// Reads what [`lifetime`] writes; a number alone counts hours.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok()) {
        return u64::try_from(i64::from(days) * DAY_MS).ok();
    }
    let alone = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = if alone { format!("{text}h") } else { text.to_owned() };
    u64::try_from(text.parse::<SignedDuration>().ok()?.as_millis()).ok()
}

/// Reads what the browser sends of a date and a time, which is UTC here.
fn date(text: &str) -> Option<String> {
    let minutes = text.strip_suffix('Z').unwrap_or(text);
    let seconds = if minutes.matches(':').count() == 1 { ":00" } else { "" };
    format!("{minutes}{seconds}Z").parse::<jiff::Timestamp>().ok().map(|at| at.to_string())
}

// === impl Which ===

impl Which {
    const ALL: [Self; 3] = [Self::SensitiveFields, Self::LoginFlows, Self::Enforcement];

    fn policy(self) -> PolicyName {
        match self {
            Self::SensitiveFields => PolicyName::SensitiveFields,
            Self::LoginFlows => PolicyName::LoginFlows,
            Self::Enforcement => PolicyName::Enforcement,
        }
    }

    fn parse(name: &str) -> Answer<Self> {
        Self::ALL
            .into_iter()
            .find(|it| it.policy().as_str() == name)
            .ok_or_else(|| Failure::plain(StatusCode::NOT_FOUND, "There is no such policy to change here."))
    }

    fn value(self, row: &Row) -> Option<Value> {
        Some(match self {
            Self::SensitiveFields => {
                let names = row.fields.split([',', ' ', '\n', '\r']).filter(|name| !name.is_empty());
                json!(names.collect::<Vec<_>>())
            }
            Self::LoginFlows => json!({
                "maxTokenLifetimeMs": milliseconds(&row.hours)?,
                "apiKey": row.api_key,
                "namedClaims": row.named_claims,
                "hashedPasswords": row.hashed_passwords,
            }),
            Self::Enforcement if row.at_gateway => json!({ "atGateway": date(&row.date)? }),
            Self::Enforcement => json!("atDeploy"),
        })
    }

    /// Returns what holds, as the form has it.
    fn row(self, today: &Policies, environment: &EnvironmentName) -> Row {
        let mut row = Row { environment: environment.to_string(), ..Row::default() };
        match self {
            Self::SensitiveFields => {
                let names = today.sensitive_fields(environment).into_iter().flatten();
                row.fields = names.map(ToString::to_string).collect::<Vec<_>>().join(", ");
            }
            Self::LoginFlows => {
                if let Some(rules) = today.login_flow_rules(environment) {
                    row.hours = lifetime(&rules);
                    row.api_key = rules.api_key;
                    row.named_claims = rules.named_claims;
                    row.hashed_passwords = rules.hashed_passwords;
                }
            }
            Self::Enforcement => {
                let at = today.enforcement(environment).and_then(|it| it.at_gateway());
                row.at_gateway = at.is_some();
                row.date =
                    at.map(|at| at.at_gateway.strftime("%Y-%m-%dT%H:%M").to_string()).unwrap_or_default();
            }
        }
        row
    }
}

// === impl ValuesPage ===

impl<'a> ValuesPage<'a> {
    fn new(visitor: &Visitor, which: Which, today: &Policies, revision: u64) -> Self {
        let policy = which.policy().to_string();
        Self {
            chrome: Chrome::new(visitor, Section::Policies, format!("Edit {policy}")),
            kind: which,
            environments: today.environments().map(|name| which.row(today, name)).collect(),
            impact: None,
            reason: "",
            revision,
            version: today.version().to_string(),
            problem: None,
            meanwhile: Vec::new(),
            unconfirmed: false,
            is_asked: false,
            policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_of_tokens_is_written_as_it_is_read() {
        for (text, ms) in
            [("24h", 86_400_000), ("30m", 1_800_000), ("1h 30m", 5_400_000), ("365d", 31_536_000_000)]
        {
            assert_eq!(milliseconds(text), Some(ms), "{text}");
            let rules = json!({ "maxTokenLifetimeMs": ms });
            let rules: LoginFlowRules = serde_json::from_value(rules).expect("rules");
            assert_eq!(lifetime(&rules), text);
        }
        assert_eq!(milliseconds("24"), Some(86_400_000));
        assert_eq!(["", "soon", "-1h", "1h x"].map(milliseconds), [None; 4]);
    }
}
