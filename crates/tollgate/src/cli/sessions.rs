//! Who asks: sign in, sign out, API tokens.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, secrets};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Output;
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
}

/// `tollgate token …`
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes an API token and prints it once.
    Create {
        /// What to call it.
        name: String,
        /// How long it works, for example `90d`; without, until it is revoked.
        #[arg(long, value_name = "DURATION")]
        expires_in: Option<super::keys::Lifetime>,
    },
    /// Lists your API tokens.
    List,
    /// Revokes an API token.
    Revoke {
        /// Its id, `utk_…`.
        id: String,
    },
}

/// Signs in with a password and keeps an API token in the profile.
pub(crate) async fn login(context: &Context<'_>, arguments: LoginArguments) -> Result<(), Failure> {
    use std::io::IsTerminal as _;

    if !arguments.password_stdin && !std::io::stdin().is_terminal() {
        return Err(Failure::usage("stdin is not a terminal")
            .hint("add --password-stdin to read the password from it"));
    }
    let password = secrets::ask("password")?;
    let body = json!({ "user": arguments.user, "password": password, "tokenName": "tollgate login" });
    let mut answer = context.client.post("/login", &body).await?;
    let token = answer.as_object_mut().and_then(|fields| fields.remove("token"));
    let Some(token) = token.as_ref().and_then(|token| token.as_str()) else {
        return Err(Failure::new("the server answered without a token"));
    };
    let profile = Profile { server: context.client.server().to_owned(), token: token.to_owned() };
    let path = profile.write()?;
    context.output.done(
        &answer,
        &format!("signed in to {} as {}; token kept in {}", profile.server, arguments.user, path.display()),
    );
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
        Err(_) => crate::output::say!("warning: the token could not be revoked on {}", client.server()),
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

/// Runs `tollgate token …`.
pub(crate) async fn token(context: &Context<'_>, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, expires_in } => {
            let mut body = json!({ "name": name });
            if let (Some(lifetime), Some(fields)) = (expires_in, body.as_object_mut()) {
                fields.insert("expiresAt".to_owned(), lifetime.ends_at().to_string().into());
            }
            let token = context.client.post("/tokens", &body).await?;
            context.output.document(&token);
            crate::output::say!("keep the token now: it is not shown again");
        }
        TokenCommand::List => {
            let tokens = context.client.list("/tokens").await?;
            context.output.list(
                &tokens,
                &[("ID", "/id"), ("NAME", "/name"), ("CREATED", "/createdAt"), ("EXPIRES", "/expiresAt")],
            );
        }
        TokenCommand::Revoke { id } => {
            context.client.delete(&format!("/tokens/{}", crate::client::segment(&id))).await?;
            context.output.done(&json!({ "id": id, "revoked": true }), &format!("revoked {id}"));
        }
    }
    Ok(())
}
