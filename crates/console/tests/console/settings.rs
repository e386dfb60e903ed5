//! Values, secrets and signing keys.

use tollgate_app::pipelines::SavePipeline;

use crate::world::World;

const GLOBALS: &str = "/realms/default/globals";
const ACCOUNTS: &str = "/realms/default/accounts";

fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let begin = format!("name=\"{name}\" value=\"");
    page.split(begin.as_str()).nth(1).and_then(|rest| rest.split('"').next()).expect("a field")
}

/// Runs a flow that reads what stands in its steps.
async fn running(world: &World, name: &str, steps: &str) {
    let document = format!(
        "kind: Pipeline\nname: {name}\nproject: store\ntrigger: {{ type: rest, externalApi: true, apiKey: true }}\nsteps: {steps}\n"
    );
    let input = SavePipeline { document, ..SavePipeline::default() };
    world.app.pipelines().save(&world.op, input).await.expect("saved");
    let deploy = [("version", "1.0"), ("environment", "test")];
    let deployed = world.post(&format!("/realms/default/pipelines/{name}/deploy"), &deploy).await;
    assert_eq!(deployed.status, 303, "{}", deployed.text);
}

#[tokio::test]
async fn a_global_is_shown_and_a_secret_is_not() {
    let world = World::start().await;
    let global = [("environment", "test"), ("name", "region"), ("value", "<eu>")];
    let set = world.post(GLOBALS, &global).await;
    assert_eq!(
        (set.status, set.header("location")),
        (303, "/realms/default/globals?environment=test&done=set")
    );
    let page = world.get(set.header("location")).await.text;
    assert!(page.contains("region") && page.contains("&#60;eu&#62;"), "{page}");
    let mut revision = String::new();
    for kept_as in ["hash", "secret"] {
        let account = [
            ("environment", "test"),
            ("name", "portal"),
            ("revision", &revision),
            ("field.0", "password"),
            ("secret.0", "not-to-be-seen"),
            ("kept_as.0", kept_as),
        ];
        let set = world.post(ACCOUNTS, &account).await;
        assert_eq!(set.status, 303, "{}", set.text);
        let page = world.get(&format!("{ACCOUNTS}?environment=test&change=portal")).await.text;
        assert!(page.contains("portal") && page.contains("password") && !page.contains("not-to-be-seen"));
        revision = field(&page, "revision").to_owned();
    }
    for (list, name) in [("globals", "region"), ("accounts", "portal")] {
        let path = format!("/realms/default/{list}/delete");
        let shown = world.get(&format!("{path}?environment=test&name={name}")).await.text;
        assert!(shown.contains("Nothing that runs in test reads it"), "{shown}");
        assert_eq!(world.post(&path, &[("environment", "test"), ("name", name)]).await.status, 303);
        assert_eq!(world.post(&path, &[("environment", "test"), ("name", name)]).await.status, 404);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_value_is_told_at_its_field_and_nothing_is_overwritten_by_a_new_one() {
    let world = World::start().await;
    let set = |name, value| [("environment", "test"), ("name", name), ("value", value)];
    assert_eq!(world.post(GLOBALS, &set("region", "eu")).await.status, 303);
    let large = format!("\"{}\"", "x".repeat(70_000));
    for (form, at, status) in [
        (set("not a name", "us"), "name", 422),
        (set("region", "us"), "name", 409),
        (set("large", large.as_str()), "value", 422),
    ] {
        let refused = world.post(GLOBALS, &form).await;
        assert_eq!(refused.status, status, "{at}");
        assert!(refused.text.contains(&format!("id=\"{at}-problem\"")), "{at}");
        assert!(refused.text.contains(&format!("aria-describedby=\"{at}-problem\"")), "{at}");
    }
    assert!(world.get(&format!("{GLOBALS}?environment=test")).await.text.contains(">eu<"), "it is as it was");

    let account = |fields: &[(&'static str, &'static str)]| {
        [&[("environment", "test"), ("name", "crm")][..], fields].concat()
    };
    for (form, at, line) in [
        (account(&[]), "field", "field-0"),
        (account(&[("field.0", "token"), ("secret.0", "")]), "secret", "secret-0"),
        (account(&[("field.0", "token"), ("secret.0", "hush")]), "kept_as", "kept-0"),
        (
            account(&[
                ("field.0", "token"),
                ("secret.0", "hush"),
                ("kept_as.0", "hash"),
                ("field.1", ""),
                ("secret.1", "x"),
            ]),
            "field",
            "field-1",
        ),
        (account(&[("field.0", "a-b"), ("secret.0", "hush"), ("kept_as.0", "hash")]), "fields", "name"),
        (
            account(&[
                ("field.0", "a"),
                ("secret.0", "hush"),
                ("kept_as.0", "hash"),
                ("field.1", "a"),
                ("secret.1", "hush"),
                ("kept_as.1", "hash"),
            ]),
            "field",
            "field-1",
        ),
    ] {
        let refused = world.post(ACCOUNTS, &form).await;
        assert_eq!(refused.status, 422, "{form:?}");
        assert!(refused.text.contains(&format!("id=\"{at}-problem\"")), "{form:?}: {}", refused.text);
        assert!(refused.text.contains(&format!("id=\"{line}\"")) && !refused.text.contains("hush"));
    }
    assert!(
        world.get(&format!("{ACCOUNTS}?environment=test")).await.text.contains("No accounts in test yet")
    );
}

#[tokio::test]
async fn of_two_who_change_a_value_the_second_is_told_of_the_first() {
    let world = World::start().await;
    let set = [("environment", "test"), ("name", "region"), ("value", "eu")];
    assert_eq!(world.post(GLOBALS, &set).await.status, 303);
    let page = world.get(&format!("{GLOBALS}?environment=test&change=region")).await.text;
    let (revision, read) = (field(&page, "revision"), field(&page, "read"));
    let change = |value| {
        [
            ("environment", "test"),
            ("name", "region"),
            ("value", value),
            ("revision", revision),
            ("read", read),
        ]
    };
    assert_eq!(world.post(GLOBALS, &change("us")).await.status, 303);
    let late = world.post(GLOBALS, &change("<asia>")).await;
    assert_eq!(late.status, 412);
    assert!(late.text.contains("<del>eu</del>") && late.text.contains("<ins>us</ins>"), "{}", late.text);
    assert!(late.text.contains("value=\"&#60;asia&#62;\""), "what was written stays: {}", late.text);
    assert_ne!(field(&late.text, "revision"), revision, "the next try goes over what was told");
    let old = [("environment", "test"), ("name", "region"), ("revision", revision)];
    let deleted = world.post(&format!("{GLOBALS}/delete"), &old).await;
    assert_eq!(deleted.status, 412, "nobody deletes what they did not see");
    assert!(deleted.text.contains("Delete region"), "{}", deleted.text);

    let account = [
        ("environment", "test"),
        ("name", "crm"),
        ("field.0", "token"),
        ("secret.0", "hush"),
        ("kept_as.0", "secret"),
    ];
    assert_eq!(world.post(ACCOUNTS, &account).await.status, 303);
    let page = world.get(&format!("{ACCOUNTS}?environment=test&change=crm")).await.text;
    let (revision, read) = (field(&page, "revision"), field(&page, "read"));
    let change = |name| {
        [
            &account[..2],
            &[
                ("revision", revision),
                ("read", read),
                ("field.0", name),
                ("secret.0", "hush"),
                ("kept_as.0", "hash"),
            ],
        ]
        .concat()
    };
    assert_eq!(world.post(ACCOUNTS, &change("password")).await.status, 303);
    let late = world.post(ACCOUNTS, &change("key")).await;
    assert_eq!(late.status, 412);
    assert!(
        late.text.contains("<del>token</del>") && late.text.contains("<ins>password (set"),
        "{}",
        late.text
    );
    assert!(late.text.contains("value=\"key\"") && !late.text.contains("hush"), "{}", late.text);
}

#[tokio::test]
async fn what_runs_and_reads_a_value_is_told_before_it_goes() {
    let world = World::start().await;
    for name in ["region", "rate"] {
        let set = [("environment", "test"), ("name", name), ("value", "1")];
        assert_eq!(world.post(GLOBALS, &set).await.status, 303);
    }
    running(&world, "orders", "[{ json: { a: \"{{ globals.region }}\" } }]").await;
    running(&world, "any", "[{ json: { a: \"{{ globals[message.queryAndPath.key] }}\" } }]").await;
    let delete = format!("{GLOBALS}/delete?environment=test&name=");
    let region = world.get(&format!("{delete}region")).await.text;
    assert!(region.contains("2 deployments read it") && region.contains("pipelines/orders"), "{region}");
    assert!(region.contains("it computes the name"), "{region}");
    let rate = world.get(&format!("{delete}rate")).await.text;
    assert!(rate.contains("1 deployment reads it") && !rate.contains("pipelines/orders"), "{rate}");
    let prod = [("environment", "prod"), ("name", "region"), ("value", "1")];
    assert_eq!(world.post(GLOBALS, &prod).await.status, 303);
    let elsewhere = world.get(&format!("{GLOBALS}/delete?environment=prod&name=region")).await.text;
    assert!(elsewhere.contains("Nothing that runs in prod reads it"), "{elsewhere}");
}

#[tokio::test]
async fn a_signing_key_is_rotated_and_revoked() {
    let world = World::start().await;
    let path = "/realms/default/signing-keys";
    let kid = |page: &str| {
        page.split("name=\"kid\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
    };
    let before = world.get(&format!("{path}?environment=test")).await.text;
    let first = kid(&before);
    for wrong in ["soon", "-1", "9000"] {
        let form = [("environment", "test"), ("overlap_hours", wrong), ("algorithm", "EdDSA")];
        let refused = world.post(&format!("{path}/rotate"), &form).await;
        assert_eq!(refused.status, 422, "{wrong}");
        assert!(refused.text.contains("id=\"overlap-problem\""), "{}", refused.text);
        assert!(refused.text.contains("<option selected>EdDSA"), "{}", refused.text);
    }
    let rotate = [("environment", "test"), ("overlap_hours", "1")];
    assert_eq!(world.post(&format!("{path}/rotate"), &rotate).await.status, 303);
    let after = world.get(&format!("{path}?environment=test")).await.text;
    assert!(after.contains("verifies until") && after.contains("in 1 hour"), "{after}");
    let revoke = [("environment", "test"), ("kid", first.as_str())];
    assert_eq!(world.post(&format!("{path}/revoke"), &revoke).await.status, 303);
    assert!(world.get(&format!("{path}?environment=test")).await.text.contains("revoked"));
    assert_eq!(
        world
            .post(&format!("{path}/rotate"), &[("environment", "none"), ("overlap_hours", "1")])
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn special_networks_and_origins_are_set_on_the_page_of_the_realm() {
    let world = World::start().await;
    let path = "/realms/default/settings";
    let page = world.get(path).await.text;
    let (revision, read) = (field(&page, "revision").to_owned(), field(&page, "read").to_owned());
    let read = read.replace("&#34;", "\"");
    let form = |fields: &[(&'static str, &'static str)]| {
        let mut form = vec![("revision", revision.as_str()), ("read", read.as_str()), ("days", "30")];
        form.extend(fields);
        form
    };
    for (fields, at) in [
        (&[("allow_upstreams", "somewhere")][..], "allow_upstreams"),
        (&[("origins", "shop.example")][..], "origins"),
        (&[("origins", ""), ("allow_headers", "apikey")][..], "origins"),
        (&[("origins", "*"), ("expose_headers", "a:b")][..], "expose_headers"),
        (&[("origins", "*"), ("max_age", "-1")][..], "max_age"),
    ] {
        let refused = world.post(path, &form(fields)).await;
        assert_eq!(refused.status, 422, "{fields:?}");
        assert!(refused.text.contains(&format!("id=\"{at}-problem\"")), "{at}: {}", refused.text);
        assert!(refused.text.contains(&format!("aria-describedby=\"{at}-problem\"")), "{at}");
        assert_eq!(field(&refused.text, "revision"), revision, "it is still what was read that is changed");
    }
    let all = [
        ("allow_upstreams", "127.0.0.1\n::1/128"),
        ("origins", "https://shop.example\nhttps://admin.example"),
        ("method", "GET"),
        ("method", "POST"),
        ("allow_headers", "apikey, authorization"),
        ("expose_headers", ""),
        ("max_age", "600"),
    ];
    let saved = world.post(path, &form(&all)).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let settings = world.app.realms().get(&world.op).await.expect("a realm").value.settings;
    let networks: Vec<String> = settings.allow_upstreams.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["127.0.0.1/32", "::1/128"]);
    let cors = settings.cors.clone().expect("what was set");
    assert_eq!(cors.allow_origins, ["https://shop.example", "https://admin.example"]);
    assert_eq!((cors.allow_methods.len(), cors.max_age_seconds), (2, Some(600)));

    let late = world.post(path, &form(&[("allow_upstreams", "10.9.8.7")])).await;
    assert_eq!(late.status, 412);
    assert!(
        late.text.contains("Changed meanwhile") && late.text.contains("127.0.0.1/32, ::1/128"),
        "{}",
        late.text
    );
    assert!(late.text.contains("10.9.8.7"), "what was written stays");
    let now = field(&late.text, "revision").to_owned();
    let kept = world.post(path, &[("revision", now.as_str()), ("days", "14")]).await;
    assert_eq!(kept.status, 303, "a page that was made before shows none of it: {}", kept.text);
    let after = world.app.realms().get(&world.op).await.expect("a realm").value.settings;
    assert_eq!((after.cors, after.allow_upstreams), (settings.cors, settings.allow_upstreams));
}
