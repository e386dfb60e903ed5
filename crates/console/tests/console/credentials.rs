//! Consumers and their credentials, and the search for them.

use tollgate_app::pipelines::SavePipeline;
use tollgate_model::ids::BasicAuthId;
use tollgate_testkit::Authority;

use crate::world::World;

const SHOP: &str = "/realms/default/consumers/test/shop";

async fn with_shop() -> World {
    let world = World::start().await;
    for (name, project) in [("orders", "store"), ("invoices", "billing")] {
        let document = format!(
            "kind: Pipeline\nname: {name}\nproject: {project}\ntrigger: {{ type: rest }}\nsteps: [{{ json: 1 }}]\n"
        );
        let input = SavePipeline { document, ..SavePipeline::default() };
        world.app.pipelines().save(&world.op, input).await.expect("saved");
    }
    let form = [("name", "shop"), ("environment", "test"), ("pipeline", "orders")];
    assert_eq!(world.post("/realms/default/consumers", &form).await.status, 200);
    world
}

fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let begin = format!("name=\"{name}\" value=\"");
    page.split(begin.as_str()).nth(1).and_then(|rest| rest.split('"').next()).expect("a field")
}

#[tokio::test]
async fn a_password_is_shown_once_and_revoked() {
    let world = with_shop().await;
    let made = world.post(&format!("{SHOP}/logins"), &[("username", "shop")]).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let password = made
        .text
        .split("class=\"password\">")
        .nth(1)
        .and_then(|rest| rest.split('<').next())
        .expect("a password");
    assert!(made.text.contains("http://127.0.0.1:7001/pipeline/default/v1/orders"), "{}", made.text);
    let page = world.get(SHOP).await.text;
    assert!(!page.contains(password) && page.contains("Revoke shop"), "{page}");
    assert!(
        world
            .get("/realms/default/consumers?environment=test")
            .await
            .text
            .contains("data-label=\"Basic Auth\">shop</td>")
    );
    let taken = world.post(&format!("{SHOP}/logins"), &[("username", "shop")]).await;
    assert_eq!(taken.status, 409);
    assert!(taken.text.contains("is taken") && taken.text.contains("aria-invalid"), "{}", taken.text);
    let id = page.split("/logins/").nth(1).and_then(|rest| rest.split('/').next()).expect("an id");
    let used = world.op.now - jiff::SignedDuration::from_hours(3);
    let shown = format!("<time datetime=\"{used}\"");
    assert!(!page.contains(&shown), "{page}");
    let login: BasicAuthId = id.parse().expect("an id");
    world.app.usage().flush(&[(login.into(), used)]).await.expect("written");
    assert!(world.get(SHOP).await.text.contains(&shown), "when it was used");
    assert!(
        world.get("/realms/default/consumers?environment=test").await.text.contains(&shown),
        "in the list, too"
    );
    assert_eq!(world.post(&format!("{SHOP}/logins/{id}/revoke"), &[]).await.status, 303);
    assert!(world.get(SHOP).await.text.contains("revoked"));
}

#[tokio::test]
async fn a_key_expires_and_one_of_another_system_is_imported_and_never_shown() {
    let world = with_shop().await;
    let made = world.post(&format!("{SHOP}/keys"), &[("name", "for-a-week"), ("days", "7")]).await;
    assert!(made.status == 200 && made.text.contains("curl -H"), "{}", made.text);
    assert!(world.get(SHOP).await.text.contains("in 7 days"));
    let wrong = world.post(&format!("{SHOP}/keys"), &[("name", "two"), ("days", "soon")]).await;
    assert!(
        wrong.status == 422 && wrong.text.contains("number of days") && wrong.text.contains("value=\"two\""),
        "{}",
        wrong.text
    );
    let import = |secret| [("name", "old"), ("secret", secret)];
    let short = world.post(&format!("{SHOP}/keys/import"), &import("short")).await;
    assert!(short.status == 422 && short.text.contains("imported"), "{}", short.text);
    let secret = "legacy-secret-0123456789";
    assert_eq!(world.post(&format!("{SHOP}/keys/import"), &import(secret)).await.status, 303);
    let again = world.post(&format!("{SHOP}/keys/import"), &import(secret)).await;
    assert!(again.status == 409 && !again.text.contains(secret), "{}", again.text);
    assert!(!world.get(SHOP).await.text.contains(secret));
}

