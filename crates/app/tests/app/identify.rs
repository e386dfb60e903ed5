//! Keys are told by their digests to whoever may read keys, in the environment where they are, and no imported ones.

use tollgate_app::errors::ErrorKind;
use tollgate_app::keys::{KeyDigest, MAX_IDENTIFIED};
use tollgate_model::consumers::CredentialState;
use tollgate_model::names::EnvironmentName;

use crate::world::{World, consumer, new_key};

fn digest(key: &tollgate_model::consumers::ApiKey) -> KeyDigest {
    KeyDigest::from_hex(&key.digest).unwrap()
}

#[tokio::test]
async fn a_key_is_told_with_its_owner_and_state_and_unknown_digests_are_not() {
    let world = World::start().await;
    let (keys, op, test) = (world.app.keys(), &world.op, &world.test);
    let live = world.consumer("shop").await.key.unwrap().key;
    let dead = world.consumer("ann").await.key.unwrap().key;
    keys.revoke(op, test, dead.id).await.unwrap();
    world.consumer("bob").await;
    let unknown = KeyDigest::from_hex(&"0".repeat(64)).unwrap();

    let asked = [digest(&live), unknown, digest(&dead), digest(&live)];
    let mut told = keys.identify(op, test, &asked).await.unwrap();
    told.sort_by_key(|(_, view)| view.consumer.clone());
    let told: Vec<_> =
        told.iter().map(|(it, view)| (*it, view.consumer.as_str(), view.key.state(op.now))).collect();
    let expected =
        [(digest(&dead), "ann", CredentialState::Revoked), (digest(&live), "shop", CredentialState::Active)];
    assert_eq!(told, expected);
    assert_eq!(keys.identify(op, &EnvironmentName::prod(), &asked).await.unwrap(), []);
    assert_eq!(keys.identify(op, test, &[]).await.unwrap(), []);
    let moon = EnvironmentName::parse("moon").unwrap();
    assert_eq!(keys.identify(op, &moon, &asked).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn nobody_tries_guesses_of_imported_keys_or_many_digests_at_once() {
    let world = World::start().await;
    let (keys, op, test) = (world.app.keys(), &world.op, &world.test);
    world.consumer("shop").await;
    let imported = keys.import(op, test, &consumer("shop"), new_key(), "hunter2-hunter2-hunter2").await;
    let guess = digest(&imported.unwrap().key);
    assert_eq!(keys.identify(op, test, &[guess]).await.unwrap(), []);
    let many = vec![guess; MAX_IDENTIFIED + 1];
    assert_eq!(keys.identify(op, test, &many).await.unwrap_err().kind, ErrorKind::Invalid);
    assert!(keys.identify(op, test, &many[1..]).await.is_ok());
}

#[tokio::test]
async fn who_keeps_the_keys_of_one_environment_is_told_of_those_only() {
    let world = World::start().await;
    let key = world.consumer("shop").await.key.unwrap().key;
    let keeper = &world.somebody("kit", &["credential-manager in test"]).await;
    let asked = [digest(&key)];
    assert_eq!(world.app.keys().identify(keeper, &world.test, &asked).await.unwrap().len(), 1);
    let elsewhere = world.app.keys().identify(keeper, &EnvironmentName::prod(), &asked).await;
    assert_eq!(elsewhere.unwrap_err().kind, ErrorKind::Forbidden);
}
