//! `tollgate get` and `tollgate delete`: any resource by kind and name.

use clap::Args;
use serde_json::{Map, Value, json};
use tollgate_model::document::Resource;
use tollgate_model::names::EnvironmentName;
use tollgate_model::versions::Version;

use super::files::with_kind;
use super::times::AsOfArgument;
use super::{Context, change_requests, standings};
use crate::answers::{items, text};
use crate::failure::Failure;
use crate::output::{Column, Format};

/// Kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ResourceKind {
    /// Pipelines and their versions.
    #[value(alias = "pipelines")]
    Pipeline,
    /// Policies.
    #[value(alias = "policies")]
    Policy,
    /// Consumers of an environment.
    #[value(alias = "consumers")]
    Consumer,
    /// Globals of an environment.
    #[value(alias = "globals")]
    Global,
    /// Issuers of tokens outside, of an environment.
    #[value(alias = "issuers")]
    Issuer,
    /// Accounts of an environment: names of fields, never values.
    #[value(alias = "accounts")]
    Account,
    /// Deployments.
    #[value(alias = "deployments")]
    Deployment,
    /// Environments.
    #[value(alias = "environments")]
    Environment,
    /// Groups of users.
    #[value(alias = "groups")]
    Group,
    /// Projects.
    #[value(alias = "projects")]
    Project,
    /// Realms.
    #[value(alias = "realms")]
    Realm,
    /// Roles: sets of permissions.
    #[value(alias = "roles")]
    Role,
}

/// Arguments of `tollgate get`.
#[derive(Args)]
pub(crate) struct GetArguments {
    /// The kind.
    kind: ResourceKind,
    /// One of them; without, all.
    name: Option<String>,
    /// The environment, for what lives in one.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// Which version of a pipeline; without, the latest.
    #[arg(long)]
    version: Option<Version>,
    /// Lists the versions of a pipeline instead, and where each would be refused today.
    #[arg(long, conflicts_with = "version", requires = "name")]
    versions: bool,
    #[command(flatten)]
    pub(crate) past: AsOfArgument,
}

/// Arguments of `tollgate delete`.
#[derive(Args)]
pub(crate) struct DeleteArguments {
    /// The kind: pipeline, consumer, global, issuer, account, environment, group or role.
    kind: ResourceKind,
    /// Which one.
    name: String,
    /// The environment, for what lives in one.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
}

/// Shows resources: one as a file, all as a table.
pub(crate) async fn get(context: &Context<'_>, arguments: GetArguments) -> Result<(), Failure> {
    let GetArguments { kind, name, env, version, versions, .. } = arguments;
    let client = &context.client;
    if let (true, Some(name)) = (versions, &name) {
        return list_versions(context, kind, name).await;
    }
    let Some(name) = name else {
        let list = client.list(&list_path(context, kind, env.as_ref())?).await?;
        standings::list(context.output, &list, columns(kind));
        return Ok(());
    };
    let document = match kind {
        ResourceKind::Pipeline => {
            let saved = saved_pipeline(context, &name, version).await?;
            tell_refusals(context, &saved);
            tell_digest(context, &saved);
            with_kind("Pipeline", saved.get("pipeline").cloned().unwrap_or_default())
        }
        ResourceKind::Policy => {
            let policy = client.get(&client.realm_path(&["policies", &name])).await?;
            policy_as_file(&policy)
        }
        ResourceKind::Group => group_as_file(&client.get(&client.realm_path(&["groups", &name])).await?),
        ResourceKind::Role => role_as_file(&client.get(&client.realm_path(&["roles", &name])).await?),
        ResourceKind::Consumer | ResourceKind::Deployment | ResourceKind::Issuer => {
            let path =
                format!("{}/{}", list_path_in(context, kind, env.as_ref())?, crate::client::segment(&name));
            client.get(&path).await?
        }
        _ => {
            let list = client.list(&list_path(context, kind, env.as_ref())?).await?;
            let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
            items
                .into_iter()
                .find(|it| it.get("name").and_then(Value::as_str) == Some(name.as_str()))
                .cloned()
                .ok_or_else(|| Failure::not_found(format!("there is no {} `{name}`", word(kind))))?
        }
    };
    context.output.document(&document);
    Ok(())
}

