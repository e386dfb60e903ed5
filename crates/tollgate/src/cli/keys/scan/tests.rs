use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_credential::keys::IssuedKey;
use tollgate_credential::user_tokens::IssuedUserToken;
use tollgate_model::names::EnvironmentName;
use tollgate_testkit::SeededRandom;

use super::findings::{KnownKey, Owner};
use super::*;
use crate::cli::sarif::tests::assert_sarif;
use crate::failure::Exit;

fn key(seed: u64) -> String {
    let key = IssuedKey::generate(&EnvironmentName::prod(), &SeededRandom::new(seed)).expect("random");
    key.plain.expose_secret().to_owned()
}

fn token() -> String {
    IssuedUserToken::generate(&SeededRandom::new(1)).expect("random").expose_secret().to_owned()
}

/// A directory to scan.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn repository() -> Self {
        let place = Self::new();
        place.git(&["init", "--quiet", "--initial-branch=main"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
        std::fs::write(path, content).expect("writes");
        self
    }

    fn remove(&self, name: &str) -> &Self {
        std::fs::remove_file(self.path(name)).expect("removes");
        self
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.0.path())
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false"])
            .args(["-c", "protocol.file.allow=always"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Commits everything and returns the commit as findings show it.
    fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])[..12].to_owned()
    }

    fn arguments(&self) -> ScanArguments {
        ScanArguments {
            paths: vec![self.0.path().to_owned()],
            no_history: false,
            staged: false,
            skip_ignored: false,
            identify: false,
            allow: None,
            format: ScanFormat::Text,
        }
    }

    fn scan(&self) -> Findings {
        self.scan_as(self.arguments())
    }

    fn scan_as(&self, arguments: ScanArguments) -> Findings {
        read(&arguments, HashSet::new()).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Returns where keys were found, as seen from this directory, and fails if one of the keys is shown.
    fn places(&self, findings: &Findings) -> Vec<String> {
        let all = format!(
            "{}{}{}{}",
            report::lines(findings),
            report::summary(findings),
            report::document(findings),
            sarif::document(findings)
        );
        for secret in (0..5).map(key).chain([token()]) {
            assert!(!all.contains(&secret), "a key is shown: {all}");
        }
        assert_sarif(&sarif::document(findings));
        let here = self.0.path().display().to_string();
        let places = findings.findings.iter().map(|finding| report::place(&finding.place));
        let places =
            places.map(|place| place.replace(&format!(" ({here})"), "").replace(&format!("{here}/"), ""));
        places.collect()
    }
}

#[test]
fn keys_are_found_in_text_binary_and_names_but_nothing_made_up_is() {
    let place = Place::new();
    let binary = [b"\0\x01\xff", key(1).as_bytes(), b"\xfe"].concat();
    place
        .write("a/app.env", format!("# the shop\nKEY=\"{}\"\n", key(0)))
        .write("b.bin", binary)
        .write(&format!("c/{}.txt", token()), "nothing")
        .write("d.txt", key(0).replacen("prod", "test", 1))
        .write(".hidden", token());
    let findings = place.scan();
    let masked = format!("tgu_…{}", &token()[token().len() - 4..]);
    assert_eq!(
        place.places(&findings),
        [".hidden:1:1", "b.bin:byte 3", "a/app.env:2:6", &format!("c/{masked}.txt: in the name")]
    );
    assert_eq!((findings.exit(), findings.files), (Some(Exit::Refused), 5));
    let line = report::lines(&findings);
    let shown = format!("a/app.env:2:6: API key tg_prod_…{} of prod\n", &key(0)[key(0).len() - 4..]);
    assert!(line.contains(&shown), "{line}");
    assert_eq!(Place::new().scan().exit(), None);
}

#[test]
fn a_huge_file_is_read_in_pieces_and_a_key_across_two_of_them_is_found() {
    let place = Place::new();
    let mut content = vec![b'x'; 3 * 256 * 1024];
    for at in [256 * 1024 - 20, 2 * 256 * 1024 - 1] {
        content[at..at + 46].copy_from_slice(key(0).as_bytes());
    }
    place.write("big.log", content);
    assert_eq!(place.places(&place.scan()), ["big.log:1:262125", "big.log:1:524288"]);
}

