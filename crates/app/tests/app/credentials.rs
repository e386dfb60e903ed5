//! Keys, Basic Auth and signing keys: unique, revocable, and never in the journal.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use tokio::task::JoinSet;
use tollgate_app::Password;
use tollgate_app::access::Op;
use tollgate_app::accounts::AccountFields;
use tollgate_app::certificates::{NewCertificate, PastedAs};
use tollgate_app::errors::ErrorKind;
use tollgate_app::keys::NewKey;
use tollgate_model::certificates::{Fingerprint, KnownBy, SubjectAltName};
use tollgate_model::consumers::CredentialState;
use tollgate_model::ids::BasicAuthId;
use tollgate_model::keysets::{SigningKey, SigningKeyState};
use tollgate_model::names::{ConsumerName, ValueName};
use tollgate_model::objects::{Kind, Object};
use tollgate_store::{Change, Expect, Mutation};
use tollgate_testkit::Authority;

use crate::world::{World, consumer, new_key};

const IMPORTED: &str = "from-another-system-1234";

#[tokio::test]
async fn a_rotated_key_works_beside_its_successor_until_the_overlap_ends() {
    let world = World::start().await;
    let (keys, op, test) = (world.app.keys(), &world.op, &world.test);
    let first = world.consumer("shop").await.key.unwrap().key;
    let second = keys.rotate(op, test, first.id, 60, None).await.unwrap().key;
    let all = keys.list(op, test, &consumer("shop")).await.unwrap();
    let old = all.into_iter().find(|shown| shown.key.id == first.id).unwrap().key;
    assert_eq!((old.id, old.replaced_by), (first.id, Some(second.id)));
    assert_eq!(old.state(op.now), CredentialState::Active);
    assert_eq!(old.state(op.now + SignedDuration::from_secs(60)), CredentialState::Expired);
    let error = keys.rotate(op, test, first.id, 60, None).await.unwrap_err();
    assert_eq!(error.code, "key-rotated");
}

#[tokio::test]
async fn the_successor_of_a_key_with_an_expiry_expires_as_late_after_its_making() {
    let world = World::start().await;
    world.consumer("shop").await;
    let (keys, test) = (world.app.keys(), &world.test);
    let day = SignedDuration::from_hours(24);
    let input = NewKey { expires_at: Some(world.op.now + day), ..new_key() };
    let first = keys.create(&world.op, test, &consumer("shop"), input).await.unwrap().key;
    let mut op = world.op.clone();
    op.now += day / 2;
    let second = keys.rotate(&op, test, first.id, 60, None).await.unwrap().key;
    assert_eq!(second.expires_at, Some(op.now + day));
}

#[tokio::test]
async fn a_revoked_key_stays_revoked_with_its_first_time_and_is_not_rotated() {
    let world = World::start().await;
    let (keys, op, test) = (world.app.keys(), &world.op, &world.test);
    let id = world.consumer("shop").await.key.unwrap().key.id;
    keys.revoke(op, test, id).await.unwrap();
    let later = Op { now: op.now + SignedDuration::from_secs(1), ..op.clone() };
    let again = keys.revoke(&later, test, id).await.unwrap();
    assert_eq!(again.key.revoked_at, Some(op.now));
    let error = keys.rotate(op, test, id, 60, None).await.unwrap_err();
    assert_eq!(error.code, "key-not-active");
}

#[tokio::test]
async fn a_key_that_is_rotated_while_it_is_revoked_is_revoked_and_keeps_its_successor() {
    let world = World::start().await;
    let (keys, op, test) = (world.app.keys(), &world.op, &world.test);
    let id = world.consumer("shop").await.key.unwrap().key.id;
    let (rotated, revoked) = tokio::join!(keys.rotate(op, test, id, 60, None), keys.revoke(op, test, id));
    revoked.unwrap();
    let all = keys.list(op, test, &consumer("shop")).await.unwrap();
    let old = all.into_iter().find(|shown| shown.key.id == id).unwrap().key;
    assert_eq!(old.state(op.now), CredentialState::Revoked);
    match rotated {
        Ok(shown) => assert_eq!(old.replaced_by, Some(shown.key.id)),
        Err(error) => assert_eq!(error.code, "key-not-active"),
    }
}

