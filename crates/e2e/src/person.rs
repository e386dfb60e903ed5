//! People who use a server, each with rights of their own.

use serde_json::{Value, json};

use crate::{Home, Outcome, Server};

/// Somebody who is signed in.
pub struct Person<'a> {
    server: &'a Server<'a>,
    token: String,
    password: String,
}

impl<'a> Person<'a> {
    /// Makes a user by the command line, who signs in with the password that it showed, and changes it.
    ///
    /// # Panics
    ///
    /// When the server refuses any of it.
    pub async fn of(home: &Home, server: &'a Server<'a>, name: &str, groups: &[&str]) -> Self {
        let groups = groups.join(",");
        let mut create = vec!["user", "create", name];
        if !groups.is_empty() {
            create.extend(["--group", &groups]);
        }
        let made = server.json(&create);
        let password = made.pointer("/password").and_then(Value::as_str).expect("a password");
        home.keep_secret(password);
        assert_eq!(made.pointer("/passwordIsTemporary"), Some(&json!(true)));
        let login = json!({ "user": name, "password": password });
        let signed_in =
            server.call("console", "/api/v1/login", &[], Some(&login)).await.expect(201, "").json();
        let token = signed_in.pointer("/token").and_then(Value::as_str).expect("a token").to_owned();
        home.keep_secret(&token);
        let lasting = format!("{password}, and for good");
        home.keep_secret(&lasting);
        let change = ["--token", &token, "password", "change", "--password-stdin"];
        server.cli_with_input(&change, &format!("{password}\n{lasting}\n")).expect_code(0);
        Person { server, token, password: lasting }
    }

    /// Returns the password that they signed in with last.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Runs a command as that person.
    pub fn cli(&self, arguments: &[&str]) -> Outcome {
        let mut all = vec!["--token", &self.token];
        all.extend_from_slice(arguments);
        self.server.cli(&all)
    }

    /// Runs a command as that person, which succeeds, and returns what it prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--output", "json"];
        all.extend_from_slice(arguments);
        self.cli(&all).expect_code(0).json()
    }

    /// Runs a command that is theirs to run.
    #[track_caller]
    pub fn may(&self, arguments: &[&str]) -> Outcome {
        self.cli(arguments).expect_code(0)
    }

    /// Runs a command that is refused to them, with these words.
    #[track_caller]
    pub fn may_not(&self, arguments: &[&str], words: &str) {
        self.cli(arguments).expect_code(5).expect_words(words);
    }
}
