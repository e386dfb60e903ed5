//! The load: 64 connections that always have a request under way, from a loop that never sleeps.
//!
//! A client that sleeps between answers has the server's core pay for waking it, the more the slower the server is. So this
//! one asks the system for news without a timeout, and keeps a core of its own busy.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Contender;
use crate::credentials::Job;

const CONNECTIONS: usize = 64;
/// How long a server runs warm before it counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// Longest silence of a server.
const PATIENCE: Duration = Duration::from_secs(10);

/// One round of one contender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) calls_per_second: f64,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    /// What the server used of its core for each call.
    pub(crate) used: Duration,
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    sent_at: Instant,
}

/// Calls a contender for so long, or until each of its tokens was used where each may be used once.
pub(crate) fn measure(contender: &Contender, job: Job, time: Duration) -> anyhow::Result<Measured> {
    let requests: Vec<Vec<u8>> =
        contender.pairs.iter().map(|pair| pair.request(contender.path).into_bytes()).collect();
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(CONNECTIONS));
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for n in 0..CONNECTIONS {
        let stream = std::net::TcpStream::connect(contender.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(n), Interest::READABLE)?;
        connections.push(Connection { stream, answer: Vec::with_capacity(2_048), sent_at: Instant::now() });
    }
    let once = job.uses_each_token_once();
    let mut next = requests.iter().cycle();
    let mut left = if once { requests.len() } else { usize::MAX };
    let mut latencies: Vec<Duration> = Vec::with_capacity(1 << 20);
    let (mut began, mut used) = (Instant::now(), contender.process.used()?);
    let mut is_warm = once;
    for connection in &mut connections {
        send(connection, next.next().context("there are requests")?)?;
        left = left.saturating_sub(1);
    }
    let mut heard_at = Instant::now();
    loop {
        poll.poll(&mut events, Some(Duration::ZERO))?;
        if events.is_empty() && heard_at.elapsed() > PATIENCE {
            bail!("{} does not answer any more", contender.name);
        }
        for event in &events {
            let connection = connections.get_mut(event.token().0).context("a connection of ours")?;
            if !receive(connection, contender.name)? {
                continue;
            }
            heard_at = Instant::now();
            latencies.push(heard_at.duration_since(connection.sent_at));
            connection.answer.clear();
            if left > 0 {
                send(connection, next.next().context("there are requests")?)?;
                left = left.saturating_sub(1);
            }
        }
        if !is_warm && began.elapsed() >= WARM_UP {
            (is_warm, began, used) = (true, Instant::now(), contender.process.used()?);
            latencies.clear();
        } else if left == 0 || (is_warm && began.elapsed() >= time) {
            break;
        }
    }
    let (took, used) = (began.elapsed(), contender.process.used()?.saturating_sub(used));
    let calls = u32::try_from(latencies.len()).context("fewer calls than that")?.max(1);
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
    Ok(Measured {
        calls_per_second: f64::from(calls) / took.as_secs_f64(),
        median: at(50),
        p99: at(99),
        used: used / calls,
    })
}

fn send(connection: &mut Connection, request: &[u8]) -> anyhow::Result<()> {
    connection.sent_at = Instant::now();
    // A request is smaller than any buffer of a socket, and the one before it was taken.
    connection.stream.write_all(request).context("cannot send")
}

/// Reads what is there; tells whether the answer is whole.
fn receive(connection: &mut Connection, name: &str) -> anyhow::Result<bool> {
    let mut buffer = [0; 4_096];
    loop {
        match connection.stream.read(&mut buffer) {
            Ok(0) => bail!("{name} closed a connection: {}", String::from_utf8_lossy(&connection.answer)),
            Ok(read) => connection.answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("cannot read"),
        }
    }
    let Some(whole) = length(&connection.answer) else { return Ok(false) };
    if connection.answer.len() < whole {
        return Ok(false);
    }
    if !connection.answer.starts_with(b"HTTP/1.1 200") {
        bail!("{name} answers {}", String::from_utf8_lossy(&connection.answer));
    }
    Ok(true)
}

/// Returns the length of head and body, once the head is whole.
fn length(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(answer.get(..head)?).ok()?;
    let body: usize = crate::plain_http::header(text, "content-length")?.parse().ok()?;
    Some(head + body)
}