/// Deletes a resource.
pub(crate) async fn delete(context: &Context<'_>, arguments: DeleteArguments) -> Result<(), Failure> {
    let DeleteArguments { kind, name, env } = arguments;
    let parent = match kind {
        ResourceKind::Pipeline => context.client.realm_path(&["pipelines"]),
        ResourceKind::Consumer | ResourceKind::Global | ResourceKind::Issuer | ResourceKind::Account => {
            list_path_in(context, kind, env.as_ref())?
        }
        ResourceKind::Environment => context.client.realm_path(&["environments"]),
        ResourceKind::Group => context.client.realm_path(&["groups"]),
        ResourceKind::Role => context.client.realm_path(&["roles"]),
        ResourceKind::Deployment => {
            return Err(
                Failure::usage("a deployment is not deleted").hint("stop it with `tollgate undeploy`")
            );
        }
        ResourceKind::Policy => {
            return Err(Failure::usage("a policy is not deleted")
                .hint("take a custom rule away with `tollgate policy remove`"));
        }
        _ => return Err(Failure::usage(format!("{} cannot be deleted", with_article(kind)))),
    };
    let answer = context.client.delete(&format!("{parent}/{}", crate::client::segment(&name))).await?;
    if change_requests::told(context, &answer) {
        return Ok(());
    }
    let document = json!({ "kind": word(kind), "name": name, "deleted": true });
    context.output.done(&document, &format!("deleted {} {name}", word(kind)));
    Ok(())
}

/// Returns a policy in the form of its file.
pub(crate) fn policy_as_file(policy: &Value) -> Value {
    let fields = ["name", "condition", "message", "fix", "environments"];
    let written = fields.into_iter().filter_map(|name| Some((name.to_owned(), policy.get(name)?.clone())));
    with_kind("Policy", Value::Object(Map::from_iter(written)))
}

/// Returns a group in the form of its file.
fn group_as_file(group: &Value) -> Value {
    let mut grants = items(group, "grants").to_vec();
    for grant in grants.iter_mut().filter_map(Value::as_object_mut) {
        grant.shift_remove("withoutEffect");
    }
    let mut file = written(group, &["name", "description", "members"]);
    file.insert("grants".to_owned(), grants.into());
    with_kind("Group", Value::Object(file))
}

/// Returns a role in the form of its file.
fn role_as_file(role: &Value) -> Value {
    with_kind("Role", Value::Object(written(role, &["name", "description", "permissions"])))
}

/// Returns the fields that a file writes; a text of nothing is left out.
fn written(value: &Value, fields: &[&str]) -> Map<String, Value> {
    let kept = fields.iter().filter_map(|field| Some(((*field).to_owned(), value.get(*field)?.clone())));
    kept.filter(|(_, value)| value.as_str() != Some("")).collect()
}

