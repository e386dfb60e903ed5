//! Somebody edits the database: verifying notices, and names the first entry that is wrong.

use sqlx::{Column as _, Connection as _, Executor as _, Row as _};
use tollgate_model::environments::Project;
use tollgate_model::objects::Kind;
use tollgate_store::{
    About, Expect, JournalFilter, Mutation, Outcome, Refusal, RefusedAttempt, Store, VerifyJournalError,
};

use crate::{Database, all, change, names, project, put, realm};

contracts! {
    what_older_versions_wrote_still_verifies_and_is_found_by_time
    every_column_of_an_entry_is_noticed
    entries_that_are_removed_moved_added_or_cut_off_are_noticed
    objects_that_are_not_what_the_journal_says_are_noticed
    the_time_by_which_an_entry_is_found_cannot_be_set
}

/// The schema before there were outcomes.
const OLD_SCHEMA: [&str; 4] = [
    include_str!("../../migrations/0001_journal_and_objects.sql"),
    include_str!("../../migrations/0002_records.sql"),
    include_str!("../../migrations/0003_journal_objects_by_entry.sql"),
    include_str!("../../migrations/0004_calls.sql"),
];

const TABLES: [&str; 4] = ["journal", "journal_objects", "objects", "head"];

/// Columns that the database computes.
const GENERATED: [&str; 3] = ["at_sorted", "owner", "handle"];

/// A project is made, made again beside another, deleted; then a deploy is refused, and a project made.
///
/// The first three entries were written by an older version.
async fn journal(database: &Database) -> Store {
    let key_text = if database.is_sqlite() { "TEXT COLLATE BINARY" } else { "TEXT COLLATE \"C\"" };
    for sql in OLD_SCHEMA {
        database.tamper(&sql.replace("KEY_TEXT", key_text)).await;
    }
    database.tamper(include_str!("before_outcomes.sql")).await;
    let store = database.store().await;
    let refused = RefusedAttempt {
        realm: realm(),
        actor: "eve".into(),
        source: "192.0.2.1".into(),
        action: "deployment.deploy".into(),
        request_id: "req_2".into(),
        reason: "no key".into(),
        at: "2026-01-01T00:00:03Z".parse().unwrap(),
        about: Some(About { kind: Kind::Deployment, key: "test/shop/v1".into() }),
        refusal: Refusal { environment: Some("test".into()), ..Refusal::new("policy-refused") },
    };
    store.journal_refused(vec![refused]).await.unwrap();
    let mut last = put("c", Expect::Absent);
    last.at = "2026-01-01T00:00:04Z".parse().unwrap();
    store.commit(last).await.unwrap();
    assert_eq!(store.verify_journal().await.unwrap().entries, 5);
    store
}

