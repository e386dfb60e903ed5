//! `tollgate access …`: who can call what, and what nobody uses.

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};

use super::Context;
use super::times::AsOfArgument;
use crate::answers::{items, number, text};
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Column, Format, print_out, table};

/// `tollgate access …`
#[derive(Subcommand)]
pub(crate) enum AccessCommand {
    /// Tells who can call a pipeline, by which credentials, and who does.
    Callers {
        /// The pipeline.
        pipeline: PipelineName,
        /// Only this environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: Option<EnvironmentName>,
        #[command(flatten)]
        past: AsOfArgument,
    },
    /// Tells what a consumer can call.
    Of {
        /// The consumer.
        consumer: ConsumerName,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Lists the associations and credentials that nobody used for some days.
    Unused {
        /// For how many days: 1 to 90, as long as calls are counted.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=90))]
        days: u16,
        /// Only this environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: Option<EnvironmentName>,
    },
}

const CALLERS: &[Column] = &[
    ("ENVIRONMENT", "/environment"),
    ("VERSION", "/version"),
    ("DEMANDS", "/demands"),
    ("CALLER", "/caller"),
    ("CAN CALL", "/canCall"),
    ("BY", "/by"),
    ("CALLS", "/calls"),
    ("LAST CALL", "/lastCall"),
];

const DEPLOYMENTS: &[Column] = &[
    ("PIPELINE", "/pipeline"),
    ("VERSION", "/version"),
    ("METHODS", "/methods"),
    ("URL", "/url"),
    ("DEMANDS", "/demands"),
    ("CAN CALL", "/canCall"),
    ("CALLS", "/calls"),
    ("LAST CALL", "/lastCall"),
];

const ASSOCIATIONS: &[Column] = &[
    ("ENVIRONMENT", "/environment"),
    ("CONSUMER", "/consumer"),
    ("PIPELINE", "/pipeline"),
    ("DEPLOYED", "/deployed"),
    ("LAST CALL", "/lastCall"),
    ("VERDICT", "/verdict"),
];

const KEYS: &[Column] = &[
    ("ENVIRONMENT", "/environment"),
    ("CONSUMER", "/consumer"),
    ("KEY", "/name"),
    ("HINT", "/hint"),
    ("ID", "/id"),
    ("CREATED", "/createdAt"),
    ("LAST USED", "/lastUsedAt"),
    ("VERDICT", "/verdict"),
];

const CERTIFICATES: &[Column] = &[
    ("ENVIRONMENT", "/environment"),
    ("CONSUMER", "/consumer"),
    ("CERTIFICATE", "/name"),
    ("ID", "/id"),
    ("CREATED", "/createdAt"),
    ("LAST USED", "/lastUsedAt"),
    ("VERDICT", "/verdict"),
];

const BASIC_AUTH: &[Column] = &[
    ("ENVIRONMENT", "/environment"),
    ("CONSUMER", "/consumer"),
    ("USERNAME", "/name"),
    ("ID", "/id"),
    ("CREATED", "/createdAt"),
    ("LAST USED", "/lastUsedAt"),
    ("VERDICT", "/verdict"),
];

// === impl AccessCommand ===

impl AccessCommand {
    /// Returns the time that it asks about, when it asks the past.
    pub(crate) fn as_of(&self) -> Option<Timestamp> {
        match self {
            Self::Callers { past, .. } => past.as_of,
            _ => None,
        }
    }
}

/// Runs `tollgate access …`.
pub(crate) async fn run(context: &Context<'_>, command: AccessCommand) -> Result<(), Failure> {
    let client = &context.client;
    let (path, people): (String, fn(&Value) -> String) = match &command {
        AccessCommand::Callers { pipeline, env, past: _ } => {
            let path = client.realm_path(&["pipelines", pipeline.as_str(), "callers"]);
            (with_query(path, [("environment", env.as_ref().map(ToString::to_string))]), callers)
        }
        AccessCommand::Of { consumer, env } => {
            (client.environment_path(env.as_str(), &["consumers", consumer.as_str(), "access"]), of_consumer)
        }
        AccessCommand::Unused { days, env } => {
            let path = client.realm_path(&["access", "unused"]);
            let asked =
                [("days", Some(days.to_string())), ("environment", env.as_ref().map(ToString::to_string))];
            (with_query(path, asked), unused)
        }
    };
    let document = client.get(&path).await?;
    if context.output.format() == Format::Table {
        print_out(&people(&document));
    } else {
        context.output.document(&document);
    }
    Ok(())
}

fn with_query<const N: usize>(path: String, asked: [(&str, Option<String>); N]) -> String {
    let asked = asked.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(&value?))));
    let asked = asked.collect::<Vec<_>>().join("&");
    if asked.is_empty() { path } else { format!("{path}?{asked}") }
}

