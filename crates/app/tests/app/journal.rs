//! The journal as an audit log: what an entry changed, what stays hidden, what is exported.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::{Value, json};
use tollgate_app::access::Op;
use tollgate_app::accounts::AccountFields;
use tollgate_app::certificates::NewCertificate;
use tollgate_app::errors::ErrorKind;
use tollgate_app::journal::{Export, Exported, MASK, masked};
use tollgate_app::{JournalFilter, Outcome, Password};
use tollgate_model::access::{Group, Role};
use tollgate_model::certificates::{Fingerprint, KnownBy};
use tollgate_model::change_requests::ChangeRequest;
use tollgate_model::evidence::JournalLoss;
use tollgate_model::names::{RealmName, ValueName};
use tollgate_model::objects::Kind;
use tollgate_model::users::SecondFactor;
use tollgate_store::{Change, Expect, Hash, Mutation, link};

use crate::shadow::shadowed;
use crate::waivers::new_waiver;
use crate::world::{ITEMS, OPEN, World, consumer, document, external, new_key, pipeline};

fn name(text: &str) -> ValueName {
    ValueName::parse(text).unwrap()
}

fn password(text: &str) -> Password {
    Password::parse(text).unwrap()
}

/// A realm with an object of every kind.
async fn everything() -> World {
    let world = World::start().await;
    let (app, op, test) = (&world.app, &world.op, &world.test);
    app.users().create_first_admin(op, Some(password("correct horse battery"))).await.unwrap();
    world.consumer("ann").await;
    app.basic_auth().create(op, test, &consumer("ann"), "ann", None).await.unwrap();
    let known_by = KnownBy::Fingerprint(Fingerprint([1; 32]));
    let certificate = NewCertificate { name: new_key().name, known_by, expires_at: None };
    app.certificates().create(op, test, &consumer("ann"), certificate).await.unwrap();
    let plain = BTreeMap::from([("token".to_owned(), password("plain-secret-field"))]);
    let hashed = BTreeMap::from([("login".to_owned(), password("other-secret-field"))]);
    app.accounts().set(op, test, name("crm"), AccountFields { plain, hashed }, None).await.unwrap();
    app.globals().set(op, test, name("rate"), json!({ "per": "minute" }), None).await.unwrap();
    app.signing_keys().rotate(op, test, None, 60).await.unwrap();
    let corp = tollgate_model::names::IssuerName::parse("corp").unwrap();
    app.issuers().create(op, test, corp, crate::issuers::issuer_settings()).await.unwrap();
    app.signing_keys().revoke_token(op, test, "jti", None).await.unwrap();
    app.pipelines().save(op, document("shop", OPEN)).await.unwrap();
    app.waivers().create(op, new_waiver()).await.unwrap();
    app.pipelines().save(op, document("items", ITEMS)).await.unwrap();
    app.deployments().deploy(op, test, &pipeline("items"), None, None).await.unwrap();
    app.shadow().set(op, &shadowed(), "", None).await.unwrap();
    let role = json!({ "name": "own", "permissions": ["audit:read"] });
    let group = json!({ "name": "auditors", "grants": [{ "role": "own" }] });
    let digest = "ab".repeat(32);
    let factor = json!({ "user": "usr_00000000000000000000000000000000", "sealedSecret": "a-sealed-secret",
        "createdAt": op.now, "lastStep": 1, "recoveryDigests": [digest] });
    let request = json!({ "id": "chg_00000000000000000000000000000000",
        "change": { "type": "removeRule", "rule": "a-rule" }, "reason": "", "base": 1, "policyVersion": "1.0",
        "author": { "user": "usr_00000000000000000000000000000000", "name": "ada" },
        "createdAt": op.now, "expiresAt": op.now });
    let loss = json!({ "acceptedAt": op.now,
        "envelope": { "payload": "e30=", "payloadType": "a/b", "signatures": [] } });
    let mutations = vec![
        Mutation::put::<SecondFactor>(&serde_json::from_value(factor).unwrap(), Expect::Absent).unwrap(),
        Mutation::put::<ChangeRequest>(&serde_json::from_value(request).unwrap(), Expect::Absent).unwrap(),
        Mutation::put::<JournalLoss>(&serde_json::from_value(loss).unwrap(), Expect::Absent).unwrap(),
        Mutation::put::<Role>(&serde_json::from_value(role).unwrap(), Expect::Absent).unwrap(),
        Mutation::put::<Group>(&serde_json::from_value(group).unwrap(), Expect::Absent).unwrap(),
    ];
    let change = Change {
        realm: op.realm.clone(),
        actor: "ada".to_owned(),
        source: "test".to_owned(),
        action: "group.create".to_owned(),
        request_id: op.request_id.to_string(),
        reason: String::new(),
        at: op.now,
        guards: Vec::new(),
        mutations,
    };
    world.store.commit(change).await.unwrap();
    world
}

