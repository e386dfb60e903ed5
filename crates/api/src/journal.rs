//! The journal: every change and every refused attempt, and whether the record is whole.

mod export;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_app::access::Permission;
use tollgate_app::journal::{ChangedObject, FieldChange, ShownEntry};
use tollgate_app::{JournalEntry, JournalFilter, Outcome};
use tollgate_model::hex::hex;
use tollgate_model::objects::Kind;

use crate::Api;
use crate::answers::{Answer, ListView};
use crate::evidence::CheckpointsView;
use crate::extract::{Ask, Caller, In, Optional};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

/// A change, or an attempt that was refused.
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
    /// `done` or `refused`.
    outcome: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    refusal: Option<RefusalView>,
    /// What was written or deleted.
    objects: Vec<ObjectView>,
    /// SHA-256 over this entry and the hash of the one before.
    hash: String,
}

/// What there is to say of a refused attempt.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RefusalView {
    /// Code of the problem that was answered.
    code: String,
    /// Method and path of what was asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    /// What it was aimed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<AboutView>,
    /// How many attempts this entry stands for.
    count: u64,
    /// When the first of them was, when the entry was written later.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<String>,
    /// From how many sources they came, when these are not told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<u64>,
    /// Whether there were more sources than that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more_sources: bool,
}

#[derive(Serialize, JsonSchema)]
struct AboutView {
    kind: &'static str,
    key: String,
}

#[derive(Serialize, JsonSchema)]
struct ObjectView {
    kind: &'static str,
    key: String,
    deleted: bool,
}

/// An entry with what it made of each object; secrets are masked.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WholeEntryView {
    #[serde(flatten)]
    entry: EntryView,
    /// Over what the hash is: 2, or 1 for entries that an older version wrote.
    format: u8,
    previous_hash: String,
    changes: Vec<ChangedObjectView>,
}

#[derive(Serialize, JsonSchema)]
struct ChangedObjectView {
    kind: &'static str,
    key: String,
    /// The entry that wrote it before; absent when there was no such object.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    deleted: bool,
    fields: Vec<FieldView>,
}

#[derive(Serialize, JsonSchema)]
struct FieldView {
    /// JSON pointer (RFC 6901).
    pointer: String,
    /// Absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    /// Absent when there is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
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
    /// What signed checkpoints of the journal say.
    checkpoints: CheckpointsView,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyBody {
    /// A checkpoint that was kept elsewhere, as it was printed: the journal must pass through it.
    checkpoint: Option<String>,
}

/// Which entries; all that are named must hold.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JournalQuery {
    /// Only what wrote an object of this kind, and attempts at one.
    kind: Option<String>,
    /// Only what concerns the object with this key; needs `kind`.
    key: Option<String>,
    /// Only of this actor.
    actor: Option<String>,
    /// Only this action, for example `policy.set`.
    action: Option<String>,
    /// Only from this source: a remote address, `cli` or `system`.
    source: Option<String>,
    /// Only of this request.
    request_id: Option<String>,
    /// Only what was `done`, or what was `refused`.
    outcome: Option<OutcomeWord>,
    /// Only at or after this time (RFC 3339).
    #[schemars(with = "Option<String>")]
    since: Option<Timestamp>,
    /// Only before this time (RFC 3339).
    #[schemars(with = "Option<String>")]
    until: Option<Timestamp>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum OutcomeWord {
    Done,
    Refused,
}

#[derive(Deserialize)]
struct EntryPath {
    seq: u64,
}

pub(crate) fn operations() -> Vec<Operation> {
    let read = Access::Needs(Permission::AuditRead);
    vec![
        Operation::get("/realms/{realm}/journal", read, "Lists changes and refused attempts", list)
            .asks::<JournalQuery>()
            .answers::<ListView<EntryView>>(),
        export::operation(),
        Operation::get(
            "/realms/{realm}/journal/{seq}",
            read,
            "Returns an entry with what each field was before and after",
            get,
        )
        .answers::<WholeEntryView>(),
        Operation::post(
            "/realms/{realm}/journal/verify",
            read,
            "Recomputes the hash chain of the whole journal, and checks it against every checkpoint",
            verify,
        )
        .takes_optional::<VerifyBody>()
        .answers::<VerifyView>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<JournalQuery>,
) -> Answer<Json<ListView<EntryView>>> {
    let filter = JournalFilter::try_from(query)?;
    let limit = filter.limit;
    let entries = api.app.journal().list(&op, filter).await?;
    let full = entries.len() == limit as usize;
    let next = entries.last().filter(|_| full).map(|entry| entry.seq.to_string());
    Ok(Json(ListView { items: entries.into_iter().map(EntryView::from).collect(), next }))
}

async fn get(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<EntryPath>,
) -> Answer<Json<WholeEntryView>> {
    Ok(Json(api.app.journal().entry(&op, path.seq).await?.into()))
}

async fn verify(
    State(api): State<Api>,
    Caller(op): Caller,
    Optional(body): Optional<VerifyBody>,
) -> Answer<Json<VerifyView>> {
    let proof = api.app.evidence().verify(&op, body.checkpoint.as_deref()).await?;
    // A journal with a fault has no length and no end that anybody could rely on.
    let chain = proof.chain.filter(|_| proof.fault.is_none());
    Ok(Json(VerifyView {
        intact: proof.fault.is_none(),
        entries: chain.map(|report| report.entries),
        head_hash: chain.map(|report| hex(&report.head_hash)),
        seq: proof.fault.as_ref().and_then(|fault| fault.seq),
        what: proof.fault.as_ref().map(|fault| fault.what.clone()),
        checkpoints: CheckpointsView::from(proof),
    }))
}

fn kind(word: &str) -> Result<Kind, Problem> {
    Kind::parse(word).ok_or_else(|| {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "query-invalid", format!("there is no kind `{word}`"))
            .hint(format!("there are {}", known.join(", ")))
    })
}

impl TryFrom<JournalQuery> for JournalFilter {
    type Error = Problem;

