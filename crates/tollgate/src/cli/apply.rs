//! `tollgate apply` and `tollgate diff`: resources as files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use similar::TextDiff;
use tollgate_model::document::{ConsumerFile, GlobalFile, IssuerFile, Resource};
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::Policy;

use super::files::{self, FileResource};
use super::{Context, change_requests, confirm, impact, reasons, resources};
use crate::answers::{items, text};
use crate::failure::Failure;
use crate::output::{Format, print_out, yaml};

/// Arguments of `tollgate apply`.
#[derive(Args)]
pub(crate) struct ApplyArguments {
    /// A file, a directory with all .yaml, .yml and .json files below it, or `-` for stdin; repeatable.
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Checks everything and saves nothing.
    #[arg(long)]
    dry_run: bool,
    /// Saves changed pipelines as the first version of their next major.
    #[arg(long)]
    new_major: bool,
    /// Saves changes of policies without asking.
    #[arg(long)]
    yes: bool,
    /// Why policies change, for their version and the journal; asked for at a terminal.
    #[arg(long)]
    reason: Option<String>,
}

/// Arguments of `tollgate diff`.
#[derive(Args)]
pub(crate) struct DiffArguments {
    /// A file, a directory with all .yaml, .yml and .json files below it, or `-` for stdin; repeatable.
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Exits with 1 when something would change.
    #[arg(long)]
    exit_code: bool,
}

/// Saves the resources in files, one after the other; the first refusal ends it.
pub(crate) async fn apply(context: &Context<'_>, mut arguments: ApplyArguments) -> Result<(), Failure> {
    let mut results = Vec::new();
    // Pipelines of these files: in a dry run nothing else tells that they will be there.
    let mut pipelines = BTreeSet::new();
    for file in files::read(&arguments.files)? {
        if let Resource::Pipeline(pipeline) = &file.located.value {
            pipelines.insert(pipeline.name.clone());
        }
        let result = match &file.located.value {
            Resource::Pipeline(pipeline) => apply_pipeline(context, &arguments, &file, pipeline).await,
            Resource::Policy(policy) => apply_policy(context, &mut arguments, policy).await,
            Resource::Consumer(consumer) => apply_consumer(context, &arguments, consumer, &pipelines).await,
            Resource::Global(global) => apply_global(context, &arguments, global).await,
            Resource::Issuer(issuer) => apply_issuer(context, &arguments, issuer).await,
            Resource::Group(_) | Resource::Role(_) => apply_access(context, &arguments, &file).await,
            Resource::Waiver(waiver) => {
                crate::output::say!("hint: a waiver is made with a command of its own; no file makes one");
                Ok(json!({ "kind": "Waiver", "name": waiver.id, "change": "left out" }))
            }
        };
        let result =
            result.map_err(|failure| file.locate(failure).with("items", Value::Array(results.clone())))?;
        if context.output.format() == Format::Table {
            let text = |field: &str| result.get(field).and_then(Value::as_str).unwrap_or_default();
            let version =
                result.get("version").and_then(Value::as_str).map(|it| format!(" {it}")).unwrap_or_default();
            print_out(&format!("{} {}{version}: {}\n", text("kind"), text("name"), text("change")));
            for reminder in result.get("reminders").and_then(Value::as_array).into_iter().flatten() {
                crate::output::say!("reminder: {}", reminder.as_str().unwrap_or_default());
            }
        }
        results.push(result);
    }
    if context.output.format() != Format::Table {
        context.output.document(&json!({ "items": results }));
    }
    Ok(())
}

async fn apply_pipeline(
    context: &Context<'_>,
    arguments: &ApplyArguments,
    file: &FileResource,
    pipeline: &Pipeline,
) -> Result<Value, Failure> {
    let body = json!({
        "document": file.to_json().to_string(), "newMajor": arguments.new_major, "dryRun": arguments.dry_run,
    });
    let mut saved = context.client.post(&context.client.realm_path(&["pipelines"]), &body).await?;
    if let Some(fields) = saved.as_object_mut() {
        fields.insert("kind".to_owned(), "Pipeline".into());
        fields.insert("name".to_owned(), pipeline.name.to_string().into());
    }
    Ok(saved)
}

