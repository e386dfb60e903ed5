//! Where boxes and lines come to stand.

use serde_json::json;

use super::*;

fn nested() -> Value {
    json!({
        "trigger": { "type": "rest", "methods": ["GET"], "externalApi": true, "apiKey": { "query": true }, "jwt": false },
        "steps": [
            { "assert": { "condition": "true", "status": 401 } },
            { "choice": {
                "when": [
                    { "condition": "a", "steps": [
                        { "block": { "steps": [{ "http": { "url": "http://x" }, "failOnError": false }],
                                     "onError": [{ "log": { "message": "no" } }] } },
                    ] },
                    { "condition": "b", "steps": [{ "throw": { "error": "no" } }] },
                ],
                "otherwise": [{ "respond": { "status": 204 } }],
            } },
            { "json": { "a": 1, "b": 2 }, "name": "last" },
        ],
    })
}

fn at<'a>(diagram: &'a Diagram, pointer: &str) -> &'a FlowBox {
    diagram.boxes.iter().find(|it| it.pointer == pointer).unwrap_or_else(|| panic!("{pointer}: {diagram:#?}"))
}

#[test]
fn every_step_has_a_box_and_none_covers_another() {
    let diagram = Diagram::of(&nested(), "/steps/0");
    assert_eq!(diagram.boxes.len(), 1 + 8 + 1, "trigger, steps, response");
    let mut last = 0;
    for it in &diagram.boxes {
        assert!(it.y >= last, "{it:?} stands above {last}");
        assert!(it.x + it.width <= diagram.width && it.y + it.height <= diagram.height, "{it:?} is outside");
        last = it.y + it.height;
    }
    assert!(at(&diagram, "/steps/0").here && !at(&diagram, "/trigger").here);
}

#[test]
fn branches_are_moved_in_and_lead_back_unless_they_end() {
    let diagram = Diagram::of(&nested(), "");
    let choice = at(&diagram, "/steps/1");
    let block = at(&diagram, "/steps/1/choice/when/0/steps/0");
    let http = at(&diagram, "/steps/1/choice/when/0/steps/0/block/steps/0");
    assert_eq!((block.x - choice.x, http.x - choice.x), (INDENT, 2 * INDENT));
    assert_eq!(at(&diagram, "/steps/2").x, choice.x, "behind the choice goes on where it began");
    let back = |from: &FlowBox| {
        let path = format!("M{} {}v8H", from.x - 1 + RAIL, from.y - 1 + BOX_HEIGHT);
        diagram.lines.iter().any(|line| line.path.starts_with(&path))
    };
    assert!(back(http), "a branch that goes on leads back: {diagram:#?}");
    assert!(!back(at(&diagram, "/steps/1/choice/when/1/steps/0")), "one that throws does not");
    assert!(!back(at(&diagram, "/steps/1/choice/otherwise/0")), "nor one that responds");
    let labels: Vec<_> = diagram.labels.iter().map(|it| (it.text.as_str(), it.error)).collect();
    let expected =
        [("when a", false), ("together", false), ("on error", true), ("when b", false), ("otherwise", false)];
    assert_eq!(labels, expected);
    assert!(diagram.lines.iter().any(|line| line.error), "an error goes a way of its own");
}

#[test]
fn the_outline_says_the_same_in_words() {
    let diagram = Diagram::of(&nested(), "");
    let lines: Vec<_> = diagram.outline.iter().map(|it| format!("{} {}", it.number, it.words)).collect();
    assert_eq!(
        lines,
        [
            " Trigger rest, GET · external · API key",
            "1 assert, true, ✕ 401",
            "2 choice, the first branch whose condition holds",
            "2.1 when a",
            "2.1.1 block, together, with one error path",
            "2.1.1.1 together",
            "2.1.1.1.1 http, GET http://x, ↷ goes on",
            "2.1.1.2 on error",
            "2.1.1.2.1 log, info: no",
            "2.2 when b",
            "2.2.1 throw, no, ✕ 500",
            "2.3 otherwise",
            "2.3.1 respond, status 204",
            "3 last · json, a, b",
        ]
    );
}

#[test]
fn what_is_deep_grows_wide_enough_and_what_is_wrong_is_drawn_all_the_same() {
    let mut steps = json!([{ "json": 1 }]);
    for _ in 0..16 {
        steps = json!([{ "block": { "steps": steps } }]);
    }
    let diagram = Diagram::of(&json!({ "steps": steps }), "");
    assert!(diagram.boxes.iter().all(|it| it.width >= NARROWEST - 4 && it.x < diagram.width), "{diagram:#?}");
    for odd in [
        json!(null),
        json!([]),
        json!({ "steps": 5, "trigger": [] }),
        json!({ "steps": [1, {}, { "choice": [] }, { "choice": { "when": [3] } }, { "block": null }, { "json": "x".repeat(900) }] }),
    ] {
        let diagram = Diagram::of(&odd, "");
        assert!(diagram.boxes.iter().all(|it| it.title.chars().count() < 60), "{diagram:#?}");
    }
    let many = json!({ "steps": vec![json!({ "json": 1 }); 2_000] });
    assert_eq!(Diagram::of(&many, "").boxes.len(), MAX_STEPS + 2);
}
