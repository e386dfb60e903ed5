//! API keys: what is refused before anything is looked up, and that a look-up tells nothing about other keys.
//!
//! A key is known by its SHA-256 and nothing else. Whoever guesses keys cannot choose a digest, so that how a search among
//! digests goes says nothing about how much of a guess is right. No time is measured here: what can be pinned is that the
//! path is the same.

use aws_lc_rs::digest::{SHA256, digest};
use tollgate_credential::keys::IssuedKey;
use tollgate_model::consumers::ApiKey;
use tollgate_model::explanations::{Check, CheckOutcome};
use tollgate_model::ids::ConsumerId;
use tollgate_model::names::EnvironmentName;
use tollgate_model::sources::{Random, RandomError};

use crate::world::{Reply, World, get};

const KEYED: &str = "{kind: Pipeline, name: keyed, project: store, steps: [{json: {ok: true}}], \
                     trigger: {type: rest, externalApi: true, apiKey: true}}";

fn world() -> (World, ConsumerId) {
    let mut world = World::new();
    world.deploy(KEYED);
    let alice = world.consumer(&EnvironmentName::test(), "alice", &["keyed"]);
    (world, alice)
}

async fn call(world: &World, key: &str) -> Reply {
    world.call(&EnvironmentName::test(), get("/pipeline/default/v1/keyed", &[("apikey", key)])).await
}

/// Has the index hold the digest of a text, as if that were a key.
fn plant(world: &mut World, consumer: ConsumerId, text: &str) {
    let (id, _) = world.key(&EnvironmentName::test(), consumer);
    let hex: String =
        digest(&SHA256, text.as_bytes()).as_ref().iter().map(|it| format!("{it:02x}")).collect();
    world.change::<ApiKey>(|it| it.id == id, |it| it.digest = hex);
}

/// Returns how each check went for a call that was refused.
fn checks(world: &World, reply: &Reply) -> Vec<(Check, CheckOutcome)> {
    let refusal = world.refusal_of(reply).expect("it was kept");
    refusal.checks.iter().map(|it| (it.check, it.outcome)).collect()
}

fn outcome(world: &World, reply: &Reply, check: Check) -> CheckOutcome {
    checks(world, reply).into_iter().find(|(it, _)| *it == check).expect("a check").1
}

#[tokio::test]
async fn junk_is_refused_by_its_shape_even_if_the_index_held_its_digest() {
    let (mut world, alice) = world();
    let other = IssuedKey::generate(&EnvironmentName::prod(), &world.random).expect("random");
    let good = IssuedKey::generate(&EnvironmentName::test(), &world.random).expect("random");
    let good = good.plain.expose_secret();
    let last = if good.ends_with('0') { "1" } else { "0" };
    let sum = if &good[8..9] == "0" { "1" } else { "0" };
    let junk = [
        (other.plain.expose_secret().to_owned(), Check::ApiKeyEnvironment),
        (format!("{}{last}", &good[..45]), Check::ApiKeyChecksum),
        (format!("tg_test_{sum}{}", &good[9..]), Check::ApiKeyChecksum),
        (format!("tg_test_{}", "0".repeat(38)), Check::ApiKeyChecksum),
        (good[..45].to_owned(), Check::ApiKeyForm),
        (format!("{good}0"), Check::ApiKeyForm),
        (good.replace("tg_test_", "tg_test-"), Check::ApiKeyForm),
        (format!("tg_{}", "x".repeat(40)), Check::ApiKeyForm),
        ("fifteen-letters".to_owned(), Check::ApiKeyForm),
        ("x".repeat(257), Check::ApiKeyForm),
    ];
    for (junk, _) in &junk {
        plant(&mut world, alice, junk);
    }
    plant(&mut world, alice, "a-key-of-another-system");
    world.publish();
    assert_eq!(call(&world, "a-key-of-another-system").await.code(), "", "what is planted is found");
    for (junk, check) in junk {
        let reply = call(&world, &junk).await;
        assert_eq!(reply.code(), "api-key-invalid", "{junk}");
        assert_eq!(outcome(&world, &reply, check), CheckOutcome::Failed, "{junk}");
        assert_eq!(outcome(&world, &reply, Check::ApiKeyKnown), CheckOutcome::NotReached, "{junk}");
    }
}

/// Gives the same bytes again and again, but for one of them.
struct Same {
    but: Option<usize>,
}

impl Random for Same {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        // None that is thrown away, since there are four for each of 62 characters.
        buffer.iter_mut().zip(0..).for_each(|(byte, n)| *byte = n * 3 % 62);
        if let Some(byte) = self.but.and_then(|at| buffer.get_mut(at)) {
            *byte = (*byte + 1) % 62;
        }
        Ok(())
    }
}

#[tokio::test]
async fn how_much_of_a_guess_is_right_changes_nothing_about_its_way() {
    let (mut world, alice) = world();
    let make = |but| {
        let key = IssuedKey::generate(&EnvironmentName::test(), &Same { but }).expect("random");
        key.plain.expose_secret().to_owned()
    };
    let real = make(None);
    plant(&mut world, alice, &real);
    world.publish();
    assert_eq!(call(&world, &real).await.code(), "");
    // Guesses that share all of the key but one character, from the last to the first; and one that shares nothing.
    let mut guesses: Vec<String> = (0..32).rev().map(|at| make(Some(at))).collect();
    let shared = |guess: &str| guess.bytes().zip(real.bytes()).take_while(|(a, b)| a == b).count();
    let lengths: Vec<_> = guesses.iter().map(|guess| shared(guess)).collect();
    assert_eq!(lengths, (8..40).rev().collect::<Vec<_>>(), "characters, with those of `tg_test_`");
    let (_, stranger) = World::seeded(9).key(&EnvironmentName::test(), alice);
    guesses.push(stranger);
    let mut ways = Vec::new();
    for guess in &guesses {
        let reply = call(&world, guess).await;
        assert_eq!(outcome(&world, &reply, Check::ApiKeyKnown), CheckOutcome::Failed, "{guess}");
        let mut body = reply.json();
        body["requestId"].take();
        let refusal = world.refusal_of(&reply).expect("it was kept");
        let whys: Vec<_> = refusal.checks.iter().map(|it| it.why.clone()).collect();
        ways.push((reply.status, reply.code().to_owned(), body, checks(&world, &reply), whys));
    }
    ways.dedup();
    assert_eq!(ways.len(), 1, "{ways:#?}");
}

#[tokio::test]
async fn a_digest_is_no_key() {
    let (mut world, alice) = world();
    let (id, key) = world.key(&EnvironmentName::test(), alice);
    let mut stored = String::new();
    world.change::<ApiKey>(|it| it.id == id, |it| stored = it.digest.clone());
    world.publish();
    assert_eq!(call(&world, &key).await.code(), "");
    // Whoever has read the store cannot call with what stands there.
    assert_eq!(stored.len(), 64);
    for text in [stored.clone(), stored.to_uppercase(), format!("sha256:{stored}")] {
        assert_eq!(call(&world, &text).await.code(), "api-key-invalid", "{text}");
    }
}
