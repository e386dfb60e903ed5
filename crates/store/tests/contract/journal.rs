//! Reading the journal: what was refused, and what a filter finds.

use jiff::Timestamp;
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, Object};
use tollgate_store::{
    About, Change, CommitError, Expect, JournalEntry, JournalFilter, Outcome, Refusal, RefusedAttempt, Store,
};

use crate::{Database, all, names, project, put, realm};

contracts! {
    the_journal_of_one_object_can_be_read
    refused_attempts_are_kept_and_write_nothing
    filters_find_what_they_name_and_nothing_else
}

fn refused(actor: &str, about: Option<(Kind, &str)>, at: &str) -> RefusedAttempt {
    RefusedAttempt {
        realm: realm(),
        actor: actor.into(),
        source: "192.0.2.1".into(),
        action: "project.delete".into(),
        request_id: "req_9".into(),
        reason: String::new(),
        at: at.parse().unwrap(),
        about: about.map(|(kind, key)| About { kind, key: key.into() }),
        refusal: Refusal::new("forbidden"),
    }
}

async fn seqs(store: &Store, filter: &JournalFilter) -> Vec<u64> {
    let filter = JournalFilter { limit: 100, ..filter.clone() };
    store.journal(&realm(), &filter).await.unwrap().iter().map(|entry| entry.seq).collect()
}

