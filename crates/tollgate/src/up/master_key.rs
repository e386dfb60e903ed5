//! Where the master key comes from: a command, the environment, a file, or the data directory.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;
use tollgate_credential::seal::MasterKey;

use super::data_dir::DataDir;
use crate::profile::write_secret;
use crate::system::SystemRandom;

/// Arguments about the master key.
#[derive(Args)]
pub(crate) struct MasterKeyArguments {
    /// File with the master key (32 bytes in base64) that seals account values and private signing keys. Without,
    /// TOLLGATE_MASTER_KEY, else DATA/master.key, which the first start makes.
    #[arg(long, value_name = "PATH", env = "TOLLGATE_MASTER_KEY_FILE")]
    master_key_file: Option<PathBuf>,
    /// Command that prints the master key, run by `sh -c`.
    #[arg(
        long,
        value_name = "COMMAND",
        env = "TOLLGATE_MASTER_KEY_COMMAND",
        conflicts_with = "master_key_file"
    )]
    master_key_command: Option<String>,
}

/// Finds the master key; makes one in the data directory when nothing else is said and there is none.
pub(crate) fn find(arguments: &MasterKeyArguments, data: &DataDir) -> anyhow::Result<MasterKey> {
    if let Some(command) = &arguments.master_key_command {
        return from_command(command);
    }
    if let Some(path) = &arguments.master_key_file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the master key from {}", path.display()))?;
        return MasterKey::parse(&text).with_context(|| format!("{} holds no master key", path.display()));
    }
    #[expect(clippy::disallowed_methods, reason = "this is the binary")]
    if let Ok(text) = std::env::var("TOLLGATE_MASTER_KEY") {
        return MasterKey::parse(&text).context("TOLLGATE_MASTER_KEY holds no master key");
    }
    in_data_dir(data)
}

fn from_command(command: &str) -> anyhow::Result<MasterKey> {
    let output =
        Command::new("sh").arg("-c").arg(command).output().context("cannot run the master key command")?;
    if !output.status.success() {
        bail!("the master key command ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("the master key command printed no text")?;
    MasterKey::parse(&text).context("the master key command printed no master key")
}

fn in_data_dir(data: &DataDir) -> anyhow::Result<MasterKey> {
    let path = data.master_key_path();
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            MasterKey::parse(&text).with_context(|| format!("{} holds no master key", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = MasterKey::generate(&SystemRandom)?;
            write_secret(&path, key.expose_secret().as_bytes())?;
            Ok(key)
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the master key from {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> MasterKeyArguments {
        MasterKeyArguments { master_key_file: None, master_key_command: None }
    }

    #[test]
    fn the_first_start_makes_a_key_that_later_ones_find() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(parent.path()).expect("opens");
        let made = find(&none(), &data).expect("makes").expose_secret();
        assert_eq!(find(&none(), &data).expect("finds").expose_secret(), made);
    }

    #[test]
    fn a_broken_source_is_an_error_and_never_a_new_key() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(parent.path()).expect("opens");
        std::fs::write(data.master_key_path(), "not a key").expect("writes");
        assert!(find(&none(), &data).is_err());
        for command in ["exit 1", "echo not a key"] {
            let arguments = MasterKeyArguments { master_key_command: Some(command.to_owned()), ..none() };
            assert!(find(&arguments, &data).is_err(), "{command}");
        }
    }
}