#[tokio::test]
async fn of_two_imports_of_one_key_one_is_refused() {
    let world = World::start().await;
    let (keys, op, test) = (world.app.keys(), &world.op, &world.test);
    world.consumer("one").await;
    world.consumer("two").await;
    let (one, two) = (consumer("one"), consumer("two"));
    let (first, second) = tokio::join!(
        keys.import(op, test, &one, new_key(), IMPORTED),
        keys.import(op, test, &two, new_key(), IMPORTED)
    );
    assert!(first.is_ok() != second.is_ok());
    let error = first.err().or(second.err()).unwrap();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "already-exists"));
}

#[tokio::test]
async fn a_user_name_has_one_credential_until_that_is_revoked() {
    let world = World::start().await;
    let (basic, op, test) = (world.app.basic_auth(), &world.op, &world.test);
    world.consumer("one").await;
    world.consumer("two").await;
    let two = consumer("two");
    let attempts = (0..8).map(|n| {
        let (app, op, test) = (world.app.clone(), op.clone(), test.clone());
        let owner = consumer(if n % 2 == 0 { "one" } else { "two" });
        async move { app.basic_auth().create(&op, &test, &owner, "ann", None).await }
    });
    let (mut made, refused): (Vec<_>, Vec<_>) =
        attempts.collect::<JoinSet<_>>().join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    assert!(refused.iter().all(|it| it.as_ref().is_err_and(|error| error.code == "already-exists")));
    let made = made.remove(0).unwrap();
    basic.revoke(op, test, made.credential.id).await.unwrap();
    basic.create(op, test, &two, "ann", None).await.unwrap();
}

#[tokio::test]
async fn no_credential_outlives_a_consumer_that_is_deleted_at_the_same_moment() {
    let world = World::start().await;
    let (op, test, shop) = (&world.op, &world.test, consumer("shop"));
    world.consumer("shop").await;
    let (consumers, keys, basic) = (world.app.consumers(), world.app.keys(), world.app.basic_auth());
    let _ = tokio::join!(
        keys.create(op, test, &shop, new_key()),
        basic.create(op, test, &shop, "ann", None),
        consumers.delete(op, test, &shop, None)
    );
    // Overtaken or not, what is deleted now takes everything along.
    let _ = consumers.delete(op, test, &shop, None).await;
    for kind in [Kind::ApiKey, Kind::BasicAuth] {
        assert_eq!(world.store.count(&op.realm, kind, "").await.unwrap(), 0, "{kind}");
    }
}

