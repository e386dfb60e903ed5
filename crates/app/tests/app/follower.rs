//! The follower publishes what is stored, and begins from disk while the store is away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_app::follower::Follower;
use tollgate_model::environments::Exposure;
use tollgate_snapshot::SharedSnapshot;
use tollgate_store::Store;
use tollgate_testkit::wait_until;

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
