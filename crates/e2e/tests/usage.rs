//! Call counts, whom a policy change concerns, and shadow policies: through command line and HTTP.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_e2e::{Home, Server};
use tollgate_testkit::{Postgres, wait_until};

const SHOP: &str = "/pipeline/default/v1/shop";

fn shop(jwt: bool) -> String {
    format!(
        "kind: Pipeline\nname: shop\nproject: store\ntrigger: {{ type: rest, methods: [GET], externalApi: true, \
         apiKey: true, jwt: {jwt} }}\nsteps: [{{ json: {{ ok: true }} }}]\n"
    )
}

/// Saves and deploys `shop` in `test`, and makes a consumer of it; returns the key and its id.
async fn deployed(home: &Home, server: &Server<'_>) -> (String, String) {
    let path = home.file("shop.yaml", &shop(false));
    server.cli(&["apply", "-f", &path]).expect_code(0);
    server.cli(&["deploy", "shop", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "ann", "--env", "test", "--pipeline", "shop"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
    home.keep_secret(&key);
    let id = made["items"][0]["key"]["id"].as_str().expect("an id").to_owned();
    wait_until("the first call", Duration::from_secs(10), async || {
        server.call("test", SHOP, &[("apikey", &key)], None).await.status == 200
    })
    .await;
    (key, id)
}

/// Waits until so many calls are counted.
async fn wait_for_calls(server: &Server<'_>, calls: u64) -> Value {
    let mut usage = Value::Null;
    wait_until("the calls are counted", Duration::from_secs(30), async || {
        usage = server.json(&["usage", "--env", "test", "--pipeline", "shop"]);
        usage["calls"].as_u64() >= Some(calls)
    })
    .await;
    usage
}

#[tokio::test]
async fn a_policy_change_shows_who_calls_what_would_fall_out_and_what_they_lacked() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let (key, id) = deployed(&home, &server).await;
    for headers in [vec![], vec![("authorization", "Bearer some-token-of-hers")]] {
        let mut all = vec![("apikey", key.as_str())];
        all.extend(headers);
        server.call("test", SHOP, &all, None).await.expect(200, "");
    }
    server.call("test", SHOP, &[], None).await.expect(401, "api-key-missing");
    home.keep_secret("some-token-of-hers");

    let usage = wait_for_calls(&server, 3).await;
    let calls = |credentials: Value| {
        let items = usage["items"].as_array().expect("items");
        let item = items.iter().find(|item| item["credentials"] == credentials).expect("counted");
        assert_eq!((&item["consumer"], &item["key"]["id"]), (&json!("ann"), &json!(id)));
        item["calls"].as_u64().expect("a number")
    };
    assert_eq!((calls(json!(["api-key"])), calls(json!(["api-key", "token-sent"]))), (2, 1));
    let table = server.cli(&["usage"]).expect_code(0).expect_words("3 calls since ");
    assert!(table.stdout.contains("api-key, token-sent"), "{table:?}");

    let impact = ["policy", "impact", "external-api-access", "--env", "test=jwt-with-api-key"];
    let document = server.json(&impact);
    assert_eq!((&document["callers"]["calls"], &document["callers"]["lacking"]), (&json!(3), &json!(2)));
    let shop = &document["callers"]["deployments"][0];
    assert_eq!(shop["demands"], json!([{ "code": "missing-jwt", "lacking": 2 }]));
    assert_eq!(shop["callers"][0]["key"]["id"], id);
    let words = format!("({id}): 3 calls, 2 lacking");
    let told = server.cli(&impact).expect_code(0).stdout;
    assert!(told.contains("3 calls, 2 without a bearer token") && told.contains(&words), "{told}");
    // A version that is brought back concerns callers, too.
    server.cli(&["policy", "set", "external-api-access", "--env", "test=any", "--yes"]).expect_code(0);
    server
        .cli(&["policy", "set", "external-api-access", "--env", "test=jwt-with-api-key", "--yes"])
        .expect_code(0);
    server.cli(&["policy", "restore", "1.1", "--yes"]).expect_code(0);
    server.cli(&["policy", "restore", "1.2"]).expect_code(2).expect_words(&words);
    server.cli(&["policy", "restore", "1.0", "--yes"]).expect_code(0);
    let set = ["policy", "set", "external-api-access", "--env", "test=jwt-with-api-key"];
    server.cli(&set).expect_code(2).expect_words(&words);

    // Bad input.
    server.cli(&[&impact[..], &["--days", "91"]].concat()).expect_code(2).expect_words("1..=90");
    server.cli(&["usage", "--env", "nowhere"]).expect_code(4).expect_words("has no environment");
    server.cli(&["usage", "--pipeline", "nothing"]).expect_code(4).expect_words("there is no pipeline");
    let refused = server.call("console", "/api/v1/realms/default/usage", &[], None).await;
    refused.expect(401, "unauthenticated");

    // What was counted outlives the process, and what it counted last is written when it stops.
    server.call("test", SHOP, &[("apikey", &key)], None).await.expect(200, "");
    assert_eq!(server.stop(), Some(0));
    let server = Server::start(&home, &[]);
    assert_eq!(server.json(&["usage"])["calls"], 4);
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_gateways_add_up_and_count_on_while_the_store_is_away() {
    let postgres = Postgres::start().await.expect("a database");
    let proxy = tollgate_testkit::FaultProxy::start(postgres.address()).await.expect("a proxy");
    let (one, other) = (Home::new(), Home::new());
    let first = Server::start(&one, &["--database", &postgres.url_via(proxy.address())]);
    let (key, _) = deployed(&one, &first).await;
    let master = one.data().join("master.key").display().to_string();
    let second = Server::start(&other, &["--database", &postgres.url(), "--master-key-file", &master]);
    let call = async |server: &Server<'_>| {
        server.call("test", SHOP, &[("apikey", &key)], None).await.expect(200, "");
    };
    call(&first).await;
    call(&second).await;
    wait_for_calls(&first, 3).await;

    proxy.refuse();
    call(&first).await;
    wait_until("the gateway notices", Duration::from_secs(60), async || {
        first.log().contains("counted calls could not be written down; they are kept")
    })
    .await;
    call(&first).await;
    proxy.heal();
    let usage = wait_for_calls(&first, 5).await;
    assert_eq!(usage["calls"], 5, "each once");
    assert_eq!((first.stop(), second.stop()), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_shadow_refuses_nothing_counts_and_is_promoted() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let (key, _) = deployed(&home, &server).await;
    let no_shadow = server.cli(&["policy", "shadow", "show", "--output", "json"]).expect_code(4);
    assert_eq!(no_shadow.json()["code"], "not-found");
    server.cli(&["policy", "shadow", "promote", "--yes"]).expect_code(4).expect_words("policy shadow set");
    server.cli(&["policy", "shadow", "end"]).expect_code(4);

    let set = ["policy", "shadow", "set", "external-api-access", "--env", "test=jwt-with-api-key"];
    let document = server.json(&[&set[..], &["--reason", "see who is ready"]].concat());
    assert_eq!(document["meaning"]["effect"], "tightens");
    assert_eq!(
        document["changes"][0]["environments"],
        json!({ "prod": "api-key", "test": "jwt-with-api-key" })
    );
    let values = server.json(&["policy", "get", "external-api-access"]);
    assert_eq!(values["environments"]["test"], "api-key", "nothing is saved");

    // It refuses neither a deploy nor a call.
    let again = server.json(&["deploy", "shop", "--env", "test"]);
    let reminders = again["reminders"].to_string();
    assert!(reminders.contains("would refuse this: Missing external JWT"), "{reminders}");
    server.call("test", SHOP, &[("apikey", &key)], None).await.expect(200, "");
    wait_for_calls(&server, 2).await;
    let report = server.json(&["policy", "shadow", "show"]);
    assert_eq!((&report["deploys"]["judged"], &report["deploys"]["refused"]), (&json!(1), &json!(1)));
    assert_eq!(report["deploys"]["items"][0]["violations"][0]["code"], "missing-jwt");
    assert_eq!(report["callers"]["deployments"][0]["callers"][0]["consumer"], "ann");
    assert_eq!(report["impact"][1]["fallsOut"][0]["pipeline"], "shop");
    let words = server.cli(&["policy", "shadow", "show"]).expect_code(0);
    assert!(words.stdout.contains("Missing external JWT") && words.stdout.contains("see who is ready"));
    words.expect_words("it would have refused 1 of 1 deploys").expect_words("without a bearer token");

    // Bad input changes nothing.
    let rule = ["policy", "shadow", "set", "no-such-setting", "--env", "test=required", "--env", "prod=off"];
    let refused = server
        .cli(&[&rule[..], &["--message", "no", "--condition", "trigger.nothing", "-o", "json"]].concat())
        .expect_code(1);
    assert_eq!(refused.json()["code"], "rule-invalid");
    server
        .cli(&["policy", "shadow", "set", "external-api-access", "--env", "nowhere=any"])
        .expect_code(1)
        .expect_words("which this realm does not have");
    server.cli(&["policy", "shadow", "remove", "nothing"]).expect_code(4);
    assert_eq!(server.json(&["policy", "shadow", "show"])["changes"], document["changes"]);

    // Promoted with a yes only; then it is policy, and refuses.
    server.cli(&["policy", "shadow", "promote"]).expect_code(2).expect_words("--yes");
    let promoted = server.json(&["policy", "shadow", "promote", "--yes"]);
    assert_eq!(promoted["version"], "1.1");
    server.cli(&["policy", "shadow", "show"]).expect_code(4);
    server.cli(&["deploy", "shop", "--env", "test"]).expect_code(3);
    let audit = server.json(&["audit", "list"]);
    let entries = audit["items"].as_array().expect("entries").iter();
    let shadow: Vec<_> = entries
        .filter(|entry| entry["action"].as_str().is_some_and(|action| action.starts_with("shadow.")))
        .map(|entry| (entry["action"].clone(), entry["reason"].clone()))
        .collect();
    let reason = json!("see who is ready");
    assert!(shadow.contains(&(json!("shadow.set"), reason.clone())), "{shadow:?}");
    assert!(shadow.contains(&(json!("shadow.promote"), reason)), "{shadow:?}");

    // Ended, nothing is left of it.
    server.cli(&["policy", "shadow", "set", "internal-api-access", "--env", "prod=any"]).expect_code(0);
    assert_eq!(server.json(&["policy", "shadow", "end"]), json!({ "ended": true }));
    server.cli(&["policy", "shadow", "show"]).expect_code(4);
    assert_eq!(server.json(&["policy", "get", "internal-api-access"])["environments"]["prod"], "api-key");
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_password_shows_when_it_was_used_and_one_that_nobody_uses_is_found() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let path =
        home.file("shop.yaml", &shop(false).replace("apiKey: true,", "apiKey: true, basicAuth: true,"));
    server.cli(&["apply", "-f", &path]).expect_code(0);
    server.cli(&["deploy", "shop", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "ann", "--env", "test", "--pipeline", "shop"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
    let make = |name: &str| {
        let made = server.json(&["basic-auth", "create", "ann", "--env", "test", "--username", name]);
        (made["id"].clone(), made["password"].as_str().expect("shown once").to_owned())
    };
    let ((used, password), (idle, _)) = (make("ann"), make("idle"));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let call = async |password: &str| {
        let request = client.get(format!("{}{SHOP}", server.url("test"))).header("apikey", &key);
        request.basic_auth("ann", Some(password)).send().await.expect("an answer").status()
    };
    wait_until("the credential", Duration::from_secs(10), async || call(&password).await == 200).await;
    assert_eq!(call("wrong").await, 401);
    let listed = || server.json(&["basic-auth", "list", "ann", "--env", "test"]);
    wait_until("the last use", Duration::from_secs(20), async || {
        listed()["items"][0]["lastUsedAt"].is_string()
    })
    .await;
    assert_eq!((&listed()["items"][0]["id"], &listed()["items"][1]["lastUsedAt"]), (&used, &Value::Null));
    let unused = server.json(&["access", "unused", "--days", "1", "--env", "test"]);
    assert_eq!(unused["basicAuth"].as_array().map(Vec::len), Some(1), "{unused}");
    let it = &unused["basicAuth"][0];
    assert_eq!((&it["id"], &it["name"], &it["tooYoung"]), (&idle, &json!("idle"), &json!(true)));
    let table = server.cli(&["access", "unused", "--days", "1"]).expect_code(0);
    assert!(table.stdout.contains("Basic Auth credentials that were not used:"), "{table:?}");
    assert_eq!(server.stop(), Some(0));
}
