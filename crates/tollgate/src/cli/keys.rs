//! `tollgate key …`: API keys of consumers.

mod confirmations;
mod scan;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tollgate_model::names::{ConsumerName, EnvironmentName};
use tollgate_model::sources::Clock as _;

use super::{Context, secrets};
use crate::failure::Failure;
use crate::output::{Column, Format, Output};

/// `tollgate key …`
#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    #[command(flatten)]
    Managed(ManagedKeyCommand),
    /// Finds keys and API tokens that leaked into files and the history of git repositories; needs no server.
    #[command(after_help = scan::EXIT_CODES)]
    Scan(scan::ScanArguments),
}

/// What a server does with keys.
#[derive(Subcommand)]
pub(crate) enum ManagedKeyCommand {
    /// Makes a key for a consumer and prints it once.
    Create {
        #[command(flatten)]
        key: NewKey,
    },
    /// Lists a consumer's keys.
    List {
        /// The consumer.
        consumer: ConsumerName,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Lists the keys of all consumers that stop working by themselves soon.
    Expiring {
        /// Within so many days: 1 to 90.
        #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..=90))]
        days: u16,
    },
    /// Makes a key that takes another's place; both work during the overlap.
    Rotate {
        /// The key's id, `key_…`.
        id: String,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
        /// How long the old key goes on working. The new one lives as long as the old one was to live.
        #[arg(long, value_name = "DURATION", default_value = "24h", conflicts_with = "until_unused")]
        overlap: Lifetime,
        /// Ends the old key when it had no call for this time, at least 1m.
        #[arg(long, value_name = "DURATION")]
        until_unused: Option<Lifetime>,
        /// With --until-unused: ends the old key after this time, used or not.
        #[arg(long, value_name = "DURATION", default_value = "30d", requires = "until_unused")]
        at_latest: Lifetime,
    },
    /// Revokes a key: dead everywhere within a second.
    Revoke {
        /// The key's id, `key_…`.
        id: String,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
        /// Returns when every gateway refuses the key; exits with 1, naming those that lag, when one does not in time.
        #[arg(long)]
        wait: bool,
        /// How long --wait waits.
        #[arg(long, value_name = "DURATION", default_value = "30s")]
        timeout: Lifetime,
    },
    /// Takes over a key from another system, read from stdin or a file.
    Import {
        #[command(flatten)]
        key: NewKey,
        /// Reads the key from this file instead of stdin.
        #[arg(long, value_name = "PATH")]
        key_file: Option<PathBuf>,
    },
}

/// A key to be.
#[derive(Args)]
pub(crate) struct NewKey {
    /// Whose key.
    consumer: ConsumerName,
    /// The environment that it works in.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// What to call it, to tell keys apart.
    #[arg(long, default_value = "default")]
    name: String,
    /// How long it works, for example `90d`; without, until it is revoked.
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<Lifetime>,
}

/// A length of time as people write it: `90d`, `24h`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime(SignedDuration);

const KEY_COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("ENDS IN", "/hint"),
    ("STATE", "/state"),
    ("CREATED", "/createdAt"),
    ("EXPIRES", "/expiresAt"),
    ("LAST USED", "/lastUsedAt"),
    ("ENDS UNUSED AFTER", "/shown/unused"),
    ("REPLACED BY", "/replacedBy"),
];

/// How long before a key expires `key list` warns.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Runs `tollgate key …`.
pub(crate) async fn run<'a>(
    connect: impl FnOnce() -> Result<Context<'a>, Failure>,
    output: &Output,
    command: KeyCommand,
) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::Scan(arguments) => scan::scan(connect, output, arguments).await,
        KeyCommand::Managed(command) => managed(&connect()?, command).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn managed(context: &Context<'_>, command: ManagedKeyCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        ManagedKeyCommand::Create { key } => {
            let path =
                client.environment_path(key.env.as_str(), &["consumers", key.consumer.as_str(), "keys"]);
            let made = client.post(&path, &Value::Object(key.body())).await?;
            show_new(context, &made);
        }
        ManagedKeyCommand::Import { key, key_file } => {
            let secret = match key_file {
                Some(path) => secrets::from_file("the key", &path)?,
                None => secrets::ask("key")?,
            };
            let mut body = key.body();
            body.insert("key".to_owned(), secret.into());
            let parts = ["consumers", key.consumer.as_str(), "keys", "import"];
            let made =
                client.post(&client.environment_path(key.env.as_str(), &parts), &Value::Object(body)).await?;
            let id = made.get("id").and_then(Value::as_str).unwrap_or_default();
            context.output.done(&made, &format!("imported {id} for {} in {}", key.consumer, key.env));
        }
        ManagedKeyCommand::List { consumer, env } => {
            let path = client.environment_path(env.as_str(), &["consumers", consumer.as_str(), "keys"]);
            let mut keys = client.list(&path).await?;
            if context.output.format() == Format::Table {
                prepare(&mut keys);
            }
            context.output.list(&keys, KEY_COLUMNS);
        }
        ManagedKeyCommand::Expiring { days } => {
            let path = format!("{}?days={days}", client.realm_path(&["expiring-keys"]));
            context.output.list(&client.list(&path).await?, EXPIRING_COLUMNS);
        }
        ManagedKeyCommand::Rotate { id, env, overlap, until_unused, at_latest } => {
            let path = client.environment_path(env.as_str(), &["keys", &id, "rotate"]);
            let body = match until_unused {
                None => json!({ "overlapSeconds": overlap.as_secs() }),
                Some(unused) => {
                    json!({ "overlapSeconds": at_latest.as_secs(), "untilUnusedSeconds": unused.as_secs() })
                }
            };
            let made = client.post(&path, &body).await?;
            show_new(context, &made);
        }
        ManagedKeyCommand::Revoke { id, env, wait, timeout } => {
            let path = client.environment_path(env.as_str(), &["keys", &id, "revoke"]);
            let mut key = client.post(&path, &json!({})).await?;
            let mut words = format!("revoked {id}");
            if wait {
                let told = confirmations::wait(client, &key, timeout).await?;
                words.push_str(&format!(": {} refuse it", confirmations::counted(&told)));
                if let Some(fields) = key.as_object_mut() {
                    fields.insert("confirmation".to_owned(), told);
                }
            }
            context.output.done(&key, &words);
        }
    }
    Ok(())
}

