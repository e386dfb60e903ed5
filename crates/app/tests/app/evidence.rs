//! Evidence: one key that signs, checkpoints in two places, and a journal that is compared with all of them.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate_app::errors::ErrorKind;
use tollgate_app::evidence::{Checkpoint, CheckpointFile, KeptCheckpoint, Proof};
use tollgate_app::{App, JournalFilter};
use tollgate_credential::evidence::keys::EvidenceSigner;
use tollgate_credential::seal::MasterKey;
use tollgate_model::evidence::EvidenceKey;
use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;
use tollgate_model::sources::Clock as _;
use tollgate_snapshot::contexts;
use tollgate_store::{Change, Expect, Mutation, Store};
use tollgate_testkit::{FixedClock, SeededRandom};

use crate::world::{KEYED, World};

/// A file of checkpoints that is in memory only.
#[derive(Default)]
struct Memory(Mutex<String>);

impl CheckpointFile for Memory {
    fn name(&self) -> String {
        "DATA/checkpoints".to_owned()
    }

    fn read(&self) -> io::Result<String> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn append(&self, note: &str) -> io::Result<()> {
        self.0.lock().unwrap().push_str(&format!("{note}\n"));
        Ok(())
    }
}

async fn checkpoint(world: &World) -> KeptCheckpoint {
    world.app.evidence().checkpoint(&world.op).await.unwrap()
}

async fn verify(world: &World) -> Proof {
    world.app.evidence().verify(&world.op, None).await.unwrap()
}

/// Returns the key that signs, opened.
async fn signer(world: &World) -> EvidenceSigner {
    let keys = world.app.evidence().keys(&world.op).await.unwrap();
    let key = keys.into_iter().find(|key| key.retired_at.is_none()).unwrap();
    let place = contexts::evidence_key(&key.kid);
    EvidenceSigner::from_bytes(&world.master.open(&place, &key.sealed_private.unwrap()).unwrap()).unwrap()
}

/// Returns a genuine checkpoint of a journal that went on otherwise: what is left when entries were cut off or written
/// anew.
async fn of_another_course(world: &World, entries: u64, at: &str) -> Checkpoint {
    let origin = checkpoint(world).await.checkpoint.origin;
    Checkpoint { origin, entries, hash: [9; 32], at: at.parse().unwrap() }
}

fn key_of(checkpoint: &Checkpoint) -> String {
    let hash: String = checkpoint.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{:020}-{hash}", checkpoint.entries)
}

async fn keep(world: &World, checkpoint: &Checkpoint, signer: &EvidenceSigner) -> String {
    let note = checkpoint.sign(signer).unwrap();
    assert!(world.store.keep_checkpoint(&key_of(checkpoint), &note).await.unwrap());
    note
}

#[tokio::test]
async fn of_processes_that_start_at_once_one_makes_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("t.db").display());
    let random = Arc::new(SeededRandom::new(7));
    let master = Arc::new(MasterKey::generate(random.as_ref()).unwrap());
    let clock = FixedClock::default();
    let app = async || {
        let store = Store::open(&url).await.unwrap();
        App::new(store, Arc::clone(&master), Arc::new(clock.clone()), random.clone())
    };
    let (one, other) = (app().await, app().await);
    let start = async |app: &App| app.realms().initialise(&app.system_op().unwrap()).await.unwrap();
    tokio::join!(start(&one), start(&other));
    let keys = async || one.evidence().keys(&one.system_op().unwrap()).await.unwrap();
    assert_eq!(keys().await.len(), 1);

    // A store of a version before: the realm is there, and no key.
    let store = Store::open(&url).await.unwrap();
    let gone = Mutation::delete::<EvidenceKey>(keys().await[0].kid.as_str(), Expect::Exists);
    let change = Change {
        realm: RealmName::default(),
        actor: "test".to_owned(),
        source: "test".to_owned(),
        action: "test".to_owned(),
        request_id: "req_test".to_owned(),
        reason: String::new(),
        at: clock.now(),
        guards: Vec::new(),
        mutations: vec![gone],
    };
    store.commit(change).await.unwrap();
    tokio::join!(start(&one), start(&other), start(&one), start(&other));
    assert_eq!(keys().await.len(), 1);
}

