//! Schemas, completion scripts, versions.

use clap::{Args, CommandFactory as _};
use serde_json::json;

use super::{Arguments, Context};
use crate::failure::Failure;
use crate::output::{Output, print_out};

/// Arguments of `tollgate schema`.
#[derive(Args)]
pub(crate) struct SchemaArguments {
    /// The kind of resource file.
    #[arg(value_parser = ["pipeline", "policy", "consumer", "global", "group", "issuer", "role"])]
    kind: String,
}

/// Arguments of `tollgate completion`.
#[derive(Args)]
pub(crate) struct CompletionArguments {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints the JSON Schema of a kind of resource file: JSON in every format, since that is what editors read.
pub(crate) fn schema(output: &Output, arguments: &SchemaArguments) -> Result<(), Failure> {
    let schema = tollgate_model::document::schema(&arguments.kind)
        .ok_or_else(|| Failure::usage(format!("there is no kind `{}`", arguments.kind)))?;
    match output.format() {
        crate::output::Format::Yaml => output.document(&schema),
        _ => print_out(&format!("{schema:#}\n")),
    }
    Ok(())
}

/// Prints a completion script.
pub(crate) fn completion(arguments: &CompletionArguments) {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "tollgate", &mut script);
    print_out(&String::from_utf8_lossy(&script));
}

/// Prints the version of this program, and of the server when one answers.
pub(crate) async fn version(context: &Context<'_>) {
    let client = env!("CARGO_PKG_VERSION");
    let server = context.client.get("/version").await.ok();
    let server =
        server.as_ref().and_then(|answer| answer.get("version")).and_then(|version| version.as_str());
    let sentence = match server {
        Some(server) => format!("tollgate {client} (server {} runs {server})", context.client.server()),
        None => format!("tollgate {client}"),
    };
    context.output.done(&json!({ "client": client, "server": server }), &sentence);
}
