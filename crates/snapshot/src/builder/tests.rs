use std::fmt::Write as _;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_credential::passwords;
use tollgate_model::keysets::Algorithm;
use tollgate_model::sources::{Random, RandomError};

use super::*;

struct Fixed;

impl Random for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        buffer.fill(7);
        Ok(())
    }
}

fn master() -> Arc<MasterKey> {
    Arc::new(MasterKey::generate(&Fixed).expect("random"))
}

fn realm() -> RealmName {
    RealmName::default()
}

fn put(kind: Kind, key: &str, body: &Value) -> ObjectChange {
    ObjectChange { realm: realm(), kind, key: key.to_owned(), body: Some(body.to_string()) }
}

fn delete(kind: Kind, key: &str) -> ObjectChange {
    ObjectChange { realm: realm(), kind, key: key.to_owned(), body: None }
}

fn environment(name: &str) -> ObjectChange {
    put(Kind::Environment, name, &json!({ "name": name, "createdAt": "2026-01-01T00:00:00Z" }))
}

fn version(name: &str, minor: u32, trigger: &Value, steps: &Value) -> ObjectChange {
    let body = json!({ "version": format!("1.{minor}"), "loginFlow": false, "createdAt": "2026-01-01T00:00:00Z",
        "createdBy": "admin", "pipeline": { "name": name, "project": "store", "trigger": trigger, "steps": steps } });
    put(Kind::PipelineVersion, &format!("{name}/0000000001.{minor:010}"), &body)
}

fn deployment(environment: &str, name: &str, minor: u32) -> ObjectChange {
    let body = json!({ "id": format!("dep_{}", "0".repeat(32)), "pipeline": name, "version": format!("1.{minor}"),
        "environment": environment, "policyVersion": "1.0", "deployedAt": "2026-01-01T00:00:00Z",
        "deployedBy": "admin", "action": "deploy" });
    put(Kind::Deployment, &format!("{environment}/{name}/v1"), &body)
}

fn key(environment: &str, n: u8, revoked: bool) -> ObjectChange {
    let id = format!("key_{}", format!("{n:02x}").repeat(16));
    let mut body = json!({ "id": id, "consumer": format!("con_{}", "0".repeat(32)), "environment": environment,
        "name": "k", "digest": format!("{n:02x}").repeat(32), "hint": "abcd", "createdAt": "2026-01-01T00:00:00Z" });
    if revoked {
        body["revokedAt"] = "2026-01-02T00:00:00Z".into();
    }
    put(Kind::ApiKey, &format!("{environment}/{id}"), &body)
}

fn consumer(environment: &str, name: &str, pipelines: &[&str]) -> ObjectChange {
    let body = json!({ "id": format!("con_{}", "0".repeat(32)), "name": name, "environment": environment,
        "pipelines": pipelines, "createdAt": "2026-01-01T00:00:00Z" });
    put(Kind::Consumer, &format!("{environment}/{name}"), &body)
}

fn signing_key(environment: &str) -> ObjectChange {
    let name = EnvironmentName::parse(environment).expect("a slug");
    let private = PrivateKey::generate(Algorithm::Hs256, &Fixed).expect("makes").to_bytes().expect("writes");
    let sealed =
        master().seal(&contexts::signing_key(&realm(), &name, "k1"), &private, &Fixed).expect("seals");
    put(
        Kind::SigningKey,
        &format!("{environment}/k1"),
        &json!({ "kid": "k1", "environment": environment,
        "algorithm": "HS256", "sealedPrivate": sealed, "state": { "is": "active" }, "createdAt": "2026-01-01T00:00:00Z" }),
    )
}

fn account(environment: &str, secret: &str) -> ObjectChange {
    let name = EnvironmentName::parse(environment).expect("a slug");
    let portal = tollgate_model::names::ValueName::parse("portal").expect("a name");
    let place = contexts::account_field(&realm(), &name, &portal, "token");
    let sealed = master().seal(&place, secret.as_bytes(), &Fixed).expect("seals");
    put(
        Kind::Account,
        &format!("{environment}/portal"),
        &json!({ "name": "portal", "environment": environment,
        "fields": { "token": sealed }, "updatedAt": "2026-01-01T00:00:00Z" }),
    )
}

