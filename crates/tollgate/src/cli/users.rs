//! `tollgate user …`: who can sign in to this server, and what they may do.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_model::names::{GroupName, UserName};

use super::{Context, recovery, secrets};
use crate::answers::items;
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Column, Format, Output, table};

/// `tollgate user …`
#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Makes a user; their first password is made up and printed once, or read from stdin.
    Create(CreateArguments),
    /// Lists the users of the server.
    List {
        /// Only those whose name contains this.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// Shows a user.
    Get {
        /// Their name.
        name: UserName,
    },
    /// Shows what a user may do in the realm, and through which groups.
    Rights {
        /// Their name.
        name: UserName,
    },
    /// Keeps a user from signing in and from all that their tokens could do, at once.
    Disable {
        /// Their name.
        name: UserName,
    },
    /// Lets a user sign in again.
    Enable {
        /// Their name.
        name: UserName,
    },
    /// Gives another user a temporary password, and ends all their sessions and API tokens.
    ResetPassword {
        /// Their name.
        name: UserName,
        /// Reads the password from stdin instead of making one up.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Ends all sessions and API tokens of a user.
    EndSessions {
        /// Their name.
        name: UserName,
    },
    /// On the server's machine: gives a user who can't sign in a new temporary password, and turns off their second
    /// factor. Works while the server runs.
    Recover(recovery::RecoverArguments),
    /// Deletes a user with their tokens, and takes them out of all groups.
    Delete {
        /// Their name.
        name: UserName,
    },
}

/// Arguments of `tollgate user create`.
#[derive(Args)]
pub(crate) struct CreateArguments {
    /// What they sign in with.
    name: UserName,
    /// A group of realm `default` to put them into; repeatable, or separated by commas.
    #[arg(long = "group", value_name = "GROUP", value_delimiter = ',')]
    groups: Vec<GroupName>,
    /// Reads the password from stdin instead of making one up.
    #[arg(long)]
    password_stdin: bool,
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("STATE", "/state"),
    ("TEMPORARY PASSWORD", "/passwordIsTemporary"),
    ("GROUPS", "/shown"),
    ("CREATED", "/createdAt"),
];

const RIGHTS: &[Column] = &[
    ("PERMISSION", "/permission"),
    ("ENVIRONMENTS", "/environments"),
    ("PROJECTS", "/projects"),
    ("GROUP", "/group"),
    ("ROLE", "/role"),
];

/// Runs `tollgate user …`.
///
/// All but recovery talk to the server that `connect` finds.
pub(crate) async fn run<'a>(
    connect: impl FnOnce() -> Result<Context<'a>, Failure>,
    output: &Output,
    command: UserCommand,
) -> Result<(), Failure> {
    if let UserCommand::Recover(arguments) = command {
        return recovery::recover(output, arguments).await;
    }
    let context = &connect()?;
    let client = &context.client;
    match command {
        UserCommand::Recover(_) => {}
        UserCommand::Create(arguments) => create(context, arguments).await?,
        UserCommand::List { search } => {
            let query = search.map(|text| format!("?search={}", segment(&text))).unwrap_or_default();
            let mut users = client.list(&format!("/users{query}")).await?;
            if context.output.format() == Format::Table {
                show_groups(&mut users);
            }
            context.output.list(&users, COLUMNS);
        }
        UserCommand::Get { name } => context.output.document(&client.get(&path(&name, "")).await?),
        UserCommand::Rights { name } => rights(context, &name).await?,
        UserCommand::Disable { name } => {
            let user = client.post(&path(&name, "/disable"), &json!({})).await?;
            context.output.done(&user, &format!("disabled {name}"));
        }
        UserCommand::Enable { name } => {
            let user = client.post(&path(&name, "/enable"), &json!({})).await?;
            context.output.done(&user, &format!("enabled {name}"));
        }
        UserCommand::ResetPassword { name, password_stdin } => {
            let body = json!({ "password": password(password_stdin)? });
            let user = client.post(&path(&name, "/reset-password"), &body).await?;
            tell_password(context, &user, &format!("reset the password of {name}"));
        }
        UserCommand::EndSessions { name } => {
            let ended = client.post(&path(&name, "/end-sessions"), &json!({})).await?;
            let count = ended.get("ended").and_then(Value::as_u64).unwrap_or_default();
            context.output.done(&ended, &format!("ended {count} sessions and API tokens of {name}"));
        }
        UserCommand::Delete { name } => {
            client.delete(&path(&name, "")).await?;
            context.output.done(&json!({ "name": name, "deleted": true }), &format!("deleted user {name}"));
        }
    }
    Ok(())
}

async fn create(context: &Context<'_>, arguments: CreateArguments) -> Result<(), Failure> {
    let CreateArguments { name, groups, password_stdin } = arguments;
    let body = json!({ "name": name, "groups": groups, "password": password(password_stdin)? });
    let user = context.client.post("/users", &body).await?;
    tell_password(context, &user, &format!("created user {name}"));
    if groups.is_empty() && context.output.format() == Format::Table {
        crate::output::say!("{name} may do nothing yet: `tollgate group add GROUP {name}`");
    }
    Ok(())
}

async fn rights(context: &Context<'_>, name: &UserName) -> Result<(), Failure> {
    let path = context.client.realm_path(&["users", name.as_str(), "rights"]);
    let rights = context.client.get(&path).await?;
    if context.output.format() != Format::Table {
        context.output.document(&rights);
        return Ok(());
    }
    let mut rows = items(&rights, "items").to_vec();
    for row in &mut rows {
        for limit in ["environments", "projects"] {
            if let Some(fields) = row.as_object_mut().filter(|fields| !fields.contains_key(limit)) {
                fields.insert(limit.to_owned(), "all".into());
            }
        }
    }
    crate::output::print_out(&table(&rows, RIGHTS));
    if rights.get("disabled").and_then(Value::as_bool) == Some(true) {
        crate::output::say!("{name} is disabled, and can do none of it now");
    }
    Ok(())
}

/// Puts the groups of each user in one cell: `GROUP` of realm `default`, `REALM/GROUP` of others.
fn show_groups(users: &mut Value) {
    for user in users.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        let groups = user.get("groups").and_then(Value::as_object).into_iter().flatten();
        let shown: Vec<Value> = groups
            .flat_map(|(realm, groups)| {
                let names = groups.as_array().into_iter().flatten().filter_map(Value::as_str);
                names.map(move |group| match realm.as_str() {
                    "default" => group.into(),
                    realm => format!("{realm}/{group}").into(),
                })
            })
            .collect();
        if let Some(fields) = user.as_object_mut() {
            fields.insert("shown".to_owned(), shown.into());
        }
    }
}

fn tell_password(context: &Context<'_>, user: &Value, done: &str) {
    let password = user.get("password").and_then(Value::as_str);
    let sentence = match password {
        Some(password) => format!("{done}, password {password}"),
        None => done.to_owned(),
    };
    context.output.done(user, &sentence);
    if password.is_some() {
        crate::output::say!("hand the password over now: it is not shown again, and is to be changed");
    }
}

fn password(from_stdin: bool) -> Result<Option<String>, Failure> {
    if from_stdin { secrets::ask("password").map(Some) } else { Ok(None) }
}

fn path(name: &UserName, rest: &str) -> String {
    format!("/users/{}{rest}", segment(name.as_str()))
}
