//! Bytes with a stamp over all of them: numbers in little-endian order, texts behind their length.

use std::io::{self, Read, Write};

use tollgate_credential::seal::{STAMP_LEN, Stamp};
use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;

use super::RestoreError;

/// Writes, and stamps what it wrote.
pub(super) struct Writer<W> {
    inner: W,
    stamp: Stamp,
    len: u64,
}

/// Reads, and tells at the end whether the stamp fits. Nothing that was read counts before.
pub(super) struct Reader<R> {
    inner: R,
    stamp: Stamp,
    /// Bytes before the stamp.
    left: u64,
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    pub(super) fn new(inner: W, stamp: Stamp) -> Self {
        Self { inner, stamp, len: 0 }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stamp.update(bytes);
        self.len += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    pub(super) fn number(&mut self, number: u64) -> io::Result<()> {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.number(text.len() as u64)?;
        self.bytes(text.as_bytes())
    }

    /// Writes the stamp; returns it with the length of everything, and what was written to.
    pub(super) fn finish(mut self) -> io::Result<([u8; STAMP_LEN], u64, W)> {
        let stamp = self.stamp.finish();
        self.inner.write_all(&stamp)?;
        Ok((stamp, self.len + STAMP_LEN as u64, self.inner))
    }
}

// === impl Reader ===

impl<R: Read> Reader<R> {
    /// Reads so many bytes, of which the last are a stamp.
    pub(super) fn new(inner: R, stamp: Stamp, len: u64) -> Result<Self, RestoreError> {
        let left = len.checked_sub(STAMP_LEN as u64).ok_or(RestoreError::Damaged)?;
        Ok(Self { inner, stamp, left })
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RestoreError> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(RestoreError::Damaged)?;
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => RestoreError::Damaged,
            _ => RestoreError::Read(error),
        })?;
        self.stamp.update(bytes);
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn number(&mut self) -> Result<u64, RestoreError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Result<String, RestoreError> {
        let len = self.number()?;
        if len > self.left {
            // A length that was made up must not take memory.
            return Err(RestoreError::Damaged);
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| RestoreError::Damaged)?];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| RestoreError::Damaged)
    }

    pub(super) fn realm(&mut self) -> Result<RealmName, RestoreError> {
        RealmName::parse(&self.text()?).map_err(|_| RestoreError::Damaged)
    }

    pub(super) fn kind(&mut self) -> Result<Kind, RestoreError> {
        Kind::parse(&self.text()?).ok_or(RestoreError::Damaged)
    }

    /// Reads the stamp, and returns it when it fits and nothing is left before it.
    pub(super) fn finish(mut self) -> Result<[u8; STAMP_LEN], RestoreError> {
        let mut stamp = [0; STAMP_LEN];
        self.inner.read_exact(&mut stamp).map_err(|_| RestoreError::Damaged)?;
        if self.left == 0 && self.stamp.fits(&stamp) { Ok(stamp) } else { Err(RestoreError::Damaged) }
    }
}
