//! What a call costs, side by side: Tollgate, HAProxy, nginx, Envoy, and a bare hyper server that checks nothing.
//!
//! `cargo xtask bench gateway [ROUNDS [SECONDS [JOB…]]]` installs the others and starts this; `only=nginx,haproxy` among the
//! jobs leaves the others out. Every server runs on one core, the load
//! generator on another. Each must first refuse what is to be refused ([`credentials`]), else it does not count. Then they
//! take turns for several rounds, and medians are printed: calls per second, latency, and what the server's process used
//! of its core for each call, which is the figure that a slow client distorts least.
//!
//! Jobs with a size ([`sizes`]) are of Tollgate alone: what a million keys and ten thousand pipelines cost it.

mod bare;
mod credentials;
mod envoy;
mod ground;
mod haproxy;
mod kept;
mod load;
mod many;
mod nginx;
mod plain_http;
mod process;
mod report;
mod sizes;
mod tollgate;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};

use credentials::{Bad, Job, Pair};
use ground::Ground;
use load::Measured;
use process::Process;

/// The answer of every server: 200 bytes.
pub(crate) const BODY: &str = concat!(
    r#"{"products":[{"id":1,"name":"Lamp","price":32.5},{"id":2,"name":"Desk","price":249},"#,
    r#"{"id":3,"name":"Chair","price":119.9},{"id":4,"name":"Shelf","price":79.95}],"total":4,"#,
    r#""next":"/v1/r?page=2&size=4"}"#
);

/// A server that is ready to be called.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    /// Good credentials, used in turn.
    pub(crate) pairs: Vec<Pair>,
    /// What it must refuse; empty for a server that checks nothing.
    pub(crate) bad: Vec<(Bad, Pair)>,
}

/// What came of one contender in all rounds of a job.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Measured>,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", "floor", port] => bare::serve(port, None),
        ["serve", "proxy", port, upstream] => bare::serve(port, Some(upstream)),
        [tollgate, envoy, rounds, seconds, ref jobs @ ..] => {
            let rounds = rounds.parse().context("ROUNDS is a number")?;
            let seconds: f64 = seconds.parse().context("SECONDS is a number")?;
            let time = Duration::from_secs_f64(seconds);
            let (only, jobs): (Vec<&str>, Vec<&str>) = jobs.iter().partition(|it| it.starts_with("only="));
            let only: Vec<&str> =
                only.iter().filter_map(|it| it.strip_prefix("only=")).flat_map(|it| it.split(',')).collect();
            let (of_size, beside): (Vec<&str>, Vec<&str>) =
                jobs.iter().partition(|job| sizes::SizedJob::is_named(job));
            let of_size: Vec<_> = of_size.iter().map(|job| job.parse()).collect::<anyhow::Result<_>>()?;
            let beside: Vec<Job> = beside.iter().map(|job| job.parse()).collect::<anyhow::Result<_>>()?;
            let beside = if jobs.is_empty() { Job::ALL.to_vec() } else { beside };
            if !beside.is_empty() {
                run(tollgate, envoy, rounds, time, &beside, &only)?;
            }
            of_size.iter().try_for_each(|job| sizes::run(tollgate, rounds, time, job))
        }
        _ => bail!("start it with `cargo xtask bench gateway`"),
    }
}

/// Measures those of `only` beside the floor, or all when it names none.
fn run(
    tollgate: &str,
    envoy: &str,
    rounds: usize,
    time: Duration,
    jobs: &[Job],
    only: &[&str],
) -> anyhow::Result<()> {
    let wants = |name| only.is_empty() || only.contains(&name);
    anyhow::ensure!(BODY.len() == 200, "the answer has {} bytes", BODY.len());
    let ground = Ground::prepare(envoy)?;
    let mut product = tollgate::Tollgate::start(tollgate, &ground)?;
    for job in jobs {
        println!("\n{}", job.title());
        let mut contenders = vec![bare::floor(&ground, *job)?];
        let mut others = Vec::new();
        others.extend(wants("nginx").then(|| nginx::start(&ground, *job)));
        others.extend(wants("haproxy").then(|| haproxy::start(&ground, *job)));
        others.extend(wants("envoy").then(|| envoy::start(&ground, *job, envoy::Cache::Off)));
        if job.has_token() {
            others.extend(wants("envoy").then(|| envoy::start(&ground, *job, envoy::Cache::On)));
        }
        others.push(product.contender(&ground, *job));
        for other in others {
            match other {
                Ok(contender) => contenders.push(contender),
                Err(error) => println!("  left out: {error:#}"),
            }
        }
        let mut counted = Vec::new();
        for contender in contenders {
            match credentials::verify(&contender, *job) {
                Ok(()) => counted.push(contender),
                Err(error) => println!("  {} does not count: {error:#}", contender.name),
            }
        }
        let mut outcomes: Vec<Outcome> =
            counted.iter().map(|it| Outcome { name: it.name, rounds: Vec::new() }).collect();
        for round in 0..rounds {
            for (contender, outcome) in counted.iter_mut().zip(&mut outcomes) {
                if job.uses_each_token_once() && round > 0 && product.owns(contender) {
                    contender.pairs = product.fresh_pairs(&ground)?;
                }
                outcome.rounds.push(load::measure(contender, *job, time)?);
            }
        }
        report::print(&outcomes);
        product.take_back(counted);
    }
    Ok(())
}
