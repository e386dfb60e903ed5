use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_credential::seal::MasterKey;
use tollgate_model::objects::{Kind, StoredObject};
use tollgate_snapshot::Builder;
use tollgate_testkit::{FakeIssuer, FixedClock, IssuerMood, SeededRandom, wait_until};

use super::*;

const REFRESH: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that knows one issuer of `test`, with a directory of its own.
struct Process {
    task: Arc<IssuerTask>,
    ring: Arc<KeyRing>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

fn snapshot(issuer: &FakeIssuer) -> Arc<Snapshot> {
    let at = "2026-01-01T00:00:00Z";
    let settings = json!({ "issuer": issuer.url(), "audience": "orders", "algorithms": ["ES256"],
        "consumer": { "name": "shop" }, "internalAddresses": true });
    let stored = |kind, key: &str, body: Value| StoredObject {
        realm: RealmName::default(),
        kind,
        key: key.to_owned(),
        revision: 1,
        body: body.to_string(),
    };
    let objects = vec![
        stored(Kind::Environment, "test", json!({ "name": "test", "createdAt": at })),
        stored(
            Kind::Issuer,
            "test/corp",
            json!({ "name": "corp", "environment": "test", "settings": settings, "createdAt": at, "updatedAt": at }),
        ),
    ];
    let master = MasterKey::generate(&SeededRandom::new(1)).expect("random");
    let snapshot = Builder::load(1, objects, Arc::new(master)).current();
    assert_eq!(snapshot.issuers().count(), 1, "{:?}", snapshot.problems());
    snapshot
}

// === impl Process ===

impl Process {
    fn new(snapshot: Arc<Snapshot>, directory: &TempDir) -> Self {
        let (ring, shared) = (Arc::new(KeyRing::default()), Arc::new(SharedSnapshot::empty()));
        shared.publish(snapshot);
        let path = directory.path().join("issuer-keys.json");
        let task = IssuerTask::new(ring.clone(), shared, Arc::new(FixedClock::default()), path);
        let (stop, stopped) = watch::channel(false);
        Self { task, ring, stop, stopped }
    }

    fn run(&self) {
        tokio::spawn(self.task.clone().run(self.stopped.clone()));
    }

    /// Tells whether there are keys of the issuer.
    fn has_keys(&self) -> bool {
        let snapshot = self.task.shared.load().expect("a snapshot");
        let entry = snapshot.issuers().next().expect("an issuer");
        self.ring.has_keys_of(entry, self.task.clock.now())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

#[test]
fn a_storm_of_unknown_keys_is_one_question_in_a_while_and_fewer_while_there_is_no_answer() {
    let (mut due, start) = (Due::at_once(None), Instant::now());
    assert!(due.begins(false, None, start), "at the start, whoever asks");
    assert!(!due.begins(true, None, start), "one question at a time");
    due.succeeded(REFRESH, start);
    let mut questions = Vec::new();
    for tenth in 0..600 {
        let now = start + TICK * tenth;
        if due.begins(true, None, now) {
            questions.push(tenth / 10);
            due.succeeded(REFRESH, now);
        }
    }
    assert_eq!(questions, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55], "seconds of a minute");

    let (mut due, mut questions) = (Due::at_once(None), Vec::new());
    for second in 0..3_600 {
        let now = start + Duration::from_secs(second);
        if due.begins(true, None, now) {
            questions.push(second);
            due.failed(REFRESH, now);
        }
    }
    assert_eq!(questions, [0, 5, 15, 35, 75, 155, 315, 635, 1_235, 1_835, 2_435, 3_035]);
    // As soon as it answers, what was is forgotten.
    due.succeeded(REFRESH, start);
    assert!(due.begins(true, None, start + REST));
}

#[test]
fn keys_are_fetched_again_without_a_call_that_asks_and_at_once_when_a_person_does() {
    let (mut due, start) = (Due::at_once(None), Instant::now());
    assert!(due.begins(false, None, start));
    due.succeeded(REFRESH, start);
    assert!(!due.begins(false, None, start + REFRESH - TICK) && due.begins(false, None, start + REFRESH));
    due.failed(REFRESH, start);
    let asked_at = Some(Timestamp::UNIX_EPOCH);
    assert!(!due.begins(true, None, start) && due.begins(true, asked_at, start), "it rests from calls only");
    due.failed(REFRESH, start);
    assert!(!due.begins(false, asked_at, start), "a question is one question");
    assert!(due.begins(false, asked_at, start + REST * 2), "a person changes nothing of what failed before");
}

#[tokio::test]
async fn a_start_begins_with_the_keys_on_disk_before_anybody_is_asked() {
    let (issuer, directory) =
        (FakeIssuer::start().await.expect("an issuer"), TempDir::new().expect("a directory"));
    let first = Process::new(snapshot(&issuer), &directory);
    first.task.restore().await;
    assert!(!first.has_keys() && !first.ring.has_begun());
    first.run();
    wait_until("the keys on disk", PATIENCE, async || directory.path().join("issuer-keys.json").exists())
        .await;
    drop(first);
    let asked = issuer.asked();
    let second = Process::new(snapshot(&issuer), &directory);
    second.task.restore().await;
    assert!(second.has_keys());
    second.task.begun().await;
    assert_eq!(issuer.asked(), asked);

    // What is on disk is of that issuer and nobody else.
    let other = FakeIssuer::start().await.expect("an issuer");
    let third = Process::new(snapshot(&other), &directory);
    third.task.restore().await;
    assert!(!third.has_keys());
}

#[tokio::test]
async fn an_issuer_that_fails_holds_a_start_up_until_it_was_asked_once() {
    let (issuer, directory) =
        (FakeIssuer::start().await.expect("an issuer"), TempDir::new().expect("a directory"));
    issuer.mood(IssuerMood::Broken);
    let process = Process::new(snapshot(&issuer), &directory);
    process.run();
    process.task.begun().await;
    assert!(issuer.asked() == 1 && !process.has_keys());
    wait_until("the process to be ready", PATIENCE, async || process.ring.has_begun()).await;
    issuer.mood(IssuerMood::Well);
    wait_until("the keys, which nobody asks for", PATIENCE, async || process.has_keys()).await;
}