#[test]
fn links_pipes_and_circles_hold_nothing_up_and_what_cannot_be_read_is_told() {
    let (place, other) = (Place::new(), Place::new());
    other.write("outside.txt", key(1));
    place.write("a.txt", key(0));
    symlink(place.0.path(), place.path("circle")).expect("links");
    symlink(other.0.path(), place.path("elsewhere")).expect("links");
    symlink(place.path("nowhere"), place.path("broken")).expect("links");
    let made = Command::new("mkfifo").arg(place.path("pipe")).status().expect("runs");
    assert!(made.success());
    let findings = place.scan();
    assert_eq!(place.places(&findings), ["a.txt:1:1"]);
    assert_eq!(findings.exit(), Some(Exit::Refused));
    // A path that is named is followed.
    let arguments = ScanArguments { paths: vec![place.path("elsewhere")], ..place.arguments() };
    assert_eq!(place.places(&place.scan_as(arguments)), ["elsewhere/outside.txt:1:1"]);
    let missing = ScanArguments { paths: vec![place.path("nowhere")], ..place.arguments() };
    assert_eq!(read(&missing, HashSet::new()).err().map(|it| it.exit()), Some(Exit::Usage));
}

#[test]
fn a_file_that_cannot_be_read_is_a_failure_beside_what_is_found() {
    let place = Place::new();
    place.write("a.txt", key(0));
    // Opens, and cannot be read from its beginning; also by root, who may read everything else.
    let unreadable = PathBuf::from("/proc/self/mem");
    let paths = vec![unreadable, place.path("a.txt")];
    let findings = place.scan_as(ScanArguments { paths, ..place.arguments() });
    assert_eq!(place.places(&findings), ["a.txt:1:1"]);
    assert_eq!((findings.files, findings.exit()), (1, Some(Exit::Failed)));
    let told = report::summary(&findings);
    assert!(told.starts_with("error: /proc/self/mem: "), "{told}");
}

#[test]
fn a_failure_outweighs_a_finding_and_shows_no_key() {
    let mut findings = Findings::default();
    findings.failed(&format!("/x/{}\u{1b}", key(0)), "gone");
    assert_eq!(findings.exit(), Some(Exit::Failed));
    let told = report::summary(&findings);
    assert!(told.contains("tg_prod_…") && !told.contains(&key(0)) && !told.contains('\u{1b}'), "{told}");
    assert_eq!(report::document(&findings)["code"], "failed");
    assert_sarif(&sarif::document(&findings));
}

#[test]
fn a_key_that_was_taken_out_again_is_found_in_the_commit_that_brought_it() {
    let place = Place::repository();
    place.write("readme", "hello");
    place.commit("begin");
    place.write("src/app.env", format!("\nKEY={}\n", key(0)));
    let first = place.commit("add the key");
    place.write("src/app.env", format!("\n\n\nKEY={}\n", key(0)));
    place.commit("move it");
    place.remove("src/app.env");
    place.commit("take it out");
    let findings = place.scan();
    assert_eq!(place.places(&findings), [format!("{first}:src/app.env:2:5")]);
    let no_history = ScanArguments { no_history: true, ..place.arguments() };
    assert_eq!(place.scan_as(no_history).exit(), None);
}

#[test]
fn branches_tags_stashes_merges_and_messages_are_read_too() {
    let place = Place::repository();
    place.write("readme", "hello");
    place.commit("begin");
    place.git(&["checkout", "--quiet", "-b", "side"]);
    place.write("side.txt", key(0));
    let side = place.commit("side");
    place.git(&["checkout", "--quiet", "main"]);
    let message = place.commit(&format!("use {} for now", key(1)));
    // An evil merge: what it brings stands in neither of its parents.
    place.git(&["merge", "--quiet", "--no-commit", "--strategy=ours", "side"]);
    place.write("merged.txt", key(2));
    let merge = place.commit("merge");
    place.remove("merged.txt");
    place.commit("clean");
    place.git(&["tag", "--annotate", "v1", "--message", &format!("with {}", key(3))]);
    place.write("readme", key(4));
    place.git(&["stash", "--quiet"]);
    let stash = place.git(&["rev-parse", "refs/stash"])[..12].to_owned();
    let tag = place.git(&["rev-parse", "v1"])[..12].to_owned();
    let mut places = place.places(&place.scan());
    // Merges and stashes write their messages into files of git; those are read as files.
    places.retain(|place| !place.starts_with(".git/"));
    places.sort();
    let mut expected = [
        format!("{side}:side.txt:1:1"),
        format!("{message}: in the message"),
        format!("{merge}:merged.txt:1:1"),
        format!("{tag}: in the message"),
        format!("{stash}:readme:1:1"),
    ];
    expected.sort();
    assert_eq!(places, expected);
}

