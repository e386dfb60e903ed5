//! Tollgate as it is in production: the release binary with its embedded store, metrics, rate limit, usage counters, and an
//! access log of one call in a hundred.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::credentials::{Bad, Job, Pair};
use crate::ground::{CONSUMERS, Ground, KEYS, NEW_TOKENS, PAIRS};
use crate::process::{Process, free_port};
use crate::{BODY, Contender, plain_http};

const NAME: &str = "Tollgate";
/// How long a token that has expired is still taken, and a little more.
const LEEWAY: Duration = Duration::from_secs(33);
pub(crate) const LIMIT: &str = "rateLimit: { limits: [{ interval: minute, limit: 2000000000 }] }";

/// The product, running for all jobs.
pub(crate) struct Tollgate {
    program: String,
    console: SocketAddr,
    address: SocketAddr,
    /// `None` while it is measured.
    process: Option<Process>,
    token: String,
    /// Keys that are used, of one consumer in turn.
    keys: Vec<String>,
    /// A token that ended at a time.
    expired: (String, Instant),
    algorithm: Option<&'static str>,
}

// === impl Tollgate ===

impl Tollgate {
    /// Starts it with all its keys and pipelines.
    pub(crate) fn start(program: &str, ground: &Ground) -> anyhow::Result<Self> {
        let (console, test) = (free_port()?, free_port()?);
        let arguments = arguments(&ground.path("data"), console, test);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut process = Process::start(ground.directory(), "tollgate", program, &arguments)?;
        let (console, address) = (local(console), local(test));
        process.wait_for(console, &ground.path("tollgate.log"))?;
        let ready = Instant::now() + Duration::from_secs(60);
        let request = "GET /api/v1/version HTTP/1.1\r\nhost: localhost\r\n\r\n";
        while plain_http::exchange(console, request).is_err() {
            anyhow::ensure!(Instant::now() < ready, "Tollgate does not become ready");
        }
        let token = std::fs::read_to_string(ground.path("data").join("admin-token"))?.trim().to_owned();
        let expired = (String::new(), Instant::now());
        let program = program.to_owned();
        let mut it = Self {
            program,
            console,
            address,
            process: Some(process),
            token,
            keys: Vec::new(),
            expired,
            algorithm: None,
        };
        it.fill(ground)?;
        Ok(it)
    }

    /// Deploys the pipelines, and makes consumers and keys.
    fn fill(&mut self, ground: &Ground) -> anyhow::Result<()> {
        let body: Value = serde_json::from_str(BODY)?;
        let answer = json!([{ "json": body }]).to_string();
        let issues = |expires_in_ms: u32| {
            let token = json!({ "scopes": ["catalog:read"], "expiresInMs": expires_in_ms });
            json!([{ "json": { "user": "portal" } }, { "jwtGenerate": token }]).to_string()
        };
        let (login, ends) = (issues(7_200_000), issues(1_000));
        let proxy = json!([{ "proxy": { "url": format!("http://{}/orders", ground.upstream) } }]).to_string();
        // Addresses of the machine itself are nobody's to call unless the realm says so.
        self.command(&["realm", "set", "--allow-upstreams", "127.0.0.1"])?;
        let mut associated = Vec::new();
        for (name, trigger, steps) in [
            ("key", format!("jwt: false, {LIMIT}"), &answer),
            ("token", format!("jwt: true, {LIMIT}"), &answer),
            ("login", "jwt: false".to_owned(), &login),
            ("ends", "jwt: false".to_owned(), &ends),
            ("proxied", format!("jwt: true, {LIMIT}"), &proxy),
        ] {
            let file = ground.write(
                &format!("{name}.yaml"),
                &format!(
                    "kind: Pipeline\nname: {name}\nproject: bench\ntrigger: {{ type: http, methods: [GET], externalApi: true, \
                     apiKey: true, {trigger} }}\nsteps: {steps}\n"
                ),
            )?;
            let saved = self
                .command(&["apply", "-f", &file])
                .and_then(|_| self.command(&["deploy", name, "--env", "test"]));
            match saved {
                Ok(_) => associated.push(name),
                // The step comes with a later version.
                Err(_) if name == "proxied" => {}
                Err(error) => return Err(error),
            }
        }
        for n in 0..CONSUMERS {
            let consumer = format!("consumer-{n}");
            let mut create = vec!["--output", "json", "consumer", "create", &consumer, "--env", "test"];
            create.extend(associated.iter().flat_map(|name| ["--pipeline", name]));
            let made: Value = serde_json::from_str(&self.command(&create)?)?;
            let first = made.pointer("/items/0/key/key").and_then(Value::as_str).context("a key")?.to_owned();
            let mut keys = vec![first];
            for k in 1..KEYS / CONSUMERS {
                keys.push(self.make_key(&consumer, k)?);
            }
            self.keys.extend(keys.into_iter().take(PAIRS / CONSUMERS));
        }
        let key = self.keys.first().context("there are keys")?.clone();
        self.expired = (self.log_in("ends", &key)?, Instant::now());
        Ok(())
    }

