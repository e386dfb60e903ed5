//! The pages of policies.

use tollgate_model::environments::{FourEyes, RealmSettings};

use crate::world::World;

const EDIT: &str = "/realms/default/policies/external-api-access/edit";

#[tokio::test]
async fn a_change_is_saved_once_its_name_is_typed_and_never_over_a_newer_one() {
    let world = World::start().await;
    let before = world.app.policies().get(&world.op).await.unwrap();
    let revision = before.revision.to_string();
    let form = |confirmation| {
        [
            ("revision", revision.as_str()),
            ("prod", "jwt-with-api-key"),
            ("test", "api-key"),
            ("reason", "tokens <b>from now on</b>"),
            ("confirmation", confirmation),
        ]
    };

    let reply = world.post(EDIT, &form("external")).await;
    assert_eq!(reply.status, 422);
    assert!(reply.text.contains("Nothing was saved"), "{}", reply.text);
    assert!(reply.text.contains("value=\"jwt-with-api-key\" checked"), "what was chosen stays chosen");
    assert!(reply.text.contains("prod: tightens"), "its impact is in sight");
    assert_eq!(world.app.policies().get(&world.op).await.unwrap().revision, before.revision);

    let reply = world.post(EDIT, &form("external-api-access")).await;
    assert_eq!((reply.status, reply.header("location")), (303, "/realms/default/policies?saved=1.1"));
    let page = world.get(reply.header("location")).await.text;
    assert!(page.contains("Saved as policy version 1.1") && page.contains("JWT with API Key required"));
    assert!(page.contains("tokens &#60;b&#62;from now on"), "what people write is text: {page}");

    let late = world.post(EDIT, &form("external-api-access")).await;
    assert_eq!(late.status, 412);
    assert!(late.text.contains("changed by somebody else"), "{}", late.text);
    let forged = world.get("/realms/default/policies?saved=9.9").await.text;
    assert!(!forged.contains("Saved as"), "an address alone claims nothing");
}

#[tokio::test]
async fn what_is_no_policy_environment_or_value_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let before = world.app.policies().get(&world.op).await.unwrap();
    for (path, fields, status) in [
        ("/realms/default/policies/external-api-access/impact", [("nowhere", "any")], 422),
        ("/realms/default/policies/external-api-access/impact", [("test", "nothing")], 422),
        ("/realms/default/policies/made-up/impact", [("test", "any")], 404),
        ("/realms/none/policies/external-api-access/impact", [("test", "any")], 404),
    ] {
        assert_eq!(world.post(path, &fields).await.status, status, "{path} {fields:?}");
    }
    assert_eq!(world.get("/realms/default/policies/conformance/nowhere").await.status, 404);
    assert_eq!(world.app.policies().get(&world.op).await.unwrap().revision, before.revision);
}

#[tokio::test]
async fn a_preview_says_what_would_change_and_saves_nothing() {
    let world = World::start().await;
    let path = "/realms/default/policies/external-api-access/impact";
    let reply = world.post(path, &[("test", "any"), ("prod", "api-key")]).await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.text.contains("test: weakens") && reply.text.contains("prod: nothing changes"),
        "{}",
        reply.text
    );
    assert!(!reply.text.contains("<html"), "only the part that changes");
}

#[tokio::test]
async fn an_earlier_version_is_compared_and_brought_back() {
    let world = World::start().await;
    let revision = world.app.policies().get(&world.op).await.unwrap().revision.to_string();
    let form = [("revision", revision.as_str()), ("test", "any"), ("confirmation", "external-api-access")];
    world.post(EDIT, &form).await;
    let path = "/realms/default/policy-versions/1.0";
    let page = world.get(path).await.text;
    assert!(page.contains("external-api-access in test") && page.contains("test: tightens"), "{page}");
    let revision = world.app.policies().get(&world.op).await.unwrap().revision.to_string();
    let refused = world.post(path, &[("revision", &revision), ("confirmation", "1.1")]).await;
    assert_eq!(refused.status, 422);
    let late = world.post(path, &[("revision", "1"), ("confirmation", "1.0")]).await;
    assert_eq!(late.status, 412);
    let restored = world.post(path, &[("revision", &revision), ("confirmation", "1.0")]).await;
    assert_eq!(restored.header("location"), "/realms/default/policies?saved=1.2");
    assert!(world.get("/realms/default/policy-versions").await.text.contains("version 1.0 restored"));
    assert_eq!(world.get("/realms/default/policy-versions/9.9").await.status, 404);
}

#[tokio::test]
async fn where_a_second_person_is_wanted_a_change_is_asked_for_and_not_saved() {
    let world = World::start().await;
    let four_eyes = FourEyes { policies: true, waivers: false };
    let settings = RealmSettings { four_eyes, ..RealmSettings::default() };
    world.app.realms().update(&world.op, settings, None).await.expect("set");
    let before = world.app.policies().get(&world.op).await.expect("policies");
    let revision = before.revision.to_string();
    let form = |revision| {
        [
            ("revision", revision),
            ("test", "any"),
            ("reason", "a partner asks"),
            ("confirmation", "external-api-access"),
        ]
    };
    let path = "/realms/default/policies/external-api-access/edit";
    let stale = world.post(path, &form("999")).await;
    assert_eq!(stale.status, 412);
    let asked = world.post(path, &form(&revision)).await;
    assert_eq!(asked.status, 303);
    let location = asked.header("location");
    assert!(location.starts_with("/realms/default/change-requests/chg_"), "{location}");
    let page = world.get(location).await;
    assert!(page.text.contains("Asked for. Nothing was changed yet"), "{}", page.text);
    let other = world.get(&location.replace("done=asked", "done=approved")).await;
    assert!(!other.text.contains("the change was made"), "what is not so is not shown");
    assert!(world.get(path).await.text.contains("Ask for this change"), "it is said before");
    assert_eq!(world.app.policies().get(&world.op).await.expect("policies"), before);
}

#[tokio::test]
async fn an_earlier_version_is_asked_for_where_a_second_person_is_wanted() {
    let world = World::start().await;
    let revision = world.app.policies().get(&world.op).await.unwrap().revision.to_string();
    let form = [("revision", revision.as_str()), ("test", "any"), ("confirmation", "external-api-access")];
    world.post(EDIT, &form).await;
    let four_eyes = FourEyes { policies: true, waivers: false };
    let settings = RealmSettings { four_eyes, ..RealmSettings::default() };
    world.app.realms().update(&world.op, settings, None).await.expect("set");
    let path = "/realms/default/policy-versions/1.0";
    assert!(world.get(path).await.text.contains("This realm wants four eyes"), "it is said before");
    let before = world.app.policies().get(&world.op).await.unwrap();
    let restore = [("revision", before.revision.to_string()), ("confirmation", "1.0".to_owned())];
    let restore: Vec<_> = restore.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let asked = world.post(path, &restore).await;
    assert!(asked.header("location").contains("/change-requests/chg_"), "{}", asked.text);
    assert_eq!(world.app.policies().get(&world.op).await.unwrap().revision, before.revision);
}