async fn apply_policy(
    context: &Context<'_>,
    arguments: &mut ApplyArguments,
    policy: &Policy,
) -> Result<Value, Failure> {
    let name = policy.name();
    let path = context.client.realm_path(&["policies", name.as_str()]);
    let mut body = json!(policy);
    if let Some(fields) = body.as_object_mut() {
        fields.shift_remove("name");
    }
    let (change, mut result) = match context.client.get(&path).await {
        Ok(now) => {
            let same = ["environments", "condition", "message", "fix"]
                .map(|field| now.get(field) == body.get(field));
            (if same.into_iter().all(|same| same) { "unchanged" } else { "updated" }, now)
        }
        Err(Failure::Problem { status: 404, .. }) => ("created", Value::Null),
        Err(failure) => return Err(failure),
    };
    if let Some(fields) = body.as_object_mut() {
        fields.insert("partial".to_owned(), false.into());
    }
    let told = context.client.post(&format!("{path}/impact"), &body).await?;
    if change == "unchanged" {
        return Ok(
            json!({ "kind": "Policy", "name": name, "change": change, "version": result.get("version") }),
        );
    }
    impact::say(&told);
    if !arguments.dry_run {
        confirm::demand_yes(arguments.yes, &told)?;
        // One reason for all policies of these files: who is asked is asked once.
        let reason = reasons::ask(arguments.reason.as_deref())?;
        if let Some(fields) = body.as_object_mut() {
            fields.insert("reason".to_owned(), reason.clone().into());
        }
        arguments.reason = Some(reason);
        result = context.client.put(&path, &body).await?;
    }
    if let Some(request) = result.get("changeRequest") {
        change_requests::hint(text(request, "id"), text(request, "expiresAt"));
        return Ok(json!({ "kind": "Policy", "name": name, "change": format!("asked for, not yet {change}"),
            "changeRequest": request }));
    }
    let mut applied =
        json!({ "kind": "Policy", "name": name, "change": change, "version": result.get("version") });
    if let (Some(fields), Value::Object(told)) = (applied.as_object_mut(), told) {
        fields.extend(told);
    }
    Ok(applied)
}

