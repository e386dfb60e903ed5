//! Consumers.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::consumers::NewConsumer;
use tollgate_app::keys::NewKey;
use tollgate_model::consumers::Consumer;
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName, PipelineName};

use crate::Api;
use crate::answers::{Answer, Created, ListView, PageQuery, Tagged};
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::keys::{KeyView, default_name};
use crate::operations::{Access, Operation};
use crate::past::Then;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConsumerView {
    id: String,
    name: String,
    environment: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    /// The pipelines that it may call.
    pipelines: Vec<String>,
    /// Tokens issued to it up to then are revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_revoked_before: Option<String>,
    created_at: String,
}

#[derive(Serialize, JsonSchema)]
struct CreatedView {
    consumer: ConsumerView,
    /// Its first key; the plain form is in this answer and nowhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyView>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewConsumerBody {
    name: ConsumerName,
    environments: BTreeSet<EnvironmentName>,
    #[serde(default)]
    pipelines: BTreeSet<PipelineName>,
    #[serde(default)]
    description: String,
    /// Makes a first API key in each environment.
    #[serde(default = "yes")]
    create_key: bool,
    #[serde(default = "default_name")]
    key_name: CredentialName,
    /// RFC 3339; without, until it is revoked.
    #[schemars(with = "Option<String>")]
    key_expires_at: Option<Timestamp>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PipelinesBody {
    pipelines: BTreeSet<PipelineName>,
}

#[derive(Deserialize)]
struct InEnvironment {
    environment: EnvironmentName,
}

#[derive(Deserialize)]
struct Place {
    environment: EnvironmentName,
    consumer: ConsumerName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::post(
            "/realms/{realm}/consumers",
            needs(Permission::ConsumerCreate),
            "Makes a consumer in one or more environments, in one transaction",
            create,
        )
        .takes::<NewConsumerBody>()
        .answers::<ListView<CreatedView>>()
        .creates(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/consumers",
            needs(Permission::ConsumerRead),
            "Lists the consumers",
            list,
        )
        .of_the_past()
        .asks::<PageQuery>()
        .answers::<ListView<ConsumerView>>(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}",
            needs(Permission::ConsumerRead),
            "Returns a consumer",
            get,
        )
        .of_the_past()
        .tagged()
        .answers::<ConsumerView>(),
        Operation::delete(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}",
            needs(Permission::ConsumerDelete),
            "Deletes a consumer with its credentials",
            delete,
        )
        .conditional(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/associate",
            needs(Permission::ConsumerUpdate),
            "Lets a consumer call pipelines",
            associate,
        )
        .tagged()
        .conditional()
        .takes::<PipelinesBody>()
        .answers::<ConsumerView>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/dissociate",
            needs(Permission::ConsumerUpdate),
            "No longer lets a consumer call pipelines",
            dissociate,
        )
        .tagged()
        .conditional()
        .takes::<PipelinesBody>()
        .answers::<ConsumerView>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/revoke-tokens",
            needs(Permission::TokenRevoke),
            "Revokes every token issued to a consumer until now",
            revoke_tokens,
        )
        .tagged()
        .conditional()
        .answers::<ConsumerView>(),
    ]
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<NewConsumerBody>,
) -> Answer<Created<ListView<CreatedView>>> {
    let NewConsumerBody { name, environments, pipelines, description, create_key, key_name, key_expires_at } =
        body;
    let first_key = create_key.then_some(NewKey { name: key_name, expires_at: key_expires_at });
    let input = NewConsumer { name, environments, pipelines, description, first_key };
    let created = api.app.consumers().create(&op, input).await?;
    let items = ListView::whole(created, |created| CreatedView {
        consumer: ConsumerView::from(&created.consumer),
        key: created.key.map(|key| KeyView::shown(&key, op.now)),
    });
    Ok(Created(items.0))
}

async fn list(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
    Ask(page): Ask<PageQuery>,
) -> Answer<Json<ListView<ConsumerView>>> {
    let page = api.app.consumers().list(&op, &path.environment, page.into()).await?;
    Ok(ListView::page(page, |consumer| ConsumerView::from(&consumer)))
}

async fn get(Then(api): Then, Caller(op): Caller, In(path): In<Place>) -> Answer<Tagged<ConsumerView>> {
    let stored = api.app.consumers().get(&op, &path.environment, &path.consumer).await?;
    Ok(Tagged(ConsumerView::from(&stored.value), stored.revision))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
) -> Answer<StatusCode> {
    api.app.consumers().delete(&op, &path.environment, &path.consumer, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn associate(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
    Body(body): Body<PipelinesBody>,
) -> Answer<Tagged<ConsumerView>> {
    let consumers = api.app.consumers();
    let stored =
        consumers.associate(&op, &path.environment, &path.consumer, body.pipelines, if_match).await?;
    Ok(Tagged(ConsumerView::from(&stored.value), stored.revision))
}

async fn dissociate(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
    Body(body): Body<PipelinesBody>,
) -> Answer<Tagged<ConsumerView>> {
    let consumers = api.app.consumers();
    let stored =
        consumers.dissociate(&op, &path.environment, &path.consumer, body.pipelines, if_match).await?;
    Ok(Tagged(ConsumerView::from(&stored.value), stored.revision))
}

async fn revoke_tokens(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
) -> Answer<Tagged<ConsumerView>> {
    let stored = api.app.consumers().revoke_tokens(&op, &path.environment, &path.consumer, if_match).await?;
    Ok(Tagged(ConsumerView::from(&stored.value), stored.revision))
}

impl From<&Consumer> for ConsumerView {
    fn from(consumer: &Consumer) -> Self {
        Self {
            id: consumer.id.to_string(),
            name: consumer.name.to_string(),
            environment: consumer.environment.to_string(),
            description: consumer.description.clone(),
            pipelines: consumer.pipelines.iter().map(ToString::to_string).collect(),
            tokens_revoked_before: consumer.tokens_revoked_before.map(|at| at.to_string()),
            created_at: consumer.created_at.to_string(),
        }
    }
}
