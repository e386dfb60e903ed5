//! Who gets in, and what every page carries.

use axum::body::Body;
use http::Request;
use tollgate_app::access::Op;
use tollgate_app::{JournalFilter, Outcome};
use tollgate_testkit::totp_code;

use crate::world::{PASSWORD, Reply, World, encoded_form};

const PAGES: &[&str] = &[
    "/realms/default/overview",
    "/realms/default/pipelines",
    "/realms/default/new-pipeline",
    "/realms/default/deployments",
    "/realms/default/consumers",
    "/realms/default/consumers/new",
    "/realms/default/policy-versions",
    "/realms/default/policy-versions/1.0",
    "/realms/default/waivers",
    "/realms/default/waivers/new?pipeline=orders&environment=test",
    "/realms/default/globals",
    "/realms/default/accounts?environment=test",
    "/realms/default/signing-keys",
    "/realms/default/issuers",
    "/realms/default/new-issuer?environment=test",
    "/realms/default/issuers/test/corp",
    "/realms/default/globals/delete?environment=test&name=region",
    "/realms/default/accounts/delete?environment=test&name=crm",
    "/realms/default/waivers/extend?id=wvr_01a20f1e149277a5bb4a865900e000ac",
    "/realms/default/policies",
    "/realms/default/policies/external-api-access/edit",
    "/realms/default/policies/conformance/test",
    "/realms/default/change-requests",
    "/realms/default/account",
    "/realms/default/account/tokens/new",
    "/realms/default/users",
    "/realms/default/new-user",
    "/realms/default/users/admin",
    "/realms/default/groups",
    "/realms/default/new-group",
    "/realms/default/groups/administrators",
    "/realms/default/roles",
    "/realms/default/new-role?from=viewer",
    "/realms/default/roles/administrator",
    "/realms/default/environments",
    "/realms/default/new-environment",
    "/realms/default/settings",
    "/realms/default/audit",
    "/realms/default/audit/1",
    "/realms/default/policies/conformance/test?show=login-flows",
    "/realms/default/policies/shadow",
    "/realms/default/policy-values/sensitive-fields",
    "/realms/default/policy-values/login-flows",
    "/realms/default/policy-values/enforcement",
    "/realms/default/new-rule",
    "/realms/default/search?q=orders",
];

#[tokio::test]
async fn whoever_has_not_signed_in_is_sent_to_do_so_and_back() {
    let world = World::start().await;
    for page in PAGES {
        let reply = world.send(Request::get(*page).body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, 303, "{page}");
        assert!(reply.header("location").starts_with("/sign-in?back=%2Frealms"), "{reply:?}");
        assert_eq!(reply.text, "", "nothing of the page is shown");
    }
    let part = Request::post("/realms/default/policies/external-api-access/impact")
        .header("hx-request", "true")
        .header("sec-fetch-site", "same-origin");
    let reply = world.send(part.body(Body::empty()).unwrap()).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("hx-redirect").starts_with("/sign-in"), "the whole page goes: {reply:?}");
}

