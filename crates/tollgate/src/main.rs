//! Tollgate: gateway, management API and command line in one binary.
//!
//! This crate is the only place that reads arguments, environment variables, settings files and the system's
//! clock; everything else gets them as arguments.

// These macros panic when nobody reads any more; `output` writes without.
#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use clap::Parser as _;
use serde_json::json;

use crate::output::say;

mod answers;
mod cli;
mod client;
mod failure;
mod next_steps;
mod output;
mod profile;
mod system;
mod up;

fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            say!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let output = output::Output::new(arguments.output);
    match runtime.block_on(cli::run(arguments, &output)) {
        Ok(_) if output::lost() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(failure) => failure.report(&output),
    }
}

/// Makes what everything runs in: a thread for each core, or, on one core, this thread. Threads that could take work from
/// each other pay for that on every call, and with one of them nobody is there to take any.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let is_single = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = if is_single {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

/// Tells about arguments that cannot be read, or prints the help that they ask for.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // The arguments were not read, and still say in which format the answer is expected.
        let format = output::Format::asked_in(std::env::args_os().skip(1));
        let text = error.render().to_string();
        let said = text.split("\n\n").next().unwrap_or_default();
        let title =
            said.strip_prefix("error: ").unwrap_or(said).split_whitespace().collect::<Vec<_>>().join(" ");
        if format != output::Format::Table {
            output::Output::new(format).document(&json!({ "title": title, "code": "usage" }));
        }
    }
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
