//! Issuers outside, and what is told of them.

use tollgate_app::pipelines::SavePipeline;
use tollgate_model::issuers::IssuerAlgorithm;

use crate::world::{Reply, World};

const ISSUERS: &str = "/realms/default/issuers";
const CORP: &str = "/realms/default/issuers/test/corp";

/// What the form of an issuer sends; later fields take the place of earlier ones.
fn form<'a>(change: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let fields = [
        ("environment", "test"),
        ("name", "corp"),
        ("issuer", "https://login.example"),
        ("jwks_url", ""),
        ("audience", "orders"),
        ("algorithm", "ES256"),
        ("whose", "claim"),
        ("consumer", ""),
        ("claim", "azp"),
        ("values", "client-7 = shop"),
        ("scopes_claim", "scope"),
        ("access_tokens_only", "on"),
        ("leeway", "30"),
        ("refresh", "600"),
        ("max_stale", "86400"),
    ];
    let kept = fields.into_iter().filter(|(name, _)| !change.iter().any(|(other, _)| other == name));
    kept.chain(change.iter().copied()).collect()
}

fn field(page: &Reply, name: &str) -> String {
    let begin = format!("name=\"{name}\" value=\"");
    let rest = page.text.split(begin.as_str()).nth(1).and_then(|rest| rest.split('"').next());
    rest.expect("a field").replace("&#34;", "\"")
}

#[tokio::test]
async fn an_issuer_is_set_changed_and_deleted_on_pages() {
    let world = World::start().await;
    let empty = world.get(&format!("{ISSUERS}?environment=test")).await.text;
    assert!(empty.contains("No issuers in test yet") && empty.contains("new-issuer?environment=test"));
    let made = world.post(ISSUERS, &form(&[])).await;
    assert_eq!(
        (made.status, made.header("location")),
        (303, "/realms/default/issuers/test/corp?done=create")
    );
    let page = world.get(made.header("location")).await;
    assert!(page.text.contains("client-7 = shop") && page.text.contains("not heard of yet"), "{}", page.text);
    assert!(page.text.contains("Nothing that runs in test lists it"), "{}", page.text);
    let twice = world.post(ISSUERS, &form(&[])).await;
    assert!(twice.status == 409 && twice.text.contains("id=\"name-problem\""), "{}", twice.text);

    let (revision, read) = (field(&page, "revision"), field(&page, "read"));
    let change = [("revision", revision.as_str()), ("read", read.as_str()), ("audience", "billing")];
    assert_eq!(
        world.post(CORP, &form(&change)).await.header("location"),
        "/realms/default/issuers/test/corp?done=save"
    );
    let late =
        world.post(CORP, &form(&[("revision", &revision), ("read", &read), ("claim", "client_id")])).await;
    assert_eq!(late.status, 412);
    assert!(
        late.text.contains("<del>orders</del>") && late.text.contains("<ins>billing</ins>"),
        "{}",
        late.text
    );
    assert!(
        late.text.contains("value=\"client_id\"") && late.text.contains("value=\"orders\""),
        "what was written stays"
    );
    assert_ne!(field(&late, "revision"), revision);
    let stale = world.post(&format!("{CORP}/delete"), &[("revision", revision.as_str())]).await;
    assert!(stale.status == 412 && stale.text.contains("id=\"delete-problem\""), "{}", stale.text);
    assert_eq!(world.post(&format!("{CORP}/refresh"), &[]).await.status, 303);
    let now = field(&world.get(CORP).await, "revision");
    let deleted = world.post(&format!("{CORP}/delete"), &[("revision", now.as_str())]).await;
    assert_eq!(deleted.status, 303, "{}", deleted.text);
    assert_eq!(world.get(CORP).await.status, 404);
}

#[tokio::test]
async fn every_algorithm_that_issuers_may_use_is_offered_and_those_ticked_count() {
    let world = World::start().await;
    let new = world.get("/realms/default/new-issuer?environment=test").await.text;
    for algorithm in IssuerAlgorithm::ALL {
        assert!(new.contains(&format!("name=\"algorithm\" value=\"{algorithm}\"")), "{algorithm}: {new}");
    }
    assert!(!new.contains("value=\"HS256\""));
    let ticked = [("algorithm", "ES512"), ("algorithm", "PS384"), ("algorithm", "RS512")];
    assert_eq!(world.post(ISSUERS, &form(&ticked)).await.status, 303);
    assert!(world.get(&format!("{ISSUERS}?environment=test")).await.text.contains("ES512, PS384, RS512"));
    let page = world.get(CORP).await.text;
    for algorithm in IssuerAlgorithm::ALL {
        let checked = page.contains(&format!("value=\"{algorithm}\" checked"));
        assert_eq!(checked, ticked.contains(&("algorithm", algorithm.as_str())), "{algorithm}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_issuer_is_told_at_its_field_and_what_was_written_stays() {
    let world = World::start().await;
    for (change, at) in [
        (("name", "Corp!"), "name"),
        (("name", "tollgate"), "name"),
        (("issuer", "http://login.example"), "issuer"),
        (("jwks_url", "file:///etc/passwd"), "jwks_url"),
        (("audience", ""), "audience"),
        (("algorithm", "none"), "algorithm"),
        (("values", "<script>"), "values"),
        (("max_stale", "5"), "max_stale"),
    ] {
        let refused = world.post(ISSUERS, &form(&[change])).await;
        assert_eq!(refused.status, 422, "{change:?}");
        assert!(refused.text.contains(&format!("id=\"{at}-problem\"")), "{change:?}: {}", refused.text);
        assert!(refused.text.contains("value=\"https://login.example\"") || at == "issuer", "{change:?}");
        assert!(!refused.text.contains("<script>"), "what people write is text");
    }
    assert!(world.get(&format!("{ISSUERS}?environment=test")).await.text.contains("No issuers in test yet"));
}

#[tokio::test]
async fn an_issuer_that_a_deployment_lists_is_not_deleted_and_the_page_names_it() {
    let world = World::start().await;
    assert_eq!(world.post(ISSUERS, &form(&[])).await.status, 303);
    let document = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true, \
                    jwt: { issuers: [corp] } }\nsteps: [{ json: 1 }]\n";
    let input = SavePipeline { document: document.to_owned(), ..SavePipeline::default() };
    world.app.pipelines().save(&world.op, input).await.expect("saved");
    let deploy = [("version", "1.0"), ("environment", "test")];
    assert_eq!(world.post("/realms/default/pipelines/orders/deploy", &deploy).await.status, 303);
    let page = world.get(CORP).await;
    assert!(page.text.contains("/pipelines/orders") && !page.text.contains("Delete corp"), "{}", page.text);
    let revision = field(&page, "revision");
    let refused = world.post(&format!("{CORP}/delete"), &[("revision", revision.as_str())]).await;
    assert!(refused.status == 409 && refused.text.contains("`orders` v1"), "{}", refused.text);
}

#[tokio::test]
async fn whoever_may_only_look_finds_no_form_that_would_be_refused() {
    let world = World::start().await;
    assert_eq!(world.post(ISSUERS, &form(&[])).await.status, 303);
    world.group("viewers", "viewer").await;
    let viewer = world.person("ada", &["viewers"]).await;
    let list = world.get_as(&viewer, &format!("{ISSUERS}?environment=test")).await.text;
    assert!(list.contains("issuers/test/corp") && !list.contains("New issuer"), "{list}");
    let page = world.get_as(&viewer, CORP).await.text;
    for offered in ["Save issuer", "Fetch now", "Delete issuer"] {
        assert!(!page.contains(offered), "{offered}: {page}");
    }
}
