//! The benchmark of the console measures every page: "no page takes over 100 ms" holds for those that are looked at only.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::root;

/// Pages that are not measured, and why not.
const NOT_MEASURED: [(&str, &str); 5] = [
    ("/", "leads to another page"),
    ("/realms/{realm}", "leads to another page"),
    ("/sign-in", "shows a form, and nothing that is stored"),
    ("/assets/{name}", "is part of the program"),
    ("/realms/{realm}/audit/export", "is a file that is written while it is read, however long it is"),
];

/// Returns the routes of the console that are got, by the files that name them.
fn routes() -> BTreeMap<String, PathBuf> {
    let mut routes = BTreeMap::new();
    let mut directories = vec![root().join("crates/console/src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("reads");
            for call in text.split(".route(").skip(1) {
                let call = arguments(call);
                if call.contains("get(") {
                    let route = between_quotes(call).next().expect("the path of a route");
                    routes.insert(whole(route, &text), path.clone());
                }
            }
        }
    }
    routes
}

/// Returns what stands before the bracket that ends a call.
fn arguments(call: &str) -> &str {
    let mut open = 1;
    let end = call.find(|byte| {
        open += match byte {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        open == 0
    });
    &call[..end.expect("it ends")]
}

fn between_quotes(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// Returns a route with the beginning that it shares with others of its file.
fn whole(route: &str, text: &str) -> String {
    match route.strip_prefix("{place}") {
        Some(end) => {
            let place = text.split("let place = ").nth(1).expect("it is set");
            format!("{}{end}", between_quotes(place).next().expect("a text"))
        }
        None => route.to_owned(),
    }
}

/// Returns the paths that the benchmark asks for.
fn measured() -> Vec<String> {
    let text = fs::read_to_string(root().join("crates/bench/benches/console.rs")).expect("reads");
    let list = text.split("const PAGES").nth(1).and_then(|rest| rest.split("];").next());
    let paths = between_quotes(list.expect("the list of pages"));
    let paths = paths.map(|path| path.split('?').next().unwrap_or_default());
    paths
        .map(|path| if path.starts_with('/') { path.to_owned() } else { format!("/realms/default/{path}") })
        .collect()
}

/// Returns how many segments of a route a path has as they stand; `None` when it is not of this route.
fn fit(route: &str, path: &str) -> Option<usize> {
    let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
    let fits = |(of, it): (&&str, &&str)| of == it || of.starts_with('{');
    let same = route.iter().zip(&path).filter(|(of, it)| of == it).count();
    (route.len() == path.len() && route.iter().zip(&path).all(fits)).then_some(same)
}

#[test]
fn every_page_of_the_console_is_measured() {
    let routes = routes();
    assert!(routes.len() > 40, "routes are found: {routes:?}");
    let measured: Vec<&String> = measured()
        .iter()
        .map(|path| {
            let best = routes.keys().filter_map(|route| Some((fit(route, path)?, route))).max();
            best.unwrap_or_else(|| panic!("the benchmark measures {path}, which is no page")).1
        })
        .collect();
    for (route, file) in &routes {
        let excused = NOT_MEASURED.iter().any(|(known, _)| known == route);
        assert!(
            measured.contains(&route) != excused,
            "{route} of {}: add a path of it to PAGES in crates/bench/benches/console.rs, with data of a size that \
             matters; or say here why it is not measured",
            file.display()
        );
    }
    for (route, _) in NOT_MEASURED {
        assert!(routes.contains_key(route), "{route} is no page any more");
    }
}
