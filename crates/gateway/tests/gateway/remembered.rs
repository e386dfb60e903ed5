//! Tokens whose signature is remembered: what was good a moment ago is refused as soon as anything about it changes.

use std::time::Duration;

use tollgate_model::consumers::Consumer;
use tollgate_model::deployments::Deployment;
use tollgate_model::ids::ConsumerId;
use tollgate_model::keysets::{SigningKey, SigningKeyState};
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::triggers::{JwtSwitch, Scope};

use crate::world::{World, get};

const TOKEN: &str = "{kind: Pipeline, name: token, project: store, steps: [{json: {ok: true}}], \
                     trigger: {type: rest, externalApi: true, jwt: true}}";

/// A world whose gateway has just taken a token, which it therefore remembers.
async fn seen() -> (World, ConsumerId, String) {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(TOKEN);
    let alice = world.consumer(&test, "alice", &["token"]);
    world.publish();
    let token = world.token(&test, alice, &["read"]);
    assert_eq!(replay(&world, &token).await, "");
    assert_eq!(replay(&world, &token).await, "", "as good the second time");
    (world, alice, token)
}

async fn replay(world: &World, token: &str) -> String {
    let authorization = format!("Bearer {token}");
    let request = get("/pipeline/default/v1/token", &[("authorization", &authorization)]);
    world.call(&EnvironmentName::test(), request).await.code().to_owned()
}

#[tokio::test]
async fn a_token_that_is_revoked_after_it_was_seen_is_refused() {
    let (mut world, _, token) = seen().await;
    let claims = tollgate_credential::tokens::decode_unverified(&token).expect("a token").claims;
    world.revoke_token(&EnvironmentName::test(), claims["jti"].as_str().expect("a jti"));
    world.publish();
    assert_eq!(replay(&world, &token).await, "jwt-invalid");
}

#[tokio::test]
async fn a_token_of_a_consumer_whose_tokens_are_revoked_who_is_gone_or_not_associated_is_refused() {
    let (mut world, alice, token) = seen().await;
    world.change::<Consumer>(|it| it.id == alice, |it| it.pipelines.clear());
    world.publish();
    assert_eq!(replay(&world, &token).await, "consumer-not-allowed");
    let now = world.now();
    world.change::<Consumer>(|it| it.id == alice, |it| it.tokens_revoked_before = Some(now));
    world.publish();
    assert_eq!(replay(&world, &token).await, "jwt-invalid");
    world.delete::<Consumer>(|it| it.id == alice);
    world.publish();
    assert_eq!(replay(&world, &token).await, "jwt-invalid");
}

#[tokio::test]
async fn a_token_whose_key_is_revoked_retired_or_gone_after_it_was_seen_is_refused() {
    let (mut world, _, token) = seen().await;
    let until = world.now() + jiff::SignedDuration::from_secs(60);
    let in_test = |key: &SigningKey| key.environment == EnvironmentName::test();
    world.change::<SigningKey>(in_test, |it| it.state = SigningKeyState::Retiring { until });
    world.publish();
    assert_eq!(replay(&world, &token).await, "");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(replay(&world, &token).await, "jwt-invalid");

    let (mut world, _, token) = seen().await;
    let at = world.now();
    world.change::<SigningKey>(in_test, |it| it.state = SigningKeyState::Revoked { at });
    world.publish();
    assert_eq!(replay(&world, &token).await, "check-unavailable", "no key is left to check with");
}

#[tokio::test]
async fn a_token_ends_though_it_was_seen() {
    let (world, _, token) = seen().await;
    world.clock.advance(Duration::from_secs(629));
    assert_eq!(replay(&world, &token).await, "");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(replay(&world, &token).await, "jwt-invalid");
}

#[tokio::test]
async fn what_a_deployment_demands_anew_a_token_that_was_seen_must_show() {
    let (mut world, _, token) = seen().await;
    world.change::<PipelineVersion>(
        |_| true,
        |it| {
            let trigger = it.pipeline.trigger.http_mut().expect("an endpoint");
            trigger.jwt = JwtSwitch::On(vec![Scope::parse("admin").expect("a scope")]);
        },
    );
    world.publish();
    assert_eq!(replay(&world, &token).await, "scope-missing");
    world.delete::<Deployment>(|it| it.environment == EnvironmentName::test());
    world.publish();
    assert_eq!(replay(&world, &token).await, "route-not-found");
}

#[tokio::test]
async fn a_token_that_was_seen_counts_for_nothing_in_another_environment() {
    let (world, _, token) = seen().await;
    let authorization = format!("Bearer {token}");
    let request = get("/pipeline/default/v1/token", &[("authorization", &authorization)]);
    assert_eq!(world.call(&EnvironmentName::prod(), request).await.code(), "jwt-invalid");
}

#[tokio::test]
async fn a_token_rides_on_no_other_consumers_key_though_it_was_seen() {
    let test = EnvironmentName::test();
    let (mut world, alice, token) = seen().await;
    world.deploy(&TOKEN.replace("name: token", "name: both").replace("jwt: true", "jwt: true, apiKey: true"));
    let bob = world.consumer(&test, "bob", &["both"]);
    world
        .change::<Consumer>(|it| it.id == alice, |it| it.pipelines.extend(["both".parse().expect("a name")]));
    let (_, alices) = world.key(&test, alice);
    let (_, bobs) = world.key(&test, bob);
    world.publish();
    let authorization = format!("Bearer {token}");
    for (key, code) in [(alices, ""), (bobs, "jwt-consumer-mismatch")] {
        let headers = [("apikey", key.as_str()), ("authorization", authorization.as_str())];
        assert_eq!(world.call(&test, get("/pipeline/default/v1/both", &headers)).await.code(), code);
    }
}
