//! From a pipeline that the policies refuse to a key in the hands of its caller, by forms alone.

use tollgate_app::pipelines::SavePipeline;
use tollgate_model::environments::{FourEyes, RealmSettings};

use crate::world::World;

const OPEN: &str = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true }\nsteps: [{ json: { ok: true } }]\n";

async fn saved() -> World {
    let world = World::start().await;
    let document = OPEN.to_owned();
    let input = SavePipeline { document, ..SavePipeline::default() };
    world.app.pipelines().save(&world.op, input).await.expect("saved");
    world
}

#[tokio::test]
async fn a_refused_deploy_names_the_switch_and_turns_it_on() {
    let world = saved().await;
    let deploy = "/realms/default/pipelines/orders/deploy";
    let page = world.get(&format!("{deploy}?environment=test")).await;
    assert_eq!(page.status, 200);
    assert!(
        page.text.contains("Missing external API Key") && page.text.contains("set /trigger/apiKey to true")
    );
    assert!(page.text.contains("Turn on and save as 1.1"), "{}", page.text);
    assert!(!page.text.contains("Deploy in test"), "what is refused cannot be chosen");

    let forced = world.post(deploy, &[("version", "1.0"), ("environment", "test")]).await;
    assert_eq!(forced.status, 422, "nor forced");
    assert!(forced.text.contains("policies 1.0 do not admit it"), "{}", forced.text);

    let mended = world.post("/realms/default/pipelines/orders/mend", &[("environment", "test")]).await;
    assert_eq!(mended.status, 303);
    let page = world.get(mended.header("location")).await.text;
    assert!(page.contains("Deploy in test"), "{page}");
    assert!(
        page.contains("no consumer of test is associated"),
        "what will be missing is said before: {page}"
    );

    let deployed = world.post(deploy, &[("version", "1.1"), ("environment", "test")]).await;
    assert_eq!(deployed.status, 303);
    let page = world.get(deployed.header("location")).await.text;
    assert!(page.contains("orders 1.1 runs in test"), "{page}");
    assert!(page.contains("/pipeline/default/v1/orders"));
}

#[tokio::test]
async fn a_key_is_shown_once_and_never_again() {
    let world = saved().await;
    let form = [("name", "shop"), ("description", ""), ("environment", "test"), ("pipeline", "orders")];
    let made = world.post("/realms/default/consumers", &form).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let key =
        made.text.split(['>', '<']).find(|part| part.starts_with("tg_test_")).expect("a key").to_owned();
    for page in ["/realms/default/consumers/test/shop", "/realms/default/consumers?environment=test"] {
        let page = world.get(page).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("shop") && !page.text.contains(&key[8..]), "{}", page.text);
    }
    let again = world.post("/realms/default/consumers", &form).await;
    assert_eq!(again.status, 409);
    assert!(again.text.contains("already") && again.text.contains("value=\"shop\""), "{}", again.text);
}

#[tokio::test]
async fn a_key_is_rotated_and_revoked_and_a_consumer_deleted() {
    let world = saved().await;
    let form = [("name", "shop"), ("environment", "test"), ("pipeline", "orders")];
    world.post("/realms/default/consumers", &form).await;
    let consumer = "/realms/default/consumers/test/shop";
    let page = world.get(consumer).await.text;
    let id = page.split("/keys/").nth(1).and_then(|rest| rest.split('/').next()).expect("a key").to_owned();
    let rotated = world.post(&format!("{consumer}/keys/{id}/rotate"), &[("overlap_hours", "1")]).await;
    assert!(rotated.text.contains("tg_test_"), "{}", rotated.text);
    let twice = world.post(&format!("{consumer}/keys/{id}/rotate"), &[("overlap_hours", "1")]).await;
    assert_eq!(twice.status, 409);
    assert_eq!(world.post(&format!("{consumer}/keys/{id}/revoke"), &[]).await.status, 303);
    assert!(world.get(consumer).await.text.contains("revoked"));
    assert_eq!(world.post(&format!("{consumer}/delete"), &[]).await.status, 303);
    assert_eq!(world.get(consumer).await.status, 404);
}

