use super::*;

const GOOD: &str = r#"
kind: Pipeline
name: product-list
project: store
trigger:
  methods: [GET]
  type: rest          # not first, and read all the same
  externalApi: true
  apiKey: true
  jwt: { scopes: [catalog:read] }
  routes: [/products, { path: "/products/:id", methods: [GET], scopes: [catalog:read] }]
  rateLimit: { by: consumer, limits: [{ interval: minute, limit: 600 }] }
  responseHeaders: { cache-control: no-store }
steps:
  - json:
      products: [{ id: 1, name: Lamp, price: 32.5 }]
      asked: "{{ message.queryAndPath.id }}"
"#;

/// Writes what a person would read: where, what, and what to do.
fn complaint(text: &str) -> String {
    match parse_resources(text) {
        Ok(_) => panic!("was taken: {text}"),
        Err(error) => match &error.hint {
            Some(hint) => format!("{error} ({hint})"),
            None => error.to_string(),
        },
    }
}

#[test]
fn the_design_s_pipeline_reads_and_keeps_its_positions() {
    let pipeline = parse_pipeline(GOOD).expect("valid");
    assert_eq!(pipeline.value.name.as_str(), "product-list");
    assert_eq!(pipeline.positions.find("/trigger/apiKey"), Position { line: 9, column: 3 });
    assert_eq!(pipeline.positions.find("/trigger/basicAuth"), Position { line: 5, column: 1 });
    assert_eq!(pipeline.positions.find("/steps/0/json/asked"), Position { line: 17, column: 7 });
}

#[test]
fn json_is_read_like_yaml() {
    let pipeline = parse_pipeline(GOOD).expect("valid").value;
    let mut json = serde_json::to_value(&pipeline).expect("json");
    json["kind"] = "Pipeline".into();
    assert_eq!(parse_pipeline(&json.to_string()).expect("valid").value, pipeline);
    let tabs = serde_json::to_string_pretty(&json).expect("json").replace("  ", "\t");
    assert_eq!(parse_pipeline(&tabs).expect("tabs are white space in JSON").value, pipeline);
}

#[test]
fn a_character_that_json_escapes_as_two_is_read_as_one() {
    let json = |text: &str| {
        let json = format!("{{\"kind\":\"Global\",\"name\":\"x\",\"environments\":{{\"test\":\"{text}\"}}}}");
        parse_resources(&json).map(|mut read| match read.remove(0).value {
            Resource::Global(global) => global.environments.into_values().next().expect("one"),
            other => panic!("not a global: {other:?}"),
        })
    };
    assert_eq!(json("a\\ud83d\\uDE00b\\u00e9\\\\ud83d\\\\ude00"), Ok("a😀bé\\ud83d\\ude00".into()));
    assert!(json("\\ud83d").is_err());
}

#[test]
fn a_map_of_many_keys_is_read_once() {
    let fields: String = (0..60_000).map(|i| format!("k{i}: 1,")).collect();
    let text = format!("kind: Global\nname: x\nenvironments: {{ test: {{ {fields} }} }}");
    assert!(parse_resources(&text).is_ok());
    assert!(complaint(&text.replace("k59999: 1", "k0: 1")).contains("`k0` stands twice"));
}

#[test]
fn a_text_may_hold_many_resources() {
    let text = "---\n# nothing here\n---\nkind: Policy\nname: external-api-access\nenvironments: { test: any, prod: \
                api-key }\n---\nkind: Consumer\nname: shop\nenvironments: [test]\npipelines: [product-list]\n---\nkind: \
                Global\nname: portal-user\nenvironments: { test: ana }\n";
    let kinds: Vec<_> = parse_resources(text).expect("valid").iter().map(|it| it.value.kind()).collect();
    assert_eq!(kinds, ["Policy", "Consumer", "Global"]);
}