const EXPIRING_COLUMNS: &[Column] = &[
    ("EXPIRES", "/expiresAt"),
    ("ENVIRONMENT", "/environment"),
    ("CONSUMER", "/consumer"),
    ("KEY", "/name"),
    ("HINT", "/hint"),
    ("ID", "/id"),
    ("ROTATED", "/replaced"),
];

/// Puts into words, for people, how keys end, and warns of those that run out.
fn prepare(keys: &mut Value) {
    let now = crate::system::SystemClock.now();
    for key in keys.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        let seconds = key.get("retireUnusedSeconds").and_then(Value::as_i64);
        let text = |field: &str| key.get(field).and_then(Value::as_str).unwrap_or_default();
        let ends: Option<Timestamp> = text("expiresAt").parse().ok();
        let runs_out = text("state") == "active" && text("replacedBy").is_empty();
        if runs_out && ends.is_some_and(|ends| ends.duration_since(now) <= WARN_BEFORE) {
            let (id, ends) = (text("id"), text("expiresAt"));
            crate::output::say!(
                "warning: {id} runs out at {ends}: rotate it with `tollgate key rotate {id}`"
            );
        }
        if let (Some(seconds), Some(fields)) = (seconds, key.as_object_mut()) {
            let unused = format!("{:#}", SignedDuration::from_secs(seconds));
            fields.insert("shown".to_owned(), json!({ "unused": unused }));
        }
    }
}

/// Prints a new key: the secret is in this output and nowhere else.
fn show_new(context: &Context<'_>, made: &Value) {
    if context.output.format() == Format::Table {
        let text = |field: &str| made.get(field).and_then(Value::as_str).unwrap_or("-");
        crate::output::print_out(&format!("{}\n", text("key")));
        crate::output::say!("key {} of {}: keep it now, it is not shown again", text("id"), text("consumer"));
    } else {
        context.output.document(made);
    }
}

// === impl NewKey ===

impl NewKey {
    fn body(&self) -> Map<String, Value> {
        let mut body = Map::from_iter([("name".to_owned(), self.name.clone().into())]);
        if let Some(lifetime) = self.expires_in {
            body.insert("expiresAt".to_owned(), lifetime.ends_at().to_string().into());
        }
        body
    }
}

// === impl Lifetime ===

impl Lifetime {
    /// Returns the moment at which something that begins now ends.
    pub(crate) fn ends_at(self) -> Timestamp {
        let now = crate::system::SystemClock.now();
        now.checked_add(self.0).unwrap_or(Timestamp::MAX)
    }

    /// Returns whole seconds.
    pub(crate) fn as_secs(self) -> i64 {
        self.0.as_secs()
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{input}` is no length of time: write for example `90d`, `24h` or `30m`");
        let span: jiff::Span = input.parse().map_err(|_| wrong())?;
        let days = jiff::SpanRelativeTo::days_are_24_hours();
        let duration = span.to_duration(days).map_err(|_| wrong())?;
        if duration.is_negative() { Err(wrong()) } else { Ok(Self(duration)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        let seconds = |text: &str| text.parse::<Lifetime>().map(Lifetime::as_secs);
        assert_eq!(seconds("90d"), Ok(90 * 86_400));
        assert_eq!(seconds("24h"), Ok(86_400));
        assert_eq!(seconds("1h30m"), Ok(5_400));
        assert_eq!(seconds("0s"), Ok(0));
        for bad in ["", "soon", "-1d", "1y2mo", "90"] {
            assert!(seconds(bad).is_err(), "{bad} was taken");
        }
    }
}