fn open() -> Value {
    json!({ "type": "rest", "externalApi": true, "routes": ["/items/:id"] })
}

fn steps() -> Value {
    json!([{ "json": 1 }])
}

fn builder(changes: Vec<ObjectChange>) -> Builder {
    let mut builder = Builder::load(0, Vec::new(), master());
    builder.apply(1, changes);
    builder
}

/// Writes down all that a gateway can see of a snapshot.
fn describe(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for name in ["test", "prod"].map(|name| EnvironmentName::parse(name).expect("a slug")) {
        for exposure in Exposure::ALL {
            let Some(routes) = snapshot.listener(&name, exposure) else { continue };
            let _ = writeln!(out, "{name} {exposure:?} {}", routes.len());
            for path in ["/pipeline/default/v1/a", "/pipeline/default/v1/b", "/pipeline/default/v1/items/7"] {
                if let Some(found) = routes.find(path) {
                    let endpoint = found.endpoint;
                    let _ = writeln!(
                        out,
                        "  {path} {} {} {:?}",
                        endpoint.pipeline,
                        endpoint.version,
                        endpoint.flow.is_ok()
                    );
                }
            }
        }
        if let Some(scope) = snapshot.scope(&realm(), &name) {
            let mut keys: Vec<_> =
                scope.keys.iter().map(|(digest, key)| format!("{digest} {key:?}")).collect();
            keys.sort();
            let mut consumers: Vec<_> = scope.consumers.values().collect();
            let revoked: BTreeSet<_> = scope.revoked_tokens.iter().collect();
            consumers.sort_by_key(|consumer| consumer.name.clone());
            let _ = writeln!(out, "{keys:?} {consumers:?} {:?} {revoked:?}", scope.basic);
            let _ = writeln!(
                out,
                "{:?} {:?}",
                scope.key_set.is_ok(),
                scope.values.as_ref().map(|it| it.mask("s3cret-1 s3cret-2"))
            );
        }
    }
    let _ = writeln!(out, "{:?} {}", snapshot.problems(), snapshot.schedules().len());
    out
}

