use serde_json::Value;

use super::*;
use crate::cli::files::Source;
use crate::cli::sarif::tests::assert_sarif;

const OPEN: &str = "kind: Pipeline\nname: NAME\nproject: store\ntrigger: { type: rest, externalApi: true }\n\
                    steps: [{ json: 1 }]\n";

fn pipeline(name: &str) -> String {
    OPEN.replace("NAME", name)
}

/// Judges files by a new realm's policies, in its two environments.
fn report(files: &[(&str, &str)]) -> Report {
    let source =
        |(file, text): &(&str, &str)| Source { file: (*file).to_owned(), text: Ok((*text).to_owned()) };
    let mut files: Vec<FileReport> = files.iter().map(source).map(open).collect();
    let book = Rulebook::from_files(&mut files, 0);
    let judge =
        book.as_ref().ok().map(|book| Judge::new(&book.policies, &book.waivers, Timestamp::UNIX_EPOCH));
    let environments: Vec<_> = match &book {
        Ok(book) => book.policies.environments().cloned().collect(),
        Err(_) => Vec::new(),
    };
    for file in &mut files {
        file.judge(&RealmName::default(), judge.as_ref(), &environments).expect("known environments");
    }
    Report { files, rules: book.map(Rulebook::rules).unwrap_or_default() }
}

fn results(document: &Value) -> &[Value] {
    document["runs"][0]["results"].as_array().expect("results")
}

#[test]
fn the_schema_refuses_what_is_no_sarif() {
    let mut document = sarif::document(&report(&[("a.yaml", &pipeline("a"))]));
    assert_sarif(&document);
    document["runs"][0]["results"][0]["level"] = "fatal".into();
    assert!(std::panic::catch_unwind(|| assert_sarif(&document)).is_err());
}