/// Returns what is saved of a resource in the form of its file, for comparison.
pub(crate) async fn as_file(context: &Context<'_>, resource: &Resource) -> Result<Value, Failure> {
    let client = &context.client;
    match resource {
        Resource::Pipeline(pipeline) => {
            let saved = saved_pipeline(context, pipeline.name.as_str(), None).await?;
            Ok(with_kind("Pipeline", saved.get("pipeline").cloned().unwrap_or_default()))
        }
        Resource::Policy(policy) => {
            let saved = client.get(&client.realm_path(&["policies", policy.name().as_str()])).await?;
            Ok(policy_as_file(&saved))
        }
        Resource::Consumer(consumer) => {
            let mut saved = Value::Null;
            let mut environments = Vec::new();
            for environment in &consumer.environments {
                let path =
                    client.environment_path(environment.as_str(), &["consumers", consumer.name.as_str()]);
                match client.get(&path).await {
                    Ok(found) => {
                        environments.push(environment);
                        saved = found;
                    }
                    Err(Failure::Problem { status: 404, .. }) => {}
                    Err(failure) => return Err(failure),
                }
            }
            if saved.is_null() {
                return Ok(Value::Null);
            }
            let mut fields = Map::from_iter([
                ("name".to_owned(), json!(consumer.name)),
                ("environments".to_owned(), json!(environments)),
            ]);
            fields.extend(saved.get("description").map(|text| ("description".to_owned(), text.clone())));
            fields.insert("pipelines".to_owned(), saved.get("pipelines").cloned().unwrap_or_default());
            Ok(with_kind("Consumer", Value::Object(fields)))
        }
        Resource::Group(group) => {
            let saved = client.get(&client.realm_path(&["groups", group.name.as_str()])).await?;
            Ok(group_as_file(&saved))
        }
        Resource::Issuer(issuer) => {
            let mut settings = Map::new();
            for environment in issuer.environments.keys() {
                let path = client.environment_path(environment.as_str(), &["issuers", issuer.name.as_str()]);
                match client.get(&path).await {
                    Ok(found) => {
                        settings.insert(
                            environment.to_string(),
                            found.get("settings").cloned().unwrap_or_default(),
                        );
                    }
                    Err(Failure::Problem { status: 404, .. }) => {}
                    Err(failure) => return Err(failure),
                }
            }
            if settings.is_empty() {
                return Ok(Value::Null);
            }
            Ok(with_kind("Issuer", json!({ "name": issuer.name, "environments": settings })))
        }
        Resource::Role(role) => {
            let saved = client.get(&client.realm_path(&["roles", role.name.as_str()])).await?;
            Ok(role_as_file(&saved))
        }
        // Nothing would change: no file makes a waiver.
        Resource::Waiver(waiver) => Ok(with_kind(resource.kind(), json!(waiver))),
        Resource::Global(global) => {
            let mut values = Map::new();
            for environment in global.environments.keys() {
                let list = client.list(&client.environment_path(environment.as_str(), &["globals"])).await?;
                let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
                let found = items
                    .into_iter()
                    .find(|it| it.get("name").and_then(Value::as_str) == Some(global.name.as_str()));
                values.extend(
                    found.and_then(|it| it.get("value")).map(|it| (environment.to_string(), it.clone())),
                );
            }
            if values.is_empty() {
                return Ok(Value::Null);
            }
            Ok(with_kind("Global", json!({ "name": global.name, "environments": values })))
        }
    }
}

/// Returns a version of a pipeline, the latest when none is named, with its verdicts.
async fn saved_pipeline(
    context: &Context<'_>,
    name: &str,
    version: Option<Version>,
) -> Result<Value, Failure> {
    let client = &context.client;
    let version = match version {
        Some(version) => version.to_string(),
        None => {
            let head = client.get(&client.realm_path(&["pipelines", name])).await?;
            head.get("latest").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
    };
    client.get(&client.realm_path(&["pipelines", name, "versions", &version])).await
}

/// Says, for people, where a saved version would be refused today, so that nobody has to try.
fn tell_refusals(context: &Context<'_>, saved: &Value) {
    if context.output.format() != Format::Table {
        return;
    }
    let version = saved.get("version").and_then(Value::as_str).unwrap_or_default();
    for verdict in saved.get("verdicts").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| verdict.get(field).and_then(Value::as_str).unwrap_or_default();
        let violations = verdict.get("violations").and_then(Value::as_array).into_iter().flatten();
        let reasons: Vec<&str> =
            violations.filter_map(|it| it.get("message").and_then(Value::as_str)).collect();
        if !reasons.is_empty() {
            let (environment, reasons) = (text("environment"), reasons.join(", "));
            let when = if context.client.reads_the_past() { "then" } else { "today" };
            crate::output::say!("{version} would be refused {when} in {environment}: {reasons}");
        }
    }
}

/// Says, for people, the digest that attestations state.
fn tell_digest(context: &Context<'_>, saved: &Value) {
    let sha256 = text(saved, "sha256");
    if context.output.format() == Format::Table && !sha256.is_empty() {
        crate::output::say!("sha256 of {}: {sha256}", text(saved, "version"));
    }
}

