//! Versions of the policies, what a change means, and checks in CI: through the command line and HTTP only.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use serde_json::{Value, json};
use tollgate_e2e::{Home, Outcome, Server};

const RULE: &str = "kind: Policy
name: needs-rate-limit
condition: \"!trigger.externalApi || has(trigger.rateLimit)\"
message: Public APIs need a rate limit
fix: { pointer: /trigger/rateLimit, value: { limits: [{ interval: minute, limit: 600 }] } }
environments: { test: off, prod: required }
";

fn pipeline(name: &str, trigger: &str) -> String {
    format!(
        "kind: Pipeline\nname: {name}\nproject: store\ntrigger: {trigger}\nsteps: [{{ json: {{ ok: true }} }}]\n"
    )
}

fn admin(home: &Home) -> String {
    let token = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
    format!("Bearer {}", token.trim())
}

/// Returns the number of the last change.
fn head(server: &Server<'_>) -> Value {
    server.json(&["audit", "list", "--limit", "1"])["items"][0]["seq"].clone()
}

fn set(server: &Server<'_>, value: &str, reason: &str) {
    let all = ["policy", "set", "external-api-access", "--env", value, "--yes", "--reason", reason];
    server.cli(&all).expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_shown_compared_and_brought_back() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    set(&server, "prod=jwt-with-api-key", "tokens in prod");
    set(&server, "prod=any", "a mistake");

    let versions = server.json(&["policy", "versions"]);
    let told: Vec<_> = versions["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|it| (it["version"].clone(), it["createdBy"].clone(), it["reason"].clone()))
        .collect();
    assert_eq!(told[0], (json!("1.2"), json!("admin"), json!("a mistake")));
    let shown = server.cli(&["policy", "show", "1.1"]).expect_code(0).stdout;
    assert!(shown.contains("by admin: tokens in prod") && shown.contains("jwt-with-api-key"), "{shown}");

    let diff = server.json(&["policy", "diff", "1.1"]);
    assert_eq!((&diff["from"], &diff["to"]), (&json!("1.1"), &json!("1.2")));
    let change = json!({ "name": "prod", "before": "jwt-with-api-key", "after": "any" });
    assert_eq!(diff["policies"][0]["environments"], json!([change]));
    assert_eq!(diff["meaning"]["effect"], "weakens");
    let words = server.cli(&["policy", "diff", "1.0", "1.1"]).expect_code(0).stdout;
    assert!(words.contains("  prod: api-key → jwt-with-api-key\n"), "{words}");
    assert!(words.contains("prod: tightens: 16 of 96 combinations"), "{words}");
    server.cli(&["policy", "diff", "1.0", "1.9"]).expect_code(4);

    // Without a yes nothing is saved, and everything is told.
    let before = head(&server);
    let asked = server.cli(&["policy", "restore", "1.1", "--output", "json"]).expect_code(2);
    assert_eq!(
        (&asked.json()["code"], &asked.json()["meaning"]["effect"]),
        (&json!("usage"), &json!("tightens"))
    );
    assert!(asked.stderr.contains("judged otherwise in prod"), "{asked:?}");
    server.cli(&["policy", "restore", "1.9", "--yes"]).expect_code(4);
    assert_eq!(head(&server), before);
    let restored = server.cli(&["policy", "restore", "1.1", "--yes"]).expect_code(0);
    assert!(restored.stdout.contains("restored 1.1: policy version 1.3"), "{restored:?}");
    restored.expect_words("hint: say why with --reason");
    let value = server.json(&["policy", "get", "external-api-access"]);
    assert_eq!(value["environments"]["prod"], "jwt-with-api-key");

    // Over HTTP: only who may, never what is not there, and the reason in the journal.
    let restore = "/api/v1/realms/default/policy-versions/1.2/restore";
    let body = json!({ "reason": "by HTTP" });
    server.call("console", restore, &[], Some(&body)).await.expect(401, "unauthenticated");
    let token = admin(&home);
    let headers = [("authorization", token.as_str())];
    let path = format!("{restore}/impact");
    let impact = server.call("console", &path, &headers, Some(&json!({}))).await.expect(200, "").json();
    assert_eq!(impact["meaning"]["effect"], "weakens");
    let stale = [headers[0], ("if-match", "\"1\"")];
    server.call("console", restore, &stale, Some(&body)).await.expect(412, "precondition-failed");
    let saved = server.call("console", restore, &headers, Some(&body)).await.expect(200, "").json();
    assert_eq!((&saved["version"], &saved["meaning"]), (&json!("1.4"), &impact["meaning"]));
    let path = "/api/v1/realms/default/policy-versions/1.0/diff?to=nonsense";
    server.call("console", path, &headers, None).await.expect(422, "query-invalid");
    let journal = server.json(&["audit", "list", "--limit", "1"]);
    assert_eq!(
        (&journal["items"][0]["action"], &journal["items"][0]["reason"]),
        (&json!("policy.restore"), &json!("by HTTP"))
    );
}

#[test]
fn a_rule_is_applied_told_removed_and_comes_back_but_no_other_policy_goes() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let orders =
        home.file("orders.yaml", &pipeline("orders", "{ type: rest, externalApi: true, apiKey: true }"));
    server.cli(&["apply", "-f", &orders]).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "prod"]).expect_code(0);
    let rule = home.file("rule.yaml", RULE);

    let told = server.json(&["apply", "-f", &rule, "--dry-run"]);
    let item = &told["items"][0];
    assert_eq!(item["meaning"]["effect"], "tightens");
    let falls_out =
        item["impact"].as_array().expect("environments").iter().find(|it| it["environment"] == "prod");
    assert_eq!(falls_out.expect("prod")["fallsOut"][0]["pipeline"], "orders");
    assert_eq!(server.json(&["policy", "versions"])["items"].as_array().map(Vec::len), Some(1));
    let applied = server.cli(&["apply", "-f", &rule, "--yes", "--reason", "overload in May"]).expect_code(0);
    let applied = applied.expect_words("prod, needs-rate-limit (tightens):");
    applied.expect_words("Public APIs need a rate limit: set /trigger/rateLimit to");
    assert_eq!(server.json(&["policy", "versions"])["items"][0]["reason"], "overload in May");

    let removed =
        server.json(&["policy", "remove", "needs-rate-limit", "--yes", "--reason", "not now & later"]);
    assert_eq!((&removed["version"], &removed["meaning"]["effect"]), (&json!("1.2"), &json!("weakens")));
    assert_eq!(server.json(&["policy", "versions"])["items"][0]["reason"], "not now & later");
    server.cli(&["policy", "get", "needs-rate-limit"]).expect_code(4);
    let before = head(&server);
    server.cli(&["policy", "remove", "needs-rate-limit", "--yes"]).expect_code(4);
    let refused = server.cli(&["policy", "remove", "enforcement", "--yes"]).expect_code(1);
    refused.expect_words("every realm has a value for it").expect_words("atDeploy");
    assert_eq!(head(&server), before);
    server.cli(&["policy", "restore", "1.1", "--yes", "--reason", "May again"]).expect_code(0);
    assert_eq!(server.json(&["policy", "get", "needs-rate-limit"])["environments"]["prod"], "required");
}

