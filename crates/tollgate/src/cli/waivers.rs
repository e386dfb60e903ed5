//! `tollgate waiver …`: violations that do not count until a date.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate_model::ids::WaiverId;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::policies::PolicyName;
use tollgate_model::verdicts::ViolationCode;

use super::keys::Lifetime;
use super::{Context, change_requests};
use crate::failure::Failure;
use crate::output::{Column, Format};

/// `tollgate waiver …`
#[derive(Subcommand)]
pub(crate) enum WaiverCommand {
    /// Waives a violation of a pipeline in an environment, until a date or for a time.
    Create(CreateArguments),
    /// Lists the waivers in force.
    List {
        /// Only this environment's.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: Option<EnvironmentName>,
        /// Only this pipeline's.
        #[arg(long)]
        pipeline: Option<PipelineName>,
        /// Those that ended by themselves, too.
        #[arg(long)]
        all: bool,
    },
    /// Shows one waiver.
    Get {
        /// Its id, `wvr_…`.
        id: WaiverId,
    },
    /// Extends a waiver in force: another takes its place, which ends later or sooner. Refused when somebody ended or
    /// replaced it meanwhile.
    #[command(group = clap::ArgGroup::new("new end").required(true).args(["until", "lasts"]))]
    Extend {
        /// Its id, `wvr_…`.
        id: WaiverId,
        /// When the violation counts again, in place of when it would: a time or a date, as for `waiver create`.
        #[arg(long, value_name = "DATE", value_parser = parse_until)]
        until: Option<Timestamp>,
        /// How long it does not count from now on, for example `14d`.
        #[arg(id = "lasts", long = "for", value_name = "DURATION")]
        lasts: Option<Lifetime>,
        /// Why: at most 500 characters; without, the reason of the one that is extended.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Ends a waiver before its time: what runs goes on running, but where policies are enforced at the gateway its calls
    /// are refused from then on.
    End {
        /// Its id, `wvr_…`.
        id: WaiverId,
    },
}

/// Arguments of `tollgate waiver create`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("end").required(true).args(["until", "lasts"]))]
pub(crate) struct CreateArguments {
    /// Whose violation.
    #[arg(long)]
    pipeline: PipelineName,
    /// Where.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// Of which policy.
    #[arg(long)]
    policy: PolicyName,
    /// Which violation of the policy, for example `missing-jwt`; needed when it has several.
    #[arg(long, value_parser = parse_code)]
    code: Option<ViolationCode>,
    /// When the violation counts again: a time such as 2030-01-31T12:00:00Z, or a date, which means its beginning (UTC).
    #[arg(long, value_name = "DATE", value_parser = parse_until)]
    until: Option<Timestamp>,
    /// How long it does not count, for example `14d`.
    #[arg(id = "lasts", long = "for", value_name = "DURATION")]
    lasts: Option<Lifetime>,
    /// Why, for whoever reads the journal: at most 500 characters.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Takes the place of a waiver for the same violation, whichever that is; `waiver extend` names one.
    #[arg(long)]
    replace: bool,
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("ENVIRONMENT", "/environment"),
    ("PIPELINE", "/pipeline"),
    ("POLICY", "/policy"),
    ("CODE", "/code"),
    ("STATE", "/state"),
    ("UNTIL", "/until"),
    ("BY", "/createdBy"),
    ("APPROVED BY", "/approvedBy"),
    ("REASON", "/reason"),
];

fn parse_code(input: &str) -> Result<ViolationCode, String> {
    serde_json::from_value(input.into()).map_err(|error| error.to_string())
}

/// Reads a time, or a date, which means its beginning (UTC).
pub(super) fn parse_until(input: &str) -> Result<Timestamp, String> {
    let time = if input.contains(['T', 't', ' ']) { input.to_owned() } else { format!("{input}T00:00:00Z") };
    time.parse().map_err(|_| "write 2030-01-31, or 2030-01-31T12:00:00Z".to_owned())
}

/// Runs `tollgate waiver …`.
pub(crate) async fn run(context: &Context<'_>, command: WaiverCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        WaiverCommand::Create(arguments) => create(context, arguments).await?,
        WaiverCommand::List { env, pipeline, all } => {
            let mut path = client.realm_path(&["waivers"]);
            path.push_str(&format!("?all={all}"));
            if let Some(env) = env {
                path.push_str(&format!("&environment={env}"));
            }
            if let Some(pipeline) = pipeline {
                path.push_str(&format!("&pipeline={pipeline}"));
            }
            context.output.list(&client.list(&path).await?, COLUMNS);
        }
        WaiverCommand::Get { id } => {
            context.output.document(&client.get(&client.realm_path(&["waivers", &id.to_string()])).await?);
        }
        WaiverCommand::Extend { id, until, lasts, reason } => {
            extend(context, id, until, lasts, reason).await?
        }
        WaiverCommand::End { id } => {
            client.delete(&client.realm_path(&["waivers", &id.to_string()])).await?;
            context.output.done(&json!({ "id": id, "ended": true }), &format!("ended waiver {id}"));
        }
    }
    Ok(())
}

