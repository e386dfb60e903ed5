//! The digest of a pipeline: SHA-256 of its canonical form.
//!
//! The canonical form is RFC 8785 (JCS) of the document that `tollgate get pipeline NAME -o json` prints, `kind`
//! included. JCS writes numbers as IEEE 754 doubles, so that two whole numbers beyond ±(2^53 - 1) can come out as one.
//! A document with such numbers would share its digest with another; what is hashed of it is the JCS of
//! `{"document": …, "integers": {POINTER: DIGITS, …}}` instead, which no pipeline has.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};
use tollgate_model::hex::hex;
use tollgate_model::pipelines::Pipeline;

/// The largest whole number up to which every one is a double of its own.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// Returns the digest of a pipeline in hexadecimal digits.
///
/// # Errors
///
/// When it cannot be written as JSON.
pub fn of_pipeline(pipeline: &Pipeline) -> Result<String, serde_json::Error> {
    let mut document = json!({ "kind": "Pipeline" });
    if let (Some(fields), Value::Object(written)) =
        (document.as_object_mut(), serde_json::to_value(pipeline)?)
    {
        fields.extend(written);
    }
    of_document(document)
}

fn of_document(document: Value) -> Result<String, serde_json::Error> {
    let mut integers = Map::new();
    collect_unsafe(&document, &mut String::new(), &mut integers);
    let hashed =
        if integers.is_empty() { document } else { json!({ "document": document, "integers": integers }) };
    Ok(hex(digest(&SHA256, &serde_json_canonicalizer::to_vec(&hashed)?).as_ref()))
}

/// Notes the whole numbers that a double may not hold, by their JSON pointer (RFC 6901).
fn collect_unsafe(value: &Value, pointer: &mut String, found: &mut Map<String, Value>) {
    let at = pointer.len();
    let mut visit = |pointer: &mut String, name: &str, value: &Value| {
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        collect_unsafe(value, pointer, found);
        pointer.truncate(at);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| visit(pointer, name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| visit(pointer, &i.to_string(), value));
        }
        Value::Number(number) => {
            let magnitude = number.as_u64().or(number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude > MAX_SAFE) {
                found.insert(pointer.clone(), number.to_string().into());
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use tollgate_model::document::parse_pipeline;

    use super::*;

    const PIPELINE: &str = "
kind: Pipeline
name: orders
project: store
trigger:
  type: rest
  methods: [GET]
  externalApi: true
  apiKey: true
steps:
  - json: { z: \"ä\", a: 1.50, n: NUMBER }
";

    fn of(number: &str) -> String {
        let text = PIPELINE.replace("NUMBER", number);
        of_pipeline(&parse_pipeline(&text).expect("a pipeline").value).expect("a digest")
    }

    #[test]
    fn the_digest_of_a_version_never_changes() {
        // Taken with another implementation (Python: json.dumps with sorted keys, which JCS is for this document, and
        // hashlib). Should this fail, every attestation made until now no longer fits its pipeline.
        assert_eq!(of("7"), "2831b36229473f10e872c814a7994d05d569c4c5ac9685b1bb84a889a784192d");
    }

    #[test]
    fn numbers_that_a_double_cannot_tell_apart_have_digests_of_their_own() {
        assert_ne!(of("9007199254740992"), of("9007199254740993"));
        assert_ne!(of("-9007199254740992"), of("-9007199254740993"));
        assert_ne!(of("9007199254740993"), of("\"9007199254740993\""));
        let forged = "{ document: 1, integers: { \"/steps/0/json/n\": \"9007199254740993\" } }";
        assert_ne!(of("9007199254740993"), of(forged));
        let wrapped = of_document(json!({ "a/b~c": [1, 9_007_199_254_740_993_u64] })).expect("a digest");
        let by_hand =
            r#"{"document":{"a/b~c":[1,9007199254740992]},"integers":{"/a~1b~0c/1":"9007199254740993"}}"#;
        assert_eq!(wrapped, hex(digest(&SHA256, by_hand.as_bytes()).as_ref()));
    }

    #[test]
    fn the_order_of_fields_does_not_matter_and_every_value_does() {
        let json = "{\"steps\":[{\"json\":{\"n\":7,\"z\":\"ä\",\"a\":1.5}}],\"trigger\":{\"apiKey\":true,\"methods\":[\"GET\"],\
                    \"type\":\"rest\",\"externalApi\":true},\"project\":\"store\",\"name\":\"orders\",\"kind\":\"Pipeline\"}";
        let other = of_pipeline(&parse_pipeline(json).expect("a pipeline").value).expect("a digest");
        assert_eq!(other, of("7"));
        assert_ne!(of("7"), of("8"));
    }
}
