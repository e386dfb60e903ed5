use std::collections::BTreeSet;

use serde_json::json;
use tollgate_model::ids::WaiverId;
use tollgate_model::policies::{AccessPolicyFile, LoginFlowRules, LoginFlowsFile, Policy};

use super::*;
use crate::apply_fix;

/// The switches of a trigger, and whether its flow is a login flow.
#[derive(Debug, Clone, Copy)]
struct Switches {
    kind: u8,
    external: bool,
    internal: bool,
    api_key: bool,
    mtls: bool,
    jwt: bool,
    basic: bool,
    login: bool,
}

fn pipeline(it: Switches) -> Pipeline {
    let trigger = match it.kind {
        0 => json!({ "type": "scheduler", "cron": "0 6 * * *" }),
        kind => json!({
            "type": if kind == 1 { "rest" } else { "http" }, "externalApi": it.external, "internalApi": it.internal,
            "apiKey": if it.api_key && it.basic { json!({ "query": true }) } else { json!(it.api_key) },
            "mtls": it.mtls,
            "jwt": if it.jwt { json!({ "scopes": ["a:b"] }) } else { json!(false) },
            "basicAuth": it.basic && !it.jwt,
        }),
    };
    let steps =
        if it.login { json!([{ "jwtGenerate": { "expiresInMs": 1000 } }]) } else { json!([{ "json": {} }]) };
    serde_json::from_value(json!({ "name": "p", "project": "store", "trigger": trigger, "steps": steps }))
        .expect("a pipeline")
}

fn policies(external: [AccessRequirement; 2], internal: [AccessRequirement; 2]) -> Policies {
    let names = [EnvironmentName::test(), EnvironmentName::prod()];
    let policy = |name: AccessPolicy, of: [AccessRequirement; 2]| {
        let environments = names.iter().cloned().zip(of).collect();
        Policy::Access(AccessPolicyFile { name, environments })
    };
    // Login flows are governed by rules of their own, which have tests of their own.
    let lenient = LoginFlowRules { api_key: false, named_claims: false, ..LoginFlowRules::long_lived() };
    let login_flows = names.iter().map(|name| (name.clone(), lenient)).collect();
    Policies::initial(&BTreeSet::from(names.clone()))
        .replace(policy(AccessPolicy::ExternalApiAccess, external))
        .and_then(|policies| policies.replace(policy(AccessPolicy::InternalApiAccess, internal)))
        .and_then(|policies| policies.replace(Policy::LoginFlows(LoginFlowsFile::new(login_flows))))
        .expect("names every environment")
}

fn judge(
    policies: &Policies,
    pipeline: &Pipeline,
    environment: &EnvironmentName,
) -> Result<Verdict, UnknownEnvironment> {
    Judge::new(policies, &[], Timestamp::UNIX_EPOCH).verdict(pipeline, environment)
}

fn admit(
    policies: &Policies,
    pipeline: &Pipeline,
    environment: &EnvironmentName,
) -> Result<Admission, AdmitError> {
    Judge::new(policies, &[], Timestamp::UNIX_EPOCH).admit(pipeline, environment)
}

/// The table of the design, written down a second time and without cleverness.
fn oracle(requirement: AccessRequirement, open: bool, it: Switches) -> BTreeSet<&'static str> {
    let mut missing = BTreeSet::new();
    if it.kind == 0 || !open {
        return missing;
    }
    if requirement == AccessRequirement::ApiKey && !it.api_key && !it.mtls {
        missing.insert("API Key");
    }
    if requirement == AccessRequirement::JwtWithApiKey {
        if !it.api_key && !it.mtls {
            missing.insert("API Key");
        }
        if !it.jwt && !it.login {
            missing.insert("JWT");
        }
    }
    missing
}

fn every_trigger() -> Vec<Switches> {
    let bits = |n: u32, i: u32| n >> i & 1 == 1;
    (0..3)
        .flat_map(|kind| {
            (0..128).map(move |n| Switches {
                kind,
                external: bits(n, 0),
                internal: bits(n, 1),
                api_key: bits(n, 2),
                jwt: bits(n, 3),
                basic: bits(n, 4),
                login: bits(n, 5),
                mtls: bits(n, 6),
            })
        })
        .collect()
}

