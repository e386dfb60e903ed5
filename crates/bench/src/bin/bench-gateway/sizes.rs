//! Jobs of Tollgate alone, each with a size: `million`, `changes`, `busy` and `pipelines`, or `million=20000` for a smaller one.

use std::str::FromStr;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::credentials::Pair;
use crate::kept::Kept;
use crate::load::Measured;
use crate::many::{Many, PATH};

/// Keys of a server that is not large.
const FEW_KEYS: usize = 10_000;
/// Pipelines of a server that is not large.
const FEW_PIPELINES: usize = 10;
/// Changes that are timed.
const CHANGES: usize = 200;
/// Between two changes of a hundred a second.
const PAUSE: Duration = Duration::from_millis(10);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Start, memory and calls with few and many keys.
    Million,
    /// How long a change takes to be effective.
    Changes,
    /// Calls while keys change.
    Busy,
    /// Calls with few and many pipelines.
    Pipelines,
}

/// A job and its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SizedJob {
    what: What,
    size: usize,
}

// === impl SizedJob ===

impl SizedJob {
    /// Tells whether a name is that of such a job.
    pub(crate) fn is_named(name: &str) -> bool {
        let name = name.split('=').next().unwrap_or_default();
        ["million", "changes", "busy", "pipelines"].contains(&name)
    }
}

impl FromStr for SizedJob {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, size) = text.split_once('=').map_or((text, None), |(name, size)| (name, Some(size)));
        let (what, usual) = match name {
            "million" => (What::Million, 1_000_000),
            "changes" => (What::Changes, 1_000_000),
            "busy" => (What::Busy, 1_000_000),
            "pipelines" => (What::Pipelines, 10_000),
            _ => anyhow::bail!("there is no job `{name}`"),
        };
        let size = size.map(|size| size.parse().context("a size is a number")).transpose()?;
        Ok(Self { what, size: size.unwrap_or(usual) })
    }
}

/// Does a job and prints what came of it.
pub(crate) fn run(program: &str, rounds: usize, time: Duration, job: &SizedJob) -> anyhow::Result<()> {
    let size = job.size;
    match job.what {
        What::Million => {
            println!("\nmillion: start, memory and calls with {FEW_KEYS} and {size} keys");
            let mut servers =
                [Many::make("few keys", program, FEW_KEYS, 0)?, Many::make("many keys", program, size, 0)?];
            for server in &mut servers {
                start(server, rounds)?;
            }
            in_turns(&mut servers, rounds, time)
        }
        What::Pipelines => {
            println!("\npipelines: calls with {FEW_PIPELINES} and {size} deployed pipelines");
            let mut servers = [
                Many::make("few pipelines", program, FEW_KEYS, FEW_PIPELINES)?,
                Many::make("many pipelines", program, FEW_KEYS, size)?,
            ];
            for (server, pipelines) in servers.iter_mut().zip([FEW_PIPELINES, size]) {
                start(server, rounds)?;
                server.verify_pipelines(pipelines)?;
            }
            in_turns(&mut servers, rounds, time)
        }
        What::Changes => {
            for size in [FEW_KEYS, size] {
                println!("\nchanges: one key made or revoked among {size}, until a call is answered by it");
                let mut server = Many::make("keys", program, size, 0)?;
                server.start()?;
                changes(&server)?;
            }
            Ok(())
        }
        What::Busy => {
            println!("\nbusy: calls while 100 keys a second are made or revoked, among {size}");
            let mut server = Many::make("keys", program, size, 0)?;
            server.start()?;
            busy(&mut server, rounds, time)
        }
    }
}

/// Starts a server from its store and then from its snapshot on disk, several times.
fn start(server: &mut Many, rounds: usize) -> anyhow::Result<()> {
    let running = server.start()?;
    let (took, (memory, peak)) = (running.took, running.process.memory()?);
    println!("  from the store: ready after {} ms, {memory:.0} MiB, at most {peak:.0} MiB", took.as_millis());
    server.stop()?;
    let mut times = Vec::new();
    for round in 0..rounds.max(1) {
        if round > 0 {
            server.stop()?;
        }
        times.push(server.start()?.took);
    }
    let (memory, peak) = server.running()?.process.memory()?;
    let took = at(&mut times, 50);
    println!("  from disk: ready after {} ms, {memory:.0} MiB, at most {peak:.0} MiB", took.as_millis());
    Ok(())
}

