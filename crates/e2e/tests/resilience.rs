//! What survives: kill -9, a store out of reach, a stop with calls in flight, two processes on one store.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tollgate_e2e::{Home, Server};
use tollgate_testkit::{FaultProxy, Postgres, wait_until};

const OPEN: &str = "kind: Pipeline
name: open
project: store
trigger: { type: rest, externalApi: true, apiKey: true }
steps:
  - json: { ok: \"{{ message.method }}\" }
";
const PATH: &str = "/pipeline/default/v1/open";

/// Deploys a pipeline in test and returns a key that may call it.
fn deploy_open(home: &Home, server: &Server<'_>) -> (String, String) {
    let file = home.file("open.yaml", OPEN);
    server.cli(&["apply", "-f", &file]).expect_code(0);
    server.cli(&["deploy", "open", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "open"]);
    let key = &made["items"][0]["key"];
    let text = |field: &str| key[field].as_str().expect("shown once").to_owned();
    (text("id"), text("key"))
}

/// Writes globals until the process dies; returns the names whose write was acknowledged.
async fn write_until_killed(
    server: &Server<'_>,
    token: &str,
    round: usize,
    writer: usize,
    go_on: &AtomicBool,
) -> Vec<String> {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut acknowledged = Vec::new();
    let mut n = 0;
    while go_on.load(Ordering::Relaxed) {
        let name = format!("r{round}w{writer}n{n}");
        n += 1;
        let url = format!("{}/api/v1/realms/default/environments/test/globals/{name}", server.url("console"));
        let request = client.put(url).bearer_auth(token).header("content-type", "application/json");
        match request.body(json!({ "value": n }).to_string()).send().await {
            Ok(response) if response.status().is_success() => acknowledged.push(name),
            Ok(response) => panic!("{}", response.status()),
            // The process is gone; whether this one was written is not known.
            Err(_) => break,
        }
    }
    acknowledged
}

async fn survives_kill_9(arguments: &[&str], rounds: usize) {
    let home = Home::new();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..rounds {
        let server = Server::start(&home, arguments);
        let token = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
        let stored = server.json(&["global", "list", "--env", "test"]);
        let items = stored["items"].as_array().expect("items");
        for name in &acknowledged {
            assert!(
                items.iter().any(|item| item["name"] == name.as_str()),
                "{name} was acknowledged and is gone"
            );
        }
        assert_eq!(server.json(&["audit", "verify"])["intact"], true);
        let go_on = AtomicBool::new(true);
        let writers = async {
            tokio::join!(
                write_until_killed(&server, token.trim(), round, 0, &go_on),
                write_until_killed(&server, token.trim(), round, 1, &go_on),
                write_until_killed(&server, token.trim(), round, 2, &go_on),
            )
        };
        // Killed at another point of the work in every round.
        let pid = server.id();
        let killer = async {
            tokio::time::sleep(Duration::from_millis(40 + 37 * round as u64)).await;
            let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
            assert!(killed.is_ok_and(|status| status.success()));
        };
        let ((a, b, c), ()) = tokio::join!(writers, killer);
        acknowledged.extend([a, b, c].concat());
        server.kill();
    }
    assert!(acknowledged.len() > rounds, "too little was written to show anything: {}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_on_the_embedded_database() {
    survives_kill_9(&[], 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_on_postgresql() {
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    survives_kill_9(&["--database", &postgres.url()], 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_answers_while_the_store_is_cut_off_and_after_a_restart_without_it() {
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    let proxy = FaultProxy::start(postgres.address()).await.expect("a proxy");
    let url = postgres.url_via(proxy.address());
    let home = Home::new();
    let server = Server::start(&home, &["--database", &url]);
    let (id, key) = deploy_open(&home, &server);
    wait_until("the deployment", Duration::from_secs(5), async || {
        server.call("test", PATH, &[("apikey", &key)], None).await.status == 200
    })
    .await;
    let digits = id.strip_prefix("key_").expect("the id of a key");
    let packed = u128::from_str_radix(digits, 16).expect("hexadecimal digits").to_be_bytes();
    // It is saved beside the following: a process killed right after a change may leave the image before it.
    wait_until("the key in the snapshot on disk", Duration::from_secs(10), async || {
        let has = |file: &str, what: &[u8]| {
            let bytes = std::fs::read(home.data().join(file)).unwrap_or_default();
            bytes.windows(what.len()).any(|part| part == what)
        };
        // In the log as it was stored, or packed in the base.
        has("snapshot.log", id.as_bytes()) || has("snapshot", &packed)
    })
    .await;

    proxy.refuse();
    server.call("test", PATH, &[("apikey", &key)], None).await.expect(200, "");
    server.call("test", PATH, &[("apikey", "")], None).await.expect(401, "api-key-missing");
    server.kill();

    std::fs::remove_file(home.log_path()).expect("a log");
    let mut server = Server::launch(&home, &["--database", &url]);
    server.read_addresses_from_log();
    wait_until("an answer from the snapshot on disk", Duration::from_secs(20), async || {
        server.try_call("test", PATH, &[("apikey", &key)], None).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    server
        .call("test", PATH, &[("apikey", "tg_test_0000000000000000000000000000000000000")], None)
        .await
        .expect(401, "api-key-invalid");

    proxy.heal();
    wait_until("the console comes back", Duration::from_secs(30), async || {
        server.try_call("console", "/readyz", &[], None).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_the_call_in_flight_end() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = upstream.local_addr().expect("an address");
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let text = OPEN.replace(
        "- json: { ok: \"{{ message.method }}\" }",
        &format!("- http: {{ url: \"http://{address}/\" }}\n  - json: \"{{{{ message.body }}}}\""),
    );
    let file = home.file("slow.yaml", &text);
    server.cli(&["realm", "set", "--allow-upstreams", "127.0.0.1"]).expect_code(0);
    server.cli(&["apply", "-f", &file]).expect_code(0);
    server.cli(&["deploy", "open", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "open"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
    wait_until("the deployment", Duration::from_secs(5), async || {
        server.call("test", PATH, &[("apikey", "")], None).await.code() == "api-key-missing"
    })
    .await;
    let answer_after_stop = async {
        let (mut stream, _) = upstream.accept().await.expect("a call");
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await.expect("a request");
        server.terminate();
        wait_until("new connections are refused", Duration::from_secs(5), async || {
            server.try_call("prod", PATH, &[], None).await.is_err()
        })
        .await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\nconnection: close\r\n\r\n\"ok\"")
            .await
            .expect("an answer");
    };
    let headers = [("apikey", key.as_str())];
    let (reply, ()) = tokio::join!(server.call("test", PATH, &headers, None), answer_after_stop);
    assert_eq!((reply.status, reply.text.as_str()), (200, "\"ok\""));
    assert_eq!(server.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_on_one_store_each_sees_the_other_s_changes_within_a_second() {
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    let (first_home, second_home) = (Home::new(), Home::new());
    let first = Server::start(&first_home, &["--database", &postgres.url()]);
    // Both must open what is sealed: the second gets the first one's master key.
    let key_file = first_home.data().join("master.key").display().to_string();
    let second =
        Server::start(&second_home, &["--database", &postgres.url(), "--master-key-file", &key_file]);
    let (id, key) = deploy_open(&first_home, &first);
    for server in [&first, &second] {
        wait_until("the deployment", Duration::from_secs(5), async || {
            server.call("test", PATH, &[("apikey", &key)], None).await.status == 200
        })
        .await;
    }
    first.cli(&["key", "revoke", &id, "--env", "test"]).expect_code(0);
    wait_until("the revocation on the other", Duration::from_secs(1), async || {
        second.call("test", PATH, &[("apikey", &key)], None).await.code() == "api-key-invalid"
    })
    .await;
}

/// Pipelines of which one issues tokens, and the other takes them.
const TOKENS: [&str; 2] = [
    "kind: Pipeline\nname: login\nproject: store\ntrigger: { type: rest, methods: [POST], externalApi: true, apiKey: true }\n\
     steps: [{ json: { user: ann } }, { jwtGenerate: { expiresInMs: 900000 } }]\n",
    "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true, jwt: true }\n\
     steps: [{ json: { ok: true } }]\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_is_dead_here_at_once_and_on_the_other_process_within_a_second() {
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    let (first_home, second_home) = (Home::new(), Home::new());
    let first = Server::start(&first_home, &["--database", &postgres.url()]);
    let master = first_home.data().join("master.key").display().to_string();
    let second = Server::start(&second_home, &["--database", &postgres.url(), "--master-key-file", &master]);
    for (name, text) in ["login", "orders"].into_iter().zip(TOKENS) {
        first.cli(&["apply", "-f", &first_home.file("pipeline.yaml", text)]).expect_code(0);
        first.cli(&["deploy", name, "--env", "test"]).expect_code(0);
    }
    let make = ["consumer", "create", "shop", "--env", "test", "--pipeline", "login", "--pipeline", "orders"];
    let made = first.json(&make);
    let key = made["items"][0]["key"]["key"].as_str().expect("shown once");
    let sign_in = async || {
        let headers = [("apikey", key)];
        let reply = first.call("test", "/pipeline/default/v1/login", &headers, Some(&json!({}))).await;
        reply.expect(200, "").headers["authorization"].clone()
    };
    let call = async |server: &Server<'_>, token: &str| {
        let headers = [("apikey", key), ("authorization", token)];
        server.call("test", "/pipeline/default/v1/orders", &headers, None).await
    };
    let inspect = |token: &str| {
        let said = first.cli_with_input(&["-o", "json", "jwt", "inspect", "--env", "test"], token);
        said.expect_code(0).json()
    };
    wait_until("the deployments on the other", Duration::from_secs(5), async || {
        let token = sign_in().await;
        call(&second, &token).await.status == 200
    })
    .await;
    for what in ["--jti", "--consumer", "--kid"] {
        let mut token = String::new();
        // One that was issued in the second in which the consumer's were revoked is among them.
        wait_until("a token that is good on both", Duration::from_secs(5), async || {
            token = sign_in().await;
            call(&first, &token).await.status == 200 && call(&second, &token).await.status == 200
        })
        .await;
        let said = inspect(&token);
        let which = match what {
            "--jti" => &said["claims"]["jti"],
            "--consumer" => &json!("shop"),
            _ => &said["header"]["kid"],
        };
        let which = which.as_str().expect("a name");
        first.cli(&["jwt", "revoke", "--env", "test", what, which]).expect_code(0);
        call(&first, &token).await.expect(401, "jwt-invalid");
        wait_until("the revocation on the other", Duration::from_secs(1), async || {
            call(&second, &token).await.code() == "jwt-invalid"
        })
        .await;
    }
}

#[test]
fn a_data_directory_serves_one_process() {
    let home = Home::new();
    let _first = Server::start(&home, &[]);
    let second = Server::launch(&home, &[]);
    assert_eq!(second.wait(), Some(1));
    let log = std::fs::read_to_string(home.log_path()).expect("a log");
    assert!(log.contains("another tollgate runs on the data directory"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_while_nobody_reads_the_log_and_when_its_reader_is_gone() {
    let home = Home::new();
    let (server, log) = Server::start_with_piped_log(&home, &[]);
    // Far more than the pipe holds.
    for _ in 0..600 {
        server.call("test", PATH, &[], None).await.expect(404, "route-not-found");
    }
    drop(log);
    for _ in 0..20 {
        server.call("test", PATH, &[], None).await.expect(404, "route-not-found");
    }
    server.cli(&["whoami"]).expect_code(0);
    assert_eq!(server.stop(), Some(0));
}

/// Pastes the calls that a demo prints into a shell that stands elsewhere; each must do what is said beside it.
fn walk_the_demo(server: &mut Server<'_>) {
    server.read_until("# 8. ");
    server.read_until("curl ");
    let (_, script) = server.banner.split_once("# 1. ").expect("calls");
    let script = format!("# {script}");
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(&script)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("sh runs");
    let answers = String::from_utf8_lossy(&output.stdout).into_owned();
    let statuses: Vec<&str> = answers
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP/1.1 "))
        .filter_map(|rest| rest.get(..3))
        .collect();
    assert_eq!(statuses, ["401", "200", "401", "401", "401", "200", "200", "422"], "{answers}");
    for code in
        ["api-key-missing", "api-key-invalid", "jwt-missing", "policy-refused", "{\"status\":\"logged\"}"]
    {
        assert!(answers.contains(code), "{code} is missing in {answers}");
    }
}

#[test]
fn the_calls_that_the_demo_prints_do_what_is_said_beside_them_and_so_after_a_restart_on_other_ports() {
    let home = Home::new();
    for _ in 0..2 {
        let mut server = Server::start(&home, &["--demo"]);
        walk_the_demo(&mut server);
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn the_demo_loads_where_somebody_has_begun_already() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let text = OPEN.replace("name: open", "name: product-list");
    server.cli(&["apply", "-f", &home.file("mine.yaml", &text)]).expect_code(0);
    server.cli(&["consumer", "create", "shop", "--env", "prod"]).expect_code(0);
    assert_eq!(server.stop(), Some(0));
    let mut server = Server::start(&home, &["--demo"]);
    walk_the_demo(&mut server);
}

/// Calls until told to stop; every call must succeed. Returns the different answers in their order.
async fn call_without_pause(server: &Server<'_>, key: &str, go_on: &AtomicBool) -> Vec<String> {
    let mut texts = Vec::new();
    while go_on.load(Ordering::Relaxed) {
        let reply = server.call("test", PATH, &[("apikey", key)], None).await.expect(200, "");
        if texts.last() != Some(&reply.text) {
            texts.push(reply.text);
        }
    }
    texts
}

#[test]
fn changes_take_effect_without_dropping_a_call() {
    // One for both threads: a connection of the client's pool dies with the runtime that made it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let (_, key) = deploy_open(&home, &server);
    let answers = async |expected: &str| {
        wait_until("the version", Duration::from_secs(1), async || {
            server.call("test", PATH, &[("apikey", &key)], None).await.text == expected
        })
        .await;
    };
    runtime.block_on(answers("{\"ok\":\"GET\"}"));
    let go_on = AtomicBool::new(true);
    let texts = std::thread::scope(|scope| {
        let caller = scope.spawn(|| runtime.block_on(call_without_pause(&server, &key, &go_on)));
        for n in 1..=5 {
            let file = home.file("open.yaml", &OPEN.replace("message.method", &n.to_string()));
            server.cli(&["apply", "-f", &file]).expect_code(0);
            server.cli(&["deploy", "open", "--env", "test"]).expect_code(0);
            server
                .cli(&["key", "create", "shop", "--env", "test", "--name", &format!("k{n}")])
                .expect_code(0);
            server.cli(&["jwt", "rotate", "--env", "test"]).expect_code(0);
            runtime.block_on(answers(&format!("{{\"ok\":{n}}}")));
        }
        go_on.store(false, Ordering::Relaxed);
        caller.join().expect("every call succeeds")
    });
    let numbers: Vec<&String> = texts.iter().filter(|text| !text.contains("GET")).collect();
    assert!(numbers.len() >= 4 && numbers.is_sorted(), "an old version answered after a new one: {texts:?}");
}
