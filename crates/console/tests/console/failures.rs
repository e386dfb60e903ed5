//! Failures stay where somebody is: what a form does not say itself is told on the page that it was sent from.

use axum::body::Body;
use http::Request;
use tollgate_app::{JournalFilter, Outcome};

use crate::world::{Reply, World, encoded_form};

/// The fields of a form.
type Sent<'a> = [(&'a str, &'a str)];

/// Sends a form from a page, as a browser that says which.
async fn post_from(world: &World, cookie: &str, page: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
    post(world, cookie, &format!("https://console.example{page}"), path, fields).await
}

async fn post(world: &World, cookie: &str, referer: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
    let request = Request::post(path)
        .header("cookie", cookie)
        .header("host", "console.example")
        .header("referer", referer)
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded");
    world.send(request.body(Body::from(encoded_form(fields))).expect("a request")).await
}

/// Returns what an alert of the page says.
fn alert(reply: &Reply) -> &str {
    let rest = reply.text.split("role=\"alert\"").nth(1).unwrap_or_default();
    rest.split("</p>").next().unwrap_or_default()
}

async fn with_pipeline() -> World {
    let world = World::start().await;
    let document = "kind: Pipeline\nname: orders\nproject: store\n\
                    trigger: { type: rest, externalApi: true, apiKey: true }\nsteps: [{ json: 1 }]\n";
    let saved = world.post("/realms/default/new-pipeline", &[("document", document)]).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    for environment in ["test", "prod"] {
        let fields = [("name", "shop"), ("description", ""), ("environment", environment)];
        assert_eq!(world.post("/realms/default/consumers", &fields).await.status, 200);
    }
    world
}