fn callers(document: &Value) -> String {
    let mut rows = Vec::new();
    for deployment in items(document, "deployments") {
        let row = |caller: Value, can_call: Value, by: Value, usage: Option<&Value>| {
            let usage = usage.filter(|usage| !usage.is_null());
            json!({
                "environment": deployment.get("environment"), "version": deployment.get("version"),
                "demands": demands(deployment), "caller": caller, "canCall": can_call, "by": by,
                "calls": usage.map(|usage| number(usage, "calls")), "lastCall": usage.and_then(|it| it.get("lastCall")),
            })
        };
        let unknown = deployment.get("unknownCalls");
        if deployment.get("anybody") == Some(&Value::Bool(true)) {
            let can_call = refusal(deployment).map_or_else(|| json!(true), Value::from);
            rows.push(row(json!("anybody"), can_call, Value::Null, unknown));
        } else {
            let callers = items(deployment, "callers");
            if callers.is_empty() {
                rows.push(row(json!("nobody"), json!(false), Value::Null, unknown));
            }
            for caller in callers {
                let name = caller.get("consumer").cloned().unwrap_or_default();
                rows.push(row(
                    name,
                    can_call(deployment, caller),
                    by(deployment, caller),
                    caller.get("usage"),
                ));
            }
        }
    }
    let mut out = table(&rows, CALLERS);
    for waiting in items(document, "notDeployed") {
        let consumers: Vec<_> = items(waiting, "consumers").iter().filter_map(Value::as_str).collect();
        let environment = text(waiting, "environment");
        out.push_str(&format!("not deployed in {environment}; associated: {}\n", consumers.join(", ")));
    }
    out
}

fn of_consumer(document: &Value) -> String {
    let mut rows = Vec::new();
    for deployment in items(document, "deployments") {
        let caller = deployment.get("caller").unwrap_or(&Value::Null);
        let usage = caller.get("usage").filter(|usage| !usage.is_null());
        let can_call = if caller.is_null() {
            refusal(deployment).map_or_else(|| json!("yes, as anybody"), Value::from)
        } else {
            can_call(deployment, caller)
        };
        for route in items(deployment, "routes") {
            let exposure = text(route, "exposure");
            let listener = document.get("listeners").map(|it| text(it, exposure)).unwrap_or_default();
            let url = if listener.is_empty() {
                format!("{exposure}: {}", text(route, "path"))
            } else {
                format!("http://{listener}{}", text(route, "path"))
            };
            let mut demands = demands(deployment);
            let scopes: Vec<_> = items(route, "scopes").iter().filter_map(Value::as_str).collect();
            if !scopes.is_empty() {
                demands.push_str(&format!(" with {}", scopes.join(" ")));
            }
            rows.push(json!({
                "pipeline": deployment.get("pipeline"), "version": deployment.get("version"),
                "methods": route.get("methods"), "url": url, "demands": demands, "canCall": can_call,
                "calls": usage.map(|usage| number(usage, "calls")), "lastCall": usage.and_then(|it| it.get("lastCall")),
            }));
        }
    }
    let mut out = table(&rows, DEPLOYMENTS);
    let waiting: Vec<_> = items(document, "notDeployed").iter().filter_map(Value::as_str).collect();
    if !waiting.is_empty() {
        out.push_str(&format!("associated, and not deployed: {}\n", waiting.join(", ")));
    }
    out
}

