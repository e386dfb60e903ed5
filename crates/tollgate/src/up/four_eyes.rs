//! `tollgate four-eyes-off`: the way in for whoever runs the machine, when nobody is left who could approve.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tollgate_app::access::{Actor, Op, Rights};
use tollgate_app::change_requests::end_four_eyes;
use tollgate_model::ids::RequestId;
use tollgate_model::names::RealmName;
use tollgate_model::sources::{Clock as _, Random as _};
use tollgate_store::Store;

use super::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::{print_out, say};
use crate::system::{SystemClock, SystemRandom};

/// Arguments of `tollgate four-eyes-off`.
#[derive(Args)]
pub(crate) struct FourEyesOffArguments {
    /// Directory that the server keeps everything in.
    #[arg(long, value_name = "DIR", default_value = "./tollgate-data", env = "TOLLGATE_DATA")]
    data: PathBuf,
    /// `postgres://…` instead of the embedded database; prefer the environment variable when it holds a password.
    #[arg(long, value_name = "URL", env = "TOLLGATE_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Ends four eyes in a realm, in the store itself.
pub(crate) async fn run(arguments: FourEyesOffArguments, realm: &str) -> Result<(), Failure> {
    let FourEyesOffArguments { data, database, reason } = arguments;
    let realm = RealmName::parse(realm).map_err(|error| Failure::usage(error.to_string()))?;
    // Held until the end: no server runs on this directory meanwhile.
    let directory;
    let url = match database {
        Some(url) => url,
        None if !data.join("tollgate.db").is_file() => {
            return Err(Failure::not_found(format!("there is no database in {}", data.display()))
                .hint("name the server's data directory with --data, or its database with --database"));
        }
        None => {
            directory = DataDir::open(&data)?;
            directory.sqlite_url()
        }
    };
    let store = Store::open(&url).await.context("cannot open the store").map_err(Failure::from)?;
    let now = SystemClock.now();
    let mut random = [0; 10];
    SystemRandom.fill(&mut random).context("the system gives no randomness").map_err(Failure::from)?;
    let op = Op {
        actor: Actor::new(None, "operator", Rights::none()),
        source: "cli".to_owned(),
        request_id: RequestId::new(now, random),
        now,
        realm,
    };
    end_four_eyes(&store, &op, &reason).await.map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error.hint {
            Some(hint) => failure.hint(match &error.next {
                Some(step) => crate::next_steps::with_command(&hint, step),
                None => hint.into(),
            }),
            None => failure,
        }
    })?;
    print_out(&format!("realm {} wants no second person any more\n", op.realm));
    say!("hint: the journal shows this as realm.end-four-eyes; turn it on again with `tollgate realm set`");
    Ok(())
}
