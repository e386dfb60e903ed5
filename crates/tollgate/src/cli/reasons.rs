//! Why somebody changes the rules: asked for at a terminal, reminded of elsewhere.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;
use crate::output::say;

/// Returns the reason that was given, or asks for one.
///
/// At a terminal an empty line is an answer; where nobody can be asked, a hint says how to give one.
///
/// # Errors
///
/// When the terminal cannot be read.
pub(crate) fn ask(given: Option<&str>) -> Result<String, Failure> {
    if let Some(reason) = given {
        return Ok(reason.trim().to_owned());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        say!("hint: say why with --reason: the version and the journal keep it");
        return Ok(String::new());
    }
    let failed = |error: std::io::Error| Failure::new(format!("cannot ask for the reason: {error}"));
    let mut out = std::io::stderr().lock();
    out.write_all(b"reason, for the version and the journal: ").and_then(|()| out.flush()).map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(line.trim().to_owned())
}