#[test]
fn a_waiver_in_the_export_counts_offline_until_its_end() {
    let home = Home::new();
    let open = home.file("open.yaml", &pipeline("open", "{ type: rest, externalApi: true }"));
    let waiver = "kind: Waiver\nid: wvr_00000000000000000000000000000001\npipeline: open\nenvironment: prod\n\
                  policy: external-api-access\ncode: missing-api-key\nuntil: 2030-01-31T00:00:00Z\n\
                  reason: the shop sends keys from February on\ncreatedAt: 2030-01-01T00:00:00Z\ncreatedBy: admin\n";
    let policies = home.file("policies.yaml", waiver);
    let check = |arguments: &[&str]| {
        let all = ["check", "-f", &open, "--policy", &policies, "--env", "prod"];
        home.command(&[&all[..], arguments].concat()).output().expect("runs")
    };
    let before = check(&["--at", "2030-01-30T23:59:59Z"]);
    let text = String::from_utf8_lossy(&before.stdout);
    assert_eq!(before.status.code(), Some(0), "{before:?}");
    assert!(text.contains("waived until 2030-01-31T00:00:00Z: Missing external API Key"), "{text}");
    assert_eq!(check(&["--at", "2030-01-31T00:00:00Z"]).status.code(), Some(3));
    assert_eq!(check(&["--at", "tomorrow"]).status.code(), Some(2));
}

/// Returns what a check says of each pipeline and environment.
fn verdicts(outcome: &Outcome) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let document = outcome.json();
    let mut all: Vec<_> = document["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter(|it| it["level"] == "error")
        .map(|it| (text(&it["pipeline"]), text(&it["environment"]), text(&it["violation"]["message"])))
        .collect();
    all.sort();
    all
}