#[tokio::test]
async fn a_rotation_keeps_the_old_key_public_and_takes_its_private_half_away() {
    let world = World::start().await;
    let evidence = world.app.evidence();
    let old = checkpoint(&world).await;
    let mut op = world.op.clone();
    op.now = "2026-02-01T00:00:00Z".parse().unwrap();
    let key = evidence.rotate(&op).await.unwrap();
    let [first, second] = evidence.keys(&op).await.unwrap().try_into().unwrap();
    assert_eq!((first.kid.as_str(), first.retired_at), (old.kid.as_str(), Some(op.now)));
    assert_eq!((first.sealed_private, second.kid, second.retired_at), (None, key.kid.clone(), None));
    assert_ne!(old.kid, key.kid);
    let new = evidence.checkpoint(&op).await.unwrap();
    assert_eq!(new.kid, key.kid);

    // Both fit: that of the old key, too.
    let proof = verify(&world).await;
    assert_eq!((proof.fault, proof.fitting), (None, 2));
    assert_eq!(proof.newest.unwrap(), new);
    // What is published has nothing private, and the journal nothing plain.
    let published = evidence.published().await.unwrap();
    assert_eq!(published["keys"].as_array().unwrap().len(), 2);
    assert_eq!(published["keys"][0]["retiredAt"], "2026-02-01T00:00:00Z");
    for key in published["keys"].as_array().unwrap() {
        assert!(key.get("d").is_none() && key.get("sealedPrivate").is_none(), "{key}");
    }
    let newest = JournalFilter { limit: 500, ..JournalFilter::default() };
    let journal = world.app.journal().list(&op, newest).await.unwrap();
    let written = journal.iter().flat_map(|entry| &entry.mutations).filter(|it| it.kind == Kind::EvidenceKey);
    let mut sealed = 0;
    for body in written.filter_map(|it| it.body.as_deref()) {
        let fields: serde_json::Map<_, _> = serde_json::from_str(body).unwrap();
        let names: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
        let known = ["kid", "publicJwk", "sealedPrivate", "createdAt", "retiredAt"];
        assert!(
            names.iter().all(|name| known.contains(name)) && fields["publicJwk"].get("d").is_none(),
            "{body}"
        );
        sealed += usize::from(names.contains("sealedPrivate"));
    }
    assert_eq!(sealed, 2, "each key was written with a sealed half once");
}

#[tokio::test]
async fn of_two_rotations_at_once_one_key_signs_in_the_end() {
    let world = World::start().await;
    let evidence = world.app.evidence();
    let (one, other) = tokio::join!(evidence.rotate(&world.op), evidence.rotate(&world.op));
    assert!(one.is_ok() || other.is_ok());
    let keys = evidence.keys(&world.op).await.unwrap();
    assert_eq!(keys.iter().filter(|key| key.retired_at.is_none()).count(), 1);
    assert!(keys.iter().all(|key| key.retired_at.is_none() == key.sealed_private.is_some()));
}

#[tokio::test]
async fn a_checkpoint_is_made_when_there_are_entries_after_the_last_and_kept_in_store_and_file() {
    let world = World::start().await;
    let file = Arc::new(Memory::default());
    world.app.evidence().keep_in(file.clone());
    let first = checkpoint(&world).await;
    assert_eq!(checkpoint(&world).await, first);
    assert_eq!(first.checkpoint.entries, world.store.head().await.unwrap());
    world.save("shop", KEYED).await;
    let second = checkpoint(&world).await;
    assert!(second.checkpoint.entries > first.checkpoint.entries);
    let kept: Vec<String> = world.store.checkpoints().await.unwrap().into_iter().map(|it| it.body).collect();
    assert_eq!(kept, [first.note.clone(), second.note.clone()]);
    assert_eq!(file.read().unwrap(), format!("{}\n{}\n", first.note, second.note));
    assert_eq!(world.app.evidence().newest_checkpoint(&world.op).await.unwrap(), second);
    // A process that starts anew goes on with its file, and one with an empty file takes what another made.
    let restarted = App::new(
        world.store.clone(),
        Arc::clone(&world.master),
        Arc::new(world.clock.clone()),
        Arc::new(SeededRandom::new(8)),
    );
    let other = Arc::new(Memory::default());
    restarted.evidence().keep_in(other.clone());
    assert_eq!(restarted.evidence().checkpoint(&world.op).await.unwrap(), second);
    assert_eq!(other.read().unwrap(), format!("{}\n", second.note));
}

