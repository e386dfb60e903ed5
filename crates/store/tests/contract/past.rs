//! What there was: as of an entry, and as of a time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tollgate_model::environments::{Project, Realm};
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, Object};
use tollgate_model::sources::Random as _;
use tollgate_store::{Change, CommitError, Expect, JournalFilter, Mutation, Page, Store, Stored};
use tollgate_testkit::SeededRandom;

use crate::{Database, all, change, names, project, put, realm};

contracts! {
    the_state_as_of_every_entry_is_what_a_replay_gives
    a_store_of_the_past_reads_then_and_writes_nothing
    the_last_entry_at_a_time_is_found
}

/// What the journal adds up to: of each realm and key the revision and the time in the project.
type Replayed = BTreeMap<(RealmName, String), (u64, Timestamp)>;

/// Commits changes that write, write over, delete and make again, in two realms; returns the state after each entry.
async fn history(store: &Store) -> Vec<Replayed> {
    let random = SeededRandom::new(3);
    let below = |bound: u8| {
        let mut byte = [0; 1];
        random.fill(&mut byte).unwrap();
        byte[0] % bound
    };
    let keys = ["a", "a-1", "a1", "b", "ab"];
    let mut state = Replayed::new();
    let mut states = vec![state.clone()];
    for n in 1..=60 {
        let realm = RealmName::parse(if below(4) == 0 { "other" } else { "default" }).unwrap();
        let mut next = Change { realm: realm.clone(), ..change(Vec::new()) };
        // Some entries write nothing, some several objects, and some one object twice.
        for _ in 0..below(5) {
            let key = keys[usize::from(below(5))];
            let object = (realm.clone(), key.to_owned());
            let mutation = if below(3) > 0 {
                let project = Project { created_at: Timestamp::from_second(n).unwrap(), ..project(key) };
                state.insert(object, (n.unsigned_abs(), project.created_at));
                Mutation::put(&project, Expect::Any).unwrap()
            } else {
                state.remove(&object);
                Mutation::delete::<Project>(key, Expect::Any)
            };
            next.mutations.push(mutation);
        }
        store.commit(next).await.unwrap();
        states.push(state.clone());
    }
    states
}

async fn the_state_as_of_every_entry_is_what_a_replay_gives(database: Database) {
    let store = database.store().await;
    let states = history(&store).await;
    let shown = |found: Vec<Stored<Project>>| -> Vec<_> {
        found.into_iter().map(|it| (it.value.key(), it.revision, it.value.created_at)).collect()
    };
    for (state, seq) in states.iter().zip(0..) {
        let past = store.as_of(seq);
        for realm in ["default", "other"].map(|name| RealmName::parse(name).unwrap()) {
            let here = || state.iter().filter(|((of, _), _)| *of == realm);
            let expected = |prefix: &str| -> Vec<_> {
                let here = here().filter(|((_, key), _)| key.starts_with(prefix));
                here.map(|((_, key), (revision, at))| (key.clone(), *revision, *at)).collect()
            };
            for prefix in ["", "a", "b"] {
                let listed = store.list_as_of::<Project>(&realm, prefix, seq).await.unwrap();
                assert_eq!(shown(listed), expected(prefix), "{realm} {prefix} as of {seq}");
                // Pages that are smaller than what was deleted in between.
                let mut page = Page { prefix: prefix.into(), after: None, limit: 2 };
                let mut paged = Vec::new();
                loop {
                    let found = shown(past.list(&realm, &page).await.unwrap());
                    paged.extend(found.iter().cloned());
                    match found.as_slice() {
                        [_, (last, ..)] => page.after = Some(last.clone()),
                        _ => break,
                    }
                }
                assert_eq!(paged, expected(prefix), "pages of {realm} {prefix} as of {seq}");
                let count = past.count(&realm, Kind::Project, prefix).await.unwrap();
                assert_eq!(count, paged.len() as u64);
            }
            for key in ["a", "a-1", "a1", "b", "ab", "never", "a\0"] {
                let one = store.get_as_of::<Project>(&realm, key, seq).await.unwrap();
                let expected = expected(key).into_iter().filter(|(found, ..)| found == key);
                assert_eq!(shown(one.into_iter().collect()), expected.collect::<Vec<_>>());
            }
        }
    }
    // The last state is the current one.
    let now = store.list::<Project>(&realm(), &all("")).await.unwrap();
    assert!(!now.is_empty());
    assert_eq!(store.list_as_of::<Project>(&realm(), "", 60).await.unwrap(), now);
    assert_eq!(store.list_as_of::<Project>(&realm(), "", u64::MAX).await.unwrap(), now);
    store.verify_journal().await.unwrap();
}