#[tokio::test]
async fn every_page_has_one_heading_and_no_script_or_style_of_its_own() {
    let world = World::start().await;
    for page in PAGES.iter().chain(&["/sign-in", "/realms/default/policies/conformance/none"]) {
        let reply = world.get(page).await;
        assert_eq!(reply.text.matches("<h1>").count(), 1, "{page}: {}", reply.text);
        assert!(reply.text.contains("<html lang=\"en\">") && reply.text.contains("</html>"), "{page}");
        for forbidden in ["style=", "<style", "onclick", "javascript:"] {
            assert!(!reply.text.contains(forbidden), "{page} has {forbidden}");
        }
        assert!(
            reply.text.matches("<script").count() == reply.text.matches("<script src=\"/assets/").count()
        );
        let policy = reply.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let world = World::start().await;
    let before = world.app.policies().get(&world.op).await.unwrap();
    let path = "/realms/default/policies/external-api-access/edit";
    let form = encoded_form(&[
        ("revision", &before.revision.to_string()),
        ("test", "any"),
        ("confirmation", "external-api-access"),
    ]);
    let post = || {
        Request::post(path)
            .header("cookie", &world.cookie)
            .header("host", "tollgate.example")
            .header("content-type", "application/x-www-form-urlencoded")
    };
    for request in [
        post(),
        post().header("sec-fetch-site", "cross-site"),
        post().header("sec-fetch-site", "same-site"),
        post().header("sec-fetch-site", "none"),
        post().header("origin", "https://evil.example"),
        post().header("origin", "null"),
        post().header("sec-fetch-site", "cross-site").header("origin", "https://tollgate.example"),
    ] {
        let reply = world.send(request.body(Body::from(form.clone())).unwrap()).await;
        assert_eq!(reply.status, 403, "{reply:?}");
    }
    assert_eq!(world.app.policies().get(&world.op).await.unwrap().revision, before.revision);
    let own = post().header("origin", "https://tollgate.example");
    assert_eq!(world.send(own.body(Body::from(form)).unwrap()).await.status, 303);
}

#[tokio::test]
async fn signing_in_makes_a_session_that_signing_out_ends() {
    let world = World::start().await;
    let form = |password| [("user", "admin"), ("password", password), ("back", "//evil.example")];
    let wrong = world.post("/sign-in", &form("<script>alert(1)</script>")).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text.contains("User, password or code is wrong"), "{}", wrong.text);
    assert!(!wrong.text.contains("alert(1)"), "a password is never shown again");
    let right = world.post("/sign-in", &form(PASSWORD)).await;
    assert_eq!((right.status, right.header("location")), (303, "/"));
    let cookie = right.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let session = cookie.split(';').next().unwrap().to_owned();
    assert_ne!(session, world.cookie, "each sign-in has a session of its own");
    let page = |session: &str| {
        Request::get("/realms/default/overview").header("cookie", session).body(Body::empty()).unwrap()
    };
    assert_eq!(world.send(page(&session)).await.status, 200);
    let out = Request::post("/sign-out").header("cookie", &session).header("sec-fetch-site", "same-origin");
    let out = world.send(out.body(Body::empty()).unwrap()).await;
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
    assert_eq!(world.send(page(&session)).await.status, 303, "the session is over");
}

#[tokio::test]
async fn a_browser_signs_in_with_a_second_factor_and_ends_the_session_that_it_showed() {
    let world = World::start().await;
    let sign_in = async |fields: &[(&str, &str)]| world.post("/sign-in", fields).await;
    let (user, password) = (("user", "admin"), ("password", PASSWORD));
    let session = |reply: &Reply| reply.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
    let first = session(&sign_in(&[user, password]).await);
    let get = async |cookie: &str, path: &str| {
        let request = Request::get(path).header("cookie", cookie);
        world.send(request.body(Body::empty()).expect("a request")).await
    };
    let plain = first.split_once('=').map(|(_, token)| token.to_owned()).expect("a token");
    let users = world.app.users();
    let me = users.authenticate(&plain, world.op.now).await.expect("signed in");
    let op = Op { actor: me.actor.clone(), ..world.op.clone() };
    let enrolment = users.enrol_second_factor(&op, &me, PASSWORD).await.expect("a secret");
    let code = totp_code(&enrolment.secret, op.now);
    let codes = users.confirm_second_factor(&op, &me, &code).await.expect("codes");
    let codes: Vec<&str> = codes.expose_secrets().collect();

    let asked = sign_in(&[user, password, ("code", "")]).await;
    assert_eq!(asked.status, 401);
    assert!(asked.text.contains("A code of your second factor is needed"), "{}", asked.text);
    let with_code = |cookie: &str| {
        Request::post("/sign-in")
            .header("cookie", cookie.to_owned())
            .header("sec-fetch-site", "same-origin")
            .header("origin", "https://tollgate.example")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(encoded_form(&[user, password, ("code", codes[0])])))
            .expect("a request")
    };
    let second = world.send(with_code(&first)).await;
    assert!(session(&second).starts_with("__Host-tollgate_session=tgu_"), "{second:?}");
    assert_eq!(get(&session(&second), PAGES[0]).await.status, 200);
    assert_eq!(get(&first, PAGES[0]).await.status, 303, "the session before goes on");
    let doubled = format!("{first}; {first}");
    assert_eq!(get(&doubled, PAGES[0]).await.status, 400);
}

