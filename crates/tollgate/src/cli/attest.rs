//! `tollgate attest …`: signed statements of what was admitted. Verifying one needs no server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_credential::evidence::attestations::{self, VerifiedStatement};
use tollgate_credential::evidence::{digests, envelopes};
use tollgate_model::attestations::{Admitted, AdmittedVerdict, AppliedWaiver, Statement, Subject};
use tollgate_model::document;
use tollgate_model::ids::{AttestationId, DeploymentId};
use tollgate_model::names::{EnvironmentName, PipelineName};

use super::Context;
use super::evidence::{key_document, key_sentence, read_keys, read_limited};
use crate::failure::Failure;
use crate::output::{Output, print_out, printable};

/// `tollgate attest …`
#[derive(Subcommand)]
pub(crate) enum AttestCommand {
    /// Prints the attestation of a deployment: a DSSE envelope in JSON, to be kept as it is.
    Get(GetArguments),
    /// Lists attestations by environment, pipeline and time.
    List(ListArguments),
    /// Verifies an attestation offline, with keys that were kept; exit code 1 when it does not hold.
    Verify(VerifyArguments),
}

/// Arguments of `tollgate attest get`.
#[derive(Args)]
pub(crate) struct GetArguments {
    /// The pipeline.
    pipeline: PipelineName,
    /// Where it was deployed.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// Which major of what runs, when several do.
    #[arg(long)]
    major: Option<u32>,
    /// The newest of this deployment, which need not run any more.
    #[arg(long, value_name = "ID", conflicts_with = "major")]
    deployment: Option<DeploymentId>,
    /// This attestation, as `tollgate attest list` shows it.
    #[arg(long, value_name = "ID", conflicts_with_all = ["major", "deployment"])]
    id: Option<AttestationId>,
}

/// Arguments of `tollgate attest list`.
#[derive(Args)]
pub(crate) struct ListArguments {
    /// Only this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// Only this pipeline.
    #[arg(long, requires = "env")]
    pipeline: Option<PipelineName>,
}

/// Arguments of `tollgate attest verify`.
#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// The attestation, as `tollgate attest get` printed it, or `-` for stdin.
    file: PathBuf,
    /// The keys that you trust, as `tollgate evidence keys --output json` printed them.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A pipeline file that must be what was admitted.
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// The environment that it must be of.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
}

