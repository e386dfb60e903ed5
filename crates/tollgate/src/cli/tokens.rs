//! `tollgate token …`: API tokens.

use std::collections::BTreeSet;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tollgate_model::names::{EnvironmentName, ParseNameError, ProjectName, UserName};

use super::Context;
use super::keys::Lifetime;
use crate::answers::{items, text};
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Column, Format, say};

/// `tollgate token …`
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes an API token and prints it once.
    Create(CreateArguments),
    /// Lists your API tokens, or those of everybody in the realm.
    List {
        /// Those of everybody in the realm; in realm `default`, of all users.
        #[arg(long)]
        everybody: bool,
        /// Those of this user.
        #[arg(long, value_name = "NAME")]
        user: Option<UserName>,
    },
    /// Revokes an API token, with those that it made.
    Revoke {
        /// Its id, `utk_…`.
        id: String,
        /// It is the token of somebody else in the realm.
        #[arg(long)]
        of_somebody: bool,
    },
}

/// Arguments of `tollgate token create`.
#[derive(Args)]
pub(crate) struct CreateArguments {
    /// What to call it.
    name: String,
    /// A permission that it may use, for example `deployment:create`, or limited as `deployment:create@test,staging` or
    /// `deployment:create@test/store` (environments, projects); repeatable. Without, it may do whatever you may.
    #[arg(long = "scope", value_name = "PERMISSION[@ENVIRONMENTS][/PROJECTS]")]
    scopes: Vec<ScopeArgument>,
    /// Limits to this environment every scope that names none itself; repeatable.
    #[arg(long = "env", value_name = "ENVIRONMENT", requires = "scopes")]
    environments: Vec<EnvironmentName>,
    /// Limits to this project every scope that names none itself; repeatable.
    #[arg(long = "project", value_name = "PROJECT", requires = "scopes")]
    projects: Vec<ProjectName>,
    /// How long it works, for example `30d`: 365 days at most. Without, 90 days.
    #[arg(long, value_name = "DURATION", visible_alias = "expires-in")]
    expires: Option<Lifetime>,
}

/// A permission with its own limits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ScopeArgument {
    permission: String,
    environments: BTreeSet<EnvironmentName>,
    projects: BTreeSet<ProjectName>,
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("SCOPES", "/scopes"),
    ("CREATED", "/createdAt"),
    ("EXPIRES", "/expiresAt"),
    ("LAST USED", "/lastUsedAt"),
];

/// Runs `tollgate token …`.
pub(crate) async fn token(context: &Context<'_>, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(arguments) => {
            let token = context.client.post("/tokens", &arguments.body()).await?;
            context.output.document(&token);
            say!("keep the token now: it is not shown again");
        }
        TokenCommand::List { everybody, user } => {
            let is_own = !everybody && user.is_none();
            let mut path = if is_own { "/tokens".to_owned() } else { context.client.realm_path(&["tokens"]) };
            if let Some(user) = user {
                path.push_str(&format!("?user={}", segment(user.as_str())));
            }
            let mut tokens = context.client.list(&path).await?;
            if context.output.format() == Format::Table {
                put_scopes_in_words(&mut tokens);
            }
            let owner: &[Column] = if is_own { &[] } else { &[("USER", "/user")] };
            context.output.list(&tokens, &[owner, COLUMNS].concat());
        }
        TokenCommand::Revoke { id, of_somebody } => {
            let path =
                if of_somebody { context.client.realm_path(&["tokens"]) } else { "/tokens".to_owned() };
            context.client.delete(&format!("{path}/{}", segment(&id))).await?;
            context.output.done(&json!({ "id": id, "revoked": true }), &format!("revoked {id}"));
        }
    }
    Ok(())
}

// === impl CreateArguments ===

impl CreateArguments {
    fn body(self) -> Value {
        let mut body = Map::from_iter([("name".to_owned(), self.name.into())]);
        if let Some(lifetime) = self.expires {
            body.insert("expiresAt".to_owned(), lifetime.ends_at().to_string().into());
        }
        let scope = |scope: &ScopeArgument| {
            let mut fields = Map::from_iter([("permission".to_owned(), scope.permission.clone().into())]);
            fields.extend(limit("environments", &scope.environments, &self.environments));
            fields.extend(limit("projects", &scope.projects, &self.projects));
            Value::Object(fields)
        };
        if !self.scopes.is_empty() {
            body.insert("scopes".to_owned(), self.scopes.iter().map(scope).collect());
        }
        Value::Object(body)
    }
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|name| !name.is_empty())
}

