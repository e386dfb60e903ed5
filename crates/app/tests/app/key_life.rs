//! Keys that end by themselves, and gateways that say how far they are.

use std::time::Duration;

use jiff::SignedDuration;
use tollgate_app::errors::ErrorKind;
use tollgate_app::gateways::{GatewayBeat, GatewayState};
use tollgate_app::keys::{NewKey, UntilUnused};
use tollgate_model::consumers::CredentialState;
use tollgate_model::sources::Clock as _;

use crate::world::{World, consumer, new_key};

const WEEK: u32 = 7 * 86_400;

fn until(unused_seconds: u32, at_latest_seconds: u32) -> UntilUnused {
    UntilUnused { unused_seconds, at_latest_seconds }
}

#[tokio::test]
async fn a_key_that_was_rotated_ends_when_it_had_no_call_for_its_time() {
    let mut world = World::start().await;
    world.consumer("ann").await;
    let (test, ann) = (world.test.clone(), consumer("ann"));
    let key = world.app.keys().create(&world.op, &test, &ann, new_key()).await.unwrap().key;
    for (unused, latest) in [(59, WEEK), (WEEK, WEEK - 1), (WEEK, 366 * 86_400)] {
        let refused =
            world.app.keys().rotate_until_unused(&world.op, &test, key.id, until(unused, latest), None).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Invalid, "{unused} {latest}");
    }
    let keys = world.app.keys();
    let rotated = keys.rotate_until_unused(&world.op, &test, key.id, until(WEEK, 4 * WEEK), None).await;
    let successor = rotated.unwrap().key;
    assert_eq!(successor.retire_unused_seconds, None);
    let mut later = async |seconds: u64| {
        world.clock.advance(Duration::from_secs(seconds));
        world.op.now = world.clock.now();
        (world.app.clone(), world.op.clone())
    };
    let (app, op) = later(6 * 86_400).await;
    assert!(!app.keys().retire_if_unused(&op, &test, key.id).await.unwrap(), "six days after the rotation");
    app.usage().flush(&[(key.id.into(), op.now)]).await.unwrap();
    let (app, op) = later(6 * 86_400).await;
    assert!(!app.keys().retire_if_unused(&op, &test, key.id).await.unwrap(), "six days after a call");
    let (app, op) = later(86_400).await;
    let told = app.keys().retire_if_unused(&op, &test, key.id).await.unwrap();
    assert!(!told, "a call of a moment ago may not be written yet");
    let (app, op) = later(10).await;
    assert!(!app.keys().retire_if_unused(&op, &test, successor.id).await.unwrap(), "nobody asked for that");
    assert!(app.keys().retire_if_unused(&op, &test, key.id).await.unwrap());
    assert!(!app.keys().retire_if_unused(&op, &test, key.id).await.unwrap(), "once");
    let keys = app.keys().list(&op, &test, &ann).await.unwrap();
    let states: Vec<_> =
        keys.iter().filter(|it| it.key.id == key.id).map(|it| it.key.state(op.now)).collect();
    assert_eq!(states, [CredentialState::Expired]);
}

#[tokio::test]
async fn a_key_that_is_used_all_the_time_ends_at_its_hard_stop() {
    let mut world = World::start().await;
    world.consumer("ann").await;
    let (test, ann, start) = (world.test.clone(), consumer("ann"), world.op.now);
    let key = world.app.keys().create(&world.op, &test, &ann, new_key()).await.unwrap().key;
    let short = NewKey { expires_at: Some(start + SignedDuration::from_secs(600)), ..new_key() };
    let short = world.app.keys().create(&world.op, &test, &ann, short).await.unwrap().key;
    let stop = start + SignedDuration::from_secs(4 * i64::from(WEEK));
    for (id, ends_at) in [(key.id, Some(stop)), (short.id, short.expires_at)] {
        let keys = world.app.keys();
        keys.rotate_until_unused(&world.op, &test, id, until(60, 4 * WEEK), None).await.unwrap();
        let keys = keys.list(&world.op, &test, &ann).await.unwrap();
        let old = keys.into_iter().find(|it| it.key.id == id).unwrap().key;
        assert_eq!(old.expires_at, ends_at, "no rotation makes a key live longer");
    }
    for day in 1..=28 {
        world.clock.advance(Duration::from_secs(86_400));
        world.op.now = world.clock.now();
        world.app.usage().flush(&[(key.id.into(), world.op.now)]).await.unwrap();
        assert!(!world.app.keys().retire_if_unused(&world.op, &test, key.id).await.unwrap(), "day {day}");
    }
    let keys = world.app.keys().list(&world.op, &test, &ann).await.unwrap();
    let old = keys.into_iter().find(|it| it.key.id == key.id).unwrap();
    assert_eq!(old.key.state(stop - SignedDuration::from_secs(1)), CredentialState::Active);
    assert_eq!((old.key.state(stop), old.last_used_at), (CredentialState::Expired, Some(stop)));
}

#[tokio::test]
async fn an_entry_is_confirmed_when_every_gateway_that_was_heard_of_serves_it() {
    let world = World::start().await;
    let (op, gateways) = (&world.op, world.app.gateways());
    let head = world.store.head().await.unwrap();
    let beat = |id: &str, entry, ago: i64, stopped| GatewayBeat {
        id: id.to_owned(),
        name: id.to_owned(),
        entry,
        seen_at: op.now - SignedDuration::from_secs(ago),
        stopped,
    };
    let state = async || {
        let told = gateways.confirmation(op, head).await.unwrap();
        let states: Vec<_> = told.gateways.into_iter().map(|(beat, state)| (beat.id, state)).collect();
        (told.confirmed, states)
    };
    assert_eq!(state().await, (false, vec![]), "nobody was heard of");
    gateways.beat(&beat("a", head, 1, false)).await.unwrap();
    assert!(state().await.0);
    gateways.beat(&beat("b", head - 1, 59, false)).await.unwrap();
    let (confirmed, states) = state().await;
    assert!(!confirmed && states.contains(&("b".to_owned(), GatewayState::Lagging)));
    gateways.beat(&beat("b", head - 1, 60, false)).await.unwrap();
    let (confirmed, states) = state().await;
    assert!(confirmed && states.contains(&("b".to_owned(), GatewayState::Silent)), "gone, and named");
    gateways.beat(&beat("b", head - 1, 1, true)).await.unwrap();
    assert_eq!(state().await, (true, vec![("a".to_owned(), GatewayState::Confirmed)]), "ended");
    let future = gateways.confirmation(op, head + 1).await;
    assert_eq!(future.unwrap_err().kind, ErrorKind::Invalid);
}
