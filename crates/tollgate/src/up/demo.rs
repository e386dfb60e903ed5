//! The demo: a shop's product list, protected by a key in test and by key and token in prod.
//!
//! It is loaded through the management API, as anybody would.

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tollgate_app::Password;
use tollgate_model::sources::Random;

use super::data_dir::DataDir;
use super::demo_calls::{self, Addresses, Secrets};
use crate::client::Client;
use crate::failure::Failure;
use crate::profile::{Target, write_secret};

/// The product list; `{jwt}` is filled in.
const PRODUCT_LIST: &str = r#"kind: Pipeline
name: product-list
project: store
description: Products of the shop
trigger:
  type: rest
  methods: [GET]
  externalApi: true
  apiKey: true
  jwt: {jwt}
  routes: [{ path: "/products/:id" }]
steps:
  - json:
      products: [{ id: 1, name: Lamp, price: 32.5 }, { id: 2, name: Chair, price: 80 }]
      asked: "{{ has(message.queryAndPath.id) ? message.queryAndPath.id : null }}"
"#;

const LOGIN: &str = r#"kind: Pipeline
name: login
project: store
description: Issues a token to whoever knows user and password
trigger: { type: rest, methods: [POST], externalApi: true, apiKey: true }
steps:
  - assert:
      condition: message.body.user == globals["portal-user"] && verifyPassword(message.body.password, accounts.portal.passwordHash)
      status: 401
      error: invalid user or password
  - json: { user: "{{ message.body.user }}" }
  - jwtGenerate: { scopes: [catalog:read], expiresInMs: 900000 }
"#;

/// Loads the demo and returns the calls to try; on a later start, returns those of the first with today's addresses.
pub(crate) async fn load(
    data: &DataDir,
    addresses: &Addresses,
    random: &dyn Random,
) -> anyhow::Result<String> {
    let path = data.demo_path();
    // The calls are pasted into a shell that may stand in another folder.
    let token_path = std::path::absolute(data.admin_token_path())?;
    let kept = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
    let secrets: Secrets = match kept {
        Some(secrets) => secrets,
        None => {
            let token = std::fs::read_to_string(&token_path).with_context(|| {
                format!("the demo needs the admin's API token in {}", token_path.display())
            })?;
            let target = Target { server: addresses.console.clone(), token: Some(token.trim().to_owned()) };
            let client = Client::new(target, "default".to_owned()).map_err(describe)?;
            let password = Password::generate(random)?;
            let secrets = fill(&client, password.expose_secret())
                .await
                .map_err(describe)
                .context("cannot load the demo")?;
            write_secret(&path, serde_json::to_string_pretty(&secrets)?.as_bytes())?;
            secrets
        }
    };
    Ok(demo_calls::write(addresses, &secrets, &token_path))
}

/// Does what a team would do, through the API. What is there already, of an attempt that was cut short or of somebody's
/// own, is no obstacle.
async fn fill(client: &Client, password: &str) -> Result<Secrets, Failure> {
    let values =
        json!({ "environments": { "test": "api-key", "prod": "jwt-with-api-key" }, "reason": "the demo" });
    client.put(&client.realm_path(&["policies", "external-api-access"]), &values).await?;
    for environment in ["test", "prod"] {
        let global = client.environment_path(environment, &["globals", "portal-user"]);
        client.put(&global, &json!({ "value": "portal" })).await?;
        let account = client.environment_path(environment, &["accounts", "portal"]);
        client.put(&account, &json!({ "hashedFields": { "passwordHash": password } })).await?;
    }
    let key_only = save(client, &PRODUCT_LIST.replace("{jwt}", "false")).await?;
    save(client, LOGIN).await?;
    let (test_key, prod_key) = (consumer(client, "test").await?, consumer(client, "prod").await?);
    deploy(client, "test", "product-list").await?;
    save(client, &PRODUCT_LIST.replace("{jwt}", "{ scopes: [catalog:read] }")).await?;
    deploy(client, "prod", "product-list").await?;
    deploy(client, "test", "login").await?;
    deploy(client, "prod", "login").await?;
    Ok(Secrets { test_key, prod_key, password: password.to_owned(), key_only_version: key_only })
}

/// Makes sure that the consumer may call both pipelines in an environment; returns a new key of it.
async fn consumer(client: &Client, environment: &str) -> Result<String, Failure> {
    let path = client.environment_path(environment, &["consumers", "shop"]);
    match client.get(&path).await {
        Ok(_) => {}
        Err(Failure::Problem { status: 404, .. }) => {
            let consumer = json!({ "name": "shop", "environments": [environment], "createKey": false });
            client.post(&client.realm_path(&["consumers"]), &consumer).await?;
        }
        Err(failure) => return Err(failure),
    }
    let pipelines = json!({ "pipelines": ["product-list", "login"] });
    client.post(&format!("{path}/associate"), &pipelines).await?;
    let made = client.post(&format!("{path}/keys"), &json!({ "name": "demo" })).await?;
    text(&made, "key")
}

/// Saves a pipeline; returns its version.
async fn save(client: &Client, document: &str) -> Result<String, Failure> {
    let saved = client.post(&client.realm_path(&["pipelines"]), &json!({ "document": document })).await?;
    text(&saved, "version")
}

fn text(answer: &Value, field: &str) -> Result<String, Failure> {
    let text = answer.get(field).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| Failure::new(format!("the server answered without `{field}`")))
}

async fn deploy(client: &Client, environment: &str, pipeline: &str) -> Result<(), Failure> {
    let path = client.environment_path(environment, &["deployments"]);
    client.post(&path, &json!({ "pipeline": pipeline })).await.map(drop)
}

fn describe(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Problem { body, .. } => anyhow!(text(&body, "detail").unwrap_or_else(|_| body.to_string())),
        Failure::Other { message, .. } => anyhow!(message),
    }
}

#[cfg(test)]
mod tests {
    use tollgate_model::document::parse_pipeline;

    use super::*;

    #[test]
    fn the_demo_s_pipelines_are_good_and_login_is_a_login_flow() {
        for (text, login) in [
            (PRODUCT_LIST.replace("{jwt}", "false"), false),
            (PRODUCT_LIST.replace("{jwt}", "{ scopes: [catalog:read] }"), false),
            (LOGIN.to_owned(), true),
        ] {
            let pipeline = parse_pipeline(&text).expect("valid").value;
            assert!(tollgate_flow::compile(&pipeline).is_ok());
            assert_eq!(tollgate_policy::is_login_flow(&pipeline), login);
        }
    }
}