/// Returns the limit of a scope: its own, else that of all.
fn limit<N: ToString>(field: &str, own: &BTreeSet<N>, of_all: &[N]) -> Option<(String, Value)> {
    let names: BTreeSet<String> = own.iter().map(ToString::to_string).collect();
    let names = if names.is_empty() { of_all.iter().map(ToString::to_string).collect() } else { names };
    (!names.is_empty()).then(|| (field.to_owned(), json!(names)))
}

// === impl ScopeArgument ===

impl FromStr for ScopeArgument {
    type Err = ParseNameError;

    fn from_str(input: &str) -> Result<Self, ParseNameError> {
        let (rest, projects) = input.split_once('/').unwrap_or((input, ""));
        let (permission, environments) = rest.split_once('@').unwrap_or((rest, ""));
        Ok(Self {
            permission: permission.to_owned(),
            environments: names(environments).map(EnvironmentName::parse).collect::<Result<_, _>>()?,
            projects: names(projects).map(ProjectName::parse).collect::<Result<_, _>>()?,
        })
    }
}

/// Writes each scope as `deployment:create (test; project store)`, and the absence of scopes as `all`.
fn put_scopes_in_words(tokens: &mut Value) {
    let rows = tokens.get_mut("items").and_then(Value::as_array_mut);
    for row in rows.into_iter().flatten() {
        let scopes: Vec<String> = items(row, "scopes").iter().map(scope_in_words).collect();
        let words = if row.get("scopes").is_none() { json!("all") } else { json!(scopes) };
        if let Some(fields) = row.as_object_mut() {
            fields.insert("scopes".to_owned(), words);
        }
    }
}

fn scope_in_words(scope: &Value) -> String {
    let names = |field| items(scope, field).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let (environments, projects) = (names("environments"), names("projects"));
    let projects = if projects.is_empty() { projects } else { format!("project {projects}") };
    let limits: Vec<_> = [environments, projects].into_iter().filter(|limit| !limit.is_empty()).collect();
    let permission = text(scope, "permission");
    if limits.is_empty() { permission.to_owned() } else { format!("{permission} ({})", limits.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_its_own_limits_or_has_those_of_all() {
        let body = |scopes: &[&str], environments: &[&str]| {
            let environment = |name: &&str| EnvironmentName::parse(name).expect("a name");
            let arguments = CreateArguments {
                name: "ci".to_owned(),
                scopes: scopes.iter().map(|scope| scope.parse().expect("a scope")).collect(),
                environments: environments.iter().map(environment).collect(),
                projects: Vec::new(),
                expires: None,
            };
            arguments.body()["scopes"].clone()
        };
        assert_eq!(body(&[], &[]), Value::Null, "whatever you may do");
        assert_eq!(
            body(&["deployment:create@test,prod/store", "pipeline:read"], &[]),
            json!([
                { "permission": "deployment:create", "environments": ["prod", "test"], "projects": ["store"] },
                { "permission": "pipeline:read" },
            ])
        );
        assert_eq!(
            body(&["deployment:create", "usage:read@prod"], &["test"]),
            json!([
                { "permission": "deployment:create", "environments": ["test"] },
                { "permission": "usage:read", "environments": ["prod"] },
            ])
        );
        assert!("deployment:create@No Slug".parse::<ScopeArgument>().is_err());
    }

    #[test]
    fn scopes_are_told_in_words() {
        let mut tokens = json!({ "items": [
            { "name": "ci", "scopes": [
                { "permission": "deployment:create", "environments": ["prod", "test"], "projects": ["store"] },
                { "permission": "policy:read" },
            ] },
            { "name": "all" },
        ] });
        put_scopes_in_words(&mut tokens);
        assert_eq!(
            tokens["items"],
            json!([
                { "name": "ci", "scopes": ["deployment:create (prod test; project store)", "policy:read"] },
                { "name": "all", "scopes": "all" },
            ])
        );
    }
}
