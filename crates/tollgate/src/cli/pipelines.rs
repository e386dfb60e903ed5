//! `tollgate new pipeline`: a file to start from; `tollgate mend`: switches turned on.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::policies::AccessRequirement;

use super::Context;
use super::files::with_kind;
use crate::answers::text;
use crate::failure::Failure;
use crate::output::{Format, print_out};

/// `tollgate new …`
#[derive(Subcommand)]
pub(crate) enum NewCommand {
    /// Prints a pipeline file whose switches are as the strictest environment demands.
    Pipeline {
        /// Its name; part of its URL.
        name: PipelineName,
        /// A pipeline that issues tokens.
        #[arg(long)]
        login_flow: bool,
        /// The project that it belongs to.
        #[arg(long, default_value = "default")]
        project: tollgate_model::names::ProjectName,
    },
}

/// Arguments of `tollgate mend`.
#[derive(Args)]
pub(crate) struct MendArguments {
    /// The pipeline.
    pipeline: PipelineName,
    /// The environment whose policies it is to conform to.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// Checks everything and saves nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Runs `tollgate mend`.
pub(crate) async fn mend(context: &Context<'_>, arguments: MendArguments) -> Result<(), Failure> {
    let MendArguments { pipeline, env, dry_run } = arguments;
    let path = context.client.realm_path(&["pipelines", pipeline.as_str(), "mend"]);
    let saved = context.client.post(&path, &json!({ "environment": env, "dryRun": dry_run })).await?;
    if context.output.format() != Format::Table {
        context.output.document(&saved);
        return Ok(());
    }
    let version = text(&saved, "version");
    print_out(&match (text(&saved, "change"), dry_run) {
        ("unchanged", _) => format!("{pipeline} {version} conforms in {env} as it is\n"),
        (_, true) => format!("{pipeline} would be saved as {version}, which conforms in {env}\n"),
        _ => format!("saved {pipeline} {version}, which conforms in {env}\n"),
    });
    Ok(())
}

/// Runs `tollgate new …`.
pub(crate) async fn new(context: &Context<'_>, command: NewCommand) -> Result<(), Failure> {
    let NewCommand::Pipeline { name, login_flow, project } = command;
    let strictest = strictest(context).await;
    let text = file(&name, project.as_str(), login_flow, strictest);
    if context.output.format() == Format::Json {
        let pipeline = tollgate_model::document::parse_pipeline(&text).map_err(anyhow::Error::from)?.value;
        context.output.document(&with_kind("Pipeline", json!(pipeline)));
    } else {
        print_out(&text);
    }
    Ok(())
}

/// Finds what the strictest environment demands of external APIs; everything, when no server answers.
async fn strictest(context: &Context<'_>) -> AccessRequirement {
    let path = context.client.realm_path(&["policies", "external-api-access"]);
    match context.client.get(&path).await {
        Ok(policy) => policy
            .get("environments")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(_, value)| value.as_str()?.parse::<AccessRequirement>().ok())
            .max()
            .unwrap_or(AccessRequirement::JwtWithApiKey),
        Err(_) => {
            crate::output::say!(
                "the policies could not be read: the switches are as the strictest one would demand"
            );
            AccessRequirement::JwtWithApiKey
        }
    }
}

fn file(name: &PipelineName, project: &str, login_flow: bool, demanded: AccessRequirement) -> String {
    if login_flow {
        return format!(
            "kind: Pipeline
name: {name}
project: {project}
description: Issues tokens to consumers whose user and password are right
trigger: {{ type: rest, methods: [POST], externalApi: true, apiKey: true }}
steps:
  - assert:
      # set with: tollgate global set portal-user USER --env ENVIRONMENT
      # and:      tollgate account set portal --hash passwordHash --env ENVIRONMENT
      condition: message.body.user == globals[\"portal-user\"] && verifyPassword(message.body.password, accounts.portal.passwordHash)
      status: 401
      error: invalid user or password
  - json: {{ user: \"{{{{ message.body.user }}}}\" }}
  - jwtGenerate: {{ scopes: [], expiresInMs: 900000 }}
"
        );
    }
    // Where the policy allows anything, a key is still what is advised.
    let jwt = demanded == AccessRequirement::JwtWithApiKey;
    format!(
        "kind: Pipeline
name: {name}
project: {project}
trigger:
  type: rest
  methods: [GET]
  externalApi: true
  apiKey: true  # or mtls: true, where callers show client certificates
  jwt: {jwt}
steps:
  - json: {{ hello: \"{{{{ message.method }}}}\" }}
"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use tollgate_model::document::parse_pipeline;
    use tollgate_model::names::EnvironmentName;
    use tollgate_model::policies::{AccessPolicy, AccessPolicyFile, Policies, Policy};
    use tollgate_policy::Judge;

    use super::*;

    #[test]
    fn a_new_file_compiles_and_conforms_where_it_is_strictest() {
        let name = PipelineName::parse("orders").expect("a slug");
        let environment = EnvironmentName::prod();
        for demanded in AccessRequirement::ALL {
            let policies = Policies::initial(&BTreeSet::from([environment.clone()]))
                .change(Policy::Access(AccessPolicyFile {
                    name: AccessPolicy::ExternalApiAccess,
                    environments: BTreeMap::from([(environment.clone(), demanded)]),
                }))
                .expect("a known environment");
            let judge = Judge::new(&policies, &[], jiff::Timestamp::UNIX_EPOCH);
            for login_flow in [false, true] {
                let pipeline =
                    parse_pipeline(&file(&name, "default", login_flow, demanded)).expect("valid").value;
                assert!(tollgate_flow::compile(&pipeline).is_ok());
                assert!(pipeline.trigger.http().is_some_and(|http| http.api_key.is_on()), "{demanded}");
                assert_eq!(tollgate_policy::is_login_flow(&pipeline), login_flow);
                assert!(judge.admit(&pipeline, &environment).is_ok(), "{demanded}");
            }
        }
    }
}
