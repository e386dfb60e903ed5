//! Findings as lines for people, and as one document for programs.

use serde_json::{Value, json};
use tollgate_credential::leaks::{Encoding, LeakKind};

use super::findings::{Finding, Findings, KnownKey, Owner, Part, Place};
use crate::failure::Exit;
use crate::output::printable;

/// Writes a line for each finding.
pub(super) fn lines(findings: &Findings) -> String {
    findings
        .findings
        .iter()
        .map(|finding| format!("{}: {}\n", place(&finding.place), what(finding)))
        .collect()
}

/// Tells where a key stands: `file:line:column`, `commit:file:line:column`, `index:file:line:column`.
pub(super) fn place(place: &Place) -> String {
    let Place { repository, commit, path, part } = place;
    let mut out = match (commit, repository) {
        (Some(commit), _) => format!("{commit}:"),
        (None, Some(_)) => "index:".to_owned(),
        (None, None) => String::new(),
    };
    out.push_str(path);
    match part {
        Part::Content { spot, binary: false } => out.push_str(&format!(":{}:{}", spot.line, spot.column)),
        Part::Content { spot, binary: true } => out.push_str(&format!(":byte {}", spot.offset)),
        Part::Name => out.push_str(": in the name"),
        Part::Message => out.push_str(" in the message"),
    }
    match repository {
        Some(repository) if repository != "." => format!("{out} ({repository})"),
        _ => out,
    }
}

/// Tells what was found, and whose it is as far as that is known.
pub(super) fn what(finding: &Finding) -> String {
    let Finding { leak, owner, .. } = finding;
    let what = match &leak.kind {
        LeakKind::ApiKey { environment } => format!("API key {} of {environment}", leak.mask),
        LeakKind::UserToken => format!("API token {} of a user", leak.mask),
    };
    let written = match leak.encoding {
        Encoding::Plain => "",
        Encoding::Utf16 => ", in UTF-16",
        Encoding::Base64 => ", in base64",
    };
    let whose = match (owner, &leak.kind) {
        (Owner::NotAsked, _) => String::new(),
        (Owner::Unknown, _) => ": not a key of this realm".to_owned(),
        (Owner::Known(key), LeakKind::ApiKey { environment }) => whose(key, environment.as_str()),
        (Owner::Known(_), LeakKind::UserToken) => String::new(),
    };
    printable(&format!("{what}{written}{whose}"))
}

fn whose(key: &KnownKey, environment: &str) -> String {
    let KnownKey { id, name, consumer, state, last_used_at } = key;
    let used = last_used_at.as_ref().map(|at| format!(", last used {at}")).unwrap_or_default();
    let whose = format!("key {name} of consumer {consumer}{used}");
    if state == "active" {
        format!(": LIVE, {whose}: `tollgate key rotate {id} --env {environment} --overlap 0s` replaces it")
    } else {
        format!(": {state}, {whose}")
    }
}

/// Sums up, with what could not be read and what else a reader must know.
pub(super) fn summary(findings: &Findings) -> String {
    let mut out = String::new();
    for unread in &findings.failures {
        out.push_str(&format!("error: {}: {}\n", unread.what, unread.why));
    }
    if findings.untold_failures > 0 {
        out.push_str(&format!("error: {} more could not be read\n", findings.untold_failures));
    }
    for note in &findings.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    let told = findings.findings.len() as u64 + findings.untold;
    let dead = told - findings.counting();
    out.push_str(&format!(
        "{} files and {} objects of git read, {told} keys found",
        findings.files, findings.objects
    ));
    for (number, what) in
        [(dead, "of them dead"), (findings.untold, "of them not shown"), (findings.allowed, "allowed")]
    {
        if number > 0 {
            out.push_str(&format!(", {number} {what}"));
        }
    }
    out
}

/// Puts everything into one document.
pub(super) fn document(findings: &Findings) -> Value {
    let unread: Vec<Value> =
        findings.failures.iter().map(|it| json!({ "what": it.what, "why": it.why })).collect();
    let mut document = json!({
        "files": findings.files,
        "objects": findings.objects,
        "bytes": findings.bytes,
        "counting": findings.counting(),
        "allowed": findings.allowed,
        "notShown": findings.untold,
        "unread": unread,
        "notes": findings.notes,
        "findings": findings.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    // As in every failure of the command line.
    let failed = findings.exit().map(|exit| match exit {
        Exit::Refused => ("keys-found", "keys were found that may work"),
        _ => ("failed", "something could not be read or asked"),
    });
    if let (Some((code, title)), Some(fields)) = (failed, document.as_object_mut()) {
        fields.insert("code".to_owned(), code.into());
        fields.insert("title".to_owned(), title.into());
    }
    document
}

fn finding(finding: &Finding) -> Value {
    let Finding { leak, place, owner } = finding;
    let (kind, environment) = match &leak.kind {
        LeakKind::ApiKey { environment } => ("api-key", Some(environment)),
        LeakKind::UserToken => ("user-token", None),
    };
    let encoding = match leak.encoding {
        Encoding::Plain => "plain",
        Encoding::Utf16 => "utf-16",
        Encoding::Base64 => "base64",
    };
    let (part, spot) = match place.part {
        Part::Content { spot, .. } => ("content", Some(spot)),
        Part::Name => ("name", None),
        Part::Message => ("message", None),
    };
    let (state, key) = match owner {
        Owner::NotAsked => ("not-asked", None),
        Owner::Unknown => ("unknown", None),
        Owner::Known(key) => (&*key.state, Some(key)),
    };
    let key = key.map(
        |it| json!({ "id": it.id, "name": it.name, "consumer": it.consumer, "lastUsedAt": it.last_used_at }),
    );
    json!({
        "kind": kind, "environment": environment, "mask": leak.mask, "sha256": leak.digest, "encoding": encoding,
        "repository": place.repository, "commit": place.commit, "file": place.path, "part": part,
        "line": spot.map(|it| it.line), "column": spot.map(|it| it.column), "offset": spot.map(|it| it.offset),
        "state": state, "counts": finding.counts(), "key": key,
    })
}
