//! Attestations as an auditor meets them: fetched, carried away, verified without a server, and by another program.

use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tollgate_e2e::{Home, Outcome, Server};

fn orders(api_key: bool) -> String {
    format!(
        "kind: Pipeline\nname: orders\nproject: store\n\
         trigger: {{ type: rest, methods: [GET], externalApi: true, apiKey: {api_key} }}\nsteps:\n  - json: {{ ok: true }}\n"
    )
}

fn apply(home: &Home, server: &Server<'_>, api_key: bool) -> String {
    let path = home.file("orders.yaml", &orders(api_key));
    server.cli(&["apply", "-f", &path]).expect_code(0);
    path
}

/// Runs a command where there is no server, no token and nothing but the files given.
fn offline(folder: &Home, arguments: &[&str]) -> Outcome {
    let output = folder
        .command(arguments)
        .env("TOLLGATE_SERVER", "http://127.0.0.1:1")
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn payload(envelope: &Value) -> Value {
    let bytes = STANDARD.decode(envelope["payload"].as_str().expect("a payload")).expect("base64");
    serde_json::from_slice(&bytes).expect("a statement")
}

/// Writes an object's members in the order of their names; what RFC 8785 is for documents without odd numbers.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn openssl(folder: &Home, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .expect("openssl is installed: `apt-get install openssl` provides it");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes the key of this id as a PEM file that openssl reads (RFC 8410).
fn write_pem(folder: &Home, keys: &Value, kid: &Value) {
    let key = keys["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == *kid).expect("the key");
    let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().expect("x")).expect("base64url");
    let der = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &x].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    folder.file("key.pem", &pem);
}

/// Verifies an Ed25519 signature with openssl.
fn openssl_verifies(folder: &Home, signed: &[u8], signature: &[u8]) -> bool {
    std::fs::write(folder.path().join("signed"), signed).expect("writes");
    std::fs::write(folder.path().join("signature"), signature).expect("writes");
    let what = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "key.pem",
        "-rawin",
        "-in",
        "signed",
        "-sigfile",
        "signature",
    ];
    openssl(folder, &what).0
}