#[tokio::test]
async fn processes_that_make_a_checkpoint_at_once_keep_one_in_the_store() {
    let world = World::start().await;
    let evidence = world.app.evidence();
    let (one, other) = tokio::join!(evidence.checkpoint(&world.op), evidence.checkpoint(&world.op));
    assert_eq!(one.unwrap().checkpoint, other.unwrap().checkpoint);
    assert_eq!(world.store.checkpoints().await.unwrap().len(), 1);
    assert_eq!((verify(&world).await.fault, verify(&world).await.fitting), (None, 1));
}

#[tokio::test]
async fn a_checkpoint_of_more_entries_than_there_are_names_the_first_that_is_missing() {
    let world = World::start().await;
    let kept = checkpoint(&world).await;
    let cut = of_another_course(&world, kept.checkpoint.entries + 3, "2026-01-01T00:00:00Z").await;
    keep(&world, &cut, &signer(&world).await).await;
    let proof = verify(&world).await;
    let fault = proof.fault.unwrap();
    assert_eq!(fault.seq, Some(kept.checkpoint.entries + 1));
    let said = format!(
        "it is missing: the checkpoint of {} entries, 2026-01-01T00:00:00Z, in the database",
        cut.entries
    );
    assert!(fault.what.starts_with(&said), "{}", fault.what);
    assert_eq!((proof.fitting, proof.newest), (1, Some(kept)));
}

#[tokio::test]
async fn a_checkpoint_of_other_entries_names_the_first_that_may_differ() {
    let world = World::start().await;
    let first = checkpoint(&world).await.checkpoint.entries;
    world.save("shop", KEYED).await;
    world.save("other", KEYED).await;
    let other = of_another_course(&world, first + 1, "2026-01-01T00:00:00Z").await;
    keep(&world, &other, &signer(&world).await).await;
    let fault = verify(&world).await.fault.unwrap();
    assert_eq!(fault.seq, Some(first + 1));
    assert!(fault.what.contains("is not the one that was there"), "{}", fault.what);
}

#[tokio::test]
async fn a_forged_checkpoint_in_the_store_is_a_fault_whatever_it_says() {
    let others = SeededRandom::new(99);
    let stranger = EvidenceSigner::generate(&others).unwrap();
    // Genuine by its place and its words: signed by a stranger, altered, damaged, in the place of another.
    for attack in ["stranger", "altered", "damaged", "replayed"] {
        let world = World::start().await;
        let old = checkpoint(&world).await;
        world.save("shop", KEYED).await;
        let (entries, hash) = world.store.head_hash().await.unwrap();
        let now = Checkpoint { entries, hash, ..old.checkpoint.clone() };
        let note = match attack {
            "stranger" => now.sign(&stranger).unwrap(),
            "altered" => {
                old.note.replacen(&format!("\n{}\n", old.checkpoint.entries), &format!("\n{entries}\n"), 1)
            }
            "damaged" => "nothing".to_owned(),
            _ => old.note.clone(),
        };
        world.store.keep_checkpoint(&key_of(&now), &note).await.unwrap();
        let fault = verify(&world).await.fault.unwrap();
        assert_eq!(fault.seq, None, "{attack}");
        assert!(
            fault.what.contains("in the database") && fault.what.contains("is forged or damaged"),
            "{}",
            fault.what
        );
        let error = world.app.evidence().accept_loss(&world.op, "a backup").await.unwrap_err();
        assert_eq!(error.code, "journal-tampered", "{attack}");
        // A forged one as the newest does not keep new ones from being made.
        world.save("other", KEYED).await;
        assert!(checkpoint(&world).await.checkpoint.entries > entries);
    }
}