fn any_change() -> impl Strategy<Value = ObjectChange> {
    let place = prop_oneof![Just("test"), Just("prod")];
    (place, 0..12_u8, 0..3_u8, any::<bool>()).prop_map(|(env, what, n, flag)| match what {
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
        _ => delete(Kind::Consumer, &format!("{env}/shop")),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn step_by_step_gives_the_same_as_all_at_once(changes in proptest::collection::vec(any_change(), 0..40)) {
        let mut stepwise = Builder::load(0, Vec::new(), master());
        for (seq, change) in changes.iter().enumerate() {
            stepwise.apply(seq as u64, vec![change.clone()]);
        }
        let objects = stepwise.objects.iter().map(|((realm, kind, key), body)| {
            StoredObject { realm: realm.clone(), kind: *kind, key: key.clone(), revision: 0, body: body.clone() }
        });
        let at_once = Builder::load(9, objects.collect(), master());


        prop_assert_eq!(describe(&stepwise.current()), describe(&at_once.current()));
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
fn routes_take_parameters_and_know_their_methods_and_scopes() {
    let trigger = json!({ "type": "rest", "methods": ["GET"], "externalApi": true, "jwt": { "scopes": ["a:b"] },
        "routes": [{ "path": "/items/:id/parts/:part", "methods": ["PUT", "GET"], "scopes": ["c:d"] }, "/items/new/parts/:n"] });
    let snapshot =
        builder(vec![environment("test"), version("a", 0, &trigger, &steps()), deployment("test", "a", 0)])
            .current();
    let test = EnvironmentName::test();
    let routes = snapshot.listener(&test, Exposure::External).expect("a listener");
    let found = routes.find("/pipeline/default/v1/items/7/parts/x%2Fy").expect("found");
    assert_eq!(found.parameters, [("id", "7"), ("part", "x%2Fy")]);
    assert_eq!(found.route.allow, "GET, PUT");
    assert_eq!(found.route.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(), ["a:b", "c:d"]);
    assert_eq!(
        routes.find("/pipeline/default/v1/items/new/parts/x").expect("found").parameters,
        [("n", "x")]
    );
    for path in [
        "/pipeline/default/v1/a/",
        "/pipeline/default/v2/a",
        "/items/7/parts/x",
        "/pipeline/default/v1/items//parts/x",
    ] {
        assert!(routes.find(path).is_none(), "{path}");
    }
    assert!(snapshot.listener(&test, Exposure::Internal).expect("a listener").is_empty());
}

#[test]
fn what_the_deploy_lets_through_the_router_takes() {
    let trigger = json!({ "type": "rest", "externalApi": true, "internalApi": true, "removePrefix": true,
        "routes": ["/a/:x/b", "/a/:y/c", "/a/b/:z", "/a/:x"] });
    let change = version("a", 0, &trigger, &steps());
    let stored: PipelineVersion =
        serde_json::from_str(change.body.as_deref().expect("a body")).expect("parses");
    let paths = crate::exposed_paths(&realm(), &stored.pipeline, 1);
    let snapshot = builder(vec![environment("test"), change, deployment("test", "a", 0)]).current();
    let taken: usize = Exposure::ALL
        .into_iter()
        .filter_map(|exposure| {
            snapshot.listener(&EnvironmentName::test(), exposure).map(|routes| routes.len())
        })
        .sum();
    assert_eq!(taken, paths.len());
    let shapes: BTreeSet<_> = paths.iter().map(|path| (path.exposure, path.shape.clone())).collect();
    assert_eq!(shapes.len(), 10, "{shapes:?}");
}

#[test]
fn the_file_on_disk_restores_the_snapshot_and_damage_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("snapshot");
    let builder = builder(vec![
        environment("test"),
        version("a", 0, &open(), &steps()),
        deployment("test", "a", 0),
        signing_key("test"),
        account("test", "s3cret-1"),
        key("test", 1, false),
    ]);
    builder.save(&path).expect("saves");
    let restored = Builder::restore(&path, master()).expect("restores");
    assert_eq!(restored.current().seq, 1);
    assert_eq!(describe(&restored.current()), describe(&builder.current()));
    let bytes = std::fs::read(&path).expect("reads");
    assert!(!String::from_utf8_lossy(&bytes).contains("s3cret"), "secrets stay sealed on disk");
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("exists").permissions())
            & 0o777,
        0o600
    );
    for cut in [0, 5, 40, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).expect("writes");
        assert!(Builder::restore(&path, master()).is_err(), "{cut} bytes were taken for a snapshot");
    }
    let other = Arc::new(MasterKey::parse(&format!("{}=", "A".repeat(43))).expect("a key"));
    std::fs::write(&path, &bytes).expect("writes");
    let sealed = Builder::restore(&path, other).expect("parses").current();
    let scope = sealed.scope(&realm(), &EnvironmentName::test()).expect("a scope");
    assert!(scope.key_set.is_err() && scope.values.is_err(), "another master key opened a secret");
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
fn tokens_of_the_second_of_a_revocation_are_revoked() {
    let entry = ConsumerEntry {
        id: tollgate_model::ids::ConsumerId::new(Timestamp::UNIX_EPOCH, [0; 10]),
        subject: String::new(),
        name: tollgate_model::names::ConsumerName::parse("shop").expect("a slug"),
        pipelines: BTreeSet::new(),
        tokens_revoked_before: Some("2026-01-01T00:00:10.5Z".parse().expect("a time")),
    };
    let at = |text: &str| text.parse::<Timestamp>().expect("a time").as_second();
    assert!(entry.has_revoked_tokens_of(at("2026-01-01T00:00:10Z")));
    assert!(!entry.has_revoked_tokens_of(at("2026-01-01T00:00:11Z")));
}
