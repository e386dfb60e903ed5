//! What a scan found, before it is written down in any format.

use tollgate_credential::leaks::{Leak, Spot, redact};

use crate::failure::Exit;
use crate::output::printable;

/// Most things that are told one by one; further ones are counted.
pub(super) const MAX_TOLD: usize = 10_000;

/// What a scan found.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) findings: Vec<Finding>,
    /// Keys that were found beyond those told one by one.
    pub(super) untold: u64,
    /// Keys found that `--allow` names.
    pub(super) allowed: u64,
    /// What could not be read or asked, and why.
    pub(super) failures: Vec<Unread>,
    /// Further things that could not be read.
    pub(super) untold_failures: u64,
    /// What a reader must know to judge the result.
    pub(super) notes: Vec<String>,
    pub(super) files: u64,
    /// Objects of git repositories: contents, messages, lists of names.
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

/// A key, and where it stands.
pub(super) struct Finding {
    pub(super) leak: Leak,
    pub(super) place: Place,
    pub(super) owner: Owner,
}

/// Where a key stands. No name in it holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory of the repository, for what is in a history or staged.
    pub(super) repository: Option<String>,
    /// The commit that brought it, or whose message it is; the object when no commit has it.
    pub(super) commit: Option<String>,
    /// The file; within the repository where there is one. Empty for messages.
    pub(super) path: String,
    pub(super) part: Part,
}

/// Which part of a file or commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// In the content.
    Content {
        /// Where.
        spot: Spot,
        /// Whether it is no text, so that lines say little.
        binary: bool,
    },
    /// In the name of the file.
    Name,
    /// In the message of a commit or tag.
    Message,
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody was asked.
    NotAsked,
    /// The server has no such key in this realm.
    Unknown,
    /// The server knows it.
    Known(KnownKey),
}

/// What the server says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownKey {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) consumer: String,
    /// `active`, `expired` or `revoked`.
    pub(super) state: String,
    pub(super) last_used_at: Option<String>,
}

/// Something that could not be read or asked.
pub(super) struct Unread {
    pub(super) what: String,
    pub(super) why: String,
}

/// Returns a name as it may be shown: no key in it, and nothing that a terminal obeys.
pub(super) fn shown(name: &str) -> String {
    printable(&redact(name))
}

// === impl Findings ===

impl Findings {
    /// Notes that something could not be read or asked.
    pub(super) fn failed(&mut self, what: &str, why: &str) {
        if self.failures.len() < MAX_TOLD {
            self.failures.push(Unread { what: shown(what), why: shown(why) });
        } else {
            self.untold_failures += 1;
        }
    }

    /// Returns how many keys were found that may work.
    pub(super) fn counting(&self) -> u64 {
        self.findings.iter().filter(|finding| finding.counts()).count() as u64 + self.untold
    }

    /// Returns what is wrong, most serious first, as `tollgate check` does; `None` when nothing is.
    pub(super) fn exit(&self) -> Option<Exit> {
        if self.failures.is_empty() {
            (self.counting() > 0).then_some(Exit::Refused)
        } else {
            Some(Exit::Failed)
        }
    }
}

// === impl Finding ===

impl Finding {
    /// Tells whether the key may work: what nobody said is dead counts.
    pub(super) fn counts(&self) -> bool {
        !matches!(&self.owner, Owner::Known(key) if key.state != "active")
    }
}