    fn try_from(query: JournalQuery) -> Result<Self, Problem> {
        let newest_first = query.order != Some(Order::Oldest);
        let (after, before) = if newest_first { (None, query.cursor) } else { (query.cursor, None) };
        Ok(Self {
            kind: query.kind.as_deref().map(kind).transpose()?,
            key: query.key,
            attempts: true,
            actor: query.actor,
            action: query.action,
            source: query.source,
            request_id: query.request_id,
            outcome: query.outcome.map(|outcome| match outcome {
                OutcomeWord::Done => Outcome::Done,
                OutcomeWord::Refused => Outcome::Refused,
            }),
            since: query.since,
            until: query.until,
            after,
            before,
            limit: query.limit.unwrap_or(100).clamp(1, 500),
            newest_first,
        })
    }
}

impl From<JournalEntry> for EntryView {
    fn from(entry: JournalEntry) -> Self {
        let refusal = entry.refusal().map(|refusal| RefusalView {
            code: refusal.code,
            operation: refusal.operation,
            environment: refusal.environment,
            about: entry.about.map(|about| AboutView { kind: about.kind.as_str(), key: about.key }),
            count: refusal.count,
            first_at: refusal.first_at.map(|at| at.to_string()),
            last_at: refusal.last_at.map(|at| at.to_string()),
            sources: refusal.sources,
            more_sources: refusal.more_sources,
        });
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
            outcome: entry.outcome.as_str(),
            refusal,
            objects: objects.collect(),
            hash: hex(&entry.hash),
        }
    }
}

impl From<ShownEntry> for WholeEntryView {
    fn from(shown: ShownEntry) -> Self {
        let field = |FieldChange { pointer, before, after }| FieldView { pointer, before, after };
        let object = |object: ChangedObject| ChangedObjectView {
            kind: object.kind.as_str(),
            key: object.key,
            previous: object.previous,
            deleted: object.deleted,
            fields: object.fields.into_iter().map(field).collect(),
        };
        Self {
            format: shown.entry.format,
            previous_hash: hex(&shown.entry.previous_hash),
            changes: shown.objects.into_iter().map(object).collect(),
            entry: shown.entry.into(),
        }
    }
}