#[test]
fn names_in_a_history_are_read_and_shown_masked() {
    let place = Place::repository();
    let name = format!("{}.txt", key(0));
    place.write(&name, "nothing");
    let commit = place.commit("begin");
    place.remove(&name);
    place.commit("gone");
    let masked = format!("tg_prod_…{}.txt", &key(0)[key(0).len() - 4..]);
    assert_eq!(place.places(&place.scan()), [format!("{commit}:{masked}: in the name")]);
}

#[test]
fn only_what_is_staged_is_read_before_a_commit() {
    let place = Place::repository();
    place.write("old.txt", key(0));
    place.commit("old");
    place.write("staged.txt", key(1)).write("more/staged ü\n.txt", format!("x {}", token()));
    place.git(&["add", "--all"]);
    place.write("staged.txt", "taken out again").write("loose.txt", key(2));
    let staged = || ScanArguments { staged: true, ..place.arguments() };
    assert_eq!(
        place.places(&place.scan_as(staged())),
        ["index:more/staged ü\\n.txt:1:3", "index:staged.txt:1:1"]
    );
    place.git(&["add", "--all"]);
    place.remove("loose.txt");
    place.git(&["rm", "--quiet", "--cached", "loose.txt", "old.txt"]);
    assert_eq!(place.places(&place.scan_as(staged())), ["index:more/staged ü\\n.txt:1:3"]);
    // Before the first commit.
    let fresh = Place::repository();
    fresh.write("a.txt", key(0));
    fresh.git(&["add", "--all"]);
    let arguments = ScanArguments { staged: true, ..fresh.arguments() };
    assert_eq!(fresh.places(&fresh.scan_as(arguments)), ["index:a.txt:1:1"]);
    let nowhere = Place::new();
    let arguments = ScanArguments { staged: true, ..nowhere.arguments() };
    assert_eq!(read(&arguments, HashSet::new()).err().map(|it| it.exit()), Some(Exit::Failed));
}

#[test]
fn what_git_ignores_is_left_out_where_that_is_asked_for() {
    let place = Place::repository();
    place
        .write(".gitignore", "*.env\n/target/\n!keep.env\n")
        .write("a.env", key(0))
        .write("keep.env", key(1))
        .write("target/deep/x.txt", key(2))
        .write("sub/target/y.txt", key(3))
        .write("sub/b.env", key(4));
    let ignoring = || ScanArguments { skip_ignored: true, no_history: true, ..place.arguments() };
    assert_eq!(place.scan_as(ScanArguments { no_history: true, ..place.arguments() }).findings.len(), 5);
    assert_eq!(place.places(&place.scan_as(ignoring())), ["keep.env:1:1", "sub/target/y.txt:1:1"]);
    let below = ScanArguments { paths: vec![place.path("sub")], ..ignoring() };
    assert_eq!(place.places(&place.scan_as(below)), ["sub/target/y.txt:1:1"]);
}

#[test]
fn bare_and_nested_repositories_are_found_and_a_shallow_one_is_told() {
    let place = Place::repository();
    place.write("a.txt", key(0));
    let commit = place.commit("begin");
    place.remove("a.txt");
    place.commit("gone");
    let outer = Place::new();
    let from = format!("file://{}", place.0.path().display());
    outer.git(&["clone", "--quiet", "--bare", &from, "mirror.git"]);
    outer.git(&["clone", "--quiet", "--depth=1", &from, "deep/shallow"]);
    let findings = outer.scan();
    let [found] = &findings.findings[..] else { panic!("{:?}", outer.places(&findings)) };
    assert_eq!(found.place.commit, Some(commit));
    assert!(found.place.repository.as_ref().is_some_and(|it| it.ends_with("mirror.git")));
    let told = report::summary(&findings);
    assert!(told.contains("deep/shallow is a shallow clone"), "{told}");
}

