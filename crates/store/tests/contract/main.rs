//! What the store promises, on SQLite and on PostgreSQL alike.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic as tests do")]

/// Makes each contract a test on either database.
macro_rules! contracts {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::Database::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::Database::postgres().await).await;
            })*
        }
    };
}

mod journal;
mod lookups;
mod past;
mod tampering;
mod traffic;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tempfile::TempDir;
use tokio::task::JoinSet;

use tollgate_model::calls::{CountedCaller, CountedCalls};
use tollgate_model::environments::Project;
use tollgate_model::ids::KeyId;
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, StoredObject};
use tollgate_store::{
    CallBatch, CallFilter, Change, CommitError, Expect, Guard, MigrateError, Mutation, NewRecord,
    OpenStoreError, Page, ReadError, RecordTable, Store,
};
use tollgate_testkit::{FaultProxy, Postgres, wait_until};

/// A database of one test.
struct Database {
    url: String,
    /// Keeps the directory of an SQLite database.
    _directory: Option<TempDir>,
}

impl Database {
    fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Characters with a meaning in URLs are part of the path.
        let url = format!("sqlite:{}/a b?c#d%20.db", directory.path().display());
        Self { url, _directory: Some(directory) }
    }

    async fn postgres() -> Self {
        Self { url: Postgres::start().await.unwrap().url(), _directory: None }
    }

    async fn store(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// Opens a connection of somebody who is not the store.
    async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let url = match self.url.strip_prefix("sqlite:") {
            Some(path) => {
                format!(
                    "sqlite:{}?mode=rwc",
                    path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")
                )
            }
            None => self.url.clone(),
        };
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        if self.is_sqlite() {
            sqlx::raw_sql("PRAGMA foreign_keys = OFF").execute(&mut connection).await.unwrap();
        }
        connection
    }

    /// Runs SQL behind the store's back.
    async fn tamper(&self, sql: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn count(&self, sql: &str) -> i64 {
        let mut connection = self.connect().await;
        let count = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    }
}

contracts! {
    of_two_racers_for_one_name_exactly_one_wins
    a_lost_update_is_refused_and_names_both_revisions
    a_failed_guard_changes_and_journals_nothing
    a_decision_that_was_based_on_a_list_notices_what_was_written_since
    a_decision_that_was_based_on_what_is_not_there_notices_what_was_deleted_since
    a_change_without_mutations_is_journaled
    numbers_have_no_gaps_under_concurrent_writers_of_two_stores
    a_watcher_wakes_for_commits_of_this_and_of_other_stores
    a_watcher_learns_that_entries_were_lost
    pages_follow_each_other_in_byte_order
    many_objects_are_read_by_their_keys
    a_second_open_changes_nothing_and_a_newer_schema_is_refused
    stores_that_open_a_new_database_together_do_not_collide
    what_does_not_parse_is_named
    loading_sees_one_state
    everything_is_loaded_in_parts_as_of_one_entry
    a_dropped_commit_is_whole_or_absent_and_the_next_one_works
    a_nul_character_is_refused_and_found_nowhere
    records_are_kept_until_they_expire
    counted_calls_of_several_gateways_add_up_and_a_batch_counts_once
    calls_are_summed_up_by_place_time_caller_and_credentials
}

fn realm() -> RealmName {
    RealmName::parse("default").unwrap()
}

fn project(name: &str) -> Project {
    serde_json::from_value(serde_json::json!({ "name": name, "createdAt": "2026-01-01T00:00:00Z" })).unwrap()
}

fn change(mutations: Vec<Mutation>) -> Change {
    Change {
        realm: realm(),
        actor: "ada".into(),
        source: "127.0.0.1".into(),
        action: "project.create".into(),
        request_id: "req_1".into(),
        reason: String::new(),
        at: "2026-01-01T00:00:00.123Z".parse().unwrap(),
        guards: Vec::new(),
        mutations,
    }
}

fn put(name: &str, expect: Expect) -> Change {
    change(vec![Mutation::put(&project(name), expect).unwrap()])
}

fn all(prefix: &str) -> Page {
    Page { prefix: prefix.into(), after: None, limit: 1000 }
}

