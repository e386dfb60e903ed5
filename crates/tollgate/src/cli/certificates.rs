//! `tollgate certificate …`: client certificates of consumers.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};
use tollgate_credential::certificates::{PastedCertificate, holds_private_key};
use tollgate_model::certificates::{Fingerprint, SubjectAltName};
use tollgate_model::names::{ConsumerName, EnvironmentName};

use super::Context;
use super::keys::Lifetime;
use crate::failure::Failure;
use crate::output::Column;

/// `tollgate certificate …`
#[derive(Subcommand)]
pub(crate) enum CertificateCommand {
    /// Binds a client certificate, or all that bear a name, to a consumer.
    Create(CreateArguments),
    /// Lists a consumer's client certificates.
    List {
        /// The consumer.
        consumer: ConsumerName,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Revokes a binding: dead everywhere within a second, on open connections, too. Other bindings that the certificate
    /// fits go on.
    Revoke {
        /// The binding's id, `crt_…`.
        id: String,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
}

/// Arguments of `tollgate certificate create`.
#[derive(Args)]
#[command(group(ArgGroup::new("known by").required(true).args(["cert", "fingerprint", "san"])))]
pub(crate) struct CreateArguments {
    /// Whose certificate.
    consumer: ConsumerName,
    /// The environment that it works in.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// The certificate, a PEM file; its fingerprint is kept.
    #[arg(long, value_name = "PATH")]
    cert: Option<PathBuf>,
    /// The SHA-256 fingerprint of the certificate.
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
    /// A subject alternative name, for all certificates that bear it: `dns:HOST`, `uri:URI` or `email:ADDRESS`.
    #[arg(long, value_name = "NAME", requires = "issuer")]
    san: Option<SubjectAltName>,
    /// The CA that gives that name, a PEM file: one of those of the listener. Another CA may give it to somebody else.
    #[arg(long, value_name = "PATH", requires = "san")]
    issuer: Option<PathBuf>,
    /// What to call it, to tell certificates apart.
    #[arg(long, default_value = "default")]
    name: String,
    /// How long the binding works, for example `90d`; without, until it is revoked. The certificate ends by itself.
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<Lifetime>,
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("SAN", "/san"),
    ("FINGERPRINT", "/fingerprint"),
    ("ISSUER", "/issuer"),
    ("STATE", "/state"),
    ("CREATED", "/createdAt"),
    ("EXPIRES", "/expiresAt"),
    ("LAST USED", "/lastUsedAt"),
];

/// Runs `tollgate certificate …`.
pub(crate) async fn run(context: &Context<'_>, command: CertificateCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        CertificateCommand::Create(arguments) => {
            let (consumer, env) = (&arguments.consumer, &arguments.env);
            let path =
                client.environment_path(env.as_str(), &["consumers", consumer.as_str(), "certificates"]);
            let made = client.post(&path, &Value::Object(body(&arguments)?)).await?;
            context.output.done(&made, &format!("bound a client certificate to {consumer} in {env}"));
        }
        CertificateCommand::List { consumer, env } => {
            let path =
                client.environment_path(env.as_str(), &["consumers", consumer.as_str(), "certificates"]);
            context.output.list(&client.list(&path).await?, COLUMNS);
        }
        CertificateCommand::Revoke { id, env } => {
            let path = client.environment_path(env.as_str(), &["certificates", &id, "revoke"]);
            let revoked = client.post(&path, &json!({})).await?;
            context.output.done(&revoked, &format!("revoked {id}"));
        }
    }
    Ok(())
}

fn body(arguments: &CreateArguments) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::from_iter([("name".to_owned(), arguments.name.clone().into())]);
    let mut put = |name: &str, value: String| drop(body.insert(name.to_owned(), value.into()));
    if let Some(path) = &arguments.cert {
        put("fingerprint", fingerprint(path)?.to_string());
    }
    if let Some(fingerprint) = &arguments.fingerprint {
        put("fingerprint", fingerprint.to_string());
    }
    if let Some(san) = &arguments.san {
        put("san", san.to_string());
    }
    if let Some(path) = &arguments.issuer {
        put("issuer", fingerprint(path)?.to_string());
    }
    if let Some(lifetime) = arguments.expires_in {
        put("expiresAt", lifetime.ends_at().to_string());
    }
    Ok(body)
}

/// Reads a file with certificates, and refuses one with a private key before it goes anywhere.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if holds_private_key(&text) {
        return Err(Failure::usage(format!("{} holds a private key", path.display()))
            .hint("give the file with the certificate alone: nobody needs to see its key"));
    }
    Ok(text)
}

/// Returns the fingerprint of the first certificate in a file.
fn fingerprint(path: &Path) -> Result<Fingerprint, Failure> {
    let text = read(path)?;
    PastedCertificate::parse_pem(&text).map(|it| it.fingerprint).ok_or_else(|| {
        Failure::usage(format!("{} is no PEM file with a certificate", path.display()))
            .hint("`openssl x509 -inform der -in FILE` turns DER into PEM")
    })
}
