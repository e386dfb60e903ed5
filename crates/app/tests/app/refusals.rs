//! Refused attempts: in the journal, and never so many that they fill it.

use jiff::SignedDuration;
use tollgate_app::access::{Actor, Op, Permission, Place, Rights};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::refusals::{Attempt, Refused};
use tollgate_app::{JournalEntry, JournalFilter, Outcome, Password};
use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;

use crate::users::shown;
use crate::world::{KEYED, OPEN, World, document, pipeline};

/// Returns an operation of somebody who is not signed in.
fn nobody(world: &World, source: &str) -> Op {
    Op { actor: Actor::nobody(), source: source.to_owned(), ..world.op.clone() }
}

fn attempt(action: &str) -> Attempt {
    Attempt {
        action: action.to_owned(),
        operation: format!("POST /realms/{{realm}}/{action}"),
        environment: Some("test".to_owned()),
        about: Some((Kind::Consumer, "test/ann".to_owned())),
        changes: true,
    }
}

fn forbidden() -> Refused {
    Refused { kind: ErrorKind::Forbidden, code: "forbidden", about: None, journaled: false, concealed: false }
}

fn unauthenticated() -> Refused {
    Refused { kind: ErrorKind::Unauthenticated, code: "unauthenticated", ..forbidden() }
}

async fn refused(world: &World) -> Vec<JournalEntry> {
    let filter = JournalFilter { outcome: Some(Outcome::Refused), limit: 500, ..JournalFilter::default() };
    world.app.journal().list(&world.op, filter).await.unwrap()
}

/// Sums up how many attempts entries stand for.
fn counted(entries: &[JournalEntry]) -> u64 {
    entries.iter().map(|entry| entry.refusal().unwrap().count).sum()
}

#[tokio::test]
async fn a_refused_attempt_is_stored_before_it_is_answered() {
    let world = World::start().await;
    let op = &world.op;
    world.app.refusals().record(op, attempt("consumer.create"), forbidden()).await;
    let entry = refused(&world).await.remove(0);
    assert_eq!((entry.actor.as_str(), entry.source.as_str(), entry.at), ("system", "test", op.now));
    assert_eq!((entry.action.as_str(), &entry.request_id), ("consumer.create", &op.request_id.to_string()));
    let about = entry.about.clone().unwrap();
    assert_eq!((about.kind, about.key.as_str(), entry.mutations.len()), (Kind::Consumer, "test/ann", 0));
    let refusal = entry.refusal().unwrap();
    assert_eq!((refusal.code.as_str(), refusal.count), ("forbidden", 1));
    assert_eq!(refusal.operation, "POST /realms/{realm}/consumer.create");
    assert_eq!(refusal.environment.as_deref(), Some("test"));
    world.store.verify_journal().await.unwrap();
}

#[tokio::test]
async fn only_what_authority_refused_is_an_attempt() {
    let world = World::start().await;
    let kept = async |kind, changes| {
        let before = world.store.head().await.unwrap();
        let (code, attempt) = ("a-code", Attempt { changes, ..attempt("a.b") });
        world.app.refusals().record(&world.op, attempt, Refused { kind, code, ..forbidden() }).await;
        world.store.head().await.unwrap() > before
    };
    for (kind, of_changes, of_reads) in [
        (ErrorKind::Unauthenticated, true, true),
        (ErrorKind::Forbidden, true, true),
        (ErrorKind::TooMany, true, true),
        (ErrorKind::Refused, true, false),
        (ErrorKind::Conflict, true, false),
        (ErrorKind::PreconditionFailed, true, false),
        (ErrorKind::NotFound, false, false),
        (ErrorKind::Invalid, false, false),
        (ErrorKind::Unavailable, false, false),
        (ErrorKind::Internal, false, false),
    ] {
        assert_eq!((kept(kind, true).await, kept(kind, false).await), (of_changes, of_reads), "{kind:?}");
    }
    let before = world.store.head().await.unwrap();
    let told = Refused { journaled: true, ..forbidden() };
    world.app.refusals().record(&world.op, attempt("a.b"), told).await;
    assert_eq!(world.store.head().await.unwrap(), before, "what is in the journal is not written again");
}

