//! The journal as a file, sent as it is read, so that its size is no matter.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tollgate_app::JournalFilter;
use tollgate_app::access::Permission;
use tollgate_app::errors::Error;
use tollgate_app::journal::{ExportFormat, ExportText};

use super::{JournalQuery, OutcomeWord};
use crate::Api;
use crate::answers::Answer;
use crate::extract::{Ask, Caller};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

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

/// Parts of an answer, as they are made.
struct Parts(mpsc::Receiver<Result<String, Error>>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| part.map(|text| Frame::data(text.into()))))
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
    let export = api.app.journal().export(&op, filter, chain).await?;
    // What breaks off later closes the connection: what the reader has is not taken for all. What cannot be begun is answered as such.
    let text = ExportText::begin(export, format.into()).await?;
    let media_type = ExportFormat::from(format).media_type();
    let mut response = Body::new(Parts(text.into_parts())).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
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

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Jsonl => Self::JsonLines,
            Format::Csv => Self::Csv,
        }
    }
}