#[tokio::test]
async fn associations_become_what_is_ticked_and_never_over_newer_ones() {
    let world = saved().await;
    world.post("/realms/default/consumers", &[("name", "shop"), ("environment", "test")]).await;
    let consumer = "/realms/default/consumers/test/shop";
    let page = world.get(consumer).await.text;
    let revision =
        page.split("name=\"revision\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let path = format!("{consumer}/pipelines");
    let tick = [("revision", revision), ("offered", "orders"), ("pipeline", "orders")];
    assert_eq!(world.post(&path, &tick).await.status, 303);
    assert!(world.get(consumer).await.text.contains("value=\"orders\" checked"));
    let late = world.post(&path, &[("revision", revision), ("offered", "orders")]).await;
    assert_eq!(late.status, 412, "{}", late.text);
    let unknown = [("revision", "1"), ("offered", "none"), ("pipeline", "none")];
    assert_eq!(world.post(&path, &unknown).await.status, 404);
}

#[tokio::test]
async fn a_rollback_shows_beforehand_what_would_be_refused() {
    let world = saved().await;
    let post = async |path: &str, fields: &[(&str, &str)]| world.post(path, fields).await.status;
    let pipeline = "/realms/default/pipelines/orders";
    let set = async |value: &str| {
        let revision = world.app.policies().get(&world.op).await.unwrap().revision.to_string();
        let form =
            [("revision", revision.as_str()), ("test", value), ("confirmation", "external-api-access")];
        world.post("/realms/default/policies/external-api-access/edit", &form).await.status
    };
    assert_eq!(set("any").await, 303);
    assert_eq!(
        post(&format!("{pipeline}/deploy"), &[("version", "1.0"), ("environment", "test")]).await,
        303
    );
    assert_eq!(set("api-key").await, 303);
    assert_eq!(post(&format!("{pipeline}/mend"), &[("environment", "test")]).await, 303);
    assert_eq!(
        post(&format!("{pipeline}/deploy"), &[("version", "1.1"), ("environment", "test")]).await,
        303
    );
    let page = world.get(&format!("{pipeline}/rollback?environment=test")).await.text;
    assert!(page.contains("would be refused") && !page.contains("Roll back to 1.0"), "{page}");
    let forced = post(&format!("{pipeline}/rollback"), &[("version", "1.0"), ("environment", "test")]).await;
    assert_eq!(forced, 422);
}

#[tokio::test]
async fn a_violation_is_waived_until_a_date_and_the_waiver_ended() {
    let world = saved().await;
    let set = async |value: &str| {
        let revision = world.app.policies().get(&world.op).await.unwrap().revision.to_string();
        let form =
            [("revision", revision.as_str()), ("test", value), ("confirmation", "external-api-access")];
        world.post("/realms/default/policies/external-api-access/edit", &form).await.status
    };
    set("any").await;
    let deploy = [("version", "1.0"), ("environment", "test")];
    assert_eq!(world.post("/realms/default/pipelines/orders/deploy", &deploy).await.status, 303);
    set("api-key").await;
    let conformance = "/realms/default/policies/conformance/test";
    assert!(world.get(conformance).await.text.contains("waivers/new?pipeline=orders"));
    let form = |reason| {
        [
            ("pipeline", "orders"),
            ("environment", "test"),
            ("policy", "external-api-access"),
            ("days", "7"),
            ("reason", reason),
        ]
    };
    let refused = world.post("/realms/default/waivers", &form("")).await;
    assert_eq!(refused.status, 422, "a waiver has a reason: {}", refused.text);
    let waived = world.post("/realms/default/waivers", &form("moving")).await;
    assert_eq!((waived.status, waived.header("location")), (303, "/realms/default/waivers?done=grant"));
    assert!(world.get(conformance).await.text.contains("by waiver"));
    let page = world.get("/realms/default/waivers").await.text;
    assert!(page.contains("moving") && page.contains("in 7 days"), "{page}");
    let id = page.split("name=\"id\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(world.post("/realms/default/waivers/end", &[("id", id)]).await.status, 303);
    assert!(world.get("/realms/default/waivers").await.text.contains("Nothing is waived"));

    let four_eyes = FourEyes { waivers: true, policies: false };
    let settings = RealmSettings { four_eyes, ..RealmSettings::default() };
    world.app.realms().update(&world.op, settings, None).await.expect("set");
    let new = world.get("/realms/default/waivers/new?pipeline=orders&environment=test").await.text;
    assert!(new.contains("This realm wants four eyes") && new.contains("Ask for this waiver"), "{new}");
    let asked = world.post("/realms/default/waivers", &form("moving")).await;
    assert!(asked.header("location").contains("/change-requests/chg_"), "{}", asked.text);
    let shown = world.get(asked.header("location")).await.text;
    assert!(shown.contains("Waive") && shown.contains("conforms</span> orders 1.0"), "{shown}");
    assert!(world.get("/realms/default/waivers").await.text.contains("Nothing is waived"), "not yet");
}
