//! Somebody who can write the database cuts off the end of the journal, so well that all that is left fits: what signed
//! checkpoints show then, on both databases.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use sqlx::{AnyConnection, Connection as _, Row as _};
use tollgate_e2e::{Home, Outcome, Server};
use tollgate_testkit::{Postgres, wait_until};

/// A database of one test, and how a server is told of it.
struct Database {
    arguments: Vec<String>,
    url: String,
}

impl Database {
    fn sqlite(home: &Home) -> Self {
        Self { arguments: Vec::new(), url: format!("sqlite:{}", home.data().join("tollgate.db").display()) }
    }

    async fn postgres() -> Self {
        let url = Postgres::start().await.expect("PostgreSQL is installed").url();
        Self { arguments: vec!["--database".to_owned(), url.clone()], url }
    }

    fn start<'a>(&self, home: &'a Home) -> Server<'a> {
        Server::start(home, &self.arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.url).await.expect("connects")
    }

    async fn execute(&self, sql: &'static str, values: &[&str]) {
        let mut connection = self.connect().await;
        let mut query = sqlx::query(sql);
        for value in values {
            query = query.bind((*value).to_owned());
        }
        query.execute(&mut connection).await.expect("executes");
        connection.close().await.expect("closes");
    }

    /// Returns the checkpoints that are kept.
    async fn checkpoints(&self) -> BTreeMap<String, String> {
        let mut connection = self.connect().await;
        let rows = sqlx::query("SELECT key, body FROM records WHERE collection = 'checkpoints'")
            .fetch_all(&mut connection)
            .await
            .expect("reads");
        connection.close().await.expect("closes");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Cuts the journal off after so many entries, with all that follows from it: the list of what entries wrote, the
    /// head, and the objects, each as the last entry left wrote it.
    async fn cut(&self, entries: i64) {
        let mut connection = self.connect().await;
        let rows =
            sqlx::query("SELECT seq, realm, mutations, hash FROM journal WHERE seq <= $1 ORDER BY seq")
                .bind(entries)
                .fetch_all(&mut connection)
                .await
                .expect("reads");
        let mut objects: BTreeMap<(String, String, String), (i64, String)> = BTreeMap::new();
        let mut head = String::new();
        for row in rows {
            let (seq, realm, mutations): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
            head = row.get(3);
            let mutations: Value = serde_json::from_str(&mutations).expect("JSON");
            for mutation in mutations.as_array().expect("mutations") {
                let text = |field: &str| mutation[field].as_str().map(str::to_owned);
                let key = (realm.clone(), text("kind").expect("a kind"), text("key").expect("a key"));
                match text("body") {
                    Some(body) => objects.insert(key, (seq, body)),
                    None => objects.remove(&key),
                };
            }
        }
        let mut change = connection.begin().await.expect("begins");
        for sql in [
            "DELETE FROM objects",
            "DELETE FROM journal_objects WHERE seq > $1",
            "DELETE FROM journal WHERE seq > $1",
        ] {
            let query = sqlx::query(sql);
            let query = if sql.contains("$1") { query.bind(entries) } else { query };
            query.execute(&mut *change).await.expect("deletes");
        }
        for ((realm, kind, key), (revision, body)) in objects {
            sqlx::query("INSERT INTO objects (realm, kind, key, revision, body) VALUES ($1, $2, $3, $4, $5)")
                .bind(realm)
                .bind(kind)
                .bind(key)
                .bind(revision)
                .bind(body)
                .execute(&mut *change)
                .await
                .expect("inserts");
        }
        sqlx::query("UPDATE head SET seq = $1, hash = $2")
            .bind(entries)
            .bind(head)
            .execute(&mut *change)
            .await
            .expect("updates");
        change.commit().await.expect("commits");
        connection.close().await.expect("closes");
    }
}

fn checkpoint_file(home: &Home) -> PathBuf {
    home.data().join("checkpoints")
}

fn set(server: &Server<'_>, name: &str) {
    server.cli(&["global", "set", name, "1", "--env", "test"]).expect_code(0);
}

fn entries(server: &Server<'_>) -> i64 {
    server.json(&["audit", "list", "--limit", "1"])["items"][0]["seq"].as_i64().expect("a number")
}

fn verify(server: &Server<'_>, code: i32) -> Outcome {
    server.cli(&["audit", "verify"]).expect_code(code)
}

#[track_caller]
fn expect_missing(said: &Outcome, seq: i64, place: &str) {
    let begins = format!("BROKEN at entry {seq}: it is missing: the checkpoint of ");
    assert!(said.stdout.starts_with(&begins) && said.stdout.contains(place), "{said:#?}");
}