#[test]
fn sarif_names_rule_place_and_fix_of_every_violation() {
    let document = sarif::document(&report(&[("./pipelines/a.yaml", &pipeline("a"))]));
    assert_sarif(&document);
    let all = results(&document);
    assert_eq!(all.len(), 2, "one in each environment");
    let first = &all[0];
    let rules = document["runs"][0]["tool"]["driver"]["rules"].as_array().expect("rules");
    let rule = &rules[first["ruleIndex"].as_u64().expect("an index") as usize];
    assert_eq!(
        (&rule["id"], &first["ruleId"]),
        (&first["ruleId"], &"external-api-access/missing-api-key".into())
    );
    let place = &first["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "pipelines/a.yaml");
    assert_eq!(place["region"], serde_json::json!({ "startLine": 4, "startColumn": 1 }));
    let replacement = &first["fixes"][0]["artifactChanges"][0]["replacements"][0];
    assert_eq!(replacement["insertedContent"]["text"], " apiKey: true,");
    let prints: std::collections::BTreeSet<_> =
        all.iter().map(|it| it["partialFingerprints"]["tollgateFinding/v1"].as_str()).collect();
    assert_eq!(prints.len(), 2, "each has its own");
}

#[test]
fn a_fingerprint_stays_when_lines_are_added_above() {
    let print = |text: &str| {
        let document = sarif::document(&report(&[("a.yaml", text)]));
        results(&document)[0]["partialFingerprints"].clone()
    };
    assert_eq!(print(&pipeline("a")), print(&format!("# a\n# b\n{}", pipeline("a"))));
}

#[test]
fn sarif_is_valid_whatever_the_files_are() {
    let good = pipeline("a").replace("externalApi", "apiKey");
    let rule = "kind: Policy\nname: limited\ncondition: has(trigger.rateLimit)\nmessage: \"ü <&>\"\n\
                environments: { test: required, prod: advised }\n";
    for (files, findings, exit) in [
        (vec![("a.yaml", good.as_str())], 0, None),
        (vec![("a.yaml", &*pipeline("a")), ("b.yaml", &*pipeline("b"))], 4, Some(Exit::Refused)),
        (vec![("päth/日本 #%?.yaml", &*pipeline("a"))], 2, Some(Exit::Refused)),
        (vec![("/elsewhere/a b.yaml", &*pipeline("a")), ("../c.yaml", &good)], 2, Some(Exit::Refused)),
        (vec![("bad.yaml", "kind: Pipeline\nnmae: x\n"), ("b.yaml", &*pipeline("b"))], 3, Some(Exit::Failed)),
        (vec![("empty.yaml", "")], 1, Some(Exit::Failed)),
        (vec![("\u{1b}.yaml", "a: [\u{0}")], 1, Some(Exit::Failed)),
        (vec![("policy.yaml", rule), ("a.yaml", &good)], 2, Some(Exit::Refused)),
        (vec![("policy.yaml", &*rule.replace("has(", "hsa("))], 1, Some(Exit::Failed)),
        (vec![("policy.yaml", &*rule.replace("<&>", "\\u001b"))], 1, Some(Exit::Failed)),
        (
            vec![("policy.yaml", rule), ("again.yaml", rule), ("a.yaml", &*pipeline("a"))],
            1,
            Some(Exit::Failed),
        ),
        (vec![("a.yaml", &*pipeline("a").replace("1 }", "\"{{ nothing }}\" }"))], 3, Some(Exit::Failed)),
    ] {
        let report = report(&files);
        let document = sarif::document(&report);
        assert_sarif(&document);
        assert_eq!(results(&document).len(), findings, "{document:#}");
        assert_eq!(report.exit(), exit, "{files:?}");
        let xml = junit::document(&report);
        assert!(roxmltree::Document::parse(&xml).is_ok(), "{xml}");
    }
}

#[test]
fn a_waived_violation_counts_no_more_until_its_end() {
    let waiver = "kind: Waiver\nid: ID\npipeline: a\nenvironment: test\npolicy: external-api-access\n\
                  code: missing-api-key\nuntil: 1970-01-02T00:00:00Z\nreason: soon & <sure>\n\
                  createdAt: 1970-01-01T00:00:00Z\ncreatedBy: admin\n";
    let id = tollgate_model::ids::WaiverId::new(Timestamp::UNIX_EPOCH, [1; 10]);
    let waiver = waiver.replace("ID", &id.to_string());
    let ended = waiver.replace("1970-01-02", "1969-01-01");
    for (waiver, counted, waived) in [(&waiver, 1, 1), (&ended, 2, 0)] {
        let report = report(&[("policies.yaml", waiver), ("a.yaml", &pipeline("a"))]);
        let document = text::document(&report);
        assert_eq!(document["waived"], waived);
        assert_eq!(report.findings().filter(|(_, _, finding)| finding.counts()).count(), counted);
        let sarif = sarif::document(&report);
        assert_sarif(&sarif);
        let suppressed = results(&sarif).iter().filter(|it| it.get("suppressions").is_some()).count();
        assert_eq!(suppressed, waived);
        let xml = junit::document(&report);
        let parsed = roxmltree::Document::parse(&xml).expect("XML");
        assert_eq!(parsed.root_element().attribute("skipped"), Some(&*waived.to_string()), "{xml}");
    }
}

#[test]
fn junit_has_a_case_for_each_pipeline_and_environment() {
    let report = report(&[
        ("a.yaml", &pipeline("a")),
        ("b.yaml", &pipeline("b").replace("externalApi", "apiKey")),
        ("bad.yaml", "kind: Pipelin\n"),
    ]);
    let xml = junit::document(&report);
    let document = roxmltree::Document::parse(&xml).expect("XML");
    let root = document.root_element();
    let counts: Vec<_> = ["tests", "failures", "errors", "skipped"].map(|it| root.attribute(it)).into();
    assert_eq!(counts, [Some("5"), Some("2"), Some("1"), Some("0")]);
    let suites: Vec<_> = root.children().filter(|it| it.has_tag_name("testsuite")).collect();
    assert_eq!(suites.len(), 3);
    let cases: Vec<_> = document
        .descendants()
        .filter_map(|it| it.attribute("name").filter(|_| it.has_tag_name("testcase")))
        .collect();
    assert_eq!(cases, ["a in prod", "a in test", "b in prod", "b in test", "is valid"]);
    let failure = document.descendants().find(|it| it.has_tag_name("failure")).expect("a failure");
    assert_eq!(failure.attribute("message"), Some("Missing external API Key"));
    assert!(
        failure.text().is_some_and(|text| text.starts_with("a.yaml:4:1: Missing external API Key")),
        "{xml}"
    );
}

#[test]
fn a_broken_file_keeps_no_other_from_being_judged() {
    let report = report(&[("bad.yaml", "kind: Pipelin\n"), ("a.yaml", &pipeline("a"))]);
    let lines = text::lines(&report);
    assert!(
        lines.starts_with("bad.yaml:1:1: there is no kind `Pipelin` (did you mean `Pipeline`?)\n"),
        "{lines}"
    );
    assert_eq!(lines.matches("Missing external API Key").count(), 2, "{lines}");
    assert_eq!(
        (report.exit(), text::document(&report)["compiles"].clone()),
        (Some(Exit::Failed), false.into())
    );
}

#[test]
fn nothing_is_judged_by_policies_that_do_not_parse() {
    let source = |text: &str| open(Source { file: "f.yaml".to_owned(), text: Ok(text.to_owned()) });
    let mut files = [source("kind: Policy\nname: enforcement\n"), source(&pipeline("a"))];
    assert!(Rulebook::from_files(&mut files, 1).is_err(), "it was given as the policies");
    assert!(Rulebook::from_files(&mut files, 0).is_ok(), "it is one of the files to check, and a finding");
}

#[test]
fn only_what_was_given_as_policies_waives_and_it_has_a_policy() {
    let source = |text: &str| open(Source { file: "f.yaml".to_owned(), text: Ok(text.to_owned()) });
    let policy = "kind: Policy\nname: external-api-access\nenvironments: { test: any, prod: any }\n";
    let id = tollgate_model::ids::WaiverId::new(Timestamp::UNIX_EPOCH, [1; 10]);
    let waiver = format!(
        "kind: Waiver\nid: {id}\npipeline: a\nenvironment: test\npolicy: external-api-access\n\
         code: missing-api-key\nuntil: 1970-01-02T00:00:00Z\nreason: mine\n\
         createdAt: 1970-01-01T00:00:00Z\ncreatedBy: me\n"
    );
    let waivers = |files: &mut [FileReport], leading| {
        Rulebook::from_files(files, leading).ok().map(|book| book.waivers.len())
    };
    assert_eq!(waivers(&mut [source(policy), source(&waiver)], 1), Some(0), "written beside the pipeline");
    assert_eq!(waivers(&mut [source(policy), source(&waiver)], 0), Some(1));
    assert_eq!(waivers(&mut [source(&format!("{policy}---\n{waiver}"))], 1), Some(1));
    let mut wrong = [source(&pipeline("a")), source(&pipeline("b"))];
    assert!(Rulebook::from_files(&mut wrong, 1).is_err(), "a file of pipelines was given as policies");
    assert!(wrong[0].problems[0].message.contains("there is no policy"));
}

#[test]
fn a_file_is_known_by_any_of_its_paths() {
    assert!(is_same("Cargo.toml", "./src/../Cargo.toml"));
    assert!(!is_same("Cargo.toml", "src/main.rs") && !is_same("<stdin>", "missing"));
}

#[test]
fn an_export_of_other_environments_is_judged_in_those() {
    let staging = EnvironmentName::parse("staging").expect("a slug");
    let policies = tollgate_model::policies::Policies::initial(&[staging].into());
    let export: Vec<String> = policies
        .policies()
        .map(|policy| crate::output::yaml(&files::with_kind("Policy", serde_json::json!(policy))))
        .collect();
    let report = report(&[("policies.yaml", &export.join("---\n")), ("a.yaml", &pipeline("a"))]);
    let environments: Vec<_> =
        report.findings().filter_map(|(_, case, _)| case?.environment.clone()).collect();
    assert_eq!(environments.iter().map(EnvironmentName::as_str).collect::<Vec<_>>(), ["staging"]);
}