#[tokio::test]
async fn what_was_deleted_from_the_store_still_stands_in_the_file() {
    let world = World::start().await;
    let kept = checkpoint(&world).await;
    let cut = of_another_course(&world, kept.checkpoint.entries + 2, "2026-01-01T00:00:00Z").await;
    let file = Arc::new(Memory::default());
    file.append(&kept.note).unwrap();
    file.append(&cut.sign(&signer(&world).await).unwrap()).unwrap();
    assert_eq!(verify(&world).await.fault, None);
    world.app.evidence().keep_in(file);
    let proof = verify(&world).await;
    let fault = proof.fault.unwrap();
    assert_eq!(fault.seq, Some(kept.checkpoint.entries + 1));
    assert!(fault.what.contains("in DATA/checkpoints"), "{}", fault.what);
    assert!(
        proof.remarks[0].starts_with("1 checkpoints of the file are not in the database"),
        "{:?}",
        proof.remarks
    );
}

#[tokio::test]
async fn a_checkpoint_that_was_kept_elsewhere_is_compared_and_told_apart() {
    let world = World::start().await;
    let kept = checkpoint(&world).await;
    world.save("shop", KEYED).await;
    let evidence = world.app.evidence();
    let proof = evidence.verify(&world.op, Some(&kept.note)).await.unwrap();
    assert_eq!((proof.fault, proof.given), (None, Some(kept.clone())));

    let beyond = of_another_course(&world, 99, "2026-01-01T00:00:00Z").await;
    let proof = evidence.verify(&world.op, Some(&beyond.sign(&signer(&world).await).unwrap())).await.unwrap();
    assert!(proof.given.is_none() && proof.fault.unwrap().what.contains("in the file given"));

    let elsewhere = Checkpoint { origin: "tollgate/journal/00".to_owned(), ..kept.checkpoint.clone() };
    let fault = evidence
        .verify(&world.op, Some(&elsewhere.sign(&signer(&world).await).unwrap()))
        .await
        .unwrap()
        .fault
        .unwrap();
    assert_eq!(fault.seq, Some(1));
    assert!(fault.what.contains("not the first entry"), "{}", fault.what);

    let stranger = EvidenceSigner::generate(&SeededRandom::new(99)).unwrap();
    for forged in [kept.checkpoint.sign(&stranger).unwrap(), kept.note.replacen("time 2026", "time 2027", 1)]
    {
        let fault = evidence.verify(&world.op, Some(&forged)).await.unwrap().fault.unwrap();
        assert!(fault.what.contains("in the file given is forged"), "{}", fault.what);
    }
    for junk in ["", "nothing", &kept.note[..50]] {
        let error = evidence.verify(&world.op, Some(junk)).await.unwrap_err();
        assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::Invalid, true));
    }
    // What was given is not kept.
    assert_eq!(verify(&world).await.fault, None);
}

#[tokio::test]
async fn a_loss_is_explained_once_somebody_answers_for_it_and_never_hidden() {
    let world = World::start().await;
    let (evidence, kept) = (world.app.evidence(), checkpoint(&world).await.checkpoint.entries);
    let error = evidence.accept_loss(&world.op, "a backup").await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "nothing-lost"));
    let cut = of_another_course(&world, kept + 3, "2026-01-01T00:00:00Z").await;
    let note = keep(&world, &cut, &signer(&world).await).await;
    for reason in ["", "  ", "two\nlines", &"x".repeat(501)] {
        assert_eq!(evidence.accept_loss(&world.op, reason).await.unwrap_err().kind, ErrorKind::Invalid);
    }

    let mut op = world.op.clone();
    op.now = "2026-01-02T00:00:00Z".parse().unwrap();
    let loss = evidence.accept_loss(&op, " the disk broke; backup of Monday ").await.unwrap();
    assert_eq!((loss.kept_entries, loss.seen_entries, loss.accepted_at), (kept, kept + 3, op.now));
    let proof = verify(&world).await;
    assert_eq!((&proof.fault, proof.losses.as_slice()), (&None, &[loss.clone()][..]));
    assert!(proof.remarks[0].contains("1 checkpoints are of entries that were lost"), "{:?}", proof.remarks);
    let newest = JournalFilter { limit: 1, newest_first: true, ..JournalFilter::default() };
    let entry = world.app.journal().list(&op, newest).await.unwrap().remove(0);
    assert_eq!(entry.action, "journal.accept-loss");
    assert!(entry.reason.contains("backup of Monday"), "{}", entry.reason);

    // Whoever kept the checkpoint elsewhere is told all the same, and by whom it was answered for.
    let fault = evidence.verify(&op, Some(&note)).await.unwrap().fault.unwrap();
    assert!(fault.what.contains("system answered for this loss at 2026-01-02T00:00:00Z"), "{}", fault.what);
    // Nothing more was lost, and what is lost later is not explained.
    assert_eq!(evidence.accept_loss(&op, "again").await.unwrap_err().code, "nothing-lost");
    let later = of_another_course(&world, kept + 9, "2026-01-03T00:00:00Z").await;
    keep(&world, &later, &signer(&world).await).await;
    let fault = verify(&world).await.fault.unwrap();
    assert_eq!(fault.seq, Some(world.store.head().await.unwrap() + 1));
}

