//! The journal as a file: JSON Lines or CSV, written as it is read, so that its size is no matter.
//!
//! A line of JSON Lines carries all that the hash of an entry is made of, except the mutations: of these it has the hash,
//! and the objects with secrets masked. `tollgate audit verify --file` recomputes the chain from such a file.
//!
//! CSV follows RFC 4180: a header, CRLF, quotes where they are needed. It is for people, and people open it with a
//! spreadsheet: a field that one would take for a formula gets an apostrophe in front, as OWASP advises. Programs read
//! JSON Lines, where nothing is changed.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tollgate_app::access::Permission;
use tollgate_app::errors::Error;
use tollgate_app::journal::{Export, Exported, is_masked, masked};
use tollgate_app::{JournalEntry, JournalFilter};
use tollgate_model::objects::Kind;

use super::{AboutView, JournalQuery, OutcomeWord, hex};
use crate::Api;
use crate::answers::Answer;
use crate::extract::{Ask, Caller};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

/// Parts of an answer that wait for a slow reader.
const WAITING: usize = 4;

/// A part is sent as soon as it is this large.
const PART_BYTES: usize = 64 << 10;

const COLUMNS: [&str; 14] = [
    "seq",
    "at",
    "realm",
    "actor",
    "source",
    "action",
    "outcome",
    "code",
    "count",
    "environment",
    "objects",
    "reason",
    "requestId",
    "hash",
];

/// Which entries, and how they are written; all that are named must hold.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExportQuery {
    /// `jsonl` (the default) or `csv`.
    #[serde(default)]
    format: Format,
    /// With `jsonl`, tells of all other entries by their hashes, so that it shows whether one was left out.
    #[serde(default)]
    chain: bool,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Format {
    #[default]
    Jsonl,
    Csv,
}

/// A line of JSON Lines.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    seq: u64,
    format: u8,
    realm: &'a str,
    at: String,
    actor: &'a str,
    source: &'a str,
    action: &'a str,
    request_id: &'a str,
    reason: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<AboutView>,
    /// As it was hashed, to the letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a RawValue>,
    objects: Vec<LineObject<'a>>,
    mutations_hash: String,
    previous_hash: String,
    hash: String,
}

#[derive(Serialize)]
struct LineObject<'a> {
    kind: &'static str,
    key: &'a str,
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown<'a>>,
}

/// An object as it is shown.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    /// To the letter, so that the hash of the mutations can be recomputed.
    Whole(&'a RawValue),
    Masked(Value),
}

/// A line for an entry of which only the hashes are told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkLine {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_hash: Option<String>,
    previous_hash: String,
    hash: String,
}

/// Parts of an answer, as they are made.
struct Parts(mpsc::Receiver<Result<Bytes, Error>>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data)))
    }
}

pub(super) fn operation() -> Operation {
    Operation::get(
        "/realms/{realm}/journal/export",
        Access::Needs(Permission::AuditRead),
        "Writes all entries that a filter finds, oldest first, as JSON Lines or CSV",
        export,
    )
    .asks::<ExportQuery>()
    .streams(&["application/jsonl", "text/csv"])
}

async fn export(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<ExportQuery>,
) -> Answer<Response> {
    let format = query.format;
    if query.chain && format == Format::Csv {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "query-invalid",
            "CSV carries no chain that could be verified",
        )
        .hint("ask for jsonl, or leave `chain` away"));
    }
    let chain = query.chain;
    let filter = JournalFilter::try_from(JournalQuery::from(query))?;
    let mut export = api.app.journal().export(&op, filter, chain).await?;
    // What cannot be begun is answered as such.
    let first = export.next().await?;
    let (sender, parts) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        if let Err(error) = send(&sender, &mut export, first, format).await {
            tracing::warn!(%error, "an export of the journal broke off");
            // The reader's connection is closed: what they have is not taken for all.
            let _ = sender.send(Err(error)).await;
        }
    });
    let media_type = match format {
        Format::Jsonl => "application/jsonl",
        Format::Csv => "text/csv; charset=utf-8; header=present",
    };
    let mut response = Body::new(Parts(parts)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// Writes until there is no more, or nobody reads any more.
async fn send(
    sender: &mpsc::Sender<Result<Bytes, Error>>,
    export: &mut Export,
    first: Vec<Exported>,
    format: Format,
) -> Result<(), Error> {
    let mut text = match format {
        Format::Jsonl => String::new(),
        Format::Csv => csv_row(COLUMNS),
    };
    let mut page = first;
    while !page.is_empty() {
        for exported in page {
            text.push_str(&match format {
                Format::Jsonl => jsonl(&exported),
                Format::Csv => csv(&exported),
            });
            if text.len() >= PART_BYTES && sender.send(Ok(std::mem::take(&mut text).into())).await.is_err() {
                return Ok(());
            }
        }
        page = export.next().await?;
    }
    if !text.is_empty() {
        let _ = sender.send(Ok(text.into())).await;
    }
    Ok(())
}

fn jsonl(exported: &Exported) -> String {
    let line = match exported {
        Exported::Entry(entry) => serde_json::to_string(&Line::from(&**entry)),
        Exported::Link { seq, content, previous_hash, hash } => serde_json::to_string(&LinkLine {
            seq: *seq,
            content_hash: content.as_ref().map(|content| hex(content)),
            previous_hash: hex(previous_hash),
            hash: hex(hash),
        }),
    };
    // Strings, numbers and JSON that was parsed before can be written.
    line.map(|line| line + "\n").unwrap_or_default()
}

fn shown(kind: Kind, body: &str) -> Shown<'_> {
    // A line stays one line, whatever stands in the database.
    match serde_json::from_str(body) {
        Ok(whole) if !is_masked(kind) && !body.contains(['\n', '\r']) => Shown::Whole(whole),
        _ => Shown::Masked(masked(kind, body)),
    }
}