/// A database whose journal is edited, and put right again after each edit.
struct Tampered {
    database: Database,
    store: Store,
    columns: Vec<(&'static str, Vec<String>)>,
}

impl Tampered {
    async fn start(database: Database) -> Self {
        let store = journal(&database).await;
        // Whoever owns the database can take the constraint away; on SQLite it holds for who asks for it.
        if !database.is_sqlite() {
            database.tamper("ALTER TABLE journal_objects DROP CONSTRAINT journal_objects_seq_fkey").await;
        }
        let mut columns = Vec::new();
        let mut connection = database.connect().await;
        for table in TABLES {
            let row =
                connection.fetch_one(sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"))).await.unwrap();
            let names = row.columns().iter().map(|column| column.name().to_owned());
            columns.push((table, names.filter(|name| !GENERATED.contains(&name.as_str())).collect()));
            database.tamper(&format!("CREATE TABLE backup_{table} AS SELECT * FROM {table}")).await;
        }
        connection.close().await.unwrap();
        Self { database, store, columns }
    }

    /// Makes an edit, sees that the entry is named, and takes the edit back.
    async fn notices(&self, seq: u64, attack: &str) {
        self.database.tamper(attack).await;
        match self.store.verify_journal().await {
            Err(VerifyJournalError::Broken { seq: named, what }) => {
                assert_eq!(named, seq, "{attack}: {what}");
            }
            other => panic!("{attack}: {other:?}"),
        }
        let mut repair = String::from("DELETE FROM journal_objects;");
        for (table, columns) in &self.columns {
            let columns = columns.join(", ");
            repair.push_str(&format!(
                "DELETE FROM {table}; INSERT INTO {table} ({columns}) SELECT {columns} FROM backup_{table};"
            ));
        }
        self.database.tamper(&repair).await;
        assert_eq!(self.store.verify_journal().await.unwrap().entries, 5, "{attack}: not repaired");
    }

    fn columns(&self, table: &str) -> &[String] {
        &self.columns.iter().find(|(name, _)| *name == table).unwrap().1
    }
}

async fn what_older_versions_wrote_still_verifies_and_is_found_by_time(database: Database) {
    let store = journal(&database).await;
    let entries = store.changes_after(0, 10).await.unwrap();
    let formats: Vec<_> = entries.iter().map(|entry| (entry.format, entry.outcome)).collect();
    let (done, refused) = (Outcome::Done, Outcome::Refused);
    assert_eq!(formats, [(1, done), (1, done), (1, done), (2, refused), (2, done)]);
    assert_eq!(store.seq_at("2026-01-01T00:00:02.4Z".parse().unwrap()).await.unwrap(), 2);
    let then = store.list_as_of::<Project>(&realm(), "", 2).await.unwrap();
    assert_eq!(then.iter().map(|it| it.value.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(names(&store, &all("")).await, ["b", "c"]);
    let since = Some("2026-01-01T00:00:02.5Z".parse().unwrap());
    let filter = JournalFilter { since, limit: 10, ..JournalFilter::default() };
    assert_eq!(store.journal(&realm(), &filter).await.unwrap().len(), 3);
    assert_eq!(store.hash_at(2).await.unwrap(), Some(entries[1].hash));
    assert_eq!((store.hash_at(6).await.unwrap(), store.as_of(1).hash_at(2).await.unwrap()), (None, None));
}

async fn every_column_of_an_entry_is_noticed(database: Database) {
    let tampered = Tampered::start(database).await;
    for column in tampered.columns("journal") {
        // One that an older version wrote, a refused attempt, and the last one.
        for seq in [2, 4, 5] {
            let edits: &[&str] = match column.as_str() {
                "seq" => &["seq + 100", "-seq"],
                "format" => &["3 - format", "3", "0", "300"],
                "outcome" => &["CASE outcome WHEN 'done' THEN 'refused' ELSE 'done' END", "''", "'other'"],
                "about_kind" => &["'account'", "'nothing'"],
                "detail" => &["detail || ' '", "'{\"code\":\"forbidden\"}'", "'null'"],
                "at" => &[
                    "'2026-01-01T00:00:01.0Z'",
                    "'2026-01-01T00:00:01+00:00'",
                    "'2026-01-02T00:00:00Z'",
                    "''",
                ],
                "hash" | "previous_hash" => &["upper(hash) || '0'", "replace(hash, '1', '2')", "''"],
                "mutations" => &["mutations || ' '", "'[]'", "'{'", "replace(mutations, '2026', '2025')"],
                _ => &["'x'", "''", "{} || ' '"],
            };
            for edit in edits {
                let edit = edit.replace("{}", column);
                let attack = format!("UPDATE journal SET {column} = {edit} WHERE seq = {seq}");
                let changes =
                    format!("SELECT count(*) FROM journal WHERE {column} <> {edit} AND seq = {seq}");
                if tampered.database.count(&changes).await == 0 {
                    continue;
                }
                // An entry that is taken to another number is missing where it was.
                tampered.notices(if edit == "-seq" && seq == 5 { 1 } else { seq }, &attack).await;
            }
        }
    }
    // The same letters, with the border between two fields moved.
    for seq in [2, 5] {
        tampered
            .notices(
                seq,
                &format!("UPDATE journal SET actor = 'ad', source = 'a127.0.0.1' WHERE seq = {seq}"),
            )
            .await;
    }
    tampered
        .notices(4, "UPDATE journal SET about_key = '', about_kind = 'deploymenttest/shop/v1' WHERE seq = 4")
        .await;
}

async fn entries_that_are_removed_moved_added_or_cut_off_are_noticed(database: Database) {
    let tampered = Tampered::start(database).await;
    let columns = tampered.columns("journal").join(", ");
    let copy = |seq: &str, to: &str| {
        let values = columns.replacen("seq", to, 1);
        format!("INSERT INTO journal ({columns}) SELECT {values} FROM backup_journal WHERE seq = {seq};")
    };
    let swap = format!("DELETE FROM journal WHERE seq IN (2, 3); {}{}", copy("2", "3"), copy("3", "2"));
    let rehash = "UPDATE head SET hash = (SELECT hash FROM journal WHERE journal.seq = head.seq)";
    for (seq, attack) in [
        // Removed, with or without their traces, and those after them moved up.
        (1, "DELETE FROM journal_objects WHERE seq = 1; DELETE FROM journal WHERE seq = 1".to_owned()),
        (4, "DELETE FROM journal WHERE seq = 4".to_owned()),
        (
            4,
            "DELETE FROM journal WHERE seq = 4; UPDATE journal_objects SET seq = 4 WHERE seq = 5; \
             UPDATE journal SET seq = 4 WHERE seq = 5; UPDATE objects SET revision = 4 WHERE revision = 5; \
             UPDATE head SET seq = 4"
                .to_owned(),
        ),
        (1, "DELETE FROM journal_objects; DELETE FROM journal".to_owned()),
        // Swapped.
        (2, swap),
        // Written twice, after the end and before the beginning.
        (6, format!("{} UPDATE head SET seq = 6", copy("5", "6"))),
        (6, copy("5", "6")),
        (1, copy("5", "0")),
        (1, copy("5", "-7")),
        // Cut off, with the end as it was, or moved without its hash.
        (5, "DELETE FROM journal_objects WHERE seq = 5; DELETE FROM journal WHERE seq = 5".to_owned()),
        (
            4,
            "DELETE FROM journal_objects WHERE seq = 5; DELETE FROM journal WHERE seq = 5; \
             DELETE FROM objects WHERE revision = 5; UPDATE head SET seq = 4"
                .to_owned(),
        ),
        // Cut off with the end moved rightly, and the objects left.
        (
            5,
            format!(
                "DELETE FROM journal_objects WHERE seq = 5; DELETE FROM journal WHERE seq = 5; \
             UPDATE head SET seq = 4; {rehash}"
            ),
        ),
        // Everything gone, and the end as in a new store: the objects are left.
        (
            2,
            "DELETE FROM journal_objects; DELETE FROM journal; UPDATE head SET seq = 0, \
             hash = '0000000000000000000000000000000000000000000000000000000000000000'"
                .to_owned(),
        ),
        // The end itself.
        (6, "UPDATE head SET seq = 6".to_owned()),
        (5, "UPDATE head SET seq = 4".to_owned()),
        (5, "UPDATE head SET seq = -5".to_owned()),
        (5, "UPDATE head SET hash = (SELECT hash FROM journal WHERE seq = 4)".to_owned()),
        (5, "DELETE FROM head".to_owned()),
        // What finds the entries of an object.
        (2, "DELETE FROM journal_objects WHERE seq = 2 AND key = 'a'".to_owned()),
        (
            2,
            "INSERT INTO journal_objects (realm, kind, key, seq) VALUES ('default', 'project', 'z', 2)"
                .to_owned(),
        ),
        (
            4,
            "INSERT INTO journal_objects (realm, kind, key, seq) VALUES ('default', 'project', 'z', 4)"
                .to_owned(),
        ),
        (
            9,
            "INSERT INTO journal_objects (realm, kind, key, seq) VALUES ('default', 'project', 'z', 9)"
                .to_owned(),
        ),
        (
            0,
            "INSERT INTO journal_objects (realm, kind, key, seq) VALUES ('default', 'project', 'z', 0)"
                .to_owned(),
        ),
        (2, "UPDATE journal_objects SET seq = 3 WHERE seq = 2 AND key = 'b'".to_owned()),
        (2, "UPDATE journal_objects SET realm = 'other' WHERE seq = 2".to_owned()),
        (5, "UPDATE journal_objects SET kind = 'account' WHERE seq = 5".to_owned()),
    ] {
        tampered.notices(seq, &attack).await;
    }
}

async fn objects_that_are_not_what_the_journal_says_are_noticed(database: Database) {
    let tampered = Tampered::start(database).await;
    for (seq, attack) in [
        (5, "UPDATE objects SET body = body || ' ' WHERE key = 'c'"),
        (2, "UPDATE objects SET body = '' WHERE key = 'b'"),
        (5, "UPDATE objects SET key = 'z' WHERE key = 'c'"),
        (2, "UPDATE objects SET revision = 5 WHERE key = 'b'"),
        (2, "UPDATE objects SET realm = 'other' WHERE key = 'b'"),
        (2, "UPDATE objects SET kind = 'realm' WHERE key = 'b'"),
        (2, "UPDATE objects SET kind = 'nothing' WHERE key = 'b'"),
        (5, "DELETE FROM objects WHERE key = 'c'"),
        (2, "DELETE FROM objects"),
        // Made again, as it was before it was deleted.
        (
            1,
            "INSERT INTO objects (realm, kind, key, revision, body) \
             SELECT realm, kind, 'a', 1, body FROM objects WHERE key = 'b'",
        ),
        (5, "INSERT INTO objects (realm, kind, key, revision, body) VALUES ('default', 'x', 'x', 2, '')"),
        (
            9,
            "INSERT INTO objects (realm, kind, key, revision, body) VALUES ('default', 'project', 'z', 9, '{}')",
        ),
    ] {
        tampered.notices(seq, attack).await;
    }
}

async fn the_time_by_which_an_entry_is_found_cannot_be_set(database: Database) {
    let store = journal(&database).await;
    let mut connection = database.connect().await;
    let set = "UPDATE journal SET at_sorted = '2020-01-01T00:00:00.000000000' WHERE seq = 5";
    connection.execute(set).await.unwrap_err();
    connection.close().await.unwrap();
    assert_eq!(store.seq_at("2026-01-01T00:00:03.9Z".parse().unwrap()).await.unwrap(), 4);
    // Whoever may change the schema can make it a column like others, on PostgreSQL; then it is compared.
    if !database.is_sqlite() {
        database.tamper("ALTER TABLE journal ALTER COLUMN at_sorted DROP EXPRESSION").await;
        database.tamper(set).await;
        let error = store.verify_journal().await.unwrap_err();
        assert_eq!(error.to_string(), "journal entry 5: it is found at another time than its own");
    }
}

/// What the chain alone cannot see, and whoever noted a hash does.
#[tokio::test]
async fn a_tail_that_is_cut_off_with_all_that_it_wrote_shows_in_a_hash_noted_before() {
    let database = Database::sqlite();
    let store = journal(&database).await;
    let noted = store.verify_journal().await.unwrap();
    store.commit(change(vec![Mutation::put(&project("d"), Expect::Absent).unwrap()])).await.unwrap();
    assert_eq!(store.hash_at(noted.entries).await.unwrap(), Some(noted.head_hash));
    database
        .tamper(
            "DELETE FROM journal_objects WHERE seq > 4; DELETE FROM journal WHERE seq > 4; \
             DELETE FROM objects WHERE revision > 4; \
             UPDATE head SET seq = 4, hash = (SELECT hash FROM journal WHERE seq = 4)",
        )
        .await;
    assert_eq!(store.verify_journal().await.unwrap().entries, 4);
    assert_eq!(store.hash_at(noted.entries).await.unwrap(), None);
    // Other entries in the place of those that were cut off do not help.
    for name in ["c", "d"] {
        store.commit(put(name, Expect::Absent)).await.unwrap();
    }
    assert!(store.hash_at(noted.entries).await.unwrap().is_some_and(|hash| hash != noted.head_hash));
}
