//! Rules of a realm's own, rules for login flows, and policies that cannot hold.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use serde_json::{Value, json};
use tollgate_e2e::{Home, Outcome, Server};

fn pipeline(name: &str, trigger: &str, steps: &str) -> String {
    format!(
        "kind: Pipeline\nname: {name}\nproject: store\ntrigger: {{ type: rest, externalApi: true, {trigger} }}\nsteps:\n{steps}"
    )
}

fn apply(home: &Home, server: &Server<'_>, text: &str) {
    let path = home.file("pipeline.yaml", text);
    server.cli(&["apply", "-f", &path]).expect_code(0);
}

fn codes(outcome: &Outcome) -> Vec<String> {
    let body = outcome.json();
    let violations = body["violations"].as_array().expect("violations");
    violations.iter().map(|it| it["code"].as_str().expect("a code").to_owned()).collect()
}

#[test]
fn login_flows_keep_rules_of_their_own() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let deploy = |environment: &str| server.cli(&["deploy", "login", "--env", environment, "-o", "json"]);

    let careless = "  - assert: { condition: \"message.body.password == globals.password\" }\n  - jwtGenerate: { scopes: [\"catalog:read\"], expiresInMs: 172800000 }\n";
    apply(&home, &server, &pipeline("login", "apiKey: true", careless));
    let refused = deploy("prod");
    assert_eq!(refused.code, 3, "{refused:?}");
    assert_eq!(codes(&refused), ["plain-password", "token-lifetime", "unnamed-claims"]);
    let lifetime = &refused.json()["violations"][1];
    assert_eq!(
        (&lifetime["pointer"], &lifetime["fix"]),
        (&json!("/steps/1/jwtGenerate/expiresInMs"), &json!(86_400_000))
    );
    // Tokens may live longer in test; the rest is the same there.
    assert_eq!(codes(&deploy("test")), ["plain-password", "unnamed-claims"]);

    // An endpoint that issues tokens needs a key even where anybody may call.
    server
        .cli(&[
            "policy",
            "set",
            "external-api-access",
            "--env",
            "prod=any",
            "--reason",
            "open house",
            "--yes",
        ])
        .expect_code(0);
    let careful = "  - json: { user: \"{{ message.body.user }}\" }\n  - jwtGenerate: { scopes: [\"catalog:read\"], expiresInMs: 900000 }\n";
    apply(&home, &server, &pipeline("login", "apiKey: false, basicAuth: true", careful));
    assert_eq!(codes(&deploy("prod")), ["login-api-key"]);

    apply(&home, &server, &pipeline("login", "apiKey: true", careful));
    deploy("prod").expect_code(0);
    for (name, scopes) in [("products", "catalog:read"), ("orders", "orders:read")] {
        let demanding = format!("apiKey: true, jwt: {{ scopes: [\"{scopes}\"] }}");
        apply(&home, &server, &pipeline(name, &demanding, "  - json: 1\n"));
        server.cli(&["deploy", name, "--env", "prod"]).expect_code(0);
    }
    let report = server.json(&["policy", "conformance", "--env", "prod"]);
    let prod = &report["environments"][0];
    assert_eq!((&prod["conformant"], &prod["notConformant"]), (&json!(3), &json!(0)));
    assert_eq!(prod["scopeGaps"], json!([{ "pipeline": "orders", "scope": "orders:read" }]));
    let listed = prod["items"].as_array().expect("items").iter().filter(|it| it["loginFlow"] == true);
    assert_eq!(listed.map(|it| it["pipeline"].clone()).collect::<Vec<Value>>(), ["login"]);

    let stricter = r#"prod={"maxTokenLifetimeMs":60000}"#;
    let told = server.json(&["policy", "impact", "login-flows", "--env", stricter]);
    assert_eq!(
        (&told["meaning"]["effect"], &told["impact"][0]["fallsOut"][0]["pipeline"]),
        (&json!("tightens"), &json!("login"))
    );
    server
        .cli(&["policy", "set", "login-flows", "--env", stricter, "--reason", "short", "--yes"])
        .expect_code(0);
    let report = server.json(&["policy", "conformance", "--env", "prod"]);
    assert_eq!(report["environments"][0]["notConformant"], json!(1));
    assert_eq!(codes(&deploy("prod")), ["token-lifetime"], "a redeploy is judged by today's rules");
}

#[test]
fn a_policy_that_cannot_hold_is_refused_with_what_to_write_and_not_stored() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let entries = || server.json(&["audit", "verify"])["entries"].as_u64().expect("a number");
    let before = entries();
    let rule = |condition: &str, environments: &str| {
        format!(
            "kind: Policy\nname: a-rule\ncondition: \"{condition}\"\nmessage: no\nenvironments: {environments}\n"
        )
    };
    let everywhere = "{ test: required, prod: required }";
    let nested = "steps.all(a, steps.all(b, steps.all(c, a.type == b.type && b.type == c.type)))";
    for (text, says) in [
        (rule("trigger.timeoutMs > 'long'", everywhere), "compares a number with a text"),
        (rule("trigger.apikey", everywhere), "did you mean `apiKey`?"),
        (rule("trigger.timeoutMs", everywhere), "must give true or false"),
        (rule(nested, everywhere), "costs too much"),
        (rule("trigger.rateLimit.by == 'consumer'", everywhere), "a field that it reads is not there"),
        (rule("true", "{ test: required }"), "has no value for `prod`"),
        (rule("true", "{ test: required, prod: required, moon: off }"), "`moon`"),
        (rule("true", "{ test: always, prod: required }"), "always"),
        ("kind: Policy\nname: a-rule\nenvironments: { test: off, prod: off }\n".to_owned(), "condition"),
        (
            "kind: Policy\nname: enforcement\nenvironments: { test: atDeploy, prod: { atGateway: \"2020-01-01T00:00:00Z\" } }\n".to_owned(),
            "which has passed",
        ),
        (
            "kind: Policy\nname: sensitive-fields\nenvironments: { test: [], prod: [\"e mail\"] }\n".to_owned(),
            "letters, digits and `-`",
        ),
        (
            "kind: Policy\nname: login-flows\nenvironments: { test: {}, prod: { maxTokenLifetimeMs: 1 } }\n".to_owned(),
            "maxTokenLifetimeMs",
        ),
    ] {
        let path = home.file("policy.yaml", &text);
        let refused = server.cli(&["apply", "-f", &path, "--yes"]);
        assert!(refused.code == 1 || refused.code == 2, "{text}: {refused:?}");
        assert!(refused.stderr.contains(says), "{text}: {refused:?}");
    }
    for (arguments, says) in [
        (["enforcement", "prod=atGateway@2020-01-01"], "which has passed"),
        (["enforcement", "prod=atGateway@soon"], "atGateway"),
        (["external-api-access", "moon=any"], "`moon`"),
        (["a-rule", "prod=required"], "condition"),
        (["login-flows", "prod=24h"], "write JSON"),
    ] {
        let [name, value] = arguments;
        let refused = server.cli(&["policy", "set", name, "--env", value, "--yes"]);
        assert_ne!(refused.code, 0, "{arguments:?}");
        assert!(refused.stderr.contains(says), "{arguments:?}: {refused:?}");
    }
    assert_eq!(entries(), before, "nothing was stored");
}