/// Runs `tollgate attest …`; only what asks the server connects to it.
pub(crate) async fn run<'a>(
    connect: impl FnOnce() -> Result<Context<'a>, Failure>,
    output: &Output,
    command: AttestCommand,
) -> Result<ExitCode, Failure> {
    match command {
        AttestCommand::Get(arguments) => get(&connect()?, arguments).await?,
        AttestCommand::List(arguments) => list(&connect()?, arguments).await?,
        AttestCommand::Verify(arguments) => verify(output, &arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(context: &Context<'_>, arguments: GetArguments) -> Result<(), Failure> {
    let GetArguments { pipeline, env, major, deployment, id } = arguments;
    let parts = ["deployments", pipeline.as_str(), "attestation"];
    let mut path = context.client.environment_path(env.as_str(), &parts);
    let queries = [
        id.map(|id| format!("?id={id}")),
        deployment.map(|id| format!("?deployment={id}")),
        major.map(|major| format!("?major={major}")),
    ];
    path.extend(queries.into_iter().flatten().next());
    let envelope = context.client.get(&path).await?;
    // A file to keep, whatever the format of tables.
    print_out(&format!("{envelope:#}\n"));
    Ok(())
}

async fn list(context: &Context<'_>, arguments: ListArguments) -> Result<(), Failure> {
    let ListArguments { env, pipeline } = arguments;
    let mut path = context.client.realm_path(&["attestations"]);
    path.extend(env.map(|env| format!("?environment={env}")));
    path.extend(pipeline.map(|pipeline| format!("&pipeline={pipeline}")));
    context.output.list(
        &context.client.list(&path).await?,
        &[
            ("ATTESTATION", "/id"),
            ("ENVIRONMENT", "/environment"),
            ("PIPELINE", "/pipeline"),
            ("VERSION", "/version"),
            ("OPERATION", "/operation"),
            ("AT", "/at"),
            ("BY", "/by"),
        ],
    );
    Ok(())
}

fn verify(output: &Output, arguments: &VerifyArguments) -> Result<(), Failure> {
    let keys = read_keys(&arguments.key)?;
    let bytes = read_limited(&arguments.file, envelopes::MAX_ENVELOPE_BYTES)?;
    let name = arguments.file.display();
    let refused = |reason: String| {
        let message = format!("{name} does not hold: {reason}");
        Failure::new(printable(&message)).with("verified", false.into()).with("reason", reason.into())
    };
    let envelope = envelopes::parse(&bytes).map_err(|error| refused(chain(&error)))?;
    let verified = attestations::verify(&envelope, &keys).map_err(|error| refused(chain(&error)))?;
    let predicate = &verified.statement.predicate;
    if let Some(expected) = &arguments.env
        && *expected != predicate.environment
    {
        return Err(refused(format!("it is about environment {}, not {expected}", predicate.environment)));
    }
    if let Some(path) = &arguments.pipeline {
        let found = digest_of(path)?;
        let (of, stated) = subject(&verified.statement);
        if found != stated {
            let file = path.display();
            return Err(refused(format!(
                "{file} has the digest {found}, and {of}, which was admitted, has {stated}"
            )));
        }
    }
    let signers: Vec<Value> = verified.signers.iter().map(|key| key_document(key)).collect();
    let document = json!({
        "verified": true, "statement": verified.statement, "signers": signers, "otherSignatures": verified.others,
    });
    output.done(&document, &printable_lines(&say(&verified, arguments.pipeline.as_deref())));
    Ok(())
}

/// Returns the digest of the pipeline in a file.
fn digest_of(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let bytes = read_limited(path, document::MAX_BYTES as u64)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::new(format!("{name} is no text in UTF-8")))?;
    let pipeline = document::parse_pipeline(&text)
        .map_err(|error| Failure::new(format!("{name} is no pipeline: {error}")))?
        .value;
    digests::of_pipeline(&pipeline).map_err(|error| Failure::new(format!("{name} has no digest: {error}")))
}

/// Returns the name and the digest of what a statement is about.
fn subject(statement: &Statement) -> (&str, &str) {
    let Some(Subject { name, digest }) = statement.subject.first() else { return ("", "") };
    (name, digest.get("sha256").map(String::as_str).unwrap_or_default())
}

/// Says, for people, what a statement says.
fn say(verified: &VerifiedStatement<'_>, pipeline: Option<&Path>) -> String {
    let VerifiedStatement { statement, signers, others } = verified;
    let Admitted { environment, policy_version, admitted_at, by, journal, .. } = &statement.predicate;
    let predicate = &statement.predicate;
    let (name, sha256) = subject(statement);
    let how = match predicate.verdict {
        AdmittedVerdict::Admitted => "",
        AdmittedVerdict::AdmittedByWaivers => ", by waivers",
    };
    let mut lines = vec![format!(
        "verified: {name} was admitted in {environment} by policy version {policy_version}{how}"
    )];
    let mut line = |title: &str, text: String| lines.push(format!("  {title:<10} {text}"));
    let fits = pipeline.map(|path| format!(", the digest of {}", path.display())).unwrap_or_default();
    line("sha256", format!("{sha256}{fits}"));
    line("realm", predicate.realm.to_string());
    line("at", admitted_at.to_string());
    line("by", format!("{} from {}, request {}", by.user, by.source, by.request_id));
    line("operation", format!("{}, deployment {}", word(&json!(predicate.operation)), predicate.deployment));
    if let Some(replaced) = &predicate.replaces {
        line("replaces", format!("{}, deployed at {}", replaced.version, replaced.deployed_at));
    }
    for (policy, value) in &predicate.demanded {
        line("demanded", format!("{policy}: {}", word(value)));
    }
    for AppliedWaiver { id, policy, message, until, reason, .. } in &predicate.waivers {
        line("waiver", format!("{id} until {until}: {message} (policy {policy}): {reason}"));
    }
    line("journal", format!("after entry {}, hash {}", journal.entries, journal.hash));
    for key in signers {
        line("key", key_sentence(key));
    }
    if *others > 0 {
        line("besides", format!("{others} signatures of keys that are not in the file, not verified"));
    }
    lines.join("\n")
}

/// Writes a value as a word where it is one.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Makes control characters visible, lines kept apart.
fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Writes an error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        // Transparent errors say the same as what is behind them.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
