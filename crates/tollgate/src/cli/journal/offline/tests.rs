use serde_json::{Value, json};

use super::*;

/// Five lines: two entries of ours, one that is a link, a refused attempt, and one with a masked object.
fn export() -> Vec<Value> {
    let mut previous = Hash::default();
    let mut lines = Vec::new();
    let project = |n: u64| json!({ "kind": "project", "key": format!("p{n}"), "deleted": false, "value": { "name": format!("p{n}") } });
    let user = json!({ "kind": "user", "key": "ada", "deleted": false, "value": { "name": "ada", "passwordHash": "(masked)" } });
    for seq in 1..=5_u64 {
        let (objects, written) = match seq {
            4 => (json!([]), "[]".to_owned()),
            5 => (json!([user]), "what is secret".to_owned()),
            _ => {
                let body = format!("{{\"name\":\"p{seq}\"}}");
                let written = json!([{ "kind": "project", "key": format!("p{seq}"), "body": body }]);
                (json!([project(seq)]), written.to_string())
            }
        };
        let detail = if seq == 4 { r#"{"code":"forbidden","count":3}"# } else { "" };
        let at = format!("2026-01-01T00:00:0{seq}Z");
        let entry = HashedEntry {
            realm: "default",
            at: &at,
            actor: "ada",
            source: "192.0.2.1",
            action: "project.create",
            request_id: "req_1",
            reason: "",
            outcome: if seq == 4 { "refused" } else { "done" },
            about_kind: if seq == 4 { "project" } else { "" },
            about_key: if seq == 4 { "p9" } else { "" },
            detail,
            mutations_hash: hash_text(&written),
        };
        let hash = link(&previous, seq, &entry.content());
        let mut line = json!({ "seq": seq, "previousHash": hex(&previous), "hash": hex(&hash) });
        let more = match seq {
            3 => json!({ "contentHash": hex(&entry.content()) }),
            _ => json!({ "format": 2, "realm": "default", "at": at, "actor": "ada", "source": "192.0.2.1",
                "action": "project.create", "requestId": "req_1", "reason": "", "outcome": entry.outcome,
                "objects": objects, "mutationsHash": hex(&entry.mutations_hash) }),
        };
        let fields = line.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        if seq == 4 {
            fields.insert("about".to_owned(), json!({ "kind": "project", "key": "p9" }));
            fields.insert("detail".to_owned(), serde_json::from_str(detail).expect("JSON"));
        }
        lines.push(line);
        previous = hash;
    }
    lines
}

fn check(lines: &[Value], partial: bool) -> Result<Report, String> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    verify(text.as_bytes(), partial).map_err(|failure| match failure {
        Failure::Other { message, .. } => message,
        other @ Failure::Problem { .. } => format!("{other:?}"),
    })
}

#[test]
fn an_export_that_nobody_changed_is_intact() {
    let report = check(&export(), false).expect("intact");
    assert_eq!((report.verified, report.masked, report.links, report.gaps), (4, 1, 1, 0));
    assert_eq!(report.last.map(|(seq, _)| seq), Some(5));
    assert!(report.sentences().contains("1 links") && report.sentences().contains("masked"));
    assert_eq!(check(&[], false), Ok(Report::default()));
}

#[test]
fn whatever_is_changed_in_an_export_is_noticed_in_its_line() {
    for (line, of) in export().iter().zip(1..) {
        for (field, value) in line.as_object().expect("an object") {
            let others: Vec<Value> = match value {
                Value::Number(_) => vec![json!(3), json!(1), json!(99), Value::Null],
                Value::String(text) => vec![json!(format!("{text}x")), json!(""), Value::Null],
                // What is masked is not proven, and said so.
                Value::Array(_) if of == 5 => {
                    vec![json!([{ "kind": "user", "key": "ada", "deleted": true, "value": 1 }])]
                }
                Value::Array(_) => vec![
                    json!([{ "kind": "project", "key": "p8", "deleted": false, "value": { "name": "p1" } }]),
                    json!([{ "kind": "project", "key": "p1", "deleted": true }]),
                ],
                _ => vec![json!({ "kind": "project", "key": "p8" }), json!({ "code": "other" }), Value::Null],
            };
            // That the first ones are of an older version is possible, and said so.
            let older = |other: &Value| of == 1 && field == "format" && *other == 1;
            for other in others.into_iter().filter(|other| other != value && !older(other)) {
                let mut lines = export();
                *lines.get_mut(of - 1).and_then(|line| line.get_mut(field)).expect("it is there") =
                    other.clone();
                let error = check(&lines, true).expect_err(&format!("{field} of {of} became {other}"));
                // A number that is too high or too low shows in the line after it, too.
                let named = [of, of + 1].map(|number| format!("BROKEN at line {number}"));
                assert!(named.iter().any(|named| error.starts_with(named)), "{field} of {of}: {error}");
            }
        }
    }
}

#[test]
fn lines_that_are_left_out_moved_or_added_are_noticed() {
    let without = |index: usize| {
        let mut lines = export();
        lines.remove(index);
        lines
    };
    for index in 0..4 {
        let error = check(&without(index), false).expect_err("one is missing");
        assert_eq!(
            error,
            format!(
                "BROKEN at line {}, entry {}: entry {} is missing before it",
                index + 1,
                index + 2,
                index + 1
            )
        );
        assert_eq!(check(&without(index), true).map(|report| report.gaps), Ok(1));
    }
    let mut swapped = export();
    swapped.swap(1, 2);
    assert!(check(&swapped, true).is_err());
    let mut twice = export();
    twice.insert(1, twice[0].clone());
    assert!(check(&twice, true).is_err());
    let mut more = export();
    more[0]["comment"] = json!("not hashed");
    assert!(check(&more, false).expect_err("unknown").contains("comment"));
    assert!(check(&[json!("x")], false).is_err());
}

#[test]
fn an_entry_that_claims_to_be_older_is_believed_only_where_older_ones_are() {
    let older = |index: usize| {
        let mut lines = export();
        lines[index]["format"] = json!(1);
        lines[index]["actor"] = json!("eve");
        lines
    };
    assert_eq!(check(&older(0), false).map(|report| report.unproven), Ok(1));
    assert!(check(&older(1), false).expect_err("newer before it").contains("older format"));
    let mut link = export();
    link[2].as_object_mut().expect("an object").remove("contentHash");
    assert!(check(&link, false).is_err());
}