#[tokio::test]
async fn a_checkpoint_whose_key_went_with_the_entries_can_be_answered_for() {
    let world = World::start().await;
    let kept = checkpoint(&world).await.checkpoint.entries;
    let gone = EvidenceSigner::generate(&SeededRandom::new(5)).unwrap();
    let cut = of_another_course(&world, kept + 1, "2026-01-01T00:00:00Z").await;
    keep(&world, &cut, &gone).await;
    let fault = verify(&world).await.fault.unwrap();
    assert!(fault.what.contains("the key that signed is not known here"), "{}", fault.what);
    let loss =
        world.app.evidence().accept_loss(&world.op, "the backup is from before the rotation").await.unwrap();
    assert_eq!(loss.unverifiable, 1);
    assert_eq!(verify(&world).await.fault, None);
}

#[tokio::test]
async fn a_loss_that_nobody_signed_is_a_fault() {
    let world = World::start().await;
    let kept = checkpoint(&world).await.checkpoint.entries;
    let cut = of_another_course(&world, kept + 3, "2026-01-01T00:00:00Z").await;
    keep(&world, &cut, &signer(&world).await).await;
    world.app.evidence().accept_loss(&world.op, "a backup").await.unwrap();
    // Written by somebody who has the database and not the master key, as an entry of its own.
    let realm = RealmName::default();
    let key = world.op.now.to_string();
    let mut loss =
        world.store.get::<tollgate_model::evidence::JournalLoss>(&realm, &key).await.unwrap().unwrap().value;
    loss.envelope.payload = loss.envelope.payload.replacen('A', "B", 1);
    let change = Change {
        realm,
        actor: "eve".to_owned(),
        source: "test".to_owned(),
        action: "journal.accept-loss".to_owned(),
        request_id: "req_test".to_owned(),
        reason: String::new(),
        at: world.op.now,
        guards: Vec::new(),
        mutations: vec![Mutation::put(&loss, Expect::Exists).unwrap()],
    };
    world.store.commit(change).await.unwrap();
    let proof = verify(&world).await;
    // It explains nothing, either.
    assert_eq!(proof.fault.unwrap().seq, Some(world.store.head().await.unwrap() + 1));
    assert!(proof.losses.is_empty());
    let said = "a loss that was accepted is forged or damaged";
    assert!(proof.remarks.iter().any(|remark| remark.starts_with(said)), "{:?}", proof.remarks);
    assert_eq!(
        world.app.evidence().accept_loss(&world.op, "a backup").await.unwrap_err().code,
        "journal-tampered"
    );
}

#[tokio::test]
async fn a_file_that_a_loss_of_power_tore_is_remarked_and_no_fault() {
    let world = World::start().await;
    let file = Arc::new(Memory::default());
    world.app.evidence().keep_in(file.clone());
    let kept = checkpoint(&world).await;
    file.0.lock().unwrap().push_str(&kept.note[..70]);
    file.0.lock().unwrap().push_str("\n\n");
    world.clock.advance(Duration::from_secs(1));
    world.save("shop", KEYED).await;
    checkpoint(&world).await;
    let proof = verify(&world).await;
    assert_eq!((proof.fault, proof.fitting), (None, 2));
    assert!(proof.remarks[0].contains("1 pieces that are no whole checkpoint"), "{:?}", proof.remarks);
}
