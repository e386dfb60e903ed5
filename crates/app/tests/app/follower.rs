//! The follower publishes what is stored, and begins from disk while the store is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_app::follower::Follower;
use tollgate_model::environments::{Environment, Exposure};
use tollgate_model::names::EnvironmentName;
use tollgate_snapshot::SharedSnapshot;
use tollgate_store::{Change, Expect, Mutation, Store};
use tollgate_testkit::{Postgres, wait_until};

use crate::world::{KEYED, World, pipeline};

const PATH: &str = "/pipeline/default/v1/shop";

fn answers(shared: &SharedSnapshot, world: &World) -> bool {
    shared.load().is_some_and(|snapshot| {
        snapshot.listener(&world.test, Exposure::External).is_some_and(|routes| routes.find(PATH).is_some())
    })
}

fn follower(world: &World, store: Store) -> Follower {
    Follower {
        store,
        master: Arc::clone(&world.master),
        shared: Arc::new(SharedSnapshot::empty()),
        path: Some(world.dir.path().join("snapshot")),
    }
}

#[tokio::test]
async fn what_is_deployed_is_published_and_survives_on_disk_without_the_store() {
    let world = World::start().await;
    let follower = Arc::new(follower(&world, world.store.clone()));
    assert!(!follower.restore().await);
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let follower = Arc::clone(&follower);
        async move { follower.run(stopped).await }
    });
    let limit = Duration::from_secs(30);
    wait_until("a first snapshot", limit, async || follower.shared.load().is_some()).await;
    assert!(!answers(&follower.shared, &world));
    world.save("shop", KEYED).await;
    world.app.deployments().deploy(&world.op, &world.test, &pipeline("shop"), None, None).await.unwrap();
    wait_until("the deployment", limit, async || answers(&follower.shared, &world)).await;

    // The file is written after the snapshot is published.
    let restarted = self::follower(&world, world.store.clone());
    wait_until("the file", limit, async || restarted.restore().await && answers(&restarted.shared, &world))
        .await;
    stop.send(true).unwrap();
    running.await.unwrap();
}

fn new_environment(world: &World, name: &str) -> Change {
    let name = EnvironmentName::parse(name).unwrap();
    let environment = Environment { name, created_at: world.op.now, listeners: BTreeMap::new() };
    Change {
        realm: world.op.realm.clone(),
        actor: String::new(),
        source: String::new(),
        action: "test".to_owned(),
        request_id: String::new(),
        reason: String::new(),
        at: world.op.now,
        guards: Vec::new(),
        mutations: vec![Mutation::put(&environment, Expect::Any).unwrap()],
    }
}

/// Tells up to which entry a snapshot knows everything, and which of these environments it has.
fn seen(shared: &SharedSnapshot, environments: &[&str]) -> (u64, Vec<bool>) {
    let snapshot = shared.load().unwrap_or_default();
    let has =
        |name: &&str| snapshot.listener(&EnvironmentName::parse(name).unwrap(), Exposure::External).is_some();
    (snapshot.seq, environments.iter().map(has).collect())
}

#[tokio::test]
async fn what_a_restored_database_no_longer_holds_is_forgotten() {
    let world = World::start().await;
    let postgres = Postgres::start().await.unwrap();
    let store = Store::open(&postgres.url()).await.unwrap();
    let follower = Arc::new(Follower { path: None, ..follower(&world, store.clone()) });
    let (_stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let follower = Arc::clone(&follower);
        async move { follower.run(stopped).await }
    });
    let seen = || seen(&follower.shared, &["one", "two", "three"]);
    let limit = Duration::from_secs(30);
    store.commit(new_environment(&world, "one")).await.unwrap();
    store.commit(new_environment(&world, "two")).await.unwrap();
    wait_until("two", limit, async || seen() == (2, vec![true, true, false])).await;

    let back = "DELETE FROM journal_objects WHERE seq > 1; DELETE FROM journal WHERE seq > 1; \
         DELETE FROM objects WHERE revision > 1; \
         UPDATE head SET seq = 1, hash = (SELECT hash FROM journal WHERE seq = 1);";
    postgres.execute(back).await.unwrap();
    wait_until("what is left", limit, async || seen() == (1, vec![true, false, false])).await;
    store.commit(new_environment(&world, "two")).await.unwrap();
    wait_until("two again", limit, async || seen() == (2, vec![true, true, false])).await;

    // Nobody looked while there were fewer entries: the next one shows that it continues another.
    let other = "UPDATE journal SET hash = repeat('a', 64) WHERE seq = 2; \
         UPDATE objects SET key = 'three', body = replace(body, 'two', 'three') WHERE key = 'two'; \
         UPDATE head SET hash = repeat('a', 64);";
    postgres.execute(other).await.unwrap();
    store.commit(new_environment(&world, "one")).await.unwrap();
    wait_until("three", limit, async || seen() == (3, vec![true, false, true])).await;
    running.abort();
}
