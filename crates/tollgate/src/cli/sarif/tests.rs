use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::uri;

/// Fails unless a document is SARIF 2.1.0, by the schema of the standard.
#[track_caller]
pub(in crate::cli) fn assert_sarif(document: &Value) {
    static SCHEMA: OnceLock<(Schemas, SchemaIndex)> = OnceLock::new();
    let (schemas, index) = SCHEMA.get_or_init(|| {
        let text = include_str!("../../../tests/schemas/sarif-schema-2.1.0.json");
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("sarif.json", serde_json::from_str(text).expect("JSON")).expect("one schema");
        let index = compiler.compile("sarif.json", &mut schemas).expect("a schema");
        (schemas, index)
    });
    if let Err(error) = schemas.validate(document, *index) {
        panic!("{error:#}\n{document:#}");
    }
}

#[test]
fn a_path_becomes_a_relative_uri_with_forward_slashes() {
    let here = std::env::current_dir().expect("a directory");
    for (path, expected) in [
        ("./pipelines/a b.yaml", "pipelines/a%20b.yaml"),
        ("ü.yaml", "%C3%BC.yaml"),
        ("../x.yaml", "../x.yaml"),
        ("/elsewhere/x.yaml", "file:///elsewhere/x.yaml"),
        (&*here.join("a/b.yaml").display().to_string(), "a/b.yaml"),
    ] {
        assert_eq!(uri(path), expected);
    }
}
