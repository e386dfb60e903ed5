//! `tollgate issuer …`: issuers outside whose tokens an environment takes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tollgate_model::issuers::{CaCertificates, IssuerAlgorithm, IssuerUrl};
use tollgate_model::names::{ConsumerName, EnvironmentName, IssuerName};

use super::keys::Lifetime;
use super::{Context, dependents};
use crate::answers::text;
use crate::failure::Failure;
use crate::output::Column;

/// `tollgate issuer …`
#[derive(Subcommand)]
pub(crate) enum IssuerCommand {
    /// Sets an issuer; pipelines take its tokens with `jwt: { issuers: [NAME] }`.
    Create(Box<CreateArguments>),
    /// Lists the issuers of an environment, and whether tokens can be verified by their keys.
    List {
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Shows an issuer with its keys.
    Get {
        #[command(flatten)]
        issuer: One,
    },
    /// Has every gateway fetch the issuer's keys anew.
    Refresh {
        #[command(flatten)]
        issuer: One,
    },
    /// Lists the deployments that list an issuer: while there are any, it cannot be deleted.
    Dependents {
        #[command(flatten)]
        issuer: One,
    },
    /// Deletes an issuer that no deployment lists.
    Delete {
        #[command(flatten)]
        issuer: One,
    },
}

/// Which issuer.
#[derive(Args)]
pub(crate) struct One {
    /// Its name.
    name: IssuerName,
    /// Its environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
}

/// Arguments of `tollgate issuer create`.
#[derive(Args)]
pub(crate) struct CreateArguments {
    #[command(flatten)]
    of: One,
    /// The `iss` of its tokens, letter by letter.
    #[arg(long, value_name = "URL")]
    issuer: IssuerUrl,
    /// Where its keys are; without, its discovery document tells (`/.well-known/openid-configuration`).
    #[arg(long, value_name = "URL")]
    jwks_url: Option<IssuerUrl>,
    /// The `aud` that a token must carry.
    #[arg(long)]
    audience: String,
    /// An algorithm that counts: ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384 or RS512; repeatable.
    #[arg(long = "algorithm", value_name = "ALGORITHM", required = true)]
    algorithms: Vec<IssuerAlgorithm>,
    /// The consumer whose every token is.
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "consumer_claim",
        conflicts_with = "consumer_claim"
    )]
    consumer: Option<ConsumerName>,
    /// The claim that names the consumer: azp, client_id, sub or another.
    #[arg(long, value_name = "CLAIM")]
    consumer_claim: Option<String>,
    /// The consumer that a value of the claim stands for; repeatable. Without, the value is the consumer's name.
    #[arg(long = "consumer-value", value_name = "VALUE=NAME", requires = "consumer_claim")]
    consumer_values: Vec<ConsumerValue>,
    /// The claim that holds the scopes.
    #[arg(long, value_name = "CLAIM", default_value = "scope")]
    scopes_claim: String,
    /// Takes tokens of any `typ`, and such without `sub` or `jti`; without, access tokens of RFC 9068 only.
    #[arg(long)]
    any_type: bool,
    /// How far clocks may differ, at most 5m.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    leeway: Lifetime,
    /// How often keys are fetched.
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    refresh: Lifetime,
    /// How old keys may be while the issuer cannot be reached, at most 7d; then its tokens answer 503.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    max_stale: Lifetime,
    /// Lets it be at loopback and link-local addresses, and plain http be used.
    #[arg(long)]
    internal_addresses: bool,
    /// Certificates of CAs, a PEM file, that alone are trusted when its keys are fetched, in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// `VALUE=NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ConsumerValue(String, ConsumerName);

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("ISSUER", "/settings/issuer"),
    ("AUDIENCE", "/settings/audience"),
    ("ALGORITHMS", "/settings/algorithms"),
    ("KEYS", "/keys/state"),
    ("FETCHED", "/keys/fetchedAt"),
    ("LAST ERROR", "/keys/error"),
];

/// Runs `tollgate issuer …`.
pub(crate) async fn run(context: &Context<'_>, command: IssuerCommand) -> Result<(), Failure> {
    let client = &context.client;
    let path = |of: &One| client.environment_path(of.env.as_str(), &["issuers", of.name.as_str()]);
    match command {
        IssuerCommand::Create(arguments) => {
            let body = json!({ "name": arguments.of.name, "settings": arguments.settings()? });
            let made =
                client.post(&client.environment_path(arguments.of.env.as_str(), &["issuers"]), &body).await?;
            let One { name, env } = &arguments.of;
            context.output.done(
                &made,
                &format!("set issuer {name} in {env}: pipelines list it in /trigger/jwt/issuers"),
            );
        }
        IssuerCommand::List { env } => {
            let issuers = client.list(&client.environment_path(env.as_str(), &["issuers"])).await?;
            context.output.list(&issuers, COLUMNS);
        }
        IssuerCommand::Get { issuer } => context.output.document(&client.get(&path(&issuer)).await?),
        IssuerCommand::Refresh { issuer } => {
            let asked = client.post(&format!("{}/refresh", path(&issuer)), &json!({})).await?;
            let words = format!("every gateway fetches the keys of {} now", text(&asked, "name"));
            context.output.done(&asked, &words);
            crate::output::say!(
                "hint: `tollgate issuer get {} --env {}` shows them",
                issuer.name,
                issuer.env
            );
        }
        IssuerCommand::Dependents { issuer } => dependents::list(context, &path(&issuer)).await?,
        IssuerCommand::Delete { issuer } => {
            client.delete(&path(&issuer)).await?;
            let One { name, env } = issuer;
            let document = json!({ "name": name, "deleted": true });
            context.output.done(&document, &format!("deleted issuer {name} of {env}"));
        }
    }
    Ok(())
}

// === impl CreateArguments ===

impl CreateArguments {
    fn settings(&self) -> Result<Value, Failure> {
        let consumer = match (&self.consumer, &self.consumer_claim) {
            (Some(name), _) => json!({ "name": name }),
            (None, claim) => {
                let values: BTreeMap<_, _> = self.consumer_values.iter().map(|it| (&it.0, &it.1)).collect();
                let mut fields = Map::from_iter([("claim".to_owned(), json!(claim))]);
                if !values.is_empty() {
                    fields.insert("values".to_owned(), json!(values));
                }
                Value::Object(fields)
            }
        };
        let mut settings = json!({
            "issuer": self.issuer, "audience": self.audience, "algorithms": self.algorithms, "consumer": consumer,
            "scopesClaim": self.scopes_claim, "accessTokensOnly": !self.any_type,
            "leewaySeconds": self.leeway.as_secs(), "refreshSeconds": self.refresh.as_secs(),
            "maxStaleSeconds": self.max_stale.as_secs(), "internalAddresses": self.internal_addresses,
        });
        if let Some(fields) = settings.as_object_mut() {
            fields.extend(self.jwks_url.iter().map(|url| ("jwksUrl".to_owned(), json!(url))));
            if let Some(path) = &self.ca {
                let certificates = super::certificates::read(path)?;
                // Before it is sent: a private key that was taken for a certificate stays here.
                CaCertificates::parse(&certificates)
                    .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
                fields.insert("caCertificates".to_owned(), json!(certificates));
            }
        }
        Ok(settings)
    }
}

// === impl ConsumerValue ===

impl FromStr for ConsumerValue {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        // A consumer's name has no `=`; a value may.
        let (value, name) = input.rsplit_once('=').ok_or("write VALUE=NAME")?;
        Ok(Self(
            value.to_owned(),
            name.parse().map_err(|error: tollgate_model::names::ParseNameError| error.to_string())?,
        ))
    }
}
