//! A console without a network or a browser.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::Request;
use tempfile::TempDir;
use tollgate_app::access::{Grant, Op};
use tollgate_app::users::{NewPassword, NewUser, SignIn};
use tollgate_app::{App, Password};
use tollgate_console::ConsoleSettings;
use tollgate_credential::seal::MasterKey;
use tollgate_model::document::GroupFile;
use tollgate_model::names::{GroupName, RoleName, UserName};
use tollgate_model::users::SessionClient;
use tollgate_store::Store;
use tollgate_testkit::{FixedClock, SeededRandom};
use tower::ServiceExt as _;

pub(crate) const PASSWORD: &str = "open-sesame-2026";

/// A console, and the admin's session.
pub(crate) struct World {
    _directory: TempDir,
    pub(crate) app: App,
    router: Router,
    pub(crate) cookie: String,
    /// The admin's.
    pub(crate) op: Op,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("test.db").display());
        let store = Store::open(&url).await.expect("opens");
        let random = Arc::new(SeededRandom::new(7));
        let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
        let app = App::new(store, master, Arc::new(FixedClock::default()), random);
        let mut op = app.system_op().expect("random");
        app.realms().initialise(&op).await.expect("a realm");
        let password = Password::parse(PASSWORD).expect("a password");
        let admin =
            app.users().create_first_admin(&op, Some(password)).await.expect("an admin").expect("the first");
        let token = admin.token.plain.expose_secret();
        op.actor = app.users().authenticate(token, op.now).await.expect("signed in").actor;
        let settings = ConsoleSettings {
            version: "9.9".to_owned(),
            gateways: [("test".to_owned(), "http://127.0.0.1:7001".to_owned())].into(),
            ..ConsoleSettings::default()
        };
        let router = tollgate_console::router(app.clone(), settings);
        let mut world = Self { _directory: directory, app, router, cookie: String::new(), op };
        world.cookie = world.sign_in("admin", PASSWORD).await;
        world
    }

    /// Signs somebody in, and returns the cookie of their session.
    pub(crate) async fn sign_in(&self, user: &str, password: &str) -> String {
        let shown = SignIn {
            user,
            password,
            code: None,
            name: "browser",
            client: SessionClient::Browser,
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"),
            replaces: None,
        };
        let signed_in = self.app.users().sign_in(&self.op, &shown).await.expect("signs in");
        format!("tollgate_session={}", signed_in.token.plain.expose_secret())
    }

    /// Makes a user in groups of realm `default`, whose password is [`PASSWORD`] and no temporary one any more, and
    /// returns the cookie of their session.
    pub(crate) async fn person(&self, name: &str, groups: &[&str]) -> String {
        let input = NewUser {
            name: UserName::parse(name).expect("a name"),
            password: None,
            groups: groups.iter().map(|group| GroupName::parse(group).expect("a name")).collect(),
        };
        let made = self.app.users().create(&self.op, input).await.expect("a user");
        let temporary = made.password.expect("made up").expose_secret().to_owned();
        let cookie = self.sign_in(name, &temporary).await;
        let token = cookie.split_once('=').expect("a cookie").1;
        let me = self.app.users().authenticate(token, self.op.now).await.expect("signed in");
        let op = Op { actor: me.actor.clone(), ..self.op.clone() };
        let change = NewPassword { current: &temporary, new: PASSWORD, end_api_tokens: false };
        self.app.users().change_password(&op, &me, &change).await.expect("changed");
        cookie
    }

    /// Makes a group that grants a role everywhere.
    pub(crate) async fn group(&self, name: &str, role: &str) {
        let file = GroupFile {
            name: GroupName::parse(name).expect("a name"),
            description: String::new(),
            members: BTreeSet::new(),
            grants: [Grant::everywhere(RoleName::parse(role).expect("a name"))].into(),
        };
        self.app.groups().create(&self.op, &file).await.expect("a group");
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.expect("never fails");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 10 << 20).await.expect("a body");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Reply { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.get_as(&self.cookie, path).await
    }

    /// Opens a page with the cookie of a session, from one of the console's own pages.
    pub(crate) async fn get_as(&self, cookie: &str, path: &str) -> Reply {
        let request = Request::get(path).header("cookie", cookie).header("sec-fetch-site", "same-origin");
        self.send(request.body(Body::empty()).expect("a request")).await
    }

    /// Sends a form as a page of the console does.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.post_as(&self.cookie, path, fields).await
    }

    /// Sends a form with the cookie of a session.
    pub(crate) async fn post_as(&self, cookie: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body = encoded_form(fields);
        let request = Request::post(path)
            .header("cookie", cookie)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body)).expect("a request")).await
    }
}

pub(crate) fn encoded_form(fields: &[(&str, &str)]) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect::<Vec<_>>()
        .join("&")
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}