#[test]
fn every_verdict_is_the_one_of_the_table() {
    for external in AccessRequirement::ALL {
        for internal in AccessRequirement::ALL {
            for it in every_trigger() {
                // The other environment has other values, so that a mix-up shows.
                let policies = policies([external, internal], [internal, external]);
                for (environment, external, internal) in [
                    (EnvironmentName::test(), external, internal),
                    (EnvironmentName::prod(), internal, external),
                ] {
                    let verdict = judge(&policies, &pipeline(it), &environment).expect("known");
                    let expected: BTreeSet<String> = oracle(external, it.external, it)
                        .into_iter()
                        .map(|what| format!("Missing external {what}"))
                        .chain(
                            oracle(internal, it.internal, it)
                                .into_iter()
                                .map(|what| format!("Missing internal {what}")),
                        )
                        .collect();
                    let found: BTreeSet<String> =
                        verdict.violations.iter().map(|v| v.message.clone()).collect();
                    assert_eq!(found, expected, "{it:?} in {environment}: {external} {internal}");
                    assert_eq!(found.len(), verdict.violations.len(), "a violation stands twice");
                }
            }
        }
    }
}

#[test]
fn a_fix_removes_its_violation_and_all_fixes_make_the_pipeline_conform() {
    let environment = EnvironmentName::prod();
    for external in AccessRequirement::ALL {
        for internal in AccessRequirement::ALL {
            // The other environment has other values, so that a mix-up shows.
            let policies = policies([internal, external], [external, internal]);
            for it in every_trigger() {
                let mut mended = pipeline(it);
                let before = judge(&policies, &mended, &environment).expect("known").violations;
                for violation in &before {
                    let once = apply_fix(&mended, violation).expect("fits");
                    let left = judge(&policies, &once, &environment).expect("known").violations;
                    assert!(!left.contains(violation), "{violation} is still there: {it:?}");
                    assert!(left.iter().all(|left| before.contains(left)), "a fix breaks something: {it:?}");
                    // What the violation says to set, set in the file, does the same.
                    let mut file = serde_json::to_value(&mended).expect("json");
                    *file.pointer_mut(&violation.pointer).expect("the setting is there") =
                        violation.fix.clone();
                    if violation.pointer == "/trigger/jwt" {
                        file["trigger"]["basicAuth"] = false.into();
                    }
                    assert_eq!(serde_json::from_value::<Pipeline>(file).expect("a pipeline"), once);
                }
                for violation in &before {
                    mended = apply_fix(&mended, violation).expect("fits");
                }
                assert!(admit(&policies, &mended, &environment).is_ok(), "{it:?}");
                let file = serde_json::to_value(&mended).expect("json");
                let reread: Pipeline = serde_json::from_value(file).expect("the fixed pipeline can be saved");
                assert_eq!(reread, mended);
            }
        }
    }
}

#[test]
fn a_violation_names_the_switch_and_the_value_that_mend_it() {
    let it = Switches {
        kind: 1,
        external: true,
        internal: false,
        api_key: false,
        mtls: false,
        jwt: false,
        basic: false,
        login: false,
    };
    let policies = policies([AccessRequirement::JwtWithApiKey; 2], [AccessRequirement::Any; 2]);
    let Err(AdmitError::Refused(refusal)) = admit(&policies, &pipeline(it), &EnvironmentName::prod()) else {
        panic!("admitted")
    };
    let lines: Vec<String> = refusal.verdict.violations.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "Missing external API Key (policy external-api-access, environment prod): set /trigger/apiKey to true, \
             or /trigger/mtls where callers show client certificates",
            "Missing external JWT (policy external-api-access, environment prod): set /trigger/jwt to true",
        ]
    );
}

#[test]
fn an_environment_without_a_value_is_never_admitted() {
    let policies = policies([AccessRequirement::Any; 2], [AccessRequirement::Any; 2]);
    let moon = EnvironmentName::parse("moon").expect("a slug");
    for it in every_trigger() {
        assert!(admit(&policies, &pipeline(it), &moon).is_err());
    }
}

fn rule(mode: &str, condition: &str, fix: serde_json::Value) -> Policy {
    serde_json::from_value(json!({ "name": "needs-rate-limit", "condition": condition, "message": "prod needs a rate limit",
        "fix": { "pointer": "/trigger/rateLimit", "value": fix }, "environments": { "test": "off", "prod": mode } }))
    .expect("a rule")
}

