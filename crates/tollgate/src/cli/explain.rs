//! `tollgate explain …` and `tollgate refusals`: why a call is answered as it is.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};

use super::Context;
use crate::answers::{items, number, text};
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Column, Format, print_out, printable, say, table};

/// Arguments of `tollgate explain`.
#[derive(Args)]
pub(crate) struct ExplainArguments {
    /// A method, or the request id of a call that was refused (`req_…`).
    #[arg(value_name = "METHOD|REQUEST")]
    what: String,
    /// The URL of the call, or its path with --env.
    url: Option<String>,
    /// A header of the call, as `name: value`; repeatable. A value from a file keeps a secret out of the shell's
    /// history: `-H "apikey: $(cat key)"`.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The declared length of its body, in bytes.
    #[arg(long, value_name = "BYTES")]
    body_length: Option<u64>,
    /// The client certificate of the connection, a PEM file, with those of CAs between it and the root behind it; its key is
    /// not needed. The call is taken to come in at the listener that asks for one.
    #[arg(long, value_name = "PATH")]
    cert: Option<PathBuf>,
    /// The environment that is called; else the one that listens at the URL's address.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// Its internal listener is called.
    #[arg(long)]
    internal: bool,
    /// The address that the call comes from, for rate limits that count addresses.
    #[arg(long, value_name = "IP")]
    remote: Option<IpAddr>,
}

/// Arguments of `tollgate refusals`.
#[derive(Args)]
pub(crate) struct RefusalsArguments {
    /// Only calls to this pipeline.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<PipelineName>,
    /// Only on listeners of this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// Only of this consumer.
    #[arg(long, value_name = "NAME")]
    consumer: Option<ConsumerName>,
    /// Only with this code, for example `api-key-invalid`.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Only at or after this time, for example `2026-11-24T20:00:00Z`.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
}

const CHECKS: &[Column] = &[("CHECK", "/check"), ("OUTCOME", "/outcome"), ("WHY", "/why")];

const REFUSALS: &[Column] = &[
    ("AT", "/at"),
    ("REQUEST", "/requestId"),
    ("ENVIRONMENT", "/environment"),
    ("METHOD", "/method"),
    ("PATH", "/path"),
    ("PIPELINE", "/pipeline"),
    ("CONSUMER", "/consumer"),
    ("FROM", "/remote"),
    ("STATUS", "/status"),
    ("CODE", "/code"),
    ("WHY", "/why"),
];

/// Explains a call, or a refusal.
pub(crate) async fn explain(context: &Context<'_>, arguments: ExplainArguments) -> Result<(), Failure> {
    let client = &context.client;
    let (document, headline) = if arguments.what.starts_with("req_") {
        let id = RequestId::parse(&arguments.what).map_err(|error| Failure::usage(error.to_string()))?;
        if arguments.url.is_some() || !arguments.headers.is_empty() {
            return Err(Failure::usage("a refused call is known by its request id alone")
                .hint("leave the URL and the headers out"));
        }
        let document = client.get(&client.realm_path(&["refusals", &id.to_string()])).await?;
        let headline = format!(
            "{} {} in {} was answered {} {} at {}",
            text(&document, "method"),
            text(&document, "path"),
            text(&document, "environment"),
            number(&document, "status"),
            text(&document, "code"),
            text(&document, "at"),
        );
        (document, headline)
    } else {
        let Some(url) = &arguments.url else {
            return Err(Failure::usage("a URL is missing")
                .hint("write `tollgate explain GET http://127.0.0.1:7001/pipeline/default/v1/orders`"));
        };
        let (environment, exposure) = listener(context, &arguments, url).await?;
        let headers = arguments.headers.iter().map(|header| parse_header(header));
        let headers = headers.collect::<Result<Vec<_>, _>>()?;
        let certificate = arguments.cert.as_deref().map(super::certificates::read).transpose()?;
        let body = json!({
            "method": arguments.what, "url": url, "exposure": exposure, "headers": headers,
            "certificate": certificate, "bodyLength": arguments.body_length, "remote": arguments.remote,
        });
        let path = client.environment_path(environment.as_str(), &["explain"]);
        let document = client.post(&path, &body).await?;
        let answer = document.get("answer").unwrap_or(&Value::Null);
        let headline = match (answer.get("status").and_then(Value::as_u64), text(answer, "code")) {
            (None, _) => "would pass every check: its flow answers".to_owned(),
            (Some(status), "") => format!("would be answered {status}"),
            (Some(status), code) => format!("would be answered {status} {code}"),
        };
        (document, format!("{headline} ({environment}, {exposure} listener)"))
    };
    if context.output.format() != Format::Table {
        context.output.document(&document);
        return Ok(());
    }
    print_out(&for_people(&document, &headline));
    Ok(())
}

/// Lists refused calls.
pub(crate) async fn refusals(context: &Context<'_>, arguments: RefusalsArguments) -> Result<(), Failure> {
    let RefusalsArguments { pipeline, env, consumer, code, since } = arguments;
    let asked = [
        ("pipeline", pipeline.map(|name| name.to_string())),
        ("environment", env.map(|name| name.to_string())),
        ("consumer", consumer.map(|name| name.to_string())),
        ("code", code),
        ("since", since.map(|since| since.to_string())),
    ];
    let asked = asked.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(&value?))));
    let mut path = context.client.realm_path(&["refusals"]);
    let asked = asked.collect::<Vec<_>>().join("&");
    if !asked.is_empty() {
        path.push_str(&format!("?{asked}"));
    }
    let list = context.client.list(&path).await?;
    context.output.list(&list, REFUSALS);
    let not_kept = number(&list, "notKept");
    if not_kept > 0 {
        say!("{not_kept} more were refused and not kept: too many at that time");
    }
    Ok(())
}