async fn names(store: &Store, page: &Page) -> Vec<String> {
    store
        .list::<Project>(&realm(), page)
        .await
        .unwrap()
        .into_iter()
        .map(|it| it.value.name.to_string())
        .collect()
}

async fn of_two_racers_for_one_name_exactly_one_wins(database: Database) {
    let (one, other) = (database.store().await, database.store().await);
    for round in 0..10 {
        let name = format!("p{round}");
        let results =
            tokio::join!(one.commit(put(&name, Expect::Absent)), other.commit(put(&name, Expect::Absent)));
        let (won, lost) = match results {
            (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
            both => panic!("{both:?}"),
        };
        let CommitError::Conflict { kind, key, expected, found } = lost else { panic!("{lost:?}") };
        assert_eq!((kind, key, expected, found), (Kind::Project, name, Expect::Absent, Some(won.seq)));
    }
    assert_eq!(one.verify_journal().await.unwrap().entries, 10);
}

async fn a_lost_update_is_refused_and_names_both_revisions(database: Database) {
    let store = database.store().await;
    let first = store.commit(put("a", Expect::Absent)).await.unwrap().seq;
    let second = store.commit(put("a", Expect::Revision(first))).await.unwrap().seq;
    let lost = store.commit(put("a", Expect::Revision(first))).await.unwrap_err();
    assert_eq!(lost.to_string(), "project `a` is not as expected: expected revision 1, found revision 2");
    assert_eq!(store.get::<Project>(&realm(), "a").await.unwrap().unwrap().revision, second);
    let deletion = change(vec![Mutation::delete::<Project>("a", Expect::Exists)]);
    store.commit(deletion.clone()).await.unwrap();
    assert!(store.get::<Project>(&realm(), "a").await.unwrap().is_none());
    assert!(matches!(store.commit(deletion).await, Err(CommitError::Conflict { found: None, .. })));
    store.verify_journal().await.unwrap();
}

async fn a_decision_that_was_based_on_a_list_notices_what_was_written_since(database: Database) {
    let store = database.store().await;
    let decide = async |prefix: &str, seq| {
        let mut decided = put("b", Expect::Any);
        let expect = Expect::NothingSince(seq);
        decided.guards.push(Guard { realm: None, kind: Kind::Project, key: prefix.to_owned(), expect });
        store.commit(decided).await
    };
    decide("a", 0).await.unwrap();
    let seq = store.commit(put("a1", Expect::Absent)).await.unwrap().seq;
    let overtaken = decide("a", seq - 1).await.unwrap_err();
    assert!(matches!(overtaken, CommitError::Conflict { found: Some(found), .. } if found == seq));
    decide("a", seq).await.unwrap();
    decide("a2", seq - 1).await.unwrap();
    decide("", seq).await.unwrap_err();
    store.commit(change(vec![Mutation::delete::<Project>("a1", Expect::Exists)])).await.unwrap();
    decide("a", seq - 1).await.unwrap();
}

async fn a_decision_that_was_based_on_what_is_not_there_notices_what_was_deleted_since(database: Database) {
    let store = database.store().await;
    let decide = async |other: Option<RealmName>, seq| {
        let mut decided = put("b", Expect::Any);
        let expect = Expect::UntouchedSince(seq);
        decided.guards.push(Guard { realm: other, kind: Kind::Project, key: "a".to_owned(), expect });
        store.commit(decided).await
    };
    let written = store.commit(put("a1", Expect::Absent)).await.unwrap().seq;
    decide(None, written).await.unwrap();
    let deletion = change(vec![Mutation::delete::<Project>("a1", Expect::Exists)]);
    let deleted = store.commit(deletion).await.unwrap().seq;
    let overtaken = decide(None, deleted - 1).await.unwrap_err();
    assert!(matches!(overtaken, CommitError::Conflict { found: Some(found), .. } if found == deleted));
    decide(None, deleted).await.unwrap();

    // Another realm than that of the change.
    let other = RealmName::parse("other").unwrap();
    decide(Some(other.clone()), 0).await.unwrap();
    let mut elsewhere = put("a1", Expect::Absent);
    elsewhere.realm = other.clone();
    let seq = store.commit(elsewhere).await.unwrap().seq;
    decide(Some(other), seq - 1).await.unwrap_err();
    decide(None, seq - 1).await.unwrap();
}

async fn a_failed_guard_changes_and_journals_nothing(database: Database) {
    let store = database.store().await;
    let mut guarded = put("a", Expect::Absent);
    guarded.guards.push(Guard { realm: None, kind: Kind::Project, key: "b".into(), expect: Expect::Exists });
    assert!(matches!(store.commit(guarded).await, Err(CommitError::Conflict { .. })));
    // The second of two mutations fails after the first was written.
    let mut twice = put("a", Expect::Absent);
    twice.mutations.push(Mutation::put(&project("b"), Expect::Exists).unwrap());
    assert!(matches!(store.commit(twice).await, Err(CommitError::Conflict { .. })));
    assert_eq!(store.head().await.unwrap(), 0);
    assert!(names(&store, &all("")).await.is_empty());
    assert!(store.changes_after(0, 10).await.unwrap().is_empty());
    assert_eq!(store.commit(put("a", Expect::Absent)).await.unwrap().seq, 1);
}

async fn a_change_without_mutations_is_journaled(database: Database) {
    let store = database.store().await;
    store.commit(change(Vec::new())).await.unwrap();
    let entries = store.changes_after(0, 10).await.unwrap();
    assert_eq!((entries.len(), entries[0].actor.as_str(), entries[0].mutations.len()), (1, "ada", 0));
    assert_eq!(entries[0].previous_hash, [0; 32]);
    assert_eq!(entries[0].at, change(Vec::new()).at);
}

async fn numbers_have_no_gaps_under_concurrent_writers_of_two_stores(database: Database) {
    let (one, other) = (database.store().await, database.store().await);
    let reader = one.clone();
    let follower = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 80 {
            let after = seen.last().copied().unwrap_or(0);
            seen.extend(reader.changes_after(after, 7).await.unwrap().iter().map(|entry| entry.seq));
        }
        seen
    });
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let store = if writer % 2 == 0 { one.clone() } else { other.clone() };
        writers.spawn(async move {
            for n in 0..10 {
                store.commit(put(&format!("w{writer}-{n}"), Expect::Absent)).await.unwrap();
                // A refused change takes no number.
                store.commit(put(&format!("w{writer}-{n}"), Expect::Absent)).await.unwrap_err();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(follower.await.unwrap(), (1..=80).collect::<Vec<_>>());
    assert_eq!(one.verify_journal().await.unwrap().entries, 80);
}

async fn a_watcher_wakes_for_commits_of_this_and_of_other_stores(database: Database) {
    let (one, other) = (database.store().await, database.store().await);
    let mut watcher = one.watch();
    one.commit(change(Vec::new())).await.unwrap();
    assert_eq!(*watcher.borrow_and_update(), 1);
    other.commit(change(Vec::new())).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), watcher.wait_for(|head| *head == 2))
        .await
        .unwrap()
        .unwrap();
}