#[tokio::test]
async fn who_has_to_do_something_first_is_sent_there_from_every_page_and_can_sign_out() {
    let world = World::start().await;
    let admin = tollgate_model::names::UserName::parse("admin").expect("a name");
    let system = world.app.system_op().expect("random");
    let recovered = world.app.users().recover(&system, &admin, false).await.expect("recovered");
    let temporary = recovered.password.expose_secret();
    let signed_in = world.post("/sign-in", &[("user", "admin"), ("password", temporary)]).await;
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
    for page in PAGES {
        let request = Request::get(*page).header("cookie", &cookie).body(Body::empty()).expect("a request");
        let reply = world.send(request).await;
        assert_eq!((reply.status, reply.text.as_str()), (303, ""), "{page}");
        assert!(reply.header("location").starts_with("/account/password?back=%2Frealms"), "{reply:?}");
    }
    let change = Request::post("/realms/default/settings")
        .header("cookie", &cookie)
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded");
    let before = world.app.realms().get(&world.op).await.expect("a realm").revision;
    let form = encoded_form(&[("revision", &before.to_string()), ("days", "7")]);
    assert_eq!(world.send(change.body(Body::from(form)).expect("a request")).await.status, 303);
    assert_eq!(
        world.app.realms().get(&world.op).await.expect("a realm").revision,
        before,
        "nothing was done"
    );
    let filter = JournalFilter { outcome: Some(Outcome::Refused), limit: 100, ..JournalFilter::default() };
    let refused = world.app.journal().list(&world.op, filter).await.expect("reads");
    let refused: Vec<_> =
        refused.iter().map(|it| format!("{} {}", it.action, it.refusal().expect("one").code)).collect();
    assert_eq!(
        refused,
        ["realm.update password-change-required"],
        "the form was an attempt, the pages were none"
    );
    let out = Request::post("/sign-out").header("cookie", &cookie).header("sec-fetch-site", "same-origin");
    assert_eq!(world.send(out.body(Body::empty()).expect("a request")).await.status, 303);
}

#[tokio::test]
async fn assets_are_found_by_their_content_and_nothing_else_is() {
    let world = World::start().await;
    let page = world.get("/sign-in").await.text;
    let style = page.split('"').find(|part| part.starts_with("/assets/app-")).expect("a style sheet");
    let reply = world.get(style).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/css; charset=utf-8"));
    assert!(reply.header("cache-control").contains("immutable"));
    for path in ["/assets/app.css", "/assets/..%2fCargo.toml", "/assets/"] {
        assert_eq!(world.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn whoever_is_refused_stands_in_the_journal() {
    let world = World::start().await;
    // Another site, a made-up session, a wrong password; and a visit without a session, which is no attempt.
    let form =
        || Body::from(encoded_form(&[("user", "admin"), ("password", "hunter2-hunter2"), ("back", "/")]));
    let post = |path: &str| Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    let other_site =
        post("/realms/default/policies/external-api-access/edit").header("cookie", &world.cookie);
    assert_eq!(world.send(other_site.body(form()).unwrap()).await.status, 403);
    let made_up = Request::get("/realms/default/consumers").header("cookie", "tollgate_session=tgu_made-up");
    assert_eq!(world.send(made_up.body(Body::empty()).unwrap()).await.status, 303);
    let wrong = post("/sign-in").header("sec-fetch-site", "same-origin");
    assert_eq!(world.send(wrong.body(form()).unwrap()).await.status, 401);
    world.send(Request::get("/realms/default/consumers").body(Body::empty()).unwrap()).await;

    assert_eq!(world.app.refusals().flush().await, 0);
    let filter = JournalFilter { outcome: Some(Outcome::Refused), limit: 100, ..JournalFilter::default() };
    let entries = world.app.journal().list(&world.op, filter).await.unwrap();
    let mut told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let about = entry.about.as_ref().map_or("", |about| about.key.as_str());
            format!("{} {} {} {about}", entry.actor, entry.action, entry.refusal().unwrap().code)
        })
        .collect();
    told.sort();
    let expected = [
        "nobody consumer.read unauthenticated ",
        "nobody policy.set cross-site-request external-api-access",
        "nobody user.sign-in login-failed admin",
    ];
    assert_eq!(told, expected);
    assert!(!format!("{entries:?}").contains("hunter2"));
}
