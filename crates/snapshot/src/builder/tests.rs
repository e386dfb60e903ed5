use proptest::prelude::*;
use serde_json::json;
use tollgate_credential::passwords;

use super::*;
use crate::samples::*;

/// A key with the same secret as every other twin.
fn twin(environment: &str, n: u8, revoked: bool) -> ObjectChange {
    let mut change = key(environment, n, revoked);
    change.body = change.body.map(|body| body.replace(&format!("{n:02x}").repeat(32), &"aa".repeat(32)));
    change
}

fn any_change() -> impl Strategy<Value = ObjectChange> {
    let place = prop_oneof![Just("test"), Just("prod")];
    (place, 0..19_u8, 0..3_u8, any::<bool>()).prop_map(|(env, what, n, flag)| match what {
        0 => environment(env),
        1 => delete(Kind::Environment, env),
        2 => deployment(env, if flag { "a" } else { "b" }, u32::from(n)),
        3 => delete(Kind::Deployment, &format!("{env}/{}/v1", if flag { "a" } else { "b" })),
        4 => version(if flag { "a" } else { "b" }, u32::from(n), &open(), &steps()),
        5 => key(env, n, flag),
        6 => delete(Kind::ApiKey, &format!("{env}/key_{}", format!("{n:02x}").repeat(16))),
        7 => consumer(env, if flag { "shop" } else { "bank" }, if n == 0 { &[] } else { &["a"] }),
        8 => signing_key(env),
        9 => account(env, if flag { "s3cret-1" } else { "s3cret-2" }),
        10 => put(Kind::TokenRevocation, &format!("{env}/jti-{n}"), &json!("does not parse")),
        11 => delete(Kind::Consumer, &format!("{env}/shop")),
        12 => twin(env, n, flag),
        13 => enforced_from(if flag { "2026-02-01T00:00:00Z" } else { "2026-03-01T00:00:00Z" }),
        14 if n == 0 => delete(Kind::Policies, "current"),
        14 if n == 1 => put(Kind::Policies, "current", &json!("does not parse")),
        14 => policies("sensitive-fields", &json!(["email"])),
        15 => waiver(if flag { "a" } else { "b" }, n, &format!("2026-02-0{}T00:00:00Z", n + 2)),
        16 => delete(Kind::Waiver, &waiver(if flag { "a" } else { "b" }, n, "2026-02-02T00:00:00Z").key),
        17 => certificate(env, n, flag),
        18 => delete(Kind::Certificate, &certificate(env, n, flag).key),
        _ => {
            let kinds = [
                Kind::SigningKey,
                Kind::Global,
                Kind::ApiKey,
                Kind::Consumer,
                Kind::Deployment,
                Kind::BasicAuth,
            ];
            let kind = kinds[usize::from(n) + 3 * usize::from(flag)];
            let key = if kind == Kind::Deployment { "a/v1" } else { "x" };
            put(kind, &format!("{env}/{key}"), &json!("does not parse"))
        }
    })
}