/// Finds every value in stored objects that is a hash, a digest, or sealed.
fn secrets_in(kind: Kind, value: &Value, pointer: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(name, value)| secrets_in(kind, value, &format!("{pointer}/{name}"), found));
        }
        Value::Array(items) => items.iter().for_each(|value| secrets_in(kind, value, pointer, found)),
        Value::String(text) => {
            // Of what runs, and was attested, it is known which pipeline it is: that digest is no secret. Nor is that of a
            // certificate, which everybody gets to see who is called with it.
            let is_digest = !matches!(kind, Kind::Deployment | Kind::Attestation | Kind::Certificate)
                && text.len() == 64
                && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let name = pointer.rsplit('/').next().unwrap().to_lowercase();
            let by_name =
                ["hash", "sealed", "digest", "secret", "private"].iter().any(|it| name.contains(it));
            let sealed = kind == Kind::Account && pointer.starts_with("/fields/");
            if is_digest || text.starts_with("$argon2") || by_name || sealed {
                found.insert(text.clone());
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn of_no_kind_a_hash_a_digest_or_a_sealed_value_comes_out() {
    let world = everything().await;
    let (mut kinds, mut secrets, mut shown) = (BTreeSet::new(), BTreeSet::new(), String::new());
    for entry in world.store.changes_after(0, 10_000).await.unwrap() {
        for mutation in &entry.mutations {
            let body = mutation.body.as_deref().unwrap_or("null");
            secrets_in(mutation.kind, &serde_json::from_str(body).unwrap(), "", &mut secrets);
            kinds.insert(mutation.kind);
            shown.push_str(&masked(mutation.kind, body).to_string());
        }
        shown.push_str(&format!(
            "{:?}",
            world.app.journal().entry(&world.op, entry.seq).await.unwrap().objects
        ));
    }
    // A kind that is added is added above, too.
    assert_eq!(kinds, Kind::ALL.iter().copied().collect());
    // Password, admin's token, API key, Basic Auth, two fields, three signing keys, an evidence key, a second factor with
    // a recovery code.
    assert_eq!(secrets.len(), 12, "{secrets:?}");
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret}");
    }
    assert!(shown.contains("\"passwordHash\":\"(masked)\"") && shown.contains("/fields/login"));
}

#[tokio::test]
async fn an_entry_tells_what_each_field_was_and_is() {
    let world = World::start().await;
    let (app, op, test) = (&world.app, &world.op, &world.test);
    app.globals().set(op, test, name("rate"), json!({ "per": "minute", "limit": 1 }), None).await.unwrap();
    let first = world.store.head().await.unwrap();
    app.globals().set(op, test, name("other"), json!(1), None).await.unwrap();
    app.globals().set(op, test, name("rate"), json!({ "per": "hour", "limit": 1 }), None).await.unwrap();
    app.globals().delete(op, test, &name("rate"), None).await.unwrap();

    let shown = async |seq| app.journal().entry(op, seq).await.unwrap().objects.remove(0);
    let made = shown(first).await;
    assert_eq!(
        (made.kind, made.key.as_str(), made.previous, made.deleted),
        (Kind::Global, "test/rate", None, false)
    );
    assert!(made.fields.iter().all(|field| field.before.is_none()));
    let changed = shown(first + 2).await;
    assert_eq!((changed.previous, changed.deleted), (Some(first), false));
    let fields: Vec<_> =
        changed.fields.iter().map(|it| (it.pointer.as_str(), it.before.clone(), it.after.clone())).collect();
    assert_eq!(fields, [("/value/per", Some(json!("minute")), Some(json!("hour")))]);
    let deleted = shown(first + 3).await;
    assert_eq!((deleted.previous, deleted.deleted), (Some(first + 2), true));
    assert!(deleted.fields.iter().all(|field| field.after.is_none()));

    for seq in [0, first + 4, u64::MAX] {
        let error = app.journal().entry(op, seq).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{seq}");
    }
}

