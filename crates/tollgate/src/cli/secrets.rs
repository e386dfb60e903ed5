//! Secrets that a person hands to a command: from a terminal, a pipe or a file, never from the arguments,
//! which every user of the machine can read.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

use crate::failure::Failure;

/// Longest secret read, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Refuses to wait for a secret on a stdin that is neither a terminal nor said to hold it.
///
/// # Errors
///
/// A usage failure that says what to add.
pub(crate) fn demand_terminal(password_stdin: bool) -> Result<(), Failure> {
    if password_stdin || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::usage("stdin is not a terminal").hint("add --password-stdin to read the password from it"))
}

/// Asks for a secret to be kept from now on: on a terminal twice, because nobody sees what is typed.
///
/// # Errors
///
/// A usage failure when nothing was given, or not the same twice.
pub(crate) fn ask_new(what: &str) -> Result<String, Failure> {
    let secret = ask(what)?;
    if std::io::stdin().is_terminal() && ask(&format!("{what} again"))? != secret {
        return Err(Failure::usage(format!("the {what} was not typed the same twice")));
    }
    Ok(secret)
}

/// Asks for one line: on a terminal without showing it, else from stdin.
///
/// # Errors
///
/// A usage failure when nothing was given.
pub(crate) fn ask(what: &str) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let secret = if stdin.is_terminal() {
        rpassword::prompt_password(format!("{what}: ")).map_err(|error| failed(what, &error))?
    } else {
        let mut line = String::new();
        stdin.lock().take(MAX_SECRET_BYTES).read_line(&mut line).map_err(|error| failed(what, &error))?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if secret.is_empty() {
        return Err(Failure::usage(format!("no {what} given: write it on stdin")));
    }
    Ok(secret)
}

/// Reads a secret file; one line break at its end is not part of the secret.
///
/// # Errors
///
/// When the file can't be read, is empty or too long.
pub(crate) fn from_file(what: &str, path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| Failure::new(format!("cannot read {what} from {}: {error}", path.display())))?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(Failure::new(format!("{what} in {} is longer than 64 KiB", path.display())));
    }
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        return Err(Failure::usage(format!("{} is empty", path.display())));
    }
    Ok(secret.to_owned())
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read the {what}: {error}"))
}
