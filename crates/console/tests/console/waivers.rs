//! Waivers on their pages: granted, extended, ended; and what is told to whom was overtaken.

use tollgate_app::pipelines::SavePipeline;
use tollgate_model::environments::{FourEyes, RealmSettings};

use crate::world::World;

const WAIVERS: &str = "/realms/default/waivers";

/// A pipeline that runs and breaks the policy of test by now, and a waiver for it.
async fn waived() -> World {
    let world = World::start().await;
    let edit = "/realms/default/policies/external-api-access/edit";
    let loosen = async |value: &str| {
        let revision = world.app.policies().get(&world.op).await.expect("policies").revision.to_string();
        let form =
            [("revision", revision.as_str()), ("test", value), ("confirmation", "external-api-access")];
        assert_eq!(world.post(edit, &form).await.status, 303);
    };
    loosen("any").await;
    let document = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true }\nsteps: [{ json: 1 }]\n";
    let input = SavePipeline { document: document.to_owned(), ..SavePipeline::default() };
    world.app.pipelines().save(&world.op, input).await.expect("saved");
    let deploy = [("version", "1.0"), ("environment", "test")];
    assert_eq!(world.post("/realms/default/pipelines/orders/deploy", &deploy).await.status, 303);
    loosen("api-key").await;
    let grant = [
        ("pipeline", "orders"),
        ("environment", "test"),
        ("policy", "external-api-access"),
        ("days", "7"),
        ("reason", "a partner <needs> it"),
    ];
    assert_eq!(world.post(WAIVERS, &grant).await.status, 303);
    world
}

fn id(page: &str) -> String {
    page.split("extend?id=").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned()
}

#[tokio::test]
async fn a_waiver_is_extended_from_its_list() {
    let world = waived().await;
    let list = world.get(WAIVERS).await.text;
    let id = id(&list);
    let page = world.get(&format!("{WAIVERS}/extend?id={id}")).await.text;
    assert!(page.contains("a partner &#60;needs&#62; it") && page.contains("in 7 days"), "{page}");
    for (days, reason, at) in
        [("31", "why", "days"), ("0", "why", "days"), ("soon", "why", "days"), ("9", " ", "reason")]
    {
        let form = [("id", id.as_str()), ("days", days), ("reason", reason)];
        let refused = world.post(&format!("{WAIVERS}/extend"), &form).await;
        assert_eq!(refused.status, 422, "{days}");
        assert!(refused.text.contains(&format!("id=\"{at}-problem\"")), "{days}: {}", refused.text);
    }
    let form = [("id", id.as_str()), ("days", "20"), ("reason", "two weeks more")];
    let extended = world.post(&format!("{WAIVERS}/extend"), &form).await;
    assert_eq!(extended.header("location"), "/realms/default/waivers?done=extend", "{}", extended.text);
    let list = world.get(extended.header("location")).await.text;
    assert!(list.contains("in 20 days") && list.contains("two weeks more") && !list.contains("in 7 days"));
    let late = world.post(&format!("{WAIVERS}/extend"), &form).await;
    assert_eq!(late.status, 404, "the one that was shown was replaced");
    assert!(
        late.text.contains("there is no waiver") || late.text.contains("There is no waiver"),
        "{}",
        late.text
    );
    assert!(late.text.contains("in 20 days"), "the list tells what there is: {}", late.text);
}

#[tokio::test]
async fn what_somebody_ended_does_not_come_back_by_an_extension() {
    let world = waived().await;
    let id = id(&world.get(WAIVERS).await.text);
    assert_eq!(world.post(&format!("{WAIVERS}/end"), &[("id", id.as_str())]).await.status, 303);
    let form = [("id", id.as_str()), ("days", "20"), ("reason", "more")];
    assert_eq!(world.post(&format!("{WAIVERS}/extend"), &form).await.status, 404);
    assert!(world.get(WAIVERS).await.text.contains("Nothing is waived"));
    let again = world.post(&format!("{WAIVERS}/end"), &[("id", id.as_str())]).await;
    assert!(again.status == 404 && again.text.contains("Nothing is waived"), "on the list: {}", again.text);
}

#[tokio::test]
async fn an_extension_is_asked_for_where_the_realm_wants_a_second_person() {
    let world = waived().await;
    let ada = world.person("ada", &["administrators"]).await;
    let four_eyes = FourEyes { policies: false, waivers: true };
    let settings = RealmSettings { four_eyes, ..RealmSettings::default() };
    world.app.realms().update(&world.op, settings, None).await.expect("set");
    let id = id(&world.get_as(&ada, WAIVERS).await.text);
    let page = world.get_as(&ada, &format!("{WAIVERS}/extend?id={id}")).await.text;
    assert!(page.contains("Ask for this extension"), "{page}");
    let form = [("id", id.as_str()), ("days", "20"), ("reason", "more")];
    let asked = world.post_as(&ada, &format!("{WAIVERS}/extend"), &form).await;
    assert!(asked.header("location").contains("/change-requests/chg_"), "{}", asked.text);
    assert!(world.get(WAIVERS).await.text.contains("in 7 days"), "nothing was changed yet");
    let request = asked.header("location").split('?').next().expect("a path").to_owned();
    let base = world.get(&request).await.text;
    let base =
        base.split("name=\"base\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("one");
    // What was asked for rests on the waiver that was shown.
    assert_eq!(world.post(&format!("{WAIVERS}/end"), &[("id", id.as_str())]).await.status, 303);
    let approved = world.post(&format!("{request}/approve"), &[("base", base)]).await;
    assert!((409..=422).contains(&approved.status), "{}: {}", approved.status, approved.text);
    assert!(world.get(WAIVERS).await.text.contains("Nothing is waived"));
}