#[test]
fn a_required_rule_refuses_an_advised_one_advises_and_both_say_what_mends_it() {
    let keyed = pipeline(Switches {
        kind: 1,
        external: true,
        internal: false,
        api_key: true,
        mtls: false,
        jwt: false,
        basic: false,
        login: false,
    });
    let limit = json!({ "limits": [{ "interval": "minute", "limit": 600 }] });
    let with = |mode: &str, condition: &str| {
        policies([AccessRequirement::ApiKey; 2], [AccessRequirement::Any; 2])
            .replace(rule(mode, condition, limit.clone()))
            .expect("valid")
    };
    let condition = "!trigger.externalApi || has(trigger.rateLimit)";
    let (test, prod) = (EnvironmentName::test(), EnvironmentName::prod());
    let required = with("required", condition);
    assert!(judge(&required, &keyed, &test).expect("known").conforms());
    let verdict = judge(&required, &keyed, &prod).expect("known");
    assert_eq!(
        verdict.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["prod needs a rate limit (policy needs-rate-limit, environment prod): set /trigger/rateLimit to \
          {\"limits\":[{\"interval\":\"minute\",\"limit\":600}]}"]
    );
    let mended = apply_fix(&keyed, &verdict.violations[0]).expect("fits");
    assert!(judge(&required, &mended, &prod).expect("known").conforms());

    let advised = judge(&with("advised", condition), &keyed, &prod).expect("known");
    assert!(advised.conforms() && advised.advice.iter().any(|advice| advice.contains("needs-rate-limit")));

    // What cannot be evaluated is refused, and no value is offered that might not mend it.
    let broken =
        judge(&with("required", "trigger.rateLimit.by == 'consumer'"), &keyed, &prod).expect("known");
    assert_eq!(broken.violations.iter().map(|it| it.code).collect::<Vec<_>>(), [ViolationCode::BrokenRule]);
    assert!(broken.violations[0].fix.is_null());
}

#[test]
fn a_waiver_lets_one_violation_of_one_pipeline_pass_until_its_end() {
    let open = pipeline(Switches {
        kind: 1,
        external: true,
        internal: false,
        api_key: false,
        mtls: false,
        jwt: false,
        basic: false,
        login: false,
    });
    let policies = policies([AccessRequirement::JwtWithApiKey; 2], [AccessRequirement::Any; 2]);
    let at = |second| Timestamp::from_second(second).expect("in range");
    let prod = EnvironmentName::prod();
    let waiver = Waiver {
        id: WaiverId::new(at(0), [1; 10]),
        pipeline: open.name.clone(),
        environment: prod.clone(),
        policy: PolicyName::Access(AccessPolicy::ExternalApiAccess),
        code: ViolationCode::MissingJwt,
        until: at(100),
        reason: "the shop cannot yet".to_owned(),
        created_at: at(0),
        created_by: "admin".to_owned(),
        approved_by: None,
    };
    let judged = |waiver: &Waiver, now: i64, environment: &EnvironmentName| {
        let waivers = [waiver.clone()];
        let verdict = Judge::new(&policies, &waivers, at(now)).verdict(&open, environment).expect("known");
        (verdict.violations.len(), verdict.waived.len(), verdict.breaks_from())
    };
    assert_eq!(judged(&waiver, 0, &prod), (1, 1, Some(Timestamp::MIN)), "the key is still missing");
    assert_eq!(judged(&waiver, 0, &EnvironmentName::test()).1, 0, "another environment");
    let other = Waiver { pipeline: "q".parse().expect("a slug"), ..waiver.clone() };
    assert_eq!(judged(&other, 0, &prod).1, 0, "another pipeline");
    let other = Waiver { code: ViolationCode::MissingApiKey, ..waiver.clone() };
    let both = [waiver.clone(), other];
    let verdict = |now| Judge::new(&policies, &both, at(now)).verdict(&open, &prod).expect("known");
    assert!(verdict(99).conforms());
    assert_eq!(verdict(99).breaks_from(), Some(at(100)), "it ends by itself");
    assert_eq!(verdict(100).violations.len(), 2, "the end is no longer covered");
}
