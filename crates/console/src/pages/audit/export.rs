//! The journal as a download, sent as it is read.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc;
use tollgate_app::errors::Error;
use tollgate_app::journal::{ExportFormat, ExportText};

use super::AuditQuery;
use crate::Console;
use crate::answers::Answer;
use crate::errors::Failure;
use crate::visitor::Visitor;

#[derive(Deserialize)]
struct FormatQuery {
    #[serde(default)]
    format: String,
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

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/audit/export", get(export))
}

async fn export(
    State(console): State<Console>,
    visitor: Visitor,
    Query(FormatQuery { format }): Query<FormatQuery>,
    Query(query): Query<AuditQuery>,
) -> Answer<Response> {
    let format = if format == "csv" { ExportFormat::Csv } else { ExportFormat::JsonLines };
    let wrong =
        |_| Failure::plain(StatusCode::UNPROCESSABLE_ENTITY, "The filter is wrong: go back and mend it.");
    let filter = query.filter().map_err(wrong)?;
    let export = console.app.journal().export(&visitor.op, filter, false).await?;
    // What breaks off later closes the connection: what the reader has is not taken for all. What cannot be begun is a page that says so.
    let text = ExportText::begin(export, format).await?;
    let mut response = Body::new(Parts(text.into_parts())).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    let name = format!(
        "attachment; filename=\"journal-{}-{}.{}\"",
        visitor.op.realm,
        visitor.op.now.strftime("%Y%m%d-%H%M"),
        format.extension()
    );
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
