//! The journal: who changed what, when, and what was refused; whether it is whole; and all of it as a file.

mod entry;
mod export;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tollgate_app::errors::ErrorKind;
use tollgate_app::evidence::Proof;
use tollgate_app::{JournalEntry, JournalFilter, Outcome};
use tollgate_model::objects::Kind;

use crate::Console;
use crate::answers::{Answer, page, render};
use crate::chrome::{Chrome, Section};
use crate::forms::{Problem, Refusal, Told};
use crate::times::Moment;
use crate::visitor::Visitor;

/// Entries of a page.
const PAGE: u32 = 50;
/// Objects that a line names.
const NAMED: usize = 2;

#[derive(Template)]
#[template(path = "pages/audit/index.html")]
struct AuditPage {
    chrome: Chrome,
    query: AuditQuery,
    kinds: Vec<&'static str>,
    rows: Vec<Row>,
    chain: Chain,
    /// The filter as the query of a link; empty without any.
    link: String,
    /// The number that the next page begins before.
    next: Option<u64>,
    problem: Problem,
}

/// What is known of whether the journal is whole.
struct Chain {
    /// The newest checkpoint, if there is one.
    checkpoint: Option<CheckpointView>,
    /// What verifying it just now showed.
    verified: Option<VerifiedView>,
}

struct CheckpointView {
    entries: u64,
    at: Moment,
    kid: String,
}

struct VerifiedView {
    /// How many entries are whole; `None` when something is wrong.
    entries: Option<u64>,
    /// What is wrong.
    fault: Option<String>,
    /// How many checkpoints lie on the chain.
    fitting: usize,
    /// What should be known besides: accepted losses, remarks.
    remarks: Vec<String>,
}

/// An entry as lists show it.
struct Row {
    seq: u64,
    at: Moment,
    actor: String,
    source: String,
    action: String,
    /// Code of the refusal, and how many attempts it stands for.
    refused: Option<(String, u64)>,
    /// The first of the objects.
    objects: Vec<ObjectName>,
    /// How many more there are.
    more: usize,
    reason: String,
}

struct ObjectName {
    kind: &'static str,
    key: String,
    note: &'static str,
}

/// What a filter is made of, as it is written.
#[derive(Clone, Default, Deserialize)]
struct AuditQuery {
    #[serde(default)]
    actor: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    request: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    before: Option<u64>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/audit", get(index))
        .route("/realms/{realm}/audit/verify", post(verify))
        .merge(entry::routes())
        .merge(export::routes())
}

async fn index(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<AuditQuery>,
) -> Answer<Response> {
    let mut shown = AuditPage::new(&console, &visitor, query).await?;
    let filter = match shown.query.filter() {
        Ok(filter) => filter,
        Err(problem) => {
            shown.problem = problem;
            return Ok(render(StatusCode::UNPROCESSABLE_ENTITY, &shown)?.into_response());
        }
    };
    match console.app.journal().list(&visitor.op, filter).await {
        Ok(entries) => {
            let full = entries.len() == PAGE as usize;
            shown.next = entries.last().filter(|entry| full && entry.seq > 1).map(|entry| entry.seq);
            shown.rows = entries.iter().map(|entry| Row::new(entry, visitor.op.now)).collect();
            Ok(page(&shown)?.into_response())
        }
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let field = if refusal.message.contains("kind") { "kind" } else { "until" };
            shown.problem = Problem::new(field, refusal);
            told.answer(&shown)
        }
    }
}

/// Recomputes the whole chain, and says what came of it above the newest entries.
async fn verify(State(console): State<Console>, visitor: Visitor) -> Answer {
    let proof = console.app.evidence().verify(&visitor.op, None).await?;
    let mut shown = AuditPage::new(&console, &visitor, AuditQuery::default()).await?;
    let filter =
        JournalFilter { newest_first: true, limit: PAGE, attempts: true, ..JournalFilter::default() };
    let entries = console.app.journal().list(&visitor.op, filter).await?;
    shown.next =
        entries.last().filter(|entry| entries.len() == PAGE as usize && entry.seq > 1).map(|it| it.seq);
    shown.rows = entries.iter().map(|entry| Row::new(entry, visitor.op.now)).collect();
    shown.chain.verified = Some(VerifiedView::from(proof));
    page(&shown)
}

// === impl AuditPage ===

