//! `tollgate jwt …`: tokens, and the keys that sign them.

use clap::Subcommand;
use serde_json::{Value, json};
use tollgate_model::names::{ConsumerName, EnvironmentName};

use super::{Context, secrets};
use crate::failure::Failure;

/// `tollgate jwt …`
#[derive(Subcommand)]
pub(crate) enum JwtCommand {
    /// Lists the signing keys of an environment.
    Keys {
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Makes a new signing key; tokens of the old one stay good during the overlap.
    Rotate {
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
        /// `ES256`, `EdDSA`, `RS256` or `HS256`; without, the same as before.
        #[arg(long)]
        algorithm: Option<String>,
        /// How long tokens of the old key stay good.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: super::keys::Lifetime,
    },
    /// Revokes a token by its `jti`, all tokens of a consumer, or a signing key.
    Revoke {
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
        /// The token's `jti` claim.
        #[arg(long, group = "what", value_name = "JTI")]
        jti: Option<String>,
        /// Every token issued to this consumer until now.
        #[arg(long, group = "what", value_name = "CONSUMER")]
        consumer: Option<ConsumerName>,
        /// The signing key with this id, and with it every token that it signed.
        #[arg(long, group = "what", value_name = "KID")]
        kid: Option<String>,
    },
    /// Shows what a token (read from stdin) says, and whether an environment takes it.
    Inspect {
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
}

/// Runs `tollgate jwt …`.
pub(crate) async fn run(context: &Context<'_>, command: JwtCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        JwtCommand::Keys { env } => {
            let keys = client.list(&client.environment_path(env.as_str(), &["signing-keys"])).await?;
            context.output.list(
                &keys,
                &[
                    ("KID", "/kid"),
                    ("ALGORITHM", "/algorithm"),
                    ("STATE", "/state"),
                    ("CREATED", "/createdAt"),
                    ("VERIFIES UNTIL", "/verifiesUntil"),
                ],
            );
        }
        JwtCommand::Rotate { env, algorithm, overlap } => {
            let mut body = json!({ "overlapSeconds": overlap.as_secs() });
            if let (Some(algorithm), Some(fields)) = (algorithm, body.as_object_mut()) {
                fields.insert("algorithm".to_owned(), algorithm.into());
            }
            let path = client.environment_path(env.as_str(), &["signing-keys", "rotate"]);
            let key = client.post(&path, &body).await?;
            let kid = key.get("kid").and_then(Value::as_str).unwrap_or_default();
            context.output.done(&key, &format!("{env} now signs with {kid}"));
        }
        JwtCommand::Revoke { env, jti, consumer, kid } => {
            let (parts, body, sentence) = match (&jti, &consumer, &kid) {
                (Some(jti), None, None) => {
                    (vec!["token-revocations"], json!({ "jti": jti }), format!("revoked token {jti}"))
                }
                (None, Some(name), None) => (
                    vec!["consumers", name.as_str(), "revoke-tokens"],
                    json!({}),
                    format!("revoked every token issued to {name} until now"),
                ),
                (None, None, Some(kid)) => {
                    (vec!["signing-keys", kid, "revoke"], json!({}), format!("revoked signing key {kid}"))
                }
                _ => return Err(Failure::usage("say what to revoke: --jti, --consumer or --kid")),
            };
            let answer = client.post(&client.environment_path(env.as_str(), &parts), &body).await?;
            context.output.done(&answer, &sentence);
        }
        JwtCommand::Inspect { env } => {
            let token = secrets::ask("token")?;
            let token = token.strip_prefix("Bearer ").unwrap_or(&token);
            let path = client.environment_path(env.as_str(), &["tokens", "inspect"]);
            context.output.document(&client.post(&path, &json!({ "token": token })).await?);
        }
    }
    Ok(())
}
