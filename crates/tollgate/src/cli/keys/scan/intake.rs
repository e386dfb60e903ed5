//! Where everything that is read goes through: found, counted, and kept within bounds.

use std::collections::HashSet;
use std::io::{self, Read};

use tollgate_credential::keys::KeyDigest;
use tollgate_credential::leaks::{Leak, Scanner};

use super::findings::{Finding, Findings, MAX_TOLD, Owner, Part, Place};

/// How much is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Scans what it is given.
pub(super) struct Intake {
    findings: Findings,
    allowed: HashSet<KeyDigest>,
    buffer: Box<[u8]>,
}

// === impl Intake ===

impl Intake {
    /// Begins a scan in which some keys are allowed.
    pub(super) fn new(allowed: HashSet<KeyDigest>) -> Self {
        let buffer = vec![0; PIECE_BYTES].into_boxed_slice();
        Self { findings: Findings::default(), allowed, buffer }
    }

    /// Returns what was found.
    pub(super) fn into_findings(self) -> Findings {
        self.findings
    }

    /// Returns what was found so far, to count what was read.
    pub(super) fn findings(&mut self) -> &mut Findings {
        &mut self.findings
    }

    /// Reads to the end, and returns the keys that are not allowed, at most so many as are told one by one.
    ///
    /// # Errors
    ///
    /// When reading fails; with what was found before.
    pub(super) fn content(&mut self, mut reader: impl Read) -> (Vec<(Part, Leak)>, io::Result<()>) {
        let mut scanner = Scanner::new();
        let mut kept = Vec::new();
        let end = loop {
            let read = match reader.read(&mut self.buffer) {
                Ok(0) => break Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(error),
            };
            self.findings.bytes += read as u64;
            let found = scanner.push(self.buffer.get(..read).unwrap_or_default());
            self.keep(found, &mut kept);
        };
        self.keep(scanner.finish(), &mut kept);
        let binary = scanner.is_binary();
        let parts = kept.into_iter().map(|(spot, leak)| (Part::Content { spot, binary }, leak));
        (parts.collect(), end)
    }

    /// Returns the keys in a name that are not allowed.
    pub(super) fn name(&mut self, name: &[u8]) -> Vec<Leak> {
        let mut scanner = Scanner::new();
        let mut kept = Vec::new();
        let found = scanner.push(name);
        self.keep(found, &mut kept);
        self.keep(scanner.finish(), &mut kept);
        kept.into_iter().map(|(_, leak)| leak).collect()
    }

    /// Adds findings.
    pub(super) fn add(&mut self, place: Place, leak: Leak) {
        if self.findings.findings.len() < MAX_TOLD {
            self.findings.findings.push(Finding { leak, place, owner: Owner::NotAsked });
        } else {
            self.findings.untold += 1;
        }
    }

    fn keep<T>(&mut self, found: Vec<(T, Leak)>, kept: &mut Vec<(T, Leak)>) {
        for (spot, leak) in found {
            if self.allowed.contains(&leak.digest) {
                self.findings.allowed += 1;
            } else if kept.len() < MAX_TOLD {
                kept.push((spot, leak));
            } else {
                self.findings.untold += 1;
            }
        }
    }
}