/// Lists the versions of a pipeline with what the policies say of each.
async fn list_versions(context: &Context<'_>, kind: ResourceKind, name: &str) -> Result<(), Failure> {
    if kind != ResourceKind::Pipeline {
        return Err(Failure::usage(format!("{} has no versions to list", with_article(kind)))
            .hint("`tollgate policy versions` lists those of the policies"));
    }
    let list = context.client.list(&context.client.realm_path(&["pipelines", name, "versions"])).await?;
    standings::list(context.output, &list, standings::VERSION_COLUMNS);
    Ok(())
}

fn list_path(
    context: &Context<'_>,
    kind: ResourceKind,
    environment: Option<&EnvironmentName>,
) -> Result<String, Failure> {
    let realm = |noun: &str| Ok(context.client.realm_path(&[noun]));
    match kind {
        ResourceKind::Pipeline => realm("pipelines"),
        ResourceKind::Policy => realm("policies"),
        ResourceKind::Environment => realm("environments"),
        ResourceKind::Project => realm("projects"),
        ResourceKind::Deployment => match environment {
            Some(environment) => {
                Ok(format!("{}?environment={environment}", context.client.realm_path(&["deployments"])))
            }
            None => realm("deployments"),
        },
        ResourceKind::Realm => Ok("/realms".to_owned()),
        ResourceKind::Group => realm("groups"),
        ResourceKind::Role => realm("roles"),
        ResourceKind::Consumer | ResourceKind::Global | ResourceKind::Issuer | ResourceKind::Account => {
            list_path_in(context, kind, environment)
        }
    }
}

/// Returns the path of a kind that lives in an environment.
fn list_path_in(
    context: &Context<'_>,
    kind: ResourceKind,
    environment: Option<&EnvironmentName>,
) -> Result<String, Failure> {
    let environment = environment.ok_or_else(|| {
        Failure::usage(format!("{} lives in an environment: add --env", with_article(kind)))
    })?;
    Ok(context.client.environment_path(environment.as_str(), &[&format!("{}s", word(kind))]))
}

fn with_article(kind: ResourceKind) -> String {
    let word = word(kind);
    let article = if word.starts_with(['a', 'e', 'i']) { "an" } else { "a" };
    format!("{article} {word}")
}

fn word(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Pipeline => "pipeline",
        ResourceKind::Policy => "policy",
        ResourceKind::Consumer => "consumer",
        ResourceKind::Global => "global",
        ResourceKind::Issuer => "issuer",
        ResourceKind::Account => "account",
        ResourceKind::Deployment => "deployment",
        ResourceKind::Environment => "environment",
        ResourceKind::Group => "group",
        ResourceKind::Role => "role",
        ResourceKind::Project => "project",
        ResourceKind::Realm => "realm",
    }
}

fn columns(kind: ResourceKind) -> &'static [Column] {
    match kind {
        ResourceKind::Pipeline => {
            &[("NAME", "/name"), ("PROJECT", "/project"), ("LATEST", "/latest"), ("VERSIONS", "/versions")]
        }
        ResourceKind::Policy => &[("NAME", "/name"), ("ENVIRONMENTS", "/environments")],
        ResourceKind::Consumer => {
            &[("NAME", "/name"), ("PIPELINES", "/pipelines"), ("CREATED", "/createdAt")]
        }
        ResourceKind::Global => &[("NAME", "/name"), ("VALUE", "/value")],
        ResourceKind::Issuer => &[("NAME", "/name"), ("ISSUER", "/settings/issuer"), ("KEYS", "/keys/state")],
        ResourceKind::Account => &[("NAME", "/name"), ("FIELDS", "/fields")],
        ResourceKind::Deployment => &[
            ("ENVIRONMENT", "/environment"),
            ("PIPELINE", "/pipeline"),
            ("VERSION", "/version"),
            ("CONFORMS", "/shown/conforms"),
        ],
        ResourceKind::Group => &[("NAME", "/name"), ("MEMBERS", "/members"), ("DESCRIPTION", "/description")],
        ResourceKind::Role => &[("NAME", "/name"), ("BUILT IN", "/builtIn"), ("DESCRIPTION", "/description")],
        ResourceKind::Environment | ResourceKind::Project | ResourceKind::Realm => {
            &[("NAME", "/name"), ("CREATED", "/createdAt")]
        }
    }
}