fn csv(exported: &Exported) -> String {
    let Exported::Entry(entry) = exported else { return String::new() };
    let refusal = entry.refusal();
    let object = |kind: Kind, key: &str, note: &str| format!("{kind} {key}{note}");
    let written = entry
        .mutations
        .iter()
        .map(|it| object(it.kind, &it.key, if it.body.is_none() { " (deleted)" } else { "" }));
    let about = entry.about.iter().map(|about| object(about.kind, &about.key, ""));
    let objects: Vec<_> = written.chain(about).collect();
    let (seq, at, hash) = (entry.seq.to_string(), entry.at.to_string(), hex(&entry.hash));
    let count = refusal.as_ref().map_or(1, |refusal| refusal.count).to_string();
    let environment = refusal.as_ref().and_then(|refusal| refusal.environment.as_deref());
    csv_row([
        seq.as_str(),
        &at,
        entry.realm.as_str(),
        &entry.actor,
        &entry.source,
        &entry.action,
        entry.outcome.as_str(),
        refusal.as_ref().map_or("", |refusal| refusal.code.as_str()),
        &count,
        environment.unwrap_or_default(),
        &objects.join("; "),
        &entry.reason,
        &entry.request_id,
        &hash,
    ])
}

/// Writes a record (RFC 4180).
fn csv_row<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let fields: Vec<String> = fields.into_iter().map(csv_field).collect();
    fields.join(",") + "\r\n"
}

fn csv_field(text: &str) -> String {
    // What spreadsheets take for the beginning of a formula, in either width.
    let formula = ['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    let harmless =
        if text.trim_start_matches(' ').starts_with(formula) { format!("'{text}") } else { text.to_owned() };
    if harmless.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", harmless.replace('"', "\"\""))
    } else {
        harmless
    }
}

impl From<ExportQuery> for JournalQuery {
    fn from(query: ExportQuery) -> Self {
        Self {
            kind: query.kind,
            key: query.key,
            actor: query.actor,
            action: query.action,
            source: query.source,
            request_id: query.request_id,
            outcome: query.outcome,
            since: query.since,
            until: query.until,
            ..Self::default()
        }
    }
}

impl<'a> From<&'a JournalEntry> for Line<'a> {
    fn from(entry: &'a JournalEntry) -> Self {
        let objects = entry.mutations.iter().map(|mutation| LineObject {
            kind: mutation.kind.as_str(),
            key: &mutation.key,
            deleted: mutation.body.is_none(),
            value: mutation.body.as_deref().map(|body| shown(mutation.kind, body)),
        });
        Self {
            seq: entry.seq,
            format: entry.format,
            realm: entry.realm.as_str(),
            at: entry.at.to_string(),
            actor: &entry.actor,
            source: &entry.source,
            action: &entry.action,
            request_id: &entry.request_id,
            reason: &entry.reason,
            outcome: entry.outcome.as_str(),
            about: entry
                .about
                .as_ref()
                .map(|about| AboutView { kind: about.kind.as_str(), key: about.key.clone() }),
            detail: serde_json::from_str(&entry.detail).ok(),
            objects: objects.collect(),
            mutations_hash: hex(&entry.mutations_hash),
            previous_hash: hex(&entry.previous_hash),
            hash: hex(&entry.hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_when_it_must_be_and_is_never_a_formula() {
        for (text, field) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "'=1+1"),
            ("  =1+1", "'  =1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("=cmd|' /C calc'!A0, \"x\"", "\"'=cmd|' /C calc'!A0, \"\"x\"\"\""),
            ("a=b", "a=b"),
        ] {
            assert_eq!(csv_field(text), field, "{text:?}");
        }
        assert_eq!(csv_row(["a", "b,c"]), "a,\"b,c\"\r\n");
    }
}
