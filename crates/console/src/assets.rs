//! Style sheet, scripts and icon: inside the binary, under names that change with their content, so that a browser may
//! keep them for ever.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use tollgate_model::hex::hex;

use crate::Console;

/// Something that pages link to.
pub(crate) struct Asset {
    /// Its path, its content's hash included.
    pub(crate) path: String,
    name: String,
    media_type: &'static str,
    bytes: &'static [u8],
}

/// The style sheet: one file for browsers, one for each part of the console for us.
const STYLE_SHEET: &str = concat!(
    include_str!("../assets/style/base.css"),
    include_str!("../assets/style/overview.css"),
    include_str!("../assets/style/build.css"),
    include_str!("../assets/style/run.css"),
    include_str!("../assets/style/governance.css"),
    include_str!("../assets/style/settings.css"),
    include_str!("../assets/style/administration.css"),
    include_str!("../assets/style/monitor.css"),
);

/// The style sheet.
pub(crate) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("app.css", "text/css; charset=utf-8", STYLE_SHEET.as_bytes()));

/// Our script.
pub(crate) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("app.js", "text/javascript; charset=utf-8", include_bytes!("../assets/app.js"))
});

/// What only the editor of pipelines does.
pub(crate) static EDITOR: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("editor.js", "text/javascript; charset=utf-8", include_bytes!("../assets/editor.js"))
});

/// htmx 2.0.11 (0BSD, `assets/htmx.LICENSE`), unchanged.
pub(crate) static HTMX: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("htmx.js", "text/javascript; charset=utf-8", include_bytes!("../assets/htmx.min.js"))
});

/// The icon.
pub(crate) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")));

impl Asset {
    fn new(name: &str, media_type: &'static str, bytes: &'static [u8]) -> Self {
        let hash = digest(&SHA256, bytes);
        let hash = &hex(hash.as_ref())[..12];
        let name = match name.split_once('.') {
            Some((stem, extension)) => format!("{stem}-{hash}.{extension}"),
            None => format!("{name}-{hash}"),
        };
        Self { path: format!("/assets/{name}"), name, media_type, bytes }
    }
}

pub(crate) fn routes() -> Router<Console> {
    Router::new().route("/assets/{name}", get(serve))
}

async fn serve(Path(name): Path<String>) -> Response {
    let all = [&*STYLE, &*SCRIPT, &*EDITOR, &*HTMX, &*ICON];
    let Some(asset) = all.into_iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = asset.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    response
}
