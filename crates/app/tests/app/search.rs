//! The search and the lists tell of what one may read, and of nothing else.

use tollgate_app::access::{Actor, Extent, Op, Permission, Reach, Rights};
use tollgate_app::lists::ListRequest;
use tollgate_app::pipelines::SavePipeline;
use tollgate_model::names::ProjectName;

use crate::world::World;

async fn world() -> World {
    let world = World::start().await;
    for (name, project) in [("orders", "store"), ("orders-archive", "billing"), ("login", "store")] {
        let document = format!(
            "kind: Pipeline\nname: {name}\nproject: {project}\ntrigger: {{ type: rest }}\nsteps: [{{ json: 1 }}]\n"
        );
        world
            .app
            .pipelines()
            .save(&world.op, SavePipeline { document, ..SavePipeline::default() })
            .await
            .unwrap();
    }
    world.consumer("order-desk").await;
    world.consumer("shop").await;
    world
}

pub(crate) fn somebody(world: &World, permissions: &[Permission], project: Option<&str>) -> Op {
    let projects =
        project.map_or(Extent::All, |name| Extent::only([ProjectName::parse(name).unwrap()]).unwrap());
    let reach = Reach { environments: Extent::All, projects };
    let actor = Actor::new(None, "somebody", Rights::of(permissions.iter().copied(), &reach));
    Op { actor, ..world.op.clone() }
}

async fn found(world: &World, op: &Op, text: &str) -> (Vec<String>, Vec<String>) {
    let found = world.app.search().find(op, text, 10).await.unwrap();
    (
        found.pipelines.iter().map(|it| it.name.to_string()).collect(),
        found.consumers.iter().map(|it| it.name.to_string()).collect(),
    )
}

#[tokio::test]
async fn a_search_finds_what_one_may_read_and_nothing_else() {
    let world = world().await;
    let (pipelines, consumers) = found(&world, &world.op, " ORDER ").await;
    assert_eq!(
        (pipelines.as_slice(), consumers.as_slice()),
        (["orders".to_owned(), "orders-archive".to_owned()].as_slice(), ["order-desk".to_owned()].as_slice())
    );
    let store = somebody(&world, &[Permission::PipelineRead], Some("store"));
    assert_eq!(found(&world, &store, "order").await, (vec!["orders".to_owned()], vec![]));
    let consumers = somebody(&world, &[Permission::ConsumerRead], None);
    assert_eq!(found(&world, &consumers, "order").await, (vec![], vec!["order-desk".to_owned()]));
    assert_eq!(found(&world, &world.nobody(), "order").await, (vec![], vec![]));
    for nothing in ["", "  ", "%", "o%s", "\0", &"o".repeat(101)] {
        assert_eq!(found(&world, &world.op, nothing).await, (vec![], vec![]), "{nothing:?}");
    }
}

#[tokio::test]
async fn a_list_of_pipelines_follows_what_is_saved_moved_and_deleted() {
    let world = world().await;
    let store = somebody(&world, &[Permission::PipelineRead], Some("store"));
    let names = async || {
        let page = world.app.pipelines().list(&store, ListRequest::default()).await.unwrap();
        page.items.iter().map(|it| it.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["login", "orders"]);
    let moved =
        "kind: Pipeline\nname: orders\nproject: billing\ntrigger: { type: rest }\nsteps: [{ json: 1 }]\n";
    let moved = SavePipeline { document: moved.to_owned(), ..SavePipeline::default() };
    world.app.pipelines().save(&world.op, moved).await.unwrap();
    assert_eq!(names().await, ["login"], "what was moved away is not told any more");
    world.app.pipelines().delete(&world.op, &crate::world::pipeline("login"), None).await.unwrap();
    assert!(names().await.is_empty());
}

#[tokio::test]
async fn credentials_in_a_list_are_shown_to_whom_they_are_to_see() {
    let world = world().await;
    let page = async |op: &Op| {
        let list =
            world.app.consumers().search(op, &world.test, "shop", ListRequest::default()).await.unwrap();
        world.app.consumers().with_credentials(op, list.items).await.unwrap().remove(0)
    };
    let shop = &crate::world::consumer("shop");
    let made = world.app.basic_auth().create(&world.op, &world.test, shop, "ann", None).await.unwrap();
    world.app.usage().flush(&[(made.credential.id.into(), world.op.now)]).await.unwrap();
    let all = page(&world.op).await;
    assert_eq!(all.last_used_at, Some(world.op.now), "with a password");
    assert_eq!(all.keys.map(|keys| keys.len()), Some(1));
    assert_eq!(all.logins.map(|logins| logins.len()), Some(1));
    let keys = page(&somebody(&world, &[Permission::ConsumerRead, Permission::ApiKeyRead], None)).await;
    assert_eq!((keys.logins, keys.last_used_at), (None, None), "nothing about what is not to see");
    let some = page(&somebody(&world, &[Permission::ConsumerRead], None)).await;
    assert_eq!((some.keys, some.logins, some.last_used_at), (None, None, None));
}
