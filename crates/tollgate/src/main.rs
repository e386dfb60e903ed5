//! Tollgate: gateway, management API and command line in one binary.
//!
//! This crate is the only place that reads arguments, environment variables, settings files and the system's
//! clock; everything else gets them as arguments.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod client;
mod failure;
mod output;
mod profile;
mod system;
mod up;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let output = output::Output::new(arguments.output);
    match runtime.block_on(cli::run(arguments, &output)) {
        Ok(code) => code,
        Err(failure) => failure.report(&output),
    }
}