async fn a_watcher_learns_that_entries_were_lost(database: Database) {
    let store = database.store().await;
    for name in ["a", "b"] {
        store.commit(put(name, Expect::Absent)).await.unwrap();
    }
    let mut watcher = store.watch();
    // As when a backup is restored, or a standby that lagged takes over.
    database
        .tamper(
            "DELETE FROM journal_objects WHERE seq > 1; DELETE FROM journal WHERE seq > 1; \
             DELETE FROM objects WHERE revision > 1; \
             UPDATE head SET seq = 1, hash = (SELECT hash FROM journal WHERE seq = 1)",
        )
        .await;
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, watcher.wait_for(|head| *head == 1)).await.unwrap().unwrap();
    assert_eq!(store.commit(put("c", Expect::Absent)).await.unwrap().seq, 2);
    assert_eq!(*watcher.borrow_and_update(), 2);
    store.verify_journal().await.unwrap();
}

async fn pages_follow_each_other_in_byte_order(database: Database) {
    let store = database.store().await;
    let mut changes = change(Vec::new());
    for name in ["a", "a-b", "a0", "aa", "b", "b-1", "ab"] {
        changes.mutations.push(Mutation::put(&project(name), Expect::Absent).unwrap());
    }
    // Where people would sort these: next to `z`, and between `a` and `b`.
    for (key, name) in [("Z", "upper"), ("ä", "umlaut")] {
        let body = serde_json::to_string(&project(name)).unwrap();
        changes.mutations.push(Mutation {
            kind: Kind::Project,
            key: key.into(),
            expect: Expect::Absent,
            body: Some(body),
        });
    }
    store.commit(changes).await.unwrap();
    let every = ["upper", "a", "a-b", "a0", "aa", "ab", "b", "b-1", "umlaut"];
    assert_eq!(names(&store, &all("")).await, every);
    assert_eq!(names(&store, &all("a")).await, ["a", "a-b", "a0", "aa", "ab"]);
    let mut page = Page { prefix: "a".into(), after: None, limit: 2 };
    let mut seen = Vec::new();
    loop {
        let found = names(&store, &page).await;
        page.after = found.last().cloned();
        if found.is_empty() {
            break;
        }
        seen.extend(found);
    }
    assert_eq!(seen, ["a", "a-b", "a0", "aa", "ab"]);
    assert_eq!(store.count(&realm(), Kind::Project, "b").await.unwrap(), 2);
    assert!(names(&store, &all("%")).await.is_empty());
}