fn unused(document: &Value) -> String {
    let judged = |field: &str| -> Vec<Value> {
        let rows = items(document, field).iter().cloned().map(|mut row| {
            let is = |name: &str| row.get(name) == Some(&Value::Bool(true));
            let verdict = match (is("tooYoung"), is("uncertain")) {
                (true, _) => "too young to tell",
                (false, true) => "unused, as far as callers were told apart",
                (false, false) => "unused",
            };
            if let Some(fields) = row.as_object_mut() {
                fields.insert("verdict".to_owned(), verdict.into());
            }
            row
        });
        rows.collect()
    };
    format!(
        "since {}\n\nassociations without a call:\n{}\nAPI keys that were not used:\n{}\n\
         client certificates that were not shown:\n{}\nBasic Auth credentials that were not used:\n{}",
        text(document, "since"),
        table(&judged("associations"), ASSOCIATIONS),
        table(&judged("keys"), KEYS),
        table(&judged("certificates"), CERTIFICATES),
        table(&judged("basicAuth"), BASIC_AUTH),
    )
}

/// Says what a deployment demands.
fn demands(deployment: &Value) -> String {
    let demands = deployment.get("demands").unwrap_or(&Value::Null);
    let is = |name: &str| demands.get(name) == Some(&Value::Bool(true));
    let words = [
        ("apiKey", "API key"),
        ("certificate", "client certificate"),
        ("basicAuth", "Basic Auth"),
        ("token", "token"),
    ];
    let words: Vec<_> = words.into_iter().filter(|(name, _)| is(name)).map(|(_, word)| word).collect();
    match (words.is_empty(), items(deployment, "routes").is_empty()) {
        (_, true) => "exposes nothing".to_owned(),
        (true, false) => "nothing".to_owned(),
        (false, false) => words.join(" + "),
    }
}

/// Says that the policies refuse the calls to a deployment, or will.
fn refusal(deployment: &Value) -> Option<String> {
    let refused = deployment.get("refused")?;
    (refused.get("now") == Some(&Value::Bool(true)))
        .then(|| format!("no: refused, {}", text(refused, "reason")))
}

fn can_call(deployment: &Value, caller: &Value) -> Value {
    if caller.get("canCall") == Some(&Value::Bool(true)) {
        let until = deployment.get("refused").map(|refused| format!("yes, until {}", text(refused, "from")));
        return until.map_or(json!(true), Value::from);
    }
    let lacks = items(caller, "lacks").iter().map(|it| match it.as_str() {
        Some("apiKey") => "an API key",
        Some("certificate") => "a client certificate",
        Some("basicAuth") => "Basic Auth credentials",
        _ => "credentials",
    });
    let lacks: Vec<_> = lacks.collect();
    if lacks.is_empty() {
        refusal(deployment).map_or(json!(false), Value::from)
    } else {
        format!("no: lacks {}", lacks.join(" and ")).into()
    }
}

/// Says by which credentials a consumer can call.
fn by(deployment: &Value, caller: &Value) -> Value {
    let keys =
        items(caller, "keys").iter().map(|key| format!("key {} …{}", text(key, "name"), text(key, "hint")));
    let users =
        items(caller, "usernames").iter().filter_map(Value::as_str).map(|name| format!("user {name}"));
    let certificates =
        items(caller, "certificates").iter().map(|it| format!("certificate {}", text(it, "name")));
    let mut by: Vec<String> = keys.chain(certificates).chain(users).collect();
    if deployment.pointer("/demands/token") == Some(&Value::Bool(true)) {
        by.push("token".to_owned());
    }
    json!(by)
}