#[test]
fn an_attestation_is_verified_in_an_empty_folder_with_the_published_keys() {
    let (home, folder) = (Home::new(), Home::new());
    let server = Server::start(&home, &[]);
    let file = apply(&home, &server, true);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    let envelope = server.cli(&["attest", "get", "orders", "--env", "test"]).expect_code(0).stdout;
    folder.file("attestation.json", &envelope);
    folder.file("keys.json", &server.cli(&["evidence", "keys", "--output", "json"]).expect_code(0).stdout);
    let printed = server.cli(&["get", "pipeline", "orders", "--output", "json"]).expect_code(0).stdout;
    folder.file("printed.json", &printed);
    let altered = std::fs::read_to_string(&file).expect("reads").replace("ok: true", "ok: false");
    folder.file("altered.yaml", &altered);
    folder.file("as-written.yaml", &orders(true));
    // Rotated since, and the server is gone: the keys that were kept go on, and those of after know the old one.
    server.cli(&["evidence", "rotate"]).expect_code(0);
    folder.file("later.json", &server.cli(&["evidence", "keys", "--output", "json"]).expect_code(0).stdout);
    server.stop();

    let verify = ["attest", "verify", "attestation.json", "--key"];
    let with = |more: &[&str]| offline(&folder, &[&verify, more].concat());
    let said = with(&["keys.json", "--pipeline", "as-written.yaml", "--env", "test"]).expect_code(0).stdout;
    assert!(said.starts_with("verified: orders@1.0 was admitted in test by policy version 1.0\n"), "{said}");
    for words in
        ["by         admin from 127.0.0.1", "external-api-access: api-key", "the digest of as-written.yaml"]
    {
        assert!(said.contains(words), "{words} is missing in\n{said}");
    }
    with(&["keys.json", "--pipeline", "printed.json"]).expect_code(0);
    let later = with(&["later.json"]).expect_code(0).stdout;
    assert!(later.contains("which signed from ") && later.contains(" until "), "{later}");
    let document = with(&["later.json", "--output", "json"]).expect_code(0).json();
    assert_eq!((&document["verified"], &document["otherSignatures"]), (&json!(true), &json!(0)));
    assert_eq!(document["statement"]["predicateType"], "urn:tollgate:attestation:admission:v1");
    assert!(document["signers"][0]["retiredAt"].is_string());

    // What does not hold, and why.
    let refused = |more: &[&str], words: &str| {
        with(more).expect_code(1).expect_words("does not hold").expect_words(words);
    };
    refused(&["keys.json", "--env", "prod"], "it is about environment test, not prod");
    refused(&["keys.json", "--pipeline", "altered.yaml"], "which was admitted");
    let json = with(&["keys.json", "--env", "prod", "--output", "json"]).expect_code(1).json();
    assert_eq!(
        (&json["verified"], &json["reason"]),
        (&json!(false), &json!("it is about environment test, not prod"))
    );
    let stranger = Home::new();
    let other = Server::start(&stranger, &[]);
    folder.file("stranger.json", &other.cli(&["evidence", "keys", "--output", "json"]).expect_code(0).stdout);
    refused(&["stranger.json"], "none of the keys given");
    let file = |name: &str, text: &str| {
        folder.file(name, text);
        offline(&folder, &["attest", "verify", name, "--key", "keys.json"]).expect_code(1)
    };
    file("cut.json", &envelope[..envelope.len() / 2]).expect_words("no JSON");
    file("empty.json", "").expect_words("no JSON");
    file("typed.json", &envelope.replace("vnd.in-toto+json", "json"))
        .expect_words("its payload is `application/json`");
    file("huge.json", &format!("{envelope}{}", " ".repeat(10 << 20)))
        .expect_words("longer than 1048576 bytes");
    let statement = payload(&serde_json::from_str(&envelope).expect("JSON"));
    let mut elsewhere = statement.clone();
    elsewhere["predicate"]["environment"] = "prod".into();
    let mut forged: Value = serde_json::from_str(&envelope).expect("JSON");
    forged["payload"] = STANDARD.encode(elsewhere.to_string()).into();
    file("forged.json", &forged.to_string()).expect_words("does not fit");
    offline(&folder, &["attest", "verify", "nowhere.json", "--key", "keys.json"]).expect_code(1);
    offline(&folder, &["attest", "verify", "attestation.json"]).expect_code(2);
    // An attestation is no set of keys, nor are keys an attestation.
    offline(&folder, &["attest", "verify", "attestation.json", "--key", "attestation.json"]).expect_code(1);
    offline(&folder, &["attest", "verify", "keys.json", "--key", "keys.json"]).expect_code(1);
}

#[test]
fn openssl_verifies_what_the_server_signed_by_the_published_formats_alone() {
    let (home, folder) = (Home::new(), Home::new());
    let server = Server::start(&home, &[]);
    apply(&home, &server, true);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    let keys = server.json(&["evidence", "keys"]);
    let envelope = server.json(&["attest", "get", "orders", "--env", "test"]);
    write_pem(&folder, &keys, &envelope["signatures"][0]["keyid"]);

    // DSSE: the signature is over the pre-authentication encoding.
    let statement = STANDARD.decode(envelope["payload"].as_str().expect("a payload")).expect("base64");
    let kind = envelope["payloadType"].as_str().expect("a type");
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), statement.len()).into_bytes();
    signed.extend(&statement);
    let signature =
        STANDARD.decode(envelope["signatures"][0]["sig"].as_str().expect("a signature")).expect("base64");
    assert!(openssl_verifies(&folder, &signed, &signature));
    let mut altered = signed.clone();
    if let Some(last) = altered.last_mut() {
        *last ^= 1;
    }
    assert!(!openssl_verifies(&folder, &altered, &signature));

    // The digest is that of the canonical form of what is printed.
    let printed = server.json(&["get", "pipeline", "orders"]);
    folder.file("canonical.json", &canonical(&printed));
    let (_, digest) = openssl(&folder, &["dgst", "-sha256", "-r", "canonical.json"]);
    let statement = payload(&envelope);
    assert_eq!(digest.split(' ').next(), statement["subject"][0]["digest"]["sha256"].as_str());

    // A checkpoint: the signature is over the text up to the empty line, behind four bytes that name the key.
    let checkpoint = server.json(&["audit", "checkpoint"]);
    write_pem(&folder, &keys, &checkpoint["kid"]);
    let note = checkpoint["note"].as_str().expect("a note");
    let (text, signature) = note.split_once("\n\n").expect("an empty line");
    let signature = signature.trim_end().rsplit(' ').next().expect("base64");
    let signature = STANDARD.decode(signature).expect("base64");
    assert!(openssl_verifies(&folder, format!("{text}\n").as_bytes(), &signature[4..]));
    let hash = STANDARD.decode(text.lines().nth(2).expect("a hash")).expect("base64");
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(server.json(&["audit", "verify"])["headHash"], hex);
}

