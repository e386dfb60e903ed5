//! The gateway's decision without a network: route, API key, token, constant flow. The floors are what cryptography
//! alone costs in the same run.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use divan::{Bencher, black_box};
use http::StatusCode;
use tokio::runtime::{Builder, Runtime};
use tollgate_bench::{Size, World};
use tollgate_model::keysets::Algorithm;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

fn main() {
    divan::main();
}

fn decide(bencher: Bencher<'_, '_>, world: &World, path: &str, key: &str, token: &str, status: StatusCode) {
    bencher.with_inputs(|| world.request(path, key, token)).bench_local_values(|request| {
        let answer = RUNTIME.block_on(world.gateway.handle(&world.listener, world.remote(), request));
        assert_eq!(answer.status(), status);
        answer
    });
}

fn size(keys: usize, pipelines: usize, tokens: Option<Algorithm>) -> Size {
    Size { keys, pipelines, tokens, remembers: false }
}

#[divan::bench_group(sample_count = 200, sample_size = 50)]
mod floor {
    use super::*;

    #[divan::bench]
    fn sha256_of_a_key(bencher: Bencher<'_, '_>) {
        let key = [b'k'; 46];
        bencher.bench(|| digest(&SHA256, black_box(&key)));
    }

    #[divan::bench]
    fn es256_verification(bencher: Bencher<'_, '_>) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let message = [b'm'; 400];
        let signature = pair.sign(&SystemRandom::new(), &message).expect("signs");
        let public =
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()).expect("a key");
        bencher.bench(|| public.verify_sig(black_box(&message), signature.as_ref()).is_ok());
    }
}

#[divan::bench_group(sample_count = 200, sample_size = 50)]
mod decision {
    use super::*;

    #[divan::bench(args = [10, 1_000, 100_000])]
    fn key_among(bencher: Bencher<'_, '_>, keys: usize) {
        let world = World::new(size(keys, 1, None));
        decide(bencher, &world, "/pipeline/default/v1/p0", &world.key, "", StatusCode::OK);
    }

    #[divan::bench(args = [10, 1_000])]
    fn key_with_pipelines(bencher: Bencher<'_, '_>, pipelines: usize) {
        let world = World::new(size(1_000, pipelines, None));
        decide(bencher, &world, "/pipeline/default/v1/r7/42", &world.key, "", StatusCode::OK);
    }

    #[divan::bench(args = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Hs256])]
    fn key_and_token(bencher: Bencher<'_, '_>, algorithm: &Algorithm) {
        let world = World::new(size(1_000, 1_000, Some(*algorithm)));
        decide(bencher, &world, "/pipeline/default/v1/r7/42", &world.key, &world.token, StatusCode::OK);
    }

    /// As above, with one token for all calls: its signature is verified once.
    #[divan::bench(args = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256])]
    fn key_and_token_that_repeats(bencher: Bencher<'_, '_>, algorithm: &Algorithm) {
        let world = World::new(Size { remembers: true, ..size(1_000, 1_000, Some(*algorithm)) });
        decide(bencher, &world, "/pipeline/default/v1/r7/42", &world.key, &world.token, StatusCode::OK);
    }

    #[divan::bench]
    fn refused_without_a_key(bencher: Bencher<'_, '_>) {
        let world = World::new(size(1_000, 1_000, None));
        decide(bencher, &world, "/pipeline/default/v1/p7", "", "", StatusCode::UNAUTHORIZED);
    }

    #[divan::bench]
    fn refused_with_a_made_up_key(bencher: Bencher<'_, '_>) {
        let world = World::new(size(1_000, 1_000, None));
        let key = "tg_test_0000000000000000000000000000000000000A";
        decide(bencher, &world, "/pipeline/default/v1/p7", key, "", StatusCode::UNAUTHORIZED);
    }

    #[divan::bench]
    fn no_such_route(bencher: Bencher<'_, '_>) {
        let world = World::new(size(1_000, 1_000, None));
        decide(bencher, &world, "/pipeline/default/v1/nope", &world.key, "", StatusCode::NOT_FOUND);
    }
}

#[divan::bench_group(sample_count = 50, sample_size = 10)]
mod change {
    use super::*;

    #[divan::bench(args = [1_000, 100_000])]
    fn one_key_more_among(bencher: Bencher<'_, '_>, keys: usize) {
        let mut world = World::new(size(keys, 100, None));
        bencher.bench_local(|| world.add_key());
    }
}