#[tokio::test]
async fn certificates_are_bound_by_what_is_pasted_and_revoked() {
    let world = with_shop().await;
    let ca = Authority::new("partners");
    let day = jiff::SignedDuration::from_hours(24);
    let leaf = ca.issue_between(&["dns:shop.example"], world.op.now - day, world.op.now + day);
    let path = format!("{SHOP}/certificates");
    let one = |certificate: &str| {
        [("by", "certificate"), ("name", "web"), ("certificate", certificate), ("days", "90")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let post = async |fields: &[(String, String)]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        world.post(&path, &fields).await
    };
    assert_eq!(post(&one(&leaf.chain)).await.status, 303);
    let page = world.get(SHOP).await.text;
    assert!(page.contains(&leaf.fingerprint) && page.contains("in 90 days"), "{page}");
    let again = post(&one(&leaf.chain)).await;
    assert_eq!(again.status, 409);
    assert!(again.text.contains("id=\"certificate-problem\"") && again.text.contains("value=\"web\""));
    assert!(again.text.contains("aria-describedby=\"certificate-problem\""), "{}", again.text);
    let name = |san: &str, certificate: &str| {
        [("by", "name"), ("name", "fleet"), ("san", san), ("certificate", certificate), ("days", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let wrong = post(&name("shop.example", &ca.pem())).await;
    assert!(wrong.status == 422 && wrong.text.contains("id=\"san-problem\""), "{}", wrong.text);
    assert!(wrong.text.contains("value=\"shop.example\"") && wrong.text.contains("value=\"fleet\""));
    let leaf_as_ca = post(&name("dns:shop.example", &leaf.chain)).await;
    assert!(leaf_as_ca.status == 422 && leaf_as_ca.text.contains("id=\"san-authority-problem\""));
    assert_eq!(post(&name("dns:shop.example", &ca.pem())).await.status, 303);
    let page = world.get(SHOP).await.text;
    assert!(page.contains("dns:shop.example") && page.contains(&ca.fingerprint()), "{page}");
    assert!(page.contains("2 client certificates"), "deleting it says what it breaks: {page}");
    let id = page.split("/certificates/").nth(1).and_then(|rest| rest.split('/').next()).expect("an id");
    assert_eq!(world.post(&format!("{path}/{id}/revoke"), &[]).await.status, 303);
    assert!(world.get(SHOP).await.text.contains("and 1 client certificate stop"));
}

#[tokio::test]
async fn a_private_key_that_is_pasted_for_a_certificate_goes_nowhere() {
    let world = with_shop().await;
    let leaf = Authority::new("partners").issue(&["dns:shop.example"]);
    for by in ["certificate", "name"] {
        let pasted = format!("{}{}", leaf.chain, leaf.key);
        let form =
            [("by", by), ("name", "web"), ("san", "dns:shop.example"), ("certificate", pasted.as_str())];
        let refused = world.post(&format!("{SHOP}/certificates"), &form).await;
        assert!(refused.status == 422 && refused.text.contains("private key"), "{}", refused.text);
        let secret = leaf.key.lines().nth(1).expect("a line of the key");
        assert!(!refused.text.contains(secret), "it is not shown again");
    }
    assert!(world.get(SHOP).await.text.contains("None is bound"));
}

#[tokio::test]
async fn who_is_overtaken_keeps_what_they_picked_and_sees_what_changed() {
    let world = with_shop().await;
    let revision = field(&world.get(SHOP).await.text, "revision").to_owned();
    let form = |pipelines: &[&'static str]| {
        let mut form = vec![
            ("revision", revision.as_str()),
            ("had", "orders"),
            ("offered", "orders"),
            ("offered", "invoices"),
        ];
        form.extend(pipelines.iter().map(|name| ("pipeline", *name)));
        form
    };
    let path = format!("{SHOP}/pipelines");
    assert_eq!(world.post(&path, &form(&["orders", "invoices"])).await.status, 303);
    let late = world.post(&path, &form(&[])).await;
    assert_eq!(late.status, 412);
    assert!(
        late.text.contains("Changed meanwhile") && late.text.contains("invoices, orders"),
        "{}",
        late.text
    );
    assert!(!late.text.contains("value=\"orders\" checked"), "what was picked stays: {}", late.text);
    let now = field(&late.text, "revision").to_owned();
    assert_ne!(now, revision, "the next try goes over what was shown");
    let gone = world.post(&format!("{SHOP}/delete"), &[("revision", revision.as_str())]).await;
    assert!(gone.status == 412 && gone.text.contains("id=\"delete-problem\""), "{}", gone.text);
    assert_eq!(world.post(&format!("{SHOP}/delete"), &[("revision", now.as_str())]).await.status, 303);
}

#[tokio::test]
async fn pipelines_are_found_by_project_and_name_and_what_is_picked_stays() {
    let world = with_shop().await;
    let form = [("pipeline", "orders"), ("pick_project", "billing"), ("pick_q", "")];
    let picker = world.post("/realms/default/pick-pipelines", &form).await;
    assert_eq!(picker.status, 200);
    assert!(
        picker.text.contains("value=\"orders\" checked") && picker.text.contains("value=\"invoices\""),
        "{}",
        picker.text
    );
    let none = world.post("/realms/default/pick-pipelines", &[("pick_q", "nothing")]).await;
    assert!(none.text.contains("No other pipeline fits"), "{}", none.text);
    let form = [("name", "web"), ("environment", "test"), ("pick_q", "inv"), ("action", "find")];
    let page = world.post("/realms/default/consumers", &form).await;
    assert!(
        page.status == 200 && page.text.contains("value=\"web\"") && page.text.contains("invoices"),
        "without a script, too: {}",
        page.text
    );
}

#[tokio::test]
async fn one_box_finds_pipelines_and_consumers() {
    let world = with_shop().await;
    let page = world.get("/realms/default/search?q=SHO").await;
    assert!(page.status == 200 && page.text.contains("/consumers/test/shop"), "{}", page.text);
    assert!(world.get("/realms/default/search?q=nvoice").await.text.contains("/pipelines/invoices"));
    for nothing in ["", "%25", "%00", "%3Cscript%3E"] {
        let page = world.get(&format!("/realms/default/search?q={nothing}")).await;
        assert!(
            page.status == 200 && !page.text.contains("/consumers/test/shop"),
            "{nothing}: {}",
            page.text
        );
        assert!(!page.text.contains("<script>"), "what people write is text");
    }
    let long = "a".repeat(4_000);
    assert_eq!(world.get(&format!("/realms/default/search?q={long}")).await.status, 200);
    let list = world.get("/realms/default/consumers?environment=test&q=zzz").await;
    assert!(list.text.contains("has “zzz” in its name"), "{}", list.text);
}

#[tokio::test]
async fn a_token_is_revoked_by_its_id_and_tokens_by_their_consumer() {
    let world = with_shop().await;
    let path = "/realms/default/signing-keys/revoke-token";
    assert_eq!(world.post(path, &[("environment", "test"), ("jti", "abc-123")]).await.status, 303);
    let wrong = world.post(path, &[("environment", "test"), ("jti", "no id")]).await;
    assert!(wrong.status == 422 && wrong.text.contains("value=\"no id\""), "{}", wrong.text);
    let look = [("environment", "test"), ("token", "not-a-token")];
    let refused = world.post("/realms/default/signing-keys/inspect", &look).await;
    assert!(refused.status == 422 && !refused.text.contains("not-a-token"), "{}", refused.text);
    assert_eq!(world.post(&format!("{SHOP}/revoke-tokens"), &[]).await.status, 303);
    assert!(world.get(SHOP).await.text.contains("are revoked"));
}
