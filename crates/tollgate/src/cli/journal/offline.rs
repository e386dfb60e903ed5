//! Verifying an export without a server: the chain of hashes, recomputed from what the lines say.

use std::io::BufRead;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tollgate_app::journal::is_masked;
use tollgate_model::hex::hex;
use tollgate_model::objects::Kind;
use tollgate_store::{Hash, HashedEntry, RecordedMutation, from_hex, hash_text, link};

use crate::failure::Failure;

/// What an export showed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Entries whose hash is that of what they say.
    pub(super) verified: u64,
    /// Of these, entries with masked objects: that these are the ones that were written is not proven.
    pub(super) masked: u64,
    /// Entries of which the hashes alone are told, and fit.
    pub(super) links: u64,
    /// Entries of an older version: their hash cannot be computed without the secrets in them. Their place is right.
    pub(super) unproven: u64,
    /// How often entries are missing before a line.
    pub(super) gaps: u64,
    /// Number and hash of the last one.
    pub(super) last: Option<(u64, Hash)>,
}

/// A line, as the server writes it. What else stood there would be proven by nothing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    seq: u64,
    previous_hash: String,
    hash: String,
    /// For a line that tells of the hashes alone.
    content_hash: Option<String>,
    format: Option<u8>,
    realm: Option<String>,
    at: Option<String>,
    actor: Option<String>,
    source: Option<String>,
    action: Option<String>,
    request_id: Option<String>,
    reason: Option<String>,
    outcome: Option<String>,
    about: Option<About>,
    detail: Option<Box<RawValue>>,
    objects: Option<Vec<Object>>,
    mutations_hash: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    kind: String,
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    kind: String,
    key: String,
    deleted: bool,
    value: Option<Box<RawValue>>,
}

/// What the hash of a line proves.
enum Proof {
    Entry { masked: bool },
    Link,
    Nothing,
}

// === impl Report ===

impl Report {
    /// Returns the report as a document.
    pub(super) fn document(&self) -> Value {
        json!({
            "intact": true,
            "verified": self.verified,
            "masked": self.masked,
            "links": self.links,
            "unproven": self.unproven,
            "gaps": self.gaps,
            "seq": self.last.map(|(seq, _)| seq),
            "hash": self.last.map(|(_, hash)| hex(&hash)),
        })
    }

    /// Says for people what was proven, and what was not.
    pub(super) fn sentences(&self) -> String {
        let Some((seq, hash)) = self.last else { return "no entries: nothing is proven".to_owned() };
        let mut out = format!("intact: {} entries verified, {} links", self.verified, self.links);
        if self.unproven > 0 {
            out.push_str(&format!(", {} of an older version only in their place", self.unproven));
        }
        if self.masked > 0 {
            out.push_str(&format!(
                "\nof {} entries some objects are masked: of these, that they were written is not proven",
                self.masked
            ));
        }
        if self.gaps > 0 {
            out.push_str(&format!("\na part only: entries are missing in {} places, and that none was left out there is not proven", self.gaps));
        }
        out.push_str(&format!(
            "\nlast entry {seq}, hash {}: compare it with one that was noted elsewhere",
            hex(&hash)
        ));
        out
    }

    /// Takes the next line.
    fn take(&mut self, text: &str, partial: bool) -> Result<(), String> {
        let line: Line =
            serde_json::from_str(text).map_err(|error| format!("no line of an export: {error}"))?;
        let hash_of = |text: &str| from_hex(text).ok_or("a hash is not 64 hexadecimal digits");
        let (previous, hash) = (hash_of(&line.previous_hash)?, hash_of(&line.hash)?);
        match self.last {
            Some((seq, _)) if line.seq <= seq => return Err(format!("it comes after entry {seq}")),
            Some((seq, last)) if line.seq == seq + 1 && previous != last => {
                return Err("it does not continue the entry before it".to_owned());
            }
            None if line.seq == 1 && previous != Hash::default() => {
                return Err("the first entry continues another".to_owned());
            }
            _ if line.seq == 0 => return Err("no entry has this number".to_owned()),
            last => {
                let next = last.map_or(0, |(seq, _)| seq) + 1;
                let gap = line.seq > next;
                if gap && !partial {
                    return Err(format!("entry {next} is missing before it"));
                }
                self.gaps += u64::from(gap);
            }
        }
        match prove(&line, &previous, &hash)? {
            Proof::Entry { masked } => {
                self.verified += 1;
                self.masked += u64::from(masked);
            }
            Proof::Link => self.links += 1,
            // Older versions wrote before newer ones: what claims otherwise wants to be believed.
            Proof::Nothing if self.verified + self.links > 0 => {
                return Err("it is in an older format than an entry before it, and proves nothing".to_owned());
            }
            Proof::Nothing => self.unproven += 1,
        }
        self.last = Some((line.seq, hash));
        Ok(())
    }
}

