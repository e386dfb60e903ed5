//! The command line: what can be asked, and who answers it.
//!
//! Each child module holds the arguments and the doing of one noun. Commands talk to the management API only;
//! what the API does not offer, the command line can't do. `user recover` alone opens the store, because it is there for
//! when nobody can sign in.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::profile::Target;

mod access;
mod accounts;
mod apply;
mod attest;
mod basic_auth;
mod certificates;
mod change_requests;
mod check;
mod confirm;
mod conformance;
mod consumers;
mod dependents;
mod deployments;
mod environments;
mod evidence;
mod explain;
mod files;
mod globals;
mod groups;
mod impact;
mod issuers;
mod journal;
mod keys;
mod passwords;
mod pipelines;
mod policies;
mod realm_settings;
mod reasons;
mod recovery;
mod resources;
mod roles;
mod sarif;
mod second_factor;
mod secrets;
mod sessions;
mod shadow;
mod signing_keys;
mod standings;
mod times;
mod tokens;
mod tools;
mod traffic;
mod trials;
mod usage;
mod users;
mod versions;
mod waivers;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  refused by policy
  4  not found
  5  not permitted

The server and the token come from the flags, then TOLLGATE_SERVER and
TOLLGATE_TOKEN, then the profile that `tollgate login` writes, and last from
./tollgate-data/admin-token with http://127.0.0.1:7000.";

const GLOBAL: &str = "Global options";

/// The policy-enforcing gateway for HTTP APIs: nothing goes out without the authentication that its
/// environment demands.
#[derive(Parser)]
#[command(name = "tollgate", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Address of the management API [default: the profile's, else http://127.0.0.1:7000].
    #[arg(long, global = true, env = "TOLLGATE_SERVER", value_name = "URL", hide_env_values = true, help_heading = GLOBAL)]
    server: Option<String>,

    /// API token (`tgu_…`); prefer the environment variable, which other users of this machine can't see.
    #[arg(long, global = true, env = "TOLLGATE_TOKEN", value_name = "TOKEN", hide_env_values = true, help_heading = GLOBAL)]
    token: Option<String>,

    /// Realm to work in.
    #[arg(long, global = true, env = "TOLLGATE_REALM", default_value = "default", hide_env_values = true, help_heading = GLOBAL)]
    realm: String,

    /// How to print data on stdout: table, json or yaml; words for people go to stderr.
    #[arg(long, short, global = true, value_enum, default_value_t, hide_possible_values = true, help_heading = GLOBAL)]
    pub(crate) output: Format,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts the whole product: gateway, management API, store.
    Up(crate::up::UpArguments),

    /// Signs in and keeps the session in the profile.
    Login(sessions::LoginArguments),
    /// Revokes the profile's token and forgets it.
    Logout,
    /// Shows who the token belongs to.
    Whoami,
    /// Your API tokens.
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// Your password.
    #[command(subcommand)]
    Password(passwords::PasswordCommand),
    /// Codes of an authenticator app beside your password.
    #[command(subcommand)]
    SecondFactor(second_factor::SecondFactorCommand),
    /// Sign-ins that are open.
    #[command(subcommand)]
    Session(sessions::SessionCommand),

    /// Saves the resources in files.
    Apply(apply::ApplyArguments),
    /// Shows what `apply` would change.
    Diff(apply::DiffArguments),
    /// Shows resources.
    Get(resources::GetArguments),
    /// Deletes a resource.
    Delete(resources::DeleteArguments),
    /// Writes a file to start from.
    #[command(subcommand)]
    New(pipelines::NewCommand),
    /// Turns on what the policies of an environment demand of a pipeline, and saves that as its next version.
    Mend(pipelines::MendArguments),
    /// Judges pipeline files without saving them, offline or by a server's policies, for CI.
    Check(check::CheckArguments),

    /// Deploys a pipeline version.
    Deploy(deployments::DeployArguments),
    /// Stops a deployment.
    Undeploy(deployments::UndeployArguments),
    /// Deploys in one environment what runs in another.
    Promote(deployments::PromoteArguments),
    /// Deploys an earlier version again.
    Rollback(deployments::RollbackArguments),
    /// Lists deployments, and whether they conform today.
    Deployments(deployments::ListArguments),
    /// Lists what was deployed in an environment, newest first.
    History(deployments::HistoryArguments),
    /// Prints the OpenAPI document of what runs, for those who call it.
    Openapi(deployments::OpenapiArguments),
    /// Lists the last runs of a scheduled pipeline.
    Runs(deployments::RunsArguments),

    /// What exposed pipelines must demand of their callers.
    #[command(subcommand)]
    Policy(policies::PolicyCommand),
    /// What one person asks for and another approves, where the realm wants four eyes.
    #[command(subcommand)]
    ChangeRequest(change_requests::ChangeRequestCommand),
    /// Ends four eyes in a realm, on the server's machine and with the server stopped, when nobody is left to approve.
    FourEyesOff(crate::up::FourEyesOffArguments),
    /// Violations that do not count until a date.
    #[command(subcommand)]
    Waiver(waivers::WaiverCommand),
    /// Where pipelines run.
    #[command(subcommand)]
    Environment(environments::EnvironmentCommand),
    /// Organisations on this server.
    #[command(subcommand)]
    Realm(environments::RealmCommand),

    /// Who may call.
    #[command(subcommand)]
    Consumer(consumers::ConsumerCommand),
    /// API keys of consumers.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Basic Auth credentials of consumers.
    #[command(subcommand)]
    BasicAuth(basic_auth::BasicAuthCommand),
    /// Client certificates of consumers, which count as API keys at mTLS listeners.
    #[command(subcommand)]
    Certificate(certificates::CertificateCommand),
    /// Issuers outside whose tokens are taken.
    #[command(subcommand)]
    Issuer(issuers::IssuerCommand),
    /// Tokens and the keys that sign them.
    #[command(subcommand)]
    Jwt(signing_keys::JwtCommand),

    /// Who can call what, and what nobody uses.
    #[command(subcommand)]
    Access(access::AccessCommand),
    /// Says what the gateway would answer to a call and why, or why a call was refused, check by check.
    Explain(explain::ExplainArguments),
    /// Runs a flow once on a sample message and shows the message after every step; upstreams are called for real.
    Try(trials::TryArguments),
    /// Lists calls that gateways refused, newest first.
    Refusals(explain::RefusalsArguments),

    /// Values for flows, per environment.
    #[command(subcommand)]
    Global(globals::GlobalCommand),
    /// Secrets for flows, per environment.
    #[command(subcommand)]
    Account(accounts::AccountCommand),

    /// Who can sign in to this server, and what they may do.
    #[command(subcommand)]
    User(users::UserCommand),
    /// Who holds which roles in the realm, and where.
    #[command(subcommand)]
    Group(groups::GroupCommand),
    /// Sets of permissions.
    #[command(subcommand)]
    Role(roles::RoleCommand),

    /// Signed statements of what was admitted where, and by whose rules.
    #[command(subcommand)]
    Attest(attest::AttestCommand),
    /// The journal: who changed what, when.
    #[command(subcommand)]
    Audit(journal::AuditCommand),
    /// The keys that sign attestations and checkpoints.
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
    /// Shows what became of calls and how long they took, by pipeline, consumer and problem.
    Traffic(traffic::TrafficArguments),
    /// Shows the last calls to the server's gateway, and goes on with --follow.
    Calls(traffic::CallsArguments),
    /// Counts the calls by deployment, caller and credentials.
    Usage(usage::UsageArguments),

    /// Prints the JSON Schema of a kind of resource file, for editors.
    Schema(tools::SchemaArguments),
    /// Prints a completion script.
    Completion(tools::CompletionArguments),
    /// Prints the version of this program, and of the server when one answers.
    Version,
}