#[tokio::test]
async fn a_deploy_that_a_policy_refused_is_told_once_with_its_object_and_reason() {
    let world = World::start().await;
    let (app, op, test) = (&world.app, &world.op, &world.test);
    app.pipelines().save(op, document("shop", OPEN)).await.unwrap();
    let error: Error = app.deployments().deploy(op, test, &pipeline("shop"), None, None).await.unwrap_err();
    // Whoever serves it records it like any other, and knows that it is told.
    app.refusals().record(op, attempt("deployment.deploy"), Refused::from(&error)).await;
    let entries = refused(&world).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.action, "deployment.deploy");
    assert!(entry.reason.starts_with("shop@1.0 in test: Missing external API Key"), "{}", entry.reason);
    let about = entry.about.clone().unwrap();
    assert_eq!((about.kind, about.key.as_str()), (Kind::Deployment, "test/shop/v1"));
    let refusal = entry.refusal().unwrap();
    assert_eq!((refusal.code.as_str(), refusal.environment.as_deref()), ("policy-refused", Some("test")));
    // A rehearsal is no attempt.
    app.deployments().deploy_dry_run(op, test, &pipeline("shop"), None, None).await.unwrap_err();
    assert_eq!(refused(&world).await.len(), 1);
}

#[tokio::test]
async fn a_wrong_password_names_the_user_that_there_is_and_nothing_that_was_typed() {
    let world = World::start().await;
    let password = Password::parse("correct horse battery").unwrap();
    world.app.users().create_first_admin(&world.op, Some(password)).await.unwrap();
    let op = nobody(&world, "192.0.2.1");
    for (user, source) in [("admin", "192.0.2.1"), ("hunter2", "192.0.2.2"), ("not a name", "192.0.2.3")] {
        let op = Op { source: source.to_owned(), ..op.clone() };
        let error = world.app.users().sign_in(&op, &shown(user, "hunter3")).await.unwrap_err();
        let attempt = Attempt { about: None, ..attempt("user.sign-in") };
        world.app.refusals().record(&op, attempt, Refused::from(&error)).await;
    }
    assert_eq!(refused(&world).await.len(), 0, "those who are not signed in wait");
    assert_eq!(world.app.refusals().flush().await, 0);
    let entries = refused(&world).await;
    let about: Vec<_> = entries.iter().map(|entry| entry.about.clone().map(|about| about.key)).collect();
    assert_eq!(about, [Some("admin".to_owned()), None, None]);
    let journal = format!("{entries:?}");
    assert!(!journal.contains("hunter") && !journal.contains("not a name"), "{journal}");
}

#[tokio::test]
async fn a_user_who_tries_too_often_is_counted_and_others_are_not_held_up() {
    let world = World::start().await;
    let ann = Op { actor: Actor::new(None, "ann", Rights::none()), ..world.op.clone() };
    for n in 0..200 {
        let about = Some((Kind::Consumer, format!("test/c{n}")));
        let attempt = Attempt { about, ..attempt("consumer.delete") };
        world.app.refusals().record(&ann, attempt, forbidden()).await;
    }
    assert_eq!(refused(&world).await.len(), 60);
    world.app.refusals().record(&world.op, attempt("consumer.delete"), forbidden()).await;
    assert_eq!(refused(&world).await.len(), 61, "the entries of one user are not those of another");
    world.app.refusals().flush().await;
    let entries = refused(&world).await;
    assert_eq!((entries.len(), counted(&entries)), (62, 201));
    let rest = entries.last().unwrap();
    let refusal = rest.refusal().unwrap();
    assert_eq!((rest.actor.as_str(), refusal.count, refusal.first_at), ("ann", 140, Some(ann.now)));
    // They were aimed at consumers, and not all at the same.
    assert_eq!(rest.about.as_ref().map(|it| (it.kind, it.key.as_str())), Some((Kind::Consumer, "")));

    // A minute later they have entries of their own again.
    let later = Op { now: ann.now + SignedDuration::from_secs(60), ..ann };
    world.app.refusals().record(&later, attempt("consumer.delete"), forbidden()).await;
    assert_eq!(refused(&world).await.len(), 63);
    world.store.verify_journal().await.unwrap();
}