async fn many_objects_are_read_by_their_keys(database: Database) {
    let store = database.store().await;
    let mut changes = change(Vec::new());
    for index in 0..250 {
        changes.mutations.push(Mutation::put(&project(&format!("p{index}")), Expect::Absent).unwrap());
    }
    store.commit(changes).await.unwrap();
    for (wanted, expected) in
        [(0..0, 0), (0..1, 1), (0..100, 100), (50..151, 101), (0..250, 250), (240..260, 10)]
    {
        let mut keys: Vec<String> = wanted.map(|index| format!("p{index}")).collect();
        let found = store.get_many::<Project>(&realm(), &keys).await.unwrap();
        let mut names: Vec<String> = found.into_iter().map(|it| it.value.name.to_string()).collect();
        names.sort();
        keys.sort();
        keys.retain(|key| names.contains(key));
        assert_eq!((names.len(), &names), (expected, &keys), "each once, and no other");
    }
    let keys = ["p1".to_owned(), "p\0".to_owned(), String::new()];
    assert_eq!(store.get_many::<Project>(&realm(), &keys).await.unwrap().len(), 1);
    let elsewhere = RealmName::parse("other").unwrap();
    assert!(store.get_many::<Project>(&elsewhere, &keys).await.unwrap().is_empty());
}

async fn a_second_open_changes_nothing_and_a_newer_schema_is_refused(database: Database) {
    database.store().await.commit(put("a", Expect::Absent)).await.unwrap();
    assert_eq!(names(&database.store().await, &all("")).await, ["a"]);
    database.tamper("INSERT INTO migrations (version, checksum) VALUES (99, '')").await;
    let error = Store::open(&database.url).await.unwrap_err();
    assert!(matches!(error, OpenStoreError::Migrate(MigrateError::TooNew { found: 99, .. })), "{error:?}");
}

async fn stores_that_open_a_new_database_together_do_not_collide(database: Database) {
    let mut opening = JoinSet::new();
    for _ in 0..4 {
        let url = database.url.clone();
        opening.spawn(async move { Store::open(&url).await.map(|_| ()) });
    }
    for result in opening.join_all().await {
        result.unwrap();
    }
}

async fn what_does_not_parse_is_named(database: Database) {
    let store = database.store().await;
    store.commit(put("a", Expect::Absent)).await.unwrap();
    database.tamper("UPDATE objects SET body = '{}'").await;
    for error in [
        store.get::<Project>(&realm(), "a").await.unwrap_err(),
        store.list::<Project>(&realm(), &all("")).await.unwrap_err(),
    ] {
        assert!(matches!(error, ReadError::Row(_)));
        let text = "column `body` of row `default/project/a` in table `objects` does not parse";
        assert_eq!(error.to_string(), text);
    }
}

