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

/// Loads the demo and returns the calls to try; on a later start, returns the calls of the first.
pub(crate) async fn load(
    data: &DataDir,
    addresses: &Addresses,
    random: &dyn Random,
) -> anyhow::Result<String> {
    let path = data.demo_path();
    if let Ok(text) = std::fs::read_to_string(&path) {
        return Ok(text);
    }
    let token_path = data.admin_token_path();
    let token = std::fs::read_to_string(&token_path)
        .with_context(|| format!("the demo needs the admin's API token in {}", token_path.display()))?;
    let target = Target { server: addresses.console.clone(), token: Some(token.trim().to_owned()) };
    let client = Client::new(target, "default".to_owned()).map_err(describe)?;
    let password = Password::generate(random)?;
    let keys =
        fill(&client, password.expose_secret()).await.map_err(describe).context("cannot load the demo")?;
    let secrets = Secrets {
        test_key: &keys.0,
        prod_key: &keys.1,
        password: password.expose_secret(),
        token_file: &token_path.display().to_string(),
    };
    let text = demo_calls::write(addresses, &secrets);
    write_secret(&path, text.as_bytes())?;
    Ok(text)
}

/// Does what a team would do, through the API; returns the keys of test and prod.
async fn fill(client: &Client, password: &str) -> Result<(String, String), Failure> {
    let values =
        json!({ "environments": { "test": "api-key", "prod": "jwt-with-api-key" }, "reason": "the demo" });
    client.put(&client.realm_path(&["policies", "external-api-access"]), &values).await?;
    for environment in ["test", "prod"] {
        let global = client.environment_path(environment, &["globals", "portal-user"]);
        client.put(&global, &json!({ "value": "portal" })).await?;
        let account = client.environment_path(environment, &["accounts", "portal"]);
        client.put(&account, &json!({ "hashedFields": { "passwordHash": password } })).await?;
    }
    save(client, &PRODUCT_LIST.replace("{jwt}", "false")).await?;
    save(client, LOGIN).await?;
    let consumer =
        json!({ "name": "shop", "environments": ["test", "prod"], "pipelines": ["product-list", "login"] });
    let made = client.post(&client.realm_path(&["consumers"]), &consumer).await?;
    deploy(client, "test", "product-list").await?;
    save(client, &PRODUCT_LIST.replace("{jwt}", "{ scopes: [catalog:read] }")).await?;
    deploy(client, "prod", "product-list").await?;
    deploy(client, "test", "login").await?;
    deploy(client, "prod", "login").await?;
    let key = |environment: &str| {
        let items = made.get("items").and_then(Value::as_array).into_iter().flatten();
        items
            .into_iter()
            .find(|item| item.pointer("/consumer/environment").and_then(Value::as_str) == Some(environment))
            .and_then(|item| item.pointer("/key/key")?.as_str().map(str::to_owned))
            .ok_or_else(|| Failure::new("the server made no key"))
    };
    Ok((key("test")?, key("prod")?))
}

async fn save(client: &Client, document: &str) -> Result<(), Failure> {
    client.post(&client.realm_path(&["pipelines"]), &json!({ "document": document })).await.map(drop)
}

async fn deploy(client: &Client, environment: &str, pipeline: &str) -> Result<(), Failure> {
    let path = client.environment_path(environment, &["deployments"]);
    client.post(&path, &json!({ "pipeline": pipeline })).await.map(drop)
}

fn describe(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Problem { body, .. } => anyhow!("{body}"),
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