async fn refused_attempts_are_kept_and_write_nothing(database: Database) {
    let store = database.store().await;
    store.commit(put("a", Expect::Absent)).await.unwrap();
    let mut many = refused("eve", Some((Kind::Project, "a")), "2026-01-01T00:00:01Z");
    many.refusal = Refusal {
        operation: "DELETE /realms/{realm}/projects/{name}".into(),
        environment: Some("test".into()),
        count: 7,
        first_at: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        last_at: Some("2026-01-01T00:00:00.5Z".parse().unwrap()),
        sources: Some(3),
        more_sources: true,
        ..many.refusal
    };
    let attempts = vec![many.clone(), refused("mal", None, "2026-01-01T00:00:02Z")];
    assert_eq!(store.journal_refused(attempts).await.unwrap().map(|it| it.seq), Some(3));
    assert_eq!(store.journal_refused(Vec::new()).await.unwrap(), None);
    let entries = store.changes_after(1, 10).await.unwrap();
    let [first, second]: [JournalEntry; 2] = entries.try_into().unwrap();
    assert_eq!(
        (first.outcome, first.about.clone(), first.mutations.len()),
        (Outcome::Refused, many.about, 0)
    );
    assert_eq!(first.refusal(), Some(many.refusal));
    assert_eq!((second.about.clone(), second.refusal()), (None, Some(Refusal::new("forbidden"))));
    assert_eq!(second.detail, r#"{"code":"forbidden"}"#);
    assert_eq!(store.entry(&realm(), 2).await.unwrap(), Some(first));
    assert_eq!(store.entry(&realm(), 4).await.unwrap(), None);
    assert_eq!(store.entry(&RealmName::parse("other").unwrap(), 2).await.unwrap(), None);
    assert_eq!(names(&store, &all("")).await, ["a"]);
    assert_eq!(*store.watch().borrow(), 3);

    // All of a batch or nothing.
    let mut bad = refused("mal", Some((Kind::Project, "a\0")), "2026-01-01T00:00:03Z");
    let batch = vec![refused("eve", None, "2026-01-01T00:00:03Z"), bad.clone()];
    assert!(matches!(store.journal_refused(batch).await, Err(CommitError::Nul { field: "a key" })));
    bad.about = None;
    let past = store.as_of(1).journal_refused(vec![bad]).await;
    assert!(matches!(past, Err(CommitError::Past)));
    assert_eq!(store.head().await.unwrap(), 3);
    store.verify_journal().await.unwrap();
}

async fn filters_find_what_they_name_and_nothing_else(database: Database) {
    let store = database.store().await;
    let commit = async |name: &str, actor: &str, source: &str, request: &str, at: &str| {
        let base = put(name, Expect::Any);
        let (actor, source, request_id) = (actor.into(), source.into(), request.into());
        store.commit(Change { actor, source, request_id, at: at.parse().unwrap(), ..base }).await.unwrap();
    };
    commit("a", "ada", "192.0.2.1", "req_1", "2026-01-01T00:00:00Z").await;
    commit("b", "eve", "192.0.2.2", "req_2", "2026-01-01T00:00:00.5Z").await;
    let about = [Some((Kind::Project, "a")), Some((Kind::Project, "z")), Some((Kind::Account, "a")), None];
    for (about, second) in about.into_iter().zip(1..) {
        let attempt = refused("eve", about, &format!("2026-01-01T00:00:0{second}Z"));
        store.journal_refused(vec![attempt]).await.unwrap();
    }
    // Committed after others that came later.
    commit("a", "ada", "192.0.2.1", "req_3", "2026-01-01T00:00:00.25Z").await;
    let mut elsewhere = refused("eve", about[0], "2026-01-01T00:00:01Z");
    elsewhere.realm = RealmName::parse("other").unwrap();
    store.journal_refused(vec![elsewhere]).await.unwrap();

    let time = |text: &str| -> Option<Timestamp> { Some(text.parse().unwrap()) };
    let text = |text: &str| Some(text.to_owned());
    let every = JournalFilter::default();
    let tried = JournalFilter { attempts: true, ..every.clone() };
    let project = Some(Kind::Project);
    for (filter, found) in [
        (every.clone(), vec![1, 2, 3, 4, 5, 6, 7]),
        (JournalFilter { actor: text("ada"), ..every.clone() }, vec![1, 7]),
        (JournalFilter { actor: text("ad"), ..every.clone() }, vec![]),
        (JournalFilter { action: text("project.delete"), ..every.clone() }, vec![3, 4, 5, 6]),
        (JournalFilter { source: text("192.0.2.2"), ..every.clone() }, vec![2]),
        (JournalFilter { request_id: text("req_3"), ..every.clone() }, vec![7]),
        (JournalFilter { outcome: Some(Outcome::Refused), ..every.clone() }, vec![3, 4, 5, 6]),
        (JournalFilter { outcome: Some(Outcome::Done), ..every.clone() }, vec![1, 2, 7]),
        (JournalFilter { kind: project, ..tried.clone() }, vec![1, 2, 3, 4, 7]),
        (JournalFilter { kind: project, ..every.clone() }, vec![1, 2, 7]),
        (JournalFilter { kind: Some(Kind::Account), ..tried.clone() }, vec![5]),
        (JournalFilter { kind: Some(Kind::Account), ..every.clone() }, vec![]),
        (JournalFilter { kind: project, key: text("a"), ..tried.clone() }, vec![1, 3, 7]),
        (JournalFilter { kind: project, key: text("a"), ..every.clone() }, vec![1, 7]),
        (JournalFilter { kind: project, key: text("z"), ..tried.clone() }, vec![4]),
        (JournalFilter { kind: project, key: text("a\0"), ..every.clone() }, vec![]),
        (JournalFilter { since: time("2026-01-01T00:00:00.25Z"), ..every.clone() }, vec![2, 3, 4, 5, 6, 7]),
        (
            JournalFilter { since: time("2026-01-01T00:00:00.250000001Z"), ..every.clone() },
            vec![2, 3, 4, 5, 6],
        ),
        (JournalFilter { until: time("2026-01-01T00:00:00.5Z"), ..every.clone() }, vec![1, 7]),
        (JournalFilter { until: time("2026-01-01T00:00:00.500000001Z"), ..every.clone() }, vec![1, 2, 7]),
        (JournalFilter { until: time("2026-01-01T00:00:00Z"), ..every.clone() }, vec![]),
        (JournalFilter { since: time("2027-01-01T00:00:00Z"), ..every.clone() }, vec![]),
        (
            JournalFilter {
                since: time("2026-01-01T00:00:01Z"),
                until: time("2026-01-01T00:00:03Z"),
                ..every.clone()
            },
            vec![3, 4],
        ),
        (
            JournalFilter {
                actor: text("eve"),
                action: text("project.delete"),
                source: text("192.0.2.1"),
                request_id: text("req_9"),
                outcome: Some(Outcome::Refused),
                since: time("2026-01-01T00:00:01Z"),
                until: time("2026-01-01T00:00:09Z"),
                kind: project,
                key: text("z"),
                after: Some(1),
                before: Some(7),
                ..tried.clone()
            },
            vec![4],
        ),
        (JournalFilter { actor: text("eve"), outcome: Some(Outcome::Done), ..every.clone() }, vec![2]),
        (JournalFilter { actor: text("' OR 1=1 --"), ..every.clone() }, vec![]),
        (JournalFilter { actor: text("eve\0"), ..every.clone() }, vec![]),
    ] {
        assert_eq!(seqs(&store, &filter).await, found, "{filter:?}");
        let here = store.changes_after(0, 100).await.unwrap().into_iter().filter(|it| it.realm == realm());
        let picked = here.filter(|entry| filter.finds(entry)).map(|entry| entry.seq);
        assert_eq!(picked.collect::<Vec<_>>(), found, "{filter:?}, without a database");
        // In the other order, and a page at a time.
        let mut page = JournalFilter { limit: 2, newest_first: true, ..filter.clone() };
        let mut paged = Vec::new();
        loop {
            let entries = store.journal(&realm(), &page).await.unwrap();
            paged.extend(entries.iter().map(|entry| entry.seq));
            page.before = entries.last().map(|entry| entry.seq);
            if entries.len() < 2 {
                break;
            }
        }
        paged.reverse();
        assert_eq!(paged, found, "{filter:?}, paged");
    }
}

async fn the_journal_of_one_object_can_be_read(database: Database) {
    let store = database.store().await;
    for name in ["a", "b", "a", "a"] {
        store.commit(put(name, Expect::Any)).await.unwrap();
    }
    let read = async |filter: JournalFilter| {
        let entries = store.journal(&realm(), &filter).await.unwrap();
        entries.iter().map(|entry| entry.seq).collect::<Vec<_>>()
    };
    let every = JournalFilter { limit: 10, ..JournalFilter::default() };
    let of_a = JournalFilter { kind: Some(Kind::Project), key: Some(project("a").key()), ..every.clone() };
    assert_eq!(read(every.clone()).await, [1, 2, 3, 4]);
    assert_eq!(read(JournalFilter { newest_first: true, ..of_a.clone() }).await, [4, 3, 1]);
    assert_eq!(read(JournalFilter { after: Some(1), before: Some(4), ..of_a }).await, [3]);
    assert_eq!(read(JournalFilter { kind: Some(Kind::Consumer), ..every }).await, Vec::<u64>::new());
}