#[tokio::test]
async fn a_button_that_is_refused_answers_with_its_page_the_reason_and_the_status() {
    let world = with_pipeline().await;
    let none = "00000000000000000000000000000000";
    let (shop, test) = ("/realms/default/consumers/test/shop", ("environment", "test"));
    let (pipeline, ours) = (("pipeline", "orders"), "/realms/default/account");
    // The page, where its form goes, what it sends, the status, and what the page is known by.
    let cases: &[(&str, &str, &Sent<'_>, u16, &str)] = &[
        (
            "/realms/default/deployments?environment=test",
            "/realms/default/deployments/undeploy",
            &[test, pipeline, ("major", "1")],
            404,
            "<h1>Deployments",
        ),
        (
            "/realms/default/pipelines/orders/deploy?environment=test",
            "/realms/default/pipelines/none/mend",
            &[test],
            404,
            "<h1>Deploy orders",
        ),
        (
            "/realms/default/pipelines/orders/associate?environment=test",
            "/realms/default/pipelines/orders/associate",
            &[test, ("consumer", "nobody")],
            404,
            "<h1>Who may call orders",
        ),
        (
            "/realms/default/issuers?environment=test",
            "/realms/default/issuers/test/corp/refresh",
            &[],
            404,
            "<h1>Issuers",
        ),
        (shop, &format!("{shop}/keys/key_{none}/revoke"), &[], 404, "<h1>shop"),
        (shop, &format!("{shop}/logins/bas_{none}/revoke"), &[], 404, "<h1>shop"),
        (shop, &format!("{shop}/certificates/crt_{none}/revoke"), &[], 404, "<h1>shop"),
        (ours, "/realms/default/account/sessions/end", &[("id", &format!("utk_{none}"))], 404, "<h1>"),
        (ours, "/realms/default/account/tokens/revoke", &[("id", &format!("utk_{none}"))], 404, "<h1>"),
        (
            "/realms/default/tokens",
            "/realms/default/tokens/revoke",
            &[("id", &format!("utk_{none}"))],
            404,
            "<h1>API tokens",
        ),
        (
            "/realms/default/signing-keys?environment=test",
            "/realms/default/signing-keys/revoke",
            &[test, ("kid", "none")],
            404,
            "<h1>Signing keys",
        ),
        ("/realms/default/users", "/realms/default/users/nobody/disable", &[], 404, "<h1>Users"),
        ("/realms/default/groups", "/realms/default/groups/nobody/delete", &[], 404, "<h1>Groups"),
        ("/realms/default/roles", "/realms/default/roles/nobody/delete", &[], 404, "<h1>Roles"),
        (
            "/realms/default/change-requests",
            &format!("/realms/default/change-requests/chg_{none}/withdraw"),
            &[],
            404,
            "<h1>Change requests",
        ),
    ];
    for (page, path, fields, status, heading) in cases {
        let reply = post_from(&world, &world.cookie, page, path, fields).await;
        assert_eq!(reply.status, *status, "{path}: {}", reply.text);
        assert!(reply.text.contains(heading), "{path}: the page is there: {}", reply.text);
        assert!(alert(&reply).contains("<strong>"), "{path}: it says what happened: {}", reply.text);
        assert!(reply.header("content-type").starts_with("text/html"), "{path}");
        let stands = reply.text.split("data-stands-at=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(stands, Some(*page), "{path}: loading it again sends nothing again");
        let bare = world.post(path, fields).await;
        assert_eq!(bare.status, *status, "{path}: without saying where it comes from");
        assert!(!bare.text.contains("data-stands-at"), "{path}");
    }
}

#[tokio::test]
async fn what_to_do_next_is_told_and_led_to() {
    let world = with_pipeline().await;
    let page = "/realms/default/groups";
    let reply = post_from(&world, &world.cookie, page, "/realms/default/groups/none/delete", &[]).await;
    let said = alert(&reply);
    assert!(said.contains("There is no group `none`.") && said.contains("See the groups."), "{said}");
    assert!(said.contains("href=\"/realms/default/groups\""), "{said}");
    assert!(reply.text.contains("tabindex=\"-1\" autofocus"), "whoever listens hears it first");
}

#[tokio::test]
async fn a_refusal_is_recorded_once_and_nothing_of_another_site_is_asked_for() {
    let world = with_pipeline().await;
    world.group("readers", "viewer").await;
    let cookie = world.person("ada", &["readers"]).await;
    let (page, path) = ("/realms/default/consumers/test/shop", "/realms/default/consumers/test/shop/delete");
    let reply = post_from(&world, &cookie, page, path, &[("revision", "1"), ("confirmation", "shop")]).await;
    assert_eq!(reply.status, 403, "{}", reply.text);
    assert!(reply.text.contains("<h1>shop") && alert(&reply).contains("<strong>"), "{}", reply.text);
    let filter = JournalFilter { outcome: Some(Outcome::Refused), ..JournalFilter::default() };
    let refused = world.app.journal().list(&world.op, filter).await.expect("read");
    let ours = refused.iter().filter(|entry| entry.actor == "ada").count();
    assert_eq!(ours, 1, "{refused:?}");

    // The page of what is gone is gone, too: the list comes back.
    let page = "/realms/default/deployments/undeploy?environment=prod&pipeline=orders&major=1";
    let fields = [("environment", "prod"), ("pipeline", "orders"), ("major", "1")];
    let gone = post_from(&world, &world.cookie, page, "/realms/default/deployments/undeploy", &fields).await;
    assert_eq!(gone.status, 404);
    assert!(gone.text.contains("What runs in prod") && alert(&gone).contains("<strong>"), "{}", gone.text);

    for referer in [
        "https://evil.example/realms/default/consumers/test/shop",
        "https://console.example/sign-in",
        "https://console.example/realms/default/nothing",
        "https://console.example/realms/other/consumers",
    ] {
        let reply =
            post(&world, &cookie, referer, path, &[("revision", "1"), ("confirmation", "shop")]).await;
        assert_eq!(reply.status, 403, "{referer}");
        assert!(!reply.text.contains("data-stands-at"), "{referer}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_new_thing_under_a_name_that_is_taken_is_refused_at_the_name_and_leads_to_the_one_there_is() {
    let world = with_pipeline().await;
    let at = "/realms/default";
    let test = ("environment", "test");
    // The list, what its form sends, and where the one that there is stands.
    let made: &[(&str, &Sent<'_>, &str)] = &[
        ("consumers", &[("name", "shop"), ("description", ""), test], "/consumers/test/shop"),
        (
            "globals",
            &[test, ("name", "region"), ("value", "eu"), ("revision", ""), ("read", "")],
            "/globals?environment=test",
        ),
        (
            "accounts",
            &[test, ("name", "crm"), ("field.0", "token"), ("secret.0", "s3cret"), ("kept_as.0", "secret")],
            "/accounts?environment=test",
        ),
        ("users", &[("name", "ada")], "/users/ada"),
        ("groups", &[("name", "team"), ("description", "")], "/groups/team"),
        (
            "roles",
            &[("name", "reader"), ("description", ""), ("permission", "pipeline:read")],
            "/roles/reader",
        ),
        (
            "environments",
            &[
                ("name", "stage"),
                ("external", "127.0.0.1:7003"),
                ("external-api-access", "api-key"),
                ("internal-api-access", "api-key"),
                ("reason", ""),
            ],
            "/environments",
        ),
    ];
    for (what, fields, existing) in made {
        let path = format!("{at}/{what}");
        if *what != "consumers" {
            let first = world.post(&path, fields).await;
            assert!(first.status < 400, "{what}: {} {}", first.status, first.text);
        }
        let again = world.post(&path, fields).await;
        assert_eq!(again.status, 409, "{what}: {}", again.text);
        let field = again.text.split("id=\"name\"").nth(1).and_then(|rest| rest.split('>').next());
        assert!(
            field.is_some_and(|it| it.contains("aria-invalid=\"true\"")),
            "{what}: at its field: {}",
            again.text
        );
        assert!(again.text.contains(&format!("href=\"{at}{existing}\"")), "{what}: {}", again.text);
    }
}

#[tokio::test]
async fn a_new_pipeline_under_a_name_that_is_taken_makes_no_version_of_it() {
    let world = with_pipeline().await;
    let document = "kind: Pipeline\nname: orders\nproject: store\n\
                    trigger: { type: rest, externalApi: true, apiKey: true }\nsteps: [{ json: 2 }]\n";
    let path = "/realms/default/new-pipeline";
    let beside = world.post(&format!("{path}/beside"), &[("document", document), ("open", "/general")]).await;
    assert_eq!(beside.status, 200);
    assert!(
        beside.text.contains("There is a pipeline `orders` already"),
        "while it is written: {}",
        beside.text
    );
    let reply = world.post(path, &[("document", document)]).await;
    assert_eq!(reply.status, 409, "{}", reply.text);
    assert!(alert(&reply).contains("href=\"/realms/default/pipelines/orders\""), "{}", reply.text);
    let field = reply.text.split("id=\"f:/name\"").nth(1).and_then(|rest| rest.split('>').next());
    assert!(field.is_some_and(|it| it.contains("aria-invalid=\"true\"")), "at its field: {}", reply.text);
    assert!(reply.text.contains("json: 2") && reply.text.contains("<h1>New pipeline"), "{}", reply.text);
    let versions = world.get("/realms/default/pipelines/orders/versions").await.text;
    assert!(!versions.contains("1.1"), "{versions}");

    let renamed = document.replace("name: orders", "name: orders-2");
    assert_eq!(world.post(path, &[("document", &renamed)]).await.status, 303);
}