async fn an_end_that_was_cut_off_is_seen(home: &Home, database: Database) {
    let server = database.start(home);
    set(&server, "a");
    let kept = entries(&server);
    for name in ["b", "c", "a"] {
        set(&server, name);
    }
    let all = entries(&server);
    assert_eq!(all, kept + 3);
    // An auditor takes a checkpoint and the keys along.
    let note = home.file("kept.txt", &server.cli(&["audit", "checkpoint"]).expect_code(0).stdout);
    let keys = home.file("keys.json", &server.cli(&["evidence", "keys", "--output", "json"]).stdout);
    assert_eq!(server.stop(), Some(0));
    let file = std::fs::read_to_string(checkpoint_file(home)).expect("a file of checkpoints");
    let records = database.checkpoints().await;

    // The rows of the checkpoints were overlooked: they tell, without the file.
    database.cut(kept).await;
    std::fs::remove_file(checkpoint_file(home)).expect("removes");
    let server = database.start(home);
    expect_missing(&verify(&server, 1), kept + 1, "in the database");
    assert_eq!(server.json(&["global", "list", "--env", "test"])["items"].as_array().map(Vec::len), Some(1));
    server.stop();

    // They were deleted, too, and so was the file: nothing is left that knows.
    database.execute("DELETE FROM records WHERE collection = 'checkpoints'", &[]).await;
    std::fs::remove_file(checkpoint_file(home)).expect("removes");
    let server = database.start(home);
    assert!(verify(&server, 0).stdout.starts_with(&format!("intact: {kept} entries")));
    // But for what was kept elsewhere.
    let given = ["audit", "verify", "--checkpoint", &note, "--key", &keys];
    expect_missing(&server.cli(&given).expect_code(1), kept + 1, "in the file given");
    server.stop();

    // The file was out of reach for whoever has the database: it tells.
    std::fs::write(checkpoint_file(home), &file).expect("writes");
    let server = database.start(home);
    let said = verify(&server, 1);
    expect_missing(&said, kept + 1, &checkpoint_file(home).display().to_string());
    assert!(said.stdout.contains("are not in the database"), "{said:?}");
    wait_until("the log to tell", Duration::from_secs(20), async || {
        server.log().contains("the journal is not the one that the last checkpoint is of")
    })
    .await;
    // So it does when the journal has grown again.
    for name in ["d", "e", "f", "g"] {
        set(&server, name);
    }
    let said = verify(&server, 1);
    let begins = format!("BROKEN at entry {}: it, or one after it, is not the one that was there", kept + 1);
    assert!(said.stdout.starts_with(&begins), "{said:?}");

    // It was a backup that was restored, and somebody answers for it; that is seen ever after.
    server.cli(&["audit", "accept-loss", "--reason", "backup of Monday"]).expect_code(2);
    server.cli(&["audit", "accept-loss", "--reason", "backup of Monday", "--yes"]).expect_code(0);
    let said = verify(&server, 0).stdout;
    let line = format!("accepted loss: entries after {kept} of {all}, by admin at ");
    assert!(said.contains(&line) && said.contains("backup of Monday"), "{said}");
    server.cli(&given).expect_code(1);
    server.stop();
    let server = database.start(home);
    verify(&server, 0);
    server.stop();

    // Old rows come back: genuine, explained, and no fault.
    for (key, body) in &records {
        let sql = "INSERT INTO records (collection, realm, key, body, expires_at) \
                   VALUES ('checkpoints', 'default', $1, $2, 9223372036854775807) ON CONFLICT DO NOTHING";
        database.execute(sql, &[key, body]).await;
    }
    let server = database.start(home);
    verify(&server, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_cut_off_is_seen_on_the_embedded_database() {
    let home = Home::new();
    let database = Database::sqlite(&home);
    an_end_that_was_cut_off_is_seen(&home, database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_cut_off_is_seen_on_postgresql() {
    an_end_that_was_cut_off_is_seen(&Home::new(), Database::postgres().await).await;
}

async fn a_forged_checkpoint_is_seen(home: &Home, database: Database) {
    let server = database.start(home);
    let old = server.json(&["audit", "checkpoint"]);
    set(&server, "a");
    let new = server.json(&["audit", "checkpoint"]);
    let text = |checkpoint: &Value, field: &str| checkpoint[field].as_str().expect("text").to_owned();
    let (old, note) = (text(&old, "note"), text(&new, "note"));
    let hash = note.lines().nth(2).expect("a hash").to_owned();
    let update = "UPDATE records SET body = $1 WHERE collection = 'checkpoints' AND body = $2";
    let keys = home.file("keys.json", &server.cli(&["evidence", "keys", "--output", "json"]).stdout);
    let number = |entries: i64| format!("\n{entries}\n");
    let now = entries(&server);
    for (attack, forged) in [
        ("an altered number", note.replacen(&number(now), &number(now - 1), 1)),
        ("an altered hash", note.replacen(&hash, old.lines().nth(2).expect("a hash"), 1)),
        ("an altered time", note.replacen("\ntime 2", "\ntime 3", 1)),
        ("an old one in its place", old.clone()),
        ("damage", "nothing".to_owned()),
    ] {
        assert_ne!(forged, note, "{attack}");
        database.execute(update, &[&forged, &note]).await;
        let said = verify(&server, 1).stdout;
        assert!(said.starts_with("BROKEN: ") && said.contains("is forged or damaged"), "{attack}: {said}");
        server
            .cli(&["audit", "accept-loss", "--reason", "hides it", "--yes"])
            .expect_code(1)
            .expect_words("no loss");
        database.execute(update, &[&note, &forged]).await;
        if attack == "an old one in its place" {
            // Both rows were the same for a moment, and now are the newer one.
            let sql = "UPDATE records SET body = $1 WHERE collection = 'checkpoints' AND key LIKE $2";
            let entries: i64 = old.lines().nth(1).expect("a number").parse().expect("a number");
            database.execute(sql, &[&old, &format!("{entries:020}-%")]).await;
        }
        verify(&server, 0);
        // The same from outside is refused before the server is asked.
        let path = home.file("forged.txt", &forged);
        if attack != "an old one in its place" {
            let given = ["audit", "verify", "--checkpoint", &path, "--key", &keys];
            server.cli(&given).expect_code(1).expect_words("does not hold");
            server.cli(&["audit", "verify", "--checkpoint", &path]).expect_code(1);
        }
    }

    // Of another server: genuine there, and nothing here.
    let elsewhere = Home::new();
    let stranger = Server::start(&elsewhere, &[]);
    let path = home.file("stranger.txt", &stranger.cli(&["audit", "checkpoint"]).stdout);
    let said = server.cli(&["audit", "verify", "--checkpoint", &path]).expect_code(1).stdout;
    assert!(said.contains("it is not the first entry"), "{said}");
    server
        .cli(&["audit", "verify", "--checkpoint", &path, "--key", &keys])
        .expect_code(1)
        .expect_words("none of the keys");
    let path = home.file("genuine.txt", &old);
    let said = server.cli(&["audit", "verify", "--checkpoint", &path, "--key", &keys]).expect_code(0).stdout;
    assert!(said.contains("the checkpoint given fits"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_checkpoint_is_seen_on_the_embedded_database() {
    let home = Home::new();
    let database = Database::sqlite(&home);
    a_forged_checkpoint_is_seen(&home, database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_checkpoint_is_seen_on_postgresql() {
    a_forged_checkpoint_is_seen(&Home::new(), Database::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_store_share_one_key_and_each_keeps_what_it_saw() {
    let database = Database::postgres().await;
    let (one, other) = (Home::new(), Home::new());
    let key = one.file("master.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    let arguments: Vec<&str> =
        database.arguments.iter().map(String::as_str).chain(["--master-key-file", &key]).collect();
    // At once, on an empty database.
    let (first, second) = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let started = [&one, &other].map(|home| scope.spawn(|| Server::start(home, &arguments)));
            let [first, second] = started.map(|thread| thread.join().expect("starts"));
            (first, second)
        })
    });
    let admin = if one.data().join("admin-token").exists() { &first } else { &second };
    assert_eq!(admin.json(&["evidence", "keys"])["keys"].as_array().map(Vec::len), Some(1));
    set(admin, "a");
    let made = admin.json(&["audit", "checkpoint"]);
    let (entries, note) = (made["entries"].clone(), made["note"].as_str().expect("a note"));
    assert_eq!((first.stop(), second.stop()), (Some(0), Some(0)));
    // Each made one when it stopped, or took the one that was there: of the same state, kept once.
    for home in [&one, &other] {
        let file = std::fs::read_to_string(checkpoint_file(home)).expect("a file");
        assert!(file.contains(note), "{file}");
    }
    let kept = database.checkpoints().await;
    let of_this_state =
        kept.keys().filter(|key| key.starts_with(&format!("{:020}", entries.as_i64().unwrap_or(0))));
    assert_eq!(of_this_state.count(), 1);
}
