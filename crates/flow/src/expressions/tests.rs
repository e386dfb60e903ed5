use std::net::IpAddr;

use serde_json::json;

use tollgate_expression::{MAX_BRACKETS, MAX_DEPTH};

use super::*;

fn evaluate(source: &str, message: &Value) -> Result<Value, String> {
    let globals = json!({ "portal-user": "ana" }).as_object().cloned().unwrap_or_default();
    let secret = |text: &str| zeroize::Zeroizing::new(text.to_owned());
    let values =
        Values::new(globals, vec![("portal".to_owned(), vec![("token".to_owned(), secret("s3cret-value"))])]);
    let null = Value::Null;
    let scope = Scope {
        message,
        values: &values,
        claims: &null,
        consumer: &null,
        client: &Client::new(Some(IpAddr::from([203, 0, 113, 9]))),
        metadata: &null,
        budget: &Budget::new(8 << 20),
    };
    Expression::parse(source)?.evaluate(&scope).map_err(|error| error.to_string())
}

#[test]
fn expressions_keep_the_type_of_their_value() {
    let message =
        json!({ "body": { "n": 3, "big": u64::MAX, "f": 1.5, "list": [1, "x", null], "user": "ana" } });
    for (source, value) in [
        ("message.body.n", json!(3)),
        ("message.body[\"big\"]", json!(u64::MAX)),
        ("message.body", message["body"].clone()),
        ("message.body.n + 1", json!(4)),
        ("message.body.f * 2.0", json!(3.0)),
        ("globals[\"portal-user\"] == message.body.user", json!(true)),
        ("message.body.list.size()", json!(3)),
        ("[1, 2].map(x, {\"b\": x, \"a\": message.body.n})", json!([{ "a": 3, "b": 1 }, { "a": 3, "b": 2 }])),
        ("has(message.body.nope) ? 1 : 2", json!(2)),
        ("\"a\" in {\"a\": 1}", json!(true)),
        ("message.body.user.startsWith(\"a\") && !message.body.user.matches(\"^b\")", json!(true)),
        ("claims == null", json!(true)),
        ("client.address", json!("203.0.113.9")),
        ("client[\"address\"].startsWith(\"203.0.\")", json!(true)),
        ("client", json!({ "address": "203.0.113.9" })),
        ("string(message.body.n) + \"!\"", json!("3!")),
    ] {
        assert_eq!(evaluate(source, &message), Ok(value), "{source}");
    }
}

#[test]
fn what_can_be_wrong_is_said_when_a_pipeline_is_saved() {
    for (source, says) in [
        ("", "empty"),
        ("1 +", "does not parse"),
        ("mesage.body", "did you mean `message`?"),
        ("env.HOME", "there are message, globals"),
        ("client.ip", "no field `ip`: there is address"),
        ("[1].map(i, client[\"host\"])", "no field `host`"),
        ("message.body.siz()", "did you mean `size`?"),
        ("verifyPasword(\"a\", \"b\")", "did you mean `verifyPassword`?"),
        ("[1].all(x, verifyPassword(\"a\", \"b\"))", "slow on purpose"),
        ("verifyPassword(\"a\", \"b\") || verifyPassword(\"a\", \"b\")", "once"),
        ("[1].map(a, [1].map(b, [1].map(c, [1].map(d, 1))))", "more than 3 deep"),
        ("[\"a\"].all(x, x.matches(message.body.pattern))", "must be written out"),
        ("message.body.matches(\"(\")", "no regular expression: unclosed group"),
        ("message.body.matches(\"\\\\w{1000}\")", "too large"),
        ("Foo{a: 1}", "there is no type"),
        ("[1].map(x, y)", "unknown name `y`"),
    ] {
        let error = Expression::parse(source).map(|_| ()).expect_err(source);
        assert!(error.contains(says), "{source}: {error}");
    }
    assert!(Expression::parse(&format!("{}1{}", "(".repeat(2000), ")".repeat(2000))).is_err());
    assert!(Expression::parse(&format!("1{}", "+1".repeat(500))).is_err());
    assert!(Expression::parse(&"!".repeat(4000)).is_err());
}

#[test]
fn no_text_or_comment_hides_nesting_that_exhausts_the_stack() {
    let deep = format!("{}1{}", "(".repeat(1900), ")".repeat(1900));
    for before in [
        "r\"\\\" == ",
        "R'\\' == ",
        "br'\\' == ",
        "\"\"\"a\"b\"\"\" == ",
        "// \"\n",
        "\"\\q\" == ",
        "1r\"\\\" == ",
    ] {
        assert!(Expression::parse(&format!("{before}{deep}")).is_err(), "{before}");
        let sum = format!("{before}1{}", "+1".repeat(1900));
        assert!(Expression::parse(&sum).is_err(), "{before}");
    }
}

