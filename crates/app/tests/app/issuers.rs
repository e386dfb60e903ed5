//! Issuers outside: set before they are listed, listed no more before they go.

use serde_json::json;
use tollgate_app::errors::ErrorKind;
use tollgate_model::issuers::IssuerSettings;
use tollgate_model::names::IssuerName;

use crate::world::{World, pipeline};

const LISTING: &str = "{type: rest, externalApi: true, apiKey: true, jwt: {issuers: [tollgate, corp]}}";

pub(crate) fn issuer_settings() -> IssuerSettings {
    serde_json::from_value(json!({ "issuer": "https://login.example", "audience": "orders",
        "algorithms": ["ES256"], "consumer": { "claim": "azp" } }))
    .expect("settings")
}

fn corp() -> IssuerName {
    IssuerName::parse("corp").expect("a name")
}

#[tokio::test]
async fn a_pipeline_runs_only_where_every_issuer_that_it_lists_is_set() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    world.save("orders", LISTING).await;
    let deploy = async || app.deployments().deploy(op, test, &pipeline("orders"), None, None).await;
    let error = deploy().await.expect_err("no such issuer");
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "issuer-unknown"));
    let dry = app.deployments().deploy_dry_run(op, test, &pipeline("orders"), None, None).await;
    assert_eq!(dry.expect_err("no such issuer").code, "issuer-unknown");
    app.issuers().create(op, test, corp(), issuer_settings()).await.expect("set");
    deploy().await.expect("deployed");
    let error = app.issuers().delete(op, test, &corp(), None).await.expect_err("in use");
    assert_eq!(error.code, "issuer-in-use");
    assert!(error.message.contains("`orders` v1"), "{}", error.message);
    app.deployments().undeploy(op, test, &pipeline("orders"), None, None).await.expect("undeployed");
    app.issuers().delete(op, test, &corp(), None).await.expect("deleted");
    assert_eq!(app.issuers().get(op, test, &corp()).await.expect_err("gone").kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn an_issuer_is_made_once_changed_as_it_was_read_and_never_called_tollgate() {
    let world = World::start().await;
    let (op, issuers, test) = (&world.op, world.app.issuers(), &world.test);
    let made = issuers.create(op, test, corp(), issuer_settings()).await.expect("set");
    let again = issuers.create(op, test, corp(), issuer_settings()).await.expect_err("there already");
    assert_eq!(again.code, "already-exists");
    let own = issuers.create(op, test, IssuerName::own(), issuer_settings()).await.expect_err("reserved");
    assert_eq!(own.kind, ErrorKind::Invalid);
    let other = IssuerSettings { audience: "billing".to_owned(), ..issuer_settings() };
    let set = issuers.set(op, test, &corp(), other, Some(made.revision)).await.expect("set");
    let stale = issuers.set(op, test, &corp(), issuer_settings(), Some(made.revision)).await;
    assert_eq!(stale.expect_err("changed since").kind, ErrorKind::PreconditionFailed);
    assert_eq!(set.value.issuer.settings.audience, "billing");
    let plain =
        serde_json::from_value::<IssuerSettings>(json!({ "issuer": "http://login.example", "audience": "a",
        "algorithms": ["ES256"], "consumer": { "name": "shop" } }))
        .expect("each field is right");
    let refused = issuers.set(op, test, &corp(), plain, None).await.expect_err("plain http");
    assert_eq!(refused.kind, ErrorKind::Invalid);
    let asked = issuers.refresh(op, test, &corp()).await.expect("asked");
    assert_eq!(asked.value.issuer.refresh_asked_at, Some(op.now));
}