#[tokio::test]
async fn a_flood_from_everywhere_takes_few_entries_little_memory_and_is_counted() {
    let world = World::start().await;
    let before = world.store.head().await.unwrap();
    for n in 0..5_000_u32 {
        let op = nobody(&world, &format!("2001:db8::{n:x}"));
        world.app.refusals().record(&op, attempt(&format!("a.b{}", n % 50)), unauthenticated()).await;
    }
    assert_eq!(world.store.head().await.unwrap(), before);
    assert_eq!(world.app.refusals().flush().await, 0);
    let entries = refused(&world).await;
    assert_eq!((entries.len(), counted(&entries)), (61, 5_000));
    let rest = entries.iter().find(|entry| entry.source == "*").unwrap();
    let refusal = rest.refusal().unwrap();
    assert_eq!((rest.actor.as_str(), rest.action.as_str(), refusal.count), ("nobody", "*", 4_940));
    assert_eq!((refusal.sources, refusal.more_sources), (Some(1_000), true));
    // The rest of the minute goes on in one entry each time, whatever comes.
    for round in 1..4 {
        for n in 0..100 {
            let op = nobody(&world, &format!("198.51.100.{n}"));
            world.app.refusals().record(&op, attempt("c.d"), unauthenticated()).await;
        }
        world.app.refusals().flush().await;
        let entries = refused(&world).await;
        assert_eq!((entries.len(), counted(&entries)), (61 + round, 5_000 + 100 * round as u64));
        assert_eq!(entries.last().unwrap().refusal().unwrap().sources, Some(100));
    }
    assert_eq!(world.app.refusals().flush().await, 0);
}

#[tokio::test]
async fn one_source_that_repeats_itself_is_one_entry() {
    let world = World::start().await;
    for n in 0..1_000 {
        let op = nobody(&world, "192.0.2.1");
        let op = Op { now: op.now + SignedDuration::from_millis(n), ..op };
        world.app.refusals().record(&op, attempt("consumer.delete"), unauthenticated()).await;
    }
    world.clock.advance(std::time::Duration::from_secs(5));
    world.app.refusals().flush().await;
    let entries = refused(&world).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    let refusal = entry.refusal().unwrap();
    assert_eq!((refusal.count, refusal.first_at), (1_000, Some(world.op.now)));
    assert_eq!(refusal.last_at, Some(world.op.now + SignedDuration::from_millis(999)));
    assert_eq!(entry.at, world.op.now + SignedDuration::from_secs(5), "when it was written");
    assert_eq!(entry.about.as_ref().map(|about| about.key.as_str()), Some("test/ann"));
}