#[test]
fn offline_check_check_by_the_server_and_deploy_agree() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    set(&server, "prod=jwt-with-api-key", "tokens in prod");
    let rule = home.file("rule.yaml", RULE);
    server.cli(&["apply", "-f", &rule, "--yes"]).expect_code(0);
    std::fs::create_dir(home.path().join("pipelines")).expect("a directory");
    let limit = "rateLimit: { limits: [{ interval: minute, limit: 60 }] }";
    let triggers = [
        ("open", "{ type: rest, externalApi: true }".to_owned()),
        ("keyed", "{ type: rest, externalApi: true, apiKey: true }".to_owned()),
        ("strict", format!("{{ type: rest, externalApi: true, apiKey: true, jwt: true, {limit} }}")),
        ("unlimited", "{ type: rest, externalApi: true, apiKey: true, jwt: true }".to_owned()),
        ("inside", "{ type: rest, internalApi: true }".to_owned()),
        ("hidden", "{ type: rest }".to_owned()),
        ("nightly", "{ type: scheduler, cron: \"0 6 * * *\" }".to_owned()),
    ];
    for (name, trigger) in &triggers {
        home.file(&format!("pipelines/{name}.yaml"), &pipeline(name, trigger));
    }
    let export = server.cli(&["policy", "export"]).expect_code(0).stdout;
    let policies = home.file("policies.yaml", &export);
    let offline = ["--server", "http://127.0.0.1:1", "check", "-f", "pipelines", "--policy", &policies];
    let offline = server.cli(&[&offline[..], &["--output", "json"]].concat()).expect_code(3);
    let online =
        server.cli(&["check", "-f", "pipelines", "--from-server", "--output", "json"]).expect_code(3);
    assert_eq!(verdicts(&offline), verdicts(&online));

    server.cli(&["apply", "-f", "pipelines"]).expect_code(0);
    let mut deployed = Vec::new();
    for (name, _) in &triggers {
        for environment in ["prod", "test"] {
            let outcome = server.cli(&["deploy", name, "--env", environment, "--output", "json"]);
            if outcome.code == 0 {
                continue;
            }
            let document = outcome.expect_code(3).json();
            for violation in document["violations"].as_array().expect("violations") {
                let message = violation["message"].as_str().expect("words").to_owned();
                deployed.push(((*name).to_owned(), environment.to_owned(), message));
            }
        }
    }
    deployed.sort();
    assert_eq!(verdicts(&offline), deployed);
    assert!(deployed.iter().any(|it| it.0 == "unlimited") && !deployed.iter().any(|it| it.0 == "strict"));
}

#[test]
fn an_export_holds_every_policy_and_can_be_applied_again() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let rule = home.file("rule.yaml", RULE);
    server.cli(&["apply", "-f", &rule, "--yes"]).expect_code(0);
    let export = server.cli(&["policy", "export"]).expect_code(0).stdout;
    assert!(export.starts_with("# policy version 1.1\n"), "{export}");
    let policies = home.file("policies.yaml", &export);
    let applied = server.json(&["apply", "-f", &policies]);
    let items = applied["items"].as_array().expect("items");
    assert_eq!(items.len(), 6, "{applied}");
    assert!(items.iter().all(|item| item["change"] == "unchanged"), "{applied}");
}

#[test]
fn every_format_is_a_whole_document_whatever_is_wrong() {
    let home = Home::new();
    let keyed = "{ type: rest, externalApi: true, apiKey: true }";
    let good = home.file("good.yaml", &pipeline("good", keyed));
    let open = home.file("open.yaml", &pipeline("open", "{ type: rest, externalApi: true }"));
    let bad = home.file("bad.yaml", "kind: Pipeline\nnmae: x\n");
    let check = |arguments: &[&str]| {
        let output = home.command(&[&["check"], arguments].concat()).output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    };
    for (files, code) in [
        (&["-f", &good][..], 0),
        (&["-f", &good, "-f", &open], 3),
        (&["-f", &bad, "-f", &open], 1),
        (&["-f", "missing.yaml"], 1),
        (&["-f", &good, "--policy", &bad], 1),
        (&["-f", &good, "--policy", "missing.yaml"], 1),
    ] {
        let formatted = |format: &str| check(&[files, &["--format", format]].concat()).expect_code(code);
        let sarif = formatted("sarif").json();
        assert_eq!((&sarif["version"], sarif["runs"].as_array().map(Vec::len)), (&json!("2.1.0"), Some(1)));
        assert_eq!(sarif["runs"][0]["invocations"][0]["exitCode"], code);
        assert!(formatted("junit").stdout.trim_end().ends_with("</testsuites>"));
        assert_eq!(formatted("json").json()["code"].is_string(), code != 0);
        assert_eq!(formatted("text").stdout.is_empty(), code == 0);
    }
    let relative = check(&["-f", "./open.yaml", "--format", "sarif"]).json();
    let place = &relative["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "open.yaml");
    let moon = check(&["-f", &good, "--env", "moon", "--format", "sarif"]).expect_code(2);
    moon.expect_words("there is no environment `moon`");
    check(&["-f", &good, "--format", "junit", "--output", "json"]).expect_code(2);
    check(&["-f", &good, "--policy", &good, "--from-server"]).expect_code(2);
}