impl AuditPage {
    /// Makes a page without entries.
    async fn new(console: &Console, visitor: &Visitor, query: AuditQuery) -> Answer<Self> {
        let op = &visitor.op;
        let checkpoint = match console.app.evidence().newest_checkpoint(op).await {
            Ok(kept) => Some(CheckpointView {
                entries: kept.checkpoint.entries,
                at: Moment::new(kept.checkpoint.at, op.now),
                kid: kept.kid,
            }),
            Err(error) if error.kind == ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let mut kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        kinds.sort_unstable();
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Audit, "Audit"),
            link: query.link(),
            query,
            kinds,
            rows: Vec::new(),
            chain: Chain { checkpoint, verified: None },
            next: None,
            problem: Problem::default(),
        })
    }
}

// === impl AuditQuery ===

impl AuditQuery {
    /// Reads it; what is wrong is put at its field.
    fn filter(&self) -> Result<JournalFilter, Problem> {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let kind = match text(&self.kind) {
            None => None,
            Some(word) => {
                let kind = Kind::parse(&word);
                Some(kind.ok_or_else(|| Problem::of("kind", format!("there is no kind `{word}`")))?)
            }
        };
        let outcome = match self.outcome.as_str() {
            "done" => Some(Outcome::Done),
            "refused" => Some(Outcome::Refused),
            _ => None,
        };
        Ok(JournalFilter {
            kind,
            key: text(&self.key),
            attempts: true,
            actor: text(&self.actor),
            action: text(&self.action),
            source: text(&self.source),
            request_id: text(&self.request),
            outcome,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            after: None,
            before: self.before,
            limit: PAGE,
            newest_first: true,
        })
    }

    /// Returns it as the query of a link, without where the page begins.
    fn link(&self) -> String {
        let fields = [
            ("actor", &self.actor),
            ("action", &self.action),
            ("kind", &self.kind),
            ("key", &self.key),
            ("outcome", &self.outcome),
            ("source", &self.source),
            ("request", &self.request),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let written = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let written =
            written.map(|(name, value)| format!("{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        written.collect()
    }
}

/// Reads a time as a browser's field writes it, in UTC, or as RFC 3339.
fn time(field: &'static str, text: &str) -> Result<Option<Timestamp>, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    text.parse().ok().or_else(local).map(Some).ok_or_else(|| {
        let hint = Some("Write it as 2026-11-24 or 2026-11-24T12:00".to_owned());
        Problem::new(field, Refusal::saying("This is no time", hint))
    })
}

// === impl Row ===

impl Row {
    fn new(entry: &JournalEntry, now: Timestamp) -> Self {
        let name =
            |kind: Kind, key: &str, note| ObjectName { kind: kind.as_str(), key: key.to_owned(), note };
        let written = entry.mutations.iter();
        let written =
            written.map(|it| name(it.kind, &it.key, if it.body.is_none() { "deleted" } else { "" }));
        let about = entry.about.iter().map(|it| name(it.kind, &it.key, ""));
        let mut objects: Vec<_> = about.chain(written).collect();
        let more = objects.len().saturating_sub(NAMED);
        objects.truncate(NAMED);
        Self {
            seq: entry.seq,
            at: Moment::new(entry.at, now),
            actor: entry.actor.clone(),
            source: entry.source.clone(),
            action: entry.action.clone(),
            refused: entry.refusal().map(|refusal| (refusal.code, refusal.count)),
            objects,
            more,
            reason: entry.reason.clone(),
        }
    }
}

// === impl VerifiedView ===

impl From<Proof> for VerifiedView {
    fn from(proof: Proof) -> Self {
        let fault = proof.fault.map(|fault| match fault.seq {
            Some(seq) => format!("Entry {seq}: {}", fault.what),
            None => fault.what,
        });
        let losses = proof.losses.into_iter().map(|loss| {
            format!(
                "{} answered for entries after {} that are gone: {}",
                loss.accepted_by, loss.kept_entries, loss.reason
            )
        });
        Self {
            // A journal with a fault has no length that anybody could rely on.
            entries: proof.chain.filter(|_| fault.is_none()).map(|report| report.entries),
            fault,
            fitting: proof.fitting,
            remarks: losses.chain(proof.remarks).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_a_browser_writes_it() {
        let read = |text| time("since", text).ok().flatten().map(|at| at.to_string());
        assert_eq!(read("2026-11-24T12:00").as_deref(), Some("2026-11-24T12:00:00Z"));
        assert_eq!(read("2026-11-24").as_deref(), Some("2026-11-24T00:00:00Z"));
        assert_eq!(read("2026-11-24T12:00:00+01:00").as_deref(), Some("2026-11-24T11:00:00Z"));
        assert!(time("since", "yesterday").is_err() && read("").is_none());
    }
}
