use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use tollgate_model::environments::Exposure;
use tollgate_model::objects::Kind;
use tollgate_model::policies::Policies;

use super::*;
use crate::samples::*;
use crate::{Builder, Endpoint, Snapshot};

const DATE: &str = "2026-02-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn endpoint(snapshot: &Snapshot, name: &str) -> Arc<Endpoint> {
    let routes = snapshot.listener(&EnvironmentName::test(), Exposure::External).expect("a listener");
    routes.find(&format!("/pipeline/default/v1/{name}")).expect("found").endpoint.clone()
}

fn from(builder: &Builder, name: &str) -> Option<Timestamp> {
    let snapshot = builder.current();
    let enforced = endpoint(&snapshot, name).enforced.clone().expect("judged");
    enforced.map(|enforced| enforced.from)
}

/// `open` demands no key, `keyed` does; both run in `test`.
fn running(policies: crate::ObjectChange) -> Builder {
    let keyed = json!({ "type": "rest", "externalApi": true, "apiKey": true });
    builder(vec![
        environment("test"),
        signing_key("test"),
        version("open", 0, &json!({ "type": "rest", "externalApi": true }), &steps()),
        version("keyed", 0, &keyed, &steps()),
        deployment("test", "open", 0),
        deployment("test", "keyed", 0),
        policies,
    ])
}

#[test]
fn calls_are_refused_from_the_date_where_a_deployment_does_not_conform_and_nowhere_else() {
    let builder = running(enforced_from(DATE));
    assert_eq!(from(&builder, "open"), Some(at(DATE)));
    assert_eq!(from(&builder, "keyed"), None);
    assert_eq!(from(&running(policies("", &json!(null))), "open"), None, "only what is deployed is judged");
}

#[test]
fn callers_are_told_in_the_forms_of_the_standards() {
    let builder = running(enforced_from(DATE));
    let snapshot = builder.current();
    let enforced = endpoint(&snapshot, "open").enforced.clone().expect("judged").expect("does not conform");
    assert_eq!(enforced.deprecation, "@1767225600", "RFC 9745 section 2.1");
    assert_eq!(enforced.sunset, "Sun, 01 Feb 2026 00:00:00 GMT", "RFC 8594 section 3");
    assert_eq!(
        enforced.reason(at(DATE)),
        "Missing external API Key (policy external-api-access, environment test): set /trigger/apiKey to true, \
         or /trigger/mtls where callers show client certificates"
    );
}

#[test]
fn a_waiver_puts_the_refusal_off_until_it_ends() {
    let mut builder = running(enforced_from(DATE));
    builder.apply(2, vec![waiver("open", 1, "2026-03-01T00:00:00Z")]);
    assert_eq!(from(&builder, "open"), Some(at("2026-03-01T00:00:00Z")));
    builder.apply(3, vec![waiver("open", 2, "2026-01-15T00:00:00Z")]);
    assert_eq!(from(&builder, "open"), Some(at("2026-03-01T00:00:00Z")), "the one that lasts longer counts");
    builder.apply(4, vec![delete(Kind::Waiver, &waiver("open", 1, DATE).key)]);
    assert_eq!(from(&builder, "open"), Some(at(DATE)), "one that ends before the date changes nothing");
    builder.apply(5, vec![put(Kind::Waiver, &waiver("open", 2, DATE).key, &json!("does not parse"))]);
    assert_eq!(from(&builder, "open"), Some(at(DATE)));
    assert_eq!(builder.current().problems().len(), 1);
}

#[test]
fn a_change_of_policies_or_waivers_compiles_no_flow_and_leaves_alone_what_stands_as_before() {
    let mut builder = running(policies("", &json!(null)));
    let before = builder.current();
    let changes = [enforced_from(DATE), waiver("open", 1, "2026-03-01T00:00:00Z")];
    for (n, change) in changes.into_iter().enumerate() {
        let after = builder.apply(2 + n as u64, vec![change]);
        let flow = |snapshot: &Snapshot| endpoint(snapshot, "open").flow.clone().expect("compiles");
        assert!(Arc::ptr_eq(&flow(&before), &flow(&after)));
        assert!(Arc::ptr_eq(&endpoint(&before, "keyed"), &endpoint(&after, "keyed")));
    }
    assert!(from(&builder, "open").is_some());
}

#[test]
fn without_policies_that_can_be_read_nobody_is_let_in_and_the_log_is_told() {
    let unreadable = put(Kind::Policies, "current", &json!({ "from": "a newer version" }));
    for change in [unreadable, delete(Kind::Policies, "current")] {
        let mut builder = running(enforced_from(DATE));
        let snapshot = builder.apply(2, vec![change]);
        assert!(endpoint(&snapshot, "keyed").enforced.is_err());
        let scope = snapshot.scope(&realm(), &EnvironmentName::test()).expect("a scope");
        assert!(scope.sensitive_fields.is_err());
        assert_eq!(snapshot.problems().len(), 1, "{:?}", snapshot.problems());
        let snapshot = builder.apply(3, vec![enforced_from(DATE)]);
        assert!(endpoint(&snapshot, "keyed").enforced.is_ok());
    }
}

proptest! {
    /// The snapshot is judged once; a judge at the moment of the call must not see it otherwise.
    #[test]
    fn what_was_judged_once_is_what_a_judge_says_at_any_moment(
        waivers in proptest::collection::vec((0..2_u8, 0..6_i64), 0..5),
        hours in 0..7_i64,
        demands_token in any::<bool>(),
    ) {
        let day = at(DATE);
        let policies: Policies = serde_json::from_str(
            &policies("external-api-access", &json!(if demands_token { "jwt-with-api-key" } else { "api-key" }))
                .body.expect("a body")).expect("policies");
        let waivers: Vec<Waiver> = waivers.into_iter().enumerate().map(|(n, (code, until))| {
            let until = day + jiff::SignedDuration::from_hours(until);
            let body = waiver("open", n as u8, &until.to_string()).body.expect("a body");
            let body = if code == 0 { body } else { body.replace("missing-api-key", "missing-jwt") };
            serde_json::from_str(&body).expect("a waiver")
        }).collect();
        let pipeline: Pipeline = serde_json::from_value(json!({ "name": "open", "project": "store",
            "trigger": { "type": "rest", "externalApi": true }, "steps": steps() })).expect("a pipeline");
        let now = day + jiff::SignedDuration::from_hours(hours);
        let test = EnvironmentName::test();
        let then = Judge::new(&policies, &waivers, now).verdict(&pipeline, &test).expect("known").conforms();
        let law = Law::new(policies.clone(), waivers);
        let date = AtGateway { at_gateway: Timestamp::UNIX_EPOCH, announced_at: None };
        let once = enforced(&law.judge(), &pipeline, &test, date).expect("writable").expect("not for good");
        prop_assert_eq!(once.from <= now, !then);
        prop_assert_eq!(once.reason(now).is_empty(), then);
    }
}
