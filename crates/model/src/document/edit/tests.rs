//! What a change of a part leaves as it was.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::document::parse_value;

const FILE: &str = "# The orders of the shop.
kind: Pipeline
name: orders # for ever
trigger:
  type: rest
  # Callers have a key.
  apiKey: false # soon
  routes: [/a, \"/b\"]
steps:
  # First of all.
  - json: { ok: 'yes' }
    name: first
  - choice:
      when:
        - condition: message.body.a
          steps:
            - log:
                message: |
                  two
                  lines
  # The end.
  - respond: { status: 200 }
";

fn set(pointer: &str, value: Value) -> Edit {
    Edit::Set(pointer.to_owned(), value)
}

/// Makes a change and tells which lines went and came.
fn difference(text: &str, edit: &Edit) -> (Vec<String>, Vec<String>) {
    let after = edited(text, edit).expect("fits");
    let lines = |of: &str, other: &str| -> Vec<String> {
        of.lines().filter(|line| !other.lines().any(|it| it == *line)).map(str::to_owned).collect()
    };
    (lines(text, &after), lines(&after, text))
}

fn one(line: &str) -> Vec<String> {
    vec![line.to_owned()]
}

#[test]
fn a_value_is_written_where_it_stands() {
    for (pointer, value, gone, come) in [
        ("/trigger/apiKey", json!(true), "  apiKey: false # soon", "  apiKey: true # soon"),
        (
            "/trigger/apiKey",
            json!({ "query": true }),
            "  apiKey: false # soon",
            "  apiKey:\n    query: true # soon",
        ),
        ("/trigger/routes", json!(["/c"]), "  routes: [/a, \"/b\"]", "  routes: [/c]"),
        ("/trigger/routes/0", json!("/c"), "  routes: [/a, \"/b\"]", "  routes: [/c, \"/b\"]"),
        ("/steps/0/json/ok", json!("no way"), "  - json: { ok: 'yes' }", "  - json: { ok: no way }"),
        ("/steps/0/json", json!({ "ok": [1] }), "  - json: { ok: 'yes' }", "  - json: { ok: [1] }"),
        (
            "/steps/2/respond/status",
            json!(204),
            "  - respond: { status: 200 }",
            "  - respond: { status: 204 }",
        ),
        (
            "/steps/2/respond/body",
            json!(1),
            "  - respond: { status: 200 }",
            "  - respond: { status: 200, body: 1 }",
        ),
        ("/name", json!("5"), "name: orders # for ever", "name: \"5\" # for ever"),
    ] {
        let come: Vec<String> = come.lines().map(str::to_owned).collect();
        assert_eq!(difference(FILE, &set(pointer, value)), (one(gone), come), "{pointer}");
    }
}

#[test]
fn a_field_is_added_behind_the_others() {
    for (pointer, value, come) in [
        ("/trigger/jwt", json!(true), "  jwt: true"),
        ("/steps/1/failOnError", json!(false), "    failOnError: false"),
        ("/trigger/cors/allowOrigins", json!(["*"]), "  cors:\n    allowOrigins: [\"*\"]"),
        ("/description", json!("a\nb"), "description: |-\n  a\n  b"),
    ] {
        let come: Vec<String> = come.lines().map(str::to_owned).collect();
        assert_eq!(difference(FILE, &set(pointer, value)), (Vec::new(), come), "{pointer}");
    }
}

#[test]
fn a_field_goes_with_its_comment() {
    let gone = |pointer: &str| difference(FILE, &Edit::Remove(pointer.to_owned()));
    let expected = ["  # Callers have a key.", "  apiKey: false # soon"].map(str::to_owned).to_vec();
    assert_eq!(gone("/trigger/apiKey"), (expected, Vec::new()));
    assert_eq!(gone("/steps/0/name"), (one("    name: first"), Vec::new()));
    let after = edited(FILE, &Edit::Remove("/steps/0/json".to_owned())).expect("fits");
    assert!(after.contains("  # First of all.\n  - name: first\n"), "{after}");
    assert_eq!(gone("/trigger/nothing"), (Vec::new(), Vec::new()));
    assert_eq!(gone("/trigger/routes/1"), (one("  routes: [/a, \"/b\"]"), one("  routes: [/a]")));
}

#[test]
fn steps_are_added_moved_and_taken_out_with_their_comments() {
    let step = json!({ "log": { "message": "hello" } });
    let after = edited(FILE, &Edit::Insert("/steps".to_owned(), 1, step.clone())).expect("fits");
    assert!(after.contains("    name: first\n  - log:\n      message: hello\n  - choice:\n"), "{after}");
    let after = edited(FILE, &Edit::Insert("/steps".to_owned(), 9, step.clone())).expect("fits");
    assert!(after.ends_with("  - respond: { status: 200 }\n  - log:\n      message: hello\n"), "{after}");
    let branch = "/steps/1/choice/when/0/steps".to_owned();
    let after = edited(FILE, &Edit::Insert(branch, 0, step.clone())).expect("fits");
    assert!(
        after.contains(
            "          steps:\n            - log:\n                message: hello\n            - log:\n"
        ),
        "{after}"
    );
    let after = edited(FILE, &Edit::Insert("/steps/1/choice/otherwise".to_owned(), 0, step)).expect("fits");
    assert!(
        after.contains(
            "                  lines\n      otherwise:\n        - log:\n            message: hello\n"
        ),
        "{after}"
    );

    let after = edited(FILE, &Edit::Swap("/steps".to_owned(), 0)).expect("fits");
    let (choice, first) = (after.find("- choice").expect("it"), after.find("# First of all.").expect("it"));
    assert!(choice < first && after.contains("  # The end.\n  - respond"), "{after}");
    assert_eq!(edited(FILE, &Edit::Swap("/steps".to_owned(), 2)), None, "nothing comes after the last");

    let after = edited(FILE, &Edit::Remove("/steps/1".to_owned())).expect("fits");
    assert!(
        !after.contains("choice") && after.contains("# First of all.") && after.contains("# The end."),
        "{after}"
    );
    let after = edited(FILE, &Edit::Remove("/steps/1/choice/when/0/steps/0".to_owned())).expect("fits");
    assert!(after.contains("          steps: []\n") && after.contains("# The end."), "{after}");
}

#[test]
fn json_stays_json() {
    let text = "{\"kind\": \"Pipeline\",\n \"trigger\": {\"type\": \"rest\"},\n \"steps\": [{\"json\": 1}]}";
    for edit in [
        set("/trigger/cors", json!({ "allowOrigins": ["*"] })),
        set("/description", json!("new")),
        Edit::Insert("/steps".to_owned(), 0, json!({ "json": 2 })),
        Edit::Remove("/steps/0".to_owned()),
    ] {
        let after = edited(text, &edit).expect("fits");
        assert!(serde_json::from_str::<Value>(&after).is_ok(), "{edit:?}: {after}");
        assert!(after.starts_with("{\"kind\": \"Pipeline\","), "{after}");
    }
}

#[test]
fn what_cannot_be_read_or_does_not_fit_is_left_alone() {
    for text in ["", "]", "a: 1\n---\nb: 2\n", "&a [*a]"] {
        assert_eq!(edited(text, &set("/a", json!(1))), None, "{text}");
    }
    assert_eq!(edited(FILE, &set("/steps/7/json", json!(1))), None);
    assert_eq!(
        edited("a: 1\r\nb: 2", &set("/a", json!(3))).as_deref(),
        Some("a: 3\nb: 2\n"),
        "as a browser sends it"
    );
    assert_eq!(
        edited("a:\nb: 2", &set("/a", json!(3))).as_deref(),
        Some("a: 3\nb: 2\n"),
        "a key without a value"
    );
}

proptest! {
    /// Whatever stands in a document, a change gives what it should.
    #[test]
    fn a_change_says_what_it_should(
        value in crate::document::write::tests::values(),
        new in crate::document::write::tests::values(),
        flow in any::<bool>(),
        pick in any::<prop::sample::Index>(),
        remove in any::<bool>(),
    ) {
        let document = json!({ "a": value, "b": [1, { "c": 2 }] });
        let text = if flow { document.to_string() } else { crate::document::to_yaml(&document) };
        let mut pointers = Vec::new();
        places(&document, "", &mut pointers);
        let pointer = pick.get(&pointers).clone();
        let edit = if remove { Edit::Remove(pointer) } else { Edit::Set(pointer, new) };
        let mut wanted = document.clone();
        apply(&mut wanted, &edit).expect("it is there");
        let after = edited(&text, &edit).expect("fits");
        prop_assert_eq!(parse_value(&after), Ok(wanted), "{}", after);
    }
}

fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    let mut add = |token: String, value: &Value| {
        let pointer = format!("{at}/{token}");
        out.push(pointer.clone());
        places(value, &pointer, out);
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| add(key.replace('~', "~0").replace('/', "~1"), value));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| add(index.to_string(), value))
        }
        _ => {}
    }
}
