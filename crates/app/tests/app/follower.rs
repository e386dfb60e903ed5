//! The follower publishes what is stored, and begins from disk while the store is away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollgate_app::follower::Follower;
use tollgate_model::environments::{Environment, Exposure};
use tollgate_model::names::EnvironmentName;
use tollgate_snapshot::{Builder, SharedSnapshot};
use tollgate_store::{Change, Expect, Mutation, Store};
use tollgate_testkit::{Postgres, wait_until};

use crate::world::{KEYED, World, pipeline};

const PATH: &str = "/pipeline/default/v1/shop";

fn answers(shared: &SharedSnapshot, world: &World) -> bool {
    shared.load().is_some_and(|snapshot| {
        snapshot.listener(&world.test, Exposure::External).is_some_and(|routes| routes.find(PATH).is_some())
    })
}

/// A follower, and where it publishes.
fn follower(world: &World, store: Store, path: Option<PathBuf>) -> (Follower, Arc<SharedSnapshot>) {
    let shared = Arc::new(SharedSnapshot::empty());
    (Follower::new(store, Arc::clone(&world.master), Arc::clone(&shared), path), shared)
}

/// Follows until it is told to stop.
fn run(follower: Follower) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    (stop, tokio::spawn(async move { follower.run(stopped).await }))
}

/// Begins with what is on disk.
fn restored(world: &World, store: Store) -> Option<(Follower, Arc<SharedSnapshot>)> {
    let path = world.dir.path().join("snapshot");
    let restored = Builder::restore(&path, Arc::clone(&world.master)).ok()?;
    let (follower, shared) = follower(world, store, Some(path));
    shared.publish(restored.builder.current());
    Some((follower.beginning_with(Some(restored)), shared))
}

#[tokio::test]
async fn what_is_deployed_is_published_and_survives_on_disk_without_the_store() {
    let world = World::start().await;
    assert!(restored(&world, world.store.clone()).is_none());
    let (first, shared) = follower(&world, world.store.clone(), Some(world.dir.path().join("snapshot")));
    let (stop, running) = run(first);
    let limit = Duration::from_secs(30);
    wait_until("a first snapshot", limit, async || shared.load().is_some()).await;
    assert!(!answers(&shared, &world));
    world.save("shop", KEYED).await;
    world.app.deployments().deploy(&world.op, &world.test, &pipeline("shop"), None, None).await.unwrap();
    wait_until("the deployment", limit, async || answers(&shared, &world)).await;

    // The files are written after the snapshot is published.
    wait_until("the files", limit, async || {
        restored(&world, world.store.clone()).is_some_and(|(_, shared)| answers(&shared, &world))
    })
    .await;
    stop.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn what_is_on_disk_is_followed_from_there_as_long_as_it_is_of_this_store() {
    let world = World::start().await;
    let path = world.dir.path().join("snapshot");
    let limit = Duration::from_secs(30);
    let (first, shared) = follower(&world, world.store.clone(), Some(path.clone()));
    let (stop, running) = run(first);
    world.store.commit(new_environment(&world, "one")).await.unwrap();
    wait_until("one", limit, async || seen(&shared, &["one"]).1 == [true]).await;
    stop.send(true).unwrap();
    running.await.unwrap();
    // Written while nobody followed, and what nobody followed.
    world.store.commit(new_environment(&world, "two")).await.unwrap();
    let (second, shared) = restored(&world, world.store.clone()).unwrap();
    let mut followed = second.followed();
    let (stop, running) = run(second);
    let head = world.store.head().await.unwrap();
    followed.wait_for(|followed| *followed == Some(head)).await.unwrap();
    assert_eq!(seen(&shared, &["one", "two"]), (head, vec![true, true]));
    stop.send(true).unwrap();
    running.await.unwrap();
    assert_eq!(seen(&restored(&world, world.store.clone()).unwrap().1, &["two"]).1, [true], "it is on disk");

    // Another store, with as many entries: nothing of the one before may stay.
    let url = format!("sqlite:{}", world.dir.path().join("other.db").display());
    let other = Store::open(&url).await.unwrap();
    for _ in 0..head {
        other.commit(new_environment(&world, "three")).await.unwrap();
    }
    let (third, shared) = restored(&world, other).unwrap();
    assert_eq!(seen(&shared, &["one", "two", "three"]).1, [true, true, false], "until the store is asked");
    let mut followed = third.followed();
    let (stop, running) = run(third);
    followed.wait_for(|followed| *followed == Some(head)).await.unwrap();
    assert_eq!(seen(&shared, &["one", "two", "three"]), (head, vec![false, false, true]));
    stop.send(true).unwrap();
    running.await.unwrap();
    assert_eq!(seen(&restored(&world, world.store.clone()).unwrap().1, &["one", "three"]).1, [false, true]);
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
    let (follower, shared) = follower(&world, store.clone(), None);
    let (_stop, running) = run(follower);
    let seen = || seen(&shared, &["one", "two", "three"]);
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