/// Finds the listener that is called: by what was said, else by the URL's address.
async fn listener(
    context: &Context<'_>,
    arguments: &ExplainArguments,
    url: &str,
) -> Result<(String, &'static str), Failure> {
    let said = if arguments.internal { "internal" } else { "external" };
    if let Some(environment) = &arguments.env {
        return Ok((environment.to_string(), said));
    }
    let url = reqwest::Url::parse(url).map_err(|_| {
        Failure::usage("a path does not tell which environment is called").hint("name it: --env ENVIRONMENT")
    })?;
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    let listeners = context.client.get(&context.client.realm_path(&["listeners"])).await?;
    let listens = |it: &&Value| text(it, "address").parse().is_ok_and(|address| is_at(address, host, port));
    let Some(found) = items(&listeners, "items").iter().find(listens) else {
        return Err(Failure::usage(format!(
            "nothing of this realm listens at {host}:{port} in the process that was asked"
        ))
        .hint("name the environment: --env ENVIRONMENT, and --internal for its internal listener"));
    };
    let exposure = if text(found, "exposure") == "internal" { "internal" } else { "external" };
    if arguments.internal && exposure != "internal" {
        return Err(Failure::usage(format!("{host}:{port} is not an internal listener"))
            .hint("leave --internal out, or name the environment with --env"));
    }
    Ok((text(found, "environment").to_owned(), exposure))
}

/// Tells whether a listener is reached under a host and a port.
fn is_at(address: SocketAddr, host: &str, port: u16) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let reaches = match host.parse::<IpAddr>() {
        Ok(ip) => address.ip().is_unspecified() || ip == address.ip(),
        Err(_) => {
            host.eq_ignore_ascii_case("localhost")
                && (address.ip().is_loopback() || address.ip().is_unspecified())
        }
    };
    reaches && address.port() == port
}

fn parse_header(header: &str) -> Result<(String, String), Failure> {
    // Nothing of the header is said: it may be a secret.
    let (name, value) = header.split_once(':').ok_or_else(|| {
        Failure::usage("a header has no colon")
            .hint("write -H 'name: value', for example -H 'accept: text/plain'")
    })?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Writes an explanation for people: the answer, what the call is, and the checks that something demands.
fn for_people(document: &Value, headline: &str) -> String {
    let mut out = format!("{headline}\n");
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("  {name:<10} {}\n", printable(&value)));
        }
    };
    let pipeline = text(document, "pipeline");
    if !pipeline.is_empty() {
        line("pipeline", format!("{pipeline} {}", text(document, "version")));
        line("route", text(document, "route").to_owned());
    }
    line("consumer", text(document, "consumer").to_owned());
    if let Some(key) = document.get("key").filter(|key| !key.is_null()) {
        line("key", format!("{} …{} ({})", text(key, "name"), text(key, "hint"), text(key, "id")));
    }
    line("cert", text(document, "certificate").to_owned());
    let sent = document.get("sent").unwrap_or(&Value::Null);
    if let Some(key) = sent.get("apiKey") {
        line("sent key", format!("{} in the {}", text(key, "shown"), text(key, "place")));
    }
    line("sent cert", text(sent, "certificate").to_owned());
    if let Some(token) = sent.get("token").and_then(Value::as_object) {
        let claims = token.iter().map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name} {text}"),
            None => format!("{name} {value}"),
        });
        line("token says", claims.collect::<Vec<_>>().join(", "));
    }
    line("from", text(document, "remote").to_owned());
    if let Some(revision) = document.get("revision").and_then(Value::as_u64) {
        line("as of", format!("journal entry {revision}"));
    }
    let (demanded, others): (Vec<_>, Vec<_>) =
        items(document, "checks").iter().cloned().partition(|check| text(check, "outcome") != "notDemanded");
    let rows: Vec<Value> = demanded
        .into_iter()
        .map(|mut check| {
            let outcome = match text(&check, "outcome") {
                "notReached" => "not reached".to_owned(),
                "unavailable" => "can't be made".to_owned(),
                "failed" => "FAILED".to_owned(),
                other => other.to_owned(),
            };
            if let Some(fields) = check.as_object_mut() {
                fields.insert("outcome".to_owned(), outcome.into());
            }
            check
        })
        .collect();
    out.push('\n');
    out.push_str(&table(&rows, CHECKS));
    let others: Vec<_> = others.iter().map(|check| text(check, "check")).collect();
    if !others.is_empty() {
        out.push_str(&format!("not demanded: {}\n", others.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_the_address_under_which_it_is_reached() {
        let at = |address: &str, host: &str| is_at(address.parse().expect("an address"), host, 7001);
        assert!(at("127.0.0.1:7001", "127.0.0.1") && at("127.0.0.1:7001", "localhost"));
        assert!(at("0.0.0.0:7001", "192.0.2.1") && at("[::1]:7001", "[::1]"));
        assert!(!at("127.0.0.1:7002", "127.0.0.1") && !at("127.0.0.1:7001", "127.0.0.2"));
        assert!(!at("192.0.2.1:7001", "localhost") && !at("0.0.0.0:7001", "gateway.example"));
    }

    #[test]
    fn a_header_that_cannot_be_read_is_not_repeated() {
        assert_eq!(parse_header("apikey:  a:b ").expect("a header"), ("apikey".to_owned(), "a:b".to_owned()));
        let Err(failure) = parse_header("the-secret-itself") else { panic!("taken") };
        assert!(!format!("{failure:?}").contains("secret"));
    }
}
