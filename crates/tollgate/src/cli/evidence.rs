//! `tollgate evidence …`: the keys that sign attestations and checkpoints, and reading what was signed.

use std::io::Read as _;
use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};
use tollgate_credential::evidence::keys::{EvidenceKeys, MAX_KEYS_BYTES, PublicKey};

use super::Context;
use crate::answers::text;
use crate::failure::Failure;
use crate::output::Format;

/// `tollgate evidence …`
#[derive(Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Lists the keys; with --output json prints the set that `--key` of other commands takes.
    Keys,
    /// Makes a new key the one that signs; what earlier keys signed stays verifiable for ever.
    Rotate,
}

/// Runs `tollgate evidence …`.
pub(crate) async fn run(context: &Context<'_>, command: EvidenceCommand) -> Result<(), Failure> {
    match command {
        EvidenceCommand::Keys => {
            let set = context.client.get("/evidence-keys").await?;
            if context.output.format() == Format::Table {
                let columns = &[("KID", "/kid"), ("SIGNED FROM", "/notBefore"), ("UNTIL", "/retiredAt")];
                context.output.list(&json!({ "items": set.get("keys") }), columns);
            } else {
                context.output.document(&set);
            }
        }
        EvidenceCommand::Rotate => {
            let key = context.client.post("/evidence-keys/rotate", &json!({})).await?;
            let sentence = format!("evidence is now signed with {}", text(&key, "kid"));
            context.output.done(&key, &sentence);
        }
    }
    Ok(())
}

/// Reads a file of published keys.
///
/// # Errors
///
/// [`Failure`] naming the file.
pub(super) fn read_keys(path: &Path) -> Result<EvidenceKeys, Failure> {
    let bytes = read_limited(path, MAX_KEYS_BYTES)?;
    EvidenceKeys::parse(&bytes).map_err(|error| {
        Failure::new(format!("{}: {error}", path.display()))
            .hint("keep the keys with `tollgate evidence keys --output json > KEYS.json`")
    })
}

/// Reads a file of so many bytes at most, or `-` for stdin.
///
/// # Errors
///
/// [`Failure`] naming the file.
pub(super) fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(max_bytes + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > max_bytes {
        return Err(Failure::new(format!("{name} is longer than {max_bytes} bytes: it is no such file")));
    }
    Ok(bytes)
}

/// Returns a key for programs.
pub(super) fn key_document(key: &PublicKey) -> Value {
    let mut document = json!({ "kid": key.kid(), "notBefore": key.not_before().to_string() });
    if let (Some(fields), Some(at)) = (document.as_object_mut(), key.retired_at()) {
        fields.insert("retiredAt".to_owned(), at.to_string().into());
    }
    document
}

/// Says when a key signed.
pub(super) fn key_sentence(key: &PublicKey) -> String {
    let (kid, from) = (key.kid(), key.not_before());
    match key.retired_at() {
        Some(until) => format!("{kid}, which signed from {from} until {until}"),
        None => format!("{kid}, which signs from {from} on"),
    }
}
