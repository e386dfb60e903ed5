use tollgate_model::names::EnvironmentName;

use super::*;
use crate::samples::*;

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
        enforced_from("2026-02-01T00:00:00Z"),
        waiver("a", 1, "2026-03-01T00:00:00Z"),
    ]);
    assert!(describe(&builder.current()).contains("Sun, 01 Mar 2026"), "the waiver moves the date");
    builder.image().save(&path).expect("saves");
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
fn any_changed_byte_of_the_file_on_disk_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("snapshot");
    builder(vec![environment("test"), key("test", 1, false)]).image().save(&path).expect("saves");
    let bytes = std::fs::read(&path).expect("reads");
    for at in 0..bytes.len() {
        for bit in [0x01, 0x04, 0x10] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            std::fs::write(&path, &damaged).expect("writes");
            assert!(Builder::restore(&path, master()).is_err(), "byte {at} changed by {bit:#x}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_left_in_the_way_does_not_open_the_snapshot_to_others() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let directory = tempfile::tempdir().expect("a directory");
    let (path, temporary) = (directory.path().join("snapshot"), directory.path().join("snapshot.tmp"));
    let elsewhere = directory.path().join("elsewhere");
    std::fs::write(&elsewhere, "kept").expect("writes");
    let builder = builder(vec![environment("test")]);
    std::fs::write(&temporary, "").expect("writes");
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644)).expect("changes");
    builder.image().save(&path).expect("saves");
    assert_eq!(std::fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o600);
    symlink(&elsewhere, &temporary).expect("links");
    builder.image().save(&path).expect("saves");
    assert_eq!(std::fs::read_to_string(&elsewhere).expect("reads"), "kept");
}

#[test]
fn a_snapshot_that_cannot_be_saved_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("snapshot");
    // No file can take the place of a directory.
    std::fs::create_dir(&path).expect("makes it");
    builder(vec![environment("test")]).image().save(&path).expect_err("it cannot be replaced");
    let names =
        std::fs::read_dir(directory.path()).expect("lists").map(|it| it.expect("an entry").file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["snapshot"]);
}