#[tokio::test]
async fn entries_of_another_realm_are_not_there() {
    let world = World::start().await;
    let other = RealmName::parse("other").unwrap();
    world.app.realms().create(&world.op, other.clone()).await.unwrap();
    let seq = world.store.head().await.unwrap();
    let here = world.app.journal().entry(&world.op, seq).await.unwrap_err();
    assert_eq!(here.kind, ErrorKind::NotFound);
    let there = Op { realm: other, ..world.op.clone() };
    assert_eq!(world.app.journal().entry(&there, seq).await.unwrap().entry.action, "realm.create");
}

#[tokio::test]
async fn a_filter_that_finds_nothing_by_mistake_is_refused() {
    let world = World::start().await;
    let now = world.op.now;
    for filter in [
        JournalFilter { key: Some("a".to_owned()), ..JournalFilter::default() },
        JournalFilter { since: Some(now), until: Some(now), ..JournalFilter::default() },
        JournalFilter {
            since: Some(now),
            until: Some(now - SignedDuration::from_secs(1)),
            ..JournalFilter::default()
        },
    ] {
        let error = world.app.journal().list(&world.op, filter.clone()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.hint.is_some());
        let error = world.app.journal().export(&world.op, filter, true).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
}

async fn all_of(mut export: Export) -> Vec<Exported> {
    let mut all = Vec::new();
    loop {
        let page = export.next().await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[tokio::test]
async fn an_export_is_what_was_there_when_it_began_and_links_what_it_leaves_out() {
    let world = World::start().await;
    let (app, op, test) = (&world.app, &world.op, &world.test);
    app.realms().create(op, RealmName::parse("other").unwrap()).await.unwrap();
    // More than a page.
    for n in 0..520 {
        app.globals().set(op, test, name(&format!("g{}", n % 2)), json!(n), None).await.unwrap();
    }
    app.policies().set(op, &external(true, "test", "any"), "", None).await.unwrap();
    let filter = JournalFilter {
        kind: Some(Kind::Global),
        key: Some("test/g1".to_owned()),
        outcome: Some(Outcome::Done),
        limit: 3,
        newest_first: true,
        ..JournalFilter::default()
    };
    let export = app.journal().export(op, filter.clone(), false).await.unwrap();
    let chained = app.journal().export(op, filter, true).await.unwrap();
    app.globals().set(op, test, name("g1"), json!("later"), None).await.unwrap();
    let head = world.store.head().await.unwrap() - 1;

    let seqs = |lines: &[Exported]| -> Vec<u64> {
        let seq = |line: &Exported| match line {
            Exported::Entry(entry) => Some(entry.seq),
            Exported::Link { .. } => None,
        };
        lines.iter().filter_map(seq).collect()
    };
    let plain = all_of(export).await;
    assert_eq!((plain.len(), seqs(&plain).len()), (260, 260));
    assert!(seqs(&plain).is_sorted());
    let chained = all_of(chained).await;
    assert_eq!((seqs(&chained), chained.len() as u64), (seqs(&plain), head));
    // The chain can be recomputed without a word of what was left out.
    let mut last = Hash::default();
    for (line, seq) in chained.iter().zip(1..) {
        let (content, previous, hash) = match line {
            Exported::Entry(entry) => (entry.content_hash(), entry.previous_hash, entry.hash),
            Exported::Link { content, previous_hash, hash, .. } => (content.unwrap(), *previous_hash, *hash),
        };
        assert_eq!((previous, link(&last, seq, &content)), (last, hash));
        last = hash;
    }
    assert_eq!(world.store.hash_at(head).await.unwrap(), Some(last));
    assert!(!format!("{chained:?}").contains(MASK));
}