async fn create(context: &Context<'_>, arguments: CreateArguments) -> Result<(), Failure> {
    let CreateArguments { pipeline, env, policy, code, until, lasts, reason, replace } = arguments;
    let fields = [
        ("pipeline", Some(json!(pipeline))),
        ("environment", Some(json!(env))),
        ("policy", Some(json!(policy))),
        ("code", code.map(|code| json!(code))),
        ("until", until.map(|until| json!(until))),
        ("forSeconds", lasts.map(|time| json!(time.as_secs()))),
        ("reason", Some(json!(reason))),
        ("replace", Some(json!(replace))),
    ];
    let body = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    post(context, Value::Object(body.collect())).await
}

/// Puts another in the place of one: for the same violation, and for no other waiver of it.
async fn extend(
    context: &Context<'_>,
    id: WaiverId,
    until: Option<Timestamp>,
    lasts: Option<Lifetime>,
    reason: Option<String>,
) -> Result<(), Failure> {
    let old = context.client.get(&context.client.realm_path(&["waivers", &id.to_string()])).await?;
    let kept = |field: &str| old.get(field).cloned();
    let fields = [
        ("pipeline", kept("pipeline")),
        ("environment", kept("environment")),
        ("policy", kept("policy")),
        ("code", kept("code")),
        ("until", until.map(|until| json!(until))),
        ("forSeconds", lasts.map(|time| json!(time.as_secs()))),
        ("reason", reason.map(Value::from).or_else(|| kept("reason"))),
        ("extends", Some(json!(id))),
    ];
    let body = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    post(context, Value::Object(body.collect())).await
}

async fn post(context: &Context<'_>, body: Value) -> Result<(), Failure> {
    let waiver = context.client.post(&context.client.realm_path(&["waivers"]), &body).await?;
    if change_requests::told(context, &waiver) {
        return Ok(());
    }
    let text = |field: &str| waiver.get(field).and_then(Value::as_str).unwrap_or("-");
    let (code, policy, pipeline) = (text("code"), text("policy"), text("pipeline"));
    let (environment, until) = (text("environment"), text("until"));
    context.output.done(
        &waiver,
        &format!("waived {code} of policy {policy} by {pipeline} in {environment} until {until}"),
    );
    if context.output.format() == Format::Table {
        crate::output::say!("waiver {}: it ends by itself, or with `tollgate waiver end`", text("id"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_date_or_a_time() {
        let until = |text: &str| parse_until(text).map(|until| until.to_string());
        assert_eq!(until("2030-01-31"), Ok("2030-01-31T00:00:00Z".to_owned()));
        assert_eq!(until("2030-01-31T12:00:00+02:00"), Ok("2030-01-31T10:00:00Z".to_owned()));
        for bad in ["", "tomorrow", "2030-02-30", "31.1.2030", "2030-01-31T12:00:00"] {
            assert!(until(bad).is_err(), "{bad} was taken");
        }
        assert_eq!(parse_code("missing-jwt"), Ok(ViolationCode::MissingJwt));
        assert!(parse_code("jwt").is_err_and(|error| error.contains("missing-jwt")));
    }
}
