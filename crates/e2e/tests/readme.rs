//! The README: every command of the journey by hand prints what stands below it.

use std::process::Command;
use std::time::{Duration, Instant};

use tollgate_e2e::{Home, Server};

const README: &str = include_str!("../../../README.md");

/// A command and what the README says that it prints.
struct Step {
    command: String,
    printed: Vec<String>,
}

fn steps() -> Vec<Step> {
    let (_, journey) = README.split_once("## The journey by hand").expect("a journey");
    let (journey, _) = journey.split_once("\n## ").expect("an end");
    let mut steps: Vec<Step> = Vec::new();
    for block in journey.split("```console\n").skip(1) {
        for line in block.split("\n```").next().unwrap_or_default().lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), printed: Vec::new() });
                }
                (None, Some(step)) => step.printed.push(line.to_owned()),
                (None, None) => panic!("`{line}` stands before the first command"),
            }
        }
    }
    steps
}

/// Returns lines without what differs each time: ids, keys, tokens, hashes (long words, or shortened ones), dates.
fn mask<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let differs = |word: &str| word.chars().count() > 30 || word.contains('…');
    let moment = |word: &str| word.contains('T') && word.chars().filter(char::is_ascii_digit).count() >= 14;
    let of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '…');
    let masked = |word: &str| {
        if moment(word) {
            return "*".to_owned();
        }
        let mut out = String::new();
        for part in word.split_inclusive(|c| !of_word(c)) {
            let end = part.find(|c| !of_word(c)).unwrap_or(part.len());
            let (text, rest) = part.split_at(end);
            out.push_str(if differs(text) { "*" } else { text });
            out.push_str(rest);
        }
        out
    };
    lines
        .map(|line| line.split_whitespace().map(masked).collect::<Vec<_>>().join(" "))
        // How many calls are counted by now depends on the moment.
        .filter(|line| !line.contains(" call, ") && !line.contains(" calls, "))
        .filter(|line| {
            !line.starts_with("calls to them since ") && !line.starts_with("date:") && !line.is_empty()
        })
        .collect()
}

/// Runs a command in the folder as a shell would, and returns what a terminal would show.
fn run(home: &Home, server: &Server<'_>, token: &str, command: &str) -> String {
    let tollgate = home.command(&[]);
    let bin = std::path::Path::new(tollgate.get_program()).parent().expect("a directory").display();
    let admin = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(home.path())
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin"))
        .env("TOLLGATE_SERVER", server.url("console"))
        .env("TOLLGATE_TOKEN", admin.trim())
        .env("TOKEN", token)
        .output()
        .expect("sh runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_journey_by_hand_prints_what_the_readme_says() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let (mut token, mut keys) = (String::new(), Vec::<(String, String)>::new());
    let steps = steps();
    assert!(steps.len() > 30, "the README is not read as it should: {} commands", steps.len());
    for Step { command, printed } in steps {
        // The server runs already, and the token was taken from the answer.
        if command == "tollgate up" || command.starts_with("TOKEN=") {
            continue;
        }
        let mut command = command
            .replace("http://127.0.0.1:7001", server.url("test"))
            .replace("http://127.0.0.1:7002", server.url("prod"));
        for (shortened, key) in &keys {
            command = command.replace(shortened, key);
        }
        let expected = mask(printed.iter().map(String::as_str));
        // A change reaches the gateway within a moment, which a person does not notice.
        let deadline = Instant::now() + Duration::from_secs(5);
        let text = loop {
            let text = run(&home, &server, &token, &command);
            let same = mask(text.lines()) == expected;
            if same || !command.starts_with("curl ") || Instant::now() > deadline {
                break text;
            }
        };
        assert_eq!(mask(text.lines()), expected, "$ {command}\n{text}");
        for (line, said) in text.lines().zip(&printed) {
            let last = |line: &str| line.split_whitespace().last().unwrap_or_default().to_owned();
            if last(line).starts_with("tg_") {
                keys.push((last(said), last(line)));
            }
            if let Some(bearer) = line.strip_prefix("authorization: Bearer ") {
                token = bearer.trim().to_owned();
            }
        }
    }
    assert!(keys.len() == 2 && !token.is_empty());
}
