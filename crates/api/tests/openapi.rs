//! The description of the API is checked in, complete and true.

use std::collections::BTreeSet;

use serde_json::Value;

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let all = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        methods.iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    all.collect()
}

#[test]
fn the_checked_in_document_is_the_one_that_the_server_serves() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let checked_in: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("docs/openapi.json")).expect("JSON");
    assert!(
        checked_in == tollgate_api::openapi(),
        "run `cargo run -p tollgate-api --example openapi > docs/openapi.json` and read the difference"
    );
}

#[test]
fn every_operation_has_a_name_of_its_own_a_permission_and_an_answer() {
    let document = tollgate_api::openapi();
    let mut names = BTreeSet::new();
    for (operation, description) in operations(&document) {
        let name = description["operationId"].as_str().expect("a name");
        assert!(names.insert(name.to_owned()), "{operation}: `{name}` is taken");
        let permission = description["x-permission"].as_str().expect("a permission");
        assert!(permission == "none" || permission == "signed-in" || permission.contains(':'), "{operation}");
        assert_eq!(description["security"] == serde_json::json!([]), permission == "none", "{operation}");
        assert!(description["summary"].as_str().is_some_and(|text| !text.is_empty()), "{operation}");
    }
    // What names callers says so: the permission to read policies is not enough.
    let naming_callers: Vec<_> = operations(&document)
        .into_iter()
        .filter(|(_, it)| it["x-also-permission"] == "usage:read")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        naming_callers,
        [
            "post /realms/{realm}/policies/{name}/impact",
            "post /realms/{realm}/policies/{name}/removal/impact",
            "post /realms/{realm}/policy-versions/{version}/restore/impact",
            "get /realms/{realm}/shadow",
        ]
    );
    let public: Vec<_> = operations(&document)
        .into_iter()
        .filter(|(_, it)| it["x-permission"] == "none")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        public,
        ["get /openapi.json", "get /version", "get /schemas/{kind}", "post /login", "post /session"]
    );
}

#[test]
fn what_needs_a_second_person_says_so() {
    let document = tollgate_api::openapi();
    let mut asking: Vec<_> = operations(&document)
        .into_iter()
        .filter(|(_, it)| it["responses"].get("202").is_some())
        .map(|(name, _)| name)
        .collect();
    asking.sort();
    assert_eq!(
        asking,
        [
            "delete /realms/{realm}/environments/{environment}",
            "delete /realms/{realm}/policies/{name}",
            "post /realms/{realm}/environments",
            "post /realms/{realm}/policy-versions/{version}/restore",
            "post /realms/{realm}/shadow/promote",
            "post /realms/{realm}/waivers",
            "put /realms/{realm}/policies/{name}",
            "put /realms/{realm}/settings",
        ]
    );
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn references(value: &Value, all: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                all.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, all));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, all)),
            _ => {}
        }
    }
    let document = tollgate_api::openapi();
    let mut all = BTreeSet::new();
    references(&document, &mut all);
    for reference in all {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// Returns the texts in quotes that stand behind `marker` in the sources of a crate.
fn codes_behind(directory: &std::path::Path, markers: &[&str], codes: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            codes_behind(&path, markers, codes);
            continue;
        }
        let text =
            std::fs::read_to_string(&path).expect("reads").split_whitespace().collect::<Vec<_>>().join(" ");
        for marker in markers {
            for rest in text.split(marker).skip(1) {
                // The code is the first text in the arguments.
                let arguments = rest.split(");").next().unwrap_or_default();
                codes.extend(arguments.split('"').nth(1).map(str::to_owned));
            }
        }
    }
}

#[test]
fn every_code_has_a_page_that_says_what_to_do() {
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut codes = BTreeSet::new();
    codes_behind(&root.join("crates/api/src"), &["Problem::new("], &mut codes);
    codes_behind(&root.join("crates/app/src"), &["ErrorKind::", "Error::conflict("], &mut codes);
    codes.retain(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && code.len() > 3);
    assert!(codes.len() > 15, "the sources are not read as they should: {codes:?}");
    for code in codes {
        let page = std::fs::read_to_string(root.join(format!("docs/errors/{code}.md")));
        let page = page.unwrap_or_else(|_| panic!("there is no docs/errors/{code}.md"));
        assert!(page.starts_with(&format!("# {code}\n")) && page.contains("**What to do.**"), "{code}");
    }
}