async fn apply_consumer(
    context: &Context<'_>,
    arguments: &ApplyArguments,
    consumer: &ConsumerFile,
    pipelines: &BTreeSet<PipelineName>,
) -> Result<Value, Failure> {
    let client = &context.client;
    if arguments.dry_run {
        demand_existing(context, consumer, pipelines).await?;
    }
    let wanted: BTreeSet<&str> = consumer.pipelines.iter().map(|name| name.as_str()).collect();
    let mut missing: Vec<&EnvironmentName> = Vec::new();
    let mut change = "unchanged";
    for environment in &consumer.environments {
        let path = client.environment_path(environment.as_str(), &["consumers", consumer.name.as_str()]);
        let found = match client.get(&path).await {
            Ok(found) => found,
            Err(Failure::Problem { status: 404, .. }) => {
                missing.push(environment);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let has: BTreeSet<&str> = found
            .get("pipelines")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (verb, pipelines) in [("associate", &wanted - &has), ("dissociate", &has - &wanted)] {
            if !pipelines.is_empty() {
                change = "updated";
                if !arguments.dry_run {
                    client.post(&format!("{path}/{verb}"), &json!({ "pipelines": pipelines })).await?;
                }
            }
        }
    }
    if !missing.is_empty() {
        change = "created";
        if !arguments.dry_run {
            let body = json!({ "name": consumer.name, "environments": missing, "pipelines": wanted,
                "description": consumer.description, "createKey": false });
            client.post(&client.realm_path(&["consumers"]), &body).await?;
        }
    }
    Ok(json!({ "kind": "Consumer", "name": consumer.name, "change": change }))
}

/// Refuses what a save would refuse: environments and pipelines that are neither there nor in these files.
async fn demand_existing(
    context: &Context<'_>,
    consumer: &ConsumerFile,
    pipelines: &BTreeSet<PipelineName>,
) -> Result<(), Failure> {
    let client = &context.client;
    for environment in &consumer.environments {
        client.get(&client.environment_path(environment.as_str(), &["consumers"])).await?;
    }
    for pipeline in consumer.pipelines.iter().filter(|name| !pipelines.contains(*name)) {
        client.get(&client.realm_path(&["pipelines", pipeline.as_str()])).await?;
    }
    Ok(())
}

async fn apply_global(
    context: &Context<'_>,
    arguments: &ApplyArguments,
    global: &GlobalFile,
) -> Result<Value, Failure> {
    let client = &context.client;
    let mut change = "unchanged";
    for (environment, value) in &global.environments {
        let globals = client.list(&client.environment_path(environment.as_str(), &["globals"])).await?;
        let items = items(&globals, "items");
        let now =
            items.iter().find(|it| it.get("name").and_then(Value::as_str) == Some(global.name.as_str()));
        if now.and_then(|it| it.get("value")) == Some(value) {
            continue;
        }
        change = "updated";
        if !arguments.dry_run {
            let path = client.environment_path(environment.as_str(), &["globals", global.name.as_str()]);
            client.put(&path, &json!({ "value": value })).await?;
        }
    }
    Ok(json!({ "kind": "Global", "name": global.name, "change": change }))
}

async fn apply_issuer(
    context: &Context<'_>,
    arguments: &ApplyArguments,
    issuer: &IssuerFile,
) -> Result<Value, Failure> {
    let client = &context.client;
    let mut change = "unchanged";
    for (environment, settings) in &issuer.environments {
        let path = client.environment_path(environment.as_str(), &["issuers", issuer.name.as_str()]);
        let now = match client.get(&path).await {
            Ok(now) => now,
            Err(Failure::Problem { status: 404, .. }) => Value::Null,
            Err(failure) => return Err(failure),
        };
        if now.get("settings") == Some(&json!(settings)) {
            continue;
        }
        change = if now.is_null() && change != "updated" { "created" } else { "updated" };
        if !arguments.dry_run {
            client.put(&path, &json!({ "settings": settings })).await?;
        }
    }
    Ok(json!({ "kind": "Issuer", "name": issuer.name, "change": change }))
}

/// Saves a group or a role as a whole.
async fn apply_access(
    context: &Context<'_>,
    arguments: &ApplyArguments,
    file: &FileResource,
) -> Result<Value, Failure> {
    let (kind, mut wanted) = (file.located.value.kind(), file.to_json());
    let name = wanted.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let before = match resources::as_file(context, &file.located.value).await {
        Ok(before) => before,
        Err(Failure::Problem { status: 404, .. }) => Value::Null,
        Err(failure) => return Err(failure),
    };
    let change = match &before {
        Value::Null => "created",
        before if *before == wanted => "unchanged",
        _ => "updated",
    };
    if change != "unchanged" && !arguments.dry_run {
        let path =
            context.client.realm_path(&[if kind == "Group" { "groups" } else { "roles" }, name.as_str()]);
        if let Some(fields) = wanted.as_object_mut() {
            fields.retain(|field, _| field != "kind" && field != "name");
        }
        context.client.put(&path, &wanted).await?;
    }
    Ok(json!({ "kind": kind, "name": name, "change": change }))
}

/// Shows what `apply` would change, as a unified diff.
pub(crate) async fn diff(context: &Context<'_>, arguments: DiffArguments) -> Result<ExitCode, Failure> {
    let mut changes = Vec::new();
    for file in files::read(&arguments.files)? {
        let after = file.to_json();
        let name = after.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = file.located.value.kind();
        let before = match resources::as_file(context, &file.located.value).await {
            Ok(before) => before,
            Err(Failure::Problem { status: 404, .. }) => Value::Null,
            Err(failure) => return Err(failure),
        };
        if before == after {
            continue;
        }
        if context.output.format() == Format::Table {
            let old = if before.is_null() { String::new() } else { yaml(&before) };
            let new = yaml(&after);
            let diff = TextDiff::from_lines(old.as_str(), new.as_str());
            let (from, to) = (format!("{kind} {name} (saved)"), format!("{kind} {name} ({})", file.file));
            print_out(&diff.unified_diff().header(&from, &to).to_string());
        }
        changes.push(json!({ "kind": kind, "name": name, "before": before, "after": after }));
    }
    if context.output.format() != Format::Table {
        context.output.document(&json!({ "items": changes }));
    } else if changes.is_empty() {
        crate::output::say!("nothing would change");
    }
    Ok(if arguments.exit_code && !changes.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
