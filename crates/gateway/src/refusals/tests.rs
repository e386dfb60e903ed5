use tollgate_model::environments::Exposure;
use tollgate_model::explanations::{Reached, SentCredentials};
use tollgate_model::names::EnvironmentName;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("in range")
}

fn realm() -> RealmName {
    RealmName::default()
}

fn deployment(n: u8) -> Option<DeploymentId> {
    Some(DeploymentId::new(at(0), [n; 10]))
}

fn source(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn kept(second: i64, n: u8) -> Arc<Refusal> {
    Arc::new(Refusal {
        request_id: RequestId::new(at(second), [n; 10]),
        at: at(second),
        environment: EnvironmentName::test(),
        exposure: Exposure::External,
        method: "GET".to_owned(),
        path: "/".to_owned(),
        remote: source(1),
        status: 404,
        code: "route-not-found".to_owned(),
        reached: Reached::default(),
        sent: SentCredentials::default(),
        revision: 1,
        checks: Vec::new(),
    })
}

fn dropped(refusals: &Refusals) -> u64 {
    refusals.take(0).dropped.values().flat_map(BTreeMap::values).sum()
}

#[test]
fn a_flood_of_one_source_or_one_pipeline_leaves_room_for_the_others() {
    let refusals = Refusals::new();
    let admit = |from: u8, to: u8, second| refusals.admit(&realm(), deployment(to), source(from), at(second));
    let kept = |from: u8, to: u8| (0..500).filter(|_| admit(from, to, 0)).count();
    assert_eq!(kept(1, 1), 100, "one source at one pipeline");
    assert!(admit(2, 1, 0), "another source at the same pipeline");
    assert!(admit(1, 2, 0), "the same source at another pipeline");
    let by_many: usize = (2..200).map(|from| (0..10).filter(|_| admit(from, 1, 0)).count()).sum();
    assert_eq!(by_many, 300 - 101, "many sources at one pipeline");
    assert!(admit(2, 2, 0), "another pipeline");
    let all: usize = (3..250).map(|n| kept(n, n)).sum();
    assert_eq!(all, 1_000 - 302, "everybody at everything");
    assert!(dropped(&refusals) > 100_000);
    // With time there is room again, and not more than before.
    assert!(!admit(250, 250, 1));
    assert!(admit(250, 250, 2));
    assert!(!admit(250, 250, 2));
    assert_eq!((0..500).filter(|_| admit(1, 1, 1_000_000)).count(), 100);
}

#[test]
fn a_clock_that_was_set_back_does_not_end_it_all() {
    let refusals = Refusals::new();
    let admit = |second| refusals.admit(&realm(), deployment(1), source(1), at(second));
    assert!((0..100).all(|_| admit(10_000_000)));
    assert!(!admit(0));
    assert!(admit(2_000 + 20));
}

#[test]
fn memory_is_bounded_and_what_is_lost_is_counted() {
    let refusals = Refusals::holding(10);
    for n in 0..4 {
        refusals.push(realm(), kept(n.into(), n), 10);
    }
    let taken = refusals.take(3);
    assert_eq!((taken.refusals.len(), taken.dropped.len()), (3, 0));
    for n in 4..25 {
        refusals.push(realm(), kept(n.into(), n), 10);
    }
    assert_eq!(refusals.recent(&realm()).len(), 10);
    let newest: Vec<_> = refusals.recent(&realm()).iter().map(|it| it.at).collect();
    assert_eq!((newest.first(), newest.last()), (Some(&at(24)), Some(&at(15))));
    let taken = refusals.take(100);
    assert_eq!(taken.refusals.len(), 10);
    assert_eq!(taken.dropped.values().flat_map(BTreeMap::values).sum::<u64>(), 25 - 3 - 10);
    assert_eq!(refusals.take(100).refusals.len(), 0, "once");
    let id = RequestId::new(at(20), [20; 10]);
    assert!(refusals.find(&realm(), id).is_some(), "what was taken is still there");
    assert!(refusals.find(&RealmName::parse("other").expect("a name"), id).is_none());
}

#[test]
fn a_path_is_kept_without_what_looks_like_a_secret() {
    for (path, shown) in [
        ("/a/b.c/%20", "/a/b.c/%20"),
        ("/a/tg_test_Q3B4xxxxxxxxxxxxxxxxxxxxxxxx/b", "/a/…/b"),
        ("/eyJhbGciOiJFUzI1NiIs.eyJ.x", "/…"),
        ("/x=tgu_0123456789abcdef", "/…"),
        ("/tg_short", "/tg_short"),
    ] {
        assert_eq!(shown_path(path), shown);
    }
    assert_eq!(shown_path(&format!("/{}", "ä".repeat(1_000))).chars().count(), 257);
}