#[test]
fn every_error_says_where_and_what_to_write_instead() {
    let replaced = |from: &str, to: &str| complaint(&GOOD.replacen(from, to, 1));
    let table = [
        complaint(""),
        complaint("name: x"),
        complaint("kind: Pipline\nname: x"),
        complaint("kind: Pipeline\nname: [x"),
        complaint("name: x\nkind: 7"),
        complaint("kind: Pipeline\nname: x\nname: y"),
        complaint("kind: Policy\nname: &a x"),
        complaint("kind: Policy\nname: *a"),
        complaint("kind: Policy\nname: !!str x"),
        replaced("externalApi:", "exteralApi:"),
        replaced("  apiKey: true", "  apiKey: yes"),
        replaced("type: rest", "type: event"),
        replaced("type: rest", "type: rust"),
        replaced("  type: rest          # not first, and read all the same\n", ""),
        replaced("name: product-list", "name: Product List"),
        replaced("name: product-list", "name: 7"),
        replaced("project: store\n", ""),
        replaced("[/products,", "[/:id,"),
        replaced("- json:", "- jsn:"),
        replaced("- json:", "- failonerror: true\n    json:"),
        replaced("methods: [GET]", "methods: [GTE]"),
        replaced("methods: [GET]", "methods: GET"),
        replaced("methods: [GET]", "timeoutMs: 30s"),
        replaced("limit: 600", "limit: 0"),
        replaced("  - json:", "  - jwtDecode:\n  - json:"),
        replaced("  type: rest ", "  type: http\n  responseContentType: \"text\\n\" "),
        replaced("  type: rest ", "  type: http\n  requestContentTypes: [text] "),
        replaced("methods: [GET]", "cors: { allowOrigins: [\"https://shop.example/\"] }"),
        replaced("methods: [GET]", "cors: { allowOrigins: [\"*\"], allowHeaders: [\"x y\"] }"),
        replaced("interval: minute", "interval: fortnight"),
        replaced("jwt: {", "basicAuth: true\n  jwt: {"),
        replaced("  - json:", "  - jwtGenerate: { expiresInMs: 31536000001 }\n  - json:"),
        complaint("kind: Policy\nname: external-api-access\nenvironments: { test: jwt }"),
        complaint("kind: Policy\nname: external-access\nenvironments: {}"),
        complaint("kind: Global\nname: x\nenvironments: { test: .nan }"),
        complaint("kind: Global\nname: x\nenvironments: { test: 18446744073709551616 }"),
    ];
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn a_deep_or_long_text_is_refused_before_it_costs_anything() {
    assert!(
        complaint(&format!("kind: Global\nname: {}", "[".repeat(65))).contains("nested more than 64 deep")
    );
    assert!(!complaint(&format!("kind: Global\nname: {}", "[".repeat(100_000))).is_empty());
    assert!(complaint(&" ".repeat(MAX_BYTES + 1)).contains("longer than"));
    let steps = "  - json: 1\n".repeat(Pipeline::MAX_STEPS);
    assert!(
        complaint(&GOOD.replacen("  - json:", &format!("{steps}  - json:"), 1))
            .contains("line 14, column 1: a pipeline has at most 500 steps")
    );
    let nested = format!("{}{{ json: 1 }}{}", "{ block: { steps: [".repeat(17), "] } }".repeat(17));
    let text = GOOD.replacen("  - json:", &format!("  - {nested}\n  - json:"), 1);
    assert!(complaint(&text).contains("line 14, column 1: steps are nested more than 16 deep"));
}

#[test]
fn plain_scalars_follow_the_core_schema() {
    let value = |text: &str| match parse_resources(&format!(
        "kind: Global\nname: x\nenvironments: {{ test: {text} }}"
    ))
    .expect("valid")
    .remove(0)
    .value
    {
        Resource::Global(global) => global.environments.into_values().next().expect("one"),
        _ => panic!("not a global"),
    };
    for (text, json) in [
        ("~", "null"),
        ("true", "true"),
        ("yes", "\"yes\""),
        ("12", "12"),
        ("-3", "-3"),
        ("0x1F", "31"),
        ("1.5e3", "1500.0"),
        ("1.2.3", "\"1.2.3\""),
        ("2026-11-24", "\"2026-11-24\""),
        ("'12'", "\"12\""),
        ("a: b", "{\"a\":\"b\"}"),
    ] {
        let text = if text.contains(": ") { format!("{{ {text} }}") } else { text.to_owned() };
        assert_eq!(value(&text).to_string(), json, "{text}");
    }
}

#[test]
fn every_kind_has_a_schema_that_names_it() {
    for kind in ["pipeline", "policy", "consumer", "global"] {
        let schema = schema(kind).expect("a schema");
        let shapes = schema["oneOf"].as_array().cloned().unwrap_or_else(|| vec![schema]);
        for schema in shapes {
            assert!(schema["properties"]["kind"]["const"].is_string(), "{kind}: {schema}");
            assert_eq!(schema["required"][0], "kind");
        }
    }
    assert_eq!(schema("secret"), None);
}

#[test]
fn the_schema_refuses_what_the_reader_refuses_of_lists_and_texts() {
    let schema = schema("pipeline").expect("a schema");
    for (part, value) in [
        ("/$defs/Methods/minItems", serde_json::json!(1)),
        ("/$defs/Methods/uniqueItems", true.into()),
        ("/$defs/Limits/minItems", 1.into()),
        (
            "/$defs/RoutePath/pattern",
            "^(/[A-Za-z0-9._~-]+)(/:?[A-Za-z0-9._~-]+)*(/\\*[A-Za-z0-9_-]+)?$".into(),
        ),
        ("/$defs/Scope/pattern", "^[!#-\\[\\]-~]{1,128}$".into()),
        ("/$defs/ChoiceStep/properties/when/minItems", 1.into()),
        ("/properties/steps/minItems", 1.into()),
    ] {
        assert_eq!(schema.pointer(part), Some(&value), "{part}");
    }
}

#[test]
fn a_slot_is_where_one_value_can_be_written() {
    let located = parse_pipeline(GOOD).expect("good");
    let at = |line, column| Position { line, column };
    for (pointer, slot) in [
        ("/trigger/apiKey", Some(Slot::Scalar(at(9, 11)))),
        ("/trigger/methods/0", Some(Slot::Scalar(at(6, 13)))),
        ("/trigger/basicAuth", Some(Slot::Absent(at(6, 3)))),
        ("/trigger/rateLimit/limits/0/burst", Some(Slot::Absent(at(12, 39)))),
        ("/trigger/jwt", None),
        ("/trigger/cors/maxAge", None),
        ("/trigger/methods/7", None),
        ("/trigger/apiKey/query", None),
        ("", None),
    ] {
        assert_eq!(located.positions.slot(pointer), slot, "{pointer}");
    }
}

#[test]
fn a_waiver_is_read_as_it_was_exported() {
    let text = "kind: Waiver\nid: wvr_00000000000000000000000000000000\npipeline: orders\nenvironment: prod\n\
                policy: external-api-access\ncode: missing-jwt\nuntil: 2030-01-31T00:00:00Z\nreason: soon\n\
                createdAt: 2030-01-01T00:00:00Z\ncreatedBy: admin\n";
    let read = |text: &str| parse_resources(text).map(|mut all| all.remove(0).value);
    let Ok(Resource::Waiver(waiver)) = read(text) else { panic!("{:?}", read(text)) };
    assert_eq!((waiver.pipeline.as_str(), waiver.policy.as_str()), ("orders", "external-api-access"));
    let endless = read(&text.replace("until: 2030-01-31T00:00:00Z\n", "")).expect_err("no end");
    assert!(endless.message.contains("until"), "{endless}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*", noise in "[-{}\\[\\]:,&*!|>'\"#%@` \n\ta-z0-9]{0,200}") {
        let _ = parse_resources(&text);
        let _ = parse_resources(&noise);
        let _ = parse_resources(&format!("{GOOD}{noise}"));
    }
}
