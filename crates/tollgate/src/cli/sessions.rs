//! Who asks: signing in and out, and the sessions that sign-ins begin.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::UserName;

use super::{Context, secrets};
use crate::answers::{number, text};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, say};
use crate::profile::{Profile, Target};

/// Arguments of `tollgate login`.
#[derive(Args)]
pub(crate) struct LoginArguments {
    /// User name.
    #[arg(long, default_value = "admin")]
    user: String,
    /// Reads the password from stdin instead of asking on the terminal.
    #[arg(long)]
    password_stdin: bool,
    /// Code of the second factor, or a recovery code; on a terminal it is asked for when it is needed.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
}

/// `tollgate session …`
#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// Lists your sessions, or those of another user.
    List {
        /// Whose; without, yours.
        #[arg(long)]
        user: Option<UserName>,
    },
    /// Ends a session, or several.
    End(EndArguments),
}

/// Arguments of `tollgate session end`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "others", "all"]))]
pub(crate) struct EndArguments {
    /// Id of the session, `utk_…`.
    id: Option<UserTokenId>,
    /// All of yours but the one of this command.
    #[arg(long, conflicts_with = "user")]
    others: bool,
    /// All of the user's.
    #[arg(long, requires = "user")]
    all: bool,
    /// Whose; without, yours.
    #[arg(long)]
    user: Option<UserName>,
}

/// Signs in with a password, and a code where there is a second factor, and keeps the session in the profile.
pub(crate) async fn login(context: &Context<'_>, arguments: LoginArguments) -> Result<(), Failure> {
    use std::io::IsTerminal as _;

    secrets::demand_terminal(arguments.password_stdin)?;
    let password = secrets::ask("password")?;
    let mut body = json!({ "user": arguments.user, "password": password, "tokenName": "tollgate login" });
    if let Some(code) = arguments.code {
        put(&mut body, "code", code);
    }
    let mut answer = match context.client.post("/login", &body).await {
        Err(Failure::Problem { body: problem, .. })
            if text(&problem, "code") == "second-factor-required" && std::io::stdin().is_terminal() =>
        {
            put(&mut body, "code", secrets::ask("code")?);
            context.client.post("/login", &body).await?
        }
        answered => answered?,
    };
    let token = answer.as_object_mut().and_then(|fields| fields.remove("token"));
    let Some(token) = token.as_ref().and_then(|token| token.as_str()) else {
        return Err(Failure::new("the server answered without a token"));
    };
    let before = Profile::read().filter(|profile| profile.server == context.client.server());
    let profile = Profile { server: context.client.server().to_owned(), token: token.to_owned() };
    let path = profile.write()?;
    if let Some(before) = before {
        // Nothing knows the token of the session before any more: it would stay open for weeks.
        let target = Target { server: before.server, token: Some(before.token) };
        let _ = context.client.with(target)?.post("/logout", &json!({})).await;
    }
    context.output.done(
        &answer,
        &format!("signed in to {} as {}; token kept in {}", profile.server, arguments.user, path.display()),
    );
    match text(&answer, "duty") {
        "change-password" => {
            say!("the password is a temporary one: choose one of your own with `tollgate password change`");
        }
        "enrol-second-factor" => {
            say!("a second factor is demanded: begin with `tollgate second-factor enrol`");
        }
        _ => {}
    }
    Ok(())
}

/// Revokes the profile's token and forgets it, even when the server is gone.
///
/// No other token: the admin's in the data directory and that of the environment were not made by a sign-in, and
/// nothing would bring them back.
pub(crate) async fn logout(output: &Output, realm: String) -> Result<(), Failure> {
    let Some(profile) = Profile::read() else {
        // A profile that cannot be read is of no use to anybody.
        if !Profile::remove() {
            return Err(Failure::new("nobody is signed in: there is no profile").hint(
                "API tokens that `tollgate login` did not make are revoked with `tollgate token revoke`",
            ));
        }
        output.done(&json!({ "signedOut": true }), "signed out");
        return Ok(());
    };
    let target = Target { server: profile.server, token: Some(profile.token) };
    let client = Client::new(target, realm)?;
    let revoked = client.post("/logout", &json!({})).await;
    Profile::remove();
    match revoked {
        Ok(_) | Err(Failure::Problem { status: 401, .. }) => {}
        Err(_) => say!("warning: the token could not be revoked on {}", client.server()),
    }
    output.done(&json!({ "signedOut": true }), "signed out");
    Ok(())
}

/// Shows who the token belongs to.
pub(crate) async fn whoami(context: &Context<'_>) -> Result<(), Failure> {
    let mut answer = context.client.get("/whoami").await?;
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("server".to_owned(), context.client.server().into());
    }
    context.output.document(&answer);
    Ok(())
}

/// Runs `tollgate session …`.
pub(crate) async fn session(context: &Context<'_>, command: SessionCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        SessionCommand::List { user } => {
            let sessions = client.list(&path(user.as_ref(), "")).await?;
            context.output.list(
                &sessions,
                &[
                    ("ID", "/id"),
                    ("THIS ONE", "/current"),
                    ("CLIENT", "/client"),
                    ("FROM", "/source"),
                    ("USER AGENT", "/userAgent"),
                    ("CREATED", "/createdAt"),
                    ("LAST USED", "/lastUsedAt"),
                    ("EXPIRES", "/expiresAt"),
                ],
            );
        }
        SessionCommand::End(EndArguments { id: Some(id), user, .. }) => {
            client.delete(&path(user.as_ref(), &format!("/{}", segment(&id.to_string())))).await?;
            context.output.done(&json!({ "id": id.to_string(), "ended": true }), &format!("ended {id}"));
        }
        SessionCommand::End(EndArguments { others, user, .. }) => {
            let which = if others { "/end-others" } else { "/end-all" };
            let ended = client.post(&path(user.as_ref(), which), &json!({})).await?;
            context.output.done(&ended, &format!("ended {} sessions", number(&ended, "endedSessions")));
        }
    }
    Ok(())
}

/// Returns the path of sessions, one's own or those of a user.
fn path(user: Option<&UserName>, rest: &str) -> String {
    match user {
        Some(user) => format!("/users/{}/sessions{rest}", segment(user.as_str())),
        None => format!("/sessions{rest}"),
    }
}

fn put(body: &mut Value, field: &str, value: String) {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(field.to_owned(), value.into());
    }
}