#[test]
fn a_repository_that_is_scanned_runs_and_fetches_nothing() {
    let place = Place::repository();
    place.write("a.txt", key(0));
    place.commit("begin");
    let ran = place.path("ran");
    let script = place.path("evil.sh");
    place.write("evil.sh", format!("#!/bin/sh\ntouch '{}'\n", ran.display()));
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("sets");
    place.write(".gitattributes", "*.txt filter=evil diff=evil\n");
    let script = script.display().to_string();
    for setting in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "diff.external",
        "diff.evil.textconv",
        "filter.evil.clean",
        "filter.evil.smudge",
        "core.alternateRefsCommand",
    ] {
        place.git(&["config", setting, &script]);
    }
    // An object that is not there, and a remote that promises it.
    let head = place.git(&["rev-parse", "HEAD:a.txt"]);
    place.git(&["config", "remote.origin.url", &format!("ext::{script}")]);
    place.git(&["config", "remote.origin.promisor", "true"]);
    place.git(&["config", "extensions.partialClone", "origin"]);
    place.git(&["config", "protocol.ext.allow", "always"]);
    place.remove(&format!(".git/objects/{}/{}", &head[..2], &head[2..]));
    place.remove("a.txt");
    let findings = place.scan_as(ScanArguments { skip_ignored: true, ..place.arguments() });
    assert!(!ran.exists(), "a program of the repository ran");
    assert_eq!(findings.exit(), Some(Exit::Failed), "an object is missing");
    let _ = read(&ScanArguments { staged: true, ..place.arguments() }, HashSet::new());
    assert!(!ran.exists(), "a program of the repository ran");
}

#[test]
fn allowed_keys_are_no_findings_and_the_list_shows_no_key() {
    let place = Place::new();
    place.write("a.txt", format!("{} {}", key(0), key(1)));
    let digest = place.scan().findings[0].leak.digest;
    place.write("list", format!("# of the tests\n\n{digest} # a.txt\n"));
    let digests = allowed(&place.path("list")).expect("reads");
    let findings = read(&ScanArguments { paths: vec![place.path("a.txt")], ..place.arguments() }, digests)
        .unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!((findings.findings.len(), findings.allowed, findings.counting()), (1, 1, 1));
    place.write("list", key(0));
    let error = allowed(&place.path("list")).expect_err("no digest");
    assert!(!format!("{error:?}").contains(&key(0)));
}

#[test]
fn dead_keys_do_not_count_and_everything_else_does() {
    let place = Place::new();
    place.write("a.txt", key(0));
    let known = |state: &str| {
        Owner::Known(KnownKey {
            id: "key_1".to_owned(),
            name: "default".to_owned(),
            consumer: "shop".to_owned(),
            state: state.to_owned(),
            last_used_at: None,
        })
    };
    for (owner, exit, level, words) in [
        (Owner::NotAsked, Some(Exit::Refused), "error", "of prod"),
        (Owner::Unknown, Some(Exit::Refused), "error", "not a key of this realm"),
        (
            known("active"),
            Some(Exit::Refused),
            "error",
            "LIVE, key default of consumer shop: `tollgate key rotate",
        ),
        (known("revoked"), None, "note", "revoked, key default of consumer shop"),
        (known("expired"), None, "note", "expired, key default of consumer shop"),
        (known("a state to come"), None, "note", "a state to come"),
    ] {
        let mut findings = place.scan();
        findings.findings[0].owner = owner;
        assert_eq!(findings.exit(), exit, "{words}");
        let sarif = sarif::document(&findings);
        assert_sarif(&sarif);
        assert_eq!(sarif["runs"][0]["results"][0]["level"], level);
        assert!(report::lines(&findings).contains(words), "{words}: {}", report::lines(&findings));
        assert_eq!(report::document(&findings)["findings"][0]["counts"], json!(exit.is_some()));
        assert_eq!(report::document(&findings)["code"].is_string(), exit.is_some());
    }
}

#[test]
fn a_fingerprint_stays_when_lines_are_added_above() {
    let place = Place::new();
    let print = |text: &str| {
        place.write("a.txt", text);
        let document = sarif::document(&place.scan());
        document["runs"][0]["results"][0]["partialFingerprints"].clone()
    };
    let before = print(&key(0));
    assert_ne!(before, Value::Null);
    assert_eq!(before, print(&format!("\n\n{}", key(0))));
    assert_ne!(before, print(&key(1)));
}
