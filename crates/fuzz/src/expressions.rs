//! Expressions, parsed and run on data.

use std::sync::LazyLock;

use serde_json::{Value, json};
use tollgate_expression::{FLOWS, Meter, base_context, execute, parse};

pub(crate) const WORDS: &[&str] = &[
    "message",
    "message.body.user",
    "message.body.list",
    "globals[\"portal-user\"]",
    "claims.scope",
    "consumer.name",
    "client.address",
    ".map(x, ",
    ".filter(x, ",
    ".all(x, ",
    ".exists(x, ",
    "has(message.body)",
    "size(",
    ".matches('^a+$')",
    "verifyPassword(",
    "string(",
    "int(",
    "double(",
    "timestamp(",
    "duration(",
    " in ",
    " == ",
    " && ",
    " || ",
    " ? 1 : 2",
    "9223372036854775807",
    "-9223372036854775808",
    "1u",
    "1.5",
    "b'x'",
    "r'\\d'",
    "'''",
    "{'a': 1}",
    "[1, 2]",
    "!",
    "-",
    "(",
    ")",
];

/// Most work that is run here, as much as a flow allows for a small part of an expression; more would only be slow.
const MAX_WORK: u64 = 200_000;
/// Most text that an expression may give.
const MAX_BYTES: u64 = 1 << 20;

static DATA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "message": { "body": { "user": "ann", "list": [1, "two", null, 3.5, { "a": [] }], "n": -1 },
            "headers": {}, "queryAndPath": { "id": "7" }, "method": "GET" },
        "globals": { "portal-user": "ann" }, "accounts": {}, "claims": { "scope": "a b", "exp": 1 },
        "consumer": { "name": "shop" }, "client": { "address": "192.0.2.1" }, "metadata": { "pipeline": "p" },
    })
});

/// Counts what an expression gives.
struct Counted(std::cell::Cell<u64>);

impl Meter for Counted {
    fn spend_text(&self, text: &str) -> Result<(), String> {
        self.0.set(self.0.get() + text.len() as u64);
        if self.0.get() > MAX_BYTES { Err("too much".to_owned()) } else { Ok(()) }
    }
}

/// What parses runs without a panic, within what its cost says; errors do not repeat the data.
pub(crate) fn run(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else { return };
    let Ok(parsed) = parse(source, &FLOWS) else { return };
    assert!(parsed.roots.iter().all(|root| FLOWS.roots.contains(root)), "{:?}", parsed.roots);
    let get = |root: &'static str| DATA.get(root).unwrap_or(&Value::Null);
    let work = parsed.cost.work(&parsed.roots, get);
    if work.is_ok_and(|work| work <= MAX_WORK) {
        let data = parsed.roots.iter().map(|root| (*root, get(root)));
        let meter = Counted(std::cell::Cell::new(0));
        if let Err(reason) = execute(&parsed.program, &base_context(), data, &meter) {
            assert!(!reason.is_empty());
        }
    }
}