fn in_turns(servers: &mut [Many; 2], rounds: usize, time: Duration) -> anyhow::Result<()> {
    let mut measured = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (server, measured) in servers.iter_mut().zip(&mut measured) {
            measured.push(server.calls(time)?);
        }
    }
    let [few, many] = measured;
    print("few", &few);
    print("many", &many);
    let [few, many] = servers;
    for (name, server) in [("few", few), ("many", many)] {
        let (memory, peak) = server.running()?.process.memory()?;
        println!("  {name:<8} after the calls {memory:.0} MiB, at most {peak:.0} MiB");
    }
    Ok(())
}

/// Makes and revokes keys, and asks on another connection until a call is answered accordingly.
fn changes(server: &Many) -> anyhow::Result<()> {
    let running = server.running()?;
    let (mut changer, mut gateway) = (running.changer()?, Kept::open(running.address)?);
    let mut times = [const { Vec::new() }; 4];
    for n in 0..CHANGES {
        let began = Instant::now();
        let (id, key) = changer.make_key(n)?;
        let made = began.elapsed();
        let until_it_works = until(&mut gateway, &key, 200)?;
        let began = Instant::now();
        changer.revoke_key(&id)?;
        let revoked = began.elapsed();
        let until_it_does_not = until(&mut gateway, &key, 401)?;
        for (times, time) in times.iter_mut().zip([made, until_it_works, revoked, until_it_does_not]) {
            times.push(time);
        }
    }
    let names = [
        "making one",
        "from its answer until it works",
        "revoking one",
        "from its answer until it is refused",
    ];
    for (name, times) in names.iter().zip(&mut times) {
        let [median, most] = [at(times, 50), at(times, 99)].map(|time| time.as_micros());
        println!("  {name:<36} {median:>6} µs, 99 of 100 within {most} µs");
    }
    Ok(())
}

/// Calls with a key until the answer has a status; returns how long that took.
fn until(gateway: &mut Kept, key: &str, wanted: u16) -> anyhow::Result<Duration> {
    let request = Pair::new(key, "").request(PATH);
    let began = Instant::now();
    while gateway.exchange(&request)?.0 != wanted {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(10), "a change is not effective after 10 s");
    }
    Ok(began.elapsed())
}

/// Measures calls without and with changes, in turns.
fn busy(server: &mut Many, rounds: usize, time: Duration) -> anyhow::Result<()> {
    let (mut quiet, mut changing, mut count) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        quiet.push(server.calls(time)?);
        let mut changer = server.running()?.changer()?;
        let (stop, stopped) = channel::<()>();
        let changes = std::thread::spawn(move || {
            let mut next = Instant::now();
            for n in 0.. {
                changer.change(n)?;
                next += PAUSE;
                match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return Ok(n + 1),
                }
            }
            anyhow::Ok(0)
        });
        let measured = server.calls(time);
        drop(stop);
        count += changes.join().map_err(|_| anyhow::anyhow!("the changes panicked"))??;
        changing.push(measured?);
    }
    print("quiet", &quiet);
    print("changing", &changing);
    let p99 = |all: &[Measured]| at(&mut all.iter().map(|it| it.p99).collect::<Vec<_>>(), 50).as_secs_f64();
    println!(
        "  {count} changes, no call failed; p99 is {:.2} of the quiet one",
        p99(&changing) / p99(&quiet)
    );
    Ok(())
}

fn print(name: &str, rounds: &[Measured]) {
    let of = |time: fn(&Measured) -> Duration| {
        at(&mut rounds.iter().map(time).collect::<Vec<_>>(), 50).as_secs_f64() * 1e6
    };
    let (median, p99, used) = (of(|it| it.median), of(|it| it.p99), of(|it| it.used));
    let mut calls: Vec<f64> = rounds.iter().map(|it| it.calls_per_second).collect();
    calls.sort_by(f64::total_cmp);
    let calls = calls.get(calls.len() / 2).copied().unwrap_or_default();
    println!(
        "  {name:<8} {calls:>8.0} calls/s, p50 {median:.0} µs, p99 {p99:.0} µs, {used:.2} µs CPU a call"
    );
}

/// Returns the time that so many of a hundred are within.
fn at(times: &mut [Duration], part: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * part / 100).copied().unwrap_or_default()
}
