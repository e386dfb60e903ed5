//! Replays each corpus, and looks around it: bounded, and the same in every run.

use std::path::PathBuf;

use tollgate_fuzz::{Mutator, TARGETS, Target, target};

/// Inputs that are made of each corpus.
const MADE: usize = 3_000;
/// Most bytes of a corpus: what each input shows is to be read by people, and what shows nothing new is left out.
const MOST_BYTES: usize = 16 * 1024;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(target.name);
    let entries =
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    let inputs: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("reads")).collect();
    let bytes = inputs.iter().map(Vec::len).sum::<usize>();
    assert!(
        bytes <= MOST_BYTES,
        "{} has {bytes} bytes: minimise it (libFuzzer's -merge=1)",
        directory.display()
    );
    inputs
}

/// Runs a target on an input, and shows the input when something does not hold.
fn run(target: &Target, input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| (target.run)(input));
    assert!(outcome.is_ok(), "target {}: {:?}", target.name, String::from_utf8_lossy(input));
}

fn smoke(name: &str) {
    let target = target(name);
    let corpus = corpus(&target);
    corpus.iter().for_each(|input| run(&target, input));
    run(&target, b"");
    let mut mutator = Mutator::new(1, corpus, target.words);
    for _ in 0..MADE {
        run(&target, &mutator.next_input());
    }
}

macro_rules! smoke_tests {
    ($($test:ident: $name:literal;)*) => {
        $(#[test] fn $test() { smoke($name); })*

        #[test]
        fn every_target_has_a_test_and_a_program() {
            let tested = [$($name),*];
            let all: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, tested);
            let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/src/bin");
            for name in all {
                let path = format!("{programs}/{name}.rs");
                let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
                assert!(text.contains(&format!("\"{name}\"")), "{path} runs another target");
            }
        }
    };
}

smoke_tests! {
    basic_auth_headers: "basic";
    expressions: "expression";
    api_keys: "key";
    leaks: "leaks";
    pipeline_files: "pipeline";
    requests: "request";
    tokens: "token";
}