async fn loading_sees_one_state(database: Database) {
    let store = database.store().await;
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for n in 0..40 {
            writer.commit(put(&format!("p{n}"), Expect::Absent)).await.unwrap();
        }
    });
    loop {
        let (seq, objects) = store.load(&[Kind::Project, Kind::Realm]).await.unwrap();
        // Every change adds one object.
        assert_eq!(objects.iter().map(|it| it.revision).collect::<BTreeSet<_>>(), (1..=seq).collect());
        if seq == 40 {
            break;
        }
    }
    writing.await.unwrap();
}

async fn everything_is_loaded_in_parts_as_of_one_entry(database: Database) {
    let store = database.store().await;
    let mut change = put("first", Expect::Absent);
    change.mutations =
        (0..8_001).map(|n| Mutation::put(&project(&format!("p{n}")), Expect::Absent).unwrap()).collect();
    store.commit(change).await.unwrap();
    let (parts, mut coming) = tokio::sync::mpsc::channel::<Vec<StoredObject>>(1);
    let read = async {
        let mut sizes = Vec::new();
        let mut keys = BTreeSet::new();
        while let Some(part) = coming.recv().await {
            sizes.push(part.len());
            keys.extend(part.into_iter().map(|object| object.key));
        }
        (sizes, keys.len())
    };
    let (end, (sizes, keys)) = tokio::join!(store.load_in_parts(&[Kind::Project, Kind::Realm], parts), read);
    let (seq, hash) = end.unwrap();
    assert_eq!((seq, Some(hash)), (1, store.hash_at(1).await.unwrap()));
    assert_eq!((sizes, keys), (vec![4_000, 4_000, 1], 8_001));
}

async fn a_dropped_commit_is_whole_or_absent_and_the_next_one_works(database: Database) {
    let store = database.store().await;
    for n in 0..20 {
        let mut change = put(&format!("a{n}"), Expect::Absent);
        change.mutations.push(Mutation::put(&project(&format!("b{n}")), Expect::Absent).unwrap());
        let mut commit = Box::pin(store.commit(change));
        // Polled now and then a different number of times before it is dropped.
        for _ in 0..n {
            tokio::select! { biased; _ = &mut commit => break, () = tokio::task::yield_now() => {} }
        }
        drop(commit);
    }
    store.commit(put("last", Expect::Absent)).await.unwrap();
    // Dropped commits may still be ending: one consistent reading shows each whole or absent.
    let (_, objects) = store.load(&[Kind::Project]).await.unwrap();
    let keys: BTreeSet<_> = objects.into_iter().map(|object| object.key).collect();
    for n in 0..20 {
        assert_eq!(keys.contains(&format!("a{n}")), keys.contains(&format!("b{n}")));
    }
    store.verify_journal().await.unwrap();
}

async fn a_nul_character_is_refused_and_found_nowhere(database: Database) {
    let store = database.store().await;
    let mut bad = put("a", Expect::Absent);
    bad.reason = "a\0b".into();
    assert!(matches!(store.commit(bad).await, Err(CommitError::Nul { field: "the reason" })));
    assert!(store.get::<Project>(&realm(), "a\0").await.unwrap().is_none());
    assert!(names(&store, &all("a\0")).await.is_empty());
    assert_eq!(store.head().await.unwrap(), 0);
}

