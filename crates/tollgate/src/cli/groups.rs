//! `tollgate group …`: who holds which roles in the realm, and where.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tollgate_model::names::{EnvironmentName, GroupName, ProjectName, RoleName, UserName};

use super::Context;
use crate::answers::items;
use crate::failure::Failure;
use crate::output::{Column, Format};

/// `tollgate group …`
#[derive(Subcommand)]
pub(crate) enum GroupCommand {
    /// Makes a group.
    Create(CreateArguments),
    /// Lists the groups of the realm.
    List,
    /// Shows a group.
    Get {
        /// Its name.
        name: GroupName,
    },
    /// Puts users into a group.
    Add(MemberArguments),
    /// Takes users out of a group.
    Remove(MemberArguments),
    /// Grants a role to a group, everywhere or within limits.
    Grant(GrantArguments),
    /// Takes a grant away from a group; its limits are to be named as they are.
    Ungrant(GrantArguments),
    /// Deletes a group: its members lose what it grants.
    Delete {
        /// Its name.
        name: GroupName,
    },
}

/// Arguments of `tollgate group create`.
#[derive(Args)]
pub(crate) struct CreateArguments {
    /// Its name.
    name: GroupName,
    /// Who is in it, and what for.
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// A user to put in; repeatable, or separated by commas.
    #[arg(long = "member", value_name = "USER", value_delimiter = ',')]
    members: Vec<UserName>,
    /// A role to grant; repeatable, or separated by commas.
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    roles: Vec<RoleName>,
    #[command(flatten)]
    limits: Limits,
}

/// A group and users.
#[derive(Args)]
pub(crate) struct MemberArguments {
    /// The group.
    name: GroupName,
    /// Who.
    #[arg(required = true, value_name = "USER")]
    members: Vec<UserName>,
}

/// A group and what it grants.
#[derive(Args)]
pub(crate) struct GrantArguments {
    /// The group.
    name: GroupName,
    /// The role.
    role: RoleName,
    #[command(flatten)]
    limits: Limits,
}

/// Where a role is held.
#[derive(Args)]
pub(crate) struct Limits {
    /// Only in this environment; repeatable, or separated by commas.
    #[arg(long, value_name = "ENVIRONMENT", value_delimiter = ',')]
    env: Vec<EnvironmentName>,
    /// Only for this project; repeatable, or separated by commas.
    #[arg(long = "project", value_name = "PROJECT", value_delimiter = ',')]
    projects: Vec<ProjectName>,
}

const COLUMNS: &[Column] =
    &[("NAME", "/name"), ("MEMBERS", "/members"), ("GRANTS", "/shown"), ("DESCRIPTION", "/description")];

/// Runs `tollgate group …`.
pub(crate) async fn run(context: &Context<'_>, command: GroupCommand) -> Result<(), Failure> {
    let client = &context.client;
    let path =
        |name: &GroupName, verb: &[&str]| client.realm_path(&[&["groups", name.as_str()], verb].concat());
    match command {
        GroupCommand::Create(arguments) => {
            let CreateArguments { name, description, members, roles, limits } = arguments;
            if roles.is_empty() && !limits.is_empty() {
                return Err(Failure::usage("--env and --project limit a role, and there is no --role")
                    .hint("add --role, or grant one later with `tollgate group grant`"));
            }
            let grants: Vec<_> = roles.iter().map(|role| limits.grant(role)).collect();
            let body =
                json!({ "name": name, "description": description, "members": members, "grants": grants });
            let group = client.post(&client.realm_path(&["groups"]), &body).await?;
            done(context, &group, &format!("created group {name}"));
        }
        GroupCommand::List => {
            let mut groups = client.list(&client.realm_path(&["groups"])).await?;
            if context.output.format() == Format::Table {
                show_grants(&mut groups);
            }
            context.output.list(&groups, COLUMNS);
        }
        GroupCommand::Get { name } => context.output.document(&client.get(&path(&name, &[])).await?),
        GroupCommand::Add(MemberArguments { name, members }) => {
            let group = client.post(&path(&name, &["add"]), &json!({ "members": members })).await?;
            done(context, &group, &format!("group {name} has {}", listed(&group, "members")));
        }
        GroupCommand::Remove(MemberArguments { name, members }) => {
            let group = client.post(&path(&name, &["remove"]), &json!({ "members": members })).await?;
            done(context, &group, &format!("group {name} has {}", listed(&group, "members")));
        }
        GroupCommand::Grant(GrantArguments { name, role, limits }) => {
            let group = client.post(&path(&name, &["grant"]), &limits.grant(&role)).await?;
            done(context, &group, &format!("group {name} grants {}", grants(&group)));
        }
        GroupCommand::Ungrant(GrantArguments { name, role, limits }) => {
            let group = client.post(&path(&name, &["ungrant"]), &limits.grant(&role)).await?;
            done(context, &group, &format!("group {name} grants {}", grants(&group)));
        }
        GroupCommand::Delete { name } => {
            client.delete(&path(&name, &[])).await?;
            context.output.done(&json!({ "name": name, "deleted": true }), &format!("deleted group {name}"));
        }
    }
    Ok(())
}

// === impl Limits ===

impl Limits {
    fn is_empty(&self) -> bool {
        self.env.is_empty() && self.projects.is_empty()
    }

    /// Returns a grant as the API takes it.
    fn grant(&self, role: &RoleName) -> Value {
        let mut grant = Map::from_iter([("role".to_owned(), json!(role))]);
        if !self.env.is_empty() {
            grant.insert("environments".to_owned(), json!(self.env));
        }
        if !self.projects.is_empty() {
            grant.insert("projects".to_owned(), json!(self.projects));
        }
        Value::Object(grant)
    }
}

/// Prints a changed group, and warns of what its limits leave nothing of.
fn done(context: &Context<'_>, group: &Value, sentence: &str) {
    context.output.done(group, sentence);
    for grant in items(group, "grants") {
        let lost = listed(grant, "withoutEffect");
        if !items(grant, "withoutEffect").is_empty() {
            crate::output::say!("reminder: of {}, these limits leave nothing of {lost}", shown(grant));
        }
    }
}

/// Puts what each group grants into one cell.
fn show_grants(groups: &mut Value) {
    for group in groups.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        let shown: Vec<Value> = items(group, "grants").iter().map(|grant| shown(grant).into()).collect();
        if let Some(fields) = group.as_object_mut() {
            fields.insert("shown".to_owned(), shown.into());
        }
    }
}

fn grants(group: &Value) -> String {
    let all: Vec<_> = items(group, "grants").iter().map(shown).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

/// Says in words what a grant is: `deployer in test for store`.
fn shown(grant: &Value) -> String {
    let mut text = grant.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (limit, word) in [("environments", "in"), ("projects", "for")] {
        let names = items(grant, limit);
        if !names.is_empty() {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            text.push_str(&format!(" {word} {}", names.join("+")));
        }
    }
    text
}

fn listed(value: &Value, field: &str) -> String {
    let names: Vec<_> = items(value, field).iter().filter_map(Value::as_str).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
