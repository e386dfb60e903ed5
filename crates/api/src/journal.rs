//! The journal: every change, and whether the record is whole.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::journal::JournalVerdict;
use tollgate_app::{JournalEntry, JournalFilter};
use tollgate_model::objects::Kind;

use crate::Api;
use crate::answers::{Answer, ListView};
use crate::extract::{Ask, Caller};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EntryView {
    seq: u64,
    at: String,
    actor: String,
    source: String,
    action: String,
    request_id: String,
    reason: String,
    /// What was written or deleted.
    objects: Vec<ObjectView>,
    /// SHA-256 over this entry and the hash of the one before.
    hash: String,
}

#[derive(Serialize, JsonSchema)]
struct ObjectView {
    kind: &'static str,
    key: String,
    deleted: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VerifyView {
    intact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_hash: Option<String>,
    /// The first entry that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JournalQuery {
    /// Only changes of this kind of object.
    kind: Option<String>,
    /// Only changes of the object with this key; needs `kind`.
    key: Option<String>,
    /// How many at most: 1 to 500.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<u64>,
    /// `newest` (the default) or `oldest` first.
    order: Option<Order>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Order {
    Newest,
    Oldest,
}

pub(crate) fn operations() -> Vec<Operation> {
    let read = Access::Needs(Permission::AuditRead);
    vec![
        Operation::get("/realms/{realm}/journal", read, "Lists changes", list)
            .asks::<JournalQuery>()
            .answers::<ListView<EntryView>>(),
        Operation::post(
            "/realms/{realm}/journal/verify",
            read,
            "Recomputes the hash chain of the whole journal",
            verify,
        )
        .answers::<VerifyView>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<JournalQuery>,
) -> Answer<Json<ListView<EntryView>>> {
    let JournalQuery { kind, key, limit, cursor, order } = query;
    let kind = match kind {
        Some(kind) => Some(Kind::parse(&kind).ok_or_else(|| {
            let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "query-invalid",
                format!("there is no kind `{kind}`"),
            )
            .hint(format!("there are {}", known.join(", ")))
        })?),
        None => None,
    };
    let newest_first = order != Some(Order::Oldest);
    let limit = limit.unwrap_or(100).clamp(1, 500);
    let (after, before) = if newest_first { (None, cursor) } else { (cursor, None) };
    let filter = JournalFilter { kind, key, after, before, limit, newest_first };
    let entries = api.app.journal().list(&op, filter).await?;
    let full = entries.len() == limit as usize;
    let next = entries.last().filter(|_| full).map(|entry| entry.seq.to_string());
    Ok(Json(ListView { items: entries.into_iter().map(EntryView::from).collect(), next }))
}

async fn verify(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<VerifyView>> {
    Ok(Json(match api.app.journal().verify(&op).await? {
        JournalVerdict::Intact(report) => VerifyView {
            intact: true,
            entries: Some(report.entries),
            head_hash: Some(hex(&report.head_hash)),
            seq: None,
            what: None,
        },
        JournalVerdict::Broken { seq, what } => {
            VerifyView { intact: false, entries: None, head_hash: None, seq: Some(seq), what: Some(what) }
        }
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl From<JournalEntry> for EntryView {
    fn from(entry: JournalEntry) -> Self {
        let objects = entry.mutations.into_iter().map(|mutation| ObjectView {
            kind: mutation.kind.as_str(),
            key: mutation.key,
            deleted: mutation.body.is_none(),
        });
        Self {
            seq: entry.seq,
            at: entry.at.to_string(),
            actor: entry.actor,
            source: entry.source,
            action: entry.action,
            request_id: entry.request_id,
            reason: entry.reason,
            objects: objects.collect(),
            hash: hex(&entry.hash),
        }
    }
}