async fn records_are_kept_until_they_expire(database: Database) {
    let store = database.store().await;
    let (table, realm) = (RecordTable::Idempotency, realm());
    let soon = Some("2026-01-01T00:00:00Z".parse().unwrap());
    assert!(store.insert_record_if_absent(table, &realm, "k1", "one", soon).await.unwrap());
    assert!(!store.insert_record_if_absent(table, &realm, "k1", "two", None).await.unwrap());
    store.put_record(table, &realm, "k2", "two", None).await.unwrap();
    store.put_record(table, &realm, "k2", "three", None).await.unwrap();
    assert_eq!(store.get_record(table, &realm, "k1").await.unwrap().as_deref(), Some("one"));
    assert_eq!(store.get_record(RecordTable::LastUse, &realm, "k1").await.unwrap(), None);
    let listed = store.list_records(table, &realm, "k", 5).await.unwrap();
    assert_eq!(listed.iter().map(|it| it.body.as_str()).collect::<Vec<_>>(), ["three", "one"]);
    assert_eq!(store.delete_expired_records("2026-01-01T00:00:00Z".parse().unwrap()).await.unwrap(), 1);
    assert_eq!(store.get_record(table, &realm, "k1").await.unwrap(), None);

    let record = |key: &str, body: &str| NewRecord {
        realm: realm.clone(),
        key: key.to_owned(),
        body: body.to_owned(),
        expires_at: Some("2026-01-02T00:00:00Z".parse().unwrap()),
    };
    let table = RecordTable::Refusals;
    let kept = NewRecord { expires_at: None, ..record("kept", "for ever") };
    store.put_records(RecordTable::LastUse, &[kept]).await.unwrap();
    store.put_records(table, &[record("a", "1"), record("b", "2"), record("a", "3")]).await.unwrap();
    store.put_records(table, &[record("c", "4"), record("b", "5")]).await.unwrap();
    store.put_records(table, &[]).await.unwrap();
    let below = async |key: &str, limit| {
        let records = store.list_records_below(table, &realm, key, limit).await.unwrap();
        records.into_iter().map(|it| format!("{}{}", it.key, it.body)).collect::<Vec<_>>()
    };
    assert_eq!(below("~", 2).await, ["c4", "b5"]);
    assert_eq!(below("b", 9).await, ["a3"]);
    assert_eq!(store.delete_expired_records("2026-01-02T00:00:00Z".parse().unwrap()).await.unwrap(), 3);
    assert!(store.get_record(RecordTable::LastUse, &realm, "kept").await.unwrap().is_some());
    assert_eq!(store.head().await.unwrap(), 0);
}

fn calls(minute: i64, pipeline: &str, caller: CountedCaller, credentials: &str) -> CountedCalls {
    CountedCalls {
        realm: realm(),
        environment: "test".parse().unwrap(),
        pipeline: pipeline.parse().unwrap(),
        major: 1,
        minute,
        caller,
        credentials: credentials.parse().unwrap(),
    }
}

fn batch(id: &str, calls: &[(CountedCalls, u64)]) -> CallBatch {
    CallBatch { id: id.into(), at: "2026-01-01T00:00:00Z".parse().unwrap(), calls: calls.to_vec() }
}

const EVERY_CALL: CallFilter<'_> = CallFilter { since_minute: 0, environment: None, pipeline: None };

async fn counted_calls_of_several_gateways_add_up_and_a_batch_counts_once(database: Database) {
    let (one, other) = (database.store().await, database.store().await);
    let rows: Vec<_> = (0..50).map(|n| (calls(7, "a", CountedCaller::Unknown, "none"), n)).collect();
    let key =
        CountedCaller::Consumer("ann".parse().unwrap(), Some(KeyId::new(Timestamp::MAX, [1; 10]).into()));
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let store = if n % 2 == 0 { one.clone() } else { other.clone() };
        // Each takes the rows in another order.
        let mut mine =
            vec![(calls(7, "a", key.clone(), "api-key"), 2), (calls(7, "b", key.clone(), "api-key"), 3)];
        mine.rotate_left(n % 2);
        writers.spawn(async move {
            let batch = batch(&format!("batch-{n}"), &mine);
            store.add_calls(&batch).await.unwrap();
            // Whoever does not know whether it was stored hands it over again.
            store.add_calls(&batch).await.unwrap();
        });
    }
    writers.join_all().await;
    one.add_calls(&batch("many", &rows)).await.unwrap();
    let sums = other.sum_calls(&realm(), &EVERY_CALL).await.unwrap();
    let sums: Vec<_> = sums.into_iter().map(|sum| (sum.of, sum.calls)).collect();
    let expected = [
        (calls(7, "a", CountedCaller::Unknown, "none"), (0..50).sum()),
        (calls(7, "a", key.clone(), "api-key"), 16),
        (calls(7, "b", key, "api-key"), 24),
    ];
    assert_eq!(sums, expected);
    assert_eq!(one.head().await.unwrap(), 0, "counting is no change");
}

