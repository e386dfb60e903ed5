//! A running server.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::Value;

use crate::home::{Home, Outcome};

/// Longest start of a server on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A server of the real binary; killed when it is dropped.
pub struct Server<'a> {
    home: &'a Home,
    child: Child,
    addresses: HashMap<String, String>,
    http: reqwest::Client,
    /// Lines of standard output that were not read yet.
    lines: Option<Mutex<mpsc::Receiver<String>>>,
    /// What it printed on its start.
    pub banner: String,
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: HashMap<String, String>,
    /// Body as text.
    pub text: String,
}

// === impl Server ===

impl<'a> Server<'a> {
    /// Starts a server on free ports with more arguments and waits until it is ready.
    ///
    /// # Panics
    ///
    /// With its log, when it does not become ready.
    pub fn start(home: &'a Home, arguments: &[&str]) -> Self {
        let mut server = Self::launch(home, arguments);
        server.read_banner();
        server
    }

    /// Starts a server whose log goes into a pipe, of which the reading end is returned.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    pub fn start_with_piped_log(home: &'a Home, arguments: &[&str]) -> (Self, ChildStderr) {
        let mut server = Self::spawn(home, arguments, Stdio::piped());
        let log = server.child.stderr.take().expect("piped");
        server.read_banner();
        (server, log)
    }

    /// Starts a server with more variables in its environment, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// With its log, when it does not become ready.
    pub fn start_with_environment(home: &'a Home, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let log =
            std::fs::File::options().create(true).append(true).open(home.log_path()).expect("a log file");
        let mut server = Self::spawn_with(home, arguments, log.into(), variables);
        server.read_banner();
        server
    }

    /// Starts a server to which the listener of an environment is passed, as systemd passes sockets, and waits until it
    /// is ready.
    ///
    /// # Panics
    ///
    /// With its log, when it does not become ready.
    pub fn start_with_listener(
        home: &'a Home,
        arguments: &[&str],
        name: &str,
        listener: &std::net::TcpListener,
    ) -> Self {
        let log =
            std::fs::File::options().create(true).append(true).open(home.log_path()).expect("a log file");
        let data = home.data().display().to_string();
        let up = [&["up", "--data", &data], arguments].concat();
        let served = home.command(&up);
        // The socket comes as standard input, the one place to which a socket can be handed without unsafe code.
        let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        let mut command = home.shell(script);
        command.arg("sh").arg(served.get_program()).args(served.get_args()).env("LISTEN_FDNAMES", name);
        let socket = listener.try_clone().expect("a socket");
        command.stdin(std::os::fd::OwnedFd::from(socket)).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().expect("the server starts");
        let mut server = Self::of(home, child);
        server.read_banner();
        server
    }

    /// Starts a server and does not wait.
    ///
    /// # Panics
    ///
    /// When the process cannot be made.
    pub fn launch(home: &'a Home, arguments: &[&str]) -> Self {
        let log =
            std::fs::File::options().create(true).append(true).open(home.log_path()).expect("a log file");
        Self::spawn(home, arguments, log.into())
    }

    fn spawn(home: &'a Home, arguments: &[&str], log: Stdio) -> Self {
        Self::spawn_with(home, arguments, log, &[])
    }

    fn spawn_with(home: &'a Home, arguments: &[&str], log: Stdio, variables: &[(&str, &str)]) -> Self {
        let data = home.data().display().to_string();
        let mut all = vec!["up", "--data", &data];
        let listeners = ["console", "test", "prod", "test.internal", "prod.internal"];
        let given: Vec<String> = listeners.iter().map(|name| format!("{name}=127.0.0.1:0")).collect();
        if !arguments.contains(&"--listen") {
            all.extend(given.iter().flat_map(|listen| ["--listen", listen]));
        }
        all.extend_from_slice(arguments);
        let mut command = home.command(&all);
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().expect("the server starts");
        Self::of(home, child)
    }

    fn of(home: &'a Home, child: Child) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client");
        Self { home, child, addresses: HashMap::new(), http, lines: None, banner: String::new() }
    }

    /// Reads the addresses that the server prints once it is ready.
    fn read_banner(&mut self) {
        let stdout = self.child.stdout.take().expect("piped");
        let (sender, receiver) = mpsc::channel();
        // Ends with the process, whose output it drains.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        self.lines = Some(Mutex::new(receiver));
        self.read_until("  data ");
        for line in self.banner.lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(url)) = (
                words.next(),
                words.next().filter(|url| url.starts_with("http://") || url.starts_with("https://")),
            ) {
                let url = url.trim_end_matches("/metrics");
                self.addresses.insert(name.to_owned(), url.to_owned());
            }
        }
        if let Ok(token) = std::fs::read_to_string(self.home.data().join("admin-token")) {
            self.home.keep_secret(token.trim());
        }
    }

    /// Reads what the server prints until a line that begins with a text.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn read_until(&mut self, beginning: &str) {
        let lines = self.lines.as_ref().expect("started").lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let line =
                lines.recv_timeout(START).unwrap_or_else(|_| panic!("no `{beginning}`:\n{}", self.log()));
            self.banner.push_str(&line);
            self.banner.push('\n');
            if line.starts_with(beginning) {
                return;
            }
        }
    }

    /// Reads the addresses from the log, where they stand before the server is ready.
    ///
    /// # Panics
    ///
    /// When they do not come.
    pub fn read_addresses_from_log(&mut self) {
        let deadline = std::time::Instant::now() + START;
        let before = self.addresses.len();
        while self.addresses.len() < before + 5 {
            assert!(std::time::Instant::now() < deadline, "no addresses in\n{}", self.log());
            let log = self.log();
            let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for line in lines {
                let text = |field: &str| line.get(field).and_then(Value::as_str);
                if let (Some("listening"), Some(name), Some(address)) =
                    (text("message"), text("listener"), text("address"))
                {
                    self.addresses.entry(name.to_owned()).or_insert_with(|| format!("http://{address}"));
                }
            }
            std::thread::yield_now();
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the URL of a listener: `console`, `test`, `prod.internal`, …
    ///
    /// # Panics
    ///
    /// When there is no such listener.
    pub fn url(&self, listener: &str) -> &str {
        self.addresses.get(listener).unwrap_or_else(|| panic!("no {listener} in\n{}", self.banner))
    }

    /// Makes a listener known that is not in the banner, because it was opened later.
    pub fn add_listener(&mut self, name: &str, address: &str) {
        self.addresses.insert(name.to_owned(), format!("http://{address}"));
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.log_path()).unwrap_or_default()
    }

    /// Runs a command against this server, with the admin's API token.
    pub fn cli(&self, arguments: &[&str]) -> Outcome {
        self.cli_with_input(arguments, "")
    }

    /// Runs a command with text on its standard input.
    ///
    /// # Panics
    ///
    /// When the command does not start.
    pub fn cli_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        let token = std::fs::read_to_string(self.home.data().join("admin-token")).unwrap_or_default();
        let mut child = self
            .home
            .command(arguments)
            .env("TOLLGATE_SERVER", self.url("console"))
            .env("TOLLGATE_TOKEN", token.trim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads nothing may be gone already.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().expect("the command ends");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command with `--output json` that must succeed, and returns its document.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--output", "json"];
        all.extend_from_slice(arguments);
        self.cli(&all).expect_code(0).json()
    }

    /// Calls a pipeline, or any path, on a listener. A header of the value `""` is left out.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn call(
        &self,
        listener: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        self.try_call(listener, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Calls a listener that may not answer.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn try_call(
        &self,
        listener: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Reply, reqwest::Error> {
        let url = format!("{}{path}", self.url(listener));
        let mut request = match body {
            Some(body) => {
                self.http.post(url).header("content-type", "application/json").body(body.to_string())
            }
            None => self.http.get(url),
        };
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text_of =
            |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), text_of(value))).collect();
        Ok(Reply { status, headers, text: response.text().await? })
    }

    /// Sends SIGTERM and waits for the end; returns the exit code.
    ///
    /// # Panics
    ///
    /// When the process can't be signalled.
    pub fn stop(mut self) -> Option<i32> {
        self.terminate();
        self.child.wait().ok().and_then(|status| status.code())
    }

    /// Sends SIGTERM and does not wait.
    ///
    /// # Panics
    ///
    /// When the process can't be signalled.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot signal the server");
    }

    /// Sends SIGKILL: the process has no chance to do anything.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for a process that ends by itself.
    ///
    /// # Panics
    ///
    /// When it can't be waited for.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("a child").code()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Reply ===

impl Reply {
    /// Returns the body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Returns the problem's code; empty when the answer is none.
    pub fn code(&self) -> &str {
        self.headers.get("tollgate-error").map_or("", String::as_str)
    }

    /// Fails unless the answer has a status and a problem code (empty: none).
    ///
    /// # Panics
    ///
    /// With the whole answer.
    #[track_caller]
    pub fn expect(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{self:#?}");
        self
    }
}
