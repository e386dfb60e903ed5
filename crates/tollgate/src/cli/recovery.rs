//! `tollgate user recover`: the one command besides `up` that opens the store itself, because it is there for when
//! nobody can sign in to the API. Whoever may run it could write the store anyway.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tollgate_app::App;
use tollgate_app::errors::ErrorKind;
use tollgate_credential::seal::MasterKey;
use tollgate_model::names::UserName;
use tollgate_store::Store;

use crate::failure::Failure;
use crate::output::{Format, Output, print_out, say};
use crate::system::{SystemClock, SystemRandom};
use crate::up::sqlite_path;

/// Arguments of `tollgate user recover`.
#[derive(Args)]
pub(crate) struct RecoverArguments {
    /// Who can't sign in any more.
    name: UserName,
    /// Directory in which the server keeps everything.
    #[arg(long, value_name = "DIR", default_value = "./tollgate-data", env = "TOLLGATE_DATA")]
    data: PathBuf,
    /// `postgres://…`, when the server uses it; prefer the environment variable when it holds a password.
    #[arg(long, value_name = "URL", env = "TOLLGATE_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Revokes the user's API tokens, too: somebody else may have made some.
    #[arg(long)]
    end_tokens: bool,
}

/// Makes that a user can sign in again.
pub(crate) async fn recover(output: &Output, arguments: RecoverArguments) -> Result<(), Failure> {
    let url = match arguments.database {
        Some(url) => url,
        None => {
            let path = sqlite_path(&arguments.data);
            if !path.is_file() {
                return Err(Failure::not_found(format!("there is no store in {}", arguments.data.display()))
                    .hint("name the server's data directory with --data, or its database with --database"));
            }
            format!("sqlite:{}", path.display())
        }
    };
    let store = Store::open(&url).await.context("cannot open the store")?;
    let random = Arc::new(SystemRandom);
    // Nothing is sealed and nothing opened here, so that the server's own master key need not be at hand.
    let master = Arc::new(MasterKey::generate(random.as_ref()).context("cannot make a key")?);
    let app = App::new(store, master, Arc::new(SystemClock), random);
    let mut op = app.system_op().map_err(anyhow::Error::from)?;
    "cli".clone_into(&mut op.source);
    let recovered = app.users().recover(&op, &arguments.name, arguments.end_tokens).await;
    let recovered = recovered.map_err(|error| {
        let failure = match error.kind {
            ErrorKind::NotFound => Failure::not_found(error.to_string()),
            _ => Failure::new(format!("{:#}", with_sources(&error))),
        };
        error.hint.iter().fold(failure, |failure, hint| failure.hint(hint.clone()))
    })?;
    let password = recovered.password.expose_secret();
    let document = json!({
        "user": recovered.user.name,
        "temporaryPassword": password,
        "removedSecondFactor": recovered.had_second_factor,
        "endedSessions": recovered.ended_sessions,
        "endedApiTokens": recovered.ended_api_tokens,
    });
    if output.format() == Format::Table {
        print_out(&format!("{password}\n"));
    } else {
        output.document(&document);
    }
    let factor = if recovered.had_second_factor { "their second factor is off, " } else { "" };
    say!(
        "{} can sign in with this temporary password (shown this once); {factor}{} sessions and {} API tokens ended",
        recovered.user.name,
        recovered.ended_sessions,
        recovered.ended_api_tokens
    );
    say!("hint: `tollgate login --user {}`, then `tollgate password change`", recovered.user.name);
    Ok(())
}

/// Writes an error with what caused it: whoever runs this has no log of a server to look into.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}
