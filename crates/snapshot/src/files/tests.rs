use serde_json::json;
use tempfile::TempDir;
use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::Kind;

use super::*;
use crate::samples::*;

const HASH: [u8; 32] = [7; 32];

/// A place for a snapshot.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("snapshot")
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("snapshot.log")
    }

    /// Saves the whole of a builder, and then changes one after the other. Returns what each state looks like.
    fn fill(&self, mut builder: Builder, changes: Vec<ObjectChange>) -> Vec<String> {
        let mut disk = Disk::new(self.path(), master());
        disk.save(&builder.image(HASH)).expect("saves");
        let mut states = vec![describe(&builder.current())];
        for (seq, change) in (2..).zip(changes) {
            let hash = [u8::try_from(seq).expect("few"); 32];
            states.push(describe(&builder.apply(seq, vec![change.clone()])));
            let appended = disk.append(&LogChanges { seq, hash, changes: vec![change] }).expect("writes");
            assert!(appended);
        }
        states
    }

    fn restore(&self) -> Result<Restored, RestoreError> {
        Builder::restore(&self.path(), master())
    }
}

fn full() -> Builder {
    builder(vec![
        environment("test"),
        version("a", 0, &open(), &steps()),
        deployment("test", "a", 0),
        signing_key("test"),
        account("test", "s3cret-1"),
        key("test", 1, false),
        put(Kind::ApiKey, "test/x", &json!("does not parse")),
        enforced_from("2026-02-01T00:00:00Z"),
        waiver("a", 1, "2026-03-01T00:00:00Z"),
    ])
}

fn changes() -> Vec<ObjectChange> {
    let gone = key("test", 1, false).key;
    vec![
        key("test", 2, false),
        key("test", 2, true),
        delete(Kind::ApiKey, &gone),
        consumer("test", "shop", &["a"]),
    ]
}

#[test]
fn the_files_on_disk_restore_the_snapshot_and_hold_no_plain_secret() {
    let place = Place::new();
    let states = place.fill(full(), vec![account("test", "s3cret-2")]);
    assert!(states[0].contains("Sun, 01 Mar 2026"), "the waiver moves the date");
    let restored = place.restore().expect("restores");
    assert_eq!((restored.builder.current().seq, restored.hash, restored.cut), (2, [2; 32], 0));
    assert_eq!(describe(&restored.builder.current()), states[1]);
    for path in [place.path(), place.log()] {
        let bytes = std::fs::read(&path).expect("reads");
        assert!(!String::from_utf8_lossy(&bytes).contains("s3cret"), "secrets stay sealed on disk");
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("there").permissions())
                & 0o777,
            0o600
        );
    }
}

#[test]
fn a_base_that_is_cut_anywhere_or_has_another_byte_is_refused() {
    let place = Place::new();
    place.fill(full(), Vec::new());
    let bytes = std::fs::read(place.path()).expect("reads");
    for len in 0..bytes.len() {
        std::fs::write(place.path(), &bytes[..len]).expect("writes");
        assert!(
            matches!(place.restore(), Err(RestoreError::Damaged)),
            "{len} bytes were taken for a snapshot"
        );
    }
    for at in 0..bytes.len() {
        for bit in [0x01, 0x04, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            std::fs::write(place.path(), &damaged).expect("writes");
            assert!(matches!(place.restore(), Err(RestoreError::Damaged)), "byte {at} changed by {bit:#x}");
        }
    }
    std::fs::write(place.path(), [bytes.as_slice(), b"x"].concat()).expect("writes");
    assert!(place.restore().is_err(), "a byte more");
}

#[test]
fn a_log_that_is_cut_anywhere_gives_a_state_that_was_true_once() {
    let place = Place::new();
    let states = place.fill(full(), changes());
    let bytes = std::fs::read(place.log()).expect("reads");
    let mut seen = Vec::new();
    for len in 0..=bytes.len() {
        std::fs::write(place.log(), &bytes[..len]).expect("writes");
        let restored = place.restore().expect("the base is whole");
        let at = usize::try_from(restored.builder.current().seq).expect("few") - 1;
        assert_eq!(describe(&restored.builder.current()), states[at], "{len} bytes");
        assert_eq!(restored.hash, if at == 0 { HASH } else { [u8::try_from(at + 1).expect("few"); 32] });
        seen.push(at);
    }
    assert!(seen.is_sorted() && seen.last() == Some(&(states.len() - 1)), "{seen:?}");
    seen.dedup();
    assert_eq!(seen.len(), states.len(), "each state was seen");
}

#[test]
fn a_log_with_another_byte_gives_a_state_that_was_true_once() {
    let place = Place::new();
    let states = place.fill(full(), changes());
    let bytes = std::fs::read(place.log()).expect("reads");
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            std::fs::write(place.log(), &damaged).expect("writes");
            let restored = place.restore().expect("the base is whole");
            let state = usize::try_from(restored.builder.current().seq).expect("few") - 1;
            assert!(state < states.len() - 1, "byte {at} changed by {bit:#x} and nobody noticed");
            assert_eq!(describe(&restored.builder.current()), states[state]);
        }
    }
}