    /// Returns it as a contender of a job.
    pub(crate) fn contender(&mut self, ground: &Ground, job: Job) -> anyhow::Result<Contender> {
        if let Some(algorithm) = job.algorithm().map(|it| it.as_str())
            && self.algorithm != Some(algorithm)
        {
            self.command(&["jwt", "rotate", "--env", "test", "--algorithm", algorithm])?;
            self.algorithm = Some(algorithm);
        }
        let path = match job {
            Job::Key => "/pipeline/default/v1/key",
            Job::Proxied => "/pipeline/default/v1/proxied",
            Job::KeyHs256 | Job::KeyEs256 | Job::KeyEs256New => "/pipeline/default/v1/token",
        };
        let key = self.keys.first().context("there are keys")?.clone();
        let (pairs, bad) = if job.has_token() {
            let good = self.log_in("login", &key)?;
            let mut bad = Bad::of_keys(&key, &good)?;
            bad.extend(Bad::of_tokens(&key, &good)?);
            // Signed by a key that Tollgate does not know, by an issuer that it does not know.
            let other = ground.pairs(Job::KeyEs256)?.into_iter().next().context("there are pairs")?;
            bad.push((Bad::OtherIssuer, Pair::new(&key, &other.token)));
            while self.expired.1.elapsed() < LEEWAY {
                std::thread::yield_now();
            }
            bad.push((Bad::ExpiredToken, Pair::new(&key, &self.expired.0)));
            let count = if job.uses_each_token_once() { NEW_TOKENS } else { PAIRS };
            (self.pairs(count)?, bad)
        } else {
            (self.keys.iter().map(|key| Pair::new(key, "")).collect(), Bad::of_keys(&key, "")?)
        };
        let request = Pair::new(&key, pairs.first().map_or("", |pair| &pair.token)).request(path);
        let (status, _) = plain_http::exchange(self.address, &request)?;
        if job == Job::Proxied && status == 404 {
            bail!("this version of Tollgate has no step `proxy`");
        }
        let process = self.process.take().context("one job at a time")?;
        Ok(Contender { name: NAME, process, address: self.address, path, pairs, bad })
    }

    pub(crate) fn owns(&self, contender: &Contender) -> bool {
        contender.name == NAME
    }

    /// Issues tokens that nobody has seen.
    pub(crate) fn fresh_pairs(&self, _: &Ground) -> anyhow::Result<Vec<Pair>> {
        self.pairs(NEW_TOKENS)
    }

    /// Takes its process back when a job is over.
    pub(crate) fn take_back(&mut self, contenders: Vec<Contender>) {
        let own = contenders.into_iter().find(|contender| contender.name == NAME);
        self.process = self.process.take().or(own.map(|contender| contender.process));
    }

    fn pairs(&self, count: usize) -> anyhow::Result<Vec<Pair>> {
        let keys = self.keys.iter().cycle().take(count);
        keys.map(|key| Ok(Pair { key: key.clone(), token: self.log_in("login", key)? })).collect()
    }

    fn log_in(&self, pipeline: &str, key: &str) -> anyhow::Result<String> {
        let request = Pair::new(key, "").request(&format!("/pipeline/default/v1/{pipeline}"));
        let (head, body) = plain_http::exchange_whole(self.address, &request)?;
        let token =
            plain_http::header(&head, "authorization").and_then(|value| value.strip_prefix("Bearer "));
        Ok(token.with_context(|| format!("no token: {head} {body}"))?.to_owned())
    }

    fn make_key(&self, consumer: &str, n: usize) -> anyhow::Result<String> {
        let body = json!({ "name": format!("k{n}") }).to_string();
        let request = format!(
            "POST /api/v1/realms/default/environments/test/consumers/{consumer}/keys HTTP/1.1\r\nhost: localhost\r\n\
             authorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let (status, answer) = plain_http::exchange(self.console, &request)?;
        anyhow::ensure!(status == 201, "no key: {status} {answer}");
        let made: Value = serde_json::from_str(&answer)?;
        Ok(made.get("key").and_then(Value::as_str).context("a key")?.to_owned())
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("TOLLGATE_SERVER", format!("http://{}", self.console))
            .env("TOLLGATE_TOKEN", &self.token)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("tollgate {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Returns what it is started with: as in production.
pub(crate) fn arguments(data: &Path, console: u16, test: u16) -> Vec<String> {
    let mut arguments = vec!["up".to_owned(), "--data".to_owned(), data.display().to_string()];
    arguments.extend(
        ["--access-log-sample", "0.01", "--bad-credentials-per-address", "1000000"].map(str::to_owned),
    );
    for (name, port) in [
        ("console", console),
        ("test", test),
        ("prod", 0),
        ("test.internal", 0),
        ("prod.internal", 0),
        ("metrics", 0),
    ] {
        arguments.extend(["--listen".to_owned(), format!("{name}=127.0.0.1:{port}")]);
    }
    arguments
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
