//! Waivers: violations that pass until a date; granting, extending and ending them.

mod extend;
mod grant;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_app::Stored;
use tollgate_app::access::{Op, Permission};
use tollgate_app::errors::ErrorKind;
use tollgate_app::waivers::WaiverFilter;
use tollgate_model::ids::WaiverId;
use tollgate_model::waivers::Waiver;

use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Told};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

const DAY_HOURS: i64 = 24;

#[derive(Template)]
#[template(path = "pages/waivers/index.html")]
struct WaiversPage {
    chrome: Chrome,
    waivers: Vec<Row>,
    problem: Problem,
}

struct Row {
    id: String,
    pipeline: String,
    environment: String,
    policy: String,
    code: &'static str,
    until: Moment,
    reason: String,
    by: String,
    revision: u64,
    may_extend: bool,
    may_end: bool,
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct EndForm {
    id: String,
    /// The revision that was shown.
    revision: Option<u64>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/waivers", get(index).post(grant::create))
        .route("/realms/{realm}/waivers/new", get(grant::new))
        .route("/realms/{realm}/waivers/extend", get(extend::show).post(extend::extend))
        .route("/realms/{realm}/waivers/end", post(end))
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let mut shown = WaiversPage::new(&console, &visitor).await?;
    shown.chrome.notice = visitor.notice(match query.done.as_str() {
        "grant" => Some("The violation is waived."),
        "extend" => Some("The waiver has another end."),
        "end" => Some("The waiver has ended: the violation counts."),
        _ => None,
    });
    page(&shown)
}

async fn end(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<EndForm>,
) -> Answer<Response> {
    let id = named::<WaiverId>(&form.id)?;
    match console.app.waivers().end(&visitor.op, id, form.revision).await {
        Ok(()) => Ok(done(&visitor.op, "end")),
        // Somebody was faster: the list tells what there is by now.
        Err(error) if matches!(error.kind, ErrorKind::PreconditionFailed | ErrorKind::NotFound) => {
            let (told, refusal) = Told::of(error)?;
            let mut again = WaiversPage::new(&console, &visitor).await?;
            again.problem = Problem::new("", refusal);
            told.answer(&again)
        }
        Err(error) => Err(error.into()),
    }
}

fn done(op: &Op, what: &str) -> Response {
    see_other(&format!("/realms/{}/waivers?done={what}", op.realm))
}

// === impl WaiversPage ===

impl WaiversPage {
    async fn new(console: &Console, visitor: &Visitor) -> Answer<Self> {
        let waivers = console.app.waivers().list(&visitor.op, &WaiverFilter::default()).await?;
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Waivers, "Waivers"),
            waivers: waivers.into_iter().map(|it| Row::new(it, &visitor.op)).collect(),
            problem: Problem::default(),
        })
    }
}

// === impl Row ===

impl Row {
    fn new(Stored { value, revision }: Stored<Waiver>, op: &Op) -> Self {
        let may = |permission| op.may_somewhere_in(permission, &value.environment);
        let may_end = may(Permission::WaiverEnd);
        Self {
            id: value.id.to_string(),
            may_extend: may_end && may(Permission::WaiverCreate),
            may_end,
            pipeline: value.pipeline.to_string(),
            environment: value.environment.to_string(),
            policy: value.policy.to_string(),
            code: value.code.as_str(),
            until: Moment::new(value.until, op.now),
            reason: value.reason,
            by: value.created_by,
            revision,
        }
    }
}
