//! A server with very many keys or pipelines. They get into its store by the store's own way of writing, a thousand in one
//! change, while it is stopped: a million calls of the API would take an hour, and end in the same rows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_credential::keys::IssuedKey;
use tollgate_model::consumers::{ApiKey, Consumer};
use tollgate_model::deployments::Deployment;
use tollgate_model::ids::{ConsumerId, KeyId};
use tollgate_model::names::{CredentialName, EnvironmentName, RealmName};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::sources::Random as _;
use tollgate_store::{Change, Expect, Mutation, Page, Store};

use crate::credentials::{Bad, Pair};
use crate::ground::{PAIRS, SystemRandom, now};
use crate::kept::Kept;
use crate::process::{Process, free_port};
use crate::tollgate::{LIMIT, arguments, local};
use crate::{BODY, Contender, plain_http};

/// The pipeline that is called.
pub(crate) const PATH: &str = "/pipeline/default/v1/key";
/// Consumers, who have the same number of keys each.
const CONSUMERS: usize = 100;
/// Objects in one change.
const TOGETHER: usize = 1_000;
/// Longest start.
const START: Duration = Duration::from_secs(180);

/// A server and its data.
pub(crate) struct Many {
    name: &'static str,
    program: String,
    directory: TempDir,
    running: Option<Running>,
    /// Keys that calls use.
    pub(crate) keys: Vec<String>,
}

/// A process that takes calls.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) console: SocketAddr,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    /// From the start until `/readyz` said so.
    pub(crate) took: Duration,
}

/// Makes and revokes keys by the API, on a connection that is kept.
pub(crate) struct Changer {
    by: Kept,
    token: String,
    /// The key that is revoked next.
    last: Option<String>,
}

// === impl Many ===

impl Many {
    /// Makes a server with so many keys, and so many pipelines besides the one that is called; it does not run.
    pub(crate) fn make(
        name: &'static str,
        program: &str,
        keys: usize,
        pipelines: usize,
    ) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("tollgate-bench-")?;
        let mut it = Self { name, program: program.to_owned(), directory, running: None, keys: Vec::new() };
        it.start()?;
        it.deploy()?;
        it.stop()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        it.keys = runtime.block_on(fill(&it.data().join("tollgate.db"), keys, pipelines))?;
        // The first start reads all of it from the store.
        for file in ["snapshot", "snapshot.log"] {
            std::fs::remove_file(it.data().join(file))?;
        }
        Ok(it)
    }

    pub(crate) fn running(&self) -> anyhow::Result<&Running> {
        self.running.as_ref().context("it runs")
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(&mut self) -> anyhow::Result<&Running> {
        let (console, test) = (free_port()?, free_port()?);
        let arguments = arguments(&self.data(), console, test);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let began = Instant::now();
        let mut process = Process::start(self.directory.path(), "tollgate", &self.program, &arguments)?;
        let (console, address) = (local(console), local(test));
        let request = "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        while !plain_http::exchange(console, request).is_ok_and(|(status, _)| status == 200) {
            if process.has_ended()? || began.elapsed() > START {
                let said = std::fs::read_to_string(self.directory.path().join("tollgate.log"))?;
                anyhow::bail!("it does not start: {}", said.lines().last().unwrap_or_default());
            }
            std::thread::yield_now();
        }
        let took = began.elapsed();
        let token = std::fs::read_to_string(self.data().join("admin-token"))?.trim().to_owned();
        Ok(self.running.insert(Running { process, console, address, token, took }))
    }

    /// Stops it; what it knows is on disk then.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.running.take().map_or(Ok(()), |running| running.process.stop())
    }

    /// Makes sure that the last of its pipelines is routed to, and is not open.
    pub(crate) fn verify_pipelines(&self, pipelines: usize) -> anyhow::Result<()> {
        let path = format!("/pipeline/default/v1/r{}/1", pipelines.saturating_sub(1));
        let request = Pair::new("", "").request(&path);
        let (status, answer) = plain_http::exchange(self.running()?.address, &request)?;
        anyhow::ensure!(status == 401, "{path} answers {status} {answer}");
        Ok(())
    }

    /// Measures calls with a thousand keys in turn, once it has shown that it refuses.
    pub(crate) fn calls(&mut self, time: Duration) -> anyhow::Result<crate::load::Measured> {
        let key = self.keys.first().context("there are keys")?;
        let bad = Bad::of_keys(key, "")?;
        let pairs = self.keys.iter().map(|key| Pair::new(key, "")).collect();
        let running = self.running.take().context("it runs")?;
        let Running { process, console, address, token, took } = running;
        let contender = Contender { name: self.name, process, address, path: PATH, pairs, bad };
        crate::credentials::verify(&contender, crate::credentials::Job::Key)?;
        let measured = crate::load::measure(&contender, crate::credentials::Job::Key, time);
        let process = contender.process;
        self.running = Some(Running { process, console, address, token, took });
        measured
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Deploys the pipeline that is called, and makes the consumers, by the API.
    fn deploy(&self) -> anyhow::Result<()> {
        let running = self.running()?;
        let body: Value = serde_json::from_str(BODY)?;
        let text = format!(
            "kind: Pipeline\nname: key\nproject: bench\ntrigger: {{ type: http, methods: [GET], externalApi: true, apiKey: true, \
             jwt: false, {LIMIT} }}\nsteps: {}\n",
            json!([{ "json": body }])
        );
        let file = self.directory.path().join("key.yaml");
        std::fs::write(&file, text)?;
        let command = |arguments: &[&str]| {
            let output = std::process::Command::new(&self.program)
                .args(arguments)
                .env("TOLLGATE_SERVER", format!("http://{}", running.console))
                .env("TOLLGATE_TOKEN", &running.token)
                .stdin(std::process::Stdio::null())
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            anyhow::ensure!(output.status.success(), "tollgate {}: {said}", arguments.join(" "));
            Ok(())
        };
        command(&["apply", "-f", &file.display().to_string()])?;
        command(&["deploy", "key", "--env", "test"])?;
        (0..CONSUMERS).try_for_each(|n| {
            command(&["consumer", "create", &format!("consumer-{n}"), "--env", "test", "--pipeline", "key"])
        })
    }
}