/// What every command gets.
pub(crate) struct Context<'a> {
    pub(crate) client: Client,
    pub(crate) output: &'a Output,
}

/// Runs a command.
///
/// # Errors
///
/// [`Failure`], with what to tell the caller and the exit code.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> Result<ExitCode, Failure> {
    let Arguments { server, token, realm, command, .. } = arguments;
    let connect_as_of = |at: Option<Timestamp>| {
        // A variable that is set to nothing, as scripts and CI do for a value they lack, says nothing.
        let said = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let target = Target::find(said(&server).as_deref(), said(&token).as_deref());
        Ok::<_, Failure>(Context { client: Client::new(target, realm.clone())?.reading_then(at), output })
    };
    let connect = || connect_as_of(None);
    match command {
        Command::Up(arguments) => crate::up::run(arguments).await?,
        Command::Login(arguments) => sessions::login(&connect()?, arguments).await?,
        Command::Logout => sessions::logout(output, realm).await?,
        Command::Whoami => sessions::whoami(&connect()?).await?,
        Command::Token(command) => tokens::token(&connect()?, command).await?,
        Command::Password(command) => passwords::run(&connect()?, command).await?,
        Command::SecondFactor(command) => second_factor::run(&connect()?, command).await?,
        Command::Session(command) => sessions::session(&connect()?, command).await?,
        Command::Apply(arguments) => apply::apply(&connect()?, arguments).await?,
        Command::Diff(arguments) => return apply::diff(&connect()?, arguments).await,
        Command::Get(arguments) => {
            resources::get(&connect_as_of(arguments.past.as_of)?, arguments).await?;
        }
        Command::Delete(arguments) => resources::delete(&connect()?, arguments).await?,
        Command::New(command) => pipelines::new(&connect()?, command).await?,
        Command::Mend(arguments) => pipelines::mend(&connect()?, arguments).await?,
        Command::Check(arguments) => return check::check(connect, &realm, output, arguments).await,
        Command::Deploy(arguments) => deployments::deploy(&connect()?, arguments).await?,
        Command::Undeploy(arguments) => deployments::undeploy(&connect()?, arguments).await?,
        Command::Promote(arguments) => deployments::promote(&connect()?, arguments).await?,
        Command::Rollback(arguments) => deployments::rollback(&connect()?, arguments).await?,
        Command::Deployments(arguments) => {
            deployments::list(&connect_as_of(arguments.past.as_of)?, arguments).await?;
        }
        Command::History(arguments) => deployments::history(&connect()?, arguments).await?,
        Command::Openapi(arguments) => deployments::openapi(&connect()?, arguments).await?,
        Command::Runs(arguments) => deployments::runs(&connect()?, arguments).await?,
        Command::Policy(command) => policies::run(&connect_as_of(command.as_of())?, command).await?,
        Command::ChangeRequest(command) => change_requests::run(&connect()?, command).await?,
        Command::FourEyesOff(arguments) => crate::up::end_four_eyes(arguments, &realm).await?,
        Command::Waiver(command) => waivers::run(&connect()?, command).await?,
        Command::Environment(command) => environments::environment(&connect()?, command).await?,
        Command::Realm(command) => environments::realm(&connect()?, command).await?,
        Command::Consumer(command) => consumers::run(&connect()?, command).await?,
        Command::Key(command) => return keys::run(connect, output, command).await,
        Command::BasicAuth(command) => basic_auth::run(&connect()?, command).await?,
        Command::Certificate(command) => certificates::run(&connect()?, command).await?,
        Command::Issuer(command) => issuers::run(&connect()?, command).await?,
        Command::Jwt(command) => signing_keys::run(&connect()?, command).await?,
        Command::Access(command) => access::run(&connect_as_of(command.as_of())?, command).await?,
        Command::Explain(arguments) => explain::explain(&connect()?, arguments).await?,
        Command::Try(arguments) => trials::run(&connect()?, arguments).await?,
        Command::Refusals(arguments) => explain::refusals(&connect()?, arguments).await?,
        Command::Global(command) => globals::run(&connect()?, command).await?,
        Command::Account(command) => accounts::run(&connect()?, command).await?,
        Command::User(command) => users::run(connect, output, command).await?,
        Command::Group(command) => groups::run(&connect()?, command).await?,
        Command::Role(command) => roles::run(&connect()?, command).await?,
        Command::Attest(command) => return attest::run(connect, output, command).await,
        Command::Audit(command) => return journal::run(connect, output, command).await,
        Command::Evidence(command) => evidence::run(&connect()?, command).await?,
        Command::Traffic(arguments) => traffic::traffic(&connect()?, arguments).await?,
        Command::Calls(arguments) => traffic::calls(&connect()?, arguments).await?,
        Command::Usage(arguments) => usage::usage(&connect()?, arguments).await?,
        Command::Schema(arguments) => tools::schema(output, &arguments)?,
        Command::Completion(arguments) => tools::completion(&arguments),
        Command::Version => tools::version(&connect()?).await,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    /// Writes the help of a command and of all below it.
    fn reference(command: &mut clap::Command, path: &str, out: &mut String) {
        let help = command.clone().bin_name(path).term_width(100).render_long_help().to_string();
        // The global options are the same everywhere.
        let help = help.split("\nGlobal options:").next().unwrap_or_default().trim_end();
        out.push_str(&format!("## {path}\n\n```text\n{help}\n```\n\n"));
        for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
            let path = format!("{path} {}", child.get_name());
            reference(child, &path, out);
        }
    }

    fn whole_reference() -> String {
        let mut out = "# Command line\n\nEvery command with its help, as `tollgate COMMAND --help` prints it. Written by\n\
                       `cargo test -p tollgate -- --ignored write_the_reference`.\n\n"
            .to_owned();
        out.push_str(&format!("```text\n{EXIT_CODES}\n```\n\n"));
        reference(&mut Arguments::command(), "tollgate", &mut out);
        out.trim_end().to_owned() + "\n"
    }

    const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");

    #[test]
    fn the_reference_is_what_the_commands_say_of_themselves() {
        let written = std::fs::read_to_string(REFERENCE).unwrap_or_default();
        assert!(
            written == whole_reference(),
            "run the ignored test write_the_reference and read the difference"
        );
    }

    #[test]
    #[ignore = "writes docs/cli.md"]
    fn write_the_reference() {
        std::fs::write(REFERENCE, whole_reference()).expect("writes");
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn visit(command: &clap::Command) {
            for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
                assert!(child.get_about().is_some(), "`{}` has no help", child.get_name());
                visit(child);
            }
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "`{} {}` has no help",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
        visit(&Arguments::command());
    }
}