#[test]
fn records_cannot_be_left_out_told_again_or_taken_to_another_base() {
    let place = Place::new();
    let states = place.fill(full(), vec![key("test", 2, false), key("test", 2, true)]);
    let bytes = std::fs::read(place.log()).expect("reads");
    let begin = 24 + 32;
    let len =
        8 + usize::try_from(u64::from_le_bytes(bytes[begin..begin + 8].try_into().expect("8"))).expect("few");
    let (first, second) = (&bytes[begin..begin + len], &bytes[begin + len..]);
    let state = |records: &[&[u8]]| {
        std::fs::write(place.log(), [&[&bytes[..begin]], records].concat().concat()).expect("writes");
        describe(&place.restore().expect("the base is whole").builder.current())
    };
    assert_eq!(state(&[first, second]), states[2]);
    assert_eq!(state(&[second]), states[0], "the first was left out");
    assert_eq!(state(&[second, first]), states[0], "the other way round");
    assert_eq!(state(&[first, first]), states[1], "told again");
    // The log of an older base, as it is there when the process was killed between the two.
    let log = std::fs::read(place.log()).expect("reads");
    let other = builder(vec![environment("prod")]);
    Disk::new(place.path(), master()).save(&other.image(HASH)).expect("saves");
    std::fs::write(place.log(), log).expect("writes");
    assert_eq!(describe(&place.restore().expect("restores").builder.current()), describe(&other.current()));
}

#[test]
fn a_torn_end_is_written_over_and_the_log_goes_on() {
    let place = Place::new();
    place.fill(full(), vec![key("test", 2, false)]);
    let bytes = std::fs::read(place.log()).expect("reads");
    std::fs::write(place.log(), [&bytes, &bytes[56..90]].concat()).expect("writes");
    let mut restored = place.restore().expect("restores");
    assert_eq!((restored.builder.current().seq, restored.cut), (2, 34));
    let change = key("test", 3, false);
    let state = describe(&restored.builder.apply(3, vec![change.clone()]));
    let changes = LogChanges { seq: 3, hash: HASH, changes: vec![change] };
    assert!(restored.disk.append(&changes).expect("writes"));
    restored.disk.sync().expect("syncs");
    let again = place.restore().expect("restores");
    assert_eq!((again.builder.current().seq, again.cut), (3, 0));
    assert_eq!(describe(&again.builder.current()), state);
}

#[test]
fn files_of_another_master_key_count_for_nothing() {
    let place = Place::new();
    place.fill(full(), changes());
    let other = Arc::new(MasterKey::parse(&format!("{}=", "A".repeat(43))).expect("a key"));
    assert!(matches!(Builder::restore(&place.path(), other), Err(RestoreError::Damaged)));
    // The file of the version before, which anybody could write.
    std::fs::write(place.path(), format!("tollgate-snapshot 1 1 {}\n[]", "0".repeat(64))).expect("writes");
    assert!(matches!(place.restore(), Err(RestoreError::Damaged)));
}

#[test]
fn a_log_that_has_grown_becomes_a_new_base() {
    let place = Place::new();
    let mut builder = full();
    let mut disk = Disk::new(place.path(), master());
    assert!(disk.wants_all());
    disk.save(&builder.image(HASH)).expect("saves");
    let mut seq = 1;
    while !disk.wants_all() {
        seq += 1;
        let change = put(Kind::Global, "test/g", &json!("x".repeat(100_000)));
        builder.apply(seq, vec![change.clone()]);
        assert!(disk.append(&LogChanges { seq, hash: HASH, changes: vec![change] }).expect("writes"));
    }
    assert!(std::fs::metadata(place.log()).expect("there").len() > SMALL_ENOUGH);
    disk.save(&builder.image(HASH)).expect("saves");
    assert!(!disk.wants_all());
    assert_eq!(std::fs::metadata(place.log()).expect("there").len(), 56);
    let restored = place.restore().expect("restores");
    assert_eq!(describe(&restored.builder.current()), describe(&builder.current()));
}

/// A log of so many bytes is no reason yet to write everything.
const SMALL_ENOUGH: u64 = 1_000_000;

#[cfg(unix)]
#[test]
fn a_file_left_in_the_way_does_not_open_the_snapshot_to_others() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let place = Place::new();
    let temporary = place.0.path().join("snapshot.tmp");
    let elsewhere = place.0.path().join("elsewhere");
    std::fs::write(&elsewhere, "kept").expect("writes");
    std::fs::write(&temporary, "").expect("writes");
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644)).expect("changes");
    place.fill(full(), Vec::new());
    assert_eq!(std::fs::metadata(place.path()).expect("exists").permissions().mode() & 0o777, 0o600);
    symlink(&elsewhere, &temporary).expect("links");
    place.fill(full(), Vec::new());
    assert_eq!(std::fs::read_to_string(&elsewhere).expect("reads"), "kept");
}

#[test]
fn a_snapshot_that_cannot_be_saved_leaves_nothing_behind() {
    let place = Place::new();
    // No file can take the place of a directory.
    std::fs::create_dir(place.path()).expect("makes it");
    let mut disk = Disk::new(place.path(), master());
    disk.save(&full().image(HASH)).expect_err("it cannot be replaced");
    assert!(
        !disk.append(&LogChanges { seq: 2, hash: HASH, changes: Vec::new() }).expect("is told"),
        "to no base"
    );
    let names = std::fs::read_dir(place.0.path()).expect("lists").map(|it| it.expect("an entry").file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["snapshot"]);
}

#[test]
fn every_environment_finds_its_keys_again() {
    let place = Place::new();
    let many = (0..200).flat_map(|n| [key("test", n, n % 3 == 0), key("prod", n, n % 2 == 0)]);
    let builder = builder([environment("test"), environment("prod")].into_iter().chain(many).collect());
    Disk::new(place.path(), master()).save(&builder.image(HASH)).expect("saves");
    let restored = place.restore().expect("restores").builder.current();
    assert_eq!(describe(&restored), describe(&builder.current()));
    let keys = |name| {
        restored.scope(&realm(), &EnvironmentName::parse(name).expect("a slug")).expect("there").keys.len()
    };
    assert_eq!((keys("test"), keys("prod")), (200, 200));
}