// === impl Running ===

impl Running {
    /// Returns somebody who changes keys beside the calls.
    pub(crate) fn changer(&self) -> anyhow::Result<Changer> {
        let by = Kept::open(self.console)?;
        Ok(Changer { by, token: self.token.clone(), last: None })
    }
}

// === impl Changer ===

impl Changer {
    /// Makes a key of the first consumer; returns its id and the key.
    pub(crate) fn make_key(&mut self, n: usize) -> anyhow::Result<(String, String)> {
        let made =
            self.post("consumers/consumer-0/keys", &json!({ "name": format!("new-{n}") }).to_string())?;
        let text = |name: &str| made.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok((text("id").context("an id")?, text("key").context("a key")?))
    }

    /// Revokes a key.
    pub(crate) fn revoke_key(&mut self, id: &str) -> anyhow::Result<()> {
        self.post(&format!("keys/{id}/revoke"), "").map(|_| ())
    }

    /// Makes a key or revokes the last one, in turns.
    pub(crate) fn change(&mut self, n: usize) -> anyhow::Result<()> {
        match self.last.take() {
            Some(id) => self.revoke_key(&id),
            None => {
                self.last = Some(self.make_key(n)?.0);
                Ok(())
            }
        }
    }

    fn post(&mut self, what: &str, body: &str) -> anyhow::Result<Value> {
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let request = format!(
            "POST /api/v1/realms/default/environments/test/{what} HTTP/1.1\r\nhost: localhost\r\n\
             authorization: Bearer {}\r\n{kind}content-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let (status, answer) = self.by.exchange(&request)?;
        anyhow::ensure!(matches!(status, 200 | 201), "{what}: {status} {answer}");
        Ok(serde_json::from_str(&answer)?)
    }
}

/// Puts keys and pipelines into a store; returns those of the keys that calls use.
async fn fill(database: &Path, keys: usize, pipelines: usize) -> anyhow::Result<Vec<String>> {
    let store = Store::open(&format!("sqlite:{}", database.display())).await?;
    let (realm, environment) = (RealmName::default(), EnvironmentName::test());
    let page = Page { prefix: format!("{environment}/"), after: None, limit: 1_000 };
    let consumers: Vec<ConsumerId> =
        store.list::<Consumer>(&realm, &page).await?.into_iter().map(|it| it.value.id).collect();
    anyhow::ensure!(consumers.len() >= CONSUMERS, "there are consumers");
    let mut used = Vec::with_capacity(PAIRS);
    let mut mutations = Vec::with_capacity(TOGETHER);
    let every = (keys / PAIRS).max(1);
    for n in 0..keys {
        let issued = IssuedKey::generate(&environment, &SystemRandom)?;
        let (mut random, at) = ([0; 10], now());
        SystemRandom.fill(&mut random)?;
        let consumer = *consumers.get(n % consumers.len()).context("a consumer")?;
        let key = ApiKey {
            id: KeyId::new(at, random),
            consumer,
            environment: environment.clone(),
            name: CredentialName::parse(&format!("k{n}"))?,
            digest: issued.digest.to_string(),
            hint: issued.hint.clone(),
            created_at: at,
            expires_at: None,
            revoked_at: None,
            replaced_by: None,
            rotated_at: None,
            retire_unused_seconds: None,
            imported: false,
        };
        mutations.push(Mutation::put(&key, Expect::Absent)?);
        if n % every == 0 && used.len() < PAIRS {
            used.push(issued.plain.expose_secret().to_owned());
        }
        if mutations.len() == TOGETHER {
            commit(&store, std::mem::take(&mut mutations)).await?;
        }
    }
    for n in 0..pipelines {
        let version: PipelineVersion = serde_json::from_value(json!({
            "version": "1.0", "loginFlow": false, "createdAt": now().to_string(), "createdBy": "bench",
            "pipeline": { "name": format!("p{n}"), "project": "bench",
                "trigger": { "type": "rest", "externalApi": true, "apiKey": true, "routes": [format!("/r{n}/:id")] },
                "steps": [{ "json": { "item": "{{ message.queryAndPath.id }}" } }] } }))?;
        let deployment: Deployment = serde_json::from_value(json!({
            "id": format!("dep_{n:032x}"), "pipeline": format!("p{n}"), "version": "1.0", "environment": "test",
            "policyVersion": "1.0", "deployedAt": now().to_string(), "deployedBy": "bench", "action": "deploy" }))?;
        mutations.push(Mutation::put(&version, Expect::Absent)?);
        mutations.push(Mutation::put(&deployment, Expect::Absent)?);
        if mutations.len() >= TOGETHER {
            commit(&store, std::mem::take(&mut mutations)).await?;
        }
    }
    commit(&store, mutations).await?;
    Ok(used)
}

async fn commit(store: &Store, mutations: Vec<Mutation>) -> anyhow::Result<()> {
    if mutations.is_empty() {
        return Ok(());
    }
    let change = Change {
        realm: RealmName::default(),
        actor: "bench".to_owned(),
        source: "system".to_owned(),
        action: "bench.fill".to_owned(),
        request_id: String::new(),
        reason: String::new(),
        at: now(),
        guards: Vec::new(),
        mutations,
    };
    store.commit(change).await?;
    Ok(())
}
