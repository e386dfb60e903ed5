//! The web console: pages rendered on the server, over the same use cases as the management API.
//!
//! A page is a module in `pages/` with its template in `templates/pages/`. It gets a [`visitor::Visitor`], who has signed
//! in, calls use cases, and gives a template. A change is a form that is posted; it answers with a redirect when it was
//! done, and with the form and what is wrong when it was not; what a form does not say itself is told on the page that it
//! was sent from (`told_back`). Nothing needs a script: htmx adds previews and dialogs to
//! pages that work without it.
//!
//! What every answer carries, and which names the server answers to, is the business of the router that these pages are
//! merged into (`tollgate_api::router`).

mod answers;
mod assets;
mod attempts;
mod charts;
mod chrome;
mod differences;
mod errors;
mod flow_diagram;
mod forms;
mod meanwhile;
mod next_steps;
mod pages;
mod paths;
mod permitted;
mod qr;
mod remembered;
mod times;
mod told_back;
mod visitor;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use tollgate_app::App;

/// What an operator can set.
#[derive(Debug, Clone, Default)]
pub struct ConsoleSettings {
    /// Version of the product.
    pub version: String,
    /// Whether session cookies are always sent over TLS only; else those of a browser that came over TLS.
    pub secure_cookies: bool,
    /// Where the external listener of each environment is, as callers near this server reach it: `http://127.0.0.1:7001`.
    pub gateways: BTreeMap<String, String>,
}

/// What every page can reach.
#[derive(Clone)]
pub(crate) struct Console {
    pub(crate) app: App,
    pub(crate) settings: Arc<ConsoleSettings>,
}

/// Makes the router of all pages and of what they are made of.
///
/// The remote address of visitors is read from `ConnectInfo<SocketAddr>`.
pub fn router(app: App, settings: ConsoleSettings) -> Router {
    let console = Console { app, settings: Arc::new(settings) };
    let again = pages::routes().with_state(console.clone());
    pages::routes()
        .layer(middleware::from_fn_with_state(console.clone(), visitor::refuse_other_sites))
        .layer(middleware::from_fn_with_state(console.clone(), attempts::record))
        .layer(middleware::from_fn(remembered::remember))
        .layer(middleware::from_fn_with_state(again, told_back::tell))
        .layer(middleware::from_fn(errors::show))
        .layer(middleware::from_fn(answers::add_headers))
        .merge(assets::routes())
        .with_state(console)
}