/// The objects that changes add up to.
fn stored(changes: &[ObjectChange]) -> Vec<StoredObject> {
    let mut objects = BTreeMap::new();
    for ObjectChange { realm, kind, key, body } in changes.iter().cloned() {
        objects.insert((realm, kind, key), body);
    }
    let there = objects.into_iter().filter_map(|((realm, kind, key), body)| {
        Some(StoredObject { realm, kind, key, revision: 0, body: body? })
    });
    there.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn step_by_step_gives_the_same_as_all_at_once(changes in proptest::collection::vec(any_change(), 0..40)) {
        let mut stepwise = Builder::load(0, Vec::new(), master());
        for (seq, change) in changes.iter().enumerate() {
            stepwise.apply(seq as u64, vec![change.clone()]);
        }
        let at_once = Builder::load(9, stored(&changes), master());
        prop_assert_eq!(describe(&stepwise.current()), describe(&at_once.current()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn begun_anew_from_disk_at_any_time_it_gives_the_same(
        steps in proptest::collection::vec((proptest::collection::vec(any_change(), 0..6), any::<bool>(), 0..4_u8), 1..12)
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("snapshot");
        let mut builder = Builder::load(0, Vec::new(), master());
        let mut disk = crate::Disk::new(path.clone(), master());
        let (mut all, mut seq) = (Vec::new(), 0);
        for (changes, whole, then) in steps {
            seq += 1;
            let hash = [u8::try_from(seq).expect("few"); 32];
            builder.apply(seq, changes.clone());
            all.extend(changes.clone());
            let appended = !whole && disk.append(&crate::LogChanges { seq, hash, changes }).expect("writes");
            if !appended {
                disk.save(&builder.image(hash)).expect("writes");
            }
            if then == 0 {
                let restored = Builder::restore(&path, master()).expect("restores");
                prop_assert_eq!((restored.builder.current().seq, restored.hash, restored.cut), (seq, hash, 0));
                (builder, disk) = (restored.builder, restored.disk);
            }
        }
        let at_once = Builder::load(9, stored(&all), master());
        prop_assert_eq!(describe(&builder.current()), describe(&at_once.current()));
    }
}

#[test]
fn a_change_of_one_thing_shares_all_others_with_the_snapshot_before() {
    let mut builder = builder(vec![
        environment("test"),
        environment("prod"),
        version("a", 0, &open(), &steps()),
        deployment("test", "a", 0),
        consumer("test", "shop", &["a"]),
        signing_key("test"),
    ]);
    let (test, prod) = (EnvironmentName::test(), EnvironmentName::prod());
    let before = builder.current();
    let after = builder.apply(2, vec![key("test", 1, false)]);
    let listener =
        |snapshot: &Snapshot| snapshot.listener(&test, Exposure::External).expect("a listener").clone();
    assert!(Arc::ptr_eq(&listener(&before), &listener(&after)));
    let scope = |snapshot: &Snapshot, name| snapshot.scope(&realm(), name).expect("a scope").clone();
    assert!(Arc::ptr_eq(&scope(&before, &prod), &scope(&after, &prod)));
    assert!(Arc::ptr_eq(&scope(&before, &test).consumers, &scope(&after, &test).consumers));
    assert_eq!(
        (scope(&before, &test).keys.len(), scope(&after, &test).keys.len()),
        (0, 1),
        "the old one never changes"
    );
}

#[test]
fn a_broken_part_takes_nothing_else_down() {
    let snapshot = builder(vec![
        environment("test"),
        environment("prod"),
        signing_key("prod"),
        version("a", 0, &open(), &steps()),
        deployment("test", "a", 0),
        version("b", 0, &json!({ "type": "rest", "externalApi": true }), &json!([{ "json": "{{ nope }}" }])),
        deployment("test", "b", 0),
        deployment("test", "gone", 3),
        put(
            Kind::SigningKey,
            "test/k1",
            &json!({ "kid": "k1", "environment": "test", "algorithm": "ES256",
            "sealedPrivate": "AAAA", "state": { "is": "active" }, "createdAt": "2026-01-01T00:00:00Z" }),
        ),
    ])
    .current();
    let routes = snapshot.listener(&EnvironmentName::test(), Exposure::External).expect("a listener");
    let flow = |path: &str| routes.find(path).expect("found").endpoint.flow.is_ok();
    assert!(flow("/pipeline/default/v1/a"));
    assert!(!flow("/pipeline/default/v1/b"));
    assert!(!flow("/pipeline/default/v1/gone"));
    assert!(snapshot.scope(&realm(), &EnvironmentName::test()).expect("a scope").key_set.is_err());
    assert!(snapshot.scope(&realm(), &EnvironmentName::prod()).expect("a scope").key_set.is_ok());
    assert_eq!(snapshot.problems().len(), 3, "{:?}", snapshot.problems());
}

#[test]
fn nothing_in_a_snapshot_shows_a_secret() {
    let hash =
        passwords::hash(&passwords::Password::parse("hunter2").expect("a password"), &Fixed).expect("hashes");
    let basic = json!({ "id": format!("bas_{}", "0".repeat(32)), "consumer": format!("con_{}", "0".repeat(32)),
        "environment": "test", "username": "ana", "passwordHash": hash, "createdAt": "2026-01-01T00:00:00Z" });
    let snapshot = builder(vec![
        environment("test"),
        account("test", "s3cret-1"),
        signing_key("test"),
        put(Kind::BasicAuth, "test/x", &basic),
    ])
    .current();
    let shown = format!("{snapshot:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("argon2"), "{shown}");
}

#[test]
fn what_does_not_parse_is_broken_and_reported_instead_of_forgotten() {
    let unreadable = json!({ "from": "a newer version" });
    for (kind, name) in [(Kind::SigningKey, "test/k2"), (Kind::Global, "test/g"), (Kind::Account, "test/a")] {
        let snapshot =
            builder(vec![environment("test"), signing_key("test"), put(kind, name, &unreadable)]).current();
        let scope = snapshot.scope(&realm(), &EnvironmentName::test()).expect("a scope");
        assert_eq!(scope.key_set.is_err(), kind == Kind::SigningKey, "{kind}");
        assert_eq!(scope.values.is_err(), kind != Kind::SigningKey, "{kind}");
        assert!(
            snapshot.problems().iter().any(|problem| problem.contains(name)),
            "{:?}",
            snapshot.problems()
        );
    }
    for kind in [Kind::ApiKey, Kind::BasicAuth, Kind::Consumer] {
        let mut builder =
            builder(vec![environment("test"), signing_key("test"), put(kind, "test/x", &unreadable)]);
        assert_eq!(builder.current().problems().len(), 1, "{kind}");
        let mended = builder.apply(2, vec![delete(kind, "test/x")]);
        assert!(mended.problems().is_empty(), "{:?}", mended.problems());
    }
}

#[test]
fn a_deployment_that_cannot_be_read_still_holds_its_url_for_every_method() {
    let snapshot = builder(vec![
        environment("test"),
        signing_key("test"),
        put(Kind::Deployment, "test/a/v1", &json!({ "from": "a newer version" })),
        deployment("test", "gone", 3),
    ])
    .current();
    for exposure in Exposure::ALL {
        let routes = snapshot.listener(&EnvironmentName::test(), exposure).expect("a listener");
        for path in ["/pipeline/default/v1/a", "/pipeline/default/v1/gone"] {
            let found = routes.find(path).expect("found");
            assert!(found.endpoint.flow.is_err());
            let all = tollgate_model::triggers::Method::ALL;
            assert!(all.into_iter().all(|method| found.route.methods.contains(method)), "{path}");
        }
    }
    assert_eq!(snapshot.problems().len(), 2, "{:?}", snapshot.problems());
}

#[test]
fn of_two_keys_with_one_secret_the_older_counts() {
    let held = |builder: &Builder| {
        let snapshot = builder.current();
        let scope = snapshot.scope(&realm(), &EnvironmentName::test()).expect("a scope").clone();
        let mut keys: Vec<_> = scope.keys.iter().map(|(_, key)| (key.id, key.revoked_at.is_some())).collect();
        keys.sort();
        keys
    };
    for order in [[1, 2], [2, 1]] {
        let mut builder = builder(vec![environment("test")]);
        for n in order {
            builder.apply(2, vec![twin("test", n, n == 1)]);
        }
        builder.apply(3, vec![twin("test", 2, false)]);
        let [(_, revoked)] = held(&builder)[..] else { panic!("one entry for one digest") };
        assert!(revoked, "a key that was revoked works again because somebody imported it anew");
        builder.apply(4, vec![delete(Kind::ApiKey, &twin("test", 1, true).key)]);
        let [(_, revoked)] = held(&builder)[..] else { panic!("the other one is still there") };
        assert!(!revoked);
    }
}

#[test]
fn a_key_that_says_it_is_another_lets_nobody_in() {
    let (one, other) = (key("test", 1, false), key("test", 2, false));
    let posing = ObjectChange { body: other.body.clone(), ..one.clone() };
    let mut builder = builder(vec![environment("test"), signing_key("test"), one, posing]);
    let keys = |builder: &Builder| {
        builder.current().scope(&realm(), &EnvironmentName::test()).expect("a scope").keys.len()
    };
    assert_eq!(keys(&builder), 0, "neither the one it was nor the one that it poses as");
    assert_eq!(builder.current().problems().len(), 1, "{:?}", builder.current().problems());
    builder.apply(3, vec![other]);
    assert_eq!(keys(&builder), 1);
}

#[test]
fn a_key_with_another_secret_no_longer_works_with_the_one_before() {
    let mut builder = builder(vec![environment("test"), key("test", 1, false)]);
    let found = |builder: &Builder, digest: u8| {
        let digest = tollgate_credential::keys::KeyDigest::from_bytes([digest; 32]);
        builder
            .current()
            .scope(&realm(), &EnvironmentName::test())
            .expect("a scope")
            .keys
            .get(&digest)
            .is_some()
    };
    assert!(found(&builder, 1) && !found(&builder, 0xaa));
    builder.apply(3, vec![twin("test", 1, false)]);
    assert!(!found(&builder, 1) && found(&builder, 0xaa));
}

#[test]
fn keys_of_an_environment_that_goes_and_comes_back_are_those_of_the_store() {
    let mut builder = builder(vec![environment("test"), key("test", 1, false)]);
    let held = |builder: &Builder| {
        builder.current().scope(&realm(), &EnvironmentName::test()).map(|scope| scope.keys.len())
    };
    builder.apply(3, vec![delete(Kind::Environment, "test")]);
    assert_eq!(held(&builder), None);
    builder.apply(4, vec![key("test", 2, false), delete(Kind::ApiKey, &key("test", 1, false).key)]);
    builder.apply(5, vec![environment("test")]);
    assert_eq!(held(&builder), Some(1));
}

#[test]
fn a_certificate_is_found_by_its_fingerprint_and_by_each_of_its_names() {
    let mut builder = builder(vec![
        environment("test"),
        signing_key("test"),
        certificate("test", 1, false),
        certificate("test", 2, true),
        put(Kind::Certificate, "test/x", &json!("does not parse")),
    ]);
    let test = EnvironmentName::test();
    let found = |builder: &Builder, digest: u8, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let snapshot = builder.current();
        let certificates = &snapshot.scope(&realm(), &test).expect("there").certificates;
        let fingerprint = tollgate_model::certificates::Fingerprint([digest; 32]);
        certificates.of(fingerprint, &names).map(|it| it.issuer.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(found(&builder, 0x11, &["dns:shop.example"]), [false, true]);
    assert_eq!(found(&builder, 0x11, &[]), [false]);
    assert_eq!(found(&builder, 0x12, &["dns:x.example", "dns:shop.example"]), [true]);
    assert_eq!(found(&builder, 0x12, &["uri:shop.example", "dns:Shop.example"]), [false; 0]);
    let problems = builder.current();
    assert!(problems.problems().iter().any(|it| it.contains("certificate")), "{:?}", problems.problems());
    builder.apply(9, vec![delete(Kind::Certificate, &certificate("test", 1, false).key)]);
    assert_eq!(found(&builder, 0x11, &["dns:shop.example"]), [true]);
}