#[tokio::test]
async fn while_the_store_is_away_attempts_wait_counted() {
    let world = World::start().await;
    // A store of the past takes nothing, as one that is away.
    let (away, _) = world.app.as_of(&world.op, world.op.now).await.unwrap();
    away.refusals().record(&world.op, attempt("consumer.create"), forbidden()).await;
    for n in 0..3_000_u32 {
        let op = nobody(&world, &format!("2001:db8::{n:x}"));
        let later = Op { now: op.now + SignedDuration::from_secs(i64::from(n)), ..op };
        away.refusals().record(&later, attempt("a.b"), unauthenticated()).await;
        if n % 500 == 0 {
            assert_eq!(away.refusals().flush().await, u64::from(n) + 2);
        }
    }
    assert_eq!(away.refusals().flush().await, 3_001);
    assert_eq!(refused(&world).await.len(), 0);

    assert_eq!(world.app.refusals().flush().await, 0);
    let mut entries = Vec::new();
    loop {
        let filter = JournalFilter {
            outcome: Some(Outcome::Refused),
            limit: 500,
            after: entries.last().map(|entry: &JournalEntry| entry.seq),
            ..JournalFilter::default()
        };
        let page = world.app.journal().list(&world.op, filter).await.unwrap();
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
    assert_eq!((entries.len(), counted(&entries)), (2_001, 3_001));
    world.store.verify_journal().await.unwrap();
}

#[tokio::test]
async fn what_a_caller_chose_is_cut_and_a_realm_that_there_is_not_is_the_whole_server() {
    let world = World::start().await;
    let mut op = nobody(&world, "192.0.2.1");
    op.realm = RealmName::parse("made-up").unwrap();
    let about = Some((Kind::Consumer, format!("te\0st\n/{}", "x".repeat(10_000))));
    let long = Attempt { about, environment: Some("e".repeat(10_000)), ..attempt("consumer.delete") };
    world.app.refusals().record(&op, long, unauthenticated()).await;
    world.app.refusals().flush().await;
    let entry = refused(&world).await.remove(0);
    let key = entry.about.clone().unwrap().key;
    assert!(key.starts_with("te\u{fffd}st\u{fffd}/xx") && key.chars().count() == 200, "{key}");
    assert_eq!(entry.refusal().unwrap().environment.map(|it| it.len()), Some(200));
}

#[tokio::test]
async fn what_is_concealed_from_an_actor_is_told_to_the_auditor_and_takes_no_longer() {
    let world = World::start().await;
    let somebody = world.with(Rights::none());
    let absent = || Error::from(tollgate_store::CommitError::Nul { field: "a key" });
    let concealed = somebody.demand_of(Permission::PipelineDelete, Place::REALM, false, absent).unwrap_err();
    let before = world.store.head().await.unwrap();
    for error in [concealed, absent()] {
        assert_eq!(error.kind, ErrorKind::Invalid, "what they are told is the same");
        world.app.refusals().record(&somebody, attempt("pipeline.delete"), Refused::from(&error)).await;
        assert_eq!(world.store.head().await.unwrap(), before);
    }
    world.app.refusals().flush().await;
    let entries = refused(&world).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((entry.actor.as_str(), entry.refusal().unwrap().code.as_str()), ("somebody", "forbidden"));
}

#[tokio::test]
async fn entries_that_write_nothing_do_not_make_a_gateway_work() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    let master = world.master.clone();
    let (seq, objects) = world.store.load(tollgate_snapshot::KINDS).await.unwrap();
    let mut builder = tollgate_snapshot::Builder::load(seq, objects, master);
    let before = builder.current();
    world.app.refusals().record(&world.op, attempt("consumer.create"), forbidden()).await;
    let after = builder.apply(seq + 1, Vec::new());
    assert_eq!(after.seq, seq + 1);
    let (realm, test) = (&world.op.realm, &world.test);
    let scope = |snapshot: &tollgate_snapshot::Snapshot| snapshot.scope(realm, test).unwrap().clone();
    assert!(std::sync::Arc::ptr_eq(&scope(&before), &scope(&after)));
}

#[tokio::test]
async fn reading_refused_attempts_needs_the_permission() {
    let world = World::start().await;
    let op = world.without(Permission::AuditRead);
    assert_eq!(world.app.journal().entry(&op, 1).await.unwrap_err().kind, ErrorKind::Forbidden);
    let export = world.app.journal().export(&op, JournalFilter::default(), true).await;
    assert_eq!(export.map(|_| ()).unwrap_err().kind, ErrorKind::Forbidden);
}
