use serde_json::json;

use super::*;

fn realm() -> Policies {
    Policies::initial(&BTreeSet::from([EnvironmentName::test(), EnvironmentName::prod()]))
}

fn external(environments: serde_json::Value) -> Policy {
    serde_json::from_value(json!({ "name": "external-api-access", "environments": environments }))
        .expect("a policy")
}

fn rule(environments: serde_json::Value) -> Policy {
    serde_json::from_value(json!({ "name": "no-schedules", "condition": "trigger.type != 'scheduler'",
        "message": "no schedules here", "environments": environments }))
    .expect("a policy")
}

#[test]
fn a_new_realm_demands_api_keys_everywhere() {
    for policy in AccessPolicy::ALL {
        for environment in [EnvironmentName::test(), EnvironmentName::prod()] {
            assert_eq!(realm().requirement(policy, &environment), Some(AccessRequirement::ApiKey));
        }
    }
    let prod = realm().login_flow_rules(&EnvironmentName::prod()).expect("known");
    assert_eq!(prod.max_token_lifetime_ms.get(), 24 * 60 * 60 * 1000);
}

#[test]
fn no_environment_can_be_left_out_or_invented() {
    let only_test = external(json!({ "test": "any" }));
    let error = realm().replace(only_test.clone()).expect_err("prod is left out");
    assert_eq!(
        error.to_string(),
        "policy `external-api-access` has no value for `prod`: give every environment one of `api-key`, \
         `jwt-with-api-key`, `any`"
    );
    let changed = realm().change(only_test).expect("keeps prod");
    assert_eq!(changed.version().to_string(), "1.1");
    assert!(realm().change(external(json!({ "moon": "any" }))).is_err());
    assert!(
        realm().replace(rule(json!({ "test": "required" }))).is_err(),
        "a rule needs every environment, too"
    );
}

#[test]
fn stored_policies_that_leave_out_an_environment_or_a_policy_do_not_parse() {
    let stored = serde_json::to_value(realm()).expect("json");
    let policies: Policies = serde_json::from_value(stored.clone()).expect("reads");
    assert_eq!(policies, realm());
    for index in 0..PolicyName::BUILT_IN.len() {
        let mut less = stored.clone();
        less["policies"].as_array_mut().expect("a list").remove(index);
        assert!(serde_json::from_value::<Policies>(less).is_err(), "without policy {index}");
        let mut less = stored.clone();
        less["policies"][index]["environments"].as_object_mut().expect("a map").remove("test");
        assert!(serde_json::from_value::<Policies>(less).is_err(), "policy {index} without test");
        let mut twice = stored.clone();
        let again = twice["policies"][index].clone();
        twice["policies"].as_array_mut().expect("a list").push(again);
        assert!(serde_json::from_value::<Policies>(twice).is_err(), "policy {index} twice");
    }
}

#[test]
fn a_restored_version_fits_the_environments_of_today() {
    let staging = EnvironmentName::parse("staging").expect("a slug");
    let strict = realm()
        .change(external(json!({ "prod": "jwt-with-api-key" })))
        .and_then(|it| it.replace(rule(json!({ "test": "off", "prod": "required" }))))
        .expect("valid");
    let today = strict
        .without_rule(&RuleName::parse("no-schedules").expect("a slug"))
        .and_then(|it| it.change(external(json!({ "prod": "any" }))))
        .and_then(|it| it.with_environment(&staging, &BTreeMap::new()))
        .and_then(|it| it.without_environment(&EnvironmentName::test()))
        .expect("valid");
    let restored = today.restored(&strict, Timestamp::UNIX_EPOCH);
    assert_eq!(restored.version(), today.version().next_minor());
    let value = |name| restored.requirement(AccessPolicy::ExternalApiAccess, &name);
    assert_eq!(value(EnvironmentName::prod()), Some(AccessRequirement::JwtWithApiKey));
    assert_eq!(value(staging.clone()), Some(AccessRequirement::ApiKey));
    assert_eq!(value(EnvironmentName::test()), None);
    let rule = restored.rules().next().expect("the rule is back");
    assert_eq!(rule.environments.get(&staging), Some(&RuleMode::Off));
    let read: Policies =
        serde_json::from_value(serde_json::to_value(&restored).expect("json")).expect("still whole");
    assert_eq!(read, restored);
}

#[test]
fn a_new_environment_has_a_value_for_every_policy() {
    let staging = EnvironmentName::parse("staging").expect("a slug");
    let realm = realm().replace(rule(json!({ "test": "advised", "prod": "required" }))).expect("valid");
    let access = BTreeMap::from([(AccessPolicy::ExternalApiAccess, AccessRequirement::Any)]);
    let grown = realm.with_environment(&staging, &access).expect("new");
    assert!(grown.policies().all(|policy| policy.value(&staging).is_some()));
    assert_eq!(grown.requirement(AccessPolicy::ExternalApiAccess, &staging), Some(AccessRequirement::Any));
    assert_eq!(
        grown.rules().next().and_then(|rule| rule.environments.get(&staging)),
        Some(&RuleMode::Required)
    );
    assert!(grown.with_environment(&staging, &access).is_err(), "it is there already");
}

#[test]
fn enforcement_is_a_word_or_a_date() {
    let read = |value: serde_json::Value| serde_json::from_value::<Enforcement>(value);
    assert_eq!(read(json!("atDeploy")).expect("a word"), Enforcement::AtDeploy);
    let date = json!({ "atGateway": "2030-01-31T00:00:00Z" });
    let at = read(date.clone()).expect("a date");
    assert_eq!(serde_json::to_value(at).expect("json"), date);
    for bad in [json!("atGateway"), json!({}), json!({ "atGateway": "tomorrow" }), json!(true), json!(null)] {
        assert!(read(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn a_restored_date_counts_as_announced_when_it_is_restored() {
    let dated = |announced: &str| -> Policy {
        let prod = json!({ "atGateway": "2030-01-31T00:00:00Z", "announcedAt": announced });
        serde_json::from_value(
            json!({ "name": "enforcement", "environments": { "test": "atDeploy", "prod": prod } }),
        )
        .expect("a policy")
    };
    let at_deploy: Policy = serde_json::from_value(
        json!({ "name": "enforcement", "environments": { "test": "atDeploy", "prod": "atDeploy" } }),
    )
    .expect("a policy");
    let announced = |policies: &Policies| {
        policies
            .enforcement(&EnvironmentName::prod())
            .and_then(Enforcement::at_gateway)
            .and_then(|it| it.announced_at)
    };
    let (told, now): (Timestamp, Timestamp) =
        ("2029-01-01T00:00:00Z".parse().expect("a time"), "2029-06-01T00:00:00Z".parse().expect("a time"));
    let earlier = realm().replace(dated("2029-01-01T00:00:00Z")).expect("valid");
    let withdrawn = earlier.replace(at_deploy).expect("valid");
    assert_eq!(announced(&withdrawn.restored(&earlier, now)), Some(now), "it was withdrawn in between");
    assert_eq!(announced(&earlier.restored(&earlier, now)), Some(told), "it was never withdrawn");
    let passed = "2031-01-01T00:00:00Z".parse().expect("a time");
    assert_eq!(announced(&withdrawn.restored(&earlier, passed)), None, "it would refuse calls at once");
}