#[tokio::test]
async fn a_deletion_that_was_decided_before_a_key_was_made_is_refused() {
    let world = World::start().await;
    let (op, test, shop) = (&world.op, &world.test, consumer("shop"));
    let revision = world.consumer("shop").await.revision;
    world.app.keys().create(op, test, &shop, new_key()).await.unwrap();
    let error = world.app.consumers().delete(op, test, &shop, Some(revision)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn first_rotations_at_one_moment_leave_one_active_signing_key() {
    let world = World::start().await;
    let (signing, op, test) = (world.app.signing_keys(), &world.op, &world.test);
    let first = signing.list(op, test).await.unwrap().remove(0);
    let mutations = vec![Mutation::delete::<SigningKey>(first.key(), Expect::Exists)];
    let change = Change {
        realm: op.realm.clone(),
        actor: String::new(),
        source: String::new(),
        action: "test".to_owned(),
        request_id: String::new(),
        reason: String::new(),
        at: op.now,
        guards: Vec::new(),
        mutations,
    };
    world.store.commit(change).await.unwrap();
    let rotations = (0..8).map(|_| {
        let (app, op, test) = (world.app.clone(), op.clone(), test.clone());
        async move { app.signing_keys().rotate(&op, &test, None, 60).await }
    });
    rotations.collect::<JoinSet<_>>().join_all().await;
    let keys = signing.list(op, test).await.unwrap();
    assert_eq!(keys.iter().filter(|key| key.state == SigningKeyState::Active).count(), 1);
}

#[tokio::test]
async fn a_revocation_is_kept_as_long_as_any_token_lives_whatever_the_caller_says() {
    let world = World::start().await;
    let (signing, op, test) = (world.app.signing_keys(), &world.op, &world.test);
    let soon = op.now + SignedDuration::from_secs(1);
    let revoked = signing.revoke_token(op, test, "abc", Some(soon)).await.unwrap();
    assert!(revoked.forget_after >= op.now + SignedDuration::from_hours(365 * 24));
}

#[tokio::test]
async fn tokens_of_a_consumer_that_were_revoked_stay_revoked_when_the_clock_is_set_back() {
    let world = World::start().await;
    let (consumers, op, test, shop) = (world.app.consumers(), &world.op, &world.test, consumer("shop"));
    world.consumer("shop").await;
    consumers.revoke_tokens(op, test, &shop, None).await.unwrap();
    let back = Op { now: op.now - SignedDuration::from_mins(10), ..op.clone() };
    let again = consumers.revoke_tokens(&back, test, &shop, None).await.unwrap();
    assert_eq!(again.value.tokens_revoked_before, Some(op.now));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_made_for_one_consumer_at_the_same_moment_are_all_made() {
    let world = World::start().await;
    world.consumer("shop").await;
    let made = (0..30).map(|_| {
        let (app, op, test) = (world.app.clone(), world.op.clone(), world.test.clone());
        async move { app.keys().create(&op, &test, &consumer("shop"), new_key()).await.map(drop) }
    });
    for made in made.collect::<JoinSet<_>>().join_all().await {
        made.unwrap();
    }
    let keys = world.app.keys().list(&world.op, &world.test, &consumer("shop")).await.unwrap();
    assert_eq!(keys.len(), 31);
}

#[tokio::test]
async fn a_consumer_is_changed_and_deleted_while_it_gets_keys() {
    let shop = consumer("shop");
    for _ in 0..10 {
        let world = World::start().await;
        let (keys, consumers, op, test) = (world.app.keys(), world.app.consumers(), &world.op, &world.test);
        world.consumer("shop").await;
        let (key, revoked) = tokio::join!(
            keys.create(op, test, &shop, new_key()),
            consumers.revoke_tokens(op, test, &shop, None)
        );
        key.unwrap();
        assert_eq!(revoked.unwrap().value.tokens_revoked_before, Some(op.now));
        let old = consumers.get(op, test, &shop).await.unwrap().revision - 1;
        let error = consumers.revoke_tokens(op, test, &shop, Some(old)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PreconditionFailed);
        let (_, deleted) =
            tokio::join!(keys.create(op, test, &shop, new_key()), consumers.delete(op, test, &shop, None));
        deleted.unwrap();
        let left = world.store.count(&op.realm, Kind::ApiKey, "").await.unwrap();
        assert_eq!(left, 0, "a key outlives its consumer");
    }
}

#[tokio::test]
async fn no_secret_that_was_ever_shown_or_given_is_in_the_journal() {
    let world = World::start().await;
    let (op, test, shop) = (&world.op, &world.test, consumer("shop"));
    let mut secrets = vec![IMPORTED.to_owned()];
    let first = world.consumer("shop").await.key.unwrap();
    let id = first.key.id;
    secrets.push(first.plain.unwrap().expose_secret().to_owned());
    let keys = world.app.keys();
    let shown = [
        keys.create(op, test, &shop, new_key()).await.unwrap(),
        keys.rotate(op, test, id, 60, None).await.unwrap(),
    ];
    secrets.extend(shown.into_iter().map(|key| key.plain.unwrap().expose_secret().to_owned()));
    keys.import(op, test, &shop, new_key(), IMPORTED).await.unwrap();
    let made = world.app.basic_auth().create(op, test, &shop, "ann", None).await.unwrap();
    secrets.push(made.password.unwrap().expose_secret().to_owned());
    let admin = world.app.users().create_first_admin(op, None).await.unwrap().unwrap();
    secrets.push(admin.password.unwrap().expose_secret().to_owned());
    secrets.push(admin.token.plain.expose_secret().to_owned());
    let given = |field: &str, text| BTreeMap::from([(field.to_owned(), Password::parse(text).unwrap())]);
    let (plain, hashed) = (given("a", "plain-secret-field"), given("b", "other-secret-field"));
    let fields = AccountFields { plain, hashed };
    world.app.accounts().set(op, test, ValueName::parse("crm").unwrap(), fields, None).await.unwrap();
    secrets.extend(["plain-secret-field".to_owned(), "other-secret-field".to_owned()]);

    let journal = format!("{:?}", world.store.changes_after(0, 10_000).await.unwrap());
    assert!(journal.contains("\"account.set\""));
    for secret in secrets {
        assert!(!journal.contains(&secret), "{secret}");
    }
}

pub(crate) fn by_name(name: &str, ca: u8) -> KnownBy {
    KnownBy::San { san: SubjectAltName::parse(name).unwrap(), issuer: Fingerprint([ca; 32]) }
}

pub(crate) fn new_certificate(known_by: KnownBy) -> NewCertificate {
    NewCertificate { name: new_key().name, known_by, expires_at: None }
}

#[tokio::test]
async fn a_certificate_or_a_name_is_one_consumers_until_it_is_revoked() {
    let world = World::start().await;
    let (certificates, op, test) = (world.app.certificates(), &world.op, &world.test);
    world.consumer("shop").await;
    world.consumer("bank").await;
    let (shop, bank) = (consumer("shop"), consumer("bank"));
    let bind = async |of: &ConsumerName, known_by: KnownBy| {
        certificates.create(op, test, of, new_certificate(known_by)).await
    };
    let one = KnownBy::Fingerprint(Fingerprint([1; 32]));
    for (known_by, meeting) in [
        (one.clone(), one.clone()),
        (by_name("dns:shop.example", 1), by_name("dns:Shop.Example", 1)),
        // The name is the shop's, whichever CA gives it.
        (by_name("uri:spiffe://example/shop", 1), by_name("uri:spiffe://example/shop", 2)),
        (by_name("email:ada@shop.example", 1), by_name("email:ada@shop.example", 2)),
    ] {
        let made = bind(&shop, known_by.clone()).await.unwrap();
        let before = world.store.head().await.unwrap();
        let error = bind(&bank, meeting.clone()).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "already-exists"));
        assert!(error.message.contains("consumer `shop`"), "{error}");
        assert_eq!(bind(&shop, known_by.clone()).await.unwrap_err().code, "already-exists");
        assert_eq!(world.store.head().await.unwrap(), before, "nothing was written");
        // Of another CA it is no second consumer's.
        if known_by != meeting {
            let second = bind(&shop, meeting.clone()).await.unwrap();
            certificates.revoke(op, test, second.certificate.id).await.unwrap();
        }
        certificates.revoke(op, test, made.certificate.id).await.unwrap();
        let moved = bind(&bank, meeting).await.unwrap();
        assert_eq!(certificates.revoke(op, test, moved.certificate.id).await.unwrap().consumer, bank);
    }
    let all = certificates.list(op, test, &shop).await.unwrap();
    assert_eq!(all.len(), 6);
    assert!(all.iter().all(|it| it.certificate.state(op.now) == CredentialState::Revoked));
    let prod = tollgate_model::names::EnvironmentName::prod();
    let error = certificates.revoke(op, &prod, all[0].certificate.id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_pasted_is_read_as_a_certificate_or_its_fingerprint_and_a_private_key_is_refused() {
    let world = World::start().await;
    let (certificates, op) = (world.app.certificates(), &world.op);
    let ca = Authority::new("partners");
    let day = SignedDuration::from_hours(24);
    let leaf = ca.issue_between(&["dns:shop.example"], op.now - day, op.now + day);
    let old = ca.issue_between(&["dns:shop.example"], op.now - day - day, op.now - day);
    let read = |text: &str, pasted| certificates.read(op, text, pasted);
    let shown = format!("sha256 Fingerprint={}\n", leaf.fingerprint.to_uppercase());
    for text in [&leaf.chain, &leaf.fingerprint, &shown] {
        let fingerprint = read(text, PastedAs::Caller).unwrap();
        assert_eq!(fingerprint.to_string(), leaf.fingerprint);
    }
    assert_eq!(read(&ca.pem(), PastedAs::Authority).unwrap().to_string(), ca.fingerprint());
    let both = format!("{}{}", leaf.chain, leaf.key);
    for (text, pasted, says) in [
        (both.as_str(), PastedAs::Caller, "private key"),
        (leaf.key.as_str(), PastedAs::Authority, "private key"),
        (&ca.pem(), PastedAs::Caller, "certificate of a CA"),
        (&leaf.chain, PastedAs::Authority, "none of a CA"),
        (&old.chain, PastedAs::Caller, "ended at"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", PastedAs::Caller, "no certificate"),
        ("shop-secret-0123", PastedAs::Caller, "64 hexadecimal digits"),
        ("", PastedAs::Authority, "64 hexadecimal digits"),
    ] {
        let error = read(text, pasted).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains(says), "{error}");
        let told = format!("{error:?}");
        assert!(!told.contains("shop-secret") && !told.contains("-----BEGIN"), "{told}");
    }
}

#[tokio::test]
async fn of_two_who_bind_one_name_at_once_one_wins() {
    let world = World::start().await;
    let mut tasks = JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        world.consumer(name).await;
        let (app, op, test) = (world.app.clone(), world.op.clone(), world.test.clone());
        tasks.spawn(async move {
            let input = new_certificate(by_name("dns:shop.example", 1));
            app.certificates().create(&op, &test, &consumer(name), input).await.map(|_| ())
        });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().filter_map(|it| it.as_ref().err()).all(|it| it.code == "already-exists"));
}

#[tokio::test]
async fn a_basic_auth_credential_knows_when_it_was_used_also_when_it_is_revoked() {
    let world = World::start().await;
    let (app, op, test) = (&world.app, &world.op, &world.test);
    world.consumer("shop").await;
    let shop = consumer("shop");
    let id = app.basic_auth().create(op, test, &shop, "ann", None).await.unwrap().credential.id;
    assert_eq!(app.basic_auth().list(op, test, &shop).await.unwrap()[0].last_used_at, None);
    let later = op.now + SignedDuration::from_secs(60);
    app.usage().flush(&[(id.into(), later)]).await.unwrap();
    app.usage().flush(&[(id.into(), op.now)]).await.unwrap();
    assert_eq!(app.basic_auth().list(op, test, &shop).await.unwrap()[0].last_used_at, Some(later));
    // Among more than are written at once.
    let latest = later + SignedDuration::from_secs(60);
    let mut many: Vec<_> = (0..1_200_u16)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            (BasicAuthId::new(op.now, [high, low, 0, 0, 0, 0, 0, 0, 0, 0]).into(), later)
        })
        .collect();
    many.insert(700, (id.into(), latest));
    app.usage().flush(&many).await.unwrap();
    assert_eq!(app.basic_auth().list(op, test, &shop).await.unwrap()[0].last_used_at, Some(latest));
    let later = latest;
    assert_eq!(app.basic_auth().revoke(op, test, id).await.unwrap().last_used_at, Some(later));
    assert_eq!(app.basic_auth().revoke(op, test, id).await.unwrap().last_used_at, Some(later), "again");
}

#[tokio::test]
async fn a_certificate_goes_with_its_consumer_and_knows_when_it_was_used() {
    let world = World::start().await;
    let (app, op, test) = (&world.app, &world.op, &world.test);
    world.consumer("shop").await;
    let shop = consumer("shop");
    let known_by = by_name("dns:shop.example", 1);
    let made = app.certificates().create(op, test, &shop, new_certificate(known_by.clone())).await.unwrap();
    let later = op.now + SignedDuration::from_secs(60);
    app.usage().flush(&[(made.certificate.id.into(), later)]).await.unwrap();
    app.usage().flush(&[(made.certificate.id.into(), op.now)]).await.unwrap();
    let listed = app.certificates().list(op, test, &shop).await.unwrap();
    assert_eq!(listed[0].last_used_at, Some(later));
    let expired = NewCertificate { expires_at: Some(op.now), ..new_certificate(known_by.clone()) };
    let error = app.certificates().create(op, test, &shop, expired).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    app.consumers().delete(op, test, &shop, None).await.unwrap();
    world.consumer("bank").await;
    app.certificates().create(op, test, &consumer("bank"), new_certificate(known_by)).await.unwrap();
}
