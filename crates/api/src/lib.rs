//! The management API: routes, request and response types, OpenAPI. Converts and delegates to [`tollgate_app`].
//!
//! Every operation is one entry of a table ([`operations::Operation`]): method, path, the permission that it needs,
//! body, answer, handler. The router and the OpenAPI document are both made from that table, so that neither can know an
//! operation that the other does not, and none can be added without saying who may call it.

mod access;
mod accounts;
mod answers;
mod attempts;
mod attestations;
mod basic_auth;
mod certificates;
mod change_requests;
mod consumers;
mod dependents;
mod deployments;
mod environments;
mod evidence;
mod explanations;
mod extract;
mod gateways;
mod globals;
mod groups;
mod guards;
mod idempotency;
mod issuers;
mod journal;
mod keys;
mod meta;
mod next_steps;
mod openapi;
mod operations;
mod passwords;
mod past;
mod pipelines;
mod policies;
mod policy_versions;
mod problem;
mod reach;
mod realm_settings;
mod roles;
mod second_factor;
mod sessions;
mod shadow;
mod signing_keys;
mod tokens;
mod traffic;
mod trials;
mod usage;
mod users;
mod waivers;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use tollgate_app::App;

pub use guards::names_us;
pub use openapi::openapi;

/// Longest request body, in bytes.
const MAX_BODY_BYTES: usize = 2 << 20;

/// What an operator can set.
#[derive(Debug, Clone, Default)]
pub struct ApiSettings {
    /// Version of the product.
    pub version: String,
    /// Names under which browsers may reach this address, besides `localhost` and IP addresses.
    pub allowed_hosts: Vec<String>,
    /// Whether session cookies are always sent over TLS only; else those of a browser that came over TLS.
    pub secure_cookies: bool,
}

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) app: App,
    pub(crate) settings: Arc<ApiSettings>,
}

/// Makes the router of the management API, with `/healthz`, `/readyz` and the published evidence keys beside it, and the
/// pages of the console: what holds for every request holds for theirs.
///
/// The remote address of callers is read from `ConnectInfo<SocketAddr>`.
pub fn router(app: App, settings: ApiSettings, pages: Router) -> Router {
    let api = Api { app, settings: Arc::new(settings) };
    let mut routes = Router::new();
    for operation in operations::all() {
        routes = operation.add_to(routes, &api);
    }
    Router::new()
        .nest(
            "/api/v1",
            routes.fallback(guards::unknown_path).method_not_allowed_fallback(guards::unknown_method),
        )
        .route(evidence::PUBLISHED_KEYS, get(evidence::published))
        .route("/healthz", get(meta::healthz))
        .route("/readyz", get(meta::readyz))
        .fallback(guards::unknown_path)
        .method_not_allowed_fallback(guards::unknown_method)
        .with_state(api.clone())
        .merge(pages)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(api, guards::guard))
}
