//! An acknowledged change survives `kill -9`.
//!
//! The test starts its own executable as the writer, kills it in the middle of its writes, and compares what
//! the writer said was stored with what is there.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;
use tollgate_store::{Change, Expect, Mutation, Store};
use tollgate_testkit::Postgres;

const ROUNDS: usize = 8;
const ACKNOWLEDGED: &str = "acknowledged ";

#[tokio::test]
async fn acknowledged_changes_survive_kill_9_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    survive(&format!("sqlite:{}/killed.db", directory.path().display())).await;
}

#[tokio::test]
async fn acknowledged_changes_survive_kill_9_on_postgres() {
    survive(&Postgres::start().await.unwrap().url()).await;
}

async fn survive(url: &str) {
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut writer = start_writer(url);
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Each round dies after another number of writes; what is still in the pipe counts as well.
        let seqs = |line: String| line.strip_prefix(ACKNOWLEDGED).and_then(|seq| seq.parse::<u64>().ok());
        acknowledged.extend(lines.by_ref().filter_map(seqs).take(3 + round * 7));
        writer.kill().unwrap();
        acknowledged.extend(lines.filter_map(seqs));
        writer.wait().unwrap();

        let store = Store::open(url).await.unwrap();
        let stored = store.verify_journal().await.unwrap().entries;
        let objects = store.load(&[Kind::Project]).await.unwrap().1;
        assert!(acknowledged.len() >= 3, "the writer wrote nothing");
        assert!(acknowledged.iter().all(|seq| objects.iter().any(|object| object.revision == *seq)));
        // Beyond what was acknowledged, each kill can leave one change that was stored without a word.
        assert!((stored as usize) <= acknowledged.len() + round + 1);
        assert_eq!(objects.len() as u64, stored);
    }
}

fn start_writer(url: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{url}").unwrap();
    child
}

#[tokio::test]
#[ignore = "the process that the tests above start and kill"]
async fn writer() {
    let mut url = String::new();
    std::io::stdin().read_line(&mut url).unwrap();
    if url.trim().is_empty() {
        return;
    }
    let store = Store::open(url.trim()).await.unwrap();
    loop {
        let head = store.head().await.unwrap();
        let change = Change {
            realm: RealmName::parse("default").unwrap(),
            actor: "ada".into(),
            source: "cli".into(),
            action: "project.create".into(),
            request_id: "req_1".into(),
            reason: String::new(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            guards: Vec::new(),
            mutations: vec![Mutation {
                kind: Kind::Project,
                key: format!("p{head}"),
                expect: Expect::Any,
                body: Some(r#"{"name":"p"}"#.into()),
            }],
        };
        let seq = store.commit(change).await.unwrap().seq;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{ACKNOWLEDGED}{seq}").unwrap();
        out.flush().unwrap();
    }
}