async fn a_store_of_the_past_reads_then_and_writes_nothing(database: Database) {
    let store = database.store().await;
    let a_realm = |name: &str| {
        let realm = serde_json::json!({ "name": name, "createdAt": "2026-01-01T00:00:00Z" });
        Mutation::put::<Realm>(&serde_json::from_value(realm).unwrap(), Expect::Absent).unwrap()
    };
    store.commit(change(vec![a_realm("default")])).await.unwrap();
    store.commit(put("a", Expect::Absent)).await.unwrap();
    let other = RealmName::parse("other").unwrap();
    store.commit(Change { realm: other, ..change(vec![a_realm("other")]) }).await.unwrap();
    store.commit(put("b", Expect::Absent)).await.unwrap();
    let past = store.as_of(2);
    assert_eq!(names(&past, &all("")).await, ["a"]);
    assert!(past.get::<Project>(&realm(), "b").await.unwrap().is_none());
    let both = ["a".to_owned(), "b".to_owned(), "a\0".to_owned()];
    assert_eq!(past.get_many::<Project>(&realm(), &both).await.unwrap().len(), 1);
    assert_eq!(past.realms().await.unwrap().len(), 1);
    let (seq, objects) = past.load(&[Kind::Project, Kind::Realm]).await.unwrap();
    assert_eq!((seq, objects.len()), (2, 2));
    let every = JournalFilter { limit: 10, ..JournalFilter::default() };
    assert_eq!(past.journal(&realm(), &every).await.unwrap().len(), 2);
    assert_eq!(past.changes_after(0, 10).await.unwrap().len(), 2);
    assert_eq!((past.head().await.unwrap(), past.as_of(9).head().await.unwrap()), (2, 2));
    assert_eq!(store.as_of(9).head().await.unwrap(), 4);
    assert!(matches!(past.commit(put("c", Expect::Absent)).await, Err(CommitError::Past)));
    assert_eq!(names(&store, &all("")).await, ["a", "b"]);
}

async fn the_last_entry_at_a_time_is_found(database: Database) {
    let store = database.store().await;
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    assert_eq!(store.seq_at(at("2026-01-01T00:00:00Z")).await.unwrap(), 0);
    let times = [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.5Z",
        "2026-01-01T00:00:00.25Z", // Came before the one before it, and was committed after it.
        "2026-01-01T00:00:01Z",
        "2020-01-01T00:00:00Z", // A clock that was wrong.
        "2026-01-01T00:00:02.000000001Z",
        "2026-01-01T00:00:02Z",
        "2031-01-01T00:00:00Z", // Another.
        "2026-01-01T00:00:03Z",
    ];
    for time in times {
        store.commit(Change { at: at(time), ..change(Vec::new()) }).await.unwrap();
    }
    for (time, expected) in [
        ("2019-12-31T23:59:59Z", 0),
        ("2025-12-31T23:59:59.999999999Z", 5),
        ("2026-01-01T00:00:00Z", 1),
        ("2026-01-01T00:00:00.1Z", 1),
        ("2026-01-01T00:00:00.25Z", 3),
        ("2026-01-01T00:00:00.5Z", 3),
        ("2026-01-01T00:00:01.9Z", 4),
        ("2026-01-01T00:00:02Z", 7),
        ("2026-01-01T00:00:02.000000001Z", 7),
        ("2026-01-01T00:00:03Z", 9),
        ("2030-01-01T00:00:00Z", 9),
    ] {
        assert_eq!(store.seq_at(at(time)).await.unwrap(), expected, "{time}");
    }
}
