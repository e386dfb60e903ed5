use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::Kind;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::triggers::RoutePath;

use super::*;
use crate::samples::*;
use crate::{ObjectChange, Snapshot};

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
fn a_route_that_another_realm_holds_is_reported() {
    let root = json!({ "type": "rest", "externalApi": true, "removePrefix": true, "routes": ["/items/:id"] });
    let of_realm = |name: &str, change: ObjectChange| ObjectChange {
        realm: RealmName::parse(name).expect("a slug"),
        ..change
    };
    let changes = ["north", "south"].into_iter().flat_map(|name| {
        [environment("test"), version("a", 0, &root, &steps()), deployment("test", "a", 0)]
            .map(|change| of_realm(name, change))
    });
    let mut builder = builder(changes.collect());
    let problem = |snapshot: &Snapshot| {
        snapshot.problems().iter().find(|problem| problem.contains("/items/:id")).cloned()
    };
    assert!(problem(&builder.current()).is_some_and(|it| it.contains("south")), "{:?}", builder.current());
    let later = builder.apply(2, vec![key("test", 1, false)]);
    assert!(problem(&later).is_some(), "forgotten by a change that concerns no route");
    let freed = builder.apply(3, vec![of_realm("north", delete(Kind::Deployment, "test/a/v1"))]);
    assert_eq!(problem(&freed), None);
    let routes = freed.listener(&EnvironmentName::test(), Exposure::External).expect("a listener");
    assert_eq!(routes.find("/items/7").expect("found").endpoint.realm.as_str(), "south");
}

#[test]
fn a_route_said_twice_with_different_scopes_answers_neither_way() {
    let trigger =
        |routes: Value| json!({ "type": "rest", "externalApi": true, "jwt": true, "routes": routes });
    let is_ok = |routes: Value| {
        let snapshot = builder(vec![
            environment("test"),
            version("a", 0, &trigger(routes), &steps()),
            deployment("test", "a", 0),
        ])
        .current();
        let listener = snapshot.listener(&EnvironmentName::test(), Exposure::External).expect("a listener");
        listener.find("/pipeline/default/v1/a").expect("found").endpoint.flow.is_ok()
    };
    assert!(!is_ok(json!(["/b/:x", { "path": "/b/:x", "scopes": ["admin"] }])));
    assert!(!is_ok(json!(["/b/:x", { "path": "/b/:x", "methods": ["DELETE"] }])));
    assert!(!is_ok(json!(["/b/:x", "/b/:y"])), "the flow would miss `y`");
    assert!(
        !is_ok(json!([{ "path": "/a", "scopes": ["admin"] }])),
        "the pipeline's own path asks for no scope"
    );
    assert!(is_ok(json!(["/b/:x", "/b/:x", "/a"])), "the same said twice is no contradiction");
}

fn any_route() -> impl Strategy<Value = String> {
    let first = proptest::sample::select(vec!["a", "ab", "b"]);
    let rest = proptest::sample::select(vec!["a", "ab", "b", ":x", ":y"]);
    (first, proptest::collection::vec(rest, 0..4))
        .prop_map(|(first, rest)| {
            format!("/{first}{}", rest.iter().map(|it| format!("/{it}")).collect::<String>())
        })
        .prop_filter("names a parameter twice", |path| RoutePath::parse(path).is_ok())
}

/// Finds the route that ought to answer, by trying every one: segment by segment, a literal goes before a parameter.
fn expected<'a>(routes: &'a BTreeMap<String, String>, path: &str) -> Option<&'a String> {
    let asked: Vec<_> = path.split('/').collect();
    let answers = |route: &&String| {
        let segments: Vec<_> = route.split('/').collect();
        segments.len() == asked.len()
            && segments
                .iter()
                .zip(&asked)
                .all(|(segment, asked)| segment == asked || (segment.starts_with(':') && !asked.is_empty()))
    };
    routes
        .values()
        .filter(answers)
        .min_by_key(|route| route.split('/').map(|it| it.starts_with(':')).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Claims are made of shapes: the router must take routes of different shapes and refuse those of the same.
    #[test]
    fn the_router_takes_a_route_exactly_when_its_shape_is_free(
        paths in proptest::collection::vec(any_route(), 0..12),
        again in any_route(),
        asked in proptest::collection::vec(
            proptest::collection::vec(proptest::sample::select(vec!["a", "ab", "abc", "b", ":x", ""]), 1..5), 20),
    ) {
        // The first of each shape, as the claims of the deploy let it through.
        let mut routes = BTreeMap::new();
        for path in paths {
            routes.entry(shape(&path)).or_insert(path);
        }
        let root = |routes: Vec<&String>| json!({ "type": "rest", "externalApi": true, "removePrefix": true, "routes": routes });
        let snapshot = builder(vec![
            environment("test"),
            signing_key("test"),
            version("one", 0, &root(routes.values().collect()), &steps()),
            deployment("test", "one", 0),
            version("two", 0, &root(vec![&again]), &steps()),
            deployment("test", "two", 0),
        ])
        .current();
        let is_taken = routes.contains_key(&shape(&again));
        prop_assert_eq!(snapshot.problems().len(), usize::from(is_taken), "{:?}", snapshot.problems());
        routes.entry(shape(&again)).or_insert(again);

        let listener = snapshot.listener(&EnvironmentName::test(), Exposure::External).expect("a listener");
        for asked in asked {
            let path = format!("/{}", asked.join("/"));
            let found = listener.find(&path).map(|found| &found.route.path);
            prop_assert_eq!(found, expected(&routes, &path), "{}", path);
        }
    }
}