#[test]
fn what_is_taken_can_be_parsed_and_run_on_a_small_stack() {
    for source in [
        format!("{}1{}", "(".repeat(MAX_BRACKETS), ")".repeat(MAX_BRACKETS)),
        format!("{}1{}", "[".repeat(MAX_BRACKETS), "]".repeat(MAX_BRACKETS)),
        format!("{}1{}", "{1: ".repeat(MAX_BRACKETS), "}".repeat(MAX_BRACKETS)),
        format!("1{}", " + 1".repeat(MAX_DEPTH - 1)),
        format!("{}1", "true ? 1 : ".repeat(MAX_DEPTH - 1)),
    ] {
        let result = evaluate(&source, &Value::Null);
        assert!(result.is_ok(), "{source}: {result:?}");
    }
}

#[test]
fn work_that_grows_with_the_data_is_refused_before_it_starts() {
    let message = json!({ "body": vec!["x"; 2000] });
    assert_eq!(evaluate("message.body.all(x, x == \"x\")", &message), Ok(json!(true)));
    let bomb = "message.body.all(a, message.body.all(b, message.body.all(c, a == b && b == c)))";
    assert!(evaluate(bomb, &message).is_err_and(|error| error.contains("too long")));
    let text = json!({ "body": "x".repeat(1 << 20) });
    assert_eq!(evaluate("message.body.contains(\"y\")", &text), Ok(json!(false)));
}

#[test]
fn joining_whole_lists_again_and_again_is_refused_before_it_starts() {
    let message = json!({ "body": vec![7; 4000], "tax": 1 });
    for bomb in [
        "message.body.map(x, message.body + message.body)",
        "message.body.map(x, [x] + message.body)",
        "message.body.map(x, (x > 0 ? message.body : []) + [x])",
        "message.body.all(x, size(message.body.map(y, y) + [x]) > 0)",
        "[message.body, message.body].all(a, message.body.map(x, a + a) != [])",
    ] {
        let error = evaluate(bomb, &message).expect_err(bomb);
        assert!(error.contains("too much data") || error.contains("too long"), "{bomb}: {error}");
    }
    let text = json!({ "body": "x".repeat(1 << 20) });
    let twice = "(message.body + message.body)";
    assert_eq!(evaluate(&format!("size({twice} + {twice})"), &text), Ok(json!(4 << 20)));
    let many = [twice; 65].join("), size(");
    let error = evaluate(&format!("[size({many})]"), &text).expect_err("130 MiB");
    assert!(error.contains("too much data"), "{error}");
    let sums = evaluate("message.body.map(x, x + message.tax)", &message).expect("an element each");
    assert_eq!(sums, json!(vec![8; 4000]));
}

#[test]
fn patterns_that_a_call_brings_are_bounded_in_number_and_size() {
    let message =
        json!({ "body": { "text": "lamp-7", "pattern": "^[a-z]+-[0-9]$", "huge": "\\w{1000}", "bad": "(" } });
    assert_eq!(evaluate("message.body.text.matches(message.body.pattern)", &message), Ok(json!(true)));
    for source in
        ["message.body.text.matches(message.body.huge)", "message.body.text.matches(message.body.bad)"]
    {
        assert!(evaluate(source, &message).is_err(), "{source}");
    }
    let many = ["message.body.text.matches(message.body.pattern)"; 11].join(" && ");
    assert!(evaluate(&many, &message).is_err_and(|error| error.contains("too long")));
    let list = json!({ "body": vec!["a1"; 2000] });
    assert_eq!(evaluate("message.body.all(x, x.matches(\"^[a-z][0-9]$\"))", &list), Ok(json!(true)));
}

#[test]
fn an_operator_between_two_types_says_so() {
    let error = evaluate("message.n + 1.5", &json!({ "n": 3 })).expect_err("an integer and a fraction");
    assert!(error.ends_with("a value has another type than it needs"), "{error}");
}

#[test]
fn an_error_holds_no_value_of_the_call() {
    let message = json!({ "body": { "card": "4111-1111", "n": 0 } });
    for source in [
        "message.body[accounts.portal.token]",
        "message.body.card + 1",
        "1 / message.body.n",
        "message.body.card.nope",
        "message.body.nope",
        "accounts.portal.token.nope",
        "[1][7]",
        "int(accounts.portal.token)",
    ] {
        let error = evaluate(source, &message).expect_err(source);
        assert!(!error.contains("4111") && !error.contains("s3cret"), "{source}: {error}");
    }
}