#[test]
fn a_waiver_shows_a_refusal_leaves_nothing_and_each_operation_has_its_own() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    apply(&home, &server, false);
    server.cli(&["deploy", "orders", "--env", "prod"]).expect_code(3);
    server.cli(&["deploy", "orders", "--env", "prod", "--dry-run"]).expect_code(3);
    server.cli(&["attest", "get", "orders", "--env", "prod"]).expect_code(4);
    assert_eq!(server.json(&["attest", "list"])["items"], json!([]));

    let waive =
        ["waiver", "create", "--pipeline", "orders", "--policy", "external-api-access", "--for", "14d"];
    let why = ["--env", "prod", "--reason", "the shop sends keys from January on"];
    let waiver = server.json(&[&waive[..], &why].concat());
    server.cli(&["deploy", "orders", "--env", "prod"]).expect_code(0);
    let envelope = server.cli(&["attest", "get", "orders", "--env", "prod"]).expect_code(0).stdout;
    let attestation = home.file("attestation.json", &envelope);
    let keys = home.file("keys.json", &server.cli(&["evidence", "keys", "--output", "json"]).stdout);
    let verify = ["attest", "verify", &attestation, "--key", &keys];
    let said = offline(&home, &verify).expect_code(0).stdout;
    let id = waiver["id"].as_str().expect("an id");
    assert!(said.contains("policy version 1.0, by waivers") && said.contains(id), "{said}");
    assert!(said.contains("the shop sends keys from January on"), "{said}");

    apply(&home, &server, true);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    server.cli(&["promote", "orders", "--from", "test", "--to", "prod"]).expect_code(0);
    server.cli(&["rollback", "orders", "--env", "prod"]).expect_code(0);
    let listed = server.json(&["attest", "list", "--env", "prod", "--pipeline", "orders"]);
    let items = listed["items"].as_array().expect("items");
    let operations: Vec<_> = items.iter().map(|item| &item["operation"]).collect();
    assert_eq!(operations, ["deploy", "promote", "rollback"]);
    assert!(items.iter().all(|item| item["deployment"] == items[0]["deployment"]));
    // The one of before is still to be had, and what runs has the newest.
    let first = items[0]["id"].as_str().expect("an id");
    assert_eq!(server.cli(&["attest", "get", "orders", "--env", "prod", "--id", first]).stdout, envelope);
    let running = server.json(&["attest", "get", "orders", "--env", "prod"]);
    assert_eq!(payload(&running)["predicate"]["replaces"]["version"], "1.1");
    let history = server.json(&["history", "orders", "--env", "prod"]);
    assert_eq!(history["items"][0]["attestation"], payload(&running)["predicate"]["attestation"]);
    assert_eq!(history["items"][2]["sha256"], items[0]["sha256"]);
    server.cli(&["get", "pipeline", "orders"]).expect_words("sha256 of 1.1: ");
}

#[tokio::test]
async fn the_keys_are_published_without_signing_in_and_nothing_secret_is() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    server.cli(&["evidence", "rotate"]).expect_code(0);
    let path = "/.well-known/tollgate-evidence-keys.json";
    let published = server.call("console", path, &[], None).await;
    assert_eq!((published.status, published.json()), (200, server.json(&["evidence", "keys"])));
    assert!(published.headers["content-type"].starts_with("application/json"));
    let text = published.text.to_lowercase();
    assert!(!text.contains("sealed") && !text.contains("private") && !text.contains("\"d\""), "{text}");
    // The gateways' addresses serve calls, and nothing of this.
    assert_eq!(server.call("test", path, &[], None).await.status, 404);
    let unsigned = server.call("console", "/api/v1/evidence-keys", &[], None).await;
    assert_eq!(unsigned.status, 401);
    home.assert_secrets_stayed_secret();
}