async fn calls_are_summed_up_by_place_time_caller_and_credentials(database: Database) {
    let store = database.store().await;
    let ann = || CountedCaller::Consumer("ann".parse().unwrap(), None);
    let mut of_prod = calls(9, "a", ann(), "token");
    of_prod.environment = "prod".parse().unwrap();
    let mut of_other_realm = calls(9, "a", ann(), "token");
    of_other_realm.realm = RealmName::parse("other").unwrap();
    let rows = [
        (calls(5, "a", ann(), "token"), 1),
        (calls(9, "a", ann(), "token"), 2),
        (calls(9, "a", ann(), "api-key-sent+token"), 4),
        (calls(9, "a", CountedCaller::Others, "token"), 8),
        (calls(9, "b", ann(), "token"), 16),
        (of_prod, 32),
        (of_other_realm, 64),
    ];
    store.add_calls(&batch("all", &rows)).await.unwrap();
    let sums = async |filter: &CallFilter<'_>| {
        let sums = store.sum_calls(&realm(), filter).await.unwrap();
        sums.iter().map(|sum| (sum.of.minute, sum.calls)).collect::<Vec<_>>()
    };
    let (test, a) = ("test".parse().unwrap(), "a".parse().unwrap());
    let of_a = CallFilter { environment: Some(&test), pipeline: Some(&a), ..EVERY_CALL };
    assert_eq!(sums(&of_a).await, [(9, 8), (9, 4), (9, 3)]);
    assert_eq!(sums(&CallFilter { since_minute: 6, ..of_a.clone() }).await, [(9, 8), (9, 4), (9, 2)]);
    assert_eq!(sums(&CallFilter { pipeline: None, ..of_a.clone() }).await, [(9, 8), (9, 4), (9, 3), (9, 16)]);
    assert_eq!(sums(&EVERY_CALL).await.iter().map(|(_, calls)| calls).sum::<u64>(), 63);

    assert_eq!(store.delete_calls_before(9).await.unwrap(), 1);
    assert_eq!(sums(&of_a).await, [(9, 8), (9, 4), (9, 2)]);
    database.tamper("UPDATE calls SET credentials = 'secret' WHERE credentials = 'api-key-sent+token'").await;
    let error = store.sum_calls(&realm(), &EVERY_CALL).await.unwrap_err();
    let text = "column `credentials` of row `default/test/a/1/ann//secret` in table `calls` does not parse";
    assert_eq!(error.to_string(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_an_error_and_the_store_recovers() {
    let postgres = Postgres::start().await.unwrap();
    let proxy = FaultProxy::start(postgres.address()).await.unwrap();
    let store = Store::open(&postgres.url_via(proxy.address())).await.unwrap();
    store.commit(put("a", Expect::Absent)).await.unwrap();
    proxy.refuse();
    assert!(store.commit(put("b", Expect::Absent)).await.is_err());
    assert!(store.get::<Project>(&realm(), "a").await.is_err());
    proxy.heal();
    wait_until("the store answers again", Duration::from_secs(30), async || {
        store.commit(put("c", Expect::Any)).await.is_ok()
    })
    .await;
    store.verify_journal().await.unwrap();
}

#[tokio::test]
async fn no_error_shows_the_password() {
    let server = Postgres::start().await.unwrap().address();
    for url in [
        format!("postgres://ada:hunter2@{server}/nowhere"),
        "postgres://ada:hunter2@127.0.0.1:hunter2/x".to_owned(),
        "mysql://ada:hunter2@127.0.0.1/x".to_owned(),
    ] {
        let error = anyhow::Error::from(Store::open(&url).await.unwrap_err());
        assert!(!format!("{error:#} {error:?}").contains("hunter2"), "{error:?}");
    }
    let database = Database::sqlite();
    assert!(!format!("{:?}", database.store().await).contains("sqlite:"));
}
