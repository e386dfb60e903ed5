//! Restarts that lose no call: sockets that outlive the process.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate_e2e::{Home, Server};
use tollgate_testkit::{Postgres, wait_until};

const OPEN: &str = "kind: Pipeline
name: open
project: store
trigger: { type: rest, externalApi: true, apiKey: true }
steps:
  - json: { ok: \"{{ message.method }}\" }
";
const PATH: &str = "/pipeline/default/v1/open";

/// Callers who never stop.
struct Callers {
    go_on: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: JoinSet<Result<(), String>>,
}

/// Deploys a pipeline in test and returns a key that may call it.
fn deploy_open(home: &Home, server: &Server<'_>) -> String {
    let file = home.file("open.yaml", OPEN);
    server.cli(&["apply", "-f", &file]).expect_code(0);
    server.cli(&["deploy", "open", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "open"]);
    made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned()
}

/// Listens for the whole test.
fn listener() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

fn others() -> Vec<&'static str> {
    ["console", "prod", "test.internal", "prod.internal"]
        .iter()
        .flat_map(|name| {
            let listen = match *name {
                "console" => "console=127.0.0.1:0",
                "prod" => "prod=127.0.0.1:0",
                "test.internal" => "test.internal=127.0.0.1:0",
                _ => "prod.internal=127.0.0.1:0",
            };
            ["--listen", listen]
        })
        .collect()
}

/// Makes one call on a connection of its own.
async fn call(address: SocketAddr, key: &str) -> Result<(), String> {
    let told = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut stream = TcpStream::connect(address).await.map_err(told("connecting"))?;
    let request = format!("GET {PATH} HTTP/1.1\r\nhost: a\r\napikey: {key}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(told("sending"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(told("reading"))?;
    if answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"ok":"GET"}"#) {
        Ok(())
    } else {
        Err(answer)
    }
}

/// Makes calls on one connection for as long as the server keeps it.
async fn calls_kept_alive(
    address: SocketAddr,
    key: &str,
    go_on: &AtomicBool,
    answered: &AtomicUsize,
) -> Result<(), String> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build().expect("a client");
    while go_on.load(Ordering::Relaxed) {
        let answer = client.get(format!("http://{address}{PATH}")).header("apikey", key).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        if answer.status() != 200 {
            return Err(answer.status().to_string());
        }
        answer.text().await.map_err(|error| format!("{error:?}"))?;
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

// === impl Callers ===

impl Callers {
    fn start(address: SocketAddr, key: &str) -> Self {
        let (go_on, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (go_on, answered, key) = (go_on.clone(), answered.clone(), key.to_owned());
            tasks.spawn(async move {
                while go_on.load(Ordering::Relaxed) {
                    call(address, &key).await?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        for _ in 0..2 {
            let (go_on, answered, key) = (go_on.clone(), answered.clone(), key.to_owned());
            tasks.spawn(async move { calls_kept_alive(address, &key, &go_on, &answered).await });
        }
        Self { go_on, answered, tasks }
    }

    /// Waits until some more calls were answered.
    async fn go_on_for(&self, calls: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        wait_until("calls to be answered", Duration::from_secs(60), async || {
            self.answered.load(Ordering::Relaxed) >= before + calls
        })
        .await;
    }

    /// Stops, and fails with the first call that was lost.
    async fn finish(mut self) -> usize {
        self.go_on.store(false, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            assert_eq!(ended.expect("no panic"), Ok(()), "a call was lost");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_takes_over_the_socket_and_no_call_is_lost() {
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    let (first_home, second_home) = (Home::new(), Home::new());
    let url = postgres.url();
    let master = first_home.data().join("master.key").display().to_string();
    let (listener, address) = listener();
    let arguments = [&others()[..], &["--database", &url]].concat();
    let first = Server::start_with_listener(&first_home, &arguments, "test", &listener);
    assert!(first.banner.contains(&address.to_string()), "{}", first.banner);
    let key = deploy_open(&first_home, &first);
    wait_until("the deployment", Duration::from_secs(10), async || call(address, &key).await.is_ok()).await;
    let callers = Callers::start(address, &key);
    callers.go_on_for(100).await;
    let arguments = [&arguments[..], &["--master-key-file", &master]].concat();
    let second = Server::start_with_listener(&second_home, &arguments, "test", &listener);
    callers.go_on_for(100).await;
    assert_eq!(tokio::task::block_in_place(|| first.stop()), Some(0));
    callers.go_on_for(100).await;
    assert!(callers.finish().await >= 300);
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_while_one_process_follows_another_on_the_same_data() {
    let home = Home::new();
    let (listener, address) = listener();
    let first = Server::start_with_listener(&home, &others(), "test", &listener);
    let key = deploy_open(&home, &first);
    wait_until("the deployment", Duration::from_secs(10), async || call(address, &key).await.is_ok()).await;
    let callers = Callers::start(address, &key);
    callers.go_on_for(100).await;
    assert_eq!(tokio::task::block_in_place(|| first.stop()), Some(0));
    let second =
        tokio::task::block_in_place(|| Server::start_with_listener(&home, &others(), "test", &listener));
    callers.go_on_for(100).await;
    assert!(callers.finish().await >= 200);
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_an_address_follow_one_another_and_no_call_is_lost() {
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    let (first_home, second_home) = (Home::new(), Home::new());
    let url = postgres.url();
    let port = tollgate_testkit::free_port();
    let test = format!("test=127.0.0.1:{port}");
    let arguments = [&others()[..], &["--listen", &test, "--database", &url, "--reuse-port"]].concat();
    let first = Server::start(&first_home, &arguments);
    let key = deploy_open(&first_home, &first);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let master = first_home.data().join("master.key").display().to_string();
    let arguments = [&arguments[..], &["--master-key-file", &master]].concat();
    let second = Server::start(&second_home, &arguments);
    wait_until("the deployment", Duration::from_secs(10), async || call(address, &key).await.is_ok()).await;
    // One after the other leaves and is followed by the next, while callers never stop: each has a queue of its own, and nothing
    // in it is lost.
    let callers = Callers::start(address, &key);
    callers.go_on_for(100).await;
    assert_eq!(tokio::task::block_in_place(|| first.stop()), Some(0));
    callers.go_on_for(100).await;
    let third_home = Home::new();
    let third = tokio::task::block_in_place(|| Server::start(&third_home, &arguments));
    callers.go_on_for(100).await;
    assert_eq!(tokio::task::block_in_place(|| second.stop()), Some(0));
    callers.go_on_for(100).await;
    assert!(callers.finish().await >= 400);
    drop(third);
}
