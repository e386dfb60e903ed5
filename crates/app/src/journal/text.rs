//! The journal as a file: JSON Lines or CSV, written as it is read, so that its size is no matter.
//!
//! A line of JSON Lines carries all that the hash of an entry is made of, except the mutations: of these it has the hash,
//! and the objects with secrets masked. `tollgate audit verify --file` recomputes the chain from such a file.
//!
//! CSV follows RFC 4180: a header, CRLF, quotes where they are needed. It is for people, and people open it with a
//! spreadsheet: a field that one would take for a formula gets an apostrophe in front, as OWASP advises. Programs read
//! JSON Lines, where nothing is changed.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tollgate_model::hex::hex;
use tollgate_model::objects::Kind;
use tollgate_store::JournalEntry;

use super::{Export, Exported, is_masked, masked};
use crate::errors::Error;

/// A part is given as soon as it is this large.
const PART_BYTES: usize = 64 << 10;

/// Parts that wait for a slow reader.
const WAITING: usize = 4;

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

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// JSON Lines, for programs.
    JsonLines,
    /// CSV, for people.
    Csv,
}

/// An export as text, a part at a time.
pub struct ExportText {
    export: Export,
    format: ExportFormat,
    /// What was read and not written yet; `None` when there is no more.
    page: Option<Vec<Exported>>,
    text: String,
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
    about: Option<LineAbout<'a>>,
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

#[derive(Serialize)]
struct LineAbout<'a> {
    kind: &'static str,
    key: &'a str,
}

// === impl ExportFormat ===

impl ExportFormat {
    /// Returns its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// Returns the usual end of names of such files, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Csv => "csv",
        }
    }
}

// === impl ExportText ===

impl ExportText {
    /// Begins to write: what cannot be begun fails here, before anything is sent.
    ///
    /// # Errors
    ///
    /// As [`Export::next`].
    pub async fn begin(mut export: Export, format: ExportFormat) -> Result<Self, Error> {
        let page = Some(export.next().await?);
        let text = match format {
            ExportFormat::JsonLines => String::new(),
            ExportFormat::Csv => csv_row(COLUMNS),
        };
        Ok(Self { export, format, page, text })
    }

    /// Writes on in a task of its own, as far ahead of the reader as a few parts. The channel ends after the last part, or
    /// after an error: what was given until then is not all.
    pub fn into_parts(mut self) -> mpsc::Receiver<Result<String, Error>> {
        let (sender, parts) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            while let Some(part) = self.next().await.transpose() {
                if let Err(error) = &part {
                    tracing::warn!(%error, "an export of the journal broke off");
                }
                let is_last = part.is_err();
                // A failed send: nobody reads any more.
                if sender.send(part).await.is_err() || is_last {
                    return;
                }
            }
        });
        parts
    }

    /// Returns the next part; `None` after the last.
    async fn next(&mut self) -> Result<Option<String>, Error> {
        while let Some(page) = self.page.take() {
            if page.is_empty() {
                break;
            }
            for exported in page {
                self.text.push_str(&match self.format {
                    ExportFormat::JsonLines => jsonl(&exported),
                    ExportFormat::Csv => csv(&exported),
                });
            }
            self.page = Some(self.export.next().await?);
            if self.text.len() >= PART_BYTES {
                break;
            }
        }
        let part = std::mem::take(&mut self.text);
        Ok(Some(part).filter(|part| !part.is_empty()))
    }
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
            about: entry.about.as_ref().map(|about| LineAbout { kind: about.kind.as_str(), key: &about.key }),
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