/// Verifies an export; unless it is a part of the journal only, no entry may be missing before the last one.
///
/// # Errors
///
/// [`Failure`] naming the first entry that is wrong, or why the file cannot be read.
pub(super) fn verify(lines: impl BufRead, partial: bool) -> Result<Report, Failure> {
    let mut report = Report::default();
    for (text, number) in lines.lines().zip(1_u64..) {
        let text = text.map_err(|error| Failure::new(format!("cannot read the export: {error}")))?;
        report.take(&text, partial).map_err(|what| {
            let seq = serde_json::from_str::<Value>(&text).ok().and_then(|line| line.get("seq").cloned());
            let entry = seq.as_ref().map_or_else(String::new, |seq| format!(", entry {seq}"));
            Failure::new(format!("BROKEN at line {number}{entry}: {what}"))
                .with("intact", false.into())
                .with("line", number.into())
                .with("seq", seq.unwrap_or_default())
        })?;
    }
    Ok(report)
}

fn prove(line: &Line, previous: &Hash, hash: &Hash) -> Result<Proof, String> {
    let Some(realm) = &line.realm else {
        let texts = [&line.at, &line.actor, &line.source, &line.action, &line.request_id, &line.reason];
        let says = texts.into_iter().any(Option::is_some)
            || line.format.is_some()
            || line.outcome.is_some()
            || line.objects.is_some()
            || line.mutations_hash.is_some()
            || line.about.is_some()
            || line.detail.is_some();
        demand(!says, "it has no realm, and says more than hashes")?;
        let Some(content) = &line.content_hash else { return Ok(Proof::Nothing) };
        let content = from_hex(content).ok_or("a hash is not 64 hexadecimal digits")?;
        demand(link(previous, line.seq, &content) == *hash, "its hash is not that of its content")?;
        return Ok(Proof::Link);
    };
    if line.format == Some(1) {
        return Ok(Proof::Nothing);
    }
    demand(line.format == Some(2), "it is in a format that this version does not know")?;
    let of = |field: &Option<String>, name: &str| field.clone().ok_or_else(|| format!("it has no {name}"));
    let mutations_hash = of(&line.mutations_hash, "mutationsHash")?;
    let mutations_hash = from_hex(&mutations_hash).ok_or("a hash is not 64 hexadecimal digits")?;
    let (about_kind, about_key) =
        line.about.as_ref().map_or(("", ""), |about| (about.kind.as_str(), about.key.as_str()));
    let (at, actor, source) = (of(&line.at, "at")?, of(&line.actor, "actor")?, of(&line.source, "source")?);
    let (action, request_id) = (of(&line.action, "action")?, of(&line.request_id, "requestId")?);
    let (reason, outcome) = (of(&line.reason, "reason")?, of(&line.outcome, "outcome")?);
    let entry = HashedEntry {
        realm,
        at: &at,
        actor: &actor,
        source: &source,
        action: &action,
        request_id: &request_id,
        reason: &reason,
        outcome: &outcome,
        about_kind,
        about_key,
        detail: line.detail.as_ref().map_or("", |detail| detail.get()),
        mutations_hash,
    };
    demand(
        link(previous, line.seq, &entry.content()) == *hash,
        "its hash is not that of what it says: it was changed after it was written",
    )?;
    let objects = line.objects.as_deref().ok_or("it has no objects")?;
    let masked = prove_objects(objects, &mutations_hash)?;
    Ok(Proof::Entry { masked })
}

/// Compares the objects with the hash of what was written; tells whether something of them is masked, so that they
/// cannot be compared.
fn prove_objects(objects: &[Object], hash: &Hash) -> Result<bool, String> {
    let mut written = Vec::with_capacity(objects.len());
    let mut masked = false;
    for object in objects {
        let kind = Kind::parse(&object.kind).ok_or_else(|| format!("there is no kind `{}`", object.kind))?;
        demand(object.deleted == object.value.is_none(), "an object is neither there nor deleted")?;
        masked |= object.value.is_some() && is_masked(kind);
        let body = object.value.as_ref().map(|value| value.get().to_owned());
        written.push(RecordedMutation { kind, key: object.key.clone(), body });
    }
    let text = serde_json::to_string(&written).map_err(|error| error.to_string())?;
    demand(masked || hash_text(&text) == *hash, "its objects are not those that were written")?;
    Ok(masked)
}

fn demand(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[cfg(test)]
mod tests;
